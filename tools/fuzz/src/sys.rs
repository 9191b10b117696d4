// SPDX-License-Identifier: GPL-2.0
//! System calls with arguments that may be nonsense: the only room with `unsafe`.
//!
//! Arguments of calls are in one place only, [`Arena`], which no Rust reference points into: what
//! the kernel or a program does there is nobody else's. Mappings that programs make are far from
//! everything else (run/things.rs).
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int, c_long, c_void};
use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub const PAGE: usize = 4096;

/// An errno, or what the call gave.
pub type Answer = Result<i64, i32>;

fn answer(value: i64) -> Answer {
    if value >= 0 {
        return Ok(value);
    }
    Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// What LibAFL asks for the time, since it is built without std.
// SAFETY: nothing else has this name; it is what LibAFL declares.
#[unsafe(no_mangle)]
extern "C" fn external_current_millis() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}

pub fn open(path: &Path, flags: c_int) -> Answer {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return Err(libc::EINVAL);
    };
    // SAFETY: the path ends with NUL and is read during the call.
    answer(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }.into())
}

/// Closes what may be no file at all.
pub fn close(fd: i32) -> Answer {
    // SAFETY: the caller's files are numbers; std owns none of them.
    answer(unsafe { libc::close(fd) }.into())
}

pub fn dup(fd: i32) -> Answer {
    // SAFETY: no memory is involved.
    answer(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) }.into())
}

/// ioctl(2) with any number and any address.
pub fn ioctl(fd: i32, number: u32, address: u64) -> Answer {
    // SAFETY: of this process the kernel reads and writes the arena and what programs have mapped;
    // see above.
    answer(unsafe { libc::syscall(libc::SYS_ioctl, fd, number as c_long, address as c_long) })
}

pub fn read(fd: i32, address: u64, bytes: usize) -> Answer {
    // SAFETY: as for `ioctl`.
    answer(unsafe { libc::read(fd, address as *mut c_void, bytes) } as i64)
}

pub fn write(fd: i32, address: u64, bytes: usize) -> Answer {
    // SAFETY: as for `ioctl`.
    answer(unsafe { libc::write(fd, address as *const c_void, bytes) } as i64)
}

/// Reads from, or writes to, a place in a file.
pub fn transfer_at(fd: i32, address: u64, bytes: usize, place: u64, write: bool) -> Answer {
    let (address, place) = (address as *mut c_void, place as i64);
    // SAFETY: as for `ioctl`.
    answer(unsafe {
        match write {
            true => libc::pwrite(fd, address, bytes, place),
            false => libc::pread(fd, address, bytes, place),
        }
    } as i64)
}

pub fn eventfd(start: u32) -> Answer {
    // SAFETY: no memory is involved.
    answer(unsafe { libc::eventfd(start, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }.into())
}

/// Waits for everything that can be waited for; gives what happened.
pub fn poll(fd: i32, time: Duration) -> Answer {
    let mut asked = libc::pollfd {
        fd,
        events: libc::POLLIN | libc::POLLOUT | libc::POLLPRI,
        revents: 0,
    };
    let milliseconds = c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: one `pollfd`, borrowed for the call.
    answer(unsafe { libc::poll(&mut asked, 1, milliseconds) }.into())?;
    Ok(asked.revents.into())
}

/// The ends of a pipe that is waited for: to read from, to write to.
pub fn blocking_pipe() -> std::io::Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: two descriptors are written during the call.
    let done = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
    answer(done.into()).map_err(std::io::Error::from_raw_os_error)?;
    // SAFETY: both were opened just now, and nobody else knows them.
    Ok(unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) })
}

/// The ends of a pipe: to read from, to write to.
pub fn pipe() -> Result<[i32; 2], i32> {
    let mut ends = [0; 2];
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: two descriptors are written during the call.
    answer(unsafe { libc::pipe2(ends.as_mut_ptr(), flags) }.into()).map(|_| ends)
}

/// Two ends of a socket.
pub fn socket_pair() -> Result<[i32; 2], i32> {
    let mut ends = [0; 2];
    // SAFETY: two descriptors are written during the call.
    let done = unsafe {
        libc::socketpair(
            libc::AF_UNIX,
            libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            0,
            ends.as_mut_ptr(),
        )
    };
    answer(done.into()).map(|_| ends)
}

/// Room for one descriptor beside a message.
#[repr(C, align(8))]
struct Beside([u8; 24]);

/// A message of one byte, and room for one descriptor, both borrowed for the call.
fn with_message(
    fd: i32,
    mut beside: Beside,
    call: impl FnOnce(i32, *mut libc::msghdr) -> isize,
) -> Result<Beside, i32> {
    let mut byte = 0_u8;
    let mut part = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    // SAFETY: all zeroes is a message without anything.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = beside.0.as_mut_ptr().cast();
    // SAFETY: computes.
    message.msg_controllen = unsafe { libc::CMSG_LEN(4) } as _;
    answer(call(fd, &mut message) as i64)?;
    Ok(beside)
}

/// Sends a descriptor.
pub fn send_fd(socket: i32, fd: i32) -> Answer {
    let mut beside = Beside([0; 24]);
    let header = libc::cmsghdr {
        // SAFETY: computes.
        cmsg_len: unsafe { libc::CMSG_LEN(4) } as _,
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SCM_RIGHTS,
    };
    // SAFETY: a `cmsghdr` is 16 bytes without padding, and there are 24 that are aligned for it.
    unsafe { beside.0.as_mut_ptr().cast::<libc::cmsghdr>().write(header) };
    beside.0[16..20].copy_from_slice(&fd.to_ne_bytes());
    with_message(socket, beside, |socket, message| {
        // SAFETY: `with_message` made the message.
        unsafe { libc::sendmsg(socket, message, libc::MSG_NOSIGNAL) }
    })
    .map(|_| 0)
}

/// Receives a descriptor.
pub fn receive_fd(socket: i32) -> Answer {
    let beside = with_message(socket, Beside([0; 24]), |socket, message| {
        // SAFETY: as above.
        unsafe { libc::recvmsg(socket, message, libc::MSG_CMSG_CLOEXEC) }
    })?;
    let mut fd = [0; 4];
    fd.copy_from_slice(&beside.0[16..20]);
    Ok(i32::from_ne_bytes(fd).into())
}

/// mmap(2) of a file where the kernel likes, or at an address where nothing is.
pub fn mmap(
    at: Option<u64>,
    fd: i32,
    offset: u64,
    size: usize,
    protection: i32,
    private: bool,
) -> Answer {
    let kind = if private {
        libc::MAP_PRIVATE
    } else {
        libc::MAP_SHARED
    };
    let place = if at.is_some() {
        libc::MAP_FIXED_NOREPLACE
    } else {
        0
    };
    let at = at.unwrap_or(0) as *mut c_void;
    // SAFETY: nothing that exists is touched.
    let at = unsafe { libc::mmap(at, size, protection, kind | place, fd, offset as i64) };
    if at == libc::MAP_FAILED {
        return answer(-1);
    }
    Ok(at.expose_provenance() as i64)
}

pub fn munmap(address: u64, size: usize) -> Answer {
    // SAFETY: callers name what programs have mapped, which is far from all else (run/things.rs).
    answer(unsafe { libc::munmap(address as *mut c_void, size) }.into())
}

/// mremap(2) in place, or to another address; `keep` leaves the old mapping there.
pub fn mremap(address: u64, old: usize, new: usize, to: Option<u64>, keep: bool) -> Answer {
    let mut flags = 0;
    if to.is_some() {
        flags |= libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    }
    if keep {
        flags |= libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP;
    }
    let to = to.unwrap_or(0) as *mut c_void;
    // SAFETY: as for `munmap`; so is `to`.
    let at = unsafe { libc::mremap(address as *mut c_void, old, new, flags, to) };
    if at == libc::MAP_FAILED {
        return answer(-1);
    }
    Ok(at.expose_provenance() as i64)
}

pub fn mprotect(address: u64, size: usize, protection: i32) -> Answer {
    // SAFETY: as for `munmap`.
    answer(unsafe { libc::mprotect(address as *mut c_void, size, protection) }.into())
}

pub fn madvise(address: u64, size: usize, advice: i32) -> Answer {
    // SAFETY: as for `munmap`.
    answer(unsafe { libc::madvise(address as *mut c_void, size, advice) }.into())
}

/// Has the kernel write random bytes: EFAULT where a program would be killed.
pub fn scribble(address: u64, bytes: usize) -> Answer {
    let address = address as *mut c_void;
    // libc's own may do it without the kernel.
    // SAFETY: as for `ioctl`.
    answer(unsafe { libc::syscall(libc::SYS_getrandom, address, bytes, libc::GRND_NONBLOCK) })
}

/// Unloads a module as rmmod does.
pub fn delete_module(name: &str) -> Answer {
    let Ok(name) = CString::new(name) else {
        return Err(libc::EINVAL);
    };
    // SAFETY: the name ends with NUL and is read during the call.
    answer(unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) })
}

/// Loads a module from a file.
pub fn finit_module(fd: i32, parameters: &CStr) -> Answer {
    // SAFETY: the parameters end with NUL and are read during the call.
    answer(unsafe { libc::syscall(libc::SYS_finit_module, fd, parameters.as_ptr(), 0) })
}

/// The number by which signals reach the calling thread.
pub fn thread_id() -> i32 {
    // SAFETY: no memory is involved.
    unsafe { libc::gettid() }
}

const WAKE: c_int = libc::SIGUSR1;

extern "C" fn on_wake(_: c_int) {}

/// Has the signal of [`interrupt`] do nothing but interrupt.
pub fn be_interruptible() {
    // SAFETY: all zeroes is an action without flags: calls are not restarted. The handler does
    // nothing, which a handler may do.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_wake as extern "C" fn(c_int) as usize;
        libc::sigaction(WAKE, &action, null_mut());
    }
}

/// Interrupts what a thread of this process waits for.
pub fn interrupt(thread: i32) -> Answer {
    // SAFETY: no memory is involved; a thread that is gone is ESRCH.
    answer(unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, WAKE) })
}

/// Bytes that the processes of the fuzzer share.
pub struct Shared {
    start: *mut u8,
    size: usize,
}

// SAFETY: it is reached through atomics only.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub fn new(size: usize) -> std::io::Result<Self> {
        // SAFETY: new memory.
        let start = unsafe {
            libc::mmap(
                null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        Ok(Self {
            start: start.cast(),
            size,
        })
    }

    pub fn bytes(&self) -> &[AtomicU8] {
        // SAFETY: `size` bytes that live as long as this, and are only ever atomics.
        unsafe { std::slice::from_raw_parts(self.start.cast::<AtomicU8>(), self.size) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: made by `new`; `bytes` borrows.
        unsafe { libc::munmap(self.start.cast(), self.size) };
    }
}

/// Memory for the arguments of one thread: pages that can be written, one that can only be read,
/// and one that cannot be used at all.
pub struct Arena {
    start: u64,
}

impl Arena {
    /// Bytes that can be written.
    pub const SIZE: usize = 64 * PAGE;

    pub fn new() -> std::io::Result<Self> {
        // SAFETY: new memory.
        let start = unsafe {
            libc::mmap(
                null_mut(),
                Self::SIZE + 2 * PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        let arena = Self {
            start: start.expose_provenance() as u64,
        };
        // SAFETY: its last two pages, which nothing has been put into.
        unsafe {
            libc::mprotect(start.byte_add(Self::SIZE), PAGE, libc::PROT_NONE);
            libc::mprotect(start.byte_add(Self::SIZE + PAGE), PAGE, libc::PROT_READ);
        }
        Ok(arena)
    }

    pub fn address(&self, offset: usize) -> u64 {
        self.start + offset as u64
    }

    /// An address so many bytes before the page that cannot be used.
    pub fn edge(&self, before: usize) -> u64 {
        self.address(Self::SIZE - before.min(Self::SIZE))
    }

    /// An address in the page that can only be read.
    pub fn read_only(&self, offset: usize) -> u64 {
        self.address(Self::SIZE + PAGE + offset % PAGE)
    }

    /// Copies `bytes` to `offset`, as much as there is room for.
    pub fn put(&self, offset: usize, bytes: &[u8]) {
        for (number, byte) in bytes.iter().enumerate() {
            if offset + number < Self::SIZE {
                let at = self.address(offset + number) as *mut u8;
                // SAFETY: inside of what can be written.
                unsafe { at.write_volatile(*byte) };
            }
        }
    }

    /// The `size` bytes (at most 8) at `offset`, as a number.
    pub fn number(&self, offset: usize, size: usize) -> u64 {
        let mut bytes = [0; 8];
        for (number, byte) in bytes.iter_mut().enumerate().take(size) {
            if offset + number < Self::SIZE {
                let at = self.address(offset + number) as *const u8;
                // SAFETY: inside of what can be read.
                *byte = unsafe { at.read_volatile() };
            }
        }
        u64::from_le_bytes(bytes)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: made by `new`; addresses in it are not followed after a program has run.
        unsafe { libc::munmap(self.start as *mut c_void, Self::SIZE + 2 * PAGE) };
    }
}

/// What became of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Status(i32),
    Signal(i32),
}

/// A process that was made of this one.
pub struct Child {
    pid: i32,
    /// Readable once it has ended.
    fd: i32,
}

/// Makes a process that does `work` and exits with what it gives. If the
/// caller has more threads, `work` must be nothing but system calls.
pub fn fork(work: impl FnOnce() -> i32) -> Result<Child, i32> {
    // SAFETY: the fuzzer has one thread, so that its child may do anything. Programs have several;
    // what their children do allocates nothing and takes no lock (run/steps.rs).
    let pid = answer(unsafe { libc::fork() }.into())? as i32;
    if pid == 0 {
        // A panic must not unwind into what the parent is doing.
        let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(101);
        // SAFETY: ends this process.
        unsafe { libc::_exit(status) };
    }
    // SAFETY: no memory is involved.
    let fd = answer(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })? as i32;
    Ok(Child { pid, fd })
}

impl Child {
    /// Waits until it has ended; none if it does not in time.
    pub fn wait(&self, time: Duration) -> Option<Exit> {
        let end = Instant::now() + time;
        loop {
            match poll(self.fd, end.saturating_duration_since(Instant::now())) {
                // Threads that run programs are interrupted.
                Err(libc::EINTR) => {}
                Ok(0) | Err(_) => return None,
                Ok(_) => break,
            }
        }
        let mut status = 0;
        // SAFETY: `status` is written during the call.
        unsafe { libc::waitpid(self.pid, &mut status, 0) };
        Some(if libc::WIFSIGNALED(status) {
            Exit::Signal(libc::WTERMSIG(status))
        } else {
            Exit::Status(libc::WEXITSTATUS(status))
        })
    }

    pub fn kill(&self) {
        // SAFETY: the process was not waited for, so that its number is still its own.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = close(self.fd);
    }
}

/// A buffer of KCOV, see Documentation/dev-tools/kcov.rst of the kernel.
pub struct Kcov {
    fd: i32,
    area: *mut u64,
    words: usize,
}

// SAFETY: the buffer is reached through atomics only.
unsafe impl Send for Kcov {}
// SAFETY: as above.
unsafe impl Sync for Kcov {}

const KCOV_INIT_TRACE: u32 = 0x8008_6301;
const KCOV_ENABLE: u32 = 0x6364;
const KCOV_DISABLE: u32 = 0x6365;
const KCOV_REMOTE_ENABLE: u32 = 0x4018_6366;

/// `struct kcov_remote_arg`, without handles of others.
#[repr(C)]
struct RemoteArgument {
    trace_mode: u32,
    area_size: u32,
    num_handles: u32,
    padding: u32,
    common_handle: u64,
}

impl Kcov {
    pub fn new(words: usize) -> Result<Self, i32> {
        let fd = open(Path::new("/sys/kernel/debug/kcov"), libc::O_RDWR)? as i32;
        ioctl(fd, KCOV_INIT_TRACE, words as u64)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let area = mmap(None, fd, 0, words * 8, protection, false)?;
        // Processes that are made of this one do not look at it: they come and go sooner.
        madvise(area as u64, words * 8, libc::MADV_DONTFORK)?;
        Ok(Self {
            fd,
            area: area as *mut u64,
            words,
        })
    }

    /// What the calling thread executes in the kernel goes here from now on.
    pub fn enable(&self) -> Answer {
        ioctl(self.fd, KCOV_ENABLE, 0)
    }

    /// The same of what others execute for the subsystem.
    pub fn enable_remote(&self, handle: u64) -> Answer {
        let argument = RemoteArgument {
            trace_mode: 0,
            area_size: self.words as u32,
            num_handles: 0,
            padding: 0,
            common_handle: handle,
        };
        ioctl(
            self.fd,
            KCOV_REMOTE_ENABLE,
            (&raw const argument).expose_provenance() as u64,
        )
    }

    pub fn disable(&self) -> Answer {
        ioctl(self.fd, KCOV_DISABLE, 0)
    }

    /// Gives the addresses that were executed and forgets them.
    pub fn take(&self, mut each: impl FnMut(u64)) {
        // SAFETY: `words` words that live as long as this; the kernel writes whole ones.
        let words =
            unsafe { std::slice::from_raw_parts(self.area.cast::<AtomicU64>(), self.words) };
        let [count, addresses @ ..] = words else {
            return;
        };
        let used = count.swap(0, Ordering::Relaxed) as usize;
        for address in addresses.iter().take(used) {
            each(address.load(Ordering::Relaxed));
        }
    }
}

impl Drop for Kcov {
    fn drop(&mut self) {
        // SAFETY: made by `new`; `take` borrows.
        unsafe { libc::munmap(self.area.cast(), self.words * 8) };
        let _ = close(self.fd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_ends_where_it_says() {
        let arena = Arena::new().unwrap();
        arena.put(10, &[1, 2, 3]);
        assert_eq!(arena.number(10, 4), 0x03_0201);
        assert_eq!(scribble(arena.edge(4), 4), Ok(4));
        assert_eq!(scribble(arena.edge(0), 1), Err(libc::EFAULT));
        assert_eq!(scribble(arena.read_only(5), 1), Err(libc::EFAULT));
        let null = open(Path::new("/dev/zero"), libc::O_RDONLY).unwrap() as i32;
        assert_eq!(read(null, arena.read_only(5), 1), Err(libc::EFAULT));
        close(null).unwrap();
        // Beyond the end nothing is written or read.
        arena.put(Arena::SIZE - 1, &[7, 8, 9]);
        assert_eq!(arena.number(Arena::SIZE - 1, 4), 7);
    }

    #[test]
    fn a_descriptor_goes_through_a_socket() {
        let [one, other] = socket_pair().unwrap();
        let event = eventfd(3).unwrap() as i32;
        send_fd(one, event).unwrap();
        let received = receive_fd(other).unwrap() as i32;
        assert_ne!(received, event);
        assert_eq!(receive_fd(other), Err(libc::EAGAIN));
        for fd in [one, other, event, received] {
            close(fd).unwrap();
        }
    }
}
