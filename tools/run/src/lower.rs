// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a [`Graph`] to commands of the NPU.
//!
//! Every tensor gets memory of its own, so that all of them can be looked at afterwards; the
//! 32-bit sums of products share a part. Where the file's layout is not that of a command, strides
//! make up for it: nothing is copied or turned round.

mod layout;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result, bail, ensure};
use libaccel::npu::{
    self, AddScaled, Command, Matmul, Pool, Pooling, Requantize, Scale, Type, Value,
};

use crate::graph::{Activation, Conv2d, Graph, Kind, Op, Operation, Padding, Pool2d, RANK, Tensor};
pub use layout::{Layout, Span};

/// A model, ready to be executed in some memory.
#[derive(Debug)]
pub struct Plan {
    pub layout: Layout,
    /// In the order of the graph's operations.
    pub layers: Vec<Layer>,
}

/// What an operation became.
#[derive(Debug, Default)]
pub struct Layer {
    /// None for a reshape.
    pub commands: Vec<Command>,
    /// Multiplications, with those of padding.
    pub products: u64,
}

/// Lowers a model to commands for memory that begins at the device address `base`, a multiple of
/// [`layout::ALIGN`].
///
/// # Errors
///
/// What cannot be lowered, with the number of the operator.
pub fn plan(graph: &Graph, base: u64) -> Result<Plan> {
    let mut lowering = Lowering {
        graph,
        layout: Layout::new(base, graph.tensors.len()),
    };
    lowering.take(graph.input)?;
    let mut layers = Vec::new();
    for (number, operation) in graph.operations.iter().enumerate() {
        let layer = lowering
            .operation(operation)
            .with_context(|| format!("operator {number} ({})", operation.op.name()))?;
        layers.push(layer);
    }
    Ok(Plan {
        layout: lowering.layout,
        layers,
    })
}

/// What the operators that end in a requantisation have in common.
struct Parts<'a> {
    input: &'a Tensor,
    weights: &'a Tensor,
    output: &'a Tensor,
    a: npu::Tensor,
    b: npu::Tensor,
    bias: Option<npu::Tensor>,
}

struct Lowering<'a> {
    graph: &'a Graph,
    layout: Layout,
}

impl<'a> Lowering<'a> {
    fn operation(&mut self, operation: &Operation) -> Result<Layer> {
        match operation.op {
            Op::Conv2d(how) => self.conv2d(operation, how, false),
            Op::DepthwiseConv2d(how) => self.conv2d(operation, how, true),
            Op::FullyConnected(activation) => self.fully_connected(operation, activation),
            Op::AveragePool2d(how) => self.pool2d(operation, how, Pooling::Mean),
            Op::MaxPool2d(how) => self.pool2d(operation, how, Pooling::Max),
            Op::Reshape => self.reshape(operation),
            Op::Softmax { beta } => self.softmax(operation, beta),
            Op::Add(activation) => self.add(operation, activation),
            Op::Pad => self.pad(operation),
        }
    }

    fn conv2d(&mut self, operation: &Operation, how: Conv2d, depthwise: bool) -> Result<Layer> {
        let Parts {
            input,
            weights,
            output,
            a,
            b,
            bias,
        } = self.parts(operation)?;
        // The file has the kernels of a depthwise convolution as [1, rows, columns, channels].
        let b = if depthwise {
            ensure!(b.dims()[0] == 1, "{weights} does not begin with 1");
            scales_along(weights, RANK - 1)?;
            b.permute([3, 1, 2, 0])?
        } else {
            scales_along(weights, 0)?;
            b
        };
        let [channels, rows, columns, depth] = b.dims();
        ensure!(
            depth != 0 && a.dims()[3] % depth == 0,
            "{weights} does not fit {input}"
        );
        let mut padding = [0; 2];
        for (axis, window) in [rows, columns].into_iter().enumerate() {
            padding[axis] = missing(
                how.padding,
                [input.dims()[1 + axis], output.dims()[1 + axis]],
                (window as usize - 1) * how.dilations[axis] + 1,
                how.strides[axis],
            )
            .with_context(|| format!("{input} does not give {output}"))?;
        }
        let d = self.result(operation)?;
        let sums = self.layout.sums(d.dims())?;
        let convolution = Command::conv2d(
            sums,
            a,
            b,
            npu::Conv2d {
                zero_a: zero_point(input)?,
                zero_b: zero_point(weights)?,
                strides: pair(how.strides)?,
                dilations: pair(how.dilations)?,
                padding,
                groups: a.dims()[3] / depth,
                accumulate: false,
            },
        )?;
        let scales = self.scales(input, weights, output, channels)?;
        let how = limits(output, how.activation)?;
        Ok(Layer {
            commands: vec![
                convolution,
                Command::requantize(d, sums, bias, scales, how)?,
            ],
            products: sums.elements() * u64::from(rows * columns * depth),
        })
    }

    fn fully_connected(&mut self, operation: &Operation, activation: Activation) -> Result<Layer> {
        let Parts {
            input,
            weights,
            output,
            a,
            b,
            bias,
        } = self.parts(operation)?;
        scales_along(weights, 0)?;
        let [_, _, channels, depth] = b.dims();
        let rows = u32::try_from(input.elements())? / depth;
        let shape = [rows, channels];
        let d = self.result(operation)?.reshape(&shape)?;
        let sums = self.layout.sums(d.dims())?;
        let product = Command::matmul(
            sums,
            a.reshape(&[rows, depth])?,
            b.transpose(2, 3)?,
            Matmul {
                zero_a: zero_point(input)?,
                zero_b: zero_point(weights)?,
                accumulate: false,
            },
        )?;
        let scales = self.scales(input, weights, output, channels)?;
        let how = limits(output, activation)?;
        Ok(Layer {
            commands: vec![product, Command::requantize(d, sums, bias, scales, how)?],
            products: sums.elements() * u64::from(depth),
        })
    }

    fn pool2d(&mut self, operation: &Operation, how: Pool2d, pooling: Pooling) -> Result<Layer> {
        let (number, input) = self.input(operation, 0)?;
        let output = self.output(operation)?;
        same_scale(input, output)?;
        let mut padding = [0; 2];
        for (axis, before) in padding.iter_mut().enumerate() {
            *before = missing(
                how.padding,
                [input.dims()[1 + axis], output.dims()[1 + axis]],
                how.kernel[axis],
                how.strides[axis],
            )
            .with_context(|| format!("{input} does not give {output}"))?;
        }
        let (a, d) = (self.operand(number)?, self.result(operation)?);
        let pool = Pool {
            pooling,
            kernel: pair(how.kernel)?,
            strides: pair(how.strides)?,
            padding,
        };
        let mut commands = vec![Command::pool(d, a, pool)?];
        let to = limits(output, how.activation)?;
        if (to.min, to.max) != (i8::MIN, i8::MAX) {
            // An ADD of 1 d and 0 d, for its limits.
            commands.push(Command::add_scaled(
                d,
                d,
                d,
                AddScaled {
                    zero_a: to.zero,
                    zero_b: to.zero,
                    multiplier_a: 1,
                    multiplier_b: 0,
                    shift: 0,
                    to,
                },
            )?);
        }
        Ok(Layer {
            commands,
            products: 0,
        })
    }

    /// The output is the input, by another name.
    fn reshape(&mut self, operation: &Operation) -> Result<Layer> {
        let (number, input) = self.input(operation, 0)?;
        let output = self.output(operation)?;
        ensure!(
            input.elements() == output.elements(),
            "{input} does not give {output}"
        );
        self.place(number)?;
        self.unused(operation.output)?;
        self.layout.alias(operation.output, number);
        Ok(Layer::default())
    }

    fn softmax(&mut self, operation: &Operation, beta: f32) -> Result<Layer> {
        let (number, input) = self.input(operation, 0)?;
        let output = self.output(operation)?;
        ensure!(
            (output.scale()?, output.zero_point) == (1.0 / 256.0, -128),
            "{output} has not the scale 1/256 and the zero point -128"
        );
        let (a, d) = (self.operand(number)?, self.result(operation)?);
        Ok(Layer {
            commands: vec![Command::softmax(d, a, beta * input.scale()?)?],
            products: 0,
        })
    }

    fn add(&mut self, operation: &Operation, activation: Activation) -> Result<Layer> {
        let output = self.output(operation)?;
        let mut tensors = Vec::new();
        for position in 0..2 {
            let (number, tensor) = self.input(operation, position)?;
            tensors.push((self.operand(number)?, tensor));
        }
        let d = self.result(operation)?;
        let mut inputs = Vec::new();
        for (mut operand, tensor) in tensors {
            for dim in 0..RANK {
                if operand.dims()[dim] == 1 && d.dims()[dim] != 1 {
                    operand = operand.broadcast(dim, d.dims()[dim])?;
                }
            }
            let factor = f64::from(tensor.scale()?) / f64::from(output.scale()?);
            inputs.push((operand, zero_point(tensor)?, factor));
        }
        let [(a, zero_a, factor_a), (b, zero_b, factor_b)] = inputs[..] else {
            bail!("two inputs are needed");
        };
        // One shift for both, by the larger factor.
        let larger = Scale::nearest(factor_a.max(factor_b))?;
        let multiplier = |factor: f64| (factor * 2_f64.powi(larger.shift() as i32)).round() as u32;
        let how = AddScaled {
            zero_a,
            zero_b,
            multiplier_a: multiplier(factor_a),
            multiplier_b: multiplier(factor_b),
            shift: larger.shift(),
            to: limits(output, activation)?,
        };
        Ok(Layer {
            commands: vec![Command::add_scaled(d, a, b, how)?],
            products: 0,
        })
    }

    fn pad(&mut self, operation: &Operation) -> Result<Layer> {
        let (number, input) = self.input(operation, 0)?;
        let output = self.output(operation)?;
        same_scale(input, output)?;
        let (_, amounts) = self.any_input(operation, 1)?;
        let amounts = amounts.i32s()?;
        ensure!(
            amounts.len() == 2 * input.shape.len() && input.shape.len() == output.shape.len(),
            "{} amounts of padding for {input}",
            amounts.len()
        );
        let (a, d) = (self.operand(number)?, self.result(operation)?);
        let mut inside = d;
        for (axis, amount) in amounts.chunks_exact(2).enumerate() {
            let dim = RANK - input.shape.len() + axis;
            let start = u32::try_from(amount[0]).context("a negative padding")?;
            let after = u32::try_from(amount[1]).context("a negative padding")?;
            let end = start.checked_add(a.dims()[dim]);
            ensure!(
                end.and_then(|end| end.checked_add(after)) == Some(d.dims()[dim]),
                "{input} with {amount:?} does not give {output}"
            );
            inside = inside.slice(dim, start..start + a.dims()[dim])?;
        }
        Ok(Layer {
            commands: vec![
                Command::fill(d, Value::I8(zero_point(output)?))?,
                Command::copy(inside, a)?,
            ],
            products: 0,
        })
    }

    fn parts(&mut self, operation: &Operation) -> Result<Parts<'a>> {
        let (a, input) = self.input(operation, 0)?;
        let (b, weights) = self.input(operation, 1)?;
        weights.constant()?;
        let output = self.output(operation)?;
        let bias = match operation.inputs.get(2) {
            Some(Some(_)) => {
                let (number, bias) = self.any_input(operation, 2)?;
                bias.i32s()?;
                let channels = output.dims()[RANK - 1];
                ensure!(
                    bias.elements() == channels,
                    "{bias} for {channels} channels"
                );
                let operand = self.operand(number)?;
                Some(operand.reshape(&[u32::try_from(channels)?])?)
            }
            _ => None,
        };
        Ok(Parts {
            input,
            weights,
            output,
            a: self.operand(a)?,
            b: self.operand(b)?,
            bias,
        })
    }

    /// The I8 tensor that is this input, and its number.
    fn input(&self, operation: &Operation, position: usize) -> Result<(usize, &'a Tensor)> {
        let (number, tensor) = self.any_input(operation, position)?;
        int8(tensor)?;
        Ok((number, tensor))
    }

    fn any_input(&self, operation: &Operation, position: usize) -> Result<(usize, &'a Tensor)> {
        let number = (operation.inputs.get(position).copied().flatten())
            .with_context(|| format!("it has no input {position}"))?;
        Ok((number, self.tensor(number)?))
    }

    fn output(&self, operation: &Operation) -> Result<&'a Tensor> {
        let output = self.tensor(operation.output)?;
        int8(output)?;
        Ok(output)
    }

    fn tensor(&self, number: usize) -> Result<&'a Tensor> {
        (self.graph.tensors.get(number)).with_context(|| format!("there is no tensor {number}"))
    }

    /// The output as an operand. It is what this operation gives, and so nothing yet.
    fn result(&mut self, operation: &Operation) -> Result<npu::Tensor> {
        self.take(operation.output)?;
        self.operand(operation.output)
    }

    /// Memory for a tensor that is to be written.
    fn take(&mut self, number: usize) -> Result<()> {
        let tensor = self.tensor(number)?;
        int8(tensor)?;
        self.unused(number)?;
        self.layout.place(number, tensor.elements(), None)?;
        Ok(())
    }

    fn unused(&self, number: usize) -> Result<()> {
        let tensor = self.tensor(number)?;
        ensure!(
            tensor.data.is_none() && self.layout.find(number).is_none(),
            "{tensor} is a constant, or is written twice"
        );
        Ok(())
    }

    /// Where a tensor is that has been written; constants come into memory here.
    fn place(&mut self, number: usize) -> Result<Span> {
        let tensor = self.tensor(number)?;
        match self.layout.find(number) {
            Some(span) => Ok(span),
            None => {
                let data = tensor.constant()?;
                self.layout.place(number, data.len(), Some(data))
            }
        }
    }

    /// An input as an operand.
    fn operand(&mut self, number: usize) -> Result<npu::Tensor> {
        let span = self.place(number)?;
        let tensor = self.tensor(number)?;
        let element = match tensor.kind {
            Kind::I32 => Type::I32,
            _ => Type::I8,
        };
        self.layout.operand(span, element, tensor.dims())
    }

    /// Multiplier and shift of each channel, in memory: what a sum of products of integers is
    /// worth, in units of the output.
    fn scales(
        &mut self,
        input: &Tensor,
        weights: &Tensor,
        output: &Tensor,
        channels: u32,
    ) -> Result<npu::Tensor> {
        let unit = f64::from(input.scale()?) / f64::from(output.scale()?);
        let mut scales = Vec::new();
        for channel in 0..channels as usize {
            let factor = unit * f64::from(weights.scale_of(channel)?);
            scales.push(Scale::nearest(factor)?);
        }
        let bytes: Vec<u8> = (Scale::table(&scales).iter())
            .flat_map(|it| it.to_le_bytes())
            .collect();
        let span = self.layout.constant(&bytes)?;
        self.layout
            .operand(span, Type::I32, [1, 1, 2, channels as usize])
    }
}

fn int8(tensor: &Tensor) -> Result<()> {
    ensure!(
        tensor.kind == Kind::I8,
        "{tensor} is {}; models of int8 are supported",
        tensor.kind
    );
    Ok(())
}

fn zero_point(tensor: &Tensor) -> Result<i8> {
    i8::try_from(tensor.zero_point).with_context(|| format!("the zero point of {tensor}"))
}

/// Weights that have a scale for each channel must have them along this dimension.
fn scales_along(weights: &Tensor, dimension: usize) -> Result<()> {
    ensure!(
        weights.scales.len() == 1 || weights.channels == dimension,
        "{weights} has scales along dimension {} and not {dimension}",
        weights.channels
    );
    Ok(())
}

fn same_scale(input: &Tensor, output: &Tensor) -> Result<()> {
    ensure!(
        input.scale()? == output.scale()? && input.zero_point == output.zero_point,
        "{input} and {output} have different scales"
    );
    Ok(())
}

/// Zero point of an output and the limits that its activation function puts.
fn limits(output: &Tensor, activation: Activation) -> Result<Requantize> {
    let scale = output.scale()?;
    let zero = zero_point(output)?;
    let quantised = |real: f32| {
        let value = (real / scale).round() + f32::from(zero);
        // Saturates.
        value as i8
    };
    let (min, max) = match activation {
        Activation::None => (i8::MIN, i8::MAX),
        Activation::Relu => (zero, i8::MAX),
        Activation::ReluN1To1 => (quantised(-1.0), quantised(1.0)),
        Activation::Relu6 => (zero, quantised(6.0)),
    };
    Ok(Requantize { zero, min, max })
}

/// Padding before the first of `to` windows over `from` elements; none if there is no such number
/// of them.
fn missing(padding: Padding, [from, to]: [usize; 2], window: usize, stride: usize) -> Option<u32> {
    match padding {
        Padding::Same => {
            let needed = (to.checked_sub(1)? * stride + window).saturating_sub(from);
            (to == from.div_ceil(stride)).then_some(needed as u32 / 2)
        }
        Padding::Valid => (to == (from.checked_sub(window)? / stride) + 1).then_some(0),
    }
}

fn pair(pair: [usize; 2]) -> Result<[u32; 2]> {
    Ok([u32::try_from(pair[0])?, u32::try_from(pair[1])?])
}
