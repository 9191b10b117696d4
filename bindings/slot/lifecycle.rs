// SPDX-License-Identifier: GPL-2.0

//! The lifecycle of a slot: the right to have the driver change the device as a whole, and the rights
//! that end it, one after the other.

use super::{
    name,
    Kind,
    MonitorKind,
    Slot, //
};
use crate::{
    bindings::{
        ops::Erased,
        raw, //
    },
    device::Device,
    file::File,
    power::Sleep,
    reset::Contexts,
    state::Cause, //
};
use kernel::{
    prelude::*,
    sync::MutexGuard, //
};

/// The right to change a device as a whole. There is one at a time, and none once it is going.
pub(crate) struct Lifecycle<'a> {
    pub(super) slot: &'a Slot,
    pub(super) driver: &'a Erased,
    pub(super) _guard: MutexGuard<'a, bool>,
}

impl Lifecycle<'_> {
    /// Waits until nobody is inside but monitors, after [`Slot::block`]. Calls `slow` every
    /// `warn_ms`, to say what is inside.
    pub(crate) fn drain(&self, warn_ms: usize, mut slow: impl FnMut(&CStr, usize)) {
        let gate = self.slot.gate.get();

        // SAFETY: The gate is initialised and blocked.
        unsafe { raw::accel_gate_settle(gate) };
        // SAFETY: As above.
        while !unsafe { raw::accel_gate_drain(gate, false, warn_ms) } {
            inside(self.slot, Some(self.driver), MonitorKind::COUNT, &mut slow);
        }
    }

    /// Has the driver reset the device.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub(crate) fn reset(&self, device: &Device, cause: Cause) -> Result<Contexts> {
        self.driver.reset(device, cause)
    }

    /// Waits `ms` at most until nobody is inside but monitors, after [`Slot::block`]. Returns whether
    /// that is so.
    pub(crate) fn drain_for(&self, ms: usize) -> bool {
        let gate = self.slot.gate.get();

        // SAFETY: The gate is initialised and blocked.
        unsafe { raw::accel_gate_settle(gate) };
        // SAFETY: As above.
        unsafe { raw::accel_gate_drain(gate, false, ms) }
    }

    /// Has the driver put the device to sleep.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub(crate) fn suspend(&self, device: &Device, sleep: Sleep) -> Result {
        self.driver.suspend(device, sleep)
    }

    /// Has the driver wake the device.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub(crate) fn resume(&self, device: &Device) -> Result<Contexts> {
        self.driver.resume(device)
    }

    /// Waits for interrupts that the driver is handling.
    pub(crate) fn synchronize_interrupts(&self) {
        for interrupt in self.slot.interrupts.lock().iter() {
            interrupt.synchronize();
        }
    }

    /// Has the driver look whether the device is well.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub(crate) fn check(&self, device: &Device) -> Result {
        self.driver.check(device)
    }

    /// Gives the driver a value for its attribute at `index`.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub(crate) fn store_attribute(&self, device: &Device, index: usize, value: u64) -> Result {
        self.driver.store_attribute(device, index, value)
    }

    /// Has calls find that the context of `file` is lost. Returns whether it has one. Nobody is
    /// inside but monitors.
    pub(crate) fn lose(&self, file: &File) -> bool {
        file.context().lose()
    }

    /// Ends the context of a file that nothing else uses any more.
    pub(crate) fn close(&self, file: &File) {
        file.context().close(self.driver, file.device());
    }
}

/// Calls `found` with the name and number of each kind of operation from `first` on that is inside.
/// None of them is let in.
fn inside(slot: &Slot, driver: Option<&Erased>, first: u32, mut found: impl FnMut(&CStr, usize)) {
    let Some(ops) = driver.map(Erased::ops) else {
        return;
    };

    for kind in first..Kind::driver(ops.ioctls_len()).0 {
        // SAFETY: The gate is initialised; `kind` is less than its kinds.
        let count = unsafe { raw::accel_gate_inside(slot.gate.get(), kind) };

        if count != 0 {
            found(name(ops, kind).unwrap_or(c""), count);
        }
    }
}

/// The right to end the lifecycle of a device that is closed.
pub(crate) struct Closing<'a> {
    pub(super) slot: &'a Slot,
}

impl<'a> Closing<'a> {
    /// Waits for whoever has the lifecycle, calls `last` and ends it.
    pub(crate) fn end_lifecycle(self, last: impl FnOnce()) -> Ending<'a> {
        let mut over = self.slot.lifecycle.lock();

        last();
        *over = true;
        Ending { slot: self.slot }
    }
}

/// The right to wait until nobody is inside.
pub(crate) struct Ending<'a> {
    slot: &'a Slot,
}

impl<'a> Ending<'a> {
    /// Waits until nobody is inside. Calls `slow` every `warn_ms`, to say what is.
    pub(crate) fn drain(self, warn_ms: usize, mut slow: impl FnMut(&CStr, usize)) -> Drained<'a> {
        // SAFETY: The gate is initialised and closed.
        while !unsafe { raw::accel_gate_drain(self.slot.gate.get(), true, warn_ms) } {
            // SAFETY: The one who closes is the one who drains, so `driver` is still unchanged.
            let driver = unsafe { (*self.slot.driver.get()).as_ref() };

            inside(self.slot, driver, 0, &mut slow);
        }
        Drained { slot: self.slot }
    }
}

/// The right to end what the driver owns: nobody is inside and nobody will be, and nobody has the
/// lifecycle.
pub(crate) struct Drained<'a> {
    slot: &'a Slot,
}

impl Drained<'_> {
    /// Ends the context of `file`, if it has one.
    pub(crate) fn close(&self, file: &File) {
        // SAFETY: The gate is drained and this is the only `Drained`, so nobody changes `driver`.
        if let Some(driver) = unsafe { (*self.slot.driver.get()).as_ref() } {
            file.context().close(driver, file.device());
        }
    }

    /// Stops work and then the interrupts: who was called for them has returned when this does.
    ///
    /// In that order, so that an alarm that looks after work finds what interrupts have said of it.
    pub(crate) fn stop_callbacks(&self) {
        self.slot.stores.stop();
        self.slot.rest.stop();
        self.slot.check.stop();
        self.slot.reset.stop();
        self.slot.alarm.stop();
        let interrupts = core::mem::take(&mut *self.slot.interrupts.lock());

        drop(interrupts);
    }

    /// Stops work and interrupts if that is still to be done, and drops the driver's data.
    pub(crate) fn end(self) {
        self.stop_callbacks();
        // SAFETY: The lifecycle is over, the gate is drained, this is the only `Drained`, and work
        // and interrupts are stopped: all that could have a reference to `driver` is gone.
        let driver = unsafe { (*self.slot.driver.get()).take() };

        drop(driver);
    }
}
