// SPDX-License-Identifier: GPL-2.0

//! Jobs, and the steps that the device takes for them.
//!
//! The device does one thing at a time: one factorial, or one transfer of up to 4 KiB. A job is
//! cut into steps of that size, and files take turns step by step:
//!
//! ```text
//!   submit ─ kick ─► take ─► start ─► interrupt ─► next transfer of the step, or
//!                     ▲                            end of the step ─► job ended, or put back
//!                     └──────────────────────────────────────────────┘
//! ```

use crate::regs::{
    Causes,
    Registers,
    Way,
    BUFFER_SIZE, //
};
use accel::{
    errno::ECANCELED,
    Buffer,
    FairQueue,
    Job,
    Lane,
    LaneId,
    Staging, //
};
use kernel::{
    device::Bound,
    new_mutex,
    pci,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// How long a step is waited for, in milliseconds: a transfer takes 100.
const PAUSE_MS: u32 = 2000;

/// How long a part of a step may take, in nanoseconds: a transfer takes 100 ms, on a machine that has
/// time for it.
const STEP_NS: i64 = 10_000_000_000;

/// What a job is to do. Ranges have been checked against the buffers.
pub(crate) enum Kind {
    Factorial {
        numbers: KVec<u32>,
        dst: Arc<Buffer>,
        dst_offset: u64,
    },
    Copy {
        src: Arc<Buffer>,
        src_offset: u64,
        dst: Arc<Buffer>,
        dst_offset: u64,
        size: u64,
    },
}

/// A job and how far it is.
pub(crate) struct Work {
    job: Job,
    kind: Kind,
    /// Numbers computed, or bytes copied.
    done: u64,
}

impl Work {
    pub(crate) fn new(job: Job, kind: Kind) -> Self {
        Self { job, kind, done: 0 }
    }

    fn is_done(&self) -> bool {
        match &self.kind {
            Kind::Factorial { numbers, .. } => self.done >= numbers.len() as u64,
            Kind::Copy { size, .. } => self.done >= *size,
        }
    }
}

/// What the device is doing.
#[derive(Clone, Copy)]
enum Doing {
    Factorial,
    Transfer { way: Way, count: usize },
}

struct Running {
    lane: LaneId,
    work: Work,
    doing: Doing,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    began_ns: i64,
}

impl Running {
    fn new(lane: LaneId, work: Work, doing: Doing) -> Self {
        Self {
            lane,
            work,
            doing,
            began_ns: accel::now_ns(),
        }
    }
}

struct State {
    running: Option<Running>,
    /// Whether no step is to be started.
    is_paused: bool,
    staging: Staging,
}

/// One device: its registers, its memory, its queue.
#[pin_data]
pub(crate) struct Engine<'bound> {
    registers: Registers<'bound>,
    queue: FairQueue<Work>,
    #[pin]
    state: Mutex<State>,
}

impl<'bound> Engine<'bound> {
    pub(crate) fn new(pdev: &'bound pci::Device<Bound>) -> impl PinInit<Self, Error> + 'bound {
        pin_init::pin_init_scope(move || {
            let state = State {
                running: None,
                is_paused: false,
                staging: Staging::new(pdev.as_ref(), BUFFER_SIZE)?,
            };

            let registers = Registers::new(pdev)?;

            registers.enable_interrupts();
            Ok(try_pin_init!(Self {
                registers,
                queue: FairQueue::new()?,
                state <- new_mutex!(state, "accel_edu_state"),
            }? Error))
        })
    }

    pub(crate) fn lane(&self, limit: usize) -> Result<Lane<Work>> {
        self.queue.lane(limit)
    }

    /// Has the device work if it is idle.
    pub(crate) fn kick(&self) {
        loop {
            let ended = self.run(&mut self.state.lock());

            // Without the lock: who ends a job wakes whoever waits for it.
            match ended {
                Some(ended) => ended.tell(),
                None => return,
            }
        }
    }

    /// Goes on after an interrupt. Returns whether there was a reason for one.
    pub(crate) fn interrupt(&self) -> bool {
        let mut state = self.state.lock();
        let Some(causes) = self.registers.acknowledge() else {
            return false;
        };
        let ended = match state.running.take() {
            Some(running) => self.advance(&mut state, running, causes),
            None => None,
        };

        drop(state);
        // The device first: it should not wait while users are told.
        self.kick();
        if let Some(ended) = ended {
            ended.tell();
        }
        true
    }

    /// Has the device do nothing, once the step that is running is over. What is queued stays.
    ///
    /// # Errors
    ///
    /// `EBUSY` when a step is running and is not to be waited for, or does not end: all goes on.
    pub(crate) fn pause(&self, may_wait: bool) -> Result {
        for _ in 0..=PAUSE_MS {
            let mut state = self.state.lock();

            state.is_paused = true;
            if state.running.is_none() {
                return Ok(());
            }
            if !may_wait {
                break;
            }
            drop(state);
            // Its interrupt ends it.
            fsleep(Delta::from_millis(1));
        }
        self.resume();
        Err(EBUSY)
    }

    /// Has the device go on with what is queued.
    pub(crate) fn resume(&self) {
        self.state.lock().is_paused = false;
        self.registers.enable_interrupts();
        self.kick();
    }

    /// Looks whether what is running ends.
    ///
    /// # Errors
    ///
    /// `EIO` when it takes too long: the device does nothing, or its interrupt is lost.
    pub(crate) fn check(&self) -> Result {
        match &self.state.lock().running {
            Some(running) if accel::now_ns() - running.began_ns > STEP_NS => Err(EIO),
            _ => Ok(()),
        }
    }

    /// Ends the job that is running, with `EIO`, and has the device go on with what is queued.
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT` when it does not stop: what is queued ends likewise.
    pub(crate) fn reset(&self) -> Result {
        let running = {
            let mut state = self.state.lock();

            state.is_paused = true;
            state.running.take()
        };

        if let Some(running) = running {
            self.end(running.lane, running.work, Err(EIO)).tell();
        }
        if let Err(err) = self.registers.quiesce() {
            while let Some((lane, work)) = self.queue.take() {
                self.end(lane, work, Err(EIO)).tell();
            }
            return Err(err);
        }
        self.resume();
        Ok(())
    }

    /// Starts a step if none is running. Returns a job that cannot be started.
    fn run(&self, state: &mut State) -> Option<Ended> {
        if state.is_paused || state.running.is_some() {
            return None;
        }
        let (lane, work) = self.queue.take()?;

        match self.start(state, &work) {
            Ok(doing) => {
                state.running = Some(Running::new(lane, work, doing));
                None
            }
            Err(err) => Some(self.end(lane, work, Err(err))),
        }
    }

    /// Starts the next step of `work`.
    fn start(&self, state: &mut State, work: &Work) -> Result<Doing> {
        match &work.kind {
            Kind::Factorial { numbers, .. } => {
                let number = numbers.get(work.done as usize).ok_or(EINVAL)?;

                self.registers.start_factorial(*number);
                Ok(Doing::Factorial)
            }
            Kind::Copy {
                src,
                src_offset,
                size,
                ..
            } => {
                let count = (size - work.done).min(BUFFER_SIZE as u64) as usize;

                state.staging.load(src, src_offset + work.done, count)?;
                self.transfer(state, Way::ToDevice, count)
            }
        }
    }

    fn transfer(&self, state: &State, way: Way, count: usize) -> Result<Doing> {
        self.registers
            .start_dma(way, state.staging.address(), count)?;
        Ok(Doing::Transfer { way, count })
    }

    /// Goes on with what was running, if it is what the interrupt is about. Returns the job if that
    /// was its end.
    fn advance(&self, state: &mut State, mut running: Running, causes: Causes) -> Option<Ended> {
        // An interrupt of what was done in an earlier life may come now: that is not the end of this.
        let is_over = match running.doing {
            Doing::Factorial => causes.factorial && !self.registers.is_computing(),
            Doing::Transfer { .. } => causes.dma && !self.registers.is_moving(),
        };

        if !is_over {
            state.running = Some(running);
            return None;
        }
        match self.finish(state, &mut running) {
            Ok(Some(doing)) => {
                state.running = Some(Running::new(running.lane, running.work, doing));
                None
            }
            Ok(None) if running.work.is_done() => {
                Some(self.end(running.lane, running.work, Ok(())))
            }
            // Its file was closed: nobody waits for the outcome.
            Ok(None) => self
                .queue
                .put_back(running.lane, running.work)
                .map(|work| Ended {
                    work,
                    outcome: Err(ECANCELED.into()),
                }),
            Err(err) => Some(self.end(running.lane, running.work, Err(err))),
        }
    }

    /// Takes the result of what the device has done. Returns what it does next for this step, if
    /// the step is not over.
    fn finish(&self, state: &State, running: &mut Running) -> Result<Option<Doing>> {
        let work = &mut running.work;

        match (running.doing, &work.kind) {
            (
                Doing::Factorial,
                Kind::Factorial {
                    dst, dst_offset, ..
                },
            ) => {
                let result = self.registers.factorial();

                dst.write(dst_offset + 4 * work.done, &result.to_ne_bytes())?;
                work.done += 1;
                Ok(None)
            }
            (
                Doing::Transfer {
                    way: Way::ToDevice,
                    count,
                },
                Kind::Copy { .. },
            ) => self.transfer(state, Way::ToMemory, count).map(Some),
            (
                Doing::Transfer {
                    way: Way::ToMemory,
                    count,
                },
                Kind::Copy {
                    dst, dst_offset, ..
                },
            ) => {
                state.staging.store(dst, dst_offset + work.done, count)?;
                work.done += count as u64;
                Ok(None)
            }
            _ => Err(EIO),
        }
    }

    fn end(&self, lane: LaneId, work: Work, outcome: Result) -> Ended {
        self.queue.done(lane);
        Ended { work, outcome }
    }
}

/// A job that has ended, of which its users are still to be told.
struct Ended {
    work: Work,
    outcome: Result,
}

impl Ended {
    fn tell(self) {
        self.work.job.end(self.outcome);
    }
}
