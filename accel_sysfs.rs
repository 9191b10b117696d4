// SPDX-License-Identifier: GPL-2.0

//! Attributes: what `/sys/class/accel/accelN/` tells of a device.
//!
//! They belong to the class device of the compute node, are there before its uevent is sent, and go
//! with it. The control node's has those of them that say who the device is, by which rules of udev
//! may choose.
//!
//! Reading goes through the gate: unregister removes the attributes, which waits for who is in one,
//! after it has closed the gate. So nothing in here may wait for unregister, nor for anything that
//! does. Nothing wakes the hardware.
//!
//! `Documentation/ABI/testing/sysfs-class-accel` describes each.

use crate::{
    bindings::{
        attributes::Group,
        errno::{
            ENODATA,
            EOPNOTSUPP, //
        },
        slot::MonitorKind, //
    },
    device::Device,
    file::Node,
    limits::{
        Limit,
        Scope, //
    },
    state::{
        Cause,
        Change,
        RESET_CAUSES, //
    }, //
};
use core::fmt::Write;
use kernel::{
    ffi::c_char,
    prelude::*,
    str::{
        CString,
        Formatter, //
    },
    sync::Arc, //
};

/// Everybody may read.
const READ: u16 = 0o444;
/// Root may write.
const WRITE: u16 = 0o200;
/// And root may write.
const READ_WRITE: u16 = 0o644;

/// How no limit is written, as in control groups.
const NO_LIMIT: &str = "max";

/// What `enum accel_state` is called.
const STATES: [&str; 6] = [
    "operational",
    "resetting",
    "needs_reset",
    "malfunction",
    "suspended",
    "unplugged",
];
/// What `enum accel_cause` is called.
const CAUSES: [&str; 10] = [
    "none", "user", "driver", "deadline", "watchdog", "bus", "resume", "system", "idle", "unplug",
];
/// What `enum accel_class` is called.
const CLASSES: [&str; 6] = ["other", "npu", "dsp", "fpga", "crypto", "virtual"];
/// What `enum accel_function` is called.
const FUNCTIONS: [&str; 3] = ["pf", "vf", "partition"];

/// An attribute that every device has.
pub(crate) struct Attribute {
    name: &'static str,
    mode: u16,
    show: fn(&Device, &mut Formatter<'_>) -> Result,
    store: fn(&Device, &[u8]) -> Result,
    exists: fn(&Device) -> bool,
}

impl Attribute {
    const fn read(name: &'static str, show: fn(&Device, &mut Formatter<'_>) -> Result) -> Self {
        Self {
            name,
            mode: READ,
            show,
            store: |_, _| Err(EIO),
            exists: |_| true,
        }
    }

    const fn write(name: &'static str, store: fn(&Device, &[u8]) -> Result) -> Self {
        Self {
            name,
            mode: WRITE,
            show: |_, _| Err(EIO),
            store,
            exists: |_| true,
        }
    }

    const fn if_there(self, exists: fn(&Device) -> bool) -> Self {
        Self { exists, ..self }
    }
}

/// What a file in sysfs stands for.
pub(crate) enum What {
    Common(&'static Attribute),
    /// The one of the driver's table that has this index.
    Declared(usize),
    /// Most of a thing, in the directory `limits`.
    Limit(Scope, Limit),
}

/// Who the device is. Constant.
static IDENTITY: [Attribute; 9] = [
    // Not "driver": there the driver core has links, and programs read it as one.
    Attribute::read("driver_name", |device, to| {
        text(to, &device.identity().driver)
    }),
    Attribute::read("uapi_name", |device, to| {
        text(to, &device.identity().uapi_name)
    }),
    Attribute::read("uapi_version", |device, to| {
        let identity = device.identity();

        put(to, fmt!("{}.{}", identity.uapi_major, identity.uapi_minor))
    }),
    Attribute::read("device_class", |device, to| {
        word(to, &CLASSES, device.identity().device_class)
    }),
    Attribute::read("function", |device, to| {
        word(to, &FUNCTIONS, device.identity().function)
    }),
    Attribute::read("function_index", |device, to| {
        put(to, fmt!("{}", device.identity().function_index))
    }),
    Attribute::read("max_contexts", |device, to| {
        put(to, fmt!("{}", device.identity().max_contexts))
    }),
    Attribute::read("max_address_spaces", |device, to| {
        put(to, fmt!("{}", device.identity().max_address_spaces))
    }),
    Attribute::read("interrupts", |device, to| {
        put(to, fmt!("{}", device.interrupts()))
    }),
];

/// How it is.
static STATE: [Attribute; 3] = [
    Attribute::read("state", |device, to| {
        word(to, &STATES, device.state() as u32)
    }),
    Attribute::read("state_cause", |device, to| {
        word(to, &CAUSES, device.status().0.cause as u32)
    }),
    Attribute::write("reset", |device, text| {
        if text.strip_suffix(b"\n").unwrap_or(text) != b"1" {
            return Err(EINVAL);
        }
        if !device.can_reset() {
            return Err(EOPNOTSUPP.into());
        }
        device.request_reset(Cause::User);
        Ok(())
    }),
];

/// The directory `resets`.
static RESETS: [Attribute; 8] = [
    Attribute::read("total", |device, to| put(to, fmt!("{}", device.status().1))),
    Attribute::read("failed", |device, to| {
        let failed = RESET_CAUSES.map(|cause| device.resets(cause).failed);

        put(to, fmt!("{}", failed.iter().sum::<u64>()))
    }),
    Attribute::read("user", |device, to| resets(to, device, Cause::User)),
    Attribute::read("driver", |device, to| resets(to, device, Cause::Driver)),
    Attribute::read("deadline", |device, to| resets(to, device, Cause::Deadline)),
    Attribute::read("watchdog", |device, to| resets(to, device, Cause::Watchdog)),
    Attribute::read("bus", |device, to| resets(to, device, Cause::Bus)),
    Attribute::read("resume", |device, to| resets(to, device, Cause::Resume)),
];

fn resets(to: &mut Formatter<'_>, device: &Device, cause: Cause) -> Result {
    put(to, fmt!("{}", device.resets(cause).count))
}

/// The directory `opens`.
static OPENS: [Attribute; 4] = [
    Attribute::read("compute_now", |device, to| {
        put(to, fmt!("{}", device.opens_now(Node::Compute)))
    }),
    Attribute::read("compute_total", |device, to| {
        put(to, fmt!("{}", device.opens_total(Node::Compute)))
    }),
    Attribute::read("control_now", |device, to| {
        put(to, fmt!("{}", device.opens_now(Node::Control)))
    }),
    Attribute::read("control_total", |device, to| {
        put(to, fmt!("{}", device.opens_total(Node::Control)))
    }),
];

/// The directory `memory`.
static MEMORY: [Attribute; 2] = [
    Attribute::read("host_used_bytes", |device, to| {
        put(to, fmt!("{}", device.host().bytes()))
    }),
    Attribute::read("device_total_bytes", |device, to| {
        put(to, fmt!("{}", device.memory().ok_or(ENODATA)?))
    })
    .if_there(|device| device.memory().is_some()),
];

/// The groups that are the same for all devices.
#[derive(Clone)]
pub(crate) struct Common {
    identity: Arc<Group>,
    rest: [Arc<Group>; 5],
}

impl Common {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            identity: group(None, &IDENTITY)?,
            rest: [
                group(None, &STATE)?,
                group(Some(c"resets"), &RESETS)?,
                group(Some(c"opens"), &OPENS)?,
                group(Some(c"memory"), &MEMORY)?,
                limits()?,
            ],
        })
    }

    /// Those of `node` of `device`.
    pub(crate) fn of(&self, device: &Device, node: Node) -> Result<KVec<Arc<Group>>> {
        let mut groups = KVec::new();

        groups.push(self.identity.clone(), GFP_KERNEL)?;
        if node == Node::Compute {
            for group in &self.rest {
                groups.push(group.clone(), GFP_KERNEL)?;
            }
            groups.push(declared(device)?, GFP_KERNEL)?;
        }
        Ok(groups)
    }
}

fn group(name: Option<&'static CStr>, attributes: &'static [Attribute]) -> Result<Arc<Group>> {
    let files = attributes.iter().map(|attribute| {
        let name = CString::try_from_fmt(fmt!("{}", attribute.name));

        (name, attribute.mode, What::Common(attribute))
    });

    Ok(Arc::new(Group::new(name, files)?, GFP_KERNEL)?)
}

/// The directory `attributes`: those that the driver of `device` has declared. Without any there is
/// no directory.
fn declared(device: &Device) -> Result<Arc<Group>> {
    let files = device
        .declared()
        .files()
        .enumerate()
        .map(|(index, (name, mode))| {
            (
                name.try_into().map_err(Error::from),
                mode,
                What::Declared(index),
            )
        });

    Ok(Arc::new(
        Group::new(Some(c"attributes"), files)?,
        GFP_KERNEL,
    )?)
}

/// The directory `limits`.
fn limits() -> Result<Arc<Group>> {
    let mut all = KVec::new();

    for scope in Scope::ALL {
        for limit in Limit::ALL {
            all.push((scope, limit), GFP_KERNEL)?;
        }
    }
    let files = all.iter().map(|&(scope, limit)| {
        let name = CString::try_from_fmt(fmt!("{}_{}", scope.name(), limit.name()));
        let mode = match scope {
            Scope::File => READ,
            Scope::User | Scope::Device => READ_WRITE,
        };

        (name, mode, What::Limit(scope, limit))
    });
    let group = Group::new(Some(c"limits"), files)?;

    Ok(Arc::new(group, GFP_KERNEL)?)
}

/// Whether `device` has `what`.
pub(crate) fn exists(device: &Device, what: &What) -> bool {
    match what {
        What::Common(attribute) => (attribute.exists)(device),
        What::Declared(_) => true,
        What::Limit(..) => true,
    }
}

/// Writes a value, and a newline.
///
/// # Errors
///
/// `ENODEV` when the device is going; those of the attribute.
pub(crate) fn show(device: &Device, what: &What, to: &mut Formatter<'_>) -> Result {
    match what {
        What::Common(attribute) => {
            let _monitor = device.slot().monitor(MonitorKind::ATTRIBUTE)?;

            (attribute.show)(device, to)?;
        }
        What::Declared(index) => device.show_declared(*index, to)?,
        What::Limit(scope, limit) => {
            let _monitor = device.slot().monitor(MonitorKind::ATTRIBUTE)?;

            match device.account().max(*scope, *limit) {
                u32::MAX => put(to, fmt!("{}", NO_LIMIT))?,
                max => put(to, fmt!("{}", max))?,
            }
        }
    }
    put(to, fmt!("\n"))
}

/// Takes a value, which ends with the text or a newline. Whatever follows from it, others do.
///
/// # Errors
///
/// `ENODEV` when the device is going; those of the attribute.
pub(crate) fn store(device: &Device, what: &What, text: &[u8]) -> Result {
    let _monitor = device.slot().monitor(MonitorKind::ATTRIBUTE)?;

    match what {
        What::Common(attribute) => (attribute.store)(device, text),
        What::Declared(index) => device.store_declared(*index, text),
        What::Limit(scope, limit) => device.account().set_max(*scope, *limit, number(text)?),
    }
}

/// A decimal number, or none.
fn number(text: &[u8]) -> Result<u32> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);

    if text == NO_LIMIT.as_bytes() {
        return Ok(u32::MAX);
    }
    // No sign, which Rust would take.
    if !text.iter().all(u8::is_ascii_digit) {
        return Err(EINVAL);
    }
    let text = core::str::from_utf8(text).map_err(|_| EINVAL)?;

    text.parse().map_err(|_| EINVAL)
}

/// Sends the uevent of `change`.
pub(crate) fn tell_uevent(device: &Device, change: &Change) {
    let [previous, state, cause] = words(change);
    let variable = |name: &str, word: &str| CString::try_from_fmt(fmt!("{name}={word}"));

    if let (Ok(state), Ok(previous), Ok(cause)) = (
        variable("ACCEL_STATE", state),
        variable("ACCEL_PREVIOUS", previous),
        variable("ACCEL_CAUSE", cause),
    ) {
        device.tell_uevent(&[&state, &previous, &cause]);
    }
}

/// What `change` is called: what was, what is, and why.
pub(crate) fn words(change: &Change) -> [&'static str; 3] {
    [
        (&STATES[..], change.from as u32),
        (&STATES[..], change.to as u32),
        (&CAUSES[..], change.cause as u32),
    ]
    .map(|(words, number)| words.get(number as usize).copied().unwrap_or(""))
}

fn put(to: &mut Formatter<'_>, arguments: core::fmt::Arguments<'_>) -> Result {
    Ok(to.write_fmt(arguments)?)
}

/// A name that ends with NUL.
fn text(to: &mut Formatter<'_>, name: &[c_char]) -> Result {
    let name = CStr::from_bytes_until_nul(name.as_bytes()).map_err(|_| EINVAL)?;

    put(to, fmt!("{}", name.to_str().map_err(|_| EINVAL)?))
}

/// What a number of the uAPI is called.
fn word(to: &mut Formatter<'_>, words: &[&str], number: u32) -> Result {
    put(to, fmt!("{}", words.get(number as usize).ok_or(ENODATA)?))
}
