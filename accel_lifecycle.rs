// SPDX-License-Identifier: GPL-2.0

//! The state of a device, and what calls do that find it in another than operational.
//!
//! The gate is blocked in every state but [`State::Operational`]: both change within one section of
//! the state's lock, so that who finds the gate blocked finds the reason in the state.
//!
//! ```text
//!                  open, mmap  ioctl             registers         release
//!  Resetting       EAGAIN      waits for the end waits for the end waits, then closes
//!  NeedsReset      EIO         EIO               SIGBUS            closes
//!  Malfunction     EIO         EIO               SIGBUS            closes
//!  Suspended, idle wake it     wakes it          wake it           wakes it, then closes
//!   , by the system wait for the end             wait for the end  waits, then closes
//!  going           ENODEV      ENODEV            SIGBUS            left to the end
//! ```
//!
//! mmap is that of what the driver shows. From an error of the bus until the device has been reset for
//! it a release waits in whatever state it is, and so it does for ever when the system has gone down:
//! to close a context is to have to do with the hardware.
//!
//! They wait outside of the gate, on the device's own queue, which every change that lets them go on
//! wakes, and the end of the device.

use crate::{
    bindings::{
        pages::fatal_signal_pending,
        slot::{
            Guard,
            Kind,
            Lifecycle, //
        },
        uapi, //
    },
    device::Device,
    file::File,
    reset::DRAIN_WARN_MS,
    state::{
        Cause,
        Change,
        Refused,
        Resets,
        State,
        StateMachine, //
    },
    sysfs, //
};
use kernel::{
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// How long a page fault on registers waits before it is tried again.
const FAULT_AGAIN: Delta = Delta::from_millis(5);

impl Device {
    /// Enters to reach the driver; waits for the end of a reset, wakes a device that was idle.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the device is going; `EIO` when it does not compute until it is reset;
    /// `ERESTARTSYS` when a signal came.
    #[inline(always)]
    pub(crate) fn enter(&self, kind: Kind) -> Result<Guard<'_>> {
        loop {
            if let Some(guard) = self.slot().enter(kind) {
                return Ok(guard);
            }
            self.wait_unblocked(true)?;
        }
    }

    /// Enters for what is not to wait for a reset: to make a context; and with `mmap_lock` held, which
    /// everybody needs who looks at the process.
    ///
    /// # Errors
    ///
    /// As [`Self::enter`]; `EAGAIN` while the device is reset, or is about to be.
    pub(crate) fn enter_now(&self, kind: Kind) -> Result<Guard<'_>> {
        loop {
            if let Some(guard) = self.slot().enter(kind) {
                return Ok(guard);
            }
            self.wait_unblocked(false)?;
        }
    }

    /// Waits until it is worth while to try again what has found the gate blocked. With `resets`, also
    /// for their end; without, `EAGAIN`.
    #[cold]
    #[inline(never)]
    fn wait_unblocked(&self, resets: bool) -> Result {
        let slot = self.slot();
        let is_reset = || !resets && self.machine().is_resetting();
        let decided = || {
            slot.is_closing()
                || !slot.is_blocked()
                || self.state().is_broken()
                || self.is_wakeable()
                || is_reset()
        };

        if !decided() {
            self.changed().wait_until(i64::MAX, decided)?;
        }
        if slot.is_closing() {
            return Err(ENODEV);
        }
        if slot.is_blocked() && self.state().is_broken() {
            return Err(EIO);
        }
        if slot.is_blocked() && is_reset() {
            return Err(EAGAIN);
        }
        if self.is_wakeable() {
            self.wake_idle();
        }
        Ok(())
    }

    /// Waits until no reset is asked for, nor in progress.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the device is going; `ERESTARTSYS` when a signal came.
    #[cold]
    #[inline(never)]
    pub(crate) fn wait_for_reset(&self) -> Result {
        let slot = self.slot();
        let decided = || slot.is_closing() || !self.machine().is_resetting();

        self.changed().wait_until(i64::MAX, decided)?;
        if slot.is_closing() {
            return Err(ENODEV);
        }
        Ok(())
    }

    /// For a page fault that has found the gate blocked, and holds nothing any more: waits until it
    /// is worth while to try it again, or a signal comes.
    pub(crate) fn wait_for_fault(&self) {
        // Tried again, it finds out.
        let _ = self.wait_unblocked(true);
    }

    /// For one that holds `mmap_lock`: whether it should be tried again. Waits a moment if so.
    pub(crate) fn will_unblock(&self) -> bool {
        if self.slot().is_closing() || self.state().is_broken() || fatal_signal_pending() {
            return false;
        }
        if self.is_wakeable() {
            self.wake_idle();
        } else {
            fsleep(FAULT_AGAIN);
        }
        true
    }

    /// Whether a call that has entered may take its time.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the device is going; `EAGAIN` when something else waits for the call.
    pub(crate) fn go_on(&self) -> Result {
        if self.slot().is_closing() {
            return Err(ENODEV);
        }
        if self.slot().is_blocked() {
            return Err(EAGAIN);
        }
        Ok(())
    }

    /// Ends the context of a file that is being released, and takes it off the list; or leaves both
    /// to the end of the device, if that has begun.
    pub(crate) fn release(&self, file: &File) {
        if let Some(guard) = self.slot().enter(Kind::RELEASE) {
            guard.close(file);
            self.remove_file(file);
        // In whatever state it is, but not while it is reset, or put to sleep.
        } else if let Some(lifecycle) = self.wait_reachable() {
            lifecycle.close(file);
            self.remove_file(file);
        }
    }

    /// Waits until the driver may have to do with the hardware: not while the system sleeps, nor from
    /// an error of the bus to the reset after it. Wakes an idle device. Nothing when the device is
    /// going.
    fn wait_reachable(&self) -> Option<Lifecycle<'_>> {
        let slot = self.slot();

        loop {
            self.changed()
                .wait_for(|| slot.is_closing() || self.power().is_reachable());
            let lifecycle = slot.lifecycle()?;

            if self.power().is_reachable() {
                self.wake_idle_with(&lifecycle);
            }
            // It may have begun again, or the device did not wake.
            if self.power().is_reachable() {
                return Some(lifecycle);
            }
            if slot.is_closing() {
                return None;
            }
        }
    }

    /// Has all contexts be lost, in a reset for `cause`.
    pub(crate) fn lose_contexts(&self, lifecycle: &Lifecycle<'_>, cause: Cause) {
        let _ = self.try_for_each_file(|file| {
            if lifecycle.lose(file) {
                file.lose_context(cause);
            }
            Ok(())
        });
    }

    /// What the device can do now.
    pub(crate) fn state(&self) -> State {
        self.machine().state()
    }

    /// The change that led to the present state, and how many resets there were.
    pub(crate) fn status(&self) -> (Change, u64) {
        let machine = self.machine();

        (machine.last(), machine.resets_total())
    }

    /// Resets for `cause`.
    pub(crate) fn resets(&self, cause: Cause) -> Resets {
        self.machine().resets(cause)
    }

    /// Changes the state, and whom the gate lets in. Does not sleep.
    pub(crate) fn change(&self, to: State, cause: Cause) -> Result<(), Refused> {
        self.change_by(|machine, at_ns| machine.change(to, cause, at_ns))
            .map(|_| ())
    }

    /// As [`Self::change`], to what `decide` makes of the state; it is given the time.
    pub(crate) fn change_by<E>(
        &self,
        decide: impl FnOnce(&mut StateMachine, i64) -> Result<Change, E>,
    ) -> Result<Change, E> {
        let mut machine = self.machine();
        let change = decide(&mut machine, crate::now_ns())?;
        let is_operational = change.to == State::Operational;

        if is_operational {
            // Not by a reset that goes on while the system goes down.
            if self.power().allows_reset() {
                self.slot().unblock();
            }
        } else {
            self.slot().block();
        }
        drop(machine);

        self.changed().wake_all();
        if change.to.is_decided() {
            self.slot().store_work().queue();
        }
        if is_operational {
            self.check_later();
            self.rest_later();
        }
        Ok(change)
    }

    /// The driver says that only a reset, if anything, will help.
    pub(crate) fn give_up(&self, state: State) {
        if self.change(state, Cause::Driver).is_ok() {
            self.slot().reset_work().queue();
        }
    }

    /// Waits for who is inside, and unmaps the registers: nobody maps them again before the gate,
    /// which is blocked, is open. `what` is for the log.
    pub(crate) fn cut_off(&self, lifecycle: &Lifecycle<'_>, what: &str) {
        lifecycle.drain(DRAIN_WARN_MS, |name, count| {
            dev_warn!(
                self.parent(),
                "accel{}: {} waits for {} in '{}'\n",
                self.number(),
                what,
                count,
                name
            );
        });
        self.inode().zap_below(uapi::ACCEL_MMAP_BUFFERS);
    }

    /// Tells of what has changed since this was called last; whether there was anything. To be called
    /// by who has the lifecycle.
    pub(crate) fn tell_changes(&self) -> bool {
        let mut told = false;

        while let Some(change) = self.tell_next() {
            sysfs::tell_uevent(self, &change);
            told = true;
        }
        told
    }
}
