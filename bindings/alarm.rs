// SPDX-License-Identifier: GPL-2.0

//! A call of the driver at a time that it has asked for.

use super::{
    wait::now_ns,
    work::DeviceWork, //
};
use crate::device::Device;
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        barrier::smp_mb,
        SpinLock, //
    }, //
};

/// No alarm is set.
const NEVER: i64 = i64::MAX;

/// The alarm of one device: a work item that is queued for the earliest time asked for.
#[pin_data]
pub(super) struct Alarm {
    #[pin]
    work: DeviceWork,
    /// The time that it is set to, in nanoseconds of `CLOCK_MONOTONIC`. Written under `setting`.
    next: Atomic<i64>,
    #[pin]
    setting: SpinLock<()>,
}

impl Alarm {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            work <- DeviceWork::new(Self::run),
            next: Atomic::new(NEVER),
            setting <- new_spinlock!((), "accel_alarm"),
        })
    }

    /// Has the alarm call the driver of `device`.
    ///
    /// # Safety
    ///
    /// As [`DeviceWork::start`]; it must be stopped before the driver's data is dropped.
    pub(super) unsafe fn start(&self, device: &Device) {
        // SAFETY: By this function's requirements.
        unsafe { self.work.start(device) };
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
            self.work.queue_at(at_ns);
        }
    }

    /// Whether the driver is to be called now. If so the alarm is not set any more.
    fn take(&self) -> bool {
        let _setting = self.setting.lock();
        let at_ns = self.next.load(Relaxed);

        if at_ns == NEVER {
            return false;
        }
        if now_ns() < at_ns {
            self.work.queue_at(at_ns);
            return false;
        }
        self.next.store(NEVER, Relaxed);
        smp_mb();
        true
    }

    /// Has one that came while the driver was not to be called come again.
    pub(super) fn kick(&self) {
        let _setting = self.setting.lock();
        let at_ns = self.next.load(Relaxed);

        if at_ns != NEVER {
            self.work.queue_at(at_ns);
        }
    }

    /// Ends the alarm: the driver is not being called when this returns, and will not be.
    pub(super) fn stop(&self) {
        self.work.stop();
    }

    fn run(device: &Device) {
        let slot = device.slot();

        // Not while the device is reset, or put to sleep.
        let _quiet = slot.lock_lifecycle();

        // If it sleeps, the alarm comes again when it wakes.
        if !device.power().is_quiet() && slot.alarm().take() {
            // SAFETY: `Drained::stop_callbacks` stops the alarm before the data goes.
            if let Some(driver) = unsafe { slot.driver_of_callback() } {
                driver.alarm(device);
            }
        }
    }
}
