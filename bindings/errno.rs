// SPDX-License-Identifier: GPL-2.0

//! Error numbers that the uAPI documents and the kernel's crate does not name.
//!
//! C header: [`include/uapi/asm-generic/errno.h`](srctree/include/uapi/asm-generic/errno.h)

use kernel::{
    bindings,
    error::{
        Error,
        Result, //
    },
    ffi::c_int, //
};

/// An error number; becomes an [`Error`] through `?` or `into()`.
#[derive(Clone, Copy)]
pub struct Errno(u32);

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self::from_errno(-(errno.0 as i32))
    }
}

/// What a C function returned, as the kernel's `to_result`; inlined where every instruction counts.
#[inline(always)]
pub(super) fn check(err: c_int) -> Result {
    if err < 0 {
        return Err(Error::from_errno(err));
    }
    Ok(())
}

/// There is no such thing on this device.
pub const ENODATA: Errno = Errno(bindings::ENODATA);
/// Not supported, nor ever was.
pub const EOPNOTSUPP: Errno = Errno(bindings::EOPNOTSUPP);
/// What the caller had on the device is lost.
pub const ESTALE: Errno = Errno(bindings::ESTALE);
/// Given up before it was done.
pub const ECANCELED: Errno = Errno(bindings::ECANCELED);
/// The user has as much as one may.
pub const EDQUOT: Errno = Errno(bindings::EDQUOT);
/// Core and driver do not agree.
pub const EPROTO: Errno = Errno(bindings::EPROTO);
