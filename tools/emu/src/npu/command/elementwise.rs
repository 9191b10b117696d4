// SPDX-License-Identifier: GPL-2.0
//! REQUANTIZE, ACTIVATE and ADD: what is computed element by element.

use std::f64::consts::SQRT_2;

use bytemuck::Pod;

use super::Failure;
use super::buffer::Buffer;
use super::context::Context;
use super::decode::Command;
use super::tensor::{Operand, Type, bf16_from_f32};

/// Elements that are computed between two looks at whether to give up.
const PART: usize = 4096;

/// From an exact integer to I8: a shift that rounds to nearest, ties upwards, then an offset and
/// limits.
#[derive(Clone, Copy)]
struct Narrow {
    shift: u32,
    offset: i64,
    lowest: i64,
    highest: i64,
}

impl Narrow {
    /// From parameters: the offset at `first`, the limits after it.
    fn new(command: &Command, first: usize, shift: u32) -> Result<Self, Failure> {
        let offset = command.number(first, -128, 127)?;
        let lowest = command.number(first + 1, -128, 127)?;
        let highest = command.number(first + 2, lowest, 127)?;
        Ok(Self {
            shift,
            offset: offset.into(),
            lowest: lowest.into(),
            highest: highest.into(),
        })
    }

    fn apply(self, t: i64) -> i8 {
        // (t + r) >> s, of which the sum may have more than 64 bits.
        let shifted = match self.shift {
            0 => t,
            s => (t >> s) + ((t >> (s - 1)) & 1),
        };
        let sum = shifted.saturating_add(self.offset);
        // What limits I8 is one.
        sum.clamp(self.lowest, self.highest) as i8
    }
}

/// D I8 [n, h, w, c], A I32 [n, h, w, c], B I32 [1, 1, 1, c] or none, C I32 [1, 1, 2, c].
pub(super) fn requantize(command: &Command, context: &Context<'_>) -> Result<(), Failure> {
    let (d, a, b, c) = (command.d()?, command.a()?, command.b(), command.c()?);
    let channels = a.dims[3];
    if (d.kind, a.kind, c.kind) != (Type::I8, Type::I32, Type::I32)
        || d.dims != a.dims
        || c.dims != [1, 1, 2, channels]
        || b.is_some_and(|b| b.kind != Type::I32 || b.dims != [1, 1, 1, channels])
    {
        return Err(Failure::Operand);
    }
    let narrow = Narrow::new(command, 0, 0)?;
    command.check_sizes(0)?;

    let input = a.read::<i32>(context)?;
    let bias = last_dimension::<i32>(b, a, context)?;
    let scales = c.read::<i32>(context)?;
    let (multipliers, shifts) = scales.split_at(a.shape()[3]);
    for (multipliers, shifts) in multipliers.chunks(PART).zip(shifts.chunks(PART)) {
        context.spend(PART as u64)?;
        if multipliers.iter().any(|m| *m < 0) || shifts.iter().any(|s| !(0..=62).contains(s)) {
            return Err(Failure::Parameter);
        }
    }

    let mut output = Buffer::<i8>::zeroed(input.len(), context)?;
    each_row(&mut output, a, context, 2, |row, first, part| {
        let channels = part.len();
        let input = &input[row * a.shape()[3] + first..][..channels];
        let bias = &bias[first..][..channels];
        let multipliers = &multipliers[first..][..channels];
        let shifts = &shifts[first..][..channels];
        for i in 0..channels {
            // At most 2^32 times less than 2^31.
            let t = (i64::from(input[i]) + i64::from(bias[i])) * i64::from(multipliers[i]);
            part[i] = Narrow {
                shift: shifts[i].unsigned_abs(),
                ..narrow
            }
            .apply(t);
        }
    })?;
    d.write(&output, context)
}

/// D F32 or BF16, A F32, same dims, B F32 [1, 1, 1, d3] or none.
pub(super) fn activate(command: &Command, context: &Context<'_>) -> Result<(), Failure> {
    let (d, a, b) = (command.d()?, command.a()?, command.b());
    if !matches!(d.kind, Type::F32 | Type::Bf16)
        || a.kind != Type::F32
        || d.dims != a.dims
        || b.is_some_and(|b| b.kind != Type::F32 || b.dims != [1, 1, 1, a.dims[3]])
    {
        return Err(Failure::Operand);
    }
    let function = command.number(0, 0, 6)?;
    command.check_sizes(0)?;
    // Where an infinite argument has no value but a limit, that is the result; a NaN stays one.
    match function {
        0 => activate_with(command, context, |x| x),
        1 => activate_with(command, context, |x| if x < 0.0 { 0.0 } else { x }),
        2 => activate_with(command, context, |x| x.clamp(0.0, 6.0)),
        3 => activate_with(command, context, |x| 1.0 / (1.0 + (-x).exp())),
        4 => activate_with(command, context, f64::tanh),
        5 => activate_with(command, context, |x| match x {
            f64::NEG_INFINITY => -0.0,
            _ => 0.5 * x * libm::erfc(-x / SQRT_2),
        }),
        _ => activate_with(command, context, |x| match x {
            f64::NEG_INFINITY => -0.0,
            _ => x / (1.0 + (-x).exp()),
        }),
    }
}

fn activate_with(
    command: &Command,
    context: &Context<'_>,
    f: impl Fn(f64) -> f64,
) -> Result<(), Failure> {
    fn run<T: Pod>(
        command: &Command,
        context: &Context<'_>,
        f: impl Fn(f64) -> T,
    ) -> Result<(), Failure> {
        let (d, a) = (command.d()?, command.a()?);
        let scale = f64::from(command.float(1));
        let input = a.read::<f32>(context)?;
        let bias = last_dimension::<f32>(command.b(), a, context)?;
        let mut output = Buffer::<T>::zeroed(input.len(), context)?;
        each_row(&mut output, a, context, 30, |row, first, part| {
            let input = &input[row * a.shape()[3] + first..];
            let bias = &bias[first..];
            for ((to, x), b) in part.iter_mut().zip(input).zip(bias) {
                *to = f(scale * f64::from(*x) + f64::from(*b));
            }
        })?;
        d.write(&output, context)
    }

    match command.d()?.kind {
        Type::F32 => run(command, context, |x| f(x) as f32),
        _ => run(command, context, |x| bf16_from_f32(f(x) as f32)),
    }
}

/// F32: D = A + B. I8: both scaled to what D has.
pub(super) fn add(command: &Command, context: &Context<'_>) -> Result<(), Failure> {
    let (d, a) = (command.d()?, command.a()?);
    let b = command.b().ok_or(Failure::Operand)?;
    if (a.kind, b.kind) != (d.kind, d.kind) || (a.dims, b.dims) != (d.dims, d.dims) {
        return Err(Failure::Operand);
    }
    match d.kind {
        Type::F32 => {
            for index in 0..8 {
                command.number(index, 0, 0)?;
            }
            command.check_sizes(0)?;
            combine(command, context, |a: f32, b: f32| a + b)
        }
        Type::I8 => {
            let zeros = [command.number(0, -128, 127)?, command.number(1, -128, 127)?];
            let scales = [
                command.number(2, 0, i32::MAX)?,
                command.number(3, 0, i32::MAX)?,
            ];
            let shift = command.number(4, 0, 62)?.unsigned_abs();
            let narrow = Narrow::new(command, 5, shift)?;
            command.check_sizes(0)?;
            // At most 2^8 times 2^31 each.
            let scaled =
                move |x: i8, i: usize| (i64::from(x) - i64::from(zeros[i])) * i64::from(scales[i]);
            combine(command, context, |a: i8, b: i8| {
                narrow.apply(scaled(a, 0) + scaled(b, 1))
            })
        }
        _ => Err(Failure::Operand),
    }
}

/// D = f(A, B).
fn combine<T: Pod>(
    command: &Command,
    context: &Context<'_>,
    f: impl Fn(T, T) -> T,
) -> Result<(), Failure> {
    let mut output = command.a()?.read::<T>(context)?;
    let other = command.b().ok_or(Failure::Operand)?.read::<T>(context)?;
    for (to, from) in output.chunks_mut(PART).zip(other.chunks(PART)) {
        context.spend(2 * PART as u64)?;
        for (to, from) in to.iter_mut().zip(from) {
            *to = f(*to, *from);
        }
    }
    command.d()?.write(&output, context)
}

/// The elements of an operand that has the last dimension of `of` only; zeros if there is none.
fn last_dimension<T: Pod>(
    operand: Option<&Operand>,
    of: &Operand,
    context: &Context<'_>,
) -> Result<Buffer<T>, Failure> {
    match operand {
        Some(operand) => operand.read(context),
        None => Buffer::zeroed(of.shape()[3], context),
    }
}

/// Calls `f` for parts of `output`, which has the dimensions of `of`, with their number of a row
/// along the last dimension and their place in it. An element takes about `nanoseconds`.
fn each_row<T>(
    output: &mut [T],
    of: &Operand,
    context: &Context<'_>,
    nanoseconds: u64,
    mut f: impl FnMut(usize, usize, &mut [T]),
) -> Result<(), Failure> {
    for (row, elements) in output.chunks_exact_mut(of.shape()[3]).enumerate() {
        for (first, part) in (0..).step_by(PART).zip(elements.chunks_mut(PART)) {
            context.spend(5 + nanoseconds * part.len() as u64)?;
            f(row, first, part);
        }
    }
    Ok(())
}
