// SPDX-License-Identifier: MIT OR Apache-2.0
//! Models and samples that the program has built in. The models are files of the package
//! `microflow`, unmodified (MIT OR Apache-2.0, Matteo Carnelos); build.rs finds and checks them.

use crate::graph::Tensor;

/// A model that was built in.
#[derive(Debug)]
pub struct Model {
    pub name: &'static str,
    pub about: &'static str,
    pub file: &'static [u8],
    /// Of the elements of the output.
    pub labels: &'static [&'static str],
}

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!(env!("ACCEL_RUN_MODELS"), "/", $name, ".tflite"))
    };
}

pub const MODELS: [Model; 3] = [
    Model {
        name: "person_detect",
        about: "MobileNet v1 0.25: is somebody in an image of 96 by 96",
        file: file!("person_detect"),
        labels: &["nobody", "somebody"],
    },
    Model {
        name: "speech",
        about: "which of two words is in a spectrogram of 49 by 40",
        file: file!("speech"),
        labels: &["silence", "unknown", "yes", "no"],
    },
    Model {
        name: "sine",
        about: "the sine of a number from 0 to 2 pi, by three layers of weights",
        file: file!("sine"),
        labels: &[],
    },
];

const ASTRONAUT: &[u8] = include_bytes!("../samples/astronaut.pgm");
const COFFEE: &[u8] = include_bytes!("../samples/coffee.pgm");

/// The sample of this name, for a model whose input is this tensor.
pub fn sample(name: &str, to: &Tensor) -> Option<Vec<u8>> {
    match name {
        "astronaut" => Some(ASTRONAUT.to_vec()),
        "coffee" => Some(COFFEE.to_vec()),
        // Fits every model; means nothing to any.
        "ramp" => Some((0..to.elements()).map(|i| (i * 37 + 11) as u8).collect()),
        _ => None,
    }
}

/// The model of this name.
pub fn model(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.name == name)
}
