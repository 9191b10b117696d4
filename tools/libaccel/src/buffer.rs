// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that a device works on, and how to look into it.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;

use crate::node::Node;
use crate::sys::Map;
use crate::uapi::*;
use crate::{Error, Result};

/// A buffer of the host's memory that jobs read and write.
///
/// Dropping it gives the handle back; jobs and mappings that use the memory
/// keep it until they end.
#[derive(Debug)]
pub struct Buffer {
    node: Arc<Node>,
    handle: u32,
    size: u64,
}

impl Buffer {
    pub(crate) fn new(node: Arc<Node>, size: u64) -> Result<Self> {
        let mut argument = accel_buffer_create {
            size,
            ..Default::default()
        };
        node.ioctl(ACCEL_IOCTL_BUFFER_CREATE, &mut argument)?;
        Ok(Self {
            node,
            handle: argument.handle,
            size: argument.size,
        })
    }

    /// What a driver's calls name it by, on the file that it was made with.
    pub fn handle(&self) -> u32 {
        self.handle
    }

    /// Bytes; whole pages.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Maps all of it.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the device is gone, `ENOMEM` when there is no room in the
    /// address space.
    pub fn map(&self) -> Result<Mapping> {
        let mut argument = accel_buffer_mmap {
            handle: self.handle,
            ..Default::default()
        };
        self.node.ioctl(ACCEL_IOCTL_BUFFER_MMAP, &mut argument)?;
        let error = |errno| self.node.error("mmap", errno);
        // More than a 32-bit program can address.
        let size = usize::try_from(argument.size).map_err(|_| error(Errno::NOMEM))?;
        let map = Map::new(self.node.as_fd(), argument.offset, size).map_err(error)?;
        Ok(Mapping {
            map,
            node: self.node.clone(),
        })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut argument = accel_handle {
            handle: self.handle,
            flags: 0,
        };
        // When the device is gone, so is the handle; nothing else can be wrong.
        let _ = self.node.ioctl(ACCEL_IOCTL_BUFFER_DESTROY, &mut argument);
    }
}

/// A buffer, mapped. It stays valid when the [`Buffer`] is dropped.
///
/// Bytes are copied in and out; there is no slice of them, because the device
/// may write at any time and Rust takes it that nobody does. A read that races
/// a job sees old or new bytes: wait for the job's point first.
///
/// When the device is unplugged, the kernel takes the memory away and touching
/// it is `SIGBUS`, which ends a program that does not handle that signal.
#[derive(Debug)]
pub struct Mapping {
    map: Map,
    node: Arc<Node>,
}

impl Mapping {
    /// Bytes that are mapped.
    pub fn size(&self) -> usize {
        self.map.size()
    }

    /// Copies bytes from `offset` on into `to`.
    ///
    /// # Errors
    ///
    /// [`Error::Range`] when they are not all inside; nothing is copied then.
    pub fn read_at(&self, offset: usize, to: &mut [u8]) -> Result<()> {
        let len = to.len();
        self.map
            .read(offset, to)
            .ok_or_else(|| self.outside(offset, len))
    }

    /// Copies `from` to `offset`.
    ///
    /// # Errors
    ///
    /// [`Error::Range`] when that is not all inside; nothing is copied then.
    pub fn write_at(&mut self, offset: usize, from: &[u8]) -> Result<()> {
        let len = from.len();
        self.map
            .write(offset, from)
            .ok_or_else(|| self.outside(offset, len))
    }

    /// Copies `count` numbers from `offset` on, as the CPU stores them.
    ///
    /// # Errors
    ///
    /// [`Error::Range`] when they are not all inside.
    pub fn read_u32s(&self, offset: usize, count: usize) -> Result<Vec<u32>> {
        // Checked before memory is taken for a count that cannot be right.
        let len = count
            .checked_mul(4)
            .filter(|len| *len <= self.size())
            .ok_or_else(|| self.outside(offset, count.saturating_mul(4)))?;
        let mut bytes = vec![0; len];
        self.read_at(offset, &mut bytes)?;
        Ok(bytes
            .chunks_exact(4)
            .map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
            .collect())
    }

    fn outside(&self, offset: usize, len: usize) -> Error {
        Error::Range {
            device: self.node.name().to_owned(),
            offset,
            len,
            size: self.size(),
        }
    }
}
