// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a device says about itself, on either of its nodes.

use std::ffi::c_char;
use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::node::Node;
use crate::sys::{self, Plain};
use crate::uapi::*;
use crate::usage::{Client, Limits};
use crate::{Error, Events, Result, Wanted};

/// Makes an enum of a C one; numbers of newer kernels are kept as they are.
macro_rules! enumeration {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $c:ident, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$each])* $variant,)*
            /// One that this version of the crate does not know.
            Unknown(u32),
        }

        impl From<u32> for $name {
            fn from(number: u32) -> Self {
                match number {
                    $($c => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Self::$variant => f.pad($text),)*
                    Self::Unknown(number) => f.pad(&format!("unknown ({number})")),
                }
            }
        }
    };
}

pub(crate) use enumeration;

enumeration! {
    /// What kind of function of its parent a device is.
    Function {
        /// A physical function, or the whole of a device.
        Physical = ACCEL_FUNCTION_PF, "physical";
        /// A virtual function (SR-IOV).
        Virtual = ACCEL_FUNCTION_VF, "virtual";
        /// One of several that share a function.
        Partition = ACCEL_FUNCTION_PARTITION, "partition";
    }
}

enumeration! {
    /// What a device is for.
    Class {
        /// None of the others.
        Other = ACCEL_CLASS_OTHER, "other";
        /// Neural networks.
        Npu = ACCEL_CLASS_NPU, "npu";
        /// Signal processing.
        Dsp = ACCEL_CLASS_DSP, "dsp";
        /// Programmable logic.
        Fpga = ACCEL_CLASS_FPGA, "fpga";
        /// Ciphers, hashes, compression.
        Crypto = ACCEL_CLASS_CRYPTO, "crypto";
        /// No hardware.
        Virtual = ACCEL_CLASS_VIRTUAL, "virtual";
    }
}

enumeration! {
    /// What a device can do now.
    Status {
        /// It computes.
        Operational = ACCEL_STATE_OPERATIONAL, "operational";
        /// Nothing, for a moment.
        Resetting = ACCEL_STATE_RESETTING, "resetting";
        /// Nothing until it is reset.
        NeedsReset = ACCEL_STATE_NEEDS_RESET, "needs reset";
        /// Nothing; a reset did not help.
        Malfunction = ACCEL_STATE_MALFUNCTION, "malfunction";
        /// It is asleep.
        Suspended = ACCEL_STATE_SUSPENDED, "suspended";
        /// It is gone; only events say so.
        Unplugged = ACCEL_STATE_UNPLUGGED, "unplugged";
    }
}

enumeration! {
    /// Why a state changed, or a device was reset.
    Cause {
        /// It has been so since the driver registered the device.
        None = ACCEL_CAUSE_NONE, "none";
        /// Root asked for it.
        User = ACCEL_CAUSE_USER, "user";
        /// The driver found an error, or its end.
        Driver = ACCEL_CAUSE_DRIVER, "driver";
        /// A job lost its deadline and could not be stopped.
        Deadline = ACCEL_CAUSE_DEADLINE, "deadline";
        /// It did not pass the driver's regular check.
        Watchdog = ACCEL_CAUSE_WATCHDOG, "watchdog";
        /// The bus reported an error.
        Bus = ACCEL_CAUSE_BUS, "bus";
        /// It lost its state while it was asleep.
        Resume = ACCEL_CAUSE_RESUME, "resume";
        /// The system slept, woke or went down.
        System = ACCEL_CAUSE_SYSTEM, "system";
        /// Nobody needed it, or somebody does again.
        Idle = ACCEL_CAUSE_IDLE, "idle";
        /// Its driver was unbound, or it was taken away.
        Unplug = ACCEL_CAUSE_UNPLUG, "unplug";
    }
}

enumeration! {
    /// Where a memory is.
    MemoryKind {
        /// The host's pages, taken as needed.
        Host = ACCEL_MEMORY_HOST, "host";
        /// On the device.
        Device = ACCEL_MEMORY_DEVICE, "device";
    }
}

/// The ids of a PCI device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pci {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Subsystem vendor.
    pub subvendor: u16,
    /// Subsystem device.
    pub subdevice: u16,
}

/// Who a device is; the same as long as it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// N of `accelN`. Another one after a reboot, perhaps; `parent` is not.
    pub number: u32,
    /// Which of its parent's accelerators, from 0.
    pub function_index: u32,
    /// What kind of function of its parent.
    pub function: Function,
    /// What it is for.
    pub class: Class,
    /// The NUMA node that it is near to, where there are such.
    pub numa_node: Option<i32>,
    /// PCI ids, of a PCI device.
    pub pci: Option<Pci>,
    /// The driver's own calls are those of `include/uapi/accel/<this>.h`.
    pub uapi_name: String,
    /// Incompatible changes of the driver's own calls.
    pub uapi_major: u32,
    /// Compatible additions to them.
    pub uapi_minor: u32,
    /// Most open compute files, where the device has a limit.
    pub max_contexts: Option<u32>,
    /// Address spaces of the device's; 0 when it has none.
    pub max_address_spaces: u32,
    /// The kernel driver.
    pub driver: String,
    /// The bus of its parent: `pci`, `platform` and so on.
    pub bus: String,
    /// Its parent's name on that bus: `0000:00:03.0`, say.
    pub parent: String,
}

impl From<&accel_info_identity> for Identity {
    fn from(raw: &accel_info_identity) -> Self {
        let has = |flag| raw.flags & flag != 0;
        Self {
            number: raw.number,
            function_index: raw.function_index,
            function: raw.function.into(),
            class: raw.device_class.into(),
            numa_node: has(ACCEL_IDENTITY_NUMA).then_some(raw.numa_node),
            pci: has(ACCEL_IDENTITY_PCI).then_some(Pci {
                vendor: raw.pci_vendor,
                device: raw.pci_device,
                subvendor: raw.pci_subvendor,
                subdevice: raw.pci_subdevice,
            }),
            uapi_name: text(&raw.uapi_name),
            uapi_major: raw.uapi_major,
            uapi_minor: raw.uapi_minor,
            max_contexts: (raw.max_contexts != 0).then_some(raw.max_contexts),
            max_address_spaces: raw.max_address_spaces,
            driver: text(&raw.driver),
            bus: text(&raw.bus),
            parent: text(&raw.parent),
        }
    }
}

/// How a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// What it can do now.
    pub status: Status,
    /// Nanoseconds of `CLOCK_MONOTONIC` when that became so.
    pub since_ns: u64,
    /// Nanoseconds of `CLOCK_MONOTONIC` when its driver registered it.
    pub registered_ns: u64,
    /// Why it came into that state.
    pub cause: Cause,
    /// Resets since its driver registered it, whether or not they helped.
    pub resets: u64,
}

impl From<&accel_info_state> for State {
    fn from(raw: &accel_info_state) -> Self {
        Self {
            status: raw.state.into(),
            since_ns: raw.since_ns,
            registered_ns: raw.registered_ns,
            cause: raw.cause.into(),
            resets: raw.resets,
        }
    }
}

/// Resets of a device for one cause, since its driver registered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resets {
    /// What they were for.
    pub cause: Cause,
    /// How many there were, whether or not they helped.
    pub count: u64,
    /// Those that did not help.
    pub failed: u64,
    /// Nanoseconds of `CLOCK_MONOTONIC` when the last began, if there was one.
    pub last_ns: Option<u64>,
}

impl From<&accel_info_resets> for Resets {
    fn from(raw: &accel_info_resets) -> Self {
        Self {
            cause: raw.cause.into(),
            count: raw.count,
            failed: raw.failed,
            last_ns: (raw.count != 0).then_some(raw.last_ns),
        }
    }
}

/// One memory that a device works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Where it is.
    pub kind: MemoryKind,
    /// Bytes that there are, where that is known.
    pub total: Option<u64>,
    /// Bytes that all users use now, where that is known.
    pub used: Option<u64>,
}

impl From<&accel_info_memory> for Memory {
    fn from(raw: &accel_info_memory) -> Self {
        let has = |flag| raw.flags & flag != 0;
        Self {
            kind: raw.kind.into(),
            total: has(ACCEL_MEMORY_TOTAL).then_some(raw.total),
            used: has(ACCEL_MEMORY_USED).then_some(raw.used),
        }
    }
}

/// How a device's nodes are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opens {
    /// Opens of the compute node since the driver registered it.
    pub compute_total: u64,
    /// Compute files that are open.
    pub compute_now: u32,
    /// Opens of the control node since the driver registered it.
    pub control_total: u64,
    /// Control files that are open.
    pub control_now: u32,
}

impl From<&accel_info_opens> for Opens {
    fn from(raw: &accel_info_opens) -> Self {
        Self {
            compute_total: raw.compute_total,
            compute_now: raw.compute_now,
            control_total: raw.control_total,
            control_now: raw.control_now,
        }
    }
}

/// One query that a device answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Its number, `ACCEL_INFO_*`.
    pub number: u32,
    /// Bytes of its answer in this kernel.
    pub size: u32,
    /// Its indices are 0 up to this.
    pub count: u32,
    /// Its name.
    pub name: String,
}

impl From<&accel_info_queries> for Query {
    fn from(raw: &accel_info_queries) -> Self {
        Self {
            number: raw.query,
            size: raw.size,
            count: raw.count,
            name: text(&raw.name),
        }
    }
}

/// What both nodes of a device answer.
///
/// Answers may be of a kernel that is older than this crate (what it does not
/// know is then zero) or newer (what it adds is then not seen).
pub trait Info: AsFd {
    #[doc(hidden)]
    fn node(&self) -> &Node;

    /// Who the device is.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it is gone.
    fn identity(&self) -> Result<Identity> {
        one(
            self.node(),
            ACCEL_INFO_IDENTITY,
            |raw: &accel_info_identity| raw.into(),
        )
    }

    /// How it is.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it is gone.
    fn state(&self) -> Result<State> {
        one(self.node(), ACCEL_INFO_STATE, |raw: &accel_info_state| {
            raw.into()
        })
    }

    /// How its nodes are used.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it is gone.
    fn opens(&self) -> Result<Opens> {
        one(self.node(), ACCEL_INFO_OPENS, |raw: &accel_info_opens| {
            raw.into()
        })
    }

    /// Its resets, by cause.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it is gone; `EOPNOTSUPP` when the kernel is older than this query.
    fn resets(&self) -> Result<Vec<Resets>> {
        all(self.node(), ACCEL_INFO_RESETS, |raw: &accel_info_resets| {
            raw.into()
        })
    }

    /// Its memories; the first is the host's.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it is gone.
    fn memories(&self) -> Result<Vec<Memory>> {
        all(self.node(), ACCEL_INFO_MEMORY, |raw: &accel_info_memory| {
            raw.into()
        })
    }

    /// The compute files that are open, in no particular order; `None` for those of other users,
    /// of whom only root is told. One that is opened or closed meanwhile may be missing, or be there
    /// twice.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it is gone.
    fn clients(&self) -> Result<Vec<Option<Client>>> {
        all(
            self.node(),
            ACCEL_INFO_CLIENTS,
            |raw: &accel_info_client| Client::from_raw(raw),
        )
    }

    /// What this file, the user who opened it and the device may have, and what they have.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it is gone.
    fn limits(&self) -> Result<Vec<Limits>> {
        all(self.node(), ACCEL_INFO_LIMITS, |raw: &accel_info_limit| {
            raw.into()
        })
    }

    /// The queries that it answers.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it is gone.
    fn queries(&self) -> Result<Vec<Query>> {
        all(
            self.node(),
            ACCEL_INFO_QUERIES,
            |raw: &accel_info_queries| raw.into(),
        )
    }

    /// Has the device tell events from now on. Who asks for the state is told the
    /// present one first.
    ///
    /// # Errors
    ///
    /// `EINVAL` for what the control node does not tell; `ENOMEM`; `ENODEV` when the
    /// device is gone.
    fn events(&self, wanted: Wanted) -> Result<Events<'_>> {
        Events::new(self.node(), wanted)
    }

    /// Asks a query that this crate has no type for; returns how many bytes the
    /// kernel's answer has, which may be more or less than `answer`.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` for a query that the kernel does not know, `ENODATA` for what
    /// this device does not have, `EINVAL` when `answer` is empty or above 64 KiB.
    fn info_bytes(&self, query: u32, index: u32, answer: &mut [u8]) -> Result<usize> {
        let node = self.node();
        sys::info_bytes(node.as_fd(), query, index, answer)
            .map_err(|errno| node.error(ACCEL_IOCTL_INFO.name(), errno))
    }
}

/// The answer to a query that has but one.
fn one<R: Plain + Default, T>(node: &Node, query: u32, convert: fn(&R) -> T) -> Result<T> {
    at(node, query, 0, convert).map_err(|errno| node.error(ACCEL_IOCTL_INFO.name(), errno))
}

/// The answers for index 0, 1 and so on.
fn all<R: Plain + Default, T>(node: &Node, query: u32, convert: fn(&R) -> T) -> Result<Vec<T>> {
    collect(|index| at(node, query, index, convert))
        .map_err(|errno| node.error(ACCEL_IOCTL_INFO.name(), errno))
}

fn at<R: Plain + Default, T>(
    node: &Node,
    query: u32,
    index: u32,
    convert: fn(&R) -> T,
) -> Result<T, Errno> {
    let mut raw = R::default();
    sys::info(node.as_fd(), query, index, &mut raw)?;
    Ok(convert(&raw))
}

/// Asks for one index after the other until there is no more.
fn collect<T>(mut ask: impl FnMut(u32) -> Result<T, Errno>) -> Result<Vec<T>, Errno> {
    let mut found = Vec::new();
    for index in 0.. {
        match ask(index) {
            Ok(answer) => found.push(answer),
            Err(Errno::NODATA) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(found)
}

/// The text of a C array of characters: up to its NUL, or all of it.
pub(crate) fn text(chars: &[c_char]) -> String {
    let bytes: Vec<u8> = chars
        .iter()
        .map(|c| c.to_ne_bytes()[0])
        .take_while(|byte| *byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Refuses what answers like an accelerator but is another one than its name says.
pub(crate) fn expect_number(path: &str, identity: &Identity, number: u32) -> Result<()> {
    if identity.number == number {
        Ok(())
    } else {
        Err(Error::Strange {
            path: path.to_owned(),
            what: format!("this node is of device {}", identity.number),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chars<const N: usize>(value: &str) -> [c_char; N] {
        let mut array = [0; N];
        for (to, from) in array.iter_mut().zip(value.bytes()) {
            *to = c_char::from_ne_bytes([from]);
        }
        array
    }

    #[test]
    fn text_ends_at_nul_or_at_the_end() {
        assert_eq!(text(&chars::<8>("edu")), "edu");
        assert_eq!(text(&chars::<3>("edu")), "edu");
        assert_eq!(text(&chars::<4>("")), "");
        assert_eq!(text(&chars::<8>("é")), "é");
    }

    #[test]
    fn what_is_not_valid_is_not_there() {
        let mut raw = accel_info_identity {
            number: 7,
            numa_node: -1,
            device_class: ACCEL_CLASS_NPU,
            pci_vendor: 0x1234,
            pci_device: 0x11e8,
            ..Default::default()
        };
        let identity = Identity::from(&raw);
        assert_eq!(identity.pci, None);
        assert_eq!(identity.numa_node, None);
        assert_eq!(identity.max_contexts, None);
        assert_eq!(identity.class, Class::Npu);
        raw.flags = ACCEL_IDENTITY_PCI | ACCEL_IDENTITY_NUMA;
        raw.max_contexts = 3;
        let identity = Identity::from(&raw);
        assert_eq!(identity.pci.map(|pci| pci.device), Some(0x11e8));
        assert_eq!(identity.numa_node, Some(-1));
        assert_eq!(identity.max_contexts, Some(3));
    }

    #[test]
    fn numbers_of_newer_kernels_survive() {
        let status = Status::from(77);
        assert_eq!(status, Status::Unknown(77));
        assert_eq!(format!("{status:>14}"), "  unknown (77)");
        assert_eq!(format!("{:8}|", Class::Npu), "npu     |");
        assert_eq!(Status::from(ACCEL_STATE_NEEDS_RESET), Status::NeedsReset);
    }

    #[test]
    fn no_reset_was_at_no_time() {
        let mut raw = accel_info_resets {
            cause: ACCEL_CAUSE_WATCHDOG,
            ..Default::default()
        };
        assert_eq!(Resets::from(&raw).last_ns, None);
        raw.count = 2;
        raw.failed = 1;
        raw.last_ns = 7;
        let resets = Resets::from(&raw);
        assert_eq!(resets.cause, Cause::Watchdog);
        assert_eq!((resets.count, resets.failed), (2, 1));
        assert_eq!(resets.last_ns, Some(7));
    }

    #[test]
    fn memory_without_a_total_has_none() {
        let raw = accel_info_memory {
            kind: ACCEL_MEMORY_DEVICE,
            flags: ACCEL_MEMORY_USED,
            total: 9,
            used: 4,
        };
        let memory = Memory::from(&raw);
        assert_eq!(memory.kind, MemoryKind::Device);
        assert_eq!(memory.total, None);
        assert_eq!(memory.used, Some(4));
    }

    #[test]
    fn indices_end_where_there_is_no_data() {
        let three = collect(|index| {
            if index < 3 {
                Ok(index)
            } else {
                Err(Errno::NODATA)
            }
        });
        assert_eq!(three, Ok(vec![0, 1, 2]));
        let gone = collect(|index| {
            if index < 3 {
                Ok(index)
            } else {
                Err(Errno::NODEV)
            }
        });
        assert_eq!(gone, Err(Errno::NODEV));
    }
}
