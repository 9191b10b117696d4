// SPDX-License-Identifier: GPL-2.0
//! MATMUL.

use super::Failure;
use super::context::Context;
use super::decode::Command;
use super::product::{Factor, Matrix, Multiplier, begin, check_types, zero_points};
use super::tensor::{Bf16, Type};

/// A [a, b, m, k], B [a, b, k, n], D [a, b, m, n].
pub(super) fn matmul(command: &Command, context: &Context<'_>) -> Result<(), Failure> {
    let (d, a) = (command.d()?, command.a()?);
    let b = command.b().ok_or(Failure::Operand)?;
    check_types(command)?;
    let [outer, inner, m, k] = a.dims;
    let n = b.dims[3];
    if b.dims != [outer, inner, k, n] || d.dims != [outer, inner, m, n] {
        return Err(Failure::Operand);
    }
    let zeros = zero_points(command)?;
    // It is one per element of D, which is no product that overflows, and k.
    command.check_sizes(d.elements_wide().saturating_mul(u128::from(k)))?;
    match a.kind {
        Type::I8 => run::<i8>(command, zeros, context),
        Type::Bf16 => run::<Bf16>(command, zeros, context),
        _ => run::<f32>(command, zeros, context),
    }
}

fn run<F: Factor>(
    command: &Command,
    zeros: [i32; 2],
    context: &Context<'_>,
) -> Result<(), Failure> {
    let a = command.a()?.read::<F>(context)?;
    let operand = command.b().ok_or(Failure::Operand)?;
    let b = operand.read::<F>(context)?;
    let mut d = begin::<F::Result>(command, context)?;
    let [_, _, k, n] = operand.shape();
    let m = command.a()?.shape()[2];

    let zero = F::zero(zeros[0]);
    let mut multiplier = Multiplier::<F>::new(m, n, k, F::zero(zeros[1]));
    for ((a, b), d) in a
        .chunks_exact(m * k)
        .zip(b.chunks_exact(k * n))
        .zip(d.chunks_exact_mut(m * n))
    {
        let left = |row: usize, depth: std::ops::Range<usize>, to: &mut [F::Wide]| {
            for (to, from) in to.iter_mut().zip(&a[row * k..][depth]) {
                *to = from.widen(zero);
            }
        };
        let right = Matrix {
            elements: b,
            offset: 0,
            row: n,
        };
        multiplier.multiply(left, &right, d, 0, n, context)?;
    }
    command.d()?.write(&d, context)
}
