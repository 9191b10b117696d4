// SPDX-License-Identifier: GPL-2.0
//! Running other programs: their output goes to a log that is shown when they fail.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A command that dies with this process, whatever kills it.
pub fn tied<S: AsRef<OsStr>>(program: S) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Runs `command` with its output in the file `log`.
///
/// # Errors
///
/// If it cannot be started or fails; the error has the end of the log and, where it is known,
/// the cause in words.
pub fn logged(command: &mut Command, log: &Path, what: &str) -> Result<()> {
    watched(command, log, what, Duration::MAX, || ())
}

/// The same, and calls `meanwhile` whenever `every` has passed.
pub fn watched(
    command: &mut Command,
    log: &Path,
    what: &str,
    every: Duration,
    mut meanwhile: impl FnMut() + Send,
) -> Result<()> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let file = File::create(log).with_context(|| format!("writing {}", log.display()))?;
    let both = file
        .try_clone()
        .with_context(|| format!("writing {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(both)
        .spawn()
        .with_context(|| format!("{what}: starting {command:?}"))?;
    let (done, ends) = mpsc::channel::<()>();
    let status = thread::scope(|scope| {
        scope.spawn(move || {
            while ends.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                meanwhile();
            }
        });
        let status = child.wait();
        drop(done);
        status
    })
    .with_context(|| format!("{what}: waiting for {command:?}"))?;
    if status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let cause = cause(&text).map_or(String::new(), |cause| format!("\n{cause}"));
    bail!(
        "{what}: failed\n{}\nThe whole log: {}{cause}",
        tail(&text, 25),
        log.display()
    );
}

/// What `command` prints, without the last newline.
pub fn output(command: &mut Command) -> Result<String> {
    let done = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    if !done.status.success() {
        bail!(
            "{command:?} failed: {}",
            String::from_utf8_lossy(&done.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned())
}

/// The last `count` lines, marked as somebody else's words.
pub fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(count);
    lines[first..]
        .iter()
        .map(|line| format!("  | {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn cause(log: &str) -> Option<&'static str> {
    let log = log.to_lowercase();
    if log.contains("no space left") {
        return Some(
            "The disk is full. Set ACCEL_CACHE to a folder on a larger disk, or make room.",
        );
    }
    let network = [
        "could not resolve",
        "temporary failure resolving",
        "failure in name resolution",
        "could not connect",
        "unable to connect",
        "connection timed out",
        "network is unreachable",
        "couldn't resolve host",
        "spurious network error",
    ];
    if network.iter().any(|sign| log.contains(sign)) {
        return Some(
            "There seems to be no network. Check it and the proxy settings, then try again; \
             what is done already is kept.",
        );
    }
    None
}
