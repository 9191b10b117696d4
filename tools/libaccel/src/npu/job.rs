// SPDX-License-Identifier: MIT OR Apache-2.0
//! Jobs, and programs: lists of commands in memory that the device reads.

use std::collections::VecDeque;
use std::time::Duration;

use super::command::{self, Command};
use super::context::{Context, Submit};
use super::memory::{Access, Shared};
use crate::uapi::*;
use crate::{Deadline, Errno, Error, Result, Timeline};

/// A list of commands at a device address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    address: u64,
    count: u32,
}

impl Job {
    /// `count` commands at `address`, a multiple of 64.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for another address, no commands, or more than
    /// [`ACCEL_NPU_COMMANDS_MAX`].
    pub fn new(address: u64, count: u32) -> Result<Self> {
        let refused = |why| Error::Refused { what: "job", why };
        if address % 64 != 0 {
            return Err(refused(format!("{address:#x} is no multiple of 64")));
        }
        if !(1..=ACCEL_NPU_COMMANDS_MAX).contains(&count) {
            return Err(refused(format!(
                "it has {count} commands: 1 to {ACCEL_NPU_COMMANDS_MAX} are possible"
            )));
        }
        Ok(Self { address, count })
    }

    /// Device address of its commands.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// How many commands.
    pub fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn raw(self) -> accel_npu_job {
        accel_npu_job {
            address: self.address,
            count: self.count,
            reserved: 0,
        }
    }
}

/// How a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Jobs that are submitted at a time, 1 to [`ACCEL_NPU_BATCH_MAX`].
    pub batch: usize,
    /// Time that a batch has to end in, with the one before it; at most 10 minutes.
    pub limit: Duration,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            batch: 32,
            limit: Duration::from_secs(10),
        }
    }
}

/// Batches that are under way at once: one runs, one waits.
const AHEAD: usize = 2;

/// What is added to the kernel's limit of a batch when we wait for it.
const MARGIN: Duration = Duration::from_secs(10);

/// Lists of commands in a buffer that the device reads.
///
/// # Examples
///
/// ```no_run
/// use libaccel::npu::{self, Access, Command, Context, Matmul, Program, Type};
///
/// fn main() -> libaccel::Result<()> {
///     let context = Context::new(libaccel::find(npu::NAME)?.open()?);
///     let mut memory = context.shared(4096, Access::ReadWrite)?;
///     let mut arena = memory.mapped().arena();
///     let a = arena.tensor(Type::I8, &[2, 3])?;
///     let b = arena.tensor(Type::I8, &[3, 2])?;
///     let d = arena.tensor(Type::I32, &[2, 2])?;
///     memory.store(&a, &[1_i8, 2, 3, 4, 5, 6])?;
///     memory.store(&b, &[1_i8, 0, 0, 1, 1, 1])?;
///     let list = vec![Command::matmul(d, a, b, Matmul::default())?];
///     Program::new(&context, &[list])?.run()?;
///     assert_eq!(memory.load::<i32>(&d)?, [4, 5, 10, 11]);
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Program {
    context: Context,
    memory: Shared,
    jobs: Vec<Job>,
}

impl Program {
    /// Places lists, one for each job, which run in this order. A list of more than
    /// [`ACCEL_NPU_COMMANDS_MAX`] commands becomes several jobs.
    ///
    /// # Errors
    ///
    /// Those of [`Context::shared`]; [`Error::Refused`] when there is no command.
    pub fn new(context: &Context, lists: &[Vec<Command>]) -> Result<Self> {
        let parts = || {
            lists
                .iter()
                .flat_map(|list| list.chunks(ACCEL_NPU_COMMANDS_MAX as usize))
        };
        let count: usize = parts().map(<[_]>::len).sum();
        if count == 0 {
            return Err(Error::Refused {
                what: "program",
                why: "it has no commands".into(),
            });
        }
        let size = (count as u64).saturating_mul(command::SIZE as u64);
        let mut memory = context.shared(size, Access::Read)?;
        let mut jobs = Vec::new();
        let mut offset = 0;
        for part in parts() {
            let address = memory.mapped().address() + offset as u64;
            // At most ACCEL_NPU_COMMANDS_MAX.
            jobs.push(Job::new(address, part.len() as u32)?);
            for command in part {
                memory.bytes_mut().write_at(offset, &command.encode())?;
                offset += command::SIZE;
            }
        }
        Ok(Self {
            context: context.clone(),
            memory,
            jobs,
        })
    }

    /// Its jobs, for programs that submit them themselves.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// Runs all jobs and waits until they have ended.
    ///
    /// # Errors
    ///
    /// As [`run_with`](Self::run_with).
    pub fn run(&self) -> Result<()> {
        self.run_with(Run::default(), |_| {})
    }

    /// Runs all jobs in batches and waits until they have ended; `progress` is told how
    /// many have, after each batch.
    ///
    /// # Errors
    ///
    /// [`Error::Npu`] when a job failed: all that were submitted have ended then.
    /// Otherwise as [`Context::submit`] and [`Timeline::wait`].
    pub fn run_with(&self, how: Run, mut progress: impl FnMut(usize)) -> Result<()> {
        // A timeline keeps its first failure, so each run has one of its own.
        let timeline = self.context.compute().timeline()?;
        let mut points = VecDeque::new();
        let result = self.batches(&timeline, how, &mut points, &mut progress);
        let Err(error) = result else {
            return Ok(());
        };
        // Memory that jobs use is the caller's again when this returns.
        if let Some(last) = points.back() {
            let _ = timeline.wait(*last, Deadline::after(how.limit + MARGIN));
        }
        Err(self.named(self.context.explain(error)))
    }

    fn batches(
        &self,
        timeline: &Timeline,
        how: Run,
        points: &mut VecDeque<u64>,
        progress: &mut impl FnMut(usize),
    ) -> Result<()> {
        let submit = Submit {
            limit: Some(how.limit),
            ..Submit::default()
        };
        for batch in self.jobs.chunks(how.batch.max(1)) {
            if points.len() >= AHEAD {
                oldest(timeline, how, points, progress)?;
            }
            loop {
                match self.context.submit(batch, timeline, submit) {
                    Ok(point) => break points.push_back(point),
                    // Others of this context have jobs too; ours make room when they end.
                    Err(error) if error.errno() == Some(Errno::AGAIN) && !points.is_empty() => {
                        oldest(timeline, how, points, progress)?;
                    }
                    // Stopped by a job of ours: the timeline knows which.
                    Err(error) if error.errno() == Some(Errno::IO) => {
                        while !points.is_empty() {
                            oldest(timeline, how, points, progress)?;
                        }
                        return Err(error);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        while !points.is_empty() {
            oldest(timeline, how, points, progress)?;
        }
        Ok(())
    }

    /// The error with the name of the command, which its list has.
    fn named(&self, mut error: Error) -> Error {
        if let Error::Npu { failure, .. } = &mut error {
            // The first job has point 1: the timeline was new.
            let index = usize::try_from(failure.point).unwrap_or(0).checked_sub(1);
            let job = index.and_then(|index| self.jobs.get(index));
            failure.name = job.and_then(|job| self.name(*job, failure.command));
        }
        error
    }

    fn name(&self, job: Job, index: u32) -> Option<&'static str> {
        if index >= job.count {
            return None;
        }
        let start = usize::try_from(job.address - self.memory.mapped().address()).ok()?;
        let mut opcode = [0; 2];
        self.memory
            .bytes()
            .read_at(start + index as usize * command::SIZE, &mut opcode)
            .ok()?;
        command::name(u32::from(u16::from_le_bytes(opcode)))
    }
}

/// Waits for the oldest batch. It stays in `points` when it failed, so that the
/// last that was submitted can be waited for.
fn oldest(
    timeline: &Timeline,
    how: Run,
    points: &mut VecDeque<u64>,
    progress: &mut impl FnMut(usize),
) -> Result<()> {
    let Some(point) = points.front() else {
        return Ok(());
    };
    timeline.wait(*point, Deadline::after(how.limit + MARGIN))?;
    // Points count the jobs of the run.
    progress(usize::try_from(*point).unwrap_or(usize::MAX));
    points.pop_front();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_checked() {
        assert!(Job::new(0x20_0040, 1).is_ok());
        assert!(Job::new(0x20_0040, 4096).is_ok());
        let error = |address, count| Job::new(address, count).unwrap_err().to_string();
        assert!(error(0x20_0020, 1).contains("no multiple of 64"));
        assert!(error(0, 0).contains("0 commands"));
        assert!(error(0, 4097).contains("1 to 4096"));
    }
}
