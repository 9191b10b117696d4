// SPDX-License-Identifier: GPL-2.0

//! Resets: who asks for one, and what is done around the driver's.
//!
//! ```text
//!  root, the driver, a deadline,  ─► request ─► one work item
//!  the check, the bus                               │ lifecycle
//!                                                   ▼
//!    Resetting, the gate is blocked ─► wait for calls that are in the driver
//!    ─► unmap what the driver has mapped ─► Driver::reset ─► contexts lost? say so
//!    ─► Operational, the gate is open; or Malfunction
//! ```
//!
//! Whoever asks only leaves a word and queues the work, so that a reset can be asked for from
//! anywhere, also from inside the gate. What is asked for until the driver begins is one reset.
//!
//! The same work tells of changes of the state, which others may have made: in their order, and each
//! at most once, since there is one of it. If there are more than are remembered
//! ([`crate::state::HISTORY`]) before it comes, it tells of the latest of them.

use crate::{
    bindings::{
        slot::Lifecycle,
        wait::now_ns, //
    },
    device::Device,
    state::{
        Cause,
        Refused,
        State, //
    }, //
};
use kernel::prelude::*;

/// How long calls in the driver are waited for before the log says which, in milliseconds.
pub(crate) const DRAIN_WARN_MS: usize = 5000;

pub(crate) const NSEC_PER_MSEC: i64 = 1_000_000;

/// What has become of the contexts in a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contexts {
    /// They go on; jobs may have ended.
    Kept,
    /// What they had on the device is gone: nothing works on them any more but to close them.
    Lost,
}

impl Device {
    /// Asks for a reset, and returns. Does not sleep.
    pub(crate) fn request_reset(&self, cause: Cause) {
        self.machine().request(cause);
        self.slot().reset_work().queue();
    }

    /// Has it checked in a while, if the driver wants it to be. Not later than that, however often it
    /// sleeps and wakes meanwhile.
    pub(crate) fn check_later(&self) {
        if self.check_ms() > 0 {
            let after_ns = i64::from(self.check_ms()) * NSEC_PER_MSEC;

            self.slot().check_work().queue_new_at(now_ns() + after_ns);
        }
    }
}

/// Does what was asked for, and tells of what has changed.
pub(crate) fn run(device: &Device) {
    // Nothing when the device is going: what is told then, its end tells.
    let Some(lifecycle) = device.slot().lifecycle() else {
        return;
    };

    // Otherwise what was asked for is done when the system wakes, or the bus has recovered.
    if device.power().allows_reset() {
        let unready = device.power().take_unready();
        // It is resetting already when the bus had trouble.
        let begun = match unready && device.state() == State::Resetting {
            true => Some(Cause::Bus),
            false => begin(device),
        };

        if let Some(cause) = begun {
            device.tell_changes();
            reset(device, &lifecycle, cause);
        }
        // One that came while the driver was not to be called.
        if begun.is_some() || unready {
            device.slot().kick_alarm();
        }
    }
    // Whoever gave the device up could not wait.
    if device.tell_changes() && device.state().is_broken() {
        device.cut_off(&lifecycle, "the end of use");
    }
    // Those who wait for a reset that there cannot be now.
    device.changed().wake_all();
}

/// Begins a reset, if one is asked for that there can be now. Returns what it is for.
fn begin(device: &Device) -> Option<Cause> {
    let to = match device.can_reset() {
        true => State::Resetting,
        false => State::NeedsReset,
    };
    let begun = device.change_by(|machine, at_ns| {
        let begun = machine
            .requests()
            .iter()
            .find_map(|cause| machine.change(to, cause, at_ns).ok());

        // Those that are asked for while it begins are the same; what cannot be done is forgotten.
        if begun.is_none() || to == State::NeedsReset {
            machine.take_requests();
        }
        begun.ok_or(Refused)
    });

    match begun {
        Ok(change) if change.to == State::Resetting => Some(change.cause),
        _ => None,
    }
}

/// Resets a device that is [`State::Resetting`].
fn reset(device: &Device, lifecycle: &Lifecycle<'_>, cause: Cause) {
    device.cut_off(lifecycle, "reset");
    // What is asked for from here on may be about what this one leaves.
    device.machine().take_requests();
    // Its end waits for us.
    if device.slot().is_closing() {
        return;
    }
    device.power_up();
    match lifecycle.reset(device, cause) {
        Ok(contexts) => {
            if contexts == Contexts::Lost {
                device.lose_contexts(lifecycle, cause);
            }
            // Refused if the driver has given the device up meanwhile.
            let _ = device.change(State::Operational, cause);
        }
        Err(err) => {
            dev_err!(
                device.parent(),
                "accel{}: a reset did not help ({})\n",
                device.number(),
                err.to_errno()
            );
            let _ = device.change(State::Malfunction, cause);
        }
    }
}

/// Has the driver look whether the device is well.
pub(crate) fn check(device: &Device) {
    let Some(lifecycle) = device.slot().lifecycle() else {
        return;
    };

    // It goes on when the device is operational again.
    if device.state() != State::Operational {
        return;
    }
    match lifecycle.check(device) {
        Ok(()) => device.check_later(),
        Err(_) => device.request_reset(Cause::Watchdog),
    }
}
