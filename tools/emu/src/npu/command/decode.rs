// SPDX-License-Identifier: GPL-2.0
//! From 256 bytes to a command whose fields are known to be what its opcode has.

use super::tensor::{ELEMENTS, Operand, Type};
use super::{Access, Failure, SIZE};

/// Where the parameters begin, and how many there are.
const PARAMETERS: (usize, usize) = (8, 14);
/// Where the operands begin, and the bytes of each.
const OPERANDS: (usize, usize) = (64, 48);
/// The first device address that there is not.
const ADDRESS_END: u128 = 1 << 48;
/// Kind of a fault: a device address of more than 48 bits, or a tensor that wraps round.
const FAULT_RANGE: u8 = 4;

/// Flag 0 of MATMUL and CONV2D.
const ACCUMULATE: u16 = 1;

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Nop,
    Copy,
    Fill,
    Matmul,
    Conv2d,
    Requantize,
    Activate,
    Add,
    Pool,
    Softmax,
    Argmax,
}

/// How an opcode uses an operand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Never,
    Maybe,
    Always,
}

/// The fields that an opcode has: flags, number of parameters, and operands D, A, B, C.
struct Form {
    flags: u16,
    parameters: usize,
    operands: [Use; 4],
}

impl Opcode {
    fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            0x00 => Self::Nop,
            0x01 => Self::Copy,
            0x02 => Self::Fill,
            0x10 => Self::Matmul,
            0x11 => Self::Conv2d,
            0x12 => Self::Requantize,
            0x13 => Self::Activate,
            0x14 => Self::Add,
            0x20 => Self::Pool,
            0x21 => Self::Softmax,
            0x22 => Self::Argmax,
            _ => return None,
        })
    }

    fn form(self) -> Form {
        use Use::{Always, Maybe, Never};
        let (flags, parameters, operands) = match self {
            Self::Nop => (0, 0, [Never, Never, Never, Never]),
            Self::Copy | Self::Argmax => (0, 0, [Always, Always, Never, Never]),
            Self::Fill => (0, 1, [Always, Never, Never, Never]),
            Self::Matmul => (ACCUMULATE, 2, [Always, Always, Always, Never]),
            Self::Conv2d => (ACCUMULATE, 6, [Always, Always, Always, Never]),
            Self::Requantize => (0, 3, [Always, Always, Maybe, Always]),
            Self::Activate => (0, 2, [Always, Always, Maybe, Never]),
            Self::Add => (0, 8, [Always, Always, Always, Never]),
            Self::Pool => (0, 4, [Always, Always, Never, Never]),
            Self::Softmax => (0, 1, [Always, Always, Never, Never]),
        };
        Form {
            flags,
            parameters,
            operands,
        }
    }
}

/// A command whose fields make sense one by one: what they say together, each operation checks.
pub(super) struct Command {
    pub(super) opcode: Opcode,
    flags: u16,
    parameters: [u32; PARAMETERS.1],
    operands: [Option<Operand>; 4],
}

/// The operation of a command, if there is such a one.
pub(super) fn opcode(command: &[u8; SIZE]) -> Option<Opcode> {
    Opcode::from_number(u16::from_le_bytes([command[0], command[1]]))
}

/// The 32-bit word at `offset`, which is below `bytes.len() - 3`.
fn word(bytes: &[u8], offset: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(word)
}

/// Four words from `offset` on.
fn words(bytes: &[u8], offset: usize) -> [u32; 4] {
    std::array::from_fn(|i| word(bytes, offset + 4 * i))
}

impl Command {
    /// Checks opcode, flags and fields that must be 0, then every operand by itself.
    pub(super) fn decode(command: &[u8; SIZE]) -> Result<Self, Failure> {
        let opcode = opcode(command).ok_or(Failure::Opcode)?;
        let form = opcode.form();
        let flags = u16::from_le_bytes([command[2], command[3]]);
        let parameters: [u32; PARAMETERS.1] =
            std::array::from_fn(|i| word(command, PARAMETERS.0 + 4 * i));
        let raw: [&[u8]; 4] =
            std::array::from_fn(|i| &command[OPERANDS.0 + i * OPERANDS.1..][..OPERANDS.1]);

        // The type says whether there is an operand that need not be there.
        let used: [bool; 4] = std::array::from_fn(|i| match form.operands[i] {
            Use::Never => false,
            Use::Maybe => word(raw[i], 8) != 0,
            Use::Always => true,
        });
        let zero = word(command, 4) == 0
            && parameters[form.parameters..].iter().all(|p| *p == 0)
            && raw.iter().zip(used).all(|(raw, used)| match used {
                true => word(raw, 12) == 0,
                false => raw.iter().all(|byte| *byte == 0),
            });
        if flags & !form.flags != 0 || !zero {
            return Err(Failure::Opcode);
        }

        let mut operands = [None; 4];
        for i in (0..4).filter(|i| used[*i]) {
            operands[i] = Some(operand(raw[i])?);
        }
        Ok(Self {
            opcode,
            flags,
            parameters,
            operands,
        })
    }

    /// Parameter `index`, as it is.
    pub(super) fn parameter(&self, index: usize) -> u32 {
        self.parameters[index]
    }

    /// Parameter `index` as a number from `lowest` to `highest`.
    pub(super) fn number(&self, index: usize, lowest: i32, highest: i32) -> Result<i32, Failure> {
        let number = self.parameters[index] as i32;
        match (lowest..=highest).contains(&number) {
            true => Ok(number),
            false => Err(Failure::Parameter),
        }
    }

    /// Parameter `index` as an F32.
    pub(super) fn float(&self, index: usize) -> f32 {
        f32::from_bits(self.parameters[index])
    }

    /// Parameter `index` as a pair of numbers for rows and columns.
    pub(super) fn pair(&self, index: usize) -> [usize; 2] {
        let pair = self.parameters[index];
        [(pair & 0xffff) as usize, (pair >> 16) as usize]
    }

    /// Flag 0 of MATMUL and CONV2D.
    pub(super) fn accumulate(&self) -> bool {
        self.flags & ACCUMULATE != 0
    }

    /// The output.
    pub(super) fn d(&self) -> Result<&Operand, Failure> {
        self.operands[0].as_ref().ok_or(Failure::Operand)
    }

    /// The first input.
    pub(super) fn a(&self) -> Result<&Operand, Failure> {
        self.operands[1].as_ref().ok_or(Failure::Operand)
    }

    /// The second input; none only where the opcode can do without.
    pub(super) fn b(&self) -> Option<&Operand> {
        self.operands[2].as_ref()
    }

    /// The third input.
    pub(super) fn c(&self) -> Result<&Operand, Failure> {
        self.operands[3].as_ref().ok_or(Failure::Operand)
    }

    /// Checks what comes after parameters: sizes, then that all addresses have 48 bits. `work`
    /// is the multiplications or elements of windows, 0 where the manual sets no limit.
    pub(super) fn check_sizes(&self, work: u128) -> Result<(), Failure> {
        const WORK: u128 = 1 << 32;
        let mut present = self.operands.iter().flatten();
        if work > WORK || present.any(|operand| operand.elements_wide() > u128::from(ELEMENTS)) {
            return Err(Failure::TooLarge);
        }
        // Inputs are read before the output is written.
        for i in [1, 2, 3, 0] {
            let Some(operand) = &self.operands[i] else {
                continue;
            };
            let last = operand.last_byte();
            if last >= ADDRESS_END {
                return Err(Failure::Fault {
                    address: u64::try_from(last).unwrap_or(u64::MAX),
                    access: if i == 0 { Access::Write } else { Access::Read },
                    kind: FAULT_RANGE,
                });
            }
        }
        Ok(())
    }
}

/// One operand of a command that uses it.
fn operand(raw: &[u8]) -> Result<Operand, Failure> {
    let address = (u64::from(word(raw, 4)) << 32) | u64::from(word(raw, 0));
    let kind = Type::from_number(word(raw, 8)).ok_or(Failure::Operand)?;
    let dims = words(raw, 16);
    let mut strides = words(raw, 32);
    for (dim, stride) in dims.iter().zip(&mut strides) {
        match dim {
            0 => return Err(Failure::Operand),
            // It counts for nothing.
            1 => *stride = 0,
            _ => {}
        }
    }
    let size = kind.size();
    if address % size as u64 != 0 || strides.iter().any(|s| s % size as u32 != 0) {
        return Err(Failure::Operand);
    }
    Ok(Operand {
        address,
        kind,
        dims,
        strides,
    })
}
