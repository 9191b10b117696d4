// SPDX-License-Identifier: GPL-2.0
//! SOFTMAX and ARGMAX: what is computed along the last dimension.

use bytemuck::Pod;

use super::Failure;
use super::buffer::Buffer;
use super::context::Context;
use super::decode::Command;
use super::tensor::Type;

/// Elements that are computed between two looks at whether to give up.
const PART: usize = 4096;

/// D and A have the same dims.
pub(super) fn softmax(command: &Command, context: &Context<'_>) -> Result<(), Failure> {
    let (d, a) = (command.d()?, command.a()?);
    let types = [Type::F32, Type::I8];
    if !types.contains(&a.kind) || !types.contains(&d.kind) || d.dims != a.dims {
        return Err(Failure::Operand);
    }
    let scale = command.float(0);
    if !(scale > 0.0 && scale.is_finite()) {
        return Err(Failure::Parameter);
    }
    command.check_sizes(0)?;

    let scale = f64::from(scale);
    if a.kind == Type::F32 {
        // The product of two F32 is exact in F64.
        let power =
            |x: f32, greatest: f32| (scale * f64::from(x) - scale * f64::from(greatest)).exp();
        return softmax_of(
            command,
            power,
            |x, y| if y > x || y.is_nan() { y } else { x },
            context,
        );
    }
    // There are 256 differences.
    let powers: [f64; 256] = std::array::from_fn(|below| (-scale * below as f64).exp());
    let power = |x: i8, greatest: i8| powers[usize::from(greatest.abs_diff(x))];
    softmax_of(command, power, i8::max, context)
}

/// With elements of A as `T`, exp(p0 x) / exp(p0 greatest) from `power`, and the greater of two.
fn softmax_of<T: Pod>(
    command: &Command,
    power: impl Fn(T, T) -> f64,
    greater: impl Fn(T, T) -> T,
    context: &Context<'_>,
) -> Result<(), Failure> {
    fn run<T: Pod, U: Pod>(
        command: &Command,
        power: impl Fn(T, T) -> f64,
        greater: impl Fn(T, T) -> T,
        narrow: impl Fn(f64) -> U,
        context: &Context<'_>,
    ) -> Result<(), Failure> {
        let (d, a) = (command.d()?, command.a()?);
        let input = a.read::<T>(context)?;
        let mut output = Buffer::<U>::zeroed(input.len(), context)?;
        let length = a.shape()[3];
        for (output, input) in output
            .chunks_exact_mut(length)
            .zip(input.chunks_exact(length))
        {
            let mut greatest = input[0];
            for part in input.chunks(PART) {
                context.spend(2 * part.len() as u64)?;
                greatest = part.iter().copied().fold(greatest, &greater);
            }
            let mut sum = 0.0;
            for part in input.chunks(PART) {
                context.spend(20 * part.len() as u64)?;
                sum += part.iter().map(|x| power(*x, greatest)).sum::<f64>();
            }
            for (to, from) in output.chunks_mut(PART).zip(input.chunks(PART)) {
                context.spend(20 * from.len() as u64)?;
                for (to, from) in to.iter_mut().zip(from) {
                    *to = narrow(power(*from, greatest) / sum);
                }
            }
        }
        d.write(&output, context)
    }

    match command.d()?.kind {
        Type::F32 => run(command, power, greater, |y| y as f32, context),
        _ => {
            let narrow = |y: f64| ((256.0 * y + 0.5).floor() - 128.0) as i8;
            run(command, power, greater, narrow, context)
        }
    }
}

/// A, D I32 [d0, d1, d2, 1].
pub(super) fn argmax(command: &Command, context: &Context<'_>) -> Result<(), Failure> {
    let (d, a) = (command.d()?, command.a()?);
    let [d0, d1, d2, _] = a.dims;
    if d.kind != Type::I32 || d.dims != [d0, d1, d2, 1] {
        return Err(Failure::Operand);
    }
    match a.kind {
        Type::I8 | Type::I32 | Type::F32 => command.check_sizes(0)?,
        _ => return Err(Failure::Operand),
    }
    match a.kind {
        Type::I8 => argmax_of(command, |x: i8, y: i8| x > y, context),
        Type::I32 => argmax_of(command, |x: i32, y: i32| x > y, context),
        // A NaN is less than every number.
        _ => argmax_of(
            command,
            |x: f32, y: f32| x > y || y.is_nan() && !x.is_nan(),
            context,
        ),
    }
}

fn argmax_of<T: Pod>(
    command: &Command,
    greater: impl Fn(T, T) -> bool,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let a = command.a()?;
    let input = a.read::<T>(context)?;
    let mut output = Buffer::zeroed(command.d()?.elements(), context)?;
    for (to, row) in output.iter_mut().zip(input.chunks_exact(a.shape()[3])) {
        let (mut best, mut greatest) = (0, row[0]);
        for (first, part) in (0..).step_by(PART).zip(row.chunks(PART)) {
            context.spend(5 + 2 * part.len() as u64)?;
            for (i, x) in part.iter().enumerate() {
                if greater(*x, greatest) {
                    (best, greatest) = (first + i, *x);
                }
            }
        }
        // An operand has at most 2^26 elements.
        *to = best as i32;
    }
    command.d()?.write(&output, context)
}
