// SPDX-License-Identifier: GPL-2.0

//! The card: contexts come and go, interrupts and the alarm, and what is done when it fails.
//!
//! What a failure comes to:
//!
//! ```text
//!    a queue does not stop, the TLB or the scrubber stays busy,    ─► reset ─► goes on
//!    HALTED, completions or registers that make no sense                │
//!                                                                       │ fails
//!    the card is gone                                              ─────┴────► dead
//! ```
//!
//! Whoever finds a failure asks the core for a reset, which comes when no call is in progress any
//! more. Until then nothing is asked of the card that it may not do ([`Card::wanted`]): a context
//! that is closed meanwhile leaves what the card may still reach in quarantine, and a call that
//! cannot go on is made again after the reset.
//!
//! A reset ends the jobs of all contexts; page tables are in the card's memory, which keeps what is
//! in it, so that contexts go on with what they have mapped. A dead card has no DMA any more, and
//! what it was told of stays where it is ([`Channel::quarantine`]) until root has it reset, which
//! contexts do not survive then, or the driver goes.

mod watch;

use crate::{
    channel::{
        Channel,
        End,
        Failure, //
    },
    context::Context,
    log::Log,
    memory::{
        Extent,
        Memory,
        Window, //
    },
    mmu::Room,
    regs::{
        self,
        Caps,
        Health,
        Registers, //
    },
    ring::Events,
    space::Space,
    uapi,
    Call,
    Lent, //
};
use accel::{
    Cause,
    Contexts,
    Sleep, //
};
use kernel::{
    device::Bound,
    id_pool::IdPool,
    new_mutex,
    pci,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// How often completions are looked for while there are jobs, in nanoseconds: what a lost interrupt
/// costs.
const LOOK_NS: i64 = 500_000_000;

/// How long jobs have to end before the system sleeps, and before it goes down, in nanoseconds.
const SLEEP_NS: i64 = 10_000_000_000;
const SHUTDOWN_NS: i64 = 1_000_000_000;

/// After how many nanoseconds without anything that runs or ends those are not waited for any more
/// whose doorbell nobody has rung: nobody can.
const STALL_NS: i64 = 100_000_000;

/// Most resets in a row that did not help: no job has ended between them, and none was more than
/// [`CALM_NS`] nanoseconds after the one before. It bounds what a card can do that fails at every
/// turn. A queue that does not stop does not count: a program may be able to bring it about, and
/// must not be able to end the card.
const RESETS_IN_VAIN: u32 = 4;
const CALM_NS: i64 = 10_000_000_000;

/// Why the card is reset.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    QueueStuck,
    TlbStuck,
    ScrubberStuck,
    BadCompletion,
    Ring,
    Memory,
    Engine,
    Heat,
    Halted,
}

impl Why {
    fn text(self) -> &'static str {
        match self {
            Self::QueueStuck => "a queue does not stop",
            Self::TlbStuck => "the TLB stays busy",
            Self::ScrubberStuck => "the scrubber does not work",
            Self::BadCompletion => "a completion makes no sense",
            Self::Ring => "it found an error in a ring",
            Self::Memory => "an error in its memory could not be corrected",
            Self::Engine => "an engine failed",
            Self::Heat => "it is too hot",
            Self::Halted => "it has halted",
        }
    }

    fn cause(self) -> Cause {
        match self {
            Self::QueueStuck => Cause::Deadline,
            _ => Cause::Driver,
        }
    }
}

/// The right to start and stop queues, and to use the TLB's and the scrubber's registers; and which
/// queues and ids are in use.
struct Control {
    queues: IdPool,
    spaces: IdPool,
    /// The address-space id that was taken last: the next is another as long as there are others.
    last_space: usize,
    /// Resets in a row that did not help, and when the last was.
    in_vain: u32,
    last_reset: i64,
}

/// A card.
#[pin_data]
pub(crate) struct Card<'bound> {
    /// Dropped first: the card writes to what follows.
    pub(crate) regs: Registers<'bound>,
    window: Window<'bound>,
    pub(crate) caps: Caps,
    #[pin]
    pub(crate) memory: Memory,
    #[pin]
    control: Mutex<Control>,
    #[pin]
    events: Mutex<Events>,
    channels: KVec<Pin<KBox<Channel>>>,
    /// Resets so far: who saw something before one need not have another. Changes with the control
    /// held.
    resets: Atomic<u64>,
    /// 1 from when a reset is asked for until it begins: what waits for the card would wait in vain.
    wanted: Atomic<u32>,
    /// 1 if one of those who asked had a reason that counts as a reset in vain.
    serious: Atomic<u32>,
    /// 1 once a job has ended since the last reset.
    progress: Atomic<u32>,
    /// 1 once it has failed for good.
    dead: Atomic<u32>,
    /// 1 once it was reset for the last time, as it is going, and 2 if that has failed. Changes with
    /// the control held.
    ended: Atomic<u32>,
    /// Its time, since it had power, when it was put to sleep.
    slept: Atomic<u64>,
    /// Errors that the card's memory has corrected.
    ecc: Atomic<u64>,
    log: Log,
}

impl<'bound> Card<'bound> {
    pub(crate) fn new(pdev: &'bound pci::Device<Bound>) -> impl PinInit<Self, Error> + 'bound {
        pin_init::pin_init_scope(move || {
            let regs = Registers::new(pdev)?;
            let caps = regs.caps(pdev, pdev.resource_len(regs::MEMORY_BAR)?)?;
            let mut channels = KVec::with_capacity(caps.queues, GFP_KERNEL)?;

            if !matches!(regs.health(), Health::Good { .. }) {
                dev_err!(pdev, "it is not ready\n");
                return Err(EIO);
            }
            for index in 0..caps.queues {
                channels.push(KBox::pin_init(Channel::new(index), GFP_KERNEL)?, GFP_KERNEL)?;
            }
            let mut spaces = IdPool::with_capacity(caps.spaces, GFP_KERNEL)?;
            // Id 0 is none.
            if let Some(none) = spaces.find_unused_id(0) {
                none.acquire();
            }
            let control = Control {
                queues: IdPool::with_capacity(caps.queues, GFP_KERNEL)?,
                spaces,
                last_space: 0,
                in_vain: 0,
                last_reset: 0,
            };
            let window = Window::new(pdev)?;
            let memory = Memory::new(caps.memory)?;
            let events = Events::new(pdev.as_ref())?;
            let (address, entries) = events.place();

            // From here on the card writes to our memory.
            regs.set_event_ring(address, entries);
            Ok(try_pin_init!(Self {
                regs,
                window,
                caps,
                memory <- memory,
                control <- new_mutex!(control, "accel_npu_control"),
                events <- new_mutex!(events, "accel_npu_events"),
                channels,
                resets: Atomic::new(0),
                wanted: Atomic::new(0),
                serious: Atomic::new(0),
                progress: Atomic::new(0),
                dead: Atomic::new(0),
                ended: Atomic::new(0),
                slept: Atomic::new(0),
                ecc: Atomic::new(0),
                log: Log::new(),
            }? Error))
        })
    }

    /// Where page tables are made and written.
    pub(crate) fn room(&self) -> Room<'_, 'bound> {
        Room {
            memory: &self.memory,
            window: &self.window,
        }
    }

    /// All of the card's queues.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.iter().map(|channel| &**channel)
    }

    /// # Errors
    ///
    /// `EIO` when there is none of this index.
    pub(crate) fn channel(&self, index: usize) -> Result<&Channel> {
        self.channels
            .get(index)
            .map(|channel| &**channel)
            .ok_or(EIO)
    }

    /// # Errors
    ///
    /// `EIO` when the card has failed for good.
    pub(crate) fn check_alive(&self) -> Result {
        if self.dead.load(Relaxed) != 0 {
            return Err(EIO);
        }
        Ok(())
    }

    /// # Errors
    ///
    /// `EIO` when the card is to be reset before anything is asked of it, or has failed for good.
    fn check_ready(&self) -> Result {
        if self.wanted.load(Relaxed) != 0 {
            return Err(EIO);
        }
        self.check_alive()
    }

    /// Resets so far, and errors that the card's memory has corrected.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.resets.load(Relaxed), self.ecc.load(Relaxed))
    }

    /// Waits until whoever has the control has given it back.
    pub(crate) fn wait_for_control(&self) {
        drop(self.control.lock());
    }

    /// Interrupt vectors that are used.
    fn vectors(&self, lent: &Lent<'_, '_>) -> u32 {
        lent.interrupts().min(self.caps.vectors).max(1)
    }

    /// The vector that a channel raises. The first is for events, and for all if there is no other.
    fn vector_of(channel: usize, vectors: u32) -> u32 {
        match vectors {
            0 | 1 => 0,
            several => 1 + channel as u32 % (several - 1),
        }
    }

    /// Makes a context.
    ///
    /// # Errors
    ///
    /// `EBUSY` when there are as many as there can be; `ENOSPC` when there is no memory on the card
    /// for its root table; `ENOMEM`; `EIO` when the card has failed for good.
    pub(crate) fn open(&self, lent: &Lent<'_, '_>) -> Result<impl PinInit<Context, Error>> {
        self.check_alive()?;
        let jobs = KVec::with_capacity(uapi::ACCEL_NPU_BATCH_MAX as usize, GFP_KERNEL_ACCOUNT)?;
        let (index, id) = self.take_ids()?;

        match self.begin(lent, index, id) {
            Ok(space) => Ok(Context::new(index, space, jobs)),
            Err(err) => {
                self.give_ids(index, id);
                Err(err)
            }
        }
    }

    fn begin(&self, lent: &Lent<'_, '_>, index: usize, id: u16) -> Result<Space> {
        let channel = self.channel(index)?;

        channel.make_queue(lent.parent().as_ref())?;
        let space = Space::new(self, id)?;
        let vector = Self::vector_of(index, self.vectors(lent));
        let control = self.control.lock();
        let started = self
            .check_alive()
            .and_then(|()| self.regs.set_root(id, Some(space.root())))
            .map(|()| channel.begin(&space))
            .and_then(|()| channel.start(&self.regs, vector));

        if let Err(err) = started {
            channel.end();
            let _ = self.regs.set_root(id, None);
            drop(control);
            space.free(self);
            return Err(err);
        }
        Ok(space)
    }

    /// Takes a queue and an address-space id.
    fn take_ids(&self) -> Result<(usize, u16)> {
        let mut control = self.control.lock();
        let next = control.last_space + 1;
        let id = find(&mut control.spaces, next, self.caps.spaces)
            .or_else(|| find(&mut control.spaces, 1, self.caps.spaces))
            .ok_or(EBUSY)?;

        match find(&mut control.queues, 0, self.caps.queues) {
            Some(index) => {
                control.last_space = id;
                Ok((index, id as u16))
            }
            None => {
                control.spaces.release_id(id);
                Err(EBUSY)
            }
        }
    }

    /// Gives back what [`Self::take_ids`] has given: the queue is disabled, and nothing of the
    /// address space is in the TLB.
    fn give_ids(&self, index: usize, id: u16) {
        let mut control = self.control.lock();

        control.queues.release_id(index);
        control.spaces.release_id(id.into());
    }

    /// Has the card forget a context.
    pub(crate) fn close(&self, lent: &Lent<'_, '_>, context: &Context) {
        let Some(space) = context.take_space() else {
            return;
        };
        let Ok(channel) = self.channel(context.channel()) else {
            return;
        };
        let mut control = self.control.lock();

        channel.begin_close();
        let forgotten = self.forget(lent, channel.index(), &space);
        channel.conclude(End::Stop);
        if forgotten.is_err() {
            // The queue and the id stay taken, so this happens once to a channel until it is reset.
            channel.quarantine(space);
            return;
        }
        channel.end();
        control.queues.release_id(channel.index());
        control.spaces.release_id(space.id().into());
        drop(control);
        space.free(self);
    }

    /// Has the card stop a queue and forget an address space. The control is held.
    ///
    /// # Errors
    ///
    /// `EIO` when the card may still use them.
    fn forget(&self, lent: &Lent<'_, '_>, queue: usize, space: &Space) -> Result {
        if lent.is_going() {
            return self.end();
        }
        self.check_ready()?;
        if self.regs.stop_queue(queue).is_err() {
            self.want_reset(lent, Why::QueueStuck);
            return Err(EIO);
        }
        let _ = self.regs.set_root(space.id(), None);
        if self.regs.invalidate_id(space.id()).is_err() {
            self.want_reset(lent, Why::TlbStuck);
            return Err(EIO);
        }
        Ok(())
    }

    /// Has a card that is going forget all contexts at once: queues that are busy take a while each
    /// to stop. The control is held.
    ///
    /// # Errors
    ///
    /// `EIO` when it may still use them.
    fn end(&self) -> Result {
        if self.ended.load(Relaxed) == 0 {
            let failed = !self.regs.is_there() || self.regs.reset().is_err();

            self.ended.store(if failed { 2 } else { 1 }, Relaxed);
        }
        match self.ended.load(Relaxed) {
            1 => Ok(()),
            _ => Err(EIO),
        }
    }

    /// ERROR.
    ///
    /// # Errors
    ///
    /// `ENODATA`, `EIO` as ERROR.
    pub(crate) fn take_failure(&self, call: &Call<'_, '_>) -> Result<(Failure, u32)> {
        let channel = self.channel(call.context().channel())?;
        let _control = self.control.lock();

        self.check_ready().map_err(|_| call.after_reset())?;
        // It may have halted by itself, and is to be disabled first.
        if channel.is_stopped() && self.regs.stop_queue(channel.index()).is_err() {
            self.want_reset(call, Why::QueueStuck);
            return Err(call.after_reset());
        }
        let (failure, is_stopped) = channel.take_failure();
        if is_stopped {
            let vector = Self::vector_of(channel.index(), self.vectors(call));

            channel.start(&self.regs, vector)?;
        }
        Ok(failure.ok_or(accel::errno::ENODATA)?)
    }

    /// Has the card forget what it remembers of `range`, or all, of address space `id`. When this
    /// has succeeded the card cannot reach what was there, unless the tables still say so.
    ///
    /// # Errors
    ///
    /// [`accel::Lent::after_reset`] when the card does not do so before it is reset.
    pub(crate) fn invalidate(
        &self,
        lent: &Lent<'_, '_>,
        id: u16,
        range: Option<(u64, u64)>,
    ) -> Result {
        let _control = self.control.lock();

        self.check_ready().map_err(|_| lent.after_reset())?;
        let result = match range {
            Some((start, end)) => self.regs.invalidate_range(id, start, end),
            None => self.regs.invalidate_id(id),
        };
        result.map_err(|_| {
            self.want_reset(lent, Why::TlbStuck);
            lent.after_reset()
        })
    }

    /// Zeroes pieces of the card's memory.
    ///
    /// # Errors
    ///
    /// `EIO` when the card cannot; those of [`go_on`].
    pub(crate) fn scrub(&self, lent: &Lent<'_, '_>, pieces: &[Extent]) -> Result {
        let mut next: Option<Extent> = None;

        for piece in pieces {
            next = match next {
                // Pieces that follow each other are scrubbed at a time.
                Some(before)
                    if before.offset + before.size == piece.offset
                        && before.size + piece.size <= regs::SCRUB_BYTES =>
                {
                    Some(Extent {
                        offset: before.offset,
                        size: before.size + piece.size,
                    })
                }
                Some(before) => {
                    self.scrub_one(lent, before)?;
                    Some(*piece)
                }
                None => Some(*piece),
            };
        }
        match next {
            Some(last) => self.scrub_one(lent, last),
            None => Ok(()),
        }
    }

    fn scrub_one(&self, lent: &Lent<'_, '_>, piece: Extent) -> Result {
        // There may be thousands.
        go_on(lent)?;
        // Given back between two pieces: others have little to do, but often.
        let _control = self.control.lock();

        self.check_ready()?;
        self.regs.scrub(piece.offset, piece.size).map_err(|_| {
            self.want_reset(lent, Why::ScrubberStuck);
            EIO
        })
    }

    /// Asks for a reset. The control is held.
    fn want_reset(&self, lent: &Lent<'_, '_>, why: Why) {
        if why != Why::QueueStuck {
            self.serious.store(1, Relaxed);
        }
        if self.wanted.xchg(1, Relaxed) == 0 {
            self.log.reset(lent.parent(), why.text());
        }
        lent.request_reset(why.cause());
    }

    /// Resets the card and starts the queues again. Ends all jobs: those that are complete as the
    /// card says, the others as failed. Nobody calls meanwhile, but interrupts come.
    ///
    /// # Errors
    ///
    /// `EIO` when the card has failed for good.
    pub(crate) fn reset(&self, lent: &Lent<'_, '_>, cause: Cause) -> Result<Contexts> {
        let mut control = self.control.lock();
        let now = accel::now_ns();

        self.wanted.store(0, Relaxed);
        if cause == Cause::User
            || self.progress.xchg(0, Relaxed) != 0
            || now.saturating_sub(control.last_reset) > CALM_NS
        {
            control.in_vain = 0;
        }
        if self.serious.xchg(0, Relaxed) != 0 {
            control.in_vain = control.in_vain.saturating_add(1);
        }
        control.last_reset = now;
        for channel in &self.channels {
            channel.hold();
        }
        let reset = if control.in_vain > RESETS_IN_VAIN {
            Err(EIO)
        } else if self.regs.is_there() {
            self.regs.reset()
        } else {
            Err(ENODEV)
        };
        if let Err(err) = reset {
            self.die(lent, err);
            return Err(EIO);
        }
        self.resets.fetch_add(1, Relaxed);
        // Nobody knows what has become of the memory of a card that was dead.
        let revived = self.dead.xchg(0, Relaxed) != 0;
        if revived {
            lent.start_dma();
        }
        Ok(self.begin_again(lent, &mut control, revived))
    }

    /// Has a card that was just reset go on, or, if its memory is `lost`, end what there was.
    fn begin_again(&self, lent: &Lent<'_, '_>, control: &mut Control, lost: bool) -> Contexts {
        self.restart_events();
        for channel in &self.channels {
            if lost {
                channel.conclude(End::Reset);
                channel.give_up();
            } else {
                self.restart(lent, channel);
            }
            if let Some(space) = channel.release() {
                control.queues.release_id(channel.index());
                control.spaces.release_id(space.id().into());
                space.free(self);
            }
        }
        if lost {
            Contexts::Lost
        } else {
            Contexts::Kept
        }
    }

    /// Stops all queues. Jobs that run have [`SLEEP_NS`] nanoseconds to end before the system sleeps,
    /// and [`SHUTDOWN_NS`] before it goes down; those that are left, and those that were to wait for
    /// a doorbell, are cancelled.
    ///
    /// # Errors
    ///
    /// `EBUSY` when there are jobs and it is only that nobody calls, and when the card is to be
    /// reset first.
    pub(crate) fn suspend(&self, lent: &Lent<'_, '_>, sleep: Sleep) -> Result {
        let begin = accel::now_ns();
        let end = begin.saturating_add(match sleep {
            Sleep::Shutdown => SHUTDOWN_NS,
            _ => SLEEP_NS,
        });
        let mut busy = begin;

        loop {
            let mut is_busy = false;
            let mut has_jobs = false;

            for channel in &self.channels {
                is_busy |= self.reap(lent, channel);
                if channel.pending() > 0 {
                    has_jobs = true;
                    is_busy = is_busy || self.regs.queue_is_running(channel.index());
                }
            }
            if !has_jobs {
                break;
            }
            if sleep == Sleep::Idle {
                return Err(EBUSY);
            }
            let now = accel::now_ns();
            if is_busy {
                busy = now;
            }
            if now >= end || now.saturating_sub(busy) >= STALL_NS {
                break;
            }
            fsleep(Delta::from_millis(1));
        }
        let _control = self.control.lock();
        if self.check_ready().is_err() && sleep != Sleep::Shutdown {
            return Err(EBUSY);
        }
        // All begin to stop before the first is waited for.
        for channel in &self.channels {
            if channel.hold() {
                let _ = self.regs.begin_stop(channel.index());
            }
        }
        for channel in &self.channels {
            if channel.hold() && self.regs.stop_queue(channel.index()).is_err() {
                // It starts the others, too.
                self.want_reset(lent, Why::QueueStuck);
                return Err(EBUSY);
            }
            channel.conclude(End::Stop);
        }
        self.slept.store(self.regs.time(), Relaxed);
        Ok(())
    }

    /// Has the card go on. Sleep has reset it, but kept its memory, unless it had no power.
    ///
    /// # Errors
    ///
    /// `EIO` when it does not work as it should; `ENODEV` when it is gone.
    pub(crate) fn resume(&self, lent: &Lent<'_, '_>) -> Result<Contexts> {
        let mut control = self.control.lock();

        if !self.regs.is_there() {
            return Err(ENODEV);
        }
        // Also where it did not sleep after all.
        self.regs.reset()?;
        let had_power = self.regs.time() >= self.slept.load(Relaxed);

        Ok(self.begin_again(lent, &mut control, !had_power))
    }

    /// Has the card go on with a channel after a reset. The control is held.
    fn restart(&self, lent: &Lent<'_, '_>, channel: &Channel) {
        if let Some((id, root)) = channel.space() {
            let _ = self.regs.set_root(id, Some(root));
        }
        if channel.conclude(End::Reset) {
            self.start(lent, channel);
        }
    }

    fn restart_events(&self) {
        let mut events = self.events.lock();

        if events.restart().is_ok() {
            let (address, entries) = events.place();

            self.regs.set_event_ring(address, entries);
        }
    }

    /// Gives the card up. The control is held.
    fn die(&self, lent: &Lent<'_, '_>, err: Error) {
        dev_err!(
            lent.parent(),
            "resets do not help ({}): given up\n",
            err.to_errno()
        );
        self.dead.store(1, Relaxed);
        lent.stop_dma();
        for channel in &self.channels {
            channel.conclude(End::Reset);
            channel.give_up();
        }
    }
}

/// Whether a call with much to do may go on.
///
/// # Errors
///
/// `ENODEV` when the device is going; [`accel::Lent::after_reset`] when something else waits for the
/// call.
pub(crate) fn go_on(lent: &Lent<'_, '_>) -> Result {
    lent.go_on().map_err(|err| {
        if err == EAGAIN {
            lent.after_reset()
        } else {
            err
        }
    })
}

/// Takes the first id of `pool` from `first` on that is below `end`.
fn find(pool: &mut IdPool, first: usize, end: usize) -> Option<usize> {
    // Behind its end a pool may not be asked.
    if first >= end {
        return None;
    }
    pool.find_unused_id(first)
        .filter(|id| id.as_usize() < end)
        .map(|id| id.acquire())
}
