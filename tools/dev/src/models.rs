// SPDX-License-Identifier: GPL-2.0
//! Device models: processes beside QEMU that speak vfio-user to it. They live as long as their
//! guest, and their logs are kept beside the guest's.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::command::{tail, tied};
use crate::report::seconds;

/// The program of the workspace that has the models.
pub const PROGRAM: &str = "accel-emu";

/// The ends of the names of a model's sockets: where QEMU connects to the device, and where
/// whoever injects faults does.
pub const SOCKET: &str = "socket";
pub const CONTROL: &str = "control";

/// What a model says when QEMU can connect.
const READY: &str = "ready";

/// How long a model may take to say it, and to end when it is told to.
const PATIENCE: Duration = Duration::from_secs(10);

/// A model that was told to die suddenly, by a test through its control socket, exits with this.
const DIED_AS_TOLD: i32 = 42;

/// What Rust's standard library says of a panic on stderr.
const PANIC: &str = " panicked at ";

/// How the NPU interrupts. QEMU cannot unplug a model that has MSI-X.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interrupts {
    #[default]
    Msix,
    Msi,
}

impl fmt::Display for Interrupts {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Interrupts::Msix => "msix",
            Interrupts::Msi => "msi",
        })
    }
}

/// A model that runs; killed when this goes.
pub struct Model {
    name: String,
    program: PathBuf,
    interrupts: Interrupts,
    child: Child,
    /// The folder of the run, with the model's sockets, its log and its stderr.
    folder: PathBuf,
}

impl Model {
    /// Starts the NPU of this number and waits until QEMU can connect to it.
    pub fn npu(
        program: &Path,
        number: usize,
        interrupts: Interrupts,
        folder: &Path,
    ) -> Result<Self> {
        Self::start(
            program,
            format!("npu{number}"),
            interrupts,
            folder,
            PATIENCE,
        )
    }

    fn start(
        program: &Path,
        name: String,
        interrupts: Interrupts,
        folder: &Path,
        patience: Duration,
    ) -> Result<Self> {
        fs::write(folder.join(format!("{name}.stderr")), "")
            .with_context(|| format!("writing in {}", folder.display()))?;
        let mut model = Self {
            child: spawn(program, &name, interrupts, folder)?,
            name,
            program: program.to_owned(),
            interrupts,
            folder: folder.to_owned(),
        };
        model.wait_until_ready(patience)?;
        Ok(model)
    }

    /// Starts the model again if a test has told it to die: who plugs it again finds it whole.
    pub fn revive(&mut self) -> Result<()> {
        match self.child.try_wait().context("waiting for a model")? {
            Some(status) if status.code() == Some(DIED_AS_TOLD) => {}
            _ => return Ok(()),
        }
        self.child = spawn(&self.program, &self.name, self.interrupts, &self.folder)?;
        self.wait_until_ready(PATIENCE)
    }

    fn wait_until_ready(&mut self, patience: Duration) -> Result<()> {
        let stdout = self.child.stdout.take().context("a model has no stdout")?;
        let what = match heard(BufReader::new(stdout)).recv_timeout(patience) {
            Ok(()) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                format!("was not ready within {}", seconds(patience))
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().context("waiting for a model")?;
                format!("ended before it was ready ({status})")
            }
        };
        bail!("{}", self.complaint(&what, None));
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends the model and keeps what it has written in `log`; says what was wrong with its life.
    pub fn end(mut self, log: &Path) -> Result<Option<String>> {
        let early = self.child.try_wait().context("waiting for a model")?;
        let status = match early {
            Some(_) => early,
            None => {
                drop(self.child.stdin.take());
                self.wait()?
            }
        };
        let words = text(&self.file("stderr"));
        fs::write(log, text(&self.file("log")) + &words)
            .with_context(|| format!("writing {}", log.display()))?;
        Ok(fault(early.is_some(), status, &words).map(|what| self.complaint(&what, Some(log))))
    }

    /// How it ended; none if it did not in time.
    fn wait(&mut self) -> Result<Option<ExitStatus>> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().context("waiting for a model")? {
                return Ok(Some(status));
            }
            if began.elapsed() > PATIENCE {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn complaint(&self, what: &str, kept: Option<&Path>) -> String {
        let mut complaint = format!("the device model {} {what}", self.name);
        let log = text(&self.file("log"));
        if !log.is_empty() {
            complaint.push_str(&format!("\nThe end of its log:\n{}", tail(&log, 8)));
        }
        let words = last_words(&text(&self.file("stderr")));
        if !words.is_empty() {
            complaint.push_str(&format!("\nIts last words:\n{words}"));
        }
        if let Some(log) = kept {
            complaint.push_str(&format!("\nThe whole log: {}", log.display()));
        }
        complaint
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("{}.{kind}", self.name))
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn spawn(program: &Path, name: &str, interrupts: Interrupts, folder: &Path) -> Result<Child> {
    let words = folder.join(format!("{name}.stderr"));
    let stderr = OpenOptions::new()
        .append(true)
        .open(&words)
        .with_context(|| format!("writing {}", words.display()))?;
    let mut command = tied(program);
    command
        .args(["npu", "--interrupts", &interrupts.to_string()])
        .arg("--socket")
        .arg(folder.join(format!("{name}.{SOCKET}")))
        .arg("--control")
        .arg(folder.join(format!("{name}.{CONTROL}")))
        .arg("--log")
        .arg(folder.join(format!("{name}.log")))
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr);
    command
        .spawn()
        .with_context(|| format!("starting {}", program.display()))
}

/// What is wrong with a model that ended so, perhaps `early`, having said `words` on stderr.
fn fault(early: bool, status: Option<ExitStatus>, words: &str) -> Option<String> {
    let Some(status) = status else {
        return Some(format!(
            "did not end within {} s of being told to",
            PATIENCE.as_secs()
        ));
    };
    if (early || !status.success()) && status.code() != Some(DIED_AS_TOLD) {
        return Some(format!("died ({status})"));
    }
    // One of its threads may have, and the process lived on.
    words.contains(PANIC).then(|| "panicked".to_owned())
}

/// The first panic in what was said on stderr, without most of its backtrace; else the end.
fn last_words(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    match lines.iter().position(|line| line.contains(PANIC)) {
        Some(first) => {
            let end = (first + 12).min(lines.len());
            tail(&lines[first..end].join("\n"), 12)
        }
        None => tail(said, 12),
    }
}

/// Sends once when `READY` comes; hangs up when the model does. Whatever else comes is read too,
/// so that nobody waits for us.
fn heard(stdout: impl BufRead + Send + 'static) -> Receiver<()> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for line in stdout.lines() {
            match line {
                Ok(line) if line == READY => {
                    // Nobody listens any more after the first time, or after a time-out.
                    let _ = send.send(());
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    });
    receive
}

fn text(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn exit(code: i32) -> Option<ExitStatus> {
        Some(ExitStatus::from_raw(code << 8))
    }

    #[test]
    fn deaths_that_are_faults() {
        assert_eq!(fault(false, exit(0), ""), None);
        assert_eq!(fault(true, exit(DIED_AS_TOLD), "told to die"), None);
        assert!(fault(true, exit(0), "").is_some());
        assert!(fault(false, exit(101), "").is_some_and(|what| what.contains("101")));
        assert!(fault(false, Some(ExitStatus::from_raw(9)), "").is_some());
        assert!(fault(false, None, "").is_some_and(|what| what.contains("did not end")));
        let panic = "thread 'engine' panicked at src/x.rs:1:1:\nboom\n";
        assert_eq!(fault(false, exit(0), panic).as_deref(), Some("panicked"));
    }

    #[test]
    fn a_panic_is_shown_from_its_beginning() {
        let said = format!(
            "x\nthread 'a' panicked at b.rs:1:1:\nboom\n{}",
            "at\n".repeat(50)
        );
        let words = last_words(&said);
        assert!(words.starts_with("  | thread 'a' panicked"), "{words}");
        assert_eq!(words.lines().count(), 12);
        assert_eq!(last_words("only this\n"), "  | only this");
    }

    #[test]
    fn ready_is_a_line_of_its_own() {
        assert_eq!(heard(&b"hello\nready\nmore\n"[..]).recv(), Ok(()));
        assert!(heard(&b"not ready\nready?\n"[..]).recv().is_err());
    }

    /// What is said of a program that stands for a model, and is never ready.
    fn refusal(name: &str, script: &str) -> String {
        let folder =
            std::env::temp_dir().join(format!("accel-model-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder can be made");
        let program = folder.join("model");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("a program can be written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&program, mode).expect("a program can be made executable");
        let patience = Duration::from_millis(300);
        let result = Model::start(
            &program,
            "npu3".to_owned(),
            Interrupts::Msi,
            &folder,
            patience,
        );
        let _ = fs::remove_dir_all(&folder);
        match result {
            Ok(_) => panic!("it was taken for ready"),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn a_model_that_is_late_is_not_waited_for() {
        let said = refusal("late", "echo starting >&2; exec sleep 60");
        assert!(said.contains("npu3 was not ready within 0.3 s"), "{said}");
        assert!(said.contains("starting"), "{said}");
    }

    #[test]
    fn a_model_that_ends_early_is_quoted() {
        let said = refusal("early", "echo no room >&2; exit 7");
        assert!(said.contains("npu3 ended before it was ready"), "{said}");
        assert!(
            said.contains("exit status: 7") && said.contains("no room"),
            "{said}"
        );
    }
}
