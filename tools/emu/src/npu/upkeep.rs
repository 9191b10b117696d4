// SPDX-License-Identifier: GPL-2.0
//! What takes longer than a register access may: resets, queues that stop, and what is left of
//! invalidations and scrubs. One thread does it, in this order.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::Card;
use super::inject::Stuck;
use super::mmu::What;
use super::regs::{BUSY, ERROR};
use super::scheduler::{Fatal, Mode, State};
use super::sensors::Sensors;

/// How long a register access may take to do the work itself.
const AT_ONCE: Duration = Duration::from_millis(1);
/// The least time that a reset takes.
const BOOT: Duration = Duration::from_millis(3);
/// After this time a reset waits no longer for engines.
const PATIENCE: Duration = Duration::from_millis(30);
/// Bytes that are scrubbed before looking whether there is something else.
const CHUNK: u64 = 256 << 10;

const PAGE: u64 = 4096;

/// Work that a register starts.
#[derive(Debug, Default)]
enum Work<T> {
    #[default]
    Idle,
    /// Somebody does it now.
    InHands,
    /// For the thread here.
    Left(T),
    /// It was told never to end.
    Stuck,
}

impl<T> Work<T> {
    fn is_idle(&self) -> bool {
        matches!(self, Work::Idle)
    }

    fn take(&mut self) -> Option<T> {
        match std::mem::replace(self, Work::InHands) {
            Work::Left(work) => Some(work),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// The registers of scrubber and TLB.
#[derive(Debug, Default)]
pub struct Upkeep {
    pub scrub_offset: u64,
    pub scrub_size: u64,
    scrub: Work<Range<u64>>,
    scrub_error: bool,
    pub tlb_start: u64,
    pub tlb_end: u64,
    pub tlb_id: u32,
    tlb: Work<What>,
    tlb_error: bool,
}

fn control(idle: bool, error: bool) -> u64 {
    u64::from(if idle { 0 } else { BUSY } | if error { ERROR } else { 0 })
}

impl Upkeep {
    /// SCRUB_CONTROL, read.
    pub fn scrub_control(&self) -> u64 {
        control(self.scrub.is_idle(), self.scrub_error)
    }

    /// TLB_INVALIDATE, read.
    pub fn tlb_invalidate(&self) -> u64 {
        control(self.tlb.is_idle(), self.tlb_error)
    }
}

/// What a reset is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    PowerOn,
    /// FLR, or the way back from D3hot.
    Function,
    Control,
}

impl Card {
    /// Everything stops; the card boots again in the background.
    pub fn begin_reset(&self, cause: Cause) {
        log::info!("reset: {cause:?}");
        self.counters.resets.fetch_add(1, Relaxed);
        let by_control = cause == Cause::Control;
        let now = Instant::now();
        let mut state = self.state.lock();
        state.reset(Mode::Resetting {
            since: now,
            by_control,
            stuck: by_control && self.inject.sticks(Stuck::Reset),
            quiet: false,
        });
        self.mmu.forget_roots();
        *self.events.lock() = Default::default();
        if cause == Cause::PowerOn {
            state.forget_busy();
            self.mmu.forget_counts();
            *self.sensors.lock() = Sensors::new(now);
            *self.power_on.lock() = now;
            self.inject.clear();
        }
        drop(state);
        self.upkeep.notify_one();
    }

    /// Everything stops until a reset.
    pub fn begin_sleep(&self) {
        self.state.lock().reset(Mode::Asleep);
        self.mmu.forget_roots();
        *self.events.lock() = Default::default();
    }

    /// SCRUB_CONTROL = 1.
    pub fn scrub(&self) {
        let mut state = self.state.lock();
        let upkeep = &mut state.upkeep;
        if !upkeep.scrub.is_idle() {
            return;
        }
        let (start, size) = (upkeep.scrub_offset, upkeep.scrub_size);
        let end = start.checked_add(size);
        let end = end.filter(|&end| end <= self.memory.size());
        upkeep.scrub_error = end.is_none() || start % PAGE != 0 || size % PAGE != 0;
        let Some(end) = end.filter(|_| !upkeep.scrub_error) else {
            return;
        };
        if self.inject.sticks(Stuck::Scrub) {
            upkeep.scrub = Work::Stuck;
            return;
        }
        upkeep.scrub = Work::InHands;
        let epoch = state.epoch;
        drop(state);
        let left = self.scrub_until(start..end, Instant::now() + AT_ONCE);
        self.scrubbed(&mut self.state.lock(), epoch, left);
    }

    fn scrubbed(&self, state: &mut State, epoch: u64, left: Option<Range<u64>>) {
        if state.epoch != epoch {
            return;
        }
        state.upkeep.scrub = left.map_or(Work::Idle, Work::Left);
        if !state.upkeep.scrub.is_idle() {
            self.upkeep.notify_one();
        }
    }

    /// Zeroes until `deadline`, but some in any case. Returns what is left.
    fn scrub_until(&self, range: Range<u64>, deadline: Instant) -> Option<Range<u64>> {
        let mut start = range.start;
        while start < range.end {
            let size = CHUNK.min(range.end - start);
            if self.memory.zero(start, size as usize).is_err() {
                log::error!("the scrubber left the memory at {start:#x}");
                return None;
            }
            start += size;
            if start < range.end && Instant::now() >= deadline {
                return Some(start..range.end);
            }
        }
        None
    }

    /// Writes TLB_INVALIDATE.
    pub fn invalidate(&self, value: u64) {
        let mut state = self.state.lock();
        let upkeep = &mut state.upkeep;
        if !upkeep.tlb.is_idle() {
            return;
        }
        let what = match value {
            1 => Some(What::All),
            2 => Some(What::Id(upkeep.tlb_id)),
            3 => Some(What::Range {
                id: upkeep.tlb_id,
                start: upkeep.tlb_start,
                end: upkeep.tlb_end,
            }),
            _ => None,
        };
        upkeep.tlb_error = what.is_none();
        let Some(what) = what else {
            return;
        };
        self.counters.invalidations.fetch_add(1, Relaxed);
        if self.inject.sticks(Stuck::Tlb) {
            upkeep.tlb = Work::Stuck;
            return;
        }
        upkeep.tlb = Work::InHands;
        let epoch = state.epoch;
        drop(state);
        let done = self.mmu.invalidate_within(what, AT_ONCE);
        let mut state = self.state.lock();
        if state.epoch == epoch {
            state.upkeep.tlb = if done { Work::Idle } else { Work::Left(what) };
            if !done {
                self.upkeep.notify_one();
            }
        }
    }

    /// What the thread does.
    pub fn keep_up(self: &Arc<Self>) {
        let mut state = self.state.lock();
        while !state.is_ending() {
            if let Mode::Resetting { .. } = state.mode {
                self.go_on_resetting(&mut state);
                continue;
            }
            let stopping = state.stopping();
            if !stopping.is_empty() {
                // Workers look whether to go on, too. But on a busy machine one that computes may
                // have to wait long for a processor, and here nobody does.
                MutexGuard::unlocked(&mut state, || self.mmu.drain());
                state.stopped(stopping);
            } else if let Some(what) = state.upkeep.tlb.take() {
                let epoch = state.epoch;
                MutexGuard::unlocked(&mut state, || self.mmu.invalidate(what));
                if state.epoch == epoch {
                    state.upkeep.tlb = Work::Idle;
                }
            } else if let Some(range) = state.upkeep.scrub.take() {
                let epoch = state.epoch;
                let left =
                    MutexGuard::unlocked(&mut state, || self.scrub_until(range, Instant::now()));
                self.scrubbed(&mut state, epoch, left);
            } else {
                self.upkeep.wait(&mut state);
            }
        }
    }

    /// Does what a reset can do now, or waits.
    fn go_on_resetting(self: &Arc<Self>, state: &mut MutexGuard<'_, State>) {
        let Mode::Resetting {
            since,
            stuck,
            by_control,
            quiet,
        } = state.mode
        else {
            return;
        };
        let now = Instant::now();
        let age = now.saturating_duration_since(since);
        if !quiet {
            // Who was aborted before this begins no access after it.
            let epoch = state.epoch;
            MutexGuard::unlocked(state, || self.mmu.invalidate(What::All));
            if state.epoch == epoch {
                state.mode = Mode::Resetting {
                    since,
                    stuck,
                    by_control,
                    quiet: true,
                };
            }
        } else if state.has_stragglers() && age < PATIENCE {
            self.upkeep.wait_until(state, since + PATIENCE);
        } else if state.has_stragglers() {
            self.replace_stragglers(state);
        } else if stuck {
            self.upkeep.wait(state);
        } else if age < BOOT {
            self.upkeep.wait_until(state, since + BOOT);
        } else {
            state.mode = Mode::Ready;
            log::info!("ready");
            if self.sensors.lock().too_hot() {
                MutexGuard::unlocked(state, || self.fatal(Fatal::Thermal));
            }
        }
    }
}
