// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs an int8 TensorFlow Lite model on an NPU, layer by layer.
//!
//! A file comes in through `load`, is lowered to the NPU's commands by `lower`, and executed by
//! `run`. With `--check` each layer is computed once more on the CPU.

mod builtin;
mod card;
mod check;
mod graph;
mod input;
mod load;
mod lower;
mod report;
mod run;
#[allow(unsafe_code)]
mod schema;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use libaccel::npu::{self, Context};

use crate::card::{Card, Npu};
use crate::report::grouped;

/// Runs an int8 TensorFlow Lite model on an NPU.
#[derive(Parser)]
#[command(name = "accel-run", version, after_help = after_help())]
struct Options {
    /// A .tflite file, or the name of a built-in model
    model: String,
    /// A file with int8 elements, a binary PGM or PPM, a .npy, or the name of a built-in sample
    input: String,
    /// Compare every layer with the CPU
    #[arg(long)]
    check: bool,
}

fn after_help() -> String {
    let mut text =
        "Built-in models, of the package microflow 0.1.3 (MIT OR Apache-2.0):\n".to_owned();
    for model in &builtin::MODELS {
        text.push_str(&format!("  {:<14} {}\n", model.name, model.about));
    }
    text.push_str(
        "Built-in samples: astronaut and coffee, images for person_detect; ramp, for any model\n\n\
         Levels of grey or colour from 0 to 255 are taken as -128 to 127. With --check the NPU's\n\
         results must be those of TensorFlow Lite's arithmetic, or 1 beside: that rounds twice.",
    );
    text
}

fn main() -> ExitCode {
    match work(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("accel-run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work(options: &Options) -> Result<()> {
    let (bytes, labels) = match builtin::model(&options.model) {
        Some(model) => (model.file.to_vec(), model.labels),
        None => {
            let file = fs::read(&options.model);
            (
                file.with_context(|| format!("the model {}", options.model))?,
                &[][..],
            )
        }
    };
    let named = || format!("the model {}", options.model);
    let graph = load::graph(&bytes).with_context(named)?;
    // Its size is known before its addresses are.
    let size = lower::plan(&graph, 0).with_context(named)?.layout.size();
    let input = input::read(&options.input, &graph.tensors[graph.input])?;

    let device = libaccel::find(npu::NAME)?;
    let context = Context::new(device.open()?);
    let about = context.device()?;
    let mut card = Npu::new(context, size)?;
    let plan = lower::plan(&graph, card.base())?;
    println!(
        "{}: {} bytes, {} operators; {} bytes on {} ({}, interface {}.{})\n",
        options.model,
        grouped(bytes.len() as u64),
        graph.operations.len(),
        grouped(size as u64),
        device.name(),
        device.identity().driver,
        about.revision.0,
        about.revision.1
    );

    let outcome = run::run(&graph, &plan, &mut card, &input, options.check)?;
    let differences = match options.check {
        true => Some(run::compare(&graph, &outcome)?),
        false => None,
    };
    print!(
        "{}",
        report::layers(&graph, &plan, &outcome, differences.as_deref())
    );
    for &number in &graph.outputs {
        let elements = outcome.tensors[number].as_deref().unwrap_or_default();
        print!(
            "\n{}",
            report::output(&graph.tensors[number], elements, labels)?
        );
    }
    if let Some(differences) = differences {
        let alone = run::on_cpu(&graph, &input)?;
        println!();
        for &number in &graph.outputs {
            if let (Some(npu), Some(cpu)) = (&outcome.tensors[number], &alone[number]) {
                let tensor = &graph.tensors[number];
                println!("{tensor}: {}", report::end_to_end(npu, cpu));
            }
        }
        let wrong = differences
            .iter()
            .filter(|it| it.greatest > it.tolerance)
            .count();
        if wrong != 0 {
            bail!("{wrong} of {} layers are wrong", differences.len());
        }
        println!("every layer is right");
    }
    Ok(())
}
