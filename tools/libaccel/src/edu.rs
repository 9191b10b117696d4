// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls of QEMU's educational device: factorials, and copies through its memory.
//!
//! C header: `include/uapi/accel/accel_edu.h`

use std::ops::Range;
use std::os::fd::AsFd;

use crate::uapi::*;
use crate::{Buffer, Compute, Info, Result, Timeline, sys};

/// [`Identity::uapi_name`](crate::Identity::uapi_name) of devices with these calls.
pub const NAME: &str = "accel_edu";

/// Queues a job that writes the factorial of each number, modulo 2^32, as a
/// `u32` each to `answers` from `offset` on; returns its point on `timeline`.
///
/// # Errors
///
/// `EINVAL` for no or more than [`ACCEL_EDU_BATCH_MAX`] numbers, for one above
/// [`ACCEL_EDU_FACTORIAL_MAX`], and for an offset that is no multiple of 4;
/// `ERANGE` when the answers do not fit; `EAGAIN` when [`ACCEL_EDU_JOBS_MAX`]
/// jobs are queued; `ENOENT` when buffer or timeline are of another file.
pub fn factorial(
    device: &Compute,
    numbers: &[u32],
    timeline: &Timeline,
    answers: &Buffer,
    offset: u64,
) -> Result<u64> {
    let argument = accel_edu_factorial {
        timeline: timeline.handle(),
        dst: answers.handle(),
        dst_offset: offset,
        ..Default::default()
    };
    sys::edu_factorial(device.as_fd(), argument, numbers)
        .map_err(|errno| device.node().error(ACCEL_EDU_IOCTL_FACTORIAL.name(), errno))
}

/// Queues a job that copies the bytes `from` of `source` into the device, and
/// from there to `to` in `target`; returns its point on `timeline`.
///
/// # Errors
///
/// `EINVAL` for no bytes; `ERANGE` outside of a buffer; `EAGAIN` when
/// [`ACCEL_EDU_JOBS_MAX`] jobs are queued; `ENOENT` when buffers or timeline are of
/// another file.
pub fn copy(
    device: &Compute,
    source: &Buffer,
    from: Range<u64>,
    target: &Buffer,
    to: u64,
    timeline: &Timeline,
) -> Result<u64> {
    let mut argument = accel_edu_copy {
        src: source.handle(),
        dst: target.handle(),
        src_offset: from.start,
        dst_offset: to,
        size: from.end.saturating_sub(from.start),
        timeline: timeline.handle(),
        ..Default::default()
    };
    device.ioctl(ACCEL_EDU_IOCTL_COPY, &mut argument)?;
    Ok(argument.point)
}
