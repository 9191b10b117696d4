// SPDX-License-Identifier: GPL-2.0
//! What the host does for a guest that asks for it, at the port `accel.host`: to remember
//! something while the guest restarts, and to press its power button while it sleeps.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// The port's name, which its sockets have too: the guest's, and that of QEMU's monitor.
pub const PORT: &str = "host";
pub const MONITOR: &str = "host-monitor";

/// Lets the machine know that its power button was pressed.
const PRESS: &[u8] = b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"system_powerdown\"}\n";

/// What a guest may say.
#[derive(Debug, PartialEq, Eq)]
enum Request<'a> {
    /// `keep TEXT`: to be told again when asked. No answer.
    Keep(&'a str),
    /// `kept`: answered with the text, or an empty line.
    Kept,
    /// `press MS`: the power button is pressed each so many milliseconds, until the next request. No
    /// answer.
    Press(Duration),
}

impl<'a> Request<'a> {
    fn of(line: &'a str) -> Option<Self> {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("keep", text) => Some(Self::Keep(text)),
            ("kept", "") => Some(Self::Kept),
            ("press", ms) => Some(Self::Press(Duration::from_millis(ms.parse().ok()?))),
            _ => None,
        }
    }
}

/// Serves the guest whose sockets are in `folder`, until its QEMU ends.
pub fn serve(folder: &Path) -> Result<()> {
    let path = folder.join(PORT);
    let listener =
        UnixListener::bind(&path).with_context(|| format!("listening at {}", path.display()))?;
    let monitor = folder.join(MONITOR);
    thread::spawn(move || {
        if let Ok((stream, _)) = listener.accept() {
            // The guest sees that there is no answer, and its test fails.
            let _ = talk(&stream, &monitor);
        }
    });
    Ok(())
}

fn talk(mut stream: &UnixStream, monitor: &Path) -> Result<()> {
    let mut kept = String::new();
    let mut pressing = Arc::new(AtomicBool::new(false));
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        pressing.store(false, Ordering::Relaxed);
        match Request::of(&line) {
            Some(Request::Keep(text)) => kept = text.to_owned(),
            Some(Request::Kept) => writeln!(stream, "{kept}")?,
            Some(Request::Press(after)) => {
                pressing = Arc::new(AtomicBool::new(true));
                press(monitor.to_owned(), after, pressing.clone());
            }
            None => {}
        }
    }
    Ok(())
}

/// Presses the button again and again: a guest that is only about to sleep does not notice.
fn press(monitor: PathBuf, after: Duration, pressing: Arc<AtomicBool>) {
    thread::spawn(move || {
        loop {
            thread::sleep(after);
            if !pressing.load(Ordering::Relaxed) {
                return;
            }
            let Ok(mut stream) = UnixStream::connect(&monitor) else {
                return;
            };
            if stream.write_all(PRESS).is_ok() {
                // The monitor takes one client at a time, and reads what it says only while we are
                // there: three lines are the greeting and two answers.
                for _ in BufReader::new(stream).lines().take(3) {}
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        assert_eq!(Request::of("keep a 1"), Some(Request::Keep("a 1")));
        assert_eq!(Request::of("keep"), Some(Request::Keep("")));
        assert_eq!(Request::of("kept"), Some(Request::Kept));
        let press = Some(Request::Press(Duration::from_millis(1500)));
        assert_eq!(Request::of("press 1500"), press);
        assert_eq!(Request::of("press soon"), None);
        assert_eq!(Request::of("shout"), None);
    }

    #[test]
    fn what_is_kept_is_told() -> Result<()> {
        let (guest, host) = UnixStream::pair()?;
        let serving = thread::spawn(move || talk(&host, Path::new("nowhere")));
        let mut answers = BufReader::new(guest.try_clone()?).lines();
        (&guest).write_all(b"kept\nkeep 7 reboot\nnonsense\nkept\n")?;
        assert_eq!(answers.next().transpose()?.as_deref(), Some(""));
        assert_eq!(answers.next().transpose()?.as_deref(), Some("7 reboot"));
        guest.shutdown(std::net::Shutdown::Both)?;
        assert!(serving.join().is_ok_and(|ended| ended.is_ok()));
        Ok(())
    }
}
