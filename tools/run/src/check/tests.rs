// SPDX-License-Identifier: MIT OR Apache-2.0
//! Against LiteRT: its reference kernels have computed the built-in models once, and what each
//! layer gave is in `reference/`.

use sha2::{Digest, Sha256};

use crate::builtin;
use crate::graph::Op;
use crate::input;
use crate::load;
use crate::run;

fn layers_are_those_of(model: &str, sample: &str, expected: &str) {
    let file = builtin::model(model).expect("it is built in").file;
    let graph = load::graph(file).expect("it can be loaded");
    let input = input::read(sample, &graph.tensors[graph.input]).expect("it fits");
    let tensors = run::on_cpu(&graph, &input).expect("it can be computed");
    let mut lines = expected.lines().filter(|line| !line.starts_with('#'));
    for (number, operation) in graph.operations.iter().enumerate() {
        let out = tensors[operation.output].as_ref().expect("it was computed");
        let bytes: Vec<u8> = out.iter().map(|&it| it as u8).collect();
        let words: Vec<&str> = lines.next().expect("a layer").split(' ').collect();
        let shape: Vec<String> = (graph.tensors[operation.output].shape.iter())
            .map(usize::to_string)
            .collect();
        assert_eq!(words[..2], [operation.op.name(), &shape.join("x")]);
        // LiteRT's is not exact; its results are compared below.
        if !matches!(operation.op, Op::Softmax { .. }) {
            let sum = format!("{:x}", Sha256::digest(&bytes));
            assert_eq!(sum, words[2], "layer {number} of {model}");
        }
    }
    let last = lines.next().and_then(|line| line.strip_prefix("output "));
    let values = last
        .expect("an output")
        .split(' ')
        .map(|it| it.parse::<i8>());
    let found = tensors[graph.outputs[0]].as_ref().expect("an output");
    assert_eq!(values.clone().count(), found.len());
    for (value, found) in values.zip(found) {
        assert!(value.expect("a number").abs_diff(*found) <= 1, "{found}");
    }
}

#[test]
fn person_detect_is_that_of_litert() {
    let expected = include_str!("../../reference/person_detect.astronaut.txt");
    layers_are_those_of("person_detect", "astronaut", expected);
    let expected = include_str!("../../reference/person_detect.coffee.txt");
    layers_are_those_of("person_detect", "coffee", expected);
}

#[test]
fn speech_is_that_of_litert() {
    let expected = include_str!("../../reference/speech.ramp.txt");
    layers_are_those_of("speech", "ramp", expected);
}

#[test]
fn sine_is_that_of_litert() {
    let expected = include_str!("../../reference/sine.ramp.txt");
    layers_are_those_of("sine", "ramp", expected);
}
