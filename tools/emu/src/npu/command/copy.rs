// SPDX-License-Identifier: GPL-2.0
//! COPY and FILL.

use bytemuck::Pod;

use super::Failure;
use super::context::Context;
use super::decode::Command;

/// D = A.
pub(super) fn copy(command: &Command, context: &Context<'_>) -> Result<(), Failure> {
    fn run<T: Pod>(command: &Command, context: &Context<'_>) -> Result<(), Failure> {
        // All of it before the first write: the two may be the same memory, also by different
        // addresses.
        let elements = command.a()?.read::<T>(context)?;
        command.d()?.write(&elements, context)
    }

    let (d, a) = (command.d()?, command.a()?);
    if d.kind != a.kind || d.dims != a.dims {
        return Err(Failure::Operand);
    }
    command.check_sizes(0)?;
    match d.kind.size() {
        1 => run::<u8>(command, context),
        2 => run::<u16>(command, context),
        _ => run::<u32>(command, context),
    }
}

/// Every element of D has the value of the low bytes of p0.
pub(super) fn fill(command: &Command, context: &Context<'_>) -> Result<(), Failure> {
    let d = command.d()?;
    command.check_sizes(0)?;
    let value = command.parameter(0).to_le_bytes();
    d.fill(&value[..d.kind.size()], context)
}
