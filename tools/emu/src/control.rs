// SPDX-License-Identifier: GPL-2.0
//! The control socket of a model: a line in, a line out, for any number of clients.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};

use crate::vfio::remove_stale;

/// The longest line that is read.
const LINE_MAX: u64 = 4096;

/// What a console answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// This, without a newline.
    Line(String),
    /// The device is gone at once, and nobody is told.
    Die,
}

/// A device that takes commands.
pub trait Console: Send + Sync {
    fn say(&self, line: &str) -> Reply;
}

/// Listens at `socket`, what a former model left there is removed, and serves it in the background.
/// `die` is called when the device is to be gone.
pub fn listen(
    socket: &Path,
    console: Arc<dyn Console>,
    die: impl Fn() + Clone + Send + 'static,
) -> Result<()> {
    remove_stale(socket)?;
    let listener =
        UnixListener::bind(socket).with_context(|| format!("listening at {}", socket.display()))?;
    thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || {
            for client in listener.incoming() {
                let (console, die) = (console.clone(), die.clone());
                let serving = client.and_then(|client| {
                    thread::Builder::new()
                        .name("control-client".to_owned())
                        .spawn(move || serve(client, &*console, &die))
                });
                if let Err(error) = serving {
                    log::warn!("a client of the control socket: {error}");
                }
            }
        })
        .context("starting the control socket's thread")?;
    Ok(())
}

fn serve(client: UnixStream, console: &dyn Console, die: &dyn Fn()) {
    if let Err(error) = answer(client, console, die) {
        log::info!("a client of the control socket: {error}");
    }
}

/// Answers until the client has gone.
fn answer(client: UnixStream, console: &dyn Console, die: &dyn Fn()) -> io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?);
    let mut client = client;
    let mut line = Vec::new();
    loop {
        line.clear();
        let size = lines.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)?;
        if size == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && size as u64 == LINE_MAX {
            client.write_all(b"error the line is too long\n")?;
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        log::info!("told: {text}");
        match console.say(text) {
            Reply::Line(mut reply) => {
                reply.push('\n');
                client.write_all(reply.as_bytes())?;
            }
            Reply::Die => die(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Console for Echo {
        fn say(&self, line: &str) -> Reply {
            Reply::Line(format!("ok {line}"))
        }
    }

    fn ask(client: &mut BufReader<UnixStream>, what: &[u8]) -> String {
        client
            .get_mut()
            .write_all(what)
            .expect("it can be written to");
        let mut line = String::new();
        client.read_line(&mut line).expect("it answers");
        line
    }

    #[test]
    fn several_clients_are_answered() {
        let folder = std::env::temp_dir().join(format!("accel-emu-control-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let socket = folder.join("socket");
        drop(UnixListener::bind(&socket));
        listen(&socket, Arc::new(Echo), || {}).expect("it can listen");
        let connect =
            || BufReader::new(UnixStream::connect(&socket).expect("it can be connected to"));
        let (mut a, mut b) = (connect(), connect());
        assert_eq!(ask(&mut a, b"one\n"), "ok one\n");
        assert_eq!(ask(&mut b, b"\r\n\n two \r\n"), "ok two\n");
        assert_eq!(ask(&mut a, b"\xff\n"), "ok \u{fffd}\n");
        let long = vec![b'x'; LINE_MAX as usize];
        assert_eq!(ask(&mut a, &long), "error the line is too long\n");
        let mut line = String::new();
        assert_eq!(a.read_line(&mut line).expect("it was closed"), 0);
        assert_eq!(ask(&mut b, b"three\n"), "ok three\n");
        let _ = std::fs::remove_dir_all(folder);
    }
}
