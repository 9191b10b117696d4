// SPDX-License-Identifier: MIT OR Apache-2.0
//! An open file of a device and the name that messages call it by.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::io::{Errno, retry_on_intr};

use crate::sys::{self, Plain};
use crate::{Error, Request, Result};

/// An open node. What is made of it (buffers, timelines) shares it.
#[derive(Debug)]
pub struct Node {
    fd: OwnedFd,
    name: String,
}

impl Node {
    /// Opens `path`. When `rdev` is given, refuses any other device than that.
    pub(crate) fn open(path: &Path, flags: OFlags, rdev: Option<u64>) -> Result<Self> {
        let fd = retry_on_intr(|| open(path, flags | OFlags::CLOEXEC, Mode::empty()))
            .map_err(|errno| Error::open(path, errno))?;
        let found = fstat(&fd).map_err(|errno| Error::open(path, errno))?;
        // `st_rdev` is narrower on some architectures.
        #[allow(clippy::useless_conversion)]
        let found = u64::from(found.st_rdev);
        if rdev.is_some_and(|rdev| rdev != found) {
            return Err(Error::Strange {
                path: path.display().to_string(),
                what: "this node has other device numbers than sysfs says: make it anew".into(),
            });
        }
        let name = path
            .file_name()
            .map_or(String::new(), |name| name.to_string_lossy().into_owned());
        Ok(Self { fd, name })
    }

    /// `accelN` or `accel_controlN`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What a failed call is reported as.
    pub(crate) fn error(&self, call: &'static str, errno: Errno) -> Error {
        Error::Call {
            device: self.name.clone(),
            call,
            errno,
        }
    }

    /// An ioctl without addresses.
    pub(crate) fn ioctl<T: Plain>(&self, request: Request<T>, argument: &mut T) -> Result<()> {
        sys::plain(self.as_fd(), request, argument)
            .map_err(|errno| self.error(request.name(), errno))
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
