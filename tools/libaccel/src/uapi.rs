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

/// A struct of the headers.
///
/// The tables are for programs that are about the interface itself: those that trace calls, or
/// make them up.
#[derive(Debug, Clone, Copy)]
pub struct Struct {
    pub name: &'static str,
    /// Bytes.
    pub size: usize,
    pub fields: &'static [Field],
}

/// A field of a [`Struct`].
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    /// Bytes from the beginning of the struct.
    pub offset: usize,
    /// Bytes; all elements of an array.
    pub size: usize,
}

/// An ioctl of the headers.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub name: &'static str,
    /// What ioctl(2) takes.
    pub number: u32,
    /// The name of its [`Struct`].
    pub argument: &'static str,
}

/// The size of the field that `_get` gives.
const fn size_of_field<S, F>(_get: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

include!(concat!(env!("OUT_DIR"), "/tables.rs"));
