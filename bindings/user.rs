// SPDX-License-Identifier: GPL-2.0

//! Copying between user space and the kernel.
//!
//! Every copy here may sleep for as long as user space likes (a page on FUSE or userfaultfd): none
//! is made with a [`super::slot::Guard`] held.

use super::raw;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// An address in user space with the number of bytes that the user says are there.
#[derive(Clone, Copy)]
pub(crate) struct UserMemory {
    address: usize,
    size: usize,
}

impl UserMemory {
    pub(crate) fn new(address: usize, size: usize) -> Self {
        Self { address, size }
    }

    /// Fills `dst` as `copy_struct_from_user` does: what the user does not give is zero.
    ///
    /// `dst` is best aligned to 8 bytes; it need not be.
    ///
    /// # Errors
    ///
    /// `EFAULT`; `E2BIG` when what the user gives beyond `dst` is not zero.
    #[inline]
    pub(crate) fn read_struct(self, dst: &mut [u8]) -> Result {
        // SAFETY: `dst` is valid for writes of its length; the helper checks the user's range.
        to_result(unsafe {
            raw::accel_copy_in(
                dst.as_mut_ptr().cast(),
                dst.len(),
                self.address as _,
                self.size,
            )
        })
    }

    /// Writes as much of `src` as the user has room for, and leaves the rest of that room alone.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    #[inline]
    pub(crate) fn write_struct(self, src: &[u8]) -> Result {
        // SAFETY: `src` is valid for reads of its length; the helper checks the user's range.
        to_result(unsafe {
            raw::accel_copy_out(
                self.address as _,
                self.size,
                src.as_ptr().cast(),
                src.len(),
            )
        })
    }

    /// Like [`Self::write_struct`], and zeroes the rest of the user's room.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    #[inline]
    pub(crate) fn write_struct_zeroed(self, src: &[u8]) -> Result {
        // SAFETY: As in `write_struct`.
        to_result(unsafe {
            raw::accel_copy_out_zeroed(
                self.address as _,
                self.size,
                src.as_ptr().cast(),
                src.len(),
            )
        })
    }
}

/// `array_index_nospec`: `index` if it is less than `size`, also in a mispredicted branch.
#[inline]
pub(crate) fn index_nospec(index: usize, size: usize) -> usize {
    // SAFETY: Plain arithmetic.
    unsafe { raw::accel_index_nospec(index as _, size as _) as usize }
}
