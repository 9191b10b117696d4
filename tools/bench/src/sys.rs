// SPDX-License-Identifier: MIT OR Apache-2.0
//! The only room with `unsafe`: the counter, and system calls through libc's wrappers.
//!
//! libaccel is not used for what is measured: its checks are not the kernel's,
//! and the peers are called the same way as here.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libaccel::Request;
use libaccel::uapi::*;

/// The counter: instructions under icount, else whatever the processor counts.
#[inline(always)]
pub fn counter() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: rdtsc only reads a counter; Linux lets user space do so.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        libaccel::now_ns() as u64
    }
}

/// Instructions that the CPU has executed, where QEMU runs with the plugin beside this crate; 0
/// elsewhere.
#[inline(always)]
pub fn instructions() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        let count: u64;
        // SAFETY: exchanges a register with itself. The plugin writes rax; both are said to change.
        unsafe {
            core::arch::asm!("xchg ecx, ecx", inout("rax") 0_u64 => count, out("rcx") _,
                options(nomem, nostack, preserves_flags));
        }
        count
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        0
    }
}

/// ioctl(2) as C calls it.
///
/// # Safety
///
/// Addresses in `argument` are valid for what the kernel does with them.
#[inline(always)]
unsafe fn ioctl<T>(fd: BorrowedFd<'_>, number: u32, argument: &mut T) -> c_int {
    // SAFETY: the argument is borrowed for the call and has the size that the
    // number says (`Request` checks it; those of DRM are made from it).
    unsafe { libc::ioctl(fd.as_raw_fd(), number as _, &raw mut *argument) }
}

/// An ioctl of ours, without addresses.
#[inline(always)]
pub fn plain<T: libaccel::Plain>(
    fd: BorrowedFd<'_>,
    request: Request<T>,
    argument: &mut T,
) -> c_int {
    // SAFETY: `Plain` has no addresses.
    unsafe { ioctl(fd, request.number(), argument) }
}

/// INFO for the identity.
#[inline(always)]
pub fn identity(
    fd: BorrowedFd<'_>,
    argument: &mut accel_info,
    answer: &mut accel_info_identity,
) -> c_int {
    argument.query = ACCEL_INFO_IDENTITY;
    argument.size = size_of::<accel_info_identity>() as u32;
    argument.ptr = (&raw mut *answer).expose_provenance() as u64;
    // SAFETY: `ptr` and `size` are those of `answer`, borrowed for the call.
    unsafe { ioctl(fd, ACCEL_IOCTL_INFO.number(), argument) }
}

/// MAP of an NPU, from the beginning of a buffer.
#[inline(always)]
pub fn npu_map(fd: BorrowedFd<'_>, buffer: u32, flags: u32, size: u64, address: u64) -> c_int {
    let mut argument = accel_npu_map {
        buffer,
        flags,
        size,
        address,
        ..Default::default()
    };
    // SAFETY: device addresses are no addresses of this program.
    unsafe { ioctl(fd, ACCEL_NPU_IOCTL_MAP.number(), &mut argument) }
}

/// UNMAP of an NPU.
#[inline(always)]
pub fn npu_unmap(fd: BorrowedFd<'_>, address: u64, size: u64) -> c_int {
    let mut argument = accel_npu_unmap { address, size };
    // SAFETY: as above.
    unsafe { ioctl(fd, ACCEL_NPU_IOCTL_UNMAP.number(), &mut argument) }
}

/// SUBMIT of an NPU.
#[inline(always)]
pub fn npu_submit(
    fd: BorrowedFd<'_>,
    argument: &mut accel_npu_submit,
    jobs: &[accel_npu_job],
) -> c_int {
    argument.jobs = jobs.as_ptr().expose_provenance() as u64;
    argument.count = jobs.len() as u32;
    // SAFETY: `jobs` and `count` are those of the slice, borrowed for the call.
    unsafe { ioctl(fd, ACCEL_NPU_IOCTL_SUBMIT.number(), argument) }
}

/// A command as the device reads it.
pub fn bytes_of(command: &accel_npu_command) -> [u8; size_of::<accel_npu_command>()] {
    // SAFETY: the struct has no padding, so that all of its bytes are initialised.
    unsafe { core::mem::transmute_copy(command) }
}

/// An ioctl that no file has.
#[inline(always)]
pub fn refused(fd: BorrowedFd<'_>) -> c_int {
    // SAFETY: without an argument; the number, _IO('A', 0), is nobody's.
    unsafe { libc::ioctl(fd.as_raw_fd(), 0x4100) }
}

/// The cheapest system call.
#[inline(always)]
pub fn getppid() -> c_long {
    // SAFETY: takes nothing and always succeeds.
    unsafe { libc::syscall(libc::SYS_getppid) }
}

/// Opens and closes; 0 when both worked.
#[inline(always)]
pub fn open_close(path: &CStr) -> c_int {
    // SAFETY: a string that ends with NUL; the new descriptor is nobody else's.
    // Closing -1 fails, so that a failed open is seen.
    unsafe { libc::close(libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC)) }
}

/// `path` for [`open_close`].
pub fn c_path(path: &Path) -> Result<CString, String> {
    CString::new(path.as_os_str().as_bytes()).map_err(|e| format!("{}: {e}", path.display()))
}

/// `struct drm_get_cap` of drm/drm.h.
#[derive(Default)]
#[repr(C)]
pub struct DrmGetCap {
    /// In: `DRM_CAP_PRIME` (5) is one that every driver answers.
    pub capability: u64,
    /// Out.
    pub value: u64,
}

/// `struct drm_version` of drm/drm.h, of which only the name can be asked for.
#[repr(C)]
pub struct DrmVersion {
    major: c_int,
    minor: c_int,
    patch: c_int,
    name_len: usize,
    name: u64,
    date_len: usize,
    date: u64,
    desc_len: usize,
    desc: u64,
}

// The kernel's pointers are as wide as the program's.
const _: () = assert!(size_of::<usize>() == 8, "accel-bench is for 64-bit systems");

impl DrmVersion {
    /// Asks for the numbers only, as the peers' baseline does.
    pub fn numbers() -> Self {
        Self {
            major: 0,
            minor: 0,
            patch: 0,
            name_len: 0,
            name: 0,
            date_len: 0,
            date: 0,
            desc_len: 0,
            desc: 0,
        }
    }
}

/// `_IOWR('d', number, T)`.
const fn drm<T>(number: u32) -> u32 {
    (3 << 30) | ((size_of::<T>() as u32) << 16) | ((b'd' as u32) << 8) | number
}

/// `DRM_IOCTL_GET_CAP`.
#[inline(always)]
pub fn drm_get_cap(fd: BorrowedFd<'_>, argument: &mut DrmGetCap) -> c_int {
    // SAFETY: the struct has no addresses.
    unsafe { ioctl(fd, const { drm::<DrmGetCap>(0x0c) }, argument) }
}

/// `DRM_IOCTL_VERSION` for the numbers.
#[inline(always)]
pub fn drm_version(fd: BorrowedFd<'_>, argument: &mut DrmVersion) -> c_int {
    // SAFETY: other rooms can only make one whose addresses are 0, and to those
    // nothing is copied, whatever the lengths are.
    unsafe { ioctl(fd, const { drm::<DrmVersion>(0x00) }, argument) }
}

/// The name of the DRM driver behind `fd`.
pub fn drm_name(fd: BorrowedFd<'_>) -> io::Result<String> {
    let mut name = [0_u8; 32];
    let mut argument = DrmVersion {
        name_len: name.len(),
        name: name.as_mut_ptr().expose_provenance() as u64,
        ..DrmVersion::numbers()
    };
    // SAFETY: `name` has `name_len` bytes and is borrowed for the call; the other
    // lengths are 0.
    let failed = unsafe { ioctl(fd, const { drm::<DrmVersion>(0x00) }, &mut argument) };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    let len = argument.name_len.min(name.len());
    Ok(String::from_utf8_lossy(&name[..len]).into_owned())
}

/// Loads the module in the open file.
pub fn finit_module(file: BorrowedFd<'_>, compressed: bool) -> io::Result<()> {
    const COMPRESSED_FILE: c_int = 4;
    let flags = if compressed { COMPRESSED_FILE } else { 0 };
    // SAFETY: the descriptor is borrowed for the call; the parameters are "".
    let failed = unsafe {
        libc::syscall(
            libc::SYS_finit_module,
            file.as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    };
    outcome(failed)
}

/// Removes a module, without waiting for users that it may have.
pub fn delete_module(name: &CStr) -> io::Result<()> {
    // SAFETY: a string that ends with NUL.
    outcome(unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) })
}

/// The CPUs that this thread may run on.
pub fn cpus() -> io::Result<Vec<usize>> {
    // SAFETY: an array of bits, for which zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the size that it is told.
    let failed = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
    outcome(failed.into())?;
    let most = size_of_val(&set) * 8;
    // SAFETY: below the number of bits of the set.
    Ok((0..most)
        .filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) })
        .collect())
}

/// Keeps this thread on `cpu`, one of [`cpus`].
pub fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: as in `cpus`, where the number comes from.
    let failed = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    outcome(failed.into())
}

fn outcome(failed: c_long) -> io::Result<()> {
    match failed {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drm_numbers_are_those_of_the_header() {
        // The layout of C on a 64-bit system: 64 and 16 bytes.
        assert_eq!(drm::<DrmVersion>(0x00), 0xc040_6400);
        assert_eq!(drm::<DrmGetCap>(0x0c), 0xc010_640c);
    }

    #[test]
    fn opening_what_is_not_there_is_seen() {
        assert_eq!(open_close(c"/dev/null"), 0);
        assert_eq!(open_close(c"/nonexistent"), -1);
    }

    #[test]
    fn a_thread_can_be_pinned() {
        let cpu = cpus().unwrap()[0];
        pin(cpu).unwrap();
        assert_eq!(cpus().unwrap(), [cpu]);
    }
}
