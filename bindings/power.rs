// SPDX-License-Identifier: GPL-2.0

//! Power: what `power.c` hears of the system and of the bus, on its way to the devices; and the
//! parent's share.

use super::{
    parent,
    raw, //
};
use crate::{
    device::Device,
    minor, //
};
use kernel::{
    bindings,
    device,
    error::to_result,
    ffi::c_int,
    prelude::*,
    sync::Arc, //
};

/// A parent that may sleep when its accelerators do.
pub(crate) trait Resting {
    /// Has root see, and set, after how long without use it sleeps; `delay_ms` at first. To be
    /// called while it is being bound; it ends when it is unbound.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn start_resting(&self, delay_ms: u32) -> Result;
    /// Milliseconds without use after which it is to sleep; nothing while it is to stay awake.
    fn rest_delay_ms(&self) -> Option<i64>;
    /// Lets go of it: it sleeps if nobody else holds it. [`Self::hold`] must follow.
    fn rest(&self);
    /// Holds it again: it is awake when this returns, unless it is gone.
    fn hold(&self);
    /// Has its bus tell of errors, and put it to sleep with the system if `sleeps`. To be called
    /// while it is being bound, and accesses memory.
    fn follow(&self, sleeps: bool);
}

impl Resting for device::Device {
    fn start_resting(&self, delay_ms: u32) -> Result {
        // SAFETY: It is a valid device.
        to_result(unsafe { raw::accel_pm_start(parent::raw(self), delay_ms) })
    }

    fn rest_delay_ms(&self) -> Option<i64> {
        // SAFETY: As above.
        let delay_ms = unsafe { raw::accel_pm_delay_ms(parent::raw(self)) };

        (delay_ms >= 0).then_some(delay_ms.into())
    }

    fn rest(&self) {
        // SAFETY: As above; `Hardware::prepare` has counted its usage.
        unsafe { raw::accel_pm_rest(parent::raw(self)) };
    }

    fn hold(&self) {
        // SAFETY: As above.
        unsafe { raw::accel_pm_get(parent::raw(self)) };
    }

    fn follow(&self, sleeps: bool) {
        // SAFETY: As above.
        unsafe { raw::accel_pci_power(parent::raw(self), sleeps) };
    }
}

/// The accelerator of which this is the compute node; the other node is silent.
///
/// # Safety
///
/// `dev` is a class device of ours, perhaps not registered any more, and its lock is held for as long
/// as the result is used.
unsafe fn computing<'a>(dev: *mut bindings::device) -> Option<&'a Device> {
    // SAFETY: By this function's requirements its name is valid.
    let name = unsafe { CStr::from_char_ptr(bindings::dev_name(dev)) };

    if minor::is_control(name) {
        return None;
    }
    // SAFETY: The data of a class device is the device, which its `ClassDevice` holds, until that has
    // set it to NULL under the lock.
    unsafe { bindings::dev_get_drvdata(dev).cast::<Device>().as_ref() }
}

/// The system is about to sleep.
///
/// # Safety
///
/// As [`computing`] asks for.
#[no_mangle]
unsafe extern "C" fn accel_device_sleep(dev: *mut bindings::device) -> c_int {
    // SAFETY: By this function's requirements.
    match unsafe { computing(dev) }.map_or(Ok(()), Device::sleep) {
        Ok(()) => 0,
        Err(err) => err.to_errno(),
    }
}

/// The system is awake again.
///
/// # Safety
///
/// As [`computing`] asks for.
#[no_mangle]
unsafe extern "C" fn accel_device_wake(dev: *mut bindings::device) {
    // SAFETY: By this function's requirements.
    if let Some(device) = unsafe { computing(dev) } {
        device.wake();
    }
}

/// The system goes down.
///
/// # Safety
///
/// As [`computing`] asks for.
#[no_mangle]
unsafe extern "C" fn accel_device_shutdown(dev: *mut bindings::device) {
    // SAFETY: By this function's requirements.
    if let Some(device) = unsafe { computing(dev) } {
        device.shut_down();
    }
}

/// Calls `tell` with each accelerator on a parent; whether there is one.
fn each_on(parent: *mut bindings::device, tell: impl Fn(&Device)) -> bool {
    let mut last: Option<Arc<Device>> = None;

    // In the order of their numbers. With their driver's module they go whoever has the parent's lock:
    // such a one is held here, and does nothing any more.
    while let Some(device) = minor::find(|device| {
        core::ptr::eq(parent::raw(device.parent()), parent)
            && last
                .as_ref()
                .is_none_or(|last| device.number() > last.number())
    }) {
        tell(&device);
        last = Some(device);
    }
    last.is_some()
}

/// The bus has trouble with a parent, whose lock is held.
#[no_mangle]
extern "C" fn accel_bus_trouble(parent: *mut bindings::device) -> bool {
    each_on(parent, Device::bus_trouble)
}

/// It has none any more. Not without [`accel_bus_trouble`] before.
#[no_mangle]
extern "C" fn accel_bus_recovered(parent: *mut bindings::device) -> bool {
    each_on(parent, Device::bus_recovered)
}

/// Whether a parent's bus is to give back what it holds (`go`), or was made to.
#[no_mangle]
extern "C" fn accel_bus_lets_go(parent: *mut bindings::device, go: bool) -> bool {
    minor::find(|device| {
        core::ptr::eq(parent::raw(device.parent()), parent) && device.bus_lets_go(go)
    })
    .is_some()
}
