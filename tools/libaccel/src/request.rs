// SPDX-License-Identifier: MIT OR Apache-2.0
//! An ioctl with the type of its argument.

use std::marker::PhantomData;

/// An ioctl request: a number, and the struct that goes with it.
///
/// Those of the headers are constants in [`uapi`](crate::uapi), under their C
/// names. A vendor's crate makes its own from its own header.
///
/// # Examples
///
/// ```
/// use libaccel::uapi::{ACCEL_NULL_IOCTL_ADD, accel_null_add};
/// use libaccel::{Compute, Result};
///
/// fn add(device: &Compute, a: u64, b: u64) -> Result<u64> {
///     let mut sum = accel_null_add { a, b };
///     device.ioctl(ACCEL_NULL_IOCTL_ADD, &mut sum)?;
///     Ok(sum.b)
/// }
/// ```
#[derive(Debug)]
pub struct Request<T> {
    number: u32,
    name: &'static str,
    argument: PhantomData<fn(&mut T)>,
}

// By hand: derived ones would ask the same of `T`, of which there is none inside.
impl<T> Clone for Request<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Request<T> {}

impl<T> Request<T> {
    /// The request `number`, as C's `_IOWR()` and the like make it; `name` is for messages.
    ///
    /// # Panics
    ///
    /// When the size in `number` is not the size of `T`. In a constant, which
    /// is where this belongs, that is a compile error.
    pub const fn new(number: u32, name: &'static str) -> Self {
        // 13 bits are the size on every architecture (on most it has 14).
        assert!(
            (number >> 16) & 0x1fff == size_of::<T>() as u32,
            "the size in the ioctl's number is not the size of its struct"
        );
        Self {
            number,
            name,
            argument: PhantomData,
        }
    }

    /// The number that ioctl(2) takes.
    pub const fn number(self) -> u32 {
        self.number
    }

    /// The name in the C header.
    pub const fn name(self) -> &'static str {
        self.name
    }
}
