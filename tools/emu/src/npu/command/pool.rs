// SPDX-License-Identifier: GPL-2.0
//! POOL.

use bytemuck::Pod;

use super::Failure;
use super::buffer::Buffer;
use super::context::Context;
use super::decode::Command;
use super::tensor::Type;
use super::window::{Window, positive};

/// An element of which maxima and means are made.
trait Element: Pod {
    /// A sum of as many as there may be.
    type Sum: Copy + Default;

    /// No element is less.
    const LOWEST: Self;

    /// A NaN is greater than every number, here.
    fn greatest(self, other: Self) -> Self;
    fn add(self, sum: Self::Sum) -> Self::Sum;
    fn mean(sum: Self::Sum, count: usize) -> Self;
}

impl Element for i8 {
    type Sum = i64;

    const LOWEST: Self = i8::MIN;

    #[inline(always)]
    fn greatest(self, other: Self) -> Self {
        self.max(other)
    }

    #[inline(always)]
    fn add(self, sum: i64) -> i64 {
        sum + i64::from(self)
    }

    fn mean(sum: i64, count: usize) -> Self {
        // To nearest, ties away from 0. No mean is greater than the elements are.
        let count = count as i64;
        let magnitude = (2 * sum.abs() + count) / (2 * count);
        (sum.signum() * magnitude) as i8
    }
}

impl Element for f32 {
    type Sum = f64;

    const LOWEST: Self = f32::NEG_INFINITY;

    #[inline(always)]
    fn greatest(self, other: Self) -> Self {
        if other > self || other.is_nan() {
            other
        } else {
            self
        }
    }

    #[inline(always)]
    fn add(self, sum: f64) -> f64 {
        sum + f64::from(self)
    }

    fn mean(sum: f64, count: usize) -> Self {
        (sum / count as f64) as f32
    }
}

/// A [n, h, w, c], D [n, oh, ow, c].
pub(super) fn pool(command: &Command, context: &Context<'_>) -> Result<(), Failure> {
    let (d, a) = (command.d()?, command.a()?);
    let ([n, h, w, c], [_, oh, ow, _]) = (a.shape(), d.shape());
    if !matches!(a.kind, Type::I8 | Type::F32) || d.kind != a.kind || d.shape() != [n, oh, ow, c] {
        return Err(Failure::Operand);
    }
    let mean = command.number(0, 0, 1)? == 1;
    let kernel = positive(command, 1)?;
    let strides = positive(command, 2)?;
    let padding = command.pair(3);
    let window = |input, i: usize| Window {
        input,
        kernel: kernel[i],
        stride: strides[i],
        dilation: 1,
        padding: padding[i],
    };
    let windows = [window(h, 0), window(w, 1)];
    if !windows[0].never_empty(oh) || !windows[1].never_empty(ow) {
        return Err(Failure::Operand);
    }
    let elements = (kernel[0] * kernel[1]) as u128;
    command.check_sizes(d.elements_wide().saturating_mul(elements))?;
    match a.kind {
        Type::I8 => run::<i8>(command, windows, mean, context),
        _ => run::<f32>(command, windows, mean, context),
    }
}

fn run<T: Element>(
    command: &Command,
    [rows, columns]: [Window; 2],
    mean: bool,
    context: &Context<'_>,
) -> Result<(), Failure> {
    /// Channels that are computed at a time.
    const BLOCK: usize = 1024;

    let a = command.a()?.read::<T>(context)?;
    let operand = command.d()?;
    let mut d = Buffer::<T>::zeroed(operand.elements(), context)?;
    let [_, height, width, channels] = operand.shape();
    let mut sums = [T::Sum::default(); BLOCK];
    for (index, d) in d.chunks_exact_mut(channels).enumerate() {
        let image = index / width / height;
        let (i, top) = rows.at(index / width % height);
        let (j, left) = columns.at(index % width);
        for (first, d) in (0..).step_by(BLOCK).zip(d.chunks_mut(BLOCK)) {
            let sums = &mut sums[..d.len()];
            sums.fill(T::Sum::default());
            d.fill(T::LOWEST);
            context.spend(20 + 2 * d.len() as u64)?;
            for y in top..top + i.len() {
                for x in left..left + j.len() {
                    context.spend(4 + d.len() as u64 / 2)?;
                    let pixel = (image * rows.input + y) * columns.input + x;
                    let a = &a[pixel * channels + first..][..d.len()];
                    if mean {
                        for (sum, a) in sums.iter_mut().zip(a) {
                            *sum = a.add(*sum);
                        }
                    } else {
                        for (d, a) in d.iter_mut().zip(a) {
                            *d = d.greatest(*a);
                        }
                    }
                }
            }
            if mean {
                for (d, sum) in d.iter_mut().zip(sums) {
                    *d = T::mean(*sum, i.len() * j.len());
                }
            }
        }
    }
    operand.write(&d, context)
}
