// SPDX-License-Identifier: GPL-2.0

//! Memory that a device accesses by DMA and the CPU copies to and from.

use super::raw;
use crate::mm::Buffer;
use core::marker::PhantomData;
use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::{
        Coherent,
        DmaAddress, //
    },
    prelude::*, //
};
use zerocopy::Immutable;

/// Coherent memory at an address that the device can reach, as [`crate::Description::dma_bits`]
/// says.
///
/// For devices that cannot reach all memory, or need what they access in one piece.
pub struct Staging {
    memory: Coherent<[u8]>,
}

impl Staging {
    /// Zeroed memory of `size` bytes.
    ///
    /// # Errors
    ///
    /// `EINVAL` for 0; `ENOMEM`.
    pub fn new(parent: &Device<Bound>, size: usize) -> Result<Self> {
        if size == 0 {
            return Err(EINVAL);
        }
        Ok(Self {
            memory: Coherent::zeroed_slice(parent, size, GFP_KERNEL)?,
        })
    }

    /// Where the device finds it.
    pub fn address(&self) -> DmaAddress {
        self.memory.dma_handle()
    }

    /// Copies the first `len` bytes from `offset` in `buffer`. The device should not be writing.
    ///
    /// # Errors
    ///
    /// `ERANGE` when there are not as many on either side.
    pub fn load(&mut self, buffer: &Buffer, offset: u64, len: usize) -> Result {
        // SAFETY: We have the only reference. A device that writes all the same makes the bytes
        // that are copied others, which all are as good: nothing depends on them.
        let bytes = unsafe { self.memory.as_mut() };

        buffer.read(offset, bytes.get_mut(..len).ok_or(ERANGE)?)
    }

    /// Copies the first `len` bytes to `offset` in `buffer`. The device should not be writing.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn store(&self, buffer: &Buffer, offset: u64, len: usize) -> Result {
        // SAFETY: Nobody has a mutable reference. For devices as above.
        let bytes = unsafe { self.memory.as_ref() };

        buffer.write(offset, bytes.get(..len).ok_or(ERANGE)?)
    }
}

/// An array of `T` in coherent memory that the device and the CPU use at the same time: a ring, a
/// table, a mailbox.
///
/// Nothing refers to what is in it, which may change at any time; elements are copied, word by word
/// and in ascending order. A word of 8 bytes, or of 4 if the size of `T` is no multiple of 8, is
/// read and written as a whole, an element of several is not: what says that an element is complete
/// is read before [`dma_rmb`] and the element after it; an element is written before [`dma_wmb`] and
/// what says so after it.
///
/// What is read is the device's input: checked before it is used.
///
/// # Examples
///
/// ```ignore
/// let ring = accel::Shared::<Completion>::new(pdev.as_ref(), 256)?;
///
/// if ring.read(head)?.phase == phase {
///     accel::dma_rmb();
///     let completion = ring.read(head)?;
/// }
/// ```
pub struct Shared<T> {
    words: Coherent<[u32]>,
    len: usize,
    _elements: PhantomData<fn(T) -> T>,
}

impl<T: FromBytes + IntoBytes + Immutable + Copy> Shared<T> {
    /// `len` elements that are zero, in one piece that begins at a page.
    ///
    /// Does not build if the size of `T` is no multiple of 4.
    ///
    /// # Errors
    ///
    /// `EINVAL` for 0; `ENOMEM`.
    pub fn new(parent: &Device<Bound>, len: usize) -> Result<Self> {
        const {
            assert!(
                size_of::<T>() > 0 && size_of::<T>() % 4 == 0,
                "elements that are shared with a device are whole words of 4 bytes"
            );
        }
        let words = len.checked_mul(size_of::<T>() / 4).ok_or(ENOMEM)?;

        Ok(Self {
            words: Coherent::zeroed_slice(parent, words, GFP_KERNEL)?,
            len,
            _elements: PhantomData,
        })
    }

    /// Where the device finds the first element.
    pub fn address(&self) -> DmaAddress {
        self.words.dma_handle()
    }

    /// Elements, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Copies element `index`.
    ///
    /// # Errors
    ///
    /// `ERANGE` when there are not as many.
    pub fn read(&self, index: usize) -> Result<T> {
        let from = self.element(index)?;
        let mut value = T::new_zeroed();
        let to: *mut u32 = core::ptr::from_mut(&mut value).cast();

        // SAFETY: `from` is an element, which is aligned as `element` says; `to` is a `T`, for which
        // all bytes are good.
        unsafe {
            if size_of::<T>() % 8 == 0 {
                read_words::<u64>(from.cast(), to.cast(), size_of::<T>() / 8);
            } else {
                read_words::<u32>(from, to, size_of::<T>() / 4);
            }
        }
        Ok(value)
    }

    /// Makes element `index` a copy of `value`.
    ///
    /// # Errors
    ///
    /// `ERANGE` when there are not as many.
    pub fn write(&self, index: usize, value: T) -> Result {
        let to = self.element(index)?;
        let from: *const u32 = core::ptr::from_ref(&value).cast();

        // SAFETY: `to` is an element, which is aligned as `element` says; `from` is a `T`, which has
        // no padding.
        unsafe {
            if size_of::<T>() % 8 == 0 {
                write_words::<u64>(from.cast(), to.cast(), size_of::<T>() / 8);
            } else {
                write_words::<u32>(from, to, size_of::<T>() / 4);
            }
        }
        Ok(())
    }

    /// Where element `index` is: aligned to 8 if that divides the size of `T`, else to 4.
    fn element(&self, index: usize) -> Result<*mut u32> {
        if index >= self.len {
            return Err(ERANGE);
        }
        // The memory begins at a page.
        Ok(self
            .words
            .as_mut_ptr()
            .cast::<u32>()
            .wrapping_add(index * (size_of::<T>() / 4)))
    }
}

/// Copies `count` words from where a device may be writing.
///
/// # Safety
///
/// `from` must be aligned and valid for reads but for races with the device or another CPU, `to`
/// valid for writes, of as many words. All values must be good.
unsafe fn read_words<W: Copy>(from: *const W, to: *mut W, count: usize) {
    for index in 0..count {
        // SAFETY: By this function's requirements. Volatile, as `READ_ONCE` in C, makes of a race
        // one of the values that the word has had.
        unsafe {
            to.add(index)
                .write_unaligned(from.add(index).read_volatile())
        };
    }
}

/// Copies `count` words to where a device may be reading.
///
/// # Safety
///
/// As [`read_words`], the other way round.
unsafe fn write_words<W: Copy>(from: *const W, to: *mut W, count: usize) {
    for index in 0..count {
        // SAFETY: By this function's requirements. Volatile as `WRITE_ONCE` in C.
        unsafe {
            to.add(index)
                .write_volatile(from.add(index).read_unaligned())
        };
    }
}

/// What is read from [`Shared`] after this is no older than what was read from it before.
pub fn dma_rmb() {
    // SAFETY: A barrier.
    unsafe { raw::accel_dma_rmb() };
}

/// The device sees what was written to [`Shared`] before this no later than what is written after.
///
/// A write to a register (a doorbell) is ordered after all of it without this.
pub fn dma_wmb() {
    // SAFETY: A barrier.
    unsafe { raw::accel_dma_wmb() };
}
