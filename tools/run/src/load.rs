// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a `.tflite` file to a [`Graph`]. What no operation of this program can use is refused
//! here, with the number of the operator.

#[cfg(test)]
mod tests;

use anyhow::{Context, Result, bail, ensure};

use crate::graph::{
    Activation, Conv2d, Graph, Kind, MOST_ELEMENTS, Op, Operation, Padding, Pool2d, RANK, Tensor,
};
use crate::schema;

/// Names of operators by their number in the file, as far as a message wants them.
const NAMES: [&str; 54] = [
    "ADD",
    "AVERAGE_POOL_2D",
    "CONCATENATION",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "DEPTH_TO_SPACE",
    "DEQUANTIZE",
    "EMBEDDING_LOOKUP",
    "FLOOR",
    "FULLY_CONNECTED",
    "HASHTABLE_LOOKUP",
    "L2_NORMALIZATION",
    "L2_POOL_2D",
    "LOCAL_RESPONSE_NORMALIZATION",
    "LOGISTIC",
    "LSH_PROJECTION",
    "LSTM",
    "MAX_POOL_2D",
    "MUL",
    "RELU",
    "RELU_N1_TO_1",
    "RELU6",
    "RESHAPE",
    "RESIZE_BILINEAR",
    "RNN",
    "SOFTMAX",
    "SPACE_TO_DEPTH",
    "SVDF",
    "TANH",
    "CONCAT_EMBEDDINGS",
    "SKIP_GRAM",
    "CALL",
    "CUSTOM",
    "EMBEDDING_LOOKUP_SPARSE",
    "PAD",
    "UNIDIRECTIONAL_SEQUENCE_RNN",
    "GATHER",
    "BATCH_TO_SPACE_ND",
    "SPACE_TO_BATCH_ND",
    "TRANSPOSE",
    "MEAN",
    "SUB",
    "DIV",
    "SQUEEZE",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "STRIDED_SLICE",
    "BIDIRECTIONAL_SEQUENCE_RNN",
    "EXP",
    "TOPK_V2",
    "SPLIT",
    "LOG_SOFTMAX",
    "DELEGATE",
    "BIDIRECTIONAL_SEQUENCE_LSTM",
    "CAST",
];

const SUPPORTED: &str = "ADD, AVERAGE_POOL_2D, CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, \
                         MAX_POOL_2D, PAD, RESHAPE and SOFTMAX";

/// Reads a model.
///
/// # Errors
///
/// The file is damaged, or has what is not supported.
pub fn graph(bytes: &[u8]) -> Result<Graph> {
    let model = schema::model(bytes)?;
    let subgraphs = model.subgraphs().context("the model has no graph")?;
    ensure!(
        subgraphs.len() == 1,
        "the model has {} graphs; one is supported",
        subgraphs.len()
    );
    let subgraph = subgraphs.get(0);
    let mut tensors = Vec::new();
    for (number, tensor) in subgraph.tensors().iter().flatten().enumerate() {
        let tensor = read_tensor(model, tensor).with_context(|| format!("tensor {number}"))?;
        tensors.push(tensor);
    }
    let inputs = numbers(subgraph.inputs(), tensors.len())?;
    let [Some(input)] = inputs[..] else {
        bail!("the model has {} inputs; one is supported", inputs.len());
    };
    let outputs = numbers(subgraph.outputs(), tensors.len())?;
    let mut operations = Vec::new();
    for (number, operator) in subgraph.operators().iter().flatten().enumerate() {
        let code = code(model, operator).with_context(|| format!("operator {number}"))?;
        let operation = read_operation(operator, code, tensors.len())
            .with_context(|| format!("operator {number} ({})", name(code)))?;
        operations.push(operation);
    }
    Ok(Graph {
        tensors,
        operations,
        input,
        outputs: outputs.into_iter().flatten().collect(),
    })
}

fn read_tensor(model: schema::Model, tensor: schema::Tensor) -> Result<Tensor> {
    let kind = Kind(tensor.kind().unwrap_or(0));
    let mut shape = Vec::new();
    for dim in tensor.shape().iter().flatten() {
        ensure!(dim > 0, "a dimension of {dim}");
        shape.push(usize::try_from(dim)?);
    }
    ensure!(
        shape.len() <= RANK,
        "{} dimensions; {RANK} are supported",
        shape.len()
    );
    let elements = shape
        .iter()
        .try_fold(1, |so_far: usize, &dim| so_far.checked_mul(dim))
        .filter(|&elements| elements <= MOST_ELEMENTS)
        .with_context(|| format!("more than {MOST_ELEMENTS} elements"))?;
    let number = tensor.buffer().unwrap_or(0) as usize;
    let buffers = model.buffers();
    let data = buffers
        .filter(|buffers| number < buffers.len())
        .and_then(|buffers| buffers.get(number).data())
        .filter(|data| !data.is_empty())
        .map(|data| data.bytes().to_vec());
    if let (Some(data), Some(size)) = (&data, kind.size()) {
        ensure!(
            data.len() == elements * size,
            "{} bytes of data for {elements} elements of {kind}",
            data.len()
        );
    }
    let quantization = tensor.quantization();
    let scales: Vec<f32> = (quantization.and_then(|it| it.scales()))
        .iter()
        .flatten()
        .collect();
    for scale in &scales {
        ensure!(scale.is_normal() && *scale > 0.0, "a scale of {scale}");
    }
    let mut zero_points = (quantization.and_then(|it| it.zero_points()))
        .into_iter()
        .flatten();
    let zero_point = zero_points.next().unwrap_or(0);
    ensure!(
        zero_points.all(|other| other == zero_point),
        "channels with different zero points, which is not supported"
    );
    Ok(Tensor {
        name: tensor.name().unwrap_or_default().to_owned(),
        kind,
        shape,
        data,
        scales,
        zero_point: i32::try_from(zero_point).context("a zero point")?,
        channels: usize::try_from(quantization.and_then(|it| it.dimension()).unwrap_or(0))?,
    })
}

/// Numbers of tensors; -1 is none.
fn numbers(list: Option<flatbuffers::Vector<i32>>, tensors: usize) -> Result<Vec<Option<usize>>> {
    let mut found = Vec::new();
    for number in list.iter().flatten() {
        found.push(match usize::try_from(number) {
            Ok(index) if index < tensors => Some(index),
            Err(_) if number == -1 => None,
            _ => bail!("tensor {number} of {tensors}"),
        });
    }
    Ok(found)
}

fn code(model: schema::Model, operator: schema::Operator) -> Result<i32> {
    let number = operator.code().unwrap_or(0) as usize;
    let codes = model.operator_codes().context("the model has no codes")?;
    ensure!(number < codes.len(), "code {number} of {}", codes.len());
    let code = codes.get(number);
    let short = code.short_code().unwrap_or(0);
    Ok(code.code().unwrap_or(0).max(i32::from(short)))
}

/// What messages call an operator.
fn name(code: i32) -> String {
    match usize::try_from(code).ok().and_then(|it| NAMES.get(it)) {
        Some(name) => (*name).to_owned(),
        None => format!("code {code}"),
    }
}

fn read_operation(operator: schema::Operator, code: i32, tensors: usize) -> Result<Operation> {
    let op = match name(code).as_str() {
        "ADD" => {
            let options: Option<schema::Add> = operator.options();
            Op::Add(activation(options.and_then(schema::Add::activation))?)
        }
        "AVERAGE_POOL_2D" => Op::AveragePool2d(pool(operator)?),
        "CONV_2D" => {
            let it: schema::Conv2d = operator.options().context("no options")?;
            Op::Conv2d(Conv2d {
                padding: padding(it.padding())?,
                strides: [step(it.stride_h())?, step(it.stride_w())?],
                dilations: [step(it.dilation_h())?, step(it.dilation_w())?],
                activation: activation(it.activation())?,
            })
        }
        "DEPTHWISE_CONV_2D" => {
            let it: schema::DepthwiseConv2d = operator.options().context("no options")?;
            Op::DepthwiseConv2d(Conv2d {
                padding: padding(it.padding())?,
                strides: [step(it.stride_h())?, step(it.stride_w())?],
                dilations: [step(it.dilation_h())?, step(it.dilation_w())?],
                activation: activation(it.activation())?,
            })
        }
        "FULLY_CONNECTED" => {
            let it: schema::FullyConnected = operator.options().context("no options")?;
            ensure!(
                it.weights_format().unwrap_or(0) == 0,
                "shuffled weights are not supported"
            );
            Op::FullyConnected(activation(it.activation())?)
        }
        "MAX_POOL_2D" => Op::MaxPool2d(pool(operator)?),
        "PAD" => Op::Pad,
        "RESHAPE" => Op::Reshape,
        "SOFTMAX" => {
            let it: schema::Softmax = operator.options().context("no options")?;
            Op::Softmax {
                beta: it.beta().unwrap_or(0.0),
            }
        }
        _ => bail!("not supported: the operators that are, are {SUPPORTED}"),
    };
    let outputs = numbers(operator.outputs(), tensors)?;
    let [Some(output)] = outputs[..] else {
        bail!("{} outputs; one is supported", outputs.len());
    };
    Ok(Operation {
        inputs: numbers(operator.inputs(), tensors)?,
        output,
        op,
    })
}

fn pool(operator: schema::Operator) -> Result<Pool2d> {
    let it: schema::Pool2d = operator.options().context("no options")?;
    Ok(Pool2d {
        padding: padding(it.padding())?,
        strides: [step(it.stride_h())?, step(it.stride_w())?],
        kernel: [step(it.filter_h())?, step(it.filter_w())?],
        activation: activation(it.activation())?,
    })
}

/// A stride, dilation or side of a window; what the file leaves out is 1.
fn step(value: Option<i32>) -> Result<usize> {
    let value = value.unwrap_or(1);
    ensure!(
        (1..=0xffff).contains(&value),
        "a stride, dilation or window of {value}"
    );
    Ok(usize::try_from(value)?)
}

fn padding(value: Option<i8>) -> Result<Padding> {
    match value.unwrap_or(0) {
        0 => Ok(Padding::Same),
        1 => Ok(Padding::Valid),
        other => bail!("padding {other}"),
    }
}

fn activation(value: Option<i8>) -> Result<Activation> {
    match value.unwrap_or(0) {
        0 => Ok(Activation::None),
        1 => Ok(Activation::Relu),
        2 => Ok(Activation::ReluN1To1),
        3 => Ok(Activation::Relu6),
        other => bail!("the activation function {other} is not supported"),
    }
}
