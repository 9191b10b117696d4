// SPDX-License-Identifier: GPL-2.0
//! CONV2D.
//!
//! A group is the product of two matrices: the windows, one per row, which are gathered block by
//! block, and the weights. Where every channel is a group of its own, so that the second matrix
//! has one column, sums go over the window with all channels side by side instead.

use std::ops::Range;

use super::Failure;
use super::buffer::Buffer;
use super::context::Context;
use super::decode::Command;
use super::product::{Factor, Matrix, Multiplier, begin, check_types, zero_points};
use super::tensor::{Bf16, Type};
use super::window::{Window, positive};

/// What the parameters and shapes say.
struct Convolution {
    zeros: [i32; 2],
    rows: Window,
    columns: Window,
    /// Height and width of the output.
    output: [usize; 2],
    /// Channels of the input and of the output.
    channels: [usize; 2],
    groups: usize,
    /// Channels of the input that a group has.
    each: usize,
}

/// A [n, h, w, c], B [o, kh, kw, c / g], D [n, oh, ow, o].
pub(super) fn conv2d(command: &Command, context: &Context<'_>) -> Result<(), Failure> {
    let (d, a) = (command.d()?, command.a()?);
    let b = command.b().ok_or(Failure::Operand)?;
    check_types(command)?;
    let [n, h, w, c] = a.shape();
    let [o, kh, kw, each] = b.shape();
    let [_, oh, ow, _] = d.shape();
    if d.shape() != [n, oh, ow, o] {
        return Err(Failure::Operand);
    }
    let zeros = zero_points(command)?;
    let strides = positive(command, 2)?;
    let dilations = positive(command, 3)?;
    let padding = command.pair(4);
    let groups = command.parameter(5) as usize;
    if groups == 0 || c % groups != 0 || o % groups != 0 {
        return Err(Failure::Parameter);
    }
    if each != c / groups {
        return Err(Failure::Operand);
    }
    let products = u128::from(b.dims[1]) * u128::from(b.dims[2]) * u128::from(b.dims[3]);
    command.check_sizes(d.elements_wide().saturating_mul(products))?;

    let window = |input, kernel, i: usize| Window {
        input,
        kernel,
        stride: strides[i],
        dilation: dilations[i],
        padding: padding[i],
    };
    let convolution = Convolution {
        zeros,
        rows: window(h, kh, 0),
        columns: window(w, kw, 1),
        output: [oh, ow],
        channels: [c, o],
        groups,
        each,
    };
    match a.kind {
        Type::I8 => convolution.run::<i8>(command, context),
        Type::Bf16 => convolution.run::<Bf16>(command, context),
        _ => convolution.run::<f32>(command, context),
    }
}

impl Convolution {
    fn run<F: Factor>(&self, command: &Command, context: &Context<'_>) -> Result<(), Failure> {
        let a = command.a()?.read::<F>(context)?;
        let b = command.b().ok_or(Failure::Operand)?.read::<F>(context)?;
        let mut d = begin::<F::Result>(command, context)?;
        let (weights, finite) = self.transpose(&b, context)?;
        drop(b);
        // Products of matrices multiply the padding, too.
        match self.depthwise() || !finite {
            true => self.direct(&a, &weights, &mut d, context)?,
            false => self.by_group(&a, &weights, &mut d, context)?,
        }
        command.d()?.write(&d, context)
    }

    /// Weights with the channel of the output as the last index instead of the first, and whether
    /// all are finite.
    fn transpose<F: Factor>(
        &self,
        b: &[F],
        context: &Context<'_>,
    ) -> Result<(Buffer<F>, bool), Failure> {
        /// Weights that are moved between two looks at whether to give up.
        const PART: usize = 1 << 11;

        let mut finite = true;
        let o = self.channels[1];
        let depth = b.len() / o;
        let mut weights = Buffer::zeroed(b.len(), context)?;
        for (k, row) in weights.chunks_exact_mut(o).enumerate() {
            for (part, first) in row.chunks_mut(PART).zip((0..).step_by(PART)) {
                // Often each is in another page.
                context.spend(50 * part.len() as u64)?;
                for (x, to) in part.iter_mut().enumerate() {
                    *to = b[(first + x) * depth + k];
                    finite &= to.finite();
                }
            }
        }
        Ok((weights, finite))
    }

    /// Image, row and column of the window number `index`.
    fn place(&self, index: usize) -> [usize; 3] {
        let [height, width] = self.output;
        [
            index / width / height,
            index / width % height,
            index % width,
        ]
    }

    fn by_group<F: Factor>(
        &self,
        a: &[F],
        weights: &[F],
        d: &mut [F::Result],
        context: &Context<'_>,
    ) -> Result<(), Failure> {
        let zero = F::zero(self.zeros[0]);
        let [c, o] = self.channels;
        let columns = o / self.groups;
        let depth = self.rows.kernel * self.columns.kernel * self.each;
        let mut multiplier =
            Multiplier::<F>::new(d.len() / o, columns, depth, F::zero(self.zeros[1]));
        for group in 0..self.groups {
            let left = |index: usize, depth: Range<usize>, to: &mut [F::Wide]| {
                let [image, y, x] = self.place(index);
                let mut channel = depth.start % self.each;
                let mut j = depth.start / self.each % self.columns.kernel;
                let mut i = depth.start / self.each / self.columns.kernel;
                let mut to = to;
                while !to.is_empty() {
                    let count = to.len().min(self.each - channel);
                    let (part, rest) = to.split_at_mut(count);
                    match (self.rows.element(y, i), self.columns.element(x, j)) {
                        (Some(y), Some(x)) => {
                            let pixel = (image * self.rows.input + y) * self.columns.input + x;
                            let first = pixel * c + group * self.each + channel;
                            for (to, from) in part.iter_mut().zip(&a[first..][..count]) {
                                *to = from.widen(zero);
                            }
                        }
                        // Padding adds nothing.
                        _ => part.fill(F::Wide::default()),
                    }
                    to = rest;
                    channel = 0;
                    j += 1;
                    if j == self.columns.kernel {
                        (i, j) = (i + 1, 0);
                    }
                }
            };
            let right = Matrix {
                elements: weights,
                offset: group * columns,
                row: o,
            };
            multiplier.multiply(left, &right, d, group * columns, o, context)?;
        }
        Ok(())
    }

    /// Window by window and channel by channel: also where the padding times a weight is not 0.
    fn direct<F: Factor>(
        &self,
        a: &[F],
        weights: &[F],
        d: &mut [F::Result],
        context: &Context<'_>,
    ) -> Result<(), Failure> {
        /// Channels of the output whose sums are kept at a time.
        const BLOCK: usize = 1024;

        let zeros = self.zeros.map(F::zero);
        let [c, o] = self.channels;
        let mut sums = [F::Sum::default(); BLOCK];
        // The first channel of the input that each of a block sees.
        let mut seen = [0; BLOCK];
        for (index, d) in d.chunks_exact_mut(o).enumerate() {
            let [image, y, x] = self.place(index);
            let (rows, top) = self.rows.at(y);
            let (columns, left) = self.columns.at(x);
            for (first, d) in (0..).step_by(BLOCK).zip(d.chunks_mut(BLOCK)) {
                let count = d.len();
                let (sums, seen) = (&mut sums[..count], &mut seen[..count]);
                sums.fill(F::Sum::default());
                if !self.depthwise() {
                    for (x, seen) in (first..).zip(seen.iter_mut()) {
                        *seen = x / (o / self.groups) * self.each;
                    }
                }
                context.spend(50 + 4 * count as u64)?;
                for (i, y) in rows.clone().zip((top..).step_by(self.rows.dilation)) {
                    context.spend(4)?;
                    for (j, x) in columns.clone().zip((left..).step_by(self.columns.dilation)) {
                        let pixel = (image * self.rows.input + y) * self.columns.input + x;
                        let a = &a[pixel * c..][..c];
                        let tap = (i * self.columns.kernel + j) * self.each;
                        for channel in 0..self.each {
                            let b = &weights[(tap + channel) * o + first..][..count];
                            if self.depthwise() {
                                context.spend(4 + count as u64 / 4)?;
                                let a = &a[first..][..count];
                                for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                                    let (a, b) = (a.widen(zeros[0]), b.widen(zeros[1]));
                                    *sum = F::add_product(*sum, a, b);
                                }
                            } else {
                                context.spend(4 + 2 * count as u64)?;
                                for ((sum, seen), b) in sums.iter_mut().zip(seen.iter()).zip(b) {
                                    let (a, b) =
                                        (a[seen + channel].widen(zeros[0]), b.widen(zeros[1]));
                                    *sum = F::add_product(*sum, a, b);
                                }
                            }
                        }
                    }
                }
                for (d, sum) in d.iter_mut().zip(sums) {
                    F::finish(d, *sum);
                }
            }
        }
        Ok(())
    }

    /// Whether every channel is a group of its own.
    fn depthwise(&self) -> bool {
        self.each == 1 && self.groups == self.channels[1]
    }
}
