// SPDX-License-Identifier: MIT OR Apache-2.0
//! The call of the smallest accelerator, which has no hardware.
//!
//! C header: `include/uapi/accel/accel_null.h`

use crate::uapi::*;
use crate::{Compute, Result};

/// [`Identity::uapi_name`](crate::Identity::uapi_name) of devices with this call.
pub const NAME: &str = "accel_null";

/// `a + b` modulo 2^64.
///
/// # Errors
///
/// `ENODEV` when the device is gone.
pub fn add(device: &Compute, a: u64, b: u64) -> Result<u64> {
    let mut argument = accel_null_add { a, b };
    device.ioctl(ACCEL_NULL_IOCTL_ADD, &mut argument)?;
    Ok(argument.b)
}
