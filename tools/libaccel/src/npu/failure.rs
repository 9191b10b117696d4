// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the device says of a job that failed.

use std::fmt;

use crate::uapi::*;

/// Makes an enum of a C one; numbers of newer kernels are kept as they are.
macro_rules! kinds {
    ($($(#[$each:meta])* $variant:ident = $c:ident, $text:literal;)*) => {
        /// What went wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[$each])* $variant,)*
            /// One that this version of the crate does not know.
            Unknown(u32),
        }

        impl From<u32> for Kind {
            fn from(number: u32) -> Self {
                match number {
                    $($c => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }
        }

        impl fmt::Display for Kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($text),)*
                    Self::Unknown(number) => write!(f, "an error of unknown kind {number}"),
                }
            }
        }
    };
}

kinds! {
    /// The device refused the job.
    Entry = ACCEL_NPU_ERROR_ENTRY, "the device refused the job";
    /// Unknown command or flags.
    Opcode = ACCEL_NPU_ERROR_OPCODE, "unknown command or flags";
    /// Type, shape or alignment of an operand.
    Operand = ACCEL_NPU_ERROR_OPERAND, "type, shape or alignment of an operand";
    /// A parameter of a command.
    Parameter = ACCEL_NPU_ERROR_PARAMETER, "a parameter is outside of its range";
    /// A command that is too large.
    Size = ACCEL_NPU_ERROR_SIZE, "it is larger than one command may be";
    /// An access to what is not mapped, or not so; the context stopped.
    Fault = ACCEL_NPU_ERROR_FAULT, "fault";
    /// Host memory did not answer; the context stopped.
    Bus = ACCEL_NPU_ERROR_BUS, "host memory did not answer the device";
    /// A job lost its deadline; the context stopped.
    Deadline = ACCEL_NPU_ERROR_DEADLINE, "it did not end in time";
    /// The device failed and was reset; the context stopped.
    Reset = ACCEL_NPU_ERROR_RESET, "the device failed and was reset";
}

impl Kind {
    /// Whether the context stopped: then its later jobs were cancelled.
    pub fn stops(self) -> bool {
        matches!(self, Self::Fault | Self::Bus | Self::Deadline | Self::Reset)
    }

    /// Whether the device said which command it was.
    fn has_command(self) -> bool {
        matches!(
            self,
            Self::Opcode | Self::Operand | Self::Parameter | Self::Size | Self::Fault
        )
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Entry => "A list is at a multiple of 64 and has 1 to 4096 commands",
            Self::Opcode | Self::Operand | Self::Parameter | Self::Size => {
                "Documentation/npu-hardware.rst says what this command takes"
            }
            Self::Fault => "Is it mapped, with this access, and was it until the job ended?",
            Self::Bus => "See dmesg and the device's state",
            Self::Deadline => "Give the job more time, or less to do",
            Self::Reset => "What its memory held may be lost: see dmesg, and begin again",
            Self::Unknown(_) => "This kernel is newer than this program",
        }
    }
}

/// What the device was about to do with memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accessed {
    /// It read.
    Read,
    /// It wrote.
    Written,
}

/// Why a job failed, as `ACCEL_NPU_IOCTL_ERROR` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub kind: Kind,
    /// Handle of the timeline that the job was submitted to.
    pub timeline: u32,
    /// The job's point on it.
    pub point: u64,
    /// Index of the command in the job's list; 0 where the device did not say.
    pub command: u32,
    /// The command's name, where the list is known ([`Program`](super::Program)).
    pub name: Option<&'static str>,
    /// Device address of a fault.
    pub address: u64,
    /// How that was accessed.
    pub access: Option<Accessed>,
    /// Errors since they were last asked for; this is the first, or the one that stopped the context.
    pub count: u32,
}

impl From<&accel_npu_error> for Failure {
    fn from(raw: &accel_npu_error) -> Self {
        Self {
            kind: raw.kind.into(),
            timeline: raw.timeline,
            point: raw.point,
            command: raw.command,
            name: None,
            address: raw.address,
            access: match raw.access {
                ACCEL_NPU_ACCESS_READ => Some(Accessed::Read),
                ACCEL_NPU_ACCESS_WRITE => Some(Accessed::Written),
                _ => None,
            },
            count: raw.count,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job at point {}", self.point)?;
        if self.kind.has_command() {
            write!(f, ", command {}", self.command)?;
            if let Some(name) = self.name {
                write!(f, " ({name})")?;
            }
        }
        write!(f, ": {}", self.kind)?;
        if self.kind == Kind::Fault {
            let access = match self.access {
                Some(Accessed::Read) => "reading",
                Some(Accessed::Written) => "writing",
                None => "accessing",
            };
            write!(f, " when {access} {:#x}", self.address)?;
        }
        if self.count > 1 {
            write!(f, " (and {} more)", self.count - 1)?;
        }
        write!(f, ". {}", self.kind.advice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_where() {
        let raw = accel_npu_error {
            kind: ACCEL_NPU_ERROR_FAULT,
            command: 3,
            point: 7,
            address: 0x20_1000,
            access: ACCEL_NPU_ACCESS_WRITE,
            count: 1,
            ..Default::default()
        };
        let mut failure = Failure::from(&raw);
        assert_eq!(
            failure.to_string(),
            "job at point 7, command 3: fault when writing 0x201000. \
             Is it mapped, with this access, and was it until the job ended?"
        );
        assert!(failure.kind.stops());
        failure.name = Some("CONV2D");
        failure.count = 3;
        let text = failure.to_string();
        assert!(text.contains("command 3 (CONV2D): fault"), "{text}");
        assert!(text.contains("(and 2 more)"), "{text}");
    }

    #[test]
    fn no_command_is_blamed_for_a_reset() {
        let failure = Failure::from(&accel_npu_error {
            kind: ACCEL_NPU_ERROR_RESET,
            point: 1,
            count: 1,
            ..Default::default()
        });
        let text = failure.to_string();
        assert!(
            text.starts_with("job at point 1: the device failed"),
            "{text}"
        );
    }

    #[test]
    fn kinds_of_newer_kernels_survive() {
        assert_eq!(Kind::from(99), Kind::Unknown(99));
        assert_eq!(Kind::from(4), Kind::Parameter);
        assert!(!Kind::Parameter.stops());
        assert!(Kind::Unknown(99).to_string().contains("99"));
    }
}
