// SPDX-License-Identifier: GPL-2.0

//! One of the card's queues: its ring, the jobs that are in it, and what went wrong with them.
//!
//! A [`Channel`] is what interrupts, the alarm and resets reach of a context. It belongs to the card:
//! there is one for each queue, and a context has one for as long as it exists.
//!
//! ```text
//!             open                   fault, bus error            ERROR
//!    Free ──────────► Running ──────────────────────► Stopped ─────────► Running
//!      ▲               │  ▲                              ▲
//!      │         stop, │  │ nothing was unfinished       │ jobs have failed
//!      │         reset ▼  │                              │
//!      │              Held ──────────────────────────────┘
//!      │  close
//!      └──────── Closing ◄── any but Free
//! ```
//!
//! While a channel is `Held`, whoever holds the card's control is stopping or restarting its queue:
//! submitters wait for the control, and only its holder looks at completions.
//!
//! Jobs are ended in the order of the ring, with `Channel::ended` locked and `Channel::state` not.

use crate::{
    regs::Registers,
    ring::{
        index,
        Completion,
        Entry,
        Ring,
        ENTRIES, //
    },
    space::Space,
    uapi,
    Call, //
};
use accel::{
    errno::ECANCELED,
    Job, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Mutex, //
    }, //
};

/// What a channel's queue is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It belongs to no context.
    Free,
    /// The card executes what is in the ring.
    Running,
    /// The card's control is being held to stop or start it.
    Held,
    /// There are no jobs, and none are taken until the error was told.
    Stopped,
    /// Its context is being closed.
    Closing,
}

/// How a channel's ring is.
pub(crate) struct RingState {
    pub(crate) mode: Mode,
    /// Address-space id of the context.
    pub(crate) space: u16,
    /// Number of the entry of the oldest job.
    pub(crate) head: u32,
    /// Number of the entry of the next one.
    pub(crate) tail: u32,
}

/// A job that the card has.
struct Pending {
    job: Job,
    cookie: u64,
    commands: u32,
    /// The handle that it was submitted to.
    timeline: u32,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    deadline: i64,
}

/// A job that has ended, of which its users are still to be told.
struct Ended {
    job: Job,
    outcome: Result,
}

/// What went wrong, as `struct accel_npu_error` says it.
#[derive(Clone, Copy)]
pub(crate) struct Failure {
    pub(crate) kind: u32,
    pub(crate) timeline: u32,
    pub(crate) command: u32,
    pub(crate) point: u64,
    pub(crate) address: u64,
    pub(crate) access: u32,
}

impl Failure {
    /// Of `pending`, by something that is not in its commands.
    fn of(pending: &Pending, kind: u32) -> Self {
        Self {
            kind,
            timeline: pending.timeline,
            command: 0,
            point: pending.job.point(),
            address: 0,
            access: 0,
        }
    }
}

/// What went wrong since it was last told.
#[derive(Clone, Copy, Default)]
struct Failures {
    /// What stopped the context.
    stopping: Option<Failure>,
    first: Option<Failure>,
    count: u32,
}

impl Failures {
    fn add(&mut self, failure: Failure, stops: bool) {
        if stops {
            self.stopping.get_or_insert(failure);
        }
        self.first.get_or_insert(failure);
        self.count = self.count.saturating_add(1);
    }
}

/// How a completion status ends a job.
struct Verdict {
    kind: u32,
    outcome: Error,
    /// The queue has halted.
    stops: bool,
}

impl Verdict {
    /// `None` for a status that there is not; that of success is not asked for.
    fn of(status: u16) -> Option<Self> {
        let (kind, outcome, stops) = match status {
            1 => (uapi::ACCEL_NPU_ERROR_ENTRY, EINVAL, false),
            2 => (uapi::ACCEL_NPU_ERROR_OPCODE, EINVAL, false),
            3 => (uapi::ACCEL_NPU_ERROR_OPERAND, EINVAL, false),
            4 => (uapi::ACCEL_NPU_ERROR_PARAMETER, EINVAL, false),
            5 => (uapi::ACCEL_NPU_ERROR_SIZE, E2BIG, false),
            6 => (uapi::ACCEL_NPU_ERROR_FAULT, EFAULT, true),
            7 => (uapi::ACCEL_NPU_ERROR_BUS, EIO, true),
            _ => return None,
        };

        Some(Self {
            kind,
            outcome,
            stops,
        })
    }
}

/// Why a queue is not going on with its jobs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// One of its jobs has lost its deadline; or its context is being closed.
    Stop,
    /// It halted because host memory did not answer.
    Bus,
    /// The card was reset, or is dead.
    Reset,
}

/// The queue of a channel. Made when it is first needed, and kept until the card has no DMA: the
/// card may have been told to write there by mistake, but not into what is somebody else's by then.
struct Queue {
    ring: Ring,
    /// The jobs in the ring, each at the index of its entry.
    jobs: KVec<Option<Pending>>,
}

impl Queue {
    fn new(parent: &Device<Bound>) -> Result<Self> {
        let mut jobs = KVec::with_capacity(ENTRIES as usize, GFP_KERNEL)?;

        for _ in 0..ENTRIES {
            jobs.push(None, GFP_KERNEL)?;
        }
        Ok(Self {
            ring: Ring::new(parent)?,
            jobs,
        })
    }

    /// Takes the job of the entry at the head out.
    fn take(&mut self) -> Option<Pending> {
        let place = self.jobs.get_mut(index(self.ring.head()));

        self.ring.advance();
        place.and_then(Option::take)
    }

    /// The job of entry `number`.
    fn job(&self, number: u32) -> Option<&Pending> {
        self.jobs.get(index(number)).and_then(Option::as_ref)
    }

    /// The jobs in the ring, in order, with the numbers of their entries.
    fn iter(&self) -> impl Iterator<Item = (u32, &Pending)> {
        (0..self.ring.len()).filter_map(|at| {
            let number = self.ring.head().wrapping_add(at);

            self.job(number).map(|job| (number, job))
        })
    }
}

/// What a channel's lock protects.
struct State {
    mode: Mode,
    queue: Option<Queue>,
    /// The next job's. Never the same twice, so that a completion of the past is known as such.
    cookie: u64,
    /// Address-space id and root of the context.
    space: u16,
    root: u64,
    /// The number of the entry whose job has lost its deadline.
    expired: Option<u32>,
    failures: Failures,
    /// What the card may still reach although its context is gone: kept until the card is reset.
    quarantine: Option<Space>,
}

impl State {
    /// Takes out the jobs that are complete, up to the entry `until`. Returns whether there were
    /// any.
    ///
    /// # Errors
    ///
    /// `EIO` when the card has written what cannot be.
    fn collect(&mut self, channel: &Channel, ended: &mut KVec<Ended>) -> Result<bool> {
        let until = self.expired;
        let mut any = false;

        while let Some(queue) = &mut self.queue {
            if Some(queue.ring.head()) == until {
                break;
            }
            let Some(completion) = queue.ring.peek()? else {
                break;
            };
            let pending = queue.job(queue.ring.head()).ok_or(EIO)?;
            let failed = check(&completion, pending)?;
            let Some(pending) = queue.take() else {
                return Err(EIO);
            };
            let outcome = failed.as_ref().map_or(Ok(()), |failed| Err(failed.outcome));

            any = true;
            channel.jobs.fetch_add(1, Relaxed);
            channel
                .micros
                .fetch_add(u64::from(completion.micros), Relaxed);
            if let Some(failed) = failed {
                let is_fault = failed.kind == uapi::ACCEL_NPU_ERROR_FAULT;

                self.failures.add(
                    Failure {
                        command: completion.commands,
                        address: if is_fault { completion.address } else { 0 },
                        access: if is_fault {
                            completion.access.into()
                        } else {
                            0
                        },
                        ..Failure::of(&pending, failed.kind)
                    },
                    failed.stops,
                );
                if is_fault {
                    pending.job.fault(completion.fault());
                }
                push(ended, pending, outcome);
                if failed.stops {
                    self.end_all(ended, |_| Err(ECANCELED.into()));
                    if self.mode == Mode::Running {
                        self.mode = Mode::Stopped;
                    }
                }
            } else {
                push(ended, pending, outcome);
            }
        }
        Ok(any)
    }

    /// Takes out all jobs, each with the outcome that `outcome` says for the number of its entry.
    fn end_all(&mut self, ended: &mut KVec<Ended>, outcome: impl Fn(u32) -> Result) {
        while let Some(queue) = &mut self.queue {
            if queue.ring.len() == 0 {
                break;
            }
            let number = queue.ring.head();
            if let Some(pending) = queue.take() {
                push(ended, pending, outcome(number));
            }
        }
    }

    /// Takes out the jobs that are left because the queue was stopped for `end`.
    fn end_rest(&mut self, ended: &mut KVec<Ended>, end: End) {
        let culprit = self.expired.take();
        let head = self.queue.as_ref().map_or(0, |queue| queue.ring.head());
        let (number, kind, error): (u32, u32, Error) = match (culprit, end) {
            (Some(number), _) => (number, uapi::ACCEL_NPU_ERROR_DEADLINE, ETIMEDOUT),
            (None, End::Stop) => (head, uapi::ACCEL_NPU_ERROR_RESET, ECANCELED.into()),
            (None, End::Bus) => (head, uapi::ACCEL_NPU_ERROR_BUS, EIO),
            (None, End::Reset) => (head, uapi::ACCEL_NPU_ERROR_RESET, EIO),
        };
        let others: Error = if culprit.is_none() && end == End::Reset {
            EIO
        } else {
            ECANCELED.into()
        };

        if let Some(pending) = self.queue.as_ref().and_then(|queue| queue.job(number)) {
            self.failures.add(Failure::of(pending, kind), true);
        }
        self.end_all(ended, |at| Err(if at == number { error } else { others }));
    }

    fn pending(&self) -> u32 {
        self.queue.as_ref().map_or(0, |queue| queue.ring.len())
    }
}

/// Adds a job to those whose users are to be told.
fn push(ended: &mut KVec<Ended>, pending: Pending, outcome: Result) {
    // There is room for as many as there are in a ring. If not, the job ends as it is dropped.
    let _ = ended.push_within_capacity(Ended {
        job: pending.job,
        outcome,
    });
}

/// Checks a completion against the job that it is about. `None` when it has succeeded.
///
/// # Errors
///
/// `EIO` when it cannot be.
fn check(completion: &Completion, pending: &Pending) -> Result<Option<Verdict>> {
    if completion.cookie != pending.cookie {
        return Err(EIO);
    }
    if completion.status == 0 {
        if completion.commands != pending.commands {
            return Err(EIO);
        }
        return Ok(None);
    }
    let verdict = Verdict::of(completion.status).ok_or(EIO)?;

    if completion.commands >= pending.commands {
        return Err(EIO);
    }
    if verdict.stops && !matches!(completion.access, 1 | 2) {
        return Err(EIO);
    }
    if verdict.kind == uapi::ACCEL_NPU_ERROR_FAULT && !matches!(completion.kind, 1..=5) {
        return Err(EIO);
    }
    Ok(Some(verdict))
}

/// One of the card's queues, and whose jobs it has.
#[pin_data]
pub(crate) struct Channel {
    index: usize,
    /// Jobs that were taken out of the ring. Empty but while it is locked; with room for all of
    /// them once there is a ring.
    #[pin]
    ended: Mutex<KVec<Ended>>,
    #[pin]
    state: Mutex<State>,
    /// Jobs in the ring, for those who only want to know whether it is worth looking.
    pending: Atomic<u32>,
    /// Jobs of the context that are complete.
    jobs: Atomic<u64>,
    /// Time that they took, in microseconds.
    micros: Atomic<u64>,
}

impl Channel {
    pub(crate) fn new(index: usize) -> impl PinInit<Self> {
        let state = State {
            mode: Mode::Free,
            queue: None,
            cookie: (index as u64) << 56,
            space: 0,
            root: 0,
            expired: None,
            failures: Failures::default(),
            quarantine: None,
        };

        pin_init!(Self {
            index,
            ended <- new_mutex!(KVec::new(), "accel_npu_ended"),
            state <- new_mutex!(state, "accel_npu_channel"),
            pending: Atomic::new(0),
            jobs: Atomic::new(0),
            micros: Atomic::new(0),
        })
    }

    /// Which of the card's queues it is.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Jobs in the ring.
    pub(crate) fn pending(&self) -> u32 {
        self.pending.load(Relaxed)
    }

    /// How its ring is, once it has one.
    pub(crate) fn ring(&self) -> Option<RingState> {
        let state = self.state.lock();
        let ring = &state.queue.as_ref()?.ring;

        Some(RingState {
            mode: state.mode,
            space: state.space,
            head: ring.head(),
            tail: ring.tail(),
        })
    }

    /// Jobs that are complete, and the time that they took, in microseconds.
    pub(crate) fn done(&self) -> (u64, u64) {
        (self.jobs.load(Relaxed), self.micros.load(Relaxed))
    }

    /// Runs `change` with the lists of jobs, then tells the users of those that have ended.
    fn settle<R>(&self, change: impl FnOnce(&mut State, &mut KVec<Ended>) -> R) -> R {
        let mut ended = self.ended.lock();
        let mut state = self.state.lock();
        let result = change(&mut state, &mut ended);

        self.pending.store(state.pending(), Relaxed);
        drop(state);
        for ended in ended.drain_all() {
            ended.job.end(ended.outcome);
        }
        result
    }

    /// Ends the jobs that are complete. Returns whether there were any.
    ///
    /// # Errors
    ///
    /// `EIO` when the card has written what cannot be.
    pub(crate) fn reap(&self) -> Result<bool> {
        if self.pending() == 0 {
            return Ok(false);
        }
        self.settle(|state, ended| match state.mode {
            Mode::Running => state.collect(self, ended),
            _ => Ok(false),
        })
    }

    /// Makes sure that there is memory for the queue.
    pub(crate) fn make_queue(&self, parent: &Device<Bound>) -> Result {
        if self.state.lock().queue.is_some() {
            return Ok(());
        }
        let queue = Queue::new(parent)?;

        self.ended.lock().reserve(ENTRIES as usize, GFP_KERNEL)?;
        self.state.lock().queue = Some(queue);
        Ok(())
    }

    /// Begins to belong to a context. The control is held; the queue is disabled.
    pub(crate) fn begin(&self, space: &Space) {
        let mut state = self.state.lock();

        state.mode = Mode::Held;
        state.space = space.id();
        state.root = space.root();
        state.failures = Failures::default();
        self.jobs.store(0, Relaxed);
        self.micros.store(0, Relaxed);
    }

    /// Starts the queue, which is disabled and empty. The control is held.
    pub(crate) fn start(&self, regs: &Registers<'_>, vector: u32) -> Result {
        let mut state = self.state.lock();
        let queue = state.queue.as_mut().ok_or(EIO)?;

        queue.ring.restart()?;
        regs.start_queue(self.index, &queue.ring.setup(vector))?;
        state.mode = Mode::Running;
        Ok(())
    }

    /// Holds a queue that runs. The control is held.
    pub(crate) fn hold(&self) -> bool {
        let mut state = self.state.lock();

        if state.mode == Mode::Running {
            state.mode = Mode::Held;
        }
        state.mode == Mode::Held
    }

    /// Holds a queue one of whose jobs has lost its deadline, after a look for completions. The
    /// control is held.
    ///
    /// # Errors
    ///
    /// As [`Self::reap`].
    pub(crate) fn hold_expired(&self, now: i64) -> Result<bool> {
        self.settle(|state, ended| {
            if state.mode != Mode::Running {
                return Ok(false);
            }
            state.collect(self, ended)?;
            let overdue = state
                .queue
                .as_ref()
                .and_then(|queue| queue.iter().find(|(_, pending)| pending.deadline <= now))
                .map(|(number, _)| number);

            if overdue.is_none() || state.mode != Mode::Running {
                return Ok(false);
            }
            state.expired = overdue;
            state.mode = Mode::Held;
            Ok(true)
        })
    }

    /// When the first of its jobs loses its deadline; `None` when it has no jobs.
    pub(crate) fn deadline(&self) -> Option<i64> {
        if self.pending() == 0 {
            return None;
        }
        let state = self.state.lock();
        let queue = state.queue.as_ref()?;

        queue.iter().map(|(_, pending)| pending.deadline).min()
    }

    /// Begins to close. The control is held.
    pub(crate) fn begin_close(&self) {
        self.state.lock().mode = Mode::Closing;
    }

    /// Ends all jobs of a queue that is held or closing, and that the card does not execute any
    /// more: those that are complete as the card says, the others as `end` does. The control is
    /// held. Returns whether the queue can be started again.
    pub(crate) fn conclude(&self, end: End) -> bool {
        self.settle(|state, ended| {
            if !matches!(state.mode, Mode::Held | Mode::Closing) {
                return false;
            }
            // What makes no sense has not ended well.
            let _ = state.collect(self, ended);
            if state.pending() > 0 {
                state.end_rest(ended, end);
            }
            state.expired = None;
            if state.mode == Mode::Held && state.failures.stopping.is_some() {
                state.mode = Mode::Stopped;
            }
            state.mode == Mode::Held
        })
    }

    /// Takes no jobs any more: the card is dead. All have ended.
    pub(crate) fn give_up(&self) {
        let mut state = self.state.lock();

        if state.mode == Mode::Held {
            state.mode = Mode::Stopped;
        }
    }

    /// The id and the root of the context's address space, if the card is to know them.
    pub(crate) fn space(&self) -> Option<(u16, u64)> {
        let state = self.state.lock();

        match state.mode {
            Mode::Free | Mode::Closing => None,
            _ => Some((state.space, state.root)),
        }
    }

    /// Belongs to no context any more.
    pub(crate) fn end(&self) {
        self.state.lock().mode = Mode::Free;
    }

    /// Keeps what the card may still reach. The channel is not used before [`Self::release`].
    pub(crate) fn quarantine(&self, space: Space) {
        self.state.lock().quarantine = Some(space);
    }

    /// Takes out what was kept, and belongs to no context any more: the card was reset.
    pub(crate) fn release(&self) -> Option<Space> {
        let mut state = self.state.lock();
        let space = state.quarantine.take()?;

        state.mode = Mode::Free;
        Some(space)
    }

    /// Whether jobs have failed of which the context is still to be told.
    pub(crate) fn is_stopped(&self) -> bool {
        self.state.lock().mode == Mode::Stopped
    }

    /// Tells what stopped the context, or else what went wrong first, and how much; and forgets it.
    /// Tells also whether the context is stopped.
    pub(crate) fn take_failure(&self) -> (Option<(Failure, u32)>, bool) {
        let mut state = self.state.lock();
        let failures = core::mem::take(&mut state.failures);
        let told = failures
            .stopping
            .or(failures.first)
            .map(|failure| (failure, failures.count));

        (told, state.mode == Mode::Stopped)
    }

    /// Waits until `count` jobs can be written to the ring.
    ///
    /// # Errors
    ///
    /// `EIO` when the context is stopped; `EAGAIN` when there is no room;
    /// [`accel::Lent::after_reset`] when the queue waits for a reset.
    pub(crate) fn wait_for_room(&self, call: &Call<'_, '_>, count: u32) -> Result {
        let card = call.data().get_ref();
        let mut looked = false;

        // Whoever has the control gives it back in one of two other modes; but may take it again.
        for _ in 0..TRIES {
            let state = self.state.lock();
            let (mode, pending) = (state.mode, state.pending());

            drop(state);
            match mode {
                Mode::Running if ENTRIES - pending >= count => return Ok(()),
                Mode::Running if looked => return Err(EAGAIN),
                Mode::Running => {
                    // Completions whose interrupt is still to come.
                    card.reap(call, self);
                    looked = true;
                }
                Mode::Held => card.wait_for_control(),
                _ => return Err(EIO),
            }
        }
        Err(call.after_reset())
    }

    /// Writes `batch` to the ring. `jobs` is empty after it, if there is no error.
    ///
    /// # Errors
    ///
    /// As [`Self::wait_for_room`].
    pub(crate) fn write(
        &self,
        call: &Call<'_, '_>,
        batch: &Batch<'_>,
        jobs: &mut KVec<Job>,
    ) -> Result {
        for _ in 0..TRIES {
            let mut state = self.state.lock();

            match state.mode {
                Mode::Running => {
                    let written = state.write(batch, jobs);

                    // Before the card can see them: an interrupt that finds none looks no further.
                    self.pending.store(state.pending(), Relaxed);
                    return written.and_then(|()| state.publish());
                }
                Mode::Held => {
                    drop(state);
                    call.data().wait_for_control();
                }
                _ => return Err(EIO),
            }
        }
        Err(call.after_reset())
    }
}

/// How often submitters wait for the control.
const TRIES: u32 = 4;

/// Jobs of one SUBMIT.
pub(crate) struct Batch<'a> {
    pub(crate) jobs: &'a [uapi::accel_npu_job],
    /// The handle that they are submitted to.
    pub(crate) timeline: u32,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub(crate) deadline: i64,
}

impl State {
    /// Puts jobs in the ring, which the card does not see before [`Self::publish`].
    fn write(&mut self, batch: &Batch<'_>, jobs: &mut KVec<Job>) -> Result {
        let space = self.space;
        let queue = self.queue.as_mut().ok_or(EIO)?;
        let last = batch.jobs.len().saturating_sub(1);

        // Submitters take turns, so there is as much room as there was, or more.
        if (queue.ring.room() as usize) < batch.jobs.len() {
            return Err(EIO);
        }
        for (at, (raw, job)) in batch.jobs.iter().zip(jobs.drain_all()).enumerate() {
            let cookie = self.cookie;
            let place = queue.jobs.get_mut(index(queue.ring.tail())).ok_or(EIO)?;

            self.cookie = cookie.wrapping_add(1);
            queue.ring.push(&Entry {
                address: raw.address,
                commands: raw.count,
                space,
                // Who submits a batch waits for its end. Errors interrupt by themselves.
                interrupt: at == last,
                cookie,
            })?;
            *place = Some(Pending {
                job,
                cookie,
                commands: raw.count,
                timeline: batch.timeline,
                deadline: batch.deadline,
            });
        }
        Ok(())
    }

    fn publish(&self) -> Result {
        self.queue.as_ref().ok_or(EIO)?.ring.publish()
    }
}
