// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures what the subsystem costs, beside what its peers cost in the same boot.
//!
//! Meant for a guest whose counter counts instructions (QEMU's icount): there
//! the figures are the same on every machine, and gates on them can hold. Ends
//! with a status other than 0 when a gate is missed or could not be measured.
//! `--scaling` is for a guest with two CPUs that run at once: ratios only.

mod figures;
mod gates;
mod kernel;
mod life;
mod npu;
mod operations;
mod scaling;
mod sys;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use figures::Figures;
use gates::Goal;

/// Measures the accel subsystem against its peers.
#[derive(Parser)]
#[command(name = "accel-bench", version)]
struct Options {
    /// How often each operation is measured
    #[arg(long, default_value_t = 2000, value_name = "N",
          value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    iterations: u32,
    /// The kernel module that measures inside of the kernel, when modprobe does not know it
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Measure how two threads scale instead
    #[arg(long)]
    scaling: bool,
    /// Measure jobs, mappings and the life of the NPU instead
    #[arg(long, conflicts_with = "scaling")]
    npu: bool,
    /// With --scaling: rounds of one thread, two threads, two threads on one file
    #[arg(long, default_value_t = 15, value_name = "N",
          value_parser = clap::value_parser!(u32).range(10..=1000))]
    rounds: u32,
    /// With --scaling: milliseconds that one run takes
    #[arg(long, default_value_t = 300, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1..=60_000))]
    time: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let good = if options.scaling {
        scaling::run(
            options.rounds,
            std::time::Duration::from_millis(options.time),
        )
    } else if options.npu {
        let mut figures = npu::measure(options.iterations as usize);
        // Each of them is long.
        figures.extend(life::measure(options.iterations as usize / 10));
        Ok(report(&figures, &npu::GOALS))
    } else {
        measure(&options)
    };
    match good {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("accel-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures everything and prints it; whether all gates are passed.
fn measure(options: &Options) -> Result<bool, String> {
    if cfg!(debug_assertions) {
        println!("note: this is a debug build; its own part of each figure is too large");
    }
    let mut figures = operations::measure(options.iterations as usize);
    // Last, since a thousand devices come and go with it.
    let inside = kernel::measure(options.module.as_deref());
    figures.extend(inside);
    Ok(report(&figures, &gates::GOALS))
}

/// Prints figures and gates; whether all gates are passed.
fn report(figures: &Figures, goals: &[Goal]) -> bool {
    print!("{}", figures.table());
    let gates = gates::judge(figures, goals);
    print!("\n{}", gates.table());
    gates.all_passed()
}
