// SPDX-License-Identifier: MIT OR Apache-2.0
//! Executing a plan, and comparing what came of it with the CPU.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::card::Card;
use crate::check;
use crate::graph::Graph;
use crate::lower::Plan;

/// What a run gave.
#[derive(Debug)]
pub struct Outcome {
    /// The elements of the graph's tensors, as far as they were read.
    pub tensors: Vec<Option<Vec<i8>>>,
    /// Of each layer.
    pub times: Vec<Duration>,
}

/// How a layer of a run differs from the CPU's, given the same input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// The greatest difference of two elements.
    pub greatest: u8,
    /// How many elements differ.
    pub count: usize,
    /// The difference that may be.
    pub tolerance: u8,
}

/// Executes a plan. What is read afterwards is the output, or with `all` every layer's.
///
/// # Errors
///
/// Those of the card.
pub fn run(
    graph: &Graph,
    plan: &Plan,
    card: &mut dyn Card,
    input: &[i8],
    all: bool,
) -> Result<Outcome> {
    card.write(plan.layout.constants())?;
    let place = plan.layout.find(graph.input).context("there is no input")?;
    card.write(&[(place, input.iter().map(|&it| it as u8).collect())])?;
    let lists: Vec<_> = plan.layers.iter().map(|it| it.commands.clone()).collect();
    let times = card.execute(&lists)?;

    let mut wanted = graph.outputs.clone();
    if all {
        wanted.extend(graph.operations.iter().map(|operation| operation.output));
    }
    let mut tensors = vec![None; graph.tensors.len()];
    let mut spans = Vec::new();
    for &tensor in &wanted {
        spans.push(plan.layout.find(tensor).context("an output of no layer")?);
    }
    for (&tensor, bytes) in wanted.iter().zip(card.read(&spans)?) {
        tensors[tensor] = Some(bytes.iter().map(|&byte| byte as i8).collect());
    }
    tensors[graph.input] = Some(input.to_vec());
    Ok(Outcome { tensors, times })
}

/// Compares every layer of a run of which all was read: each with what the CPU makes of the same
/// input.
///
/// # Errors
///
/// A layer was not read.
pub fn compare(graph: &Graph, outcome: &Outcome) -> Result<Vec<Difference>> {
    let mut differences = Vec::new();
    for operation in &graph.operations {
        let expected = check::output(graph, operation, &outcome.tensors)?;
        let found = outcome.tensors[operation.output].as_deref();
        let (greatest, count) = check::difference(found.context("a layer")?, &expected);
        differences.push(Difference {
            greatest,
            count,
            tolerance: check::tolerance(&operation.op),
        });
    }
    Ok(differences)
}

/// Every tensor as the CPU alone computes it.
///
/// # Errors
///
/// The graph cannot be computed.
pub fn on_cpu(graph: &Graph, input: &[i8]) -> Result<Vec<Option<Vec<i8>>>> {
    let mut tensors = vec![None; graph.tensors.len()];
    tensors[graph.input] = Some(input.to_vec());
    for operation in &graph.operations {
        tensors[operation.output] = Some(check::output(graph, operation, &tensors)?);
    }
    Ok(tensors)
}
