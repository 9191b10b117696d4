// SPDX-License-Identifier: GPL-2.0

//! What threads of the kernel do for the subsystem, shown to KCOV.
//!
//! C header: [`include/linux/kcov.h`](srctree/include/linux/kcov.h)

use super::raw;
use kernel::types::NotThreadSafe;

/// While it exists, programs that trace the subsystem see what this thread executes.
///
/// A kernel without KCOV does nothing for it.
pub(super) struct Traced {
    begun: bool,
    _of_this_thread: NotThreadSafe,
}

impl Traced {
    pub(super) fn begin() -> Self {
        Self {
            // SAFETY: It may be called anywhere.
            begun: unsafe { raw::accel_traced_begin() },
            _of_this_thread: NotThreadSafe,
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if self.begun {
            // SAFETY: What was begun is ended once.
            unsafe { raw::accel_traced_end() };
        }
    }
}
