// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two nodes of a device, open: one computes, one tells.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::node::Node;
use crate::{Buffer, Deadline, Error, Info, Plain, Request, Result, Timeline};

/// An open compute node, `/dev/accel/accelN`.
///
/// Buffers and timelines that are made with it keep it open. It may be used
/// from many threads at once, and polled ([`AsFd`]): it is readable while a
/// timeline of its has a value that no wait has returned yet, or there are
/// [events](Info::events) to be read.
#[derive(Debug)]
pub struct Compute {
    node: Arc<Node>,
}

impl Compute {
    /// Opens the compute node at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Open`]: `EACCES` names the group that may; `EBUSY` when as many
    /// are open as the device can serve; `EAGAIN` while it is being reset.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_as(path.as_ref(), None)
    }

    pub(crate) fn open_as(path: &Path, rdev: Option<u64>) -> Result<Self> {
        Ok(Self {
            node: Arc::new(Node::open(path, OFlags::RDWR, rdev)?),
        })
    }

    /// `accelN`.
    pub fn name(&self) -> &str {
        self.node.name()
    }

    /// Makes a buffer of at least `size` bytes, all zero.
    ///
    /// # Errors
    ///
    /// `EINVAL` when `size` is 0 or above [`ACCEL_BUFFER_SIZE_MAX`], `ENOMEM`, or
    /// `ENOSPC` when this file has [`ACCEL_HANDLES_MAX`] buffers.
    ///
    /// [`ACCEL_BUFFER_SIZE_MAX`]: crate::uapi::ACCEL_BUFFER_SIZE_MAX
    /// [`ACCEL_HANDLES_MAX`]: crate::uapi::ACCEL_HANDLES_MAX
    pub fn buffer(&self, size: u64) -> Result<Buffer> {
        Buffer::new(self.node.clone(), size)
    }

    /// Makes a timeline, at 0.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or `ENOSPC` when this file has [`ACCEL_HANDLES_MAX`] of them.
    ///
    /// [`ACCEL_HANDLES_MAX`]: crate::uapi::ACCEL_HANDLES_MAX
    pub fn timeline(&self) -> Result<Timeline> {
        Timeline::new(self.node.clone())
    }

    /// A driver's own ioctl. A signal in between does not end it.
    ///
    /// # Errors
    ///
    /// Those that the header documents; `ENOTTY` when the driver has no such
    /// call. `argument` is as it was then.
    pub fn ioctl<T: Plain>(&self, request: Request<T>, argument: &mut T) -> Result<()> {
        self.node.ioctl(request, argument)
    }

    /// Sleeps until the file polls as readable; false when the deadline came first.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the device is gone.
    pub fn wait_readable(&self, deadline: Deadline) -> Result<bool> {
        let mut fds = [PollFd::new(&self.node, PollFlags::IN)];
        loop {
            let ready = match poll(&mut fds, deadline.remaining().as_ref()) {
                Ok(ready) => ready,
                // What is left of the time is asked for again.
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(self.node.error("poll", errno)),
            };
            let events = fds[0].revents();
            if events.intersects(PollFlags::HUP | PollFlags::ERR) {
                return Err(self.node.error("poll", Errno::NODEV));
            }
            // A timer may be early by a part of its resolution.
            if ready != 0 || deadline.has_passed() {
                return Ok(ready != 0);
            }
        }
    }
}

impl AsFd for Compute {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.node.as_fd()
    }
}

impl Info for Compute {
    fn node(&self) -> &Node {
        &self.node
    }
}

/// An open control node, `/dev/accel/accel_controlN`.
///
/// It answers while another program has the device for itself, while the device
/// is being reset, and when it is broken; asking wakes no hardware.
#[derive(Debug)]
pub struct Control {
    node: Node,
}

impl Control {
    /// Opens the control node at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_as(path.as_ref(), None)
    }

    pub(crate) fn open_as(path: &Path, rdev: Option<u64>) -> Result<Self, Error> {
        Ok(Self {
            node: Node::open(path, OFlags::RDONLY, rdev)?,
        })
    }

    /// `accel_controlN`.
    pub fn name(&self) -> &str {
        self.node.name()
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.node.as_fd()
    }
}

impl Info for Control {
    fn node(&self) -> &Node {
        &self.node
    }
}
