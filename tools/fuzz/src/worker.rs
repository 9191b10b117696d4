// SPDX-License-Identifier: GPL-2.0
//! A process that runs programs. Making one costs more than most programs do, so it runs many; it
//! is killed when one does not end.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::program::Program;
use crate::sys::{self, Child, Exit};

/// Programs that one process runs. It dies with everything that the last one has open.
const PROGRAMS: usize = 64;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Done,
    /// The process was killed.
    Killed,
}

pub struct Worker {
    child: Child,
    to: File,
    from: File,
    left: usize,
}

/// What the process does: programs come as lines' lengths and JSON, a byte goes back for each.
fn serve(
    mut from: File,
    mut to: File,
    mut run: impl FnMut(&Program, bool) -> bool,
) -> std::io::Result<()> {
    for number in 1..=PROGRAMS {
        let mut size = [0; 4];
        from.read_exact(&mut size)?;
        let mut text = vec![0; u32::from_le_bytes(size) as usize];
        from.read_exact(&mut text)?;
        let program = Program::from_json(&String::from_utf8_lossy(&text));
        let program = program.map_err(std::io::Error::other)?;
        let is_last = number == PROGRAMS;
        if !run(&program, is_last) {
            return Err(std::io::Error::other("a thread failed"));
        }
        to.write_all(&[0])?;
    }
    Ok(())
}

impl Worker {
    /// Makes a process that calls `run` with each program, and whether it is its last, which says
    /// whether all went well.
    pub fn new(run: impl FnMut(&Program, bool) -> bool) -> Result<Self> {
        let (their_from, to) = sys::blocking_pipe().context("making a pipe")?;
        let (from, their_to) = sys::blocking_pipe().context("making a pipe")?;
        let ours = [to.as_raw_fd(), from.as_raw_fd()];
        let child = sys::fork(|| {
            // It must see the end of the pipe when we are gone.
            for fd in ours {
                let _ = sys::close(fd);
            }
            i32::from(serve(their_from, their_to, run).is_err())
        });
        let child = child
            .map_err(std::io::Error::from_raw_os_error)
            .context("making a process")?;
        Ok(Self {
            child,
            to,
            from,
            left: PROGRAMS,
        })
    }

    /// Runs a program, for at most `time`, and gives the worker back if it can be used again. A
    /// process that was killed may take `death` to die.
    ///
    /// # Errors
    ///
    /// The process does not die, or it ended for a reason of its own.
    pub fn run(
        mut self,
        program: &Program,
        time: Duration,
        death: Duration,
    ) -> Result<(End, Option<Self>)> {
        let text = program.to_json();
        let size = u32::try_from(text.len()).context("a program is too long")?;
        // If this fails it has died, which is seen below.
        let _ = self.to.write_all(&size.to_le_bytes());
        let _ = self.to.write_all(text.as_bytes());
        let answer = sys::poll(self.from.as_raw_fd(), time);
        let is_late = answer.is_ok_and(|events| events == 0);
        if is_late {
            self.child.kill();
        } else if matches!(self.from.read(&mut [0]), Ok(1)) {
            self.left -= 1;
            if self.left > 0 {
                return Ok((End::Done, Some(self)));
            }
        }
        match self.child.wait(death) {
            Some(Exit::Status(0)) => Ok((End::Done, None)),
            // Perhaps for want of memory.
            Some(Exit::Signal(libc::SIGKILL)) => Ok((End::Killed, None)),
            Some(other) => bail!("the fuzzer's own process ended with {other:?}"),
            None => bail!("a process does not die within {} s", death.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Step;
    use std::thread::sleep;

    const SECOND: Duration = Duration::from_secs(10);

    fn program(milliseconds: u8) -> Program {
        Program {
            about: String::new(),
            threads: vec![vec![Step::Sleep { milliseconds }]],
        }
    }

    /// Does what the first step says: 1 is fine, 2 is an error, anything else takes for ever.
    fn act(program: &Program, _: bool) -> bool {
        match program.threads[0][0] {
            Step::Sleep { milliseconds: 1 } => true,
            Step::Sleep { milliseconds: 2 } => false,
            _ => loop {
                sleep(SECOND);
            },
        }
    }

    #[test]
    fn one_runs_many_and_then_ends() {
        let mut worker = Some(Worker::new(act).unwrap());
        for number in 1..=PROGRAMS {
            let (end, left) = worker.unwrap().run(&program(1), SECOND, SECOND).unwrap();
            assert_eq!(end, End::Done);
            assert_eq!(left.is_some(), number < PROGRAMS);
            worker = left;
        }
    }

    #[test]
    fn one_that_is_late_is_killed() {
        let worker = Worker::new(act).unwrap();
        let time = Duration::from_millis(50);
        let (end, left) = worker.run(&program(3), time, SECOND).unwrap();
        assert_eq!(end, End::Killed);
        assert!(left.is_none());
    }

    #[test]
    fn one_that_fails_says_so() {
        let worker = Worker::new(act).unwrap();
        let failed = worker.run(&program(2), SECOND, SECOND);
        let why = failed.map(|(end, _)| end).unwrap_err().to_string();
        assert!(why.contains("Status(1)"), "{why}");
    }
}
