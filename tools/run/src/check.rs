// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same operations once more on the CPU, in TensorFlow Lite's arithmetic: products are scaled
//! in two steps that both round. The NPU rounds once, so a result may differ by 1 in its last
//! place ([`tolerance`]). Nothing here is shared with the lowering but the [`Graph`].

mod fixed_point;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result};

use crate::graph::{Activation, Conv2d, Graph, Op, Operation, Padding, Pool2d, Tensor};
use fixed_point::Factor;

/// How far the NPU may be from [`output`], in units of the last place, given the same input.
pub fn tolerance(op: &Op) -> u8 {
    match op {
        // Only move elements, choose among them, or divide integers.
        Op::Reshape | Op::Pad | Op::MaxPool2d(_) | Op::AveragePool2d(_) => 0,
        Op::Conv2d(_) | Op::DepthwiseConv2d(_) | Op::FullyConnected(_) => 1,
        Op::Add(_) | Op::Softmax { .. } => 1,
    }
}

/// What an operation gives, from the elements of the tensors before it. The graph is one that
/// could be lowered: shapes go together.
///
/// # Errors
///
/// An input was not computed.
pub fn output(
    graph: &Graph,
    operation: &Operation,
    computed: &[Option<Vec<i8>>],
) -> Result<Vec<i8>> {
    let at = At {
        graph,
        operation,
        computed,
    };
    match operation.op {
        Op::Conv2d(how) => at.convolution(how, false),
        Op::DepthwiseConv2d(how) => at.convolution(how, true),
        Op::FullyConnected(activation) => at.fully_connected(activation),
        Op::AveragePool2d(how) => at.pool(how, mean),
        Op::MaxPool2d(how) => at.pool(how, |window| {
            window.iter().copied().max().unwrap_or_default()
        }),
        Op::Reshape => at.elements(0),
        Op::Softmax { beta } => at.softmax(beta),
        Op::Add(activation) => at.add(activation),
        Op::Pad => at.pad(),
    }
}

/// The greatest difference between two outputs, and how many elements differ.
pub fn difference(one: &[i8], other: &[i8]) -> (u8, usize) {
    let mut greatest = 0;
    let mut count = 0;
    for (a, b) in one.iter().zip(other) {
        greatest = greatest.max(a.abs_diff(*b));
        count += usize::from(a != b);
    }
    (greatest, count)
}

struct At<'a> {
    graph: &'a Graph,
    operation: &'a Operation,
    computed: &'a [Option<Vec<i8>>],
}

impl At<'_> {
    fn convolution(&self, how: Conv2d, depthwise: bool) -> Result<Vec<i8>> {
        let (kernels, to) = (self.tensor(1)?, self.to());
        let (pixels, weights, bias) = (self.elements(0)?, self.elements(1)?, self.bias()?);
        let [_, kh, kw, last] = kernels.dims();
        let [.., depth] = self.tensor(0)?.dims();
        let [.., channels] = to.dims();
        let factors = self.factors(channels)?;
        let mut out = Vec::new();
        for window in self.windows([kh, kw], how.strides, how.dilations, how.padding)? {
            for (channel, factor) in factors.iter().enumerate() {
                let mut sum = bias.as_ref().map_or(0, |bias| bias[channel]);
                for &(place, pixel) in &window {
                    let pixel = &pixels[pixel * depth..][..depth];
                    if depthwise {
                        let source = pixel[channel / (channels / depth)];
                        let weight = weights[place * channels + channel];
                        sum = sum.wrapping_add(self.product(source, weight));
                        continue;
                    }
                    let group = channel / (channels / (depth / last));
                    let kernel = &weights[(channel * kh * kw + place) * last..];
                    for (&source, &weight) in pixel[group * last..][..last].iter().zip(kernel) {
                        sum = sum.wrapping_add(self.product(source, weight));
                    }
                }
                out.push(finish(to, factor.of(sum), how.activation)?);
            }
        }
        Ok(out)
    }

    fn fully_connected(&self, activation: Activation) -> Result<Vec<i8>> {
        let to = self.to();
        let (inputs, weights, bias) = (self.elements(0)?, self.elements(1)?, self.bias()?);
        let [.., channels, depth] = self.tensor(1)?.dims();
        let factors = self.factors(channels)?;
        let mut out = Vec::new();
        for row in inputs.chunks(depth) {
            for (channel, kernel) in weights.chunks(depth).enumerate() {
                let products = row.iter().zip(kernel).map(|(&a, &b)| self.product(a, b));
                let bias = bias.as_ref().map_or(0, |bias| bias[channel]);
                let sum = products.fold(bias, i32::wrapping_add);
                out.push(finish(to, factors[channel].of(sum), activation)?);
            }
        }
        Ok(out)
    }

    fn pool(&self, how: Pool2d, of: impl Fn(&[i8]) -> i8) -> Result<Vec<i8>> {
        let (to, pixels) = (self.to(), self.elements(0)?);
        let [.., depth] = to.dims();
        let (low, high) = bounds(to, how.activation)?;
        let mut out = Vec::new();
        for window in self.windows(how.kernel, how.strides, [1, 1], how.padding)? {
            for channel in 0..depth {
                let values: Vec<i8> = (window.iter())
                    .map(|&(_, pixel)| pixels[pixel * depth + channel])
                    .collect();
                out.push(i8::try_from(i32::from(of(&values)).clamp(low, high))?);
            }
        }
        Ok(out)
    }

    /// For each position of the output, in order, the pixels that its window has, with their
    /// places in the kernel: rows first, both counted from 0.
    fn windows(
        &self,
        kernel: [usize; 2],
        strides: [usize; 2],
        dilations: [usize; 2],
        padding: Padding,
    ) -> Result<Vec<Vec<(usize, usize)>>> {
        let [images, height, width, _] = self.tensor(0)?.dims();
        let [_, rows, columns, _] = self.to().dims();
        let (from, to) = ([height, width], [rows, columns]);
        let margins = [0, 1].map(|axis| {
            let reach = (to[axis] - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1;
            match padding {
                // Half of what is missing is before the first, the rest behind the last.
                Padding::Same => reach.saturating_sub(from[axis]) / 2,
                Padding::Valid => 0,
            }
        });
        let source = |axis: usize, position: usize, tap: usize| {
            let place = position * strides[axis] + tap * dilations[axis];
            (place.checked_sub(margins[axis])).filter(|&place| place < from[axis])
        };
        let mut windows = Vec::new();
        for position in 0..images * rows * columns {
            let (image, y, x) = (
                position / columns / rows,
                position / columns % rows,
                position % columns,
            );
            let taps = (0..kernel[0] * kernel[1]).filter_map(|tap| {
                let row = source(0, y, tap / kernel[1])?;
                let column = source(1, x, tap % kernel[1])?;
                Some((tap, (image * height + row) * width + column))
            });
            windows.push(taps.collect());
        }
        Ok(windows)
    }

    /// In f64, and so more exact than either of the others.
    fn softmax(&self, beta: f32) -> Result<Vec<i8>> {
        let from = self.tensor(0)?;
        let unit = f64::from(beta) * f64::from(from.scale()?);
        let row_size = from.shape.last().copied().unwrap_or(1);
        let mut out = Vec::new();
        for row in self.elements(0)?.chunks(row_size) {
            let most = row.iter().copied().max().unwrap_or_default();
            let powers: Vec<f64> = (row.iter())
                .map(|&it| (unit * (f64::from(it) - f64::from(most))).exp())
                .collect();
            let sum: f64 = powers.iter().sum();
            // Saturates.
            out.extend(
                powers
                    .iter()
                    .map(|it| ((256.0 * it / sum).round() - 128.0) as i8),
            );
        }
        Ok(out)
    }

    /// Both inputs are brought to a common scale, with 20 bits behind the point.
    fn add(&self, activation: Activation) -> Result<Vec<i8>> {
        const SHIFT: i32 = 20;
        let to = self.to();
        let scales = [self.tensor(0)?.scale()?, self.tensor(1)?.scale()?].map(f64::from);
        let unit = 2.0 * scales[0].max(scales[1]);
        let factors = scales.map(|scale| Factor::new(scale / unit));
        let last = Factor::new(unit / (2_f64.powi(SHIFT) * f64::from(to.scale()?)));
        let inputs = [self.elements(0)?, self.elements(1)?];
        let mut out = Vec::new();
        for element in 0..to.elements() {
            let mut sum = 0;
            for (position, factor) in factors.iter().enumerate() {
                let from = self.tensor(position)?;
                let value = inputs[position][spread(element, to, from)];
                sum += factor.of((i32::from(value) - from.zero_point) << SHIFT);
            }
            out.push(finish(to, last.of(sum), activation)?);
        }
        Ok(out)
    }

    fn pad(&self) -> Result<Vec<i8>> {
        let (from, to) = (self.tensor(0)?, self.to());
        let amounts = self.tensor(1)?.i32s()?;
        let mut out = vec![i8::try_from(to.zero_point)?; to.elements()];
        for (element, value) in self.elements(0)?.into_iter().enumerate() {
            // The index of the element, from the last dimension to the first.
            let (mut rest, mut place, mut stride) = (element, 0, 1);
            for dim in (0..from.shape.len()).rev() {
                let before = usize::try_from(amounts[2 * dim])?;
                place += (rest % from.shape[dim] + before) * stride;
                rest /= from.shape[dim];
                stride *= to.shape[dim];
            }
            out[place] = value;
        }
        Ok(out)
    }

    fn number(&self, position: usize) -> Result<usize> {
        (self.operation.inputs.get(position).copied().flatten())
            .with_context(|| format!("no input {position}"))
    }

    fn tensor(&self, position: usize) -> Result<&Tensor> {
        Ok(&self.graph.tensors[self.number(position)?])
    }

    fn to(&self) -> &Tensor {
        &self.graph.tensors[self.operation.output]
    }

    /// The elements of an input: constant, or computed.
    fn elements(&self, position: usize) -> Result<Vec<i8>> {
        let number = self.number(position)?;
        match (&self.graph.tensors[number].data, &self.computed[number]) {
            (Some(bytes), _) => Ok(bytes.iter().map(|&byte| byte as i8).collect()),
            (None, Some(computed)) => Ok(computed.clone()),
            (None, None) => anyhow::bail!("tensor {number} was not computed"),
        }
    }

    fn bias(&self) -> Result<Option<Vec<i32>>> {
        match self.operation.inputs.get(2) {
            Some(Some(number)) => Ok(Some(self.graph.tensors[*number].i32s()?)),
            _ => Ok(None),
        }
    }

    fn product(&self, pixel: i8, weight: i8) -> i32 {
        let zero = |position| self.tensor(position).map_or(0, |it| it.zero_point);
        (i32::from(pixel) - zero(0)) * (i32::from(weight) - zero(1))
    }

    /// What the sums of each channel are multiplied by.
    fn factors(&self, channels: usize) -> Result<Vec<Factor>> {
        let (from, weights, to) = (self.tensor(0)?, self.tensor(1)?, self.to());
        let mut factors = Vec::new();
        for channel in 0..channels {
            let product = f64::from(from.scale()?) * f64::from(weights.scale_of(channel)?);
            factors.push(Factor::new(product / f64::from(to.scale()?)));
        }
        Ok(factors)
    }
}

/// The mean, rounded to nearest, ties away from 0.
fn mean(window: &[i8]) -> i8 {
    let sum: i32 = window.iter().map(|&it| i32::from(it)).sum();
    let count = window.len().max(1) as i32;
    let half = if sum > 0 { count / 2 } else { -(count / 2) };
    // A mean of I8 is one.
    ((sum + half) / count) as i8
}

/// The element of `from` that goes to this element of `to`, where dimensions of 1 are repeated.
fn spread(element: usize, to: &Tensor, from: &Tensor) -> usize {
    let (mut rest, mut place, mut stride) = (element, 0, 1);
    for (to, from) in to.dims().into_iter().zip(from.dims()).rev() {
        if from != 1 {
            place += rest % to * stride;
        }
        rest /= to;
        stride *= from;
    }
    place
}

/// Adds the zero point and limits.
fn finish(to: &Tensor, value: i32, activation: Activation) -> Result<i8> {
    let (low, high) = bounds(to, activation)?;
    Ok(i8::try_from(
        value.saturating_add(to.zero_point).clamp(low, high),
    )?)
}

/// Least and greatest element of an output.
fn bounds(to: &Tensor, activation: Activation) -> Result<(i32, i32)> {
    let scale = to.scale()?;
    let at = |real: f32| to.zero_point + (real / scale).round() as i32;
    let (low, high) = match activation {
        Activation::None => (i32::MIN, i32::MAX),
        Activation::Relu => (at(0.0), i32::MAX),
        Activation::ReluN1To1 => (at(-1.0), at(1.0)),
        Activation::Relu6 => (at(0.0), at(6.0)),
    };
    Ok((low.max(-128), high.min(127)))
}
