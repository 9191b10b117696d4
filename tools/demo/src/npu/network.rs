// SPDX-License-Identifier: MIT OR Apache-2.0
//! The network of `tools/digits`, whose README says what the files hold, as commands.

use std::collections::HashMap;

use libaccel::npu::{Arena, Command, Conv2d, Matmul, Pool, Pooling, Requantize, Tensor, Type};
use serde::Deserialize;

use crate::Problem;

/// What all of `network.json` says.
#[derive(Debug, Deserialize)]
pub struct Network {
    /// The tensor that has an image.
    pub input: String,
    /// The tensor that is compared with the reference.
    pub logits: String,
    /// The tensor with the answer.
    pub output: String,
    constants: Vec<Constant>,
    tensors: Vec<Entry>,
    commands: Vec<Operation>,
}

/// Elements that are in `weights.bin`.
#[derive(Debug, Deserialize)]
struct Constant {
    name: String,
    #[serde(rename = "type")]
    element: Element,
    dims: [u32; 4],
    /// Bytes from the beginning of the file.
    offset: u64,
}

/// What commands write, or a view of it or of a constant.
#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    #[serde(rename = "type")]
    element: Element,
    /// One that is 0 stands for the number of images.
    dims: [u32; 4],
    of: Option<String>,
    strides: Option<[u32; 4]>,
}

#[derive(Debug, Deserialize, Clone, Copy)]
enum Element {
    I8,
    I32,
}

impl From<Element> for Type {
    fn from(element: Element) -> Self {
        match element {
            Element::I8 => Self::I8,
            Element::I32 => Self::I32,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Operation {
    d: String,
    a: String,
    b: Option<String>,
    c: Option<String>,
    #[serde(flatten)]
    kind: Kind,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "opcode", content = "parameters", rename_all = "UPPERCASE")]
enum Kind {
    Conv2d {
        zero_point_a: i8,
        zero_point_b: i8,
        strides: [u32; 2],
        dilations: [u32; 2],
        padding: [u32; 2],
        groups: u32,
    },
    Requantize {
        zero_point: i8,
        low: i8,
        high: i8,
    },
    Pool {
        kind: PoolKind,
        kernel: [u32; 2],
        strides: [u32; 2],
        padding: [u32; 2],
    },
    Matmul {
        zero_point_a: i8,
        zero_point_b: i8,
        accumulate: bool,
    },
    Copy {},
    Argmax {},
}

#[derive(Debug, Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum PoolKind {
    Maximum,
    Mean,
}

/// Where tensors are, by name.
pub type Places<'a> = HashMap<&'a str, Tensor>;

impl Network {
    /// Reads the text of `network.json`.
    pub fn new(text: &str) -> Result<Self, Problem> {
        serde_json::from_str(text).map_err(|e| Problem::Wrong(format!("network.json: {e}")))
    }

    /// Bytes that the tensors of one image take of an arena, but for those that
    /// the program places itself.
    pub fn scratch(&self) -> u64 {
        self.own()
            .map(|entry| Arena::bytes(entry.element.into(), &one_image(entry.dims)))
            .sum()
    }

    /// Places the constants, whose file is at `weights`, and what commands write on the way.
    pub fn place(&self, weights: u64, scratch: &mut Arena) -> Result<Places<'_>, Problem> {
        let mut places = Places::new();
        for constant in &self.constants {
            let address = weights + constant.offset;
            let tensor = Tensor::contiguous(address, constant.element.into(), &constant.dims)?;
            places.insert(&constant.name, tensor);
        }
        for entry in self.own() {
            let tensor = scratch.tensor(entry.element.into(), &one_image(entry.dims))?;
            places.insert(&entry.name, tensor);
        }
        Ok(places)
    }

    /// The tensor of this name for `count` images: its type and dims, and which dimension
    /// counts images.
    pub fn shape(&self, name: &str, count: u32) -> Result<(Type, [u32; 4], usize), Problem> {
        let entry = self.tensors.iter().find(|entry| entry.name == name);
        let entry = entry.ok_or_else(|| missing(name))?;
        let images = entry.dims.iter().position(|dim| *dim == 0);
        let images = images.ok_or_else(|| {
            Problem::Wrong(format!("network.json: {name} has no dimension of images"))
        })?;
        let mut dims = entry.dims;
        dims[images] = count;
        Ok((entry.element.into(), dims, images))
    }

    /// The commands for one image, whose three own tensors are in `places`, too.
    pub fn commands<'a>(&'a self, mut places: Places<'a>) -> Result<Vec<Command>, Problem> {
        for entry in &self.tensors {
            let Some(of) = &entry.of else { continue };
            let base = places.get(of.as_str()).ok_or_else(|| missing(of))?;
            let dims = one_image(entry.dims);
            let view = match entry.strides {
                Some(strides) => {
                    Tensor::strided(base.address(), entry.element.into(), dims, strides)?
                }
                None => base.reshape(&dims)?,
            };
            places.insert(&entry.name, view);
        }
        self.commands
            .iter()
            .map(|operation| operation.command(&places))
            .collect()
    }

    /// Tensors with memory of their own that the program does not place.
    fn own(&self) -> impl Iterator<Item = &Entry> {
        let outside = [&self.input, &self.logits, &self.output];
        self.tensors
            .iter()
            .filter(move |entry| entry.of.is_none() && !outside.contains(&&entry.name))
    }
}

impl Operation {
    fn command(&self, places: &Places<'_>) -> Result<Command, Problem> {
        let get = |name: &str| places.get(name).copied().ok_or_else(|| missing(name));
        let (d, a) = (get(&self.d)?, get(&self.a)?);
        let b = self.b.as_deref().map(get).transpose()?;
        let c = self.c.as_deref().map(get).transpose()?;
        let wanted = |operand: Option<Tensor>, which| {
            operand.ok_or_else(|| Problem::Wrong(format!("network.json: no operand {which}")))
        };
        let command = match self.kind {
            Kind::Conv2d {
                zero_point_a,
                zero_point_b,
                strides,
                dilations,
                padding,
                groups,
            } => {
                let how = Conv2d {
                    zero_a: zero_point_a,
                    zero_b: zero_point_b,
                    strides,
                    dilations,
                    padding,
                    groups,
                    accumulate: false,
                };
                Command::conv2d(d, a, wanted(b, "b")?, how)
            }
            Kind::Requantize {
                zero_point,
                low,
                high,
            } => {
                let how = Requantize {
                    zero: zero_point,
                    min: low,
                    max: high,
                };
                Command::requantize(d, a, b, wanted(c, "c")?, how)
            }
            Kind::Pool {
                kind,
                kernel,
                strides,
                padding,
            } => {
                let how = Pool {
                    pooling: match kind {
                        PoolKind::Maximum => Pooling::Max,
                        PoolKind::Mean => Pooling::Mean,
                    },
                    kernel,
                    strides,
                    padding,
                };
                Command::pool(d, a, how)
            }
            Kind::Matmul {
                zero_point_a,
                zero_point_b,
                accumulate,
            } => {
                let how = Matmul {
                    zero_a: zero_point_a,
                    zero_b: zero_point_b,
                    accumulate,
                };
                Command::matmul(d, a, wanted(b, "b")?, how)
            }
            Kind::Copy {} => Command::copy(d, a),
            Kind::Argmax {} => Command::argmax(d, a),
        };
        Ok(command?)
    }
}

fn one_image(dims: [u32; 4]) -> [u32; 4] {
    dims.map(|dim| dim.max(1))
}

fn missing(name: &str) -> Problem {
    Problem::Wrong(format!("network.json: there is no tensor {name}"))
}
