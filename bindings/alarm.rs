// SPDX-License-Identifier: GPL-2.0

//! A call of the driver at a time that it has asked for.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use super::{
    raw,
    wait::now_ns, //
};
use crate::device::Device;
use core::{
    cell::UnsafeCell,
    ptr::null, //
};
use kernel::{
    bindings,
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        barrier::smp_mb,
        SpinLock, //
    },
    types::Opaque, //
};

/// No alarm is set.
const NEVER: i64 = i64::MAX;

/// The alarm of one device: a work item that is queued for the earliest time asked for.
///
/// # Invariants
///
/// `work` is initialised and is queued by [`Alarm::set`] only; its function gets the address of
/// the alarm. `device` is NULL until [`Alarm::start`] and points from then on to the device that
/// owns the alarm.
#[pin_data]
pub(super) struct Alarm {
    #[pin]
    work: Opaque<bindings::delayed_work>,
    /// The time that it is set to, in nanoseconds of `CLOCK_MONOTONIC`. Written under `setting`.
    next: Atomic<i64>,
    #[pin]
    setting: SpinLock<()>,
    device: UnsafeCell<*const Device>,
}

// SAFETY: A work item belongs to no thread, and `Device` is `Send` and `Sync`.
unsafe impl Send for Alarm {}
// SAFETY: As above; `device` is written once, before others can reach the alarm.
unsafe impl Sync for Alarm {}

impl Alarm {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            work <- Opaque::ffi_init(|work| {
                // SAFETY: `work` is valid for writes and will not move.
                unsafe { raw::accel_alarm_init(work, Some(Self::run)) }
            }),
            next: Atomic::new(NEVER),
            setting <- new_spinlock!((), "accel_alarm"),
            device: UnsafeCell::new(null()),
        })
    }

    /// Has the alarm call the driver of `device`.
    ///
    /// # Safety
    ///
    /// Once, and before anybody else can reach the alarm. `device` must own it, and call
    /// [`Self::stop`] before the driver's data is dropped.
    pub(super) unsafe fn start(&self, device: &Device) {
        // SAFETY: By this function's requirements nobody else looks.
        unsafe { *self.device.get() = device };
    }

    /// Has the driver called at `at_ns`, if it is not to be called before.
    ///
    /// The call sees what the caller has done before this.
    pub(super) fn set(&self, at_ns: i64) {
        // Pairs with the one in `take`: either the time that is read here is one whose call is
        // still to come and sees what we did, or it is `NEVER`.
        smp_mb();
        if self.next.load(Relaxed) <= at_ns {
            return;
        }
        let _setting = self.setting.lock();
        if self.next.load(Relaxed) > at_ns {
            self.next.store(at_ns, Relaxed);
            self.queue(at_ns);
        }
    }

    fn queue(&self, at_ns: i64) {
        // SAFETY: By the type invariant the work item is initialised.
        unsafe { raw::accel_alarm_arm(self.work.get(), at_ns) };
    }

    /// Whether the driver is to be called now. If so the alarm is not set any more.
    fn take(&self) -> bool {
        let _setting = self.setting.lock();
        let at_ns = self.next.load(Relaxed);

        if at_ns == NEVER {
            return false;
        }
        if now_ns() < at_ns {
            self.queue(at_ns);
            return false;
        }
        self.next.store(NEVER, Relaxed);
        smp_mb();
        true
    }

    /// Ends the alarm: the driver is not being called when this returns, and will not be.
    pub(super) fn stop(&self) {
        // SAFETY: By the type invariant the work item is initialised. It is disabled: who sets the
        // alarm from here on queues nothing.
        unsafe { bindings::disable_delayed_work_sync(self.work.get()) };
    }

    /// # Safety
    ///
    /// The kernel calls this with the `work.work` of an alarm.
    unsafe extern "C" fn run(work: *mut bindings::work_struct) {
        // SAFETY: By this function's requirements, and an alarm has its work item stopped before
        // it goes.
        let this = unsafe {
            let work: *mut bindings::delayed_work =
                kernel::container_of!(work, bindings::delayed_work, work);

            &*kernel::container_of!(Opaque::cast_from(work), Self, work)
        };
        // SAFETY: By the type invariant: nobody sets an alarm before it is started.
        let device = unsafe { &**this.device.get() };

        if this.take() {
            // SAFETY: `Drained::stop_callbacks` stops the alarm before the data goes.
            if let Some(driver) = unsafe { device.slot().driver_of_callback() } {
                driver.alarm(device);
            }
        }
    }
}
