// SPDX-License-Identifier: GPL-2.0
//! Runs one program after the other, and looks what became of it.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use libaccel::uapi::ACCEL_MOCK_RESET_FAIL;

use crate::coverage::Coverage;
use crate::devices::Devices;
use crate::engine::Subject;
use crate::program::{Device, Program, Step, Value};
use crate::record::Record;
use crate::run::{self, Machine};
use crate::splat::{Log, Signs};
use crate::sys::Shared;
use crate::worker::{End, Worker};

/// How long a program may take before it is killed, on a kernel that is not slow.
const PROGRAM: Duration = Duration::from_secs(10);

/// How long a process that was killed may take to die: all that the kernel waits for is shorter.
const DEATH: Duration = Duration::from_secs(60);

/// The guest, as programs find it.
pub struct Target {
    devices: Devices,
    coverage: Option<Coverage>,
    outcomes: Shared,
    /// The process that programs run in, if there is one.
    worker: Option<Worker>,
    record: Record,
    log: Log,
    /// By how much everything may take longer.
    patience: u32,
    /// Programs that did not end by themselves.
    pub killed: usize,
    /// What programs took.
    pub running: Duration,
    /// What it took to have all devices back.
    pub restoring: Duration,
    /// When all began, and what of the time since then went to steps that take long.
    began: Instant,
    costly: Duration,
    /// Whether programs run as they are, whatever that takes.
    exact: bool,
}

/// Of the time that passes, one in so many parts may be for steps that take long: a kernel that
/// looks for errors takes seconds to unload a module.
const COSTLY: u32 = 8;

/// What steps may have done to devices that outlives their program.
#[derive(Debug, Default, PartialEq, Eq)]
struct Upheaval {
    /// Devices may be gone.
    any: bool,
    /// These were told something that lasts.
    told: Vec<Device>,
}

const MOCK_RESET: &str = "ACCEL_MOCK_IOCTL_RESET";
const MOCK_SLEEP: &str = "ACCEL_MOCK_IOCTL_SLEEP";

/// The program without what takes long; none if it has nothing of that. Modules are not unloaded,
/// the system does not sleep, and the mock's resets do not fail: only unloading its module would help it.
fn cheap(program: &Program, is_of_module: impl Fn(Device) -> bool) -> Option<Program> {
    let mut cheap = program.clone();
    for steps in &mut cheap.threads {
        steps.retain(|step| match step {
            Step::Unbind { device } => !is_of_module(*device),
            Step::Suspend {} => false,
            _ => true,
        });
        for step in steps {
            let Step::Ioctl { call, fields, .. } = step else {
                continue;
            };
            if let (MOCK_RESET, Some(Value::Number(flags))) =
                (call.table().name, fields.get_mut("flags"))
            {
                *flags &= !u64::from(ACCEL_MOCK_RESET_FAIL);
            }
        }
    }
    (cheap != *program).then_some(cheap)
}

impl Upheaval {
    fn of(program: &Program) -> Self {
        let mut found = Self::default();
        for step in program.threads.iter().flatten() {
            match step {
                Step::Unbind { .. } | Step::Bind { .. } | Step::Reset { .. } | Step::Suspend {} => {
                    found.any = true
                }
                Step::Set { device, .. } => found.told.push(*device),
                Step::Inject { .. } => found.told.push(Device::Npu),
                Step::Ioctl { call, .. }
                    if [MOCK_RESET, MOCK_SLEEP].contains(&call.table().name) =>
                {
                    found.told.push(Device::Mock);
                }
                _ => {}
            }
        }
        found.told.sort();
        found.told.dedup();
        found.any |= !found.told.is_empty();
        found
    }
}

impl Target {
    /// With `exact` programs run as they are; else steps that take long are now and then left out.
    pub fn new(record: Record, signs: Signs, patience: u32, exact: bool) -> Result<Self> {
        let mut devices = Devices::find();
        devices.expect_all()?;
        devices.prepare(patience)?;
        Ok(Self {
            devices,
            coverage: Coverage::new()?,
            outcomes: Shared::new(run::outcomes()).context("no memory")?,
            record,
            worker: None,
            log: Log::new(signs)?,
            patience,
            killed: 0,
            running: Duration::ZERO,
            restoring: Duration::ZERO,
            began: Instant::now(),
            costly: Duration::ZERO,
            exact,
        })
    }

    /// Blocks of our modules; 0 if nobody can say which are hit.
    pub fn blocks(&self) -> usize {
        self.coverage.as_ref().map_or(0, Coverage::len)
    }

    pub fn hits(&self) -> usize {
        self.coverage.as_ref().map_or(0, Coverage::hits)
    }

    /// Makes a process to run programs in.
    fn worker(&self) -> Result<Worker> {
        let kcov = self.coverage.as_ref().map_or(&[][..], |all| &all.kcov);
        Worker::new(|program, leave| {
            Machine::new(&self.devices, kcov, &self.outcomes).run(program, leave)
        })
    }

    pub fn report(&self) -> Option<String> {
        self.coverage.as_ref().map(Coverage::report)
    }

    /// Tells the host of each function whether it was reached.
    pub fn tell_functions(&mut self) -> Result<()> {
        for line in self.coverage.iter().flat_map(Coverage::functions) {
            self.record.reached(&line)?;
        }
        Ok(())
    }

    fn run_now(&mut self, program: &Program, map: &mut [u8]) -> Result<()> {
        self.record.runs(program)?;
        for byte in self.outcomes.bytes() {
            byte.store(0, Relaxed);
        }
        let began = Instant::now();
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => self.worker()?,
        };
        let (time, death) = (PROGRAM * self.patience, DEATH * self.patience);
        let (end, worker) = worker.run(program, time, death)?;
        if end == End::Killed {
            self.killed += 1;
            self.record.was_killed(program)?;
        }
        self.worker = worker;
        self.running += began.elapsed();
        let upheaval = Upheaval::of(program);
        let (blocks, outcomes) = map.split_at_mut(self.blocks());
        if let Some(coverage) = &mut self.coverage {
            if upheaval.any {
                coverage.add_places();
            }
            coverage.take(blocks);
        }
        for (to, from) in outcomes.iter_mut().zip(self.outcomes.bytes()) {
            *to |= from.load(Relaxed);
        }
        if let Some(line) = self.log.report()? {
            bail!("the kernel's log has a report: {line}");
        }
        if upheaval.any {
            let began = Instant::now();
            self.devices.restore(&upheaval.told, self.patience)?;
            if let Some(coverage) = &mut self.coverage {
                coverage.find_places();
            }
            self.restoring += began.elapsed();
        }
        Ok(())
    }
}

impl Subject for Target {
    /// Blocks first, then outcomes of calls.
    fn map_size(&self) -> usize {
        self.blocks() + run::outcomes()
    }

    /// Finds a report in the kernel's log, a process that cannot be killed, and a device that does
    /// not come back.
    fn run(&mut self, program: &Program, map: &mut [u8]) -> Result<()> {
        let cheap = match self.exact {
            true => None,
            false => cheap(program, |device| self.devices.is_of_module(device)),
        };
        let Some(cheap) = cheap else {
            return self.run_now(program, map);
        };
        if self.costly * COSTLY > self.began.elapsed() {
            return self.run_now(&cheap, map);
        }
        let began = Instant::now();
        let done = self.run_now(program, map);
        self.costly += began.elapsed();
        done
    }

    fn keep(&mut self, program: &Program) -> Result<()> {
        self.record.keeps(program)
    }

    fn progress(&self) -> String {
        format!(
            "{:>3} killed  {:>6} of {} blocks",
            self.killed,
            self.hits(),
            self.blocks()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upheaval(steps: &str) -> Upheaval {
        let json = format!(r#"{{"threads": [[{steps}]]}}"#);
        Upheaval::of(&Program::from_json(&json).unwrap())
    }

    #[test]
    fn what_takes_long_can_be_left_out() {
        let json = r#"{"threads": [[{"unbind": {"device": "null"}}, {"unbind": {"device": "edu"}}],
            [{"ioctl": {"call": "ACCEL_MOCK_IOCTL_RESET", "fields": {"ask": 1, "flags": 3}}}]]}"#;
        let program = Program::from_json(json).unwrap();
        let is_null = |device| device == Device::Null;
        let cheap = super::cheap(&program, is_null).unwrap();
        let wanted = r#"{"threads": [[{"unbind": {"device": "edu"}}],
            [{"ioctl": {"call": "ACCEL_MOCK_IOCTL_RESET", "fields": {"ask": 1, "flags": 1}}}]]}"#;
        assert_eq!(Ok(cheap.clone()), Program::from_json(wanted));
        assert_eq!(super::cheap(&cheap, is_null), None);
    }

    #[test]
    fn what_lasts_is_known() {
        let none = r#"{"sleep": {"milliseconds": 1}}, {"ioctl": {"call": "ACCEL_IOCTL_INFO"}}"#;
        assert_eq!(upheaval(none), Upheaval::default());
        let gone = upheaval(r#"{"unbind": {"device": "edu"}}"#);
        assert!(gone.any && gone.told.is_empty());
        let state = upheaval(r#"{"ioctl": {"call": "ACCEL_MOCK_IOCTL_RESET"}}"#);
        assert_eq!(state.told, [Device::Mock]);
        let hang = upheaval(r#"{"inject": {"line": "clear"}}, {"inject": {"line": "clear"}}"#);
        assert!(hang.any && hang.told == [Device::Npu]);
    }
}
