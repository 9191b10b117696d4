// SPDX-License-Identifier: MIT OR Apache-2.0
//! The only room with `unsafe`: ioctl(2) with structs and arrays, and mapped memory.
//!
//! Everything is given out as safe functions that take references, so that a
//! pointer that goes to the kernel always comes from a live borrow.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{NonNull, null_mut};

use rustix::io::{Errno, Result, retry_on_intr};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::Request;
use crate::uapi::*;

/// An argument that may be given to the kernel as it is.
///
/// # Safety
///
/// - Every pattern of bits is a valid value, and there is no padding.
/// - No field is an address that the kernel would read or write, nor a file
///   descriptor: with one of those, safe code could reach memory or files that
///   it does not own.
pub unsafe trait Plain: Copy {}

// SAFETY (all of these): integers and arrays of them without padding (the
// layout test compares them with C), no addresses and no file descriptors by
// the comments in the headers. Handles name objects that the kernel counts
// references of, so a wrong one is an error and never a wild access.
unsafe impl Plain for accel_buffer_create {}
unsafe impl Plain for accel_buffer_mmap {}
unsafe impl Plain for accel_handle {}
unsafe impl Plain for accel_events {}
unsafe impl Plain for accel_timeline_create {}
unsafe impl Plain for accel_timeline_wait {}
unsafe impl Plain for accel_edu_copy {}
unsafe impl Plain for accel_mock_add {}
unsafe impl Plain for accel_mock_submit {}
unsafe impl Plain for accel_null_add {}
// Their device addresses reach the context's own buffers and nothing else.
unsafe impl Plain for accel_npu_map {}
unsafe impl Plain for accel_npu_unmap {}
unsafe impl Plain for accel_npu_error {}
unsafe impl Plain for accel_npu_device {}
unsafe impl Plain for accel_info_queries {}
unsafe impl Plain for accel_info_identity {}
unsafe impl Plain for accel_info_state {}
unsafe impl Plain for accel_info_memory {}
unsafe impl Plain for accel_info_opens {}
unsafe impl Plain for accel_info_resets {}
unsafe impl Plain for accel_info_client {}
unsafe impl Plain for accel_info_limit {}

/// What rustix wants to know about one call.
struct Call<'a, T> {
    number: u32,
    argument: &'a mut T,
}

// SAFETY: `Request` checks that the number and `T` have the same size, and the
// kernel reads and writes no more of the argument than the number says.
unsafe impl<T> Ioctl for Call<'_, T> {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.number as Opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut *self.argument).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> Result<()> {
        Ok(())
    }
}

/// Calls until no signal gets in between; `argument` changes only on success.
///
/// # Safety
///
/// Addresses and file descriptors in `argument` are valid for what the kernel
/// does with them.
unsafe fn call<T: Copy>(fd: BorrowedFd<'_>, request: Request<T>, argument: &mut T) -> Result<()> {
    *argument = retry_on_intr(|| {
        let mut attempt = *argument;
        // SAFETY: the argument is borrowed for the call; what it points to is
        // the caller's promise.
        unsafe {
            ioctl(
                fd,
                Call {
                    number: request.number(),
                    argument: &mut attempt,
                },
            )?;
        }
        Ok(attempt)
    })?;
    Ok(())
}

/// An ioctl whose argument holds nothing but numbers.
pub(crate) fn plain<T: Plain>(
    fd: BorrowedFd<'_>,
    request: Request<T>,
    argument: &mut T,
) -> Result<()> {
    // SAFETY: `Plain` has neither addresses nor file descriptors.
    unsafe { call(fd, request, argument) }
}

/// Asks into `answer`; returns how many bytes of an answer the kernel knows.
pub(crate) fn info_bytes(
    fd: BorrowedFd<'_>,
    query: u32,
    index: u32,
    answer: &mut [u8],
) -> Result<usize> {
    let mut argument = accel_info {
        query,
        index,
        size: u32::try_from(answer.len()).map_err(|_| Errno::INVAL)?,
        flags: 0,
        // Exposed, since the kernel writes through it.
        ptr: answer.as_mut_ptr().expose_provenance() as u64,
    };
    // SAFETY: `ptr` and `size` are those of a slice that is borrowed for the call.
    unsafe { call(fd, ACCEL_IOCTL_INFO, &mut argument)? };
    usize::try_from(argument.size).map_err(|_| Errno::OVERFLOW)
}

/// Asks into a struct. What the kernel does not know of it is zero.
pub(crate) fn info<T: Plain>(
    fd: BorrowedFd<'_>,
    query: u32,
    index: u32,
    answer: &mut T,
) -> Result<()> {
    let bytes = NonNull::from(&mut *answer).cast::<u8>();
    // SAFETY: a `Plain` struct has no padding and takes every pattern of bits,
    // so it may be written as bytes; `answer` stays borrowed as long as they are.
    let bytes = unsafe { std::slice::from_raw_parts_mut(bytes.as_ptr(), size_of::<T>()) };
    info_bytes(fd, query, index, bytes)?;
    Ok(())
}

/// `ACCEL_IOCTL_TIMELINE_EVENTFD` with `eventfd` in its field.
pub(crate) fn timeline_eventfd(
    fd: BorrowedFd<'_>,
    mut argument: accel_timeline_eventfd,
    eventfd: BorrowedFd<'_>,
) -> Result<()> {
    argument.eventfd = eventfd.as_raw_fd();
    // SAFETY: the descriptor is borrowed for the call; the kernel takes its own
    // reference to the file.
    unsafe { call(fd, ACCEL_IOCTL_TIMELINE_EVENTFD, &mut argument) }
}

/// `ACCEL_EDU_IOCTL_FACTORIAL` with `numbers` in its fields; returns the job's point.
pub(crate) fn edu_factorial(
    fd: BorrowedFd<'_>,
    mut argument: accel_edu_factorial,
    numbers: &[u32],
) -> Result<u64> {
    argument.numbers = numbers.as_ptr().expose_provenance() as u64;
    argument.count = u32::try_from(numbers.len()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the kernel reads `count` numbers during the call and keeps no address.
    unsafe { call(fd, ACCEL_EDU_IOCTL_FACTORIAL, &mut argument)? };
    Ok(argument.point)
}

/// `ACCEL_MOCK_IOCTL_SUM`; slices of different lengths are `EINVAL`.
pub(crate) fn mock_sum(fd: BorrowedFd<'_>, values: &[u64], partial: &mut [u64]) -> Result<u64> {
    if values.len() != partial.len() {
        return Err(Errno::INVAL);
    }
    let mut argument = accel_mock_sum {
        values: values.as_ptr().expose_provenance() as u64,
        partial: partial.as_mut_ptr().expose_provenance() as u64,
        count: u32::try_from(values.len()).map_err(|_| Errno::INVAL)?,
        flags: 0,
        sum: 0,
    };
    // SAFETY: the kernel reads and writes `count` elements during the call;
    // both slices have that many and are borrowed as the call needs them.
    unsafe { call(fd, ACCEL_MOCK_IOCTL_SUM, &mut argument)? };
    Ok(argument.sum)
}

/// `ACCEL_NPU_IOCTL_SUBMIT` with `jobs` in its fields; returns the point of the last.
pub(crate) fn npu_submit(
    fd: BorrowedFd<'_>,
    mut argument: accel_npu_submit,
    jobs: &[accel_npu_job],
) -> Result<u64> {
    argument.jobs = jobs.as_ptr().expose_provenance() as u64;
    argument.count = u32::try_from(jobs.len()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the kernel reads `count` jobs during the call and keeps no address.
    unsafe { call(fd, ACCEL_NPU_IOCTL_SUBMIT, &mut argument)? };
    Ok(argument.point)
}

/// Mapped memory that others (the device, other processes) may change at any time.
///
/// It is never borrowed as a slice: Rust may assume that a slice does not
/// change behind its back. Bytes are copied with volatile accesses instead.
#[derive(Debug)]
pub(crate) struct Map {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; writing needs
// `&mut`, so threads of this process do not race through one `Map`.
unsafe impl Send for Map {}
// SAFETY: as above; through `&Map` memory is only read.
unsafe impl Sync for Map {}

impl Map {
    /// Maps `size` bytes of `fd`, shared, to be read and written.
    pub(crate) fn new(fd: BorrowedFd<'_>, offset: u64, size: usize) -> Result<Self> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: with no address and no MAP_FIXED, the kernel takes free
        // address space, so nothing that exists is touched.
        let start = unsafe { mmap(null_mut(), size, prot, MapFlags::SHARED, fd, offset)? };
        let start = NonNull::new(start.cast()).ok_or(Errno::FAULT)?;
        Ok(Self { start, size })
    }

    /// Bytes that are mapped.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Where `len` bytes at `offset` are, when they are all inside.
    fn place(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        if offset.checked_add(len)? > self.size {
            return None;
        }
        // SAFETY: `offset` is at most `size`, so this is inside of the mapping
        // or one past its end.
        Some(unsafe { self.start.add(offset) })
    }

    /// Copies out of the mapping; `None` when that is not all inside.
    pub(crate) fn read(&self, offset: usize, to: &mut [u8]) -> Option<()> {
        let from = self.place(offset, to.len())?;
        let (words, head) = split(from, to.len());
        for (i, byte) in to.iter_mut().enumerate().take(head) {
            // SAFETY: `i` is below `to.len()`, which `place` checked.
            *byte = unsafe { from.add(i).read_volatile() };
        }
        for i in 0..words {
            let at = head + i * 8;
            // SAFETY: eight bytes at `at` are inside, and `split` aligned them.
            let word = unsafe { from.add(at).cast::<u64>().read_volatile() };
            to[at..at + 8].copy_from_slice(&word.to_ne_bytes());
        }
        for (i, byte) in to.iter_mut().enumerate().skip(head + words * 8) {
            // SAFETY: as for the first bytes.
            *byte = unsafe { from.add(i).read_volatile() };
        }
        Some(())
    }

    /// Writes one aligned word with one access, as registers want it; `None` when
    /// that is not inside or not aligned.
    pub(crate) fn write_u32(&mut self, offset: usize, value: u32) -> Option<()> {
        let to = self.place(offset, 4)?.cast::<u32>();
        if !to.is_aligned() {
            return None;
        }
        // SAFETY: four bytes there are inside and aligned.
        unsafe { to.write_volatile(value) };
        Some(())
    }

    /// Copies into the mapping; `None` when that is not all inside.
    pub(crate) fn write(&mut self, offset: usize, from: &[u8]) -> Option<()> {
        let to = self.place(offset, from.len())?;
        let (words, head) = split(to, from.len());
        for (i, byte) in from.iter().enumerate().take(head) {
            // SAFETY: `i` is below `from.len()`, which `place` checked.
            unsafe { to.add(i).write_volatile(*byte) };
        }
        let tail = head + words * 8;
        for (i, bytes) in from[head..tail].chunks_exact(8).enumerate() {
            let mut word = [0; 8];
            word.copy_from_slice(bytes);
            // SAFETY: eight bytes there are inside, and `split` aligned them.
            unsafe {
                to.add(head + i * 8)
                    .cast::<u64>()
                    .write_volatile(u64::from_ne_bytes(word));
            }
        }
        for (i, byte) in from.iter().enumerate().skip(tail) {
            // SAFETY: as for the first bytes.
            unsafe { to.add(i).write_volatile(*byte) };
        }
        Some(())
    }
}

/// How many whole aligned words there are in `len` bytes, and how many bytes before them.
fn split(start: NonNull<u8>, len: usize) -> (usize, usize) {
    let head = start.as_ptr().align_offset(8).min(len);
    ((len - head) / 8, head)
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: made by `new` and not handed out; nobody can use it after this.
        // There is nothing to be done about an error.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.size) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use std::os::fd::AsFd;

    #[test]
    fn map_copies_any_range() {
        let file = memfd_create("accel-test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 4096).unwrap();
        let mut map = Map::new(file.as_fd(), 0, 4096).unwrap();
        let other = Map::new(file.as_fd(), 0, 4096).unwrap();
        let data: Vec<u8> = (0..100).collect();
        for offset in 0..9 {
            for len in 0..40 {
                map.write(0, &[0xff; 64]).unwrap();
                map.write(offset, &data[..len]).unwrap();
                let mut back = [0; 64];
                other.read(0, &mut back).unwrap();
                let mut expected = [0xff; 64];
                expected[offset..offset + len].copy_from_slice(&data[..len]);
                assert_eq!(back, expected, "offset {offset} len {len}");
                let mut part = vec![0; len];
                other.read(offset, &mut part).unwrap();
                assert_eq!(part, data[..len]);
            }
        }
    }

    #[test]
    fn map_ends_where_it_ends() {
        let file = memfd_create("accel-test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 4096).unwrap();
        let mut map = Map::new(file.as_fd(), 0, 4096).unwrap();
        assert_eq!(map.size(), 4096);
        assert!(map.write(4095, &[1]).is_some());
        assert!(map.write(4096, &[]).is_some());
        assert!(map.write(4096, &[1]).is_none());
        assert!(map.write(usize::MAX, &[1, 2]).is_none());
        assert!(map.read(4090, &mut [0; 7]).is_none());
    }

    #[test]
    fn words_are_written_whole_and_inside() {
        let file = memfd_create("accel-test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 4096).unwrap();
        let mut map = Map::new(file.as_fd(), 0, 4096).unwrap();
        assert!(map.write_u32(4092, 0x0102_0304).is_some());
        assert!(map.write_u32(4093, 1).is_none());
        assert!(map.write_u32(4094, 1).is_none());
        let mut back = [0; 4];
        map.read(4092, &mut back).unwrap();
        assert_eq!(u32::from_ne_bytes(back), 0x0102_0304);
    }

    #[test]
    fn a_file_that_is_no_accelerator_says_so() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut identity = accel_info_identity::default();
        let error = info(null.as_fd(), ACCEL_INFO_IDENTITY, 0, &mut identity);
        assert_eq!(error, Err(Errno::NOTTY));
        let error = mock_sum(null.as_fd(), &[1, 2], &mut [0]);
        assert_eq!(error, Err(Errno::INVAL));
    }
}
