// SPDX-License-Identifier: GPL-2.0
//! The commands of NPU1: decoding, checking and executing.
//!
//! The law is the chapter "Commands" of `Documentation/npu-hardware.rst`. A command comes from
//! user space and is hostile until it was checked: nothing here panics, overflows, allocates or
//! works beyond the limits of the manual, whatever its 256 bytes are. Checks come in the order of
//! the status codes: opcode, flags and fields that must be 0; operands; parameters; operands and
//! parameters that do not go together; sizes; the accesses. This room reaches memory through
//! [`Memory`] only.

mod buffer;
mod context;
mod conv2d;
mod copy;
mod decode;
mod elementwise;
mod matmul;
mod pool;
mod product;
mod rows;
mod tensor;
#[cfg(test)]
mod tests;
mod window;

use context::Context;
use decode::{Command, Opcode};

/// Bytes of a command.
pub const SIZE: usize = 256;

/// Device memory as one address space sees it, through the MMU.
pub trait Memory: Sync {
    /// Fills `to` with the bytes from the device address `address` on.
    ///
    /// # Errors
    ///
    /// [`Failure::Fault`] and [`Failure::Bus`] with the address of the first byte that cannot be
    /// read; what `to` holds then is undefined.
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Failure>;

    /// Writes `from` to the device address `address` and after.
    ///
    /// # Errors
    ///
    /// As for reading; what was written before that byte stays.
    fn write(&self, address: u64, from: &[u8]) -> Result<(), Failure>;
}

/// What an access wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Inputs, and an output that a command adds to.
    Read,
    /// The output.
    Write,
}

/// Why a command was not executed, or not to its end. What it wrote to its output is undefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// BAD_OPCODE: unknown opcode or flags, or a field that must be 0.
    Opcode,
    /// BAD_OPERAND: type, shape, alignment, or shapes that do not go together.
    Operand,
    /// BAD_PARAMETER: a parameter outside its range.
    Parameter,
    /// TOO_LARGE: more elements or more work than a command may have.
    TooLarge,
    /// FAULT: the MMU refused an access.
    Fault {
        /// The device address that was refused.
        address: u64,
        /// What was wanted of it.
        access: Access,
        /// The kind, 1 to 5, as the manual's chapter "MMU" numbers them.
        kind: u8,
    },
    /// BUS_ERROR: host memory did not answer.
    Bus {
        /// The host address.
        address: u64,
        /// What was wanted of it.
        access: Access,
    },
    /// The caller's `aborted` said so.
    Aborted,
}

/// The kinds of engines that execute commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// COPY and FILL.
    Copy,
    /// All others, also unknown ones.
    Compute,
}

/// The kind of engine that executes `command`.
pub fn engine(command: &[u8; SIZE]) -> Engine {
    match decode::opcode(command) {
        Some(Opcode::Copy | Opcode::Fill) => Engine::Copy,
        _ => Engine::Compute,
    }
}

/// Checks and executes one command.
///
/// `aborted` is polled at least once in every millisecond of work; when it says true, the command
/// is given up.
///
/// # Errors
///
/// What the first check that failed says, the failure of an access, or [`Failure::Aborted`].
pub fn execute(
    command: &[u8; SIZE],
    memory: &dyn Memory,
    aborted: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    let command = Command::decode(command)?;
    let context = Context::new(memory, aborted);
    match command.opcode {
        Opcode::Nop => Ok(()),
        Opcode::Copy => copy::copy(&command, &context),
        Opcode::Fill => copy::fill(&command, &context),
        Opcode::Matmul => matmul::matmul(&command, &context),
        Opcode::Conv2d => conv2d::conv2d(&command, &context),
        Opcode::Requantize => elementwise::requantize(&command, &context),
        Opcode::Activate => elementwise::activate(&command, &context),
        Opcode::Add => elementwise::add(&command, &context),
        Opcode::Pool => pool::pool(&command, &context),
        Opcode::Softmax => rows::softmax(&command, &context),
        Opcode::Argmax => rows::argmax(&command, &context),
    }
}
