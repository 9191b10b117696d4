// SPDX-License-Identifier: GPL-2.0
//! Memory that others write at the same time: the card's own, and the guest's. The only room with
//! `unsafe`.
//!
//! Everything is checked against the size and given out as copies or single atomic words, so that
//! no reference to such memory exists anywhere.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A range of a file in our address space, shared with whoever else has the file.
///
/// # Invariants
///
/// `start` is the beginning of a mapping of `size` bytes that lives as long as this, readable, and
/// writable if `writable`.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    size: usize,
    writable: bool,
}

// SAFETY: The mapping belongs to no thread, and only this unmaps it.
unsafe impl Send for Mapping {}
// SAFETY: As all other processes do, all threads access it by copies and atomics only, see `read`.
unsafe impl Sync for Mapping {}

/// The range is not in the memory, or is not aligned for an atomic access, or may not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfRange;

impl Mapping {
    /// Maps `size` bytes of `file` from `offset`.
    ///
    /// # Errors
    ///
    /// Those of mmap(2), and `InvalidInput` for a size that no address space has.
    pub fn new(file: impl AsFd, offset: u64, size: u64, writable: bool) -> io::Result<Self> {
        let size = usize::try_from(size)
            .ok()
            .filter(|size| (1..=isize::MAX as usize).contains(size))
            .ok_or(io::ErrorKind::InvalidInput)?;
        let protection = match writable {
            true => ProtFlags::READ | ProtFlags::WRITE,
            false => ProtFlags::READ,
        };
        // SAFETY: A new mapping at a place that the kernel chooses touches nothing that exists.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                size,
                protection,
                MapFlags::SHARED,
                file,
                offset,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        // INVARIANT: That is what was mapped.
        Ok(Self {
            start,
            size,
            writable,
        })
    }

    /// New memory, with the file that others can map.
    pub fn create(name: &str, size: u64) -> io::Result<(Self, File)> {
        let file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
        ftruncate(&file, size)?;
        Ok((Self::new(&file, 0, size, true)?, file))
    }

    pub fn size(&self) -> u64 {
        self.size as u64
    }

    /// Where `size` bytes at `offset` are.
    fn at(&self, offset: u64, size: usize) -> Result<NonNull<u8>, OutOfRange> {
        let offset = usize::try_from(offset).map_err(|_| OutOfRange)?;
        let end = offset.checked_add(size).ok_or(OutOfRange)?;
        if end > self.size {
            return Err(OutOfRange);
        }
        // SAFETY: By the invariant `offset`, at most the size, is within the mapping or at its end.
        Ok(unsafe { self.start.add(offset) })
    }

    /// As `at`, for writing.
    fn at_mut(&self, offset: u64, size: usize) -> Result<NonNull<u8>, OutOfRange> {
        if !self.writable {
            return Err(OutOfRange);
        }
        self.at(offset, size)
    }

    /// Copies from the memory. What is written meanwhile may be torn.
    pub fn read(&self, offset: u64, to: &mut [u8]) -> Result<(), OutOfRange> {
        let from = self.at(offset, to.len())?;
        // SAFETY: `at` has checked the source; `to` is ours alone and, being Rust's, does not
        // overlap the mapping. Others may write the source meanwhile, as any hardware would: the
        // bytes are then of one or the other value, and every value of a byte is valid.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    /// Copies into the memory. What is read meanwhile may be torn.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), OutOfRange> {
        let to = self.at_mut(offset, from.len())?;
        // SAFETY: As in `read`, the other way round; `at_mut` has checked that it is writable.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), from.len()) };
        Ok(())
    }

    /// Zeroes a range.
    pub fn zero(&self, offset: u64, size: usize) -> Result<(), OutOfRange> {
        let to = self.at_mut(offset, size)?;
        // SAFETY: As in `write`.
        unsafe { ptr::write_bytes(to.as_ptr(), 0, size) };
        Ok(())
    }

    /// Reads an aligned word; what is read afterwards is at least as new.
    pub fn load_u32(&self, offset: u64) -> Result<u32, OutOfRange> {
        let word = aligned::<AtomicU32>(self.at(offset, 4)?)?;
        // SAFETY: Checked for place and alignment; it lives as long as `self`, and every value
        // is valid. Reading needs no permission to write: it is a plain load.
        let value = unsafe { word.as_ref() }.load(Ordering::Acquire);
        Ok(u32::from_le(value))
    }

    /// The same for eight bytes.
    pub fn load_u64(&self, offset: u64) -> Result<u64, OutOfRange> {
        let word = aligned::<AtomicU64>(self.at(offset, 8)?)?;
        // SAFETY: As in `load_u32`.
        let value = unsafe { word.as_ref() }.load(Ordering::Acquire);
        Ok(u64::from_le(value))
    }

    /// Writes an aligned word: who sees it sees everything that was written before, into any memory.
    pub fn store_u32(&self, offset: u64, value: u32) -> Result<(), OutOfRange> {
        let word = aligned::<AtomicU32>(self.at_mut(offset, 4)?)?;
        fence(Ordering::Release);
        // SAFETY: As in `load_u32`, and it is writable.
        unsafe { word.as_ref() }.store(value.to_le(), Ordering::Release);
        Ok(())
    }
}

fn aligned<T>(at: NonNull<u8>) -> Result<NonNull<T>, OutOfRange> {
    let at = at.cast::<T>();
    if at.is_aligned() {
        Ok(at)
    } else {
        Err(OutOfRange)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: By the invariant this is a whole mapping; nobody has a pointer into it, as all
        // accesses borrow `self`.
        let result = unsafe { munmap(self.start.as_ptr().cast::<c_void>(), self.size) };
        if let Err(error) = result {
            log::error!("munmap: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_are_checked() {
        let (memory, file) = Mapping::create("test", 8192).expect("memory can be made");
        assert_eq!(memory.size(), 8192);
        let mut bytes = [1; 16];
        assert_eq!(memory.read(8176, &mut bytes), Ok(()));
        assert_eq!(bytes, [0; 16]);
        assert_eq!(memory.read(8177, &mut bytes), Err(OutOfRange));
        assert_eq!(memory.read(u64::MAX, &mut bytes), Err(OutOfRange));
        assert_eq!(memory.write(u64::MAX - 8, &bytes), Err(OutOfRange));
        assert_eq!(memory.zero(8192, 1), Err(OutOfRange));
        assert_eq!(memory.zero(8192, 0), Ok(()));
        assert_eq!(memory.load_u32(8190), Err(OutOfRange));
        assert_eq!(memory.load_u32(2), Err(OutOfRange));
        assert_eq!(memory.load_u64(4), Err(OutOfRange));
        assert_eq!(memory.store_u32(8, 0x0403_0201), Ok(()));
        assert_eq!(memory.write(12, &[5, 6, 7, 8]), Ok(()));
        assert_eq!(memory.load_u64(8), Ok(0x0807_0605_0403_0201));

        let readable = Mapping::new(&file, 4096, 4096, false).expect("it can be mapped twice");
        assert_eq!(readable.write(0, &[1]), Err(OutOfRange));
        assert_eq!(readable.zero(0, 1), Err(OutOfRange));
        assert_eq!(readable.store_u32(0, 1), Err(OutOfRange));
        assert_eq!(memory.write(4096, &[9]), Ok(()));
        assert_eq!(readable.load_u32(0), Ok(9));
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error() {
        let (_, file) = Mapping::create("test", 4096).expect("memory can be made");
        assert!(Mapping::new(&file, 0, 0, true).is_err());
        assert!(Mapping::new(&file, 1, 4096, true).is_err());
        assert!(Mapping::new(&file, 0, u64::MAX, true).is_err());
    }
}
