// SPDX-License-Identifier: GPL-2.0

//! Copying between user space and the kernel.
//!
//! Every copy here may sleep for as long as user space likes (a page on FUSE or userfaultfd): none
//! is made with a [`super::slot::Guard`] held.

use super::{
    errno::check,
    raw, //
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit, //
};
use kernel::{
    bindings,
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
        check(unsafe {
            raw::accel_copy_in(dst.as_mut_ptr().cast(), dst.len(), self.address, self.size)
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
        check(unsafe {
            raw::accel_copy_out(self.address, self.size, src.as_ptr().cast(), src.len())
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
        check(unsafe {
            raw::accel_copy_out_zeroed(self.address, self.size, src.as_ptr().cast(), src.len())
        })
    }
}

/// Where a `read(2)` in progress puts what it reads.
pub(crate) struct Destination<'a> {
    iter: *mut bindings::iov_iter,
    _read: PhantomData<&'a mut bindings::iov_iter>,
}

impl Destination<'_> {
    /// # Safety
    ///
    /// `iter` is that of a `read_iter` file operation that is running for the life of the result,
    /// which alone uses it.
    pub(super) unsafe fn from_raw(iter: *mut bindings::iov_iter) -> Self {
        Self {
            iter,
            _read: PhantomData,
        }
    }

    /// Bytes that there is room for.
    pub(crate) fn room(&self) -> usize {
        // SAFETY: `iter` is valid by the requirements of `from_raw`.
        unsafe { raw::accel_iter_count(self.iter) }
    }

    /// Writes all of `src` behind what was written before.
    ///
    /// # Errors
    ///
    /// `EFAULT`; part of it may have been written then, and nothing more should be.
    pub(crate) fn write(&mut self, src: &[u8]) -> Result {
        // SAFETY: `iter` is valid and ours by the requirements of `from_raw`; `src` is valid for
        // reads of its length.
        let written = unsafe { bindings::_copy_to_iter(src.as_ptr().cast(), src.len(), self.iter) };

        if written != src.len() {
            return Err(EFAULT);
        }
        Ok(())
    }
}

/// Room for a small structure, of which no more is written than is used.
pub(crate) struct Room {
    words: MaybeUninit<[u64; Self::SIZE / size_of::<u64>()]>,
}

impl Room {
    /// Bytes.
    pub(crate) const SIZE: usize = 128;

    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self {
            words: MaybeUninit::uninit(),
        }
    }

    /// The words that hold `size` bytes, zeroed, or read from the user.
    ///
    /// # Errors
    ///
    /// `EINVAL` when there is no room, or these are not whole words; those of
    /// [`UserMemory::read_struct`].
    #[inline(always)]
    pub(crate) fn fill(&mut self, size: usize, from: Option<UserMemory>) -> Result<&mut [u64]> {
        let start: *mut u64 = self.words.as_mut_ptr().cast();
        let len = size / size_of::<u64>();

        if size > Self::SIZE || size % size_of::<u64>() != 0 {
            return Err(EINVAL);
        }
        match from {
            Some(user) => {
                // SAFETY: There is room for `size` bytes, all of which the helper writes or fails;
                // it checks the user's range.
                let err =
                    unsafe { raw::accel_copy_in(start.cast(), size, user.address, user.size) };

                check(err)?
            }
            // SAFETY: There is room for `len` words.
            None => unsafe { start.write_bytes(0, len) },
        }
        // SAFETY: `len` words have been written, and we have borrowed the room.
        Ok(unsafe { core::slice::from_raw_parts_mut(start, len) })
    }
}

/// `array_index_nospec`: `index` if it is less than `size`, also in a mispredicted branch.
#[inline(always)]
pub(crate) fn index_nospec(index: usize, size: usize) -> usize {
    #[cfg(CONFIG_X86_64)]
    {
        let mask: usize;

        // As in `arch/x86/include/asm/barrier.h`: all-ones if the comparison borrows, else 0.
        // SAFETY: Changes a register and flags.
        unsafe {
            core::arch::asm!(
                "cmp {index}, {size}",
                "sbb {mask}, {mask}",
                index = in(reg) index,
                size = in(reg) size,
                mask = out(reg) mask,
                options(pure, nomem, nostack),
            );
        }
        index & mask
    }
    #[cfg(not(CONFIG_X86_64))]
    {
        // SAFETY: Plain arithmetic.
        unsafe { raw::accel_index_nospec(index, size) }
    }
}
