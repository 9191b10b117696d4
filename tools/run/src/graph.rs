// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a model computes: tensors, and operations in the order in which the file has them.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};

/// Elements that a tensor may have; the NPU's limit.
pub const MOST_ELEMENTS: usize = 1 << 26;

/// Dimensions that a tensor may have.
pub const RANK: usize = 4;

/// A model.
#[derive(Debug)]
pub struct Graph {
    pub tensors: Vec<Tensor>,
    pub operations: Vec<Operation>,
    /// Number of the tensor that the input goes to.
    pub input: usize,
    pub outputs: Vec<usize>,
}

/// A tensor of a model. Real values are `scale * (q - zero_point)`.
#[derive(Debug, Clone, Default)]
pub struct Tensor {
    pub name: String,
    pub kind: Kind,
    pub shape: Vec<usize>,
    /// The elements, little-endian, if the file has them.
    pub data: Option<Vec<u8>>,
    /// None, one, or one for each channel.
    pub scales: Vec<f32>,
    /// Of all channels.
    pub zero_point: i32,
    /// The dimension that counts channels, where they have scales of their own.
    pub channels: usize,
}

/// Type of a tensor's elements, by its number in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(pub i8);

/// One step of a model.
#[derive(Debug)]
pub struct Operation {
    /// Numbers of tensors; an input may be left out.
    pub inputs: Vec<Option<usize>>,
    pub output: usize,
    pub op: Op,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op {
    Conv2d(Conv2d),
    /// Input channel `i` gives the output channels from `i * multiplier`.
    DepthwiseConv2d(Conv2d),
    FullyConnected(Activation),
    AveragePool2d(Pool2d),
    MaxPool2d(Pool2d),
    Reshape,
    Softmax {
        beta: f32,
    },
    Add(Activation),
    Pad,
}

/// Pairs are rows, columns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conv2d {
    pub padding: Padding,
    pub strides: [usize; 2],
    pub dilations: [usize; 2],
    pub activation: Activation,
}

/// Pairs are rows, columns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pool2d {
    pub padding: Padding,
    pub strides: [usize; 2],
    pub kernel: [usize; 2],
    pub activation: Activation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// As many positions as the input has, divided by the stride.
    Same,
    /// Only positions whose window is in the input.
    Valid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    None,
    Relu,
    ReluN1To1,
    Relu6,
}

impl Op {
    /// As the file format calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv2d(_) => "CONV_2D",
            Self::DepthwiseConv2d(_) => "DEPTHWISE_CONV_2D",
            Self::FullyConnected(_) => "FULLY_CONNECTED",
            Self::AveragePool2d(_) => "AVERAGE_POOL_2D",
            Self::MaxPool2d(_) => "MAX_POOL_2D",
            Self::Reshape => "RESHAPE",
            Self::Softmax { .. } => "SOFTMAX",
            Self::Add(_) => "ADD",
            Self::Pad => "PAD",
        }
    }
}

impl Default for Kind {
    fn default() -> Self {
        Self::I8
    }
}

impl Kind {
    pub const I32: Self = Self(2);
    pub const I8: Self = Self(9);

    /// Bytes of an element; none for types that no operation takes.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::I8 => Some(1),
            Self::I32 => Some(4),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        const NAMES: [&str; 10] = [
            "float32",
            "float16",
            "int32",
            "uint8",
            "int64",
            "string",
            "bool",
            "int16",
            "complex64",
            "int8",
        ];
        match usize::try_from(self.0).ok().and_then(|it| NAMES.get(it)) {
            Some(name) => f.write_str(name),
            None => write!(f, "type {}", self.0),
        }
    }
}

impl Tensor {
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The shape with dimensions of 1 before it.
    pub fn dims(&self) -> [usize; RANK] {
        let mut dims = [1; RANK];
        let before = RANK - self.shape.len();
        dims[before..].copy_from_slice(&self.shape);
        dims
    }

    /// The scale of a tensor that has one for all channels.
    pub fn scale(&self) -> Result<f32> {
        match self.scales[..] {
            [scale] => Ok(scale),
            _ => bail!("{self} has {} scales and not one", self.scales.len()),
        }
    }

    /// The scale of a channel.
    pub fn scale_of(&self, channel: usize) -> Result<f32> {
        match self.scales[..] {
            [scale] => Ok(scale),
            _ => (self.scales.get(channel).copied())
                .with_context(|| format!("{self} has no scale for channel {channel}")),
        }
    }

    /// The constant elements of an I32 tensor.
    pub fn i32s(&self) -> Result<Vec<i32>> {
        ensure!(
            self.kind == Kind::I32,
            "{self} is {} and not int32",
            self.kind
        );
        let words = self.constant()?.chunks_exact(4);
        Ok(words
            .map(|it| i32::from_le_bytes([it[0], it[1], it[2], it[3]]))
            .collect())
    }

    /// The bytes of a constant.
    pub fn constant(&self) -> Result<&[u8]> {
        (self.data.as_deref())
            .with_context(|| format!("{self} is neither a constant nor computed before"))
    }
}

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "the tensor '{}' {:?}", self.name, self.shape)
    }
}
