// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls of the accelerator without hardware that tests use.
//!
//! C header: `include/uapi/accel/accel_mock.h`

use std::os::fd::AsFd;

use crate::uapi::*;
use crate::{Compute, Info, Result, Timeline, sys};

/// [`Identity::uapi_name`](crate::Identity::uapi_name) of devices with these calls.
pub const NAME: &str = "accel_mock";

/// `a + b` modulo 2^64.
///
/// # Errors
///
/// `ENODEV` when the device is gone.
pub fn add(device: &Compute, a: u64, b: u64) -> Result<u64> {
    let mut argument = accel_mock_add { a, b };
    device.ioctl(ACCEL_MOCK_IOCTL_ADD, &mut argument)?;
    Ok(argument.b)
}

/// The sum of all `values` modulo 2^64; `partial` gets the sum up to each.
///
/// # Errors
///
/// `EINVAL` above [`ACCEL_MOCK_SUM_MAX`] values, or when the two differ in length;
/// `ENOMEM`.
pub fn sum(device: &Compute, values: &[u64], partial: &mut [u64]) -> Result<u64> {
    sys::mock_sum(device.as_fd(), values, partial)
        .map_err(|errno| device.node().error(ACCEL_MOCK_IOCTL_SUM.name(), errno))
}

/// Submits a job that has ended when this returns; returns its point on `timeline`.
///
/// # Errors
///
/// `ENOENT` when the timeline is of another file; `EAGAIN` when this file holds a
/// job; `ENOMEM`.
pub fn submit(device: &Compute, timeline: &Timeline) -> Result<u64> {
    submit_with(device, timeline, 0)
}

/// Submits a job that ends, as cancelled, when the file is closed.
///
/// # Errors
///
/// As [`submit`].
pub fn submit_held(device: &Compute, timeline: &Timeline) -> Result<u64> {
    submit_with(device, timeline, ACCEL_MOCK_SUBMIT_HOLD)
}

fn submit_with(device: &Compute, timeline: &Timeline, flags: u32) -> Result<u64> {
    let mut argument = accel_mock_submit {
        timeline: timeline.handle(),
        flags,
        ..Default::default()
    };
    device.ioctl(ACCEL_MOCK_IOCTL_SUBMIT, &mut argument)?;
    Ok(argument.point)
}
