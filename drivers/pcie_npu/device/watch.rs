// SPDX-License-Identifier: GPL-2.0

//! What the card says, and what is heard of it: interrupts, completions, events, and the regular
//! looks for what they have not told.

use super::{
    Card,
    Why,
    LOOK_NS, //
};
use crate::{
    channel::{
        Channel,
        End, //
    },
    regs::Health,
    ring::{
        Event,
        EVENTS,
        RING_ERROR, //
    },
    Lent, //
};
use kernel::{
    prelude::*,
    sync::atomic::Relaxed, //
};

/// After how long the alarm goes on that was in somebody's way, in nanoseconds.
const YIELD_NS: i64 = 50_000_000;

impl Card<'_> {
    /// Handles interrupt `vector`. Returns whether there was a reason for one.
    pub(crate) fn interrupt(&self, lent: &Lent<'_, '_>, vector: u32) -> bool {
        let vectors = self.vectors(lent);
        let mut handled = vector == 0 && self.take_events(lent);

        // The channels whose `vector_of` this is.
        let (first, step) = match (vectors, vector) {
            (0 | 1, _) => (0, 1),
            (_, 0) => return handled,
            (several, vector) => (vector - 1, several - 1),
        };
        for channel in self
            .channels
            .iter()
            .skip(first as usize)
            .step_by(step as usize)
        {
            handled |= self.reap(lent, channel);
        }
        handled
    }

    /// Ends the jobs of a channel that are complete. Returns whether the card had done anything.
    pub(crate) fn reap(&self, lent: &Lent<'_, '_>, channel: &Channel) -> bool {
        let resets = self.resets.load(Relaxed);

        match channel.reap() {
            Ok(any) => {
                if any {
                    self.progress.store(1, Relaxed);
                }
                any
            }
            Err(_) => {
                self.recover(lent, resets, Why::BadCompletion);
                true
            }
        }
    }

    /// Sees to it that completions are looked for from `now` on, and at the latest at `deadline`.
    pub(crate) fn expect_completions(&self, lent: &Lent<'_, '_>, now: i64, deadline: i64) {
        lent.set_alarm(deadline.min(now.saturating_add(LOOK_NS)));
    }

    /// Looks for completions and events as if all interrupts had come, and for jobs that have lost
    /// their deadline.
    pub(crate) fn alarm(&self, lent: &Lent<'_, '_>) {
        let has_jobs = |channel: &&Pin<KBox<Channel>>| channel.pending() > 0;

        if self.check_alive().is_err() || !self.channels.iter().any(|channel| has_jobs(&channel)) {
            return;
        }
        self.take_events(lent);
        for channel in self.channels.iter().filter(has_jobs) {
            // Each may take a while to stop, and who is about to change the device's state waits.
            if lent.go_on().is_err() {
                lent.set_alarm(accel::now_ns().saturating_add(YIELD_NS));
                return;
            }
            self.reap(lent, channel);
            if channel.deadline().is_some_and(|at| at <= accel::now_ns()) {
                self.expire(lent, channel);
            }
        }
        let deadlines = self
            .channels
            .iter()
            .filter_map(|channel| channel.deadline());
        if let Some(first) = deadlines.min() {
            self.expect_completions(lent, accel::now_ns(), first);
        }
    }

    /// Looks whether the card is well.
    ///
    /// # Errors
    ///
    /// `EIO` when only a reset can help.
    pub(crate) fn check(&self, lent: &Lent<'_, '_>) -> Result {
        let _control = self.control.lock();
        let wrong = match self.regs.health() {
            // It was reset, for the last time.
            _ if self.ended.load(Relaxed) != 0 => return Ok(()),
            Health::Good { .. } if self.regs.has_event_ring(EVENTS) => return Ok(()),
            // A reset of its function, or sleep.
            Health::Good { .. } => "others have reset it",
            Health::Halted(_) => "it has halted",
            Health::Bad => "its status makes no sense",
        };

        self.serious.store(1, Relaxed);
        self.log.reset(lent.parent(), wrong);
        Err(EIO)
    }

    /// Stops a channel one of whose jobs has lost its deadline.
    pub(super) fn expire(&self, lent: &Lent<'_, '_>, channel: &Channel) {
        let _control = self.control.lock();

        if self.check_ready().is_err() {
            return;
        }
        match channel.hold_expired(accel::now_ns()) {
            Ok(true) => self.stop(lent, channel, End::Stop),
            Ok(false) => {}
            Err(_) => self.want_reset(lent, Why::BadCompletion),
        }
    }

    /// Stops a channel that is held, and starts it again if that ended no job. The control is held.
    pub(super) fn stop(&self, lent: &Lent<'_, '_>, channel: &Channel, end: End) {
        if self.regs.stop_queue(channel.index()).is_err() {
            // It stays held until then, and is concluded with all others.
            self.want_reset(lent, Why::QueueStuck);
        } else if channel.conclude(end) {
            self.start(lent, channel);
        }
    }

    pub(super) fn start(&self, lent: &Lent<'_, '_>, channel: &Channel) {
        let vector = Self::vector_of(channel.index(), self.vectors(lent));

        if channel.start(&self.regs, vector).is_err() {
            channel.give_up();
        }
    }

    /// Handles what is in the event ring. Returns whether there was anything.
    pub(super) fn take_events(&self, lent: &Lent<'_, '_>) -> bool {
        let resets = self.resets.load(Relaxed);
        let mut fatal = None;
        let mut halted = 0u64;
        let mut events = self.events.lock();
        let before = events.head();

        // No more than there can be: a card that goes on and on is not waited for.
        for _ in 0..EVENTS {
            match events.next() {
                Ok(Some(Event::QueueHalted { queue, reason })) => {
                    if reason == RING_ERROR {
                        fatal = Some(Why::Ring);
                    } else if (queue as usize) < self.channels.len() {
                        halted |= 1 << queue;
                    } else {
                        self.log
                            .nonsense(lent.parent(), "an event of an unknown queue");
                    }
                }
                Ok(Some(Event::EccCorrected { count, address })) => {
                    self.ecc.fetch_add(count.into(), Relaxed);
                    self.log.ecc(lent.parent(), count, address);
                }
                Ok(Some(Event::EccUncorrected { address })) => {
                    self.log.uncorrected(lent.parent(), address);
                    fatal = Some(Why::Memory);
                }
                Ok(Some(Event::EngineFailure)) => fatal = Some(Why::Engine),
                Ok(Some(Event::Thermal { temperature })) => {
                    self.log.thermal(lent.parent(), temperature);
                    fatal = Some(Why::Heat);
                }
                Ok(Some(Event::Unknown(kind))) => self.log.unknown(lent.parent(), kind),
                Ok(None) | Err(_) => break,
            }
        }
        let any = events.head() != before;
        if any {
            // Before the head is written, which forgets that there were more.
            match self.regs.health() {
                Health::Good { events_lost: true } => {
                    self.log.nonsense(lent.parent(), "events were lost");
                    halted = u64::MAX;
                }
                Health::Halted(_) if fatal.is_none() => fatal = Some(Why::Halted),
                _ => {}
            }
            self.regs.consume_events(events.head());
        }
        drop(events);

        if let Some(why) = fatal {
            self.recover(lent, resets, why);
        }
        for channel in &self.channels {
            if halted & (1 << channel.index()) != 0 {
                self.queue_halted(lent, channel);
            }
        }
        any
    }

    /// Stops a channel whose queue has halted without a completion that says so.
    pub(super) fn queue_halted(&self, lent: &Lent<'_, '_>, channel: &Channel) {
        self.reap(lent, channel);
        let _control = self.control.lock();

        // An event may be old, or a lie.
        if self.check_ready().is_ok()
            && self.regs.queue_halted(channel.index()) == Ok(true)
            && channel.hold()
        {
            self.stop(lent, channel, End::Bus);
        }
    }

    /// Asks for a reset because of something that was seen after `resets` resets.
    pub(super) fn recover(&self, lent: &Lent<'_, '_>, resets: u64, why: Why) {
        let _control = self.control.lock();

        if self.resets.load(Relaxed) == resets {
            self.want_reset(lent, why);
        }
    }
}
