// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands are executed by the hardware model's own executor, without a card or a driver,
//! and compared with the CPU.

use std::sync::Mutex;
use std::time::Duration;

use accel_emu::npu::command::{self, Access, Failure, Memory};
use libaccel::npu::Command;
use proptest::prelude::*;

use super::*;
use crate::builtin;
use crate::card::Card;
use crate::input;
use crate::load;
use crate::run::{self, Difference};

const BASE: u64 = 0x20_0000;

/// Memory from `BASE` on, and nothing else.
struct Soft(Mutex<Vec<u8>>);

impl Soft {
    fn new(size: usize) -> Self {
        // What nobody has written is not 0.
        Self(Mutex::new(vec![0xa5; size]))
    }
}

/// The part of memory at `address`.
fn part(
    memory: &mut [u8],
    address: u64,
    size: usize,
    access: Access,
) -> Result<&mut [u8], Failure> {
    let fault = Failure::Fault {
        address,
        access,
        kind: 1,
    };
    let start = address
        .checked_sub(BASE)
        .and_then(|it| usize::try_from(it).ok());
    let start = start.ok_or(fault)?;
    memory.get_mut(start..start + size).ok_or(fault)
}

impl Memory for Soft {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Failure> {
        let mut memory = self.0.lock().expect("no test has panicked");
        to.copy_from_slice(part(&mut memory, address, to.len(), Access::Read)?);
        Ok(())
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), Failure> {
        let mut memory = self.0.lock().expect("no test has panicked");
        part(&mut memory, address, from.len(), Access::Write)?.copy_from_slice(from);
        Ok(())
    }
}

impl Card for Soft {
    fn base(&self) -> u64 {
        BASE
    }

    fn write(&mut self, parts: &[(Span, Vec<u8>)]) -> Result<()> {
        for (span, content) in parts {
            let written = Memory::write(self, BASE + span.offset as u64, content);
            written.map_err(|why| anyhow::anyhow!("{why:?}"))?;
        }
        Ok(())
    }

    fn read(&mut self, parts: &[Span]) -> Result<Vec<Vec<u8>>> {
        let mut contents = Vec::new();
        for span in parts {
            let mut content = vec![0; span.size];
            let read = Memory::read(self, BASE + span.offset as u64, &mut content);
            read.map_err(|why| anyhow::anyhow!("{why:?}"))?;
            contents.push(content);
        }
        Ok(contents)
    }

    fn execute(&mut self, lists: &[Vec<Command>]) -> Result<Vec<Duration>> {
        for command in lists.iter().flatten() {
            command::execute(&command.encode(), self, &|| false)
                .map_err(|why| anyhow::anyhow!("{}: {why:?}", command.name()))?;
        }
        Ok(vec![Duration::ZERO; lists.len()])
    }
}

/// Runs a graph, and compares each of its layers with the CPU.
fn differences(graph: &Graph, input: &[i8]) -> (Vec<Option<Vec<i8>>>, Vec<Difference>) {
    let plan = plan(graph, BASE).expect("it can be lowered");
    let mut card = Soft::new(plan.layout.size());
    let outcome = run::run(graph, &plan, &mut card, input, true).expect("it can be executed");
    let differences = run::compare(graph, &outcome).expect("it can be compared");
    (outcome.tensors, differences)
}

fn all_right(differences: &[Difference]) -> bool {
    differences.iter().all(|it| it.greatest <= it.tolerance)
}

fn loaded(model: &str, sample: &str) -> (Graph, Vec<i8>) {
    let file = builtin::model(model).expect("it is built in").file;
    let graph = load::graph(file).expect("it can be loaded");
    let input = input::read(sample, &graph.tensors[graph.input]).expect("it fits");
    (graph, input)
}

#[test]
fn built_in_models_are_right() {
    for (model, sample) in [
        ("person_detect", "astronaut"),
        ("person_detect", "coffee"),
        ("speech", "ramp"),
        ("sine", "ramp"),
    ] {
        let (graph, input) = loaded(model, sample);
        let (tensors, found) = differences(&graph, &input);
        assert!(all_right(&found), "{model} {sample}: {found:?}");
        // Both ways to compute it may be a few units apart at the end.
        let alone = run::on_cpu(&graph, &input).expect("it can be computed");
        let last = graph.outputs[0];
        let pairs = tensors[last]
            .iter()
            .flatten()
            .zip(alone[last].iter().flatten());
        assert!(pairs.clone().count() > 0);
        for (npu, cpu) in pairs {
            assert!(npu.abs_diff(*cpu) <= 2, "{model} {sample}: {npu} and {cpu}");
        }
    }
}

#[test]
fn an_astronaut_is_somebody_and_coffee_is_not() {
    for (sample, somebody) in [("astronaut", true), ("coffee", false)] {
        let (graph, input) = loaded("person_detect", sample);
        let (tensors, _) = differences(&graph, &input);
        let output = tensors[graph.outputs[0]].clone().expect("an output");
        assert_eq!(output[1] > output[0], somebody, "{sample}: {output:?}");
    }
}

/// A wrong weight is seen: the check does not pass whatever comes.
#[test]
fn a_wrong_weight_is_found() {
    let (graph, input) = loaded("speech", "ramp");
    let (mut other, _) = loaded("speech", "ramp");
    let weights = other.operations[1].inputs[1].expect("weights");
    for weight in other.tensors[weights].data.iter_mut().flatten().take(4) {
        *weight ^= 0x40;
    }
    let plan = plan(&other, BASE).expect("it can be lowered");
    let mut card = Soft::new(plan.layout.size());
    let outcome = run::run(&graph, &plan, &mut card, &input, true).expect("it can be executed");
    let found = run::compare(&graph, &outcome).expect("it can be compared");
    assert!(
        !all_right(&found[1..2]) && all_right(&found[2..]),
        "{found:?}"
    );
}

fn tensor(shape: &[usize], scale: f32, zero_point: i32) -> Tensor {
    Tensor {
        name: "t".to_owned(),
        shape: shape.to_vec(),
        scales: vec![scale],
        zero_point,
        ..Tensor::default()
    }
}

/// Any bytes, the same for the same seed.
fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn constant(shape: &[usize], scale: f32, seed: u64) -> Tensor {
    let it = tensor(shape, scale, 0);
    Tensor {
        data: Some(bytes(seed, it.elements())),
        ..it
    }
}

fn i32s(values: &[i32]) -> Tensor {
    Tensor {
        kind: Kind::I32,
        data: Some(values.iter().flat_map(|it| it.to_le_bytes()).collect()),
        ..tensor(&[values.len()], 1.0, 0)
    }
}

/// A graph of one operation whose first input is the graph's and whose output is the last tensor.
fn single(tensors: Vec<Tensor>, inputs: &[usize], op: Op) -> Graph {
    let output = tensors.len() - 1;
    Graph {
        operations: vec![Operation {
            inputs: inputs.iter().map(|&it| Some(it)).collect(),
            output,
            op,
        }],
        tensors,
        input: 0,
        outputs: vec![output],
    }
}

fn is_right(graph: &Graph, seed: u64) {
    let input: Vec<i8> = (bytes(seed, graph.tensors[0].elements()).iter())
        .map(|&it| it as i8)
        .collect();
    let (_, found) = differences(graph, &input);
    assert!(all_right(&found), "{found:?}");
}

/// How many windows there are.
fn count(padding: Padding, from: usize, window: usize, stride: usize) -> usize {
    match padding {
        Padding::Same => from.div_ceil(stride),
        Padding::Valid => (from + 1).saturating_sub(window).div_ceil(stride),
    }
}

fn any_padding() -> impl Strategy<Value = Padding> {
    prop_oneof![Just(Padding::Same), Just(Padding::Valid)]
}

fn any_activation() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::None),
        Just(Activation::Relu),
        Just(Activation::ReluN1To1),
        Just(Activation::Relu6),
    ]
}

prop_compose! {
    fn any_conv()(
        padding in any_padding(),
        strides in [1..4_usize, 1..4],
        dilations in [1..3_usize, 1..3],
        activation in any_activation(),
    ) -> Conv2d {
        Conv2d { padding, strides, dilations, activation }
    }
}

proptest! {
    #[test]
    fn convolutions_are_right(
        how in any_conv(),
        depthwise: bool,
        size in [1..9_usize, 1..9],
        kernel in [1..4_usize, 1..4],
        (groups, depth, share) in (1..4_usize, 1..4_usize, 1..4_usize),
        zero in -128..128_i32,
        to_zero in -128..128_i32,
        scale in 0.001..1.0_f32,
        with_bias: bool,
        seed: u64,
    ) {
        let (inputs, outputs) = if depthwise {
            (groups, groups * share)
        } else {
            (groups * depth, groups * share)
        };
        let mut to = [0; 2];
        for axis in 0..2 {
            let window = (kernel[axis] - 1) * how.dilations[axis] + 1;
            to[axis] = count(how.padding, size[axis], window, how.strides[axis]);
        }
        prop_assume!(to[0] > 0 && to[1] > 0);
        let shape = match depthwise {
            true => [1, kernel[0], kernel[1], outputs],
            false => [outputs, kernel[0], kernel[1], depth],
        };
        let mut weights = constant(&shape, 1.0, seed);
        weights.channels = if depthwise { 3 } else { 0 };
        weights.scales = (1..=outputs).map(|it| 0.01 / it as f32).collect();
        let values: Vec<i32> = (0..outputs).map(|it| it as i32 * 3000 - 4000).collect();
        let graph = single(
            vec![
                tensor(&[2, size[0], size[1], inputs], 0.1, zero),
                weights,
                i32s(&values),
                tensor(&[2, to[0], to[1], outputs], scale, to_zero),
            ],
            if with_bias { &[0, 1, 2] } else { &[0, 1] },
            match depthwise {
                true => Op::DepthwiseConv2d(how),
                false => Op::Conv2d(how),
            },
        );
        is_right(&graph, seed);
    }

    #[test]
    fn products_are_right(
        (rows, depth, channels) in (1..4_usize, 1..40_usize, 1..5_usize),
        activation in any_activation(),
        zero in -128..128_i32,
        scale in 0.01..1.0_f32,
        seed: u64,
    ) {
        let graph = single(
            vec![
                tensor(&[rows, depth], 0.1, zero),
                constant(&[channels, depth], 0.02, seed),
                i32s(&vec![-500; channels]),
                tensor(&[rows, channels], scale, 7),
            ],
            &[0, 1, 2],
            Op::FullyConnected(activation),
        );
        is_right(&graph, seed);
    }

    #[test]
    fn pools_are_right(
        mean: bool,
        padding in any_padding(),
        strides in [1..4_usize, 1..4],
        kernel in [1..4_usize, 1..4],
        size in [1..9_usize, 1..9],
        activation in any_activation(),
        zero in -128..128_i32,
        seed: u64,
    ) {
        let how = Pool2d { padding, strides, kernel, activation };
        let to = [0, 1].map(|axis| count(padding, size[axis], kernel[axis], strides[axis]));
        prop_assume!(to[0] > 0 && to[1] > 0);
        let graph = single(
            vec![
                tensor(&[2, size[0], size[1], 3], 0.05, zero),
                tensor(&[2, to[0], to[1], 3], 0.05, zero),
            ],
            &[0],
            if mean { Op::AveragePool2d(how) } else { Op::MaxPool2d(how) },
        );
        is_right(&graph, seed);
    }

    #[test]
    fn sums_are_right(
        scales in [0.001..1.0_f32, 0.001..1.0_f32, 0.01..1.0_f32],
        zeros in [-128..128_i32, -128..128_i32, -128..128_i32],
        activation in any_activation(),
        broadcast in 0..3_usize,
        seed: u64,
    ) {
        let shape = [&[2, 3, 2, 5][..], &[1, 5], &[3, 1, 1]][broadcast];
        let mut other = constant(shape, scales[1], seed);
        other.zero_point = zeros[1];
        let graph = single(
            vec![
                tensor(&[2, 3, 2, 5], scales[0], zeros[0]),
                other,
                tensor(&[2, 3, 2, 5], scales[2], zeros[2]),
            ],
            &[0, 1],
            Op::Add(activation),
        );
        is_right(&graph, seed);
    }

    #[test]
    fn softmaxes_are_right(scale in 0.001..1.0_f32, beta in 0.1..2.0_f32, seed: u64) {
        let graph = single(
            vec![
                tensor(&[3, 7], scale, 5),
                tensor(&[3, 7], 1.0 / 256.0, -128),
            ],
            &[0],
            Op::Softmax { beta },
        );
        is_right(&graph, seed);
    }

    #[test]
    fn paddings_are_right(amounts in [0..3_i32, 0..3, 0..3, 0..3, 0..3, 0..3], seed: u64) {
        let from = [2, 3, 4];
        let to = [0, 1, 2].map(|dim| from[dim] + (amounts[2 * dim] + amounts[2 * dim + 1]) as usize);
        let mut paddings = i32s(&amounts);
        paddings.shape = vec![3, 2];
        let graph = single(
            vec![tensor(&from, 0.1, -9), paddings, tensor(&to, 0.1, -9)],
            &[0, 1],
            Op::Pad,
        );
        is_right(&graph, seed);
    }
}

fn why(graph: &Graph) -> String {
    format!("{:#}", plan(graph, BASE).expect_err("it cannot be lowered"))
}

#[test]
fn what_does_not_fit_is_refused() {
    let conv = Conv2d {
        padding: Padding::Valid,
        strides: [1, 1],
        dilations: [1, 1],
        activation: Activation::None,
    };
    let make = |output: &[usize]| {
        single(
            vec![
                tensor(&[1, 5, 5, 2], 0.1, 0),
                constant(&[4, 3, 3, 2], 0.1, 1),
                tensor(output, 0.1, 0),
            ],
            &[0, 1],
            Op::Conv2d(conv),
        )
    };
    assert!(plan(&make(&[1, 3, 3, 4]), BASE).is_ok());
    let said = why(&make(&[1, 5, 5, 4]));
    assert!(
        said.contains("operator 0 (CONV_2D)") && said.contains("does not give"),
        "{said}"
    );
    assert!(why(&make(&[1, 3, 3, 5])).contains("channels"));

    let mut float = make(&[1, 3, 3, 4]);
    float.tensors[0].kind = Kind(0);
    assert!(why(&float).contains("is float32; models of int8 are supported"));
    let mut later = make(&[1, 3, 3, 4]);
    later.tensors[1].data = None;
    assert!(why(&later).contains("neither a constant nor computed before"));
    let mut twice = make(&[1, 3, 3, 4]);
    twice.operations[0].output = 0;
    assert!(why(&twice).contains("written twice") || why(&twice).contains("does not give"));
    let mut along = make(&[1, 3, 3, 4]);
    along.tensors[1].scales = vec![0.1; 4];
    along.tensors[1].channels = 3;
    assert!(why(&along).contains("along dimension 3"));
}
