// SPDX-License-Identifier: MIT OR Apache-2.0

use flatbuffers::{FlatBufferBuilder, WIPOffset};
use proptest::prelude::*;

use super::*;
use crate::builtin;
use crate::lower;
use crate::run;

fn file(name: &str) -> &'static [u8] {
    builtin::model(name).expect("it is built in").file
}

#[test]
fn a_mobilenet_is_read() {
    let graph = graph(file("person_detect")).expect("it can be loaded");
    assert_eq!(graph.operations.len(), 31);
    assert_eq!(graph.tensors[graph.input].shape, [1, 96, 96, 1]);
    assert_eq!(graph.tensors[graph.input].zero_point, -1);
    let first = &graph.operations[0];
    assert_eq!(
        first.op,
        Op::DepthwiseConv2d(Conv2d {
            padding: Padding::Same,
            strides: [2, 2],
            dilations: [1, 1],
            activation: Activation::Relu6,
        })
    );
    let weights = &graph.tensors[first.inputs[1].expect("weights")];
    assert_eq!((weights.channels, weights.scales.len()), (3, 8));
    assert_eq!(weights.shape, [1, 3, 3, 8]);
    let pool = &graph.operations[27];
    assert_eq!(
        pool.op,
        Op::AveragePool2d(Pool2d {
            padding: Padding::Valid,
            strides: [2, 2],
            kernel: [3, 3],
            activation: Activation::None,
        })
    );
    assert_eq!(graph.operations[30].op, Op::Softmax { beta: 1.0 });
    let products: u64 = (lower::plan(&graph, 0)
        .expect("it can be lowered")
        .layers
        .iter())
    .map(|layer| layer.products)
    .sum();
    assert_eq!(products, 7_157_888);
}

/// A model of one operator, without tensors.
fn of_operator(code: i32) -> Vec<u8> {
    type Table = WIPOffset<flatbuffers::TableFinishedWIPOffset>;
    let mut it = FlatBufferBuilder::new();
    let none = it.create_vector::<i32>(&[]);
    let start = it.start_table();
    it.push_slot::<i32>(10, code, 0);
    let code: Table = it.end_table(start);
    let codes = it.create_vector(&[code]);
    let start = it.start_table();
    it.push_slot_always(6, none);
    it.push_slot_always(8, none);
    let operator: Table = it.end_table(start);
    let operators = it.create_vector(&[operator]);
    let shape = it.create_vector(&[1]);
    let start = it.start_table();
    it.push_slot_always(4, shape);
    it.push_slot::<i8>(6, 9, 0);
    let tensor: Table = it.end_table(start);
    let tensors = it.create_vector(&[tensor]);
    let input = it.create_vector::<i32>(&[0]);
    let start = it.start_table();
    it.push_slot_always(4, tensors);
    it.push_slot_always(6, input);
    it.push_slot_always(8, input);
    it.push_slot_always(10, operators);
    let subgraph: Table = it.end_table(start);
    let subgraphs = it.create_vector(&[subgraph]);
    let start = it.start_table();
    it.push_slot_always(6, codes);
    it.push_slot_always(8, subgraphs);
    let model: Table = it.end_table(start);
    it.finish(model, Some("TFL3"));
    it.finished_data().to_vec()
}

fn why(bytes: &[u8]) -> String {
    format!("{:#}", graph(bytes).expect_err("it cannot be loaded"))
}

#[test]
fn what_is_not_supported_is_named() {
    let said = why(&of_operator(16));
    assert!(
        said.starts_with("operator 0 (LSTM): not supported"),
        "{said}"
    );
    assert!(said.contains("CONV_2D, DEPTHWISE_CONV_2D"), "{said}");
    assert!(why(&of_operator(150)).contains("operator 0 (code 150)"));
    assert!(why(&of_operator(22)).contains("0 outputs"));
    assert!(why(&of_operator(3)).contains("no options"));
}

#[test]
fn what_is_no_model_is_refused() {
    assert!(why(b"").contains("not a .tflite file"));
    assert!(why(b"\x7fELF, and more of it").contains("not a .tflite file"));
    assert!(why(b"\xff\xff\xff\xffTFL3").contains("damaged"));
    // What is cut off may be of no use, but must not be looked for.
    let whole = file("sine");
    let taken = (0..whole.len()).filter(|&size| graph(&whole[..size]).is_ok());
    assert!(taken.count() < 100);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// A file that is damaged is refused, or is a model that both ways can compute.
    #[test]
    fn damage_does_not_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = file("sine").to_vec();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(graph) = graph(&bytes) {
            let small = graph.tensors.iter().all(|it| it.elements() < 10_000);
            if small && lower::plan(&graph, 0).is_ok() {
                let input = vec![1; graph.tensors[graph.input].elements()];
                prop_assert!(run::on_cpu(&graph, &input).is_ok());
            }
        }
    }
}
