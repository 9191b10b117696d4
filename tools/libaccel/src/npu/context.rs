// SPDX-License-Identifier: MIT OR Apache-2.0
//! A context: one address space of the device, and one queue of jobs.

use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::address::Addresses;
use super::failure::Failure;
use super::job::Job;
use super::memory::{Access, Mapped, Shared};
use crate::sys::{self, Map};
use crate::uapi::*;
use crate::{Buffer, Compute, Deadline, Errno, Error, Info, Result, Timeline};

/// An open compute file of an NPU.
///
/// What is made of it keeps the file open; a clone is the same context. It may
/// be used from many threads.
#[derive(Debug, Clone)]
pub struct Context(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    compute: Compute,
    addresses: Mutex<Addresses>,
}

/// What a card says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Card {
    /// Bytes of memory on the device.
    pub memory_total: u64,
    /// Bytes of it that nobody uses now.
    pub memory_free: u64,
    /// Serial number.
    pub serial: u64,
    /// Version of the hardware's interface, major and minor.
    pub revision: (u16, u16),
    /// Engines that compute.
    pub compute_engines: u32,
    /// Engines that copy.
    pub copy_engines: u32,
}

/// How jobs are submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Submit {
    /// Leave them until a doorbell is rung, or other jobs are submitted.
    pub defer: bool,
    /// Time from now in which they have to end, at most 10 minutes; 10 seconds when not given.
    pub limit: Option<Duration>,
}

impl Context {
    /// A context of an open file. The whole address space is its own: nothing else
    /// maps anything on this file.
    pub fn new(compute: Compute) -> Self {
        Self(Arc::new(Inner {
            compute,
            addresses: Mutex::new(Addresses::new()),
        }))
    }

    /// The file.
    pub fn compute(&self) -> &Compute {
        &self.0.compute
    }

    /// What the card says about itself.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it is gone.
    pub fn device(&self) -> Result<Card> {
        let mut raw = accel_npu_device::default();
        self.compute().ioctl(ACCEL_NPU_IOCTL_DEVICE, &mut raw)?;
        Ok(Card {
            memory_total: raw.memory_total,
            memory_free: raw.memory_free,
            serial: raw.serial,
            // Both halves.
            revision: ((raw.revision >> 16) as u16, raw.revision as u16),
            compute_engines: raw.compute_engines,
            copy_engines: raw.copy_engines,
        })
    }

    /// Maps a part of a buffer for the device; start and end are multiples of 4096.
    ///
    /// # Errors
    ///
    /// `EINVAL` misaligned or empty; `ERANGE` outside of the buffer; `ENOENT` another
    /// file's buffer; `ENOSPC` no memory for page tables, or above
    /// [`ACCEL_NPU_MAPPED_MAX`]; `EIO` the device has failed.
    pub fn map(&self, buffer: &Buffer, range: Range<u64>, access: Access) -> Result<Mapped> {
        Mapped::buffer(self, buffer, range, access)
    }

    /// New memory of the device, zeroed, of at least `size` bytes.
    ///
    /// # Errors
    ///
    /// `EINVAL` none; `ENOSPC` the device has no more, or it is above
    /// [`ACCEL_NPU_MAPPED_MAX`]; `EIO` the device has failed.
    pub fn memory(&self, size: u64, access: Access) -> Result<Mapped> {
        Mapped::device(self, size, access)
    }

    /// A new buffer of at least `size` bytes, zeroed, that the program and the
    /// device have mapped.
    ///
    /// # Errors
    ///
    /// Those of [`Compute::buffer`], [`Buffer::map`] and [`map`](Self::map).
    pub fn shared(&self, size: u64, access: Access) -> Result<Shared> {
        Shared::new(self, size, access)
    }

    /// Queues jobs, all or none; returns the point of the last on `timeline`. The
    /// others have those before it.
    ///
    /// # Errors
    ///
    /// `EINVAL` none, more than [`ACCEL_NPU_BATCH_MAX`], or a limit above 10 minutes;
    /// `EAGAIN` more than [`ACCEL_NPU_JOBS_MAX`] would not have ended; `EIO` the context is
    /// stopped ([`error`](Self::error) tells why, and lets it go on) or the device has failed.
    pub fn submit(&self, jobs: &[Job], timeline: &Timeline, how: Submit) -> Result<u64> {
        let raw: Vec<accel_npu_job> = jobs.iter().map(|job| job.raw()).collect();
        let argument = accel_npu_submit {
            timeline: timeline.handle(),
            flags: if how.defer { ACCEL_NPU_SUBMIT_DEFER } else { 0 },
            deadline_ms: how.limit.map_or(0, milliseconds),
            ..Default::default()
        };
        sys::npu_submit(self.compute().as_fd(), argument, &raw)
            .map_err(|errno| self.call_error(ACCEL_NPU_IOCTL_SUBMIT.name(), errno))
    }

    /// Sleeps until every job up to `point` has ended; returns the timeline's value.
    ///
    /// # Errors
    ///
    /// As [`Timeline::wait`], but for [`Error::Npu`] when one of those jobs failed and
    /// the device told why. Errors are then forgotten, and a stopped context goes on;
    /// the timeline does not: take a new one.
    pub fn wait(&self, timeline: &Timeline, point: u64, deadline: Deadline) -> Result<u64> {
        timeline.wait(point, deadline).map_err(|e| self.explain(e))
    }

    /// The error of a failed job, or of a context that is stopped, with what the device says of it.
    pub(super) fn explain(&self, error: Error) -> Error {
        let (device, status) = match &error {
            Error::Job { device, status, .. } => (device, *status),
            Error::Call { device, errno, .. } if *errno == Errno::IO => (device, *errno),
            _ => return error,
        };
        match self.error() {
            Ok(Some(failure)) => Error::Npu {
                device: device.clone(),
                status,
                failure,
            },
            // Another thread was told, or the device is gone: the status is true.
            Ok(None) | Err(_) => error,
        }
    }

    /// Why the context stopped, or else the first job that failed since the last call.
    /// All errors are then forgotten, and a stopped context goes on.
    ///
    /// # Errors
    ///
    /// `EIO` when the device has failed for good.
    pub fn error(&self) -> Result<Option<Failure>> {
        let mut raw = accel_npu_error::default();
        match self.compute().ioctl(ACCEL_NPU_IOCTL_ERROR, &mut raw) {
            Ok(()) => Ok(Some((&raw).into())),
            Err(error) if error.errno() == Some(Errno::NODATA) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Maps the context's doorbell.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the device is gone, `EAGAIN` while it is being reset, `ENOMEM`.
    pub fn doorbell(&self) -> Result<Doorbell> {
        #[allow(clippy::unnecessary_cast)]
        let (offset, size) = (
            ACCEL_NPU_MMAP_DOORBELL as u64,
            ACCEL_NPU_DOORBELL_SIZE as usize,
        );
        Map::new(self.compute().as_fd(), offset, size)
            .map(|map| Doorbell { map })
            .map_err(|errno| self.call_error("mmap", errno))
    }

    /// What is free; locked as long as it is held.
    pub(super) fn addresses(&self) -> MutexGuard<'_, Addresses> {
        // What is done under it does not panic halfway.
        let addresses = self.0.addresses.lock();
        addresses.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn call_error(&self, call: &'static str, errno: Errno) -> Error {
        self.compute().node().error(call, errno)
    }
}

/// The whole milliseconds of a limit, at least 1, since 0 means another.
fn milliseconds(limit: Duration) -> u32 {
    u32::try_from(limit.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// A context's doorbell: has the device look for jobs that were deferred.
///
/// Touching it when the device was unplugged is `SIGBUS`, as with a [`Mapping`](crate::Mapping).
#[derive(Debug)]
pub struct Doorbell {
    map: Map,
}

impl Doorbell {
    /// Rings it. Ringing without need does no harm.
    pub fn ring(&mut self) {
        // What this thread wrote before is to be seen by the device first.
        fence(Ordering::SeqCst);
        // A whole page is mapped: its first word is inside and aligned.
        let _ = self.map.write_u32(0, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_in_milliseconds() {
        assert_eq!(milliseconds(Duration::ZERO), 1);
        assert_eq!(milliseconds(Duration::from_micros(1500)), 1);
        assert_eq!(milliseconds(Duration::from_secs(2)), 2000);
        assert_eq!(milliseconds(Duration::MAX), u32::MAX);
    }
}
