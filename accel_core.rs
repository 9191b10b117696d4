// SPDX-License-Identifier: GPL-2.0

//! A subsystem for compute accelerators.
//!
//! A driver calls [`register`] from its probe, and its device appears to user space as two
//! character devices: `/dev/accel/accelN` for computing and `/dev/accel/accel_controlN` for
//! monitoring. The core serves what all have in common: numbers, files, ioctls and their copying,
//! buffers and mappings, jobs that complete later, information; and it takes all down again when
//! the device goes, whatever user space is doing. The hardware stays the driver's own.
//!
//! This crate is what drivers import. `samples/accel_null.rs` is the smallest driver;
//! `Documentation/driver-guide.rst` leads through it; who calls a driver when, and with which locks
//! held, is in `Documentation/driver-callbacks.rst`.
//!
//! # Rooms
//!
//! | file | what belongs there |
//! | --- | --- |
//! | `accel_device.rs` | the life of a device, from registration to its end |
//! | `accel_state.rs` | the states of a device and the changes between them |
//! | `accel_lifecycle.rs` | what calls do in each state, and how it changes |
//! | `accel_reset.rs` | resets |
//! | `accel_power.rs` | sleep, and errors of the bus |
//! | `accel_minor.rs` | numbers, and how `open` finds a device |
//! | `accel_event.rs` | events: what files are told of the device and of their own |
//! | `accel_file.rs` | an open file and its handles |
//! | `accel_handles.rs` | numbers that a file knows its objects by |
//! | `accel_ioctl.rs` | copying arguments in and out, and dispatch |
//! | `accel_info.rs` | what both nodes can tell |
//! | `accel_job.rs` | timelines: everything that completes later |
//! | `accel_limits.rs` | how much one file, user and device may have |
//! | `accel_mm.rs` | buffers and their mappings |
//! | `accel_queue.rs` | work for one engine, fair between files |
//! | `accel_attribute.rs` | attributes that drivers declare |
//! | `accel_debugfs.rs` | what root sees in debugfs |
//! | `accel_sysfs.rs` | attributes in sysfs |
//! | `bindings/` | C interfaces and the boundary to drivers; the only room with `unsafe` |
//!
//! # Lock order
//!
//! Outer to inner; what is not listed is a leaf. No lock is held while user memory is touched, and
//! none but the first four while a driver is called.
//!
//! 1. the kernel's hold on an attribute (kernfs); the lock of the parent; then that of a class
//!    device. With these the kernel binds and unbinds, tells of the system's sleep and end, and of
//!    errors of the bus. No attribute of ours takes the lifecycle: to remove one waits for who is in
//!    it
//! 2. `mmap_lock`, or a VMA's: faults and `mmap` enter the gate with it held, so nothing inside the
//!    gate may touch user memory. They may wake an idle device
//! 3. the lifecycle of a device (`accel_lifecycle`): reset, alarm, check, the storing of attributes,
//!    all sleep and waking, an error of the bus, the close of a context that finds the gate blocked.
//!    Who is inside the gate never takes it, nor does an interrupt's thread
//! 4. the gate of a device (`accel_gate`): shared by operations, exclusive for unregister, for a
//!    reset and for sleep
//! 5. a device's hardware (`accel_hardware`); then its interrupts (`accel_interrupts`), with which
//!    their threads are waited for: who handles one takes neither
//! 6. the registry of devices, under which a gate is only tried; a device's list of files
//!    (`accel_files`), which debugfs holds while it goes through the files' trees; a device's nodes
//!    (`accel_nodes`); the making of a file's objects (`accel_objects`); its list of DMA mappings
//!    (`accel_dma_mappings`) and each of them (`accel_dma_mapped`), neither within the other; what a
//!    file system needs to unmap pages (`i_mmap_rwsem`)
//! 7. a file's trees of handles and offsets; a timeline (`accel_timeline`); a device's state
//!    (`accel_state`)
//! 8. an eventfd; a wait queue; the eventfds of a file that are due (`accel_due`); the alarm
//!    (`accel_alarm`); a file's events (`accel_events`), then a device's books (`accel_books`); what
//!    is known of attributes (`accel_attributes`)

// Names in the tree are those that files of this subsystem have in the kernel's.
#[path = "accel_attribute.rs"]
mod attribute;
#[path = "bindings/mod.rs"]
mod bindings;
#[path = "accel_debugfs.rs"]
mod debugfs;
#[path = "accel_device.rs"]
mod device;
#[path = "accel_event.rs"]
mod event;
#[path = "accel_file.rs"]
mod file;
#[path = "accel_handles.rs"]
mod handles;
#[path = "accel_info.rs"]
mod info;
#[path = "accel_ioctl.rs"]
mod ioctl;
#[path = "accel_job.rs"]
mod job;
#[path = "accel_lifecycle.rs"]
mod lifecycle;
#[path = "accel_limits.rs"]
mod limits;
#[path = "accel_minor.rs"]
mod minor;
#[path = "accel_mm.rs"]
mod mm;
#[path = "accel_power.rs"]
mod power;
#[path = "accel_queue.rs"]
mod queue;
#[path = "accel_reset.rs"]
mod reset;
#[path = "accel_state.rs"]
mod state;
#[path = "accel_sysfs.rs"]
mod sysfs;

use kernel::prelude::*;

pub use bindings::{
    debugfs::Report,
    declared::{
        attribute,
        debug_file,
        Attribute,
        AttributeEntry,
        DebugFile,
        DebugFileEntry,
        Value,
        Words, //
    },
    dma::{
        dma_rmb,
        dma_wmb,
        Shared,
        Staging, //
    },
    dma_map::DmaMapping,
    driver::Driver,
    errno,
    ioctl::{
        ioctl,
        In,
        Ioctl,
        IoctlEntry,
        Out, //
    },
    lent::{
        Call,
        Lent, //
    },
    parent::{
        pci_vendor,
        Faux,
        Parent, //
    },
    registration::register,
    uapi,
    wait::now_ns, //
};
pub use device::{
    Class,
    Description,
    Interrupts,
    Options, //
};
pub use event::{
    Access,
    Fault, //
};
pub use job::{
    Client,
    Job,
    Timeline, //
};
pub use mm::{
    Buffer,
    Region, //
};
pub use power::Sleep;
pub use queue::{
    FairQueue,
    Lane,
    LaneId,
    Place, //
};
pub use reset::Contexts;
pub use state::{
    Cause,
    State, //
};

/// Declares the module `uapi` with the Rust types of a driver's uAPI header, which
/// `bindings/kbuild.mk` generates for the kernel module of this name.
///
/// # Examples
///
/// ```ignore
/// accel::uapi_types!("accel_null");
///
/// const ADD: u32 = uapi::ACCEL_NULL_IOCTL_ADD;
/// ```
#[macro_export]
macro_rules! uapi_types {
    ($module:literal) => {
        #[allow(
            dead_code,
            missing_docs,
            non_camel_case_types,
            unreachable_pub,
            unused_imports
        )]
        mod uapi {
            include!(concat!(env!("ACCEL_DRIVER_OBJ"), "/", $module, "_uapi.rs"));
        }
    };
}

/// Where a structure has the pointer to an array: for [`In`] and [`Out`].
///
/// Does not build unless the field is a `__u64`.
#[macro_export]
macro_rules! pointer_field {
    ($args:ty, $field:ident) => {{
        let _: fn(&$args) -> &u64 = |args| &args.$field;
        ::core::mem::offset_of!($args, $field)
    }};
}

/// Where a structure has the number of elements of an array: for [`In`] and [`Out`].
///
/// Does not build unless the field is a `__u32`.
#[macro_export]
macro_rules! count_field {
    ($args:ty, $field:ident) => {{
        let _: fn(&$args) -> &u32 = |args| &args.$field;
        ::core::mem::offset_of!($args, $field)
    }};
}

module! {
    type: Subsystem,
    name: "accel",
    authors: ["The accel authors"],
    description: "Subsystem for compute accelerators",
    license: "GPL",
}

struct Subsystem {
    _registry: minor::Registered,
}

impl kernel::Module for Subsystem {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _registry: minor::Registered::new()?,
        })
    }
}
