// SPDX-License-Identifier: GPL-2.0

//! Work that is done later: a device's, one piece at a time, and what takes long and nobody waits
//! for.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use super::{
    raw,
    traced::Traced,
    wait::now_ns, //
};
use crate::device::Device;
use core::{
    cell::UnsafeCell,
    ptr::null, //
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    sync::Arc,
    types::Opaque,
    workqueue::{
        Queue,
        RawWorkItem, //
    }, //
};

/// A queue for what may take as long as users like; there for as long as this exists. Its items hold
/// references to what they need, and to nothing that belongs to a driver.
pub(crate) struct Later(());

impl Later {
    pub(crate) fn start() -> Result<Self> {
        // SAFETY: Called once, from the module's init.
        to_result(unsafe { raw::accel_later_start() })?;
        Ok(Self(()))
    }

    /// Has `item` run soon. If it is to run already, that is as good.
    ///
    /// Does not sleep.
    pub(crate) fn queue<T>(item: Arc<T>)
    where
        Arc<T>: RawWorkItem<0> + Send + 'static,
    {
        // SAFETY: Items come from open files, which pin the module, and from devices and jobs, which
        // drivers have that use it: the queue is there until it exits.
        let queue = unsafe { Queue::from_raw(raw::accel_later_queue()) };

        let _ = queue.enqueue(item);
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        // SAFETY: Started by `start`; nobody queues anything any more. Items that are left are run
        // first.
        unsafe { raw::accel_later_stop() };
    }
}

/// A work item of a device: has a function called, never twice at a time.
///
/// # Invariants
///
/// `work` is initialised; its function gets the address of the item's `work.work`. `device` is NULL
/// until [`DeviceWork::start`] and points from then on to the device that owns the item.
#[pin_data]
pub(crate) struct DeviceWork {
    #[pin]
    work: Opaque<bindings::delayed_work>,
    run: fn(&Device),
    device: UnsafeCell<*const Device>,
}

// SAFETY: A work item belongs to no thread, and `Device` is `Send` and `Sync`.
unsafe impl Send for DeviceWork {}
// SAFETY: As above; `device` is written once, before others can reach the item.
unsafe impl Sync for DeviceWork {}

impl DeviceWork {
    /// An item that calls `run`, from [`Self::start`] on.
    pub(super) fn new(run: fn(&Device)) -> impl PinInit<Self> {
        pin_init!(Self {
            work <- Opaque::ffi_init(|work| {
                // SAFETY: `work` is valid for writes and will not move.
                unsafe { raw::accel_work_init(work, Some(Self::call)) }
            }),
            run,
            device: UnsafeCell::new(null()),
        })
    }

    /// Has it called with `device`.
    ///
    /// # Safety
    ///
    /// Once, and before anybody else can reach the item. `device` must own it, and call
    /// [`Self::stop`] before it goes.
    pub(super) unsafe fn start(&self, device: &Device) {
        // SAFETY: By this function's requirements nobody else looks.
        unsafe { *self.device.get() = device };
    }

    /// Has the function called at `at_ns` (`CLOCK_MONOTONIC`) or soon after, and not when it was
    /// to be called before this. If it is being called now it is called again.
    ///
    /// Does not sleep.
    pub(crate) fn queue_at(&self, at_ns: i64) {
        // SAFETY: By the type invariant the work item is initialised.
        unsafe { raw::accel_work_queue(self.work.get(), at_ns) };
    }

    /// As [`Self::queue_at`], unless it is to be called already, whenever that is.
    pub(crate) fn queue_new_at(&self, at_ns: i64) {
        // SAFETY: By the type invariant the work item is initialised.
        unsafe { raw::accel_work_queue_new(self.work.get(), at_ns) };
    }

    /// As [`Self::queue_at`], as soon as can be.
    pub(crate) fn queue(&self) {
        self.queue_at(now_ns());
    }

    /// Ends it: the function is not being called when this returns, and will not be, whoever asks.
    pub(super) fn stop(&self) {
        // SAFETY: By the type invariant the work item is initialised. It is disabled: who queues it
        // from here on queues nothing.
        unsafe { bindings::disable_delayed_work_sync(self.work.get()) };
    }

    /// # Safety
    ///
    /// The kernel calls this with the `work.work` of an item.
    unsafe extern "C" fn call(work: *mut bindings::work_struct) {
        let _traced = Traced::begin();
        // SAFETY: By this function's requirements, and an item is stopped before it goes.
        let this = unsafe {
            let work: *mut bindings::delayed_work =
                kernel::container_of!(work, bindings::delayed_work, work);

            &*kernel::container_of!(Opaque::cast_from(work), Self, work)
        };
        // SAFETY: By the type invariant: nobody can queue an item before it is started.
        let device = unsafe { &**this.device.get() };

        (this.run)(device);
    }
}
