// SPDX-License-Identifier: GPL-2.0

//! Files in debugfs whose text is made when they are opened.
//!
//! Not the kernel crate's: those make their text in `read(2)` and are removed when nobody is in one,
//! however long the copying to somebody's memory takes. Here opening is all that removal waits for.
//! A file that is open holds its text and the core's module, and nothing of the device.
//!
//! C header: [`include/linux/debugfs.h`](srctree/include/linux/debugfs.h)

use super::raw;
use crate::{
    debugfs,
    THIS_MODULE, //
};
use core::fmt;
use kernel::{
    bindings,
    error::from_result,
    ffi::{
        c_char,
        c_int,
        c_void, //
    },
    prelude::*,
    types::ForeignOwnable, //
};

/// Most bytes of a [`Report`].
const REPORT_MAX: usize = 16 << 20;

/// What a text ends with that is longer.
const CUT: &[u8] = b"...\n";

/// Text that is made for whoever reads a file.
pub struct Report {
    bytes: KVVec<u8>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            bytes: KVVec::new(),
        }
    }

    /// Adds text, as `report.add(fmt!("{} of {}\n", used, size))?`.
    ///
    /// # Errors
    ///
    /// `EFBIG` when there is more than 16 MiB: readers get what there is, and are told so; `ENOMEM`.
    pub fn add(&mut self, text: fmt::Arguments<'_>) -> Result {
        // Why it failed is in how much there is.
        fmt::write(self, text).map_err(|_| match self.bytes.len() < REPORT_MAX {
            true => ENOMEM,
            false => EFBIG,
        })
    }

    /// Ends it with a line that says that there is more.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn cut(&mut self) -> Result {
        // Not in the middle of a line.
        while self.bytes.last().is_some_and(|byte| *byte != b'\n') {
            self.bytes.pop();
        }
        self.bytes.extend_from_slice(CUT, GFP_KERNEL_ACCOUNT)?;
        Ok(())
    }
}

impl fmt::Write for Report {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.bytes.len() >= REPORT_MAX {
            return Err(fmt::Error);
        }
        // Not charged: who is above `memory.high` is made to sleep for seconds again and again, inside
        // the gate. It is root, and there is an end to it.
        self.bytes
            .extend_from_slice(text.as_bytes(), GFP_KERNEL)
            .map_err(|_| fmt::Error)
    }
}

/// A directory, which goes with this, and so does all that is in it.
///
/// # Invariants
///
/// A directory in debugfs that this value owns, or an error: a kernel without debugfs has none.
pub(crate) struct Directory(*mut bindings::dentry);

// SAFETY: Directories belong to no thread.
unsafe impl Send for Directory {}
// SAFETY: The kernel synchronises what is done to one.
unsafe impl Sync for Directory {}

impl Directory {
    /// Makes a directory that only root may enter. That it fails is no error: nothing depends on it.
    pub(crate) fn new(name: &CStr, parent: Option<&Directory>) -> Self {
        let parent = parent.map_or(core::ptr::null_mut(), |parent| parent.0);

        // INVARIANT: It is new.
        // SAFETY: The name is valid; the parent is NULL, a directory or an error.
        Self(unsafe { raw::accel_debugfs_dir(name.as_char_ptr(), parent) })
    }

    /// Adds a file: what [`debugfs::open`] answers for `key`.
    pub(crate) fn add(&self, name: &CStr, key: usize) {
        // SAFETY: The name is valid, the directory is one or an error. The operations are the core's
        // and take any key.
        unsafe { raw::accel_debugfs_file(name.as_char_ptr(), self.0, key, &FILE.0) };
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Waits for those who open a file in it.
        // SAFETY: By the type invariant.
        unsafe { raw::accel_debugfs_remove(self.0) };
    }
}

struct FileOps(bindings::file_operations);

// SAFETY: The table is constant.
unsafe impl Sync for FileOps {}

static FILE: FileOps = FileOps(bindings::file_operations {
    owner: THIS_MODULE.as_ptr(),
    open: Some(open),
    read: Some(read),
    llseek: Some(bindings::default_llseek),
    release: Some(release),
    ..pin_init::zeroed()
});

/// # Safety
///
/// The VFS calls this as an operation of one of our files.
unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    from_result(|| {
        // SAFETY: The VFS calls with a valid inode, whose private data is the key.
        let key = unsafe { (*inode).i_private }.addr();
        let report = KBox::new(debugfs::open(key)?, GFP_KERNEL_ACCOUNT)?;

        // SAFETY: The VFS calls with a file that is being opened.
        unsafe { (*file).private_data = report.into_foreign().cast() };
        Ok(0)
    })
}

/// # Safety
///
/// The VFS calls this as an operation of one of our files.
unsafe extern "C" fn read(
    file: *mut bindings::file,
    buf: *mut c_char,
    count: usize,
    pos: *mut bindings::loff_t,
) -> isize {
    // SAFETY: `open` has put it there; it does not change.
    let report = unsafe { &*(*file).private_data.cast::<Report>() };

    // SAFETY: The VFS calls with a user's buffer and a valid position.
    unsafe {
        bindings::simple_read_from_buffer(
            buf.cast::<c_void>(),
            count,
            pos,
            report.bytes.as_ptr().cast(),
            report.bytes.len(),
        )
    }
}

/// # Safety
///
/// The VFS calls this as an operation of one of our files.
unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    // SAFETY: `open` has put it there, and the VFS calls this once, last.
    let report = unsafe { <KBox<Report> as ForeignOwnable>::from_foreign((*file).private_data) };

    drop(report);
    0
}
