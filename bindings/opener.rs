// SPDX-License-Identifier: GPL-2.0

//! Who has opened a file, and who may be told.
//!
//! C headers: [`include/linux/pid.h`](srctree/include/linux/pid.h),
//! [`include/linux/cred.h`](srctree/include/linux/cred.h)

use super::raw;
use kernel::{
    ffi::c_char,
    prelude::*, //
};
use pin_init::init_from_closure;

/// The process that has opened a file, as it was then.
///
/// # Invariants
///
/// It was filled by `accel_opener_get`.
pub(crate) struct Opener(raw::accel_opener);

// SAFETY: A process's number and names belong to no thread.
unsafe impl Send for Opener {}
// SAFETY: As above.
unsafe impl Sync for Opener {}

impl Opener {
    /// The current process, written where it is to be: files are opened often.
    #[inline]
    pub(crate) fn current() -> impl Init<Self> {
        let init = |slot: *mut Self| {
            // INVARIANT: It is filled by this.
            // SAFETY: `slot` is valid for writes, and so is its only field.
            unsafe { raw::accel_opener_get(&raw mut (*slot).0) };
            Ok(())
        };

        // SAFETY: The call writes all of it; it never fails, and it may be moved.
        unsafe { init_from_closure(init) }
    }

    /// The effective user id, as the kernel has it.
    pub(crate) fn user(&self) -> u32 {
        self.0.uid.val
    }

    /// Whether the current process may be told: it is of the same user, or may administer the
    /// whole system.
    pub(crate) fn may_be_told(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { raw::accel_opener_may_be_told(&self.0) }
    }

    /// The process's number where the current process is; 0 when it has none there, or has ended.
    pub(crate) fn pid(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { raw::accel_opener_pid(&self.0) }
    }

    /// The effective user id, as the current process's user namespace has it.
    pub(crate) fn uid(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { raw::accel_opener_uid(&self.0) }
    }

    /// When it was: `CLOCK_MONOTONIC` in nanoseconds, to the tick.
    pub(crate) fn at_ns(&self) -> i64 {
        self.0.at_ns
    }

    /// The process's name. Ends with NUL.
    pub(crate) fn name(&self) -> [c_char; 16] {
        self.0.name
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; this is its end.
        unsafe { raw::accel_opener_put(&mut self.0) };
    }
}
