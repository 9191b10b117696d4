// SPDX-License-Identifier: GPL-2.0

//! The one room with `unsafe`: the kernel's C interfaces and the erased boundary to drivers,
//! behind types that cannot be used wrongly.
//!
//! Policy lives one floor up, in the `accel_*.rs` files, and has no `unsafe`. Each file here wraps
//! one thing:
//!
//! | file | what |
//! | --- | --- |
//! | `slot.rs` | the driver's data and the gate in front of it: who may reach it, and when |
//! | `slot/lifecycle.rs` | the rights to change the device as a whole, and to end it |
//! | `driver.rs` | what a driver implements |
//! | `lent.rs` | what its callbacks are lent |
//! | `ops.rs` | the `repr(C)` table between core and driver, and its typed Rust side |
//! | `ioctl.rs` | argument and array descriptors, and the driver's typed ioctl table |
//! | `registration.rs` | a registration that the parent's unbinding ends |
//! | `attributes.rs` | files in sysfs |
//! | `work.rs` | work that is done later: a device's, and what nobody waits for |
//! | `alarm.rs` | a call of the driver at a time |
//! | `debugfs.rs` | files in debugfs |
//! | `declared.rs` | what drivers declare for sysfs and debugfs |
//! | `dma.rs` | memory for DMA |
//! | `dma_map.rs` | buffers that a device reaches by DMA |
//! | `errno.rs` | error numbers that the kernel's crate lacks |
//! | `global.rs` | the registry, which is global |
//! | `node.rs` | character devices, class, file operations |
//! | `vma.rs` | mappings |
//! | `pages.rs` | blocks of zeroed pages |
//! | `opener.rs` | who has opened a file |
//! | `wait.rs` | sleeping, polling, eventfds |
//! | `power.rs` | sleep of the system and of the parent, errors of the bus |
//! | `parent.rs` | the parent device: PCI, interrupts, DMA, power |
//! | `traced.rs` | what threads of the kernel do, shown to KCOV |
//! | `user.rs` | copying to and from user space |
//!
//! In C is what bindgen cannot bind, or what C is clearer for:
//!
//! | file | what |
//! | --- | --- |
//! | `gate.c` | the gate |
//! | `power.c` | what the kernel says of sleep and of errors of the bus |
//! | `user.c` | copying to and from user space |
//! | `wake.c` | waking many without keeping others waiting |
//! | `helpers.c`, `helpers.h` | macros and inline functions of the kernel |
//! | `exports.c` | the symbols that drivers are linked to |
//!
//! `kbuild.mk` is what the makefiles of the core and of drivers share.

pub(crate) mod alarm;
pub(crate) mod attributes;
pub(crate) mod debugfs;
pub(crate) mod declared;
pub(crate) mod dma;
pub(crate) mod dma_map;
pub(crate) mod driver;
pub mod errno;
pub(crate) mod global;
pub(crate) mod ioctl;
pub(crate) mod lent;
pub(crate) mod node;
pub(crate) mod opener;
pub(crate) mod ops;
pub(crate) mod pages;
pub(crate) mod parent;
pub(crate) mod power;
pub(crate) mod registration;
pub(crate) mod slot;
mod traced;
pub(crate) mod user;
pub(crate) mod vma;
pub(crate) mod wait;
pub(crate) mod work;

/// The C helpers beside this file.
#[allow(dead_code, missing_docs, non_camel_case_types, non_snake_case)]
#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    improper_ctypes,
    unreachable_pub
)]
mod raw {
    use super::uapi::accel_info_identity;
    use kernel::{
        bindings::*,
        ffi, //
    };
    use pin_init::MaybeZeroable;

    include!(concat!(env!("ACCEL_OBJ"), "/bindings/helpers_generated.rs"));
}

/// The user-space API, generated from `include/uapi/accel/accel.h`.
#[allow(dead_code, missing_docs, non_camel_case_types, unused_imports)]
#[allow(clippy::all, unreachable_pub)]
pub mod uapi {
    include!(concat!(env!("ACCEL_OBJ"), "/bindings/uapi_generated.rs"));
}
