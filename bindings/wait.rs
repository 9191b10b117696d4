// SPDX-License-Identifier: GPL-2.0

//! Sleeping until something is so, polling, and eventfds.
//!
//! C headers: [`include/linux/wait.h`](srctree/include/linux/wait.h),
//! [`include/linux/eventfd.h`](srctree/include/linux/eventfd.h).

use super::raw;
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    ffi::c_void,
    prelude::*,
    types::Opaque, //
};

/// A wait queue that lives as long as the file that it is polled through.
///
/// The kernel's `PollCondVar` waits for a grace period when it is dropped, because it may go before
/// the files that poll it. This one is owned by the file's private data, which outlives every
/// poller: close costs nothing.
#[pin_data]
pub(crate) struct WaitQueue {
    #[pin]
    head: Opaque<bindings::wait_queue_head>,
}

// SAFETY: A wait queue has a lock of its own and belongs to no thread.
unsafe impl Send for WaitQueue {}
// SAFETY: As above.
unsafe impl Sync for WaitQueue {}

impl WaitQueue {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            head <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid for writes and will not move.
                unsafe { raw::accel_waitqueue_init(slot) }
            }),
        })
    }

    /// Wakes all who wait or poll. That may take long if there are pollers.
    pub(crate) fn wake_all(&self) {
        // SAFETY: The head is initialised.
        unsafe { raw::accel_wake_all(self.head.get()) };
    }

    /// Wakes all who wait, if they are few and nobody polls. Returns whether that was so: if not,
    /// [`Self::wake_all`] is still to be called.
    pub(crate) fn wake_few(&self) -> bool {
        // SAFETY: The head is initialised.
        unsafe { raw::accel_wake_few(self.head.get()) }
    }

    /// Sleeps until `done()`, which must not sleep, is true.
    ///
    /// `deadline_ns` is `CLOCK_MONOTONIC`, [`i64::MAX`] for none.
    ///
    /// # Errors
    ///
    /// `ETIME`; `ERESTARTSYS` when a signal came.
    pub(crate) fn wait_until<F: Fn() -> bool>(&self, deadline_ns: i64, done: F) -> Result {
        // SAFETY: The head is initialised; `call::<F>` gets the closure that it is made for.
        to_result(unsafe {
            raw::accel_wait(
                self.head.get(),
                deadline_ns,
                Some(call::<F>),
                core::ptr::from_ref(&done).cast(),
            )
        })
    }

    /// Sleeps until `done()`, which must not sleep, is true, whatever signals come: for what is certain
    /// to come.
    pub(crate) fn wait_for<F: Fn() -> bool>(&self, done: F) {
        // SAFETY: As above.
        unsafe {
            raw::accel_wait_for(
                self.head.get(),
                Some(call::<F>),
                core::ptr::from_ref(&done).cast(),
            )
        };
    }
}

/// # Safety
///
/// `arg` must be a valid `F`.
unsafe extern "C" fn call<F: Fn() -> bool>(arg: *const c_void) -> bool {
    // SAFETY: By this function's requirements.
    let done = unsafe { &*arg.cast::<F>() };

    done()
}

/// A poll in progress on one file.
pub(crate) struct Poll<'a> {
    file: &'a Opaque<bindings::file>,
    table: *mut bindings::poll_table,
}

impl<'a> Poll<'a> {
    /// # Safety
    ///
    /// `file` and `table` are the arguments of a `poll` file operation that is running for `'a`.
    pub(super) unsafe fn from_raw(
        file: *mut bindings::file,
        table: *mut bindings::poll_table,
    ) -> Self {
        Self {
            // SAFETY: `file` is valid for `'a` by the function's requirements.
            file: unsafe { &*file.cast() },
            table,
        }
    }

    /// Has the poller woken through `queue`, which must belong to the file that is polled.
    pub(super) fn register(&self, queue: &WaitQueue) {
        // SAFETY: The file, the queue and the table (which may be NULL) are valid now; the queue
        // is owned by the file's private data, and pollers are unhooked before a file is released.
        unsafe { raw::accel_poll_wait(self.file.get(), queue.head.get(), self.table) };
    }
}

/// The mask that a poll returns.
pub(crate) fn poll_mask(readable: bool, gone: bool) -> u32 {
    // SAFETY: Plain arithmetic.
    unsafe { raw::accel_poll_flags(readable, gone) }
}

/// A reference to a user's eventfd.
///
/// # Invariants
///
/// The context is valid and this value owns one reference to it.
pub(crate) struct EventFd(NonNull<bindings::eventfd_ctx>);

// SAFETY: An eventfd's context belongs to no thread and has a lock of its own.
unsafe impl Send for EventFd {}
// SAFETY: As above.
unsafe impl Sync for EventFd {}

impl EventFd {
    /// # Errors
    ///
    /// `EBADF` no such file; `EINVAL` no eventfd.
    pub(crate) fn get(fd: i32) -> Result<Self> {
        // SAFETY: Looks `fd` up in the current task's files.
        let context = from_err_ptr(unsafe { raw::accel_eventfd_get(fd) })?;

        // INVARIANT: The call took a reference for us.
        Ok(Self(NonNull::new(context).ok_or(EBADF)?))
    }

    /// Adds 1. Does not sleep.
    pub(crate) fn signal(&self) {
        // SAFETY: By the type invariant the context is valid.
        unsafe { raw::accel_eventfd_signal(self.0.as_ptr()) };
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours to give back.
        unsafe { bindings::eventfd_ctx_put(self.0.as_ptr()) };
    }
}

/// `CLOCK_MONOTONIC`, in nanoseconds: not negative.
pub fn now_ns() -> i64 {
    // SAFETY: No requirements.
    unsafe { bindings::ktime_get() }
}
