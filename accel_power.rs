// SPDX-License-Identifier: GPL-2.0

//! Sleep: with the system, when nobody needs the device, and for ever; and errors of the bus, during
//! which it is as good as asleep.
//!
//! ```text
//!  the system sleeps, nobody calls,    ─► the gate is blocked ─► wait for calls that are in the driver
//!  the system goes down                ─► unmap what the driver has mapped ─► Driver::suspend
//!                                      ─► Suspended; idle: let go of the parent
//!
//!  the system wakes, somebody calls    ─► idle: wake the parent ─► Driver::resume
//!                                      ─► contexts lost? say so ─► Operational; or a reset
//! ```
//!
//! The state is changed when the driver has done it: a device whose driver refuses to sleep has not
//! changed, only calls had to wait. All of it is done by who has the lifecycle, so no reset, check
//! or alarm comes between.
//!
//! Whether somebody needs the device is what the gate counts: those who enter to reach the driver.
//! Monitors do not count, and do not wake it. Registers that are mapped are used without the gate;
//! it is for the driver to say that they have been, and for the first touch after they were unmapped
//! to wake the device.
//!
//! The parent is let go of with each idle accelerator on it, and so sleeps when all do. For PCI that
//! is D3hot. What the bus itself holds while a driver is bound is given back for that time, see
//! [`Device::bus_lets_go`].

use crate::{
    bindings::{
        power::Resting,
        slot::Lifecycle, //
    },
    device::Device,
    reset::{
        Contexts,
        NSEC_PER_MSEC, //
    },
    state::{
        Cause,
        State, //
    }, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full,
        Relaxed,
        Release, //
    }, //
};

/// Why a device is to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Sleep {
    /// Nobody has called for a while. The first who does wakes it.
    Idle,
    /// The system sleeps. It wakes with it.
    System,
    /// The system goes down: for ever.
    Shutdown,
}

/// How often is looked whether a device is idle, at least: its delay can be changed meanwhile.
const LOOK_MS: i64 = 1000;

/// How long a device that was not to sleep after all is left alone, at least.
const REFUSED_MS: i64 = 100;

/// How long the end of the system waits for a reset, and for calls that are in the driver, in
/// milliseconds.
const SHUTDOWN_MS: usize = 2000;

/// How a device sleeps. Changed by who has the lifecycle, but for what says otherwise.
pub(crate) struct Power {
    /// Milliseconds without a call before it sleeps, at first; 0 for never.
    autosuspend_ms: u32,
    /// The driver has put it to sleep: it is not to be called for it.
    asleep: Atomic<bool>,
    /// The parent was let go of.
    resting: Atomic<bool>,
    /// The system sleeps, or goes down: nothing wakes the device, nor resets it.
    system: Atomic<bool>,
    /// The bus has trouble with it, which has not ended. It ends under the lock of the parent alone.
    trouble: Atomic<bool>,
    /// It has ended, or the device did not wake: it is to be reset before its driver is called again.
    /// Set for the former under the lock of the parent alone.
    unready: Atomic<bool>,
    /// What the bus holds was given back. Under the lock of the parent.
    lent_by_bus: Atomic<bool>,
    /// How many calls there had been when that was looked at last, and when there was a new one:
    /// `CLOCK_MONOTONIC` in nanoseconds. For the work that looks only.
    calls: Atomic<usize>,
    since_ns: Atomic<i64>,
}

impl Power {
    pub(crate) fn new(autosuspend_ms: u32) -> Self {
        Self {
            autosuspend_ms,
            asleep: Atomic::new(false),
            resting: Atomic::new(false),
            system: Atomic::new(false),
            trouble: Atomic::new(false),
            unready: Atomic::new(false),
            lent_by_bus: Atomic::new(false),
            calls: Atomic::new(0),
            since_ns: Atomic::new(0),
        }
    }

    /// Milliseconds without a call before it sleeps, at first; 0 for never.
    pub(crate) fn autosuspend_ms(&self) -> u32 {
        self.autosuspend_ms
    }

    /// Whether the driver is not to be called for interrupts and alarms.
    pub(crate) fn is_quiet(&self) -> bool {
        // In this order: the end of trouble is the release of `unready`.
        self.asleep.load(Relaxed) || self.trouble.load(Acquire) || self.unready.load(Relaxed)
    }

    /// Whether the device can be reset, as far as its power is concerned.
    pub(crate) fn allows_reset(&self) -> bool {
        !self.system.load(Relaxed) && !self.trouble.load(Relaxed)
    }

    /// Whether the driver may have to do with the hardware, though it may be asleep.
    pub(crate) fn is_reachable(&self) -> bool {
        // In this order, as in `is_quiet`.
        !self.system.load(Relaxed) && !self.trouble.load(Acquire) && !self.unready.load(Relaxed)
    }

    /// Whether it is to be reset before its driver is called again. Once.
    pub(crate) fn take_unready(&self) -> bool {
        self.unready.xchg(false, Full)
    }
}

impl Device {
    /// Looks in a while whether the device is idle, if it may sleep then.
    pub(crate) fn rest_later(&self) {
        if self.power().autosuspend_ms == 0 {
            return;
        }
        self.rest_after(1);
    }

    /// As [`Self::rest_later`], not before `least_ms`, for one that may.
    fn rest_after(&self, least_ms: i64) {
        let delay_ms = self.parent().rest_delay_ms().unwrap_or(LOOK_MS);
        let after_ns = delay_ms.clamp(least_ms, LOOK_MS) * NSEC_PER_MSEC;

        self.slot().rest_work().queue_at(crate::now_ns() + after_ns);
    }

    /// Whether this is the one for which the parent's bus gives back what it holds: the first on the
    /// parent that may sleep when it is idle. Or (not `go`) whether it was. The parent's lock is held.
    pub(crate) fn bus_lets_go(&self, go: bool) -> bool {
        let power = self.power();

        (power.autosuspend_ms > 0 || !go) && power.lent_by_bus.xchg(go, Full) != go
    }

    /// Puts the device to sleep, because the system is about to.
    ///
    /// # Errors
    ///
    /// `EBUSY` while the bus has trouble with it; the driver's.
    pub(crate) fn sleep(&self) -> Result {
        let Some(lifecycle) = self.slot().lifecycle() else {
            return Ok(());
        };

        match self.state() {
            State::Operational => {
                self.suspend(&lifecycle, Sleep::System)?;
                self.tell_changes();
            }
            State::Resetting => return Err(EBUSY),
            // It sleeps already, or is of no use.
            _ => (),
        }
        self.power().system.store(true, Relaxed);
        Ok(())
    }

    /// The system is awake again, or did not sleep after all.
    pub(crate) fn wake(&self) {
        let Some(lifecycle) = self.slot().lifecycle() else {
            return;
        };

        self.power().system.store(false, Relaxed);
        if self.sleeps_for(Cause::System) {
            self.resume(&lifecycle, Cause::System);
        }
        // What was asked for meanwhile, and who waits to wake it.
        self.slot().reset_work().queue();
        self.slot().store_work().queue();
        self.changed().wake_all();
    }

    /// Has the device do nothing any more: the system goes down.
    pub(crate) fn shut_down(&self) {
        let lifecycle = self.slot().lifecycle_within(SHUTDOWN_MS);
        let power = self.power();

        // Whoever has the lifecycle waits for a call that hangs, or hangs itself: this does not keep
        // the system from going down.
        let lifecycle = match lifecycle {
            Ok(Some(lifecycle)) => lifecycle,
            Ok(None) => return,
            Err(_) => {
                // In one section, as the change that would open the gate.
                let machine = self.machine();

                power.system.store(true, Relaxed);
                self.slot().block();
                drop(machine);
                self.stop_dma();
                return;
            }
        };

        power.system.store(true, Relaxed);
        if self.state() == State::Operational {
            self.slot().block();
            // Nor does a call that hangs.
            if lifecycle.drain_for(SHUTDOWN_MS) {
                // It is for ever, whatever the driver says.
                let _ = lifecycle.suspend(self, Sleep::Shutdown);
            }
            power.asleep.store(true, Relaxed);
            lifecycle.synchronize_interrupts();
            let _ = self.change(State::Suspended, Cause::System);
        }
        // What rests accesses no memory.
        if !power.resting.load(Relaxed) {
            self.stop_dma();
        }
        self.tell_changes();
    }

    /// Wakes a device that sleeps because it was idle; nothing if it does not any more.
    ///
    /// Not to be called inside the gate.
    pub(crate) fn wake_idle(&self) {
        if let Some(lifecycle) = self.slot().lifecycle() {
            self.wake_idle_with(&lifecycle);
        }
    }

    /// As [`Self::wake_idle`], for who has the lifecycle.
    pub(crate) fn wake_idle_with(&self, lifecycle: &Lifecycle<'_>) {
        if self.is_wakeable() {
            self.power_up();
            self.resume(lifecycle, Cause::Idle);
        }
    }

    /// Whether the device sleeps because it was idle: whoever needs it wakes it.
    pub(crate) fn is_wakeable(&self) -> bool {
        let power = self.power();

        self.sleeps_for(Cause::Idle) && power.asleep.load(Relaxed) && power.allows_reset()
    }

    fn sleeps_for(&self, cause: Cause) -> bool {
        let last = self.machine().last();

        last.to == State::Suspended && last.cause == cause
    }

    /// Has the hardware awake, for who is about to reset it.
    pub(crate) fn power_up(&self) {
        if self.power().resting.xchg(false, Full) {
            self.parent().hold();
        }
        self.power().asleep.store(false, Relaxed);
    }

    /// Has the driver put the device to sleep. It is operational.
    fn suspend(&self, lifecycle: &Lifecycle<'_>, sleep: Sleep) -> Result {
        let cause = match sleep {
            Sleep::Idle => Cause::Idle,
            Sleep::System | Sleep::Shutdown => Cause::System,
        };

        self.slot().block();
        let done = match sleep {
            // Whoever is inside needs it.
            Sleep::Idle if !lifecycle.drain_for(0) => Err(EBUSY),
            _ => {
                self.cut_off(lifecycle, "sleep");
                lifecycle.suspend(self, sleep)
            }
        };

        if let Err(err) = done {
            self.stay_awake();
            return Err(err);
        }
        self.power().asleep.store(true, Relaxed);
        lifecycle.synchronize_interrupts();
        // Refused if the driver has given the device up meanwhile, which does not wake it either.
        let _ = self.change(State::Suspended, cause);
        Ok(())
    }

    /// Opens the gate again that was blocked for a sleep that is not to be.
    fn stay_awake(&self) {
        let machine = self.machine();

        if machine.state() == State::Operational {
            self.slot().unblock();
        }
        drop(machine);
        self.changed().wake_all();
    }

    /// Has the driver wake the device, whose hardware is awake.
    fn resume(&self, lifecycle: &Lifecycle<'_>, cause: Cause) {
        self.power().asleep.store(false, Relaxed);
        match lifecycle.resume(self) {
            Ok(contexts) => {
                if contexts == Contexts::Lost {
                    self.lose_contexts(lifecycle, Cause::Resume);
                }
                // Refused if the driver has given the device up meanwhile.
                let _ = self.change(State::Operational, cause);
                self.slot().kick_alarm();
            }
            Err(err) => {
                self.power().unready.store(true, Relaxed);
                dev_err!(
                    self.parent(),
                    "accel{}: it does not wake ({})\n",
                    self.number(),
                    err.to_errno()
                );
                self.request_reset(Cause::Resume);
            }
        }
        // Tells.
        self.slot().reset_work().queue();
    }

    /// The device is going: has it awake for its driver's last calls, if it can be woken.
    pub(crate) fn wake_for_end(&self) {
        let Some(lifecycle) = self.slot().lifecycle() else {
            return;
        };

        // With the system asleep there is nobody to talk to.
        if self.power().resting.load(Relaxed) {
            self.power_up();
            if self.sleeps_for(Cause::Idle) {
                // It is the end either way.
                let _ = lifecycle.resume(self);
            }
        }
    }

    /// The bus has trouble: nobody is to access the device until it has recovered.
    pub(crate) fn bus_trouble(&self) {
        let Some(lifecycle) = self.slot().lifecycle() else {
            return;
        };
        let to = match self.can_reset() {
            true => State::Resetting,
            false => State::NeedsReset,
        };

        self.power_up();
        self.power().trouble.store(true, Relaxed);
        // Refused for one that only root may reset, which stays as it is: of no use.
        let _ = self.change(to, Cause::Bus);
        self.cut_off(&lifecycle, "an error of the bus");
        lifecycle.synchronize_interrupts();
        self.tell_changes();
    }

    /// The bus has recovered, or will not: the driver finds out which.
    pub(crate) fn bus_recovered(&self) {
        let power = self.power();

        self.keep_dma_stopped();
        // Nobody else ends it: the parent's lock is held.
        if !power.trouble.load(Relaxed) {
            return;
        }
        power.unready.store(true, Relaxed);
        power.trouble.store(false, Release);
        self.slot().reset_work().queue();
        // Of one that is not reset for it, and stays as it was.
        self.slot().store_work().queue();
    }
}

/// Looks whether anybody has needed the device lately, and puts it to sleep if not.
pub(crate) fn look(device: &Device) {
    let power = device.power();
    let now_ns = crate::now_ns();
    let calls = device.slot().calls();

    if power.calls.xchg(calls, Relaxed) != calls {
        power.since_ns.store(now_ns, Relaxed);
    }
    let since_ns = power
        .since_ns
        .load(Relaxed)
        .max(device.machine().last().at_ns);
    let is_due = |delay_ms: i64| now_ns - since_ns >= delay_ms * NSEC_PER_MSEC;

    let mut least_ms = 1;

    if device.parent().rest_delay_ms().is_some_and(is_due) {
        // If it is not to be now, then not so soon again either: it keeps callers waiting.
        power.since_ns.store(now_ns, Relaxed);
        least_ms = REFUSED_MS;
        rest(device);
    }
    // From its sleep on nobody looks, until it is operational again.
    if device.state() == State::Operational {
        device.rest_after(least_ms);
    }
}

/// Puts the device to sleep if nothing speaks against it.
fn rest(device: &Device) {
    let Some(lifecycle) = device.slot().lifecycle() else {
        return;
    };

    if device.slot().is_closing()
        || device.state() != State::Operational
        || !device.power().allows_reset()
        || device.suspend(&lifecycle, Sleep::Idle).is_err()
    {
        return;
    }
    device.power().resting.store(true, Relaxed);
    device.parent().rest();
    device.tell_changes();
}
