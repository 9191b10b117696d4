// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's interface as it is in C: structs, constants and ioctl requests.
//!
//! Made from `include/uapi/accel/*.h` when the crate is built; the comments of
//! those headers are the reference for every field and every errno. Most
//! programs need none of this: [`Compute`](crate::Compute),
//! [`Buffer`](crate::Buffer) and [`Timeline`](crate::Timeline) speak it for them.
//!
//! C header: `include/uapi/accel/accel.h`
// bindgen zeroes what is too long for a derived Default with an unsafe block.
#![allow(unsafe_code)]
#![allow(missing_docs, non_camel_case_types, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/uapi.rs"));

/// What C says and what Rust found, for the test that compares the two.
#[cfg(test)]
pub(crate) const LAYOUT: &[(&str, usize)] = include!(concat!(env!("OUT_DIR"), "/layout.rs"));
