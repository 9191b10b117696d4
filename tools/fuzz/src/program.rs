// SPDX-License-Identifier: GPL-2.0
//! What is run: calls, distributed over threads. Programs are kept as JSON, which people can read
//! and write.
//!
//! Things that a program gets (files, buffers, mappings) have no names. A step takes the latest of
//! the kind that it needs, or one of those before it, so that a program in which steps were moved,
//! left out or added still makes sense.

use std::collections::BTreeMap;

use libafl::inputs::Input;
use libafl_bolts::HasLen;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::table::{self, CallTable};

/// Most threads of a program.
pub const THREADS_MAX: usize = 4;

/// Most steps of a thread.
pub const STEPS_MAX: usize = 64;

/// A program.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// What it is for, if somebody wrote it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Steps, by thread; the threads share what they get.
    pub threads: Vec<Vec<Step>>,
}

impl Input for Program {}

impl HasLen for Program {
    fn len(&self) -> usize {
        self.threads.iter().map(Vec::len).sum()
    }
}

impl Program {
    /// Reads a program, which has to be one that could have been made here.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let program: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if program.threads.is_empty() || program.threads.len() > THREADS_MAX {
            return Err(format!("a program has 1 to {THREADS_MAX} threads"));
        }
        for step in program.threads.iter().flatten() {
            if let Step::Ioctl { call, fields, .. } = step {
                call.check(fields)?;
            }
        }
        Ok(program)
    }

    /// On one line.
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists always have a form in JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A device of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    Mock,
    Null,
    Edu,
    /// The second of its kind.
    Edu2,
    Npu,
}

impl Device {
    pub const ALL: [Self; 5] = [Self::Mock, Self::Null, Self::Edu, Self::Edu2, Self::Npu];

    /// The driver's ioctls: what INFO says is the name of its interface.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Mock => libaccel::mock::NAME,
            Self::Null => libaccel::null::NAME,
            Self::Edu | Self::Edu2 => libaccel::edu::NAME,
            Self::Npu => libaccel::npu::NAME,
        }
    }

    /// Which one of those with this interface.
    pub fn index(self) -> usize {
        usize::from(self == Self::Edu2)
    }
}

/// A node of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Node {
    Compute,
    Control,
}

/// Which of the files that the program has open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The latest of those that the step fits, or one so many before it.
    Fitting(u8),
    /// The same of all files.
    Any(u8),
}

impl Default for Which {
    fn default() -> Self {
        Self::Fitting(0)
    }
}

impl Which {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// An ioctl of the headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Call(pub usize);

impl Call {
    pub fn table(self) -> &'static CallTable {
        &table::calls()[self.0]
    }

    fn check(self, fields: &BTreeMap<String, Value>) -> Result<(), String> {
        for name in fields.keys() {
            if self.table().field(name).is_none() {
                return Err(format!("{} has no field '{name}'", self.table().name));
            }
        }
        Ok(())
    }
}

impl Serialize for Call {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.table().name)
    }
}

impl<'de> Deserialize<'de> for Call {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        table::calls()
            .iter()
            .position(|call| call.name == name)
            .map(Self)
            .ok_or_else(|| de::Error::custom(format!("there is no ioctl '{name}'")))
    }
}

/// What a field holds. One that is not given holds 0, or what follows from other fields.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", untagged)]
pub enum Value {
    Number(u64),
    /// Several: what a pointer points to.
    List(Vec<Value>),
    Other(Other),
    /// A struct.
    Fields(BTreeMap<String, Value>),
}

/// Values that are known only when the program runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Other {
    /// The latest thing of the kind that the field wants, of this file, or one so many before it.
    Latest(u8),
    /// The same of all files.
    Foreign(u8),
    /// An address so many bytes before a page that cannot be used.
    Edge(u16),
    /// An address in a page that can only be read.
    ReadOnly(u16),
    /// The beginning of the latest mapping, or of one before it.
    Mapping(u8),
}

/// Where mremap takes a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remap {
    InPlace,
    Move,
    /// The old one stays (MREMAP_DONTUNMAP).
    Copy,
}

/// How the size in an ioctl's number differs from that of its struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// Bytes more, or less.
    pub by: i16,
    /// What the bytes are that the struct does not have.
    pub with: u8,
}

/// One thing that a thread does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    Open {
        device: Device,
        node: Node,
        /// With O_RDONLY; else O_RDWR.
        #[serde(default, skip_serializing_if = "is_false")]
        read_only: bool,
    },
    Close {
        #[serde(default, skip_serializing_if = "Which::is_default")]
        file: Which,
    },
    Dup {
        #[serde(default, skip_serializing_if = "Which::is_default")]
        file: Which,
    },
    /// Sends a file through a socket; one that is not received is in flight until the end.
    Pass {
        #[serde(default, skip_serializing_if = "Which::is_default")]
        file: Which,
        receive: bool,
    },
    /// A process that has everything, asks the file who it is, touches a mapping, and ends.
    Fork {
        #[serde(default, skip_serializing_if = "Which::is_default")]
        file: Which,
    },
    Ioctl {
        call: Call,
        #[serde(default, skip_serializing_if = "Which::is_default")]
        file: Which,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        fields: BTreeMap<String, Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resize: Option<Resize>,
    },
    /// Any ioctl, with 256 bytes of one value.
    Strange {
        #[serde(default, skip_serializing_if = "Which::is_default")]
        file: Which,
        number: u32,
        with: u8,
    },
    Read {
        #[serde(default, skip_serializing_if = "Which::is_default")]
        file: Which,
        bytes: u32,
    },
    Write {
        #[serde(default, skip_serializing_if = "Which::is_default")]
        file: Which,
        bytes: u32,
    },
    Poll {
        #[serde(default, skip_serializing_if = "Which::is_default")]
        file: Which,
        milliseconds: u8,
    },
    /// Reads what /proc says of the file.
    Fdinfo {
        #[serde(default, skip_serializing_if = "Which::is_default")]
        file: Which,
    },
    Eventfd {
        start: u32,
    },
    Mmap {
        #[serde(default, skip_serializing_if = "Which::is_default")]
        file: Which,
        /// In bytes; "latest" are offsets that BUFFER_MMAP gave.
        offset: Value,
        pages: u16,
        /// 1 to read, 2 to write, 4 to execute, and the sums of them.
        protection: u8,
        #[serde(default, skip_serializing_if = "is_false")]
        private: bool,
    },
    Munmap {
        map: u8,
        /// Pages from the beginning of the mapping.
        from: u16,
        pages: u16,
    },
    Mremap {
        map: u8,
        pages: u16,
        how: Remap,
    },
    Protect {
        map: u8,
        protection: u8,
    },
    Advise {
        map: u8,
        advice: u8,
    },
    /// Has the kernel read or write a byte of a mapping.
    Touch {
        map: u8,
        offset: u32,
        write: bool,
    },
    /// Reads or writes eight bytes of a mapping as a debugger does.
    Peek {
        map: u8,
        offset: u32,
        write: bool,
    },
    /// Writes words to a mapping.
    Store {
        map: u8,
        offset: u32,
        words: Vec<u64>,
    },
    /// A signal that interrupts what another thread waits for.
    Interrupt {
        thread: u8,
    },
    Sleep {
        milliseconds: u8,
    },
    /// Reads a file of the device's folder in sysfs, or of debugfs.
    Show {
        device: Device,
        file: u8,
    },
    /// Writes to one that can be written to.
    Set {
        device: Device,
        file: u8,
        text: String,
    },
    /// Takes the device from its driver, or unloads the driver if it has made the device.
    Unbind {
        device: Device,
    },
    Bind {
        device: Device,
    },
    /// Has the subsystem reset the device, or its bus.
    Reset {
        device: Device,
        bus: bool,
    },
    /// A line for the model of the NPU, which then misbehaves.
    Inject {
        line: String,
    },
    /// Has all devices sleep as they do when the system does, and wakes them.
    Suspend {},
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Step {
    /// How many numbers `kind` gives.
    pub const KINDS: usize = 29;

    /// A number for what it does, below `KINDS`.
    pub fn kind(&self) -> usize {
        match self {
            Self::Open { .. } => 0,
            Self::Close { .. } => 1,
            Self::Dup { .. } => 2,
            Self::Pass { .. } => 3,
            Self::Fork { .. } => 4,
            Self::Ioctl { .. } => 5,
            Self::Strange { .. } => 6,
            Self::Read { .. } => 7,
            Self::Write { .. } => 8,
            Self::Poll { .. } => 9,
            Self::Fdinfo { .. } => 10,
            Self::Eventfd { .. } => 11,
            Self::Mmap { .. } => 12,
            Self::Munmap { .. } => 13,
            Self::Mremap { .. } => 14,
            Self::Protect { .. } => 15,
            Self::Advise { .. } => 16,
            Self::Touch { .. } => 17,
            Self::Store { .. } => 18,
            Self::Interrupt { .. } => 19,
            Self::Sleep { .. } => 20,
            Self::Show { .. } => 21,
            Self::Set { .. } => 22,
            Self::Unbind { .. } => 23,
            Self::Bind { .. } => 24,
            Self::Reset { .. } => 25,
            Self::Inject { .. } => 26,
            Self::Peek { .. } => 27,
            Self::Suspend {} => 28,
        }
    }
}
