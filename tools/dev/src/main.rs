// SPDX-License-Identifier: GPL-2.0
//! The developer's tool: sets up, builds, boots and tests the accel subsystem.
//!
//! It runs inside the build root; `make` and `tools/dev/bootstrap.sh` bring it there.

mod bench;
mod check;
mod check_rules;
mod command;
mod copy;
mod cpio;
mod failures;
mod fuzz;
mod guest;
mod guest_tests;
mod host_tests;
mod image;
mod in_tree;
mod kernel;
mod klog;
mod kunit;
mod kvm;
mod manifest;
mod models;
mod modules;
mod mutant;
mod mutants;
mod packages;
mod panics;
mod passed;
mod place;
mod programs;
mod report;
mod run;
mod service;
mod stale;
mod step;
mod stress;
mod support;
mod tap;
mod tests;
mod workers;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::place::Place;
use crate::support::FLAVOURS;

#[derive(Parser)]
#[command(
    name = "accel-dev",
    about = "The developer's tool of the accel subsystem"
)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// The kernel flavour: cloud, amd64 or debug
    #[arg(long, env = "FLAVOUR", global = true, hide_env_values = true)]
    flavour: Option<String>,
}

#[derive(Subcommand)]
enum Action {
    /// Only set the cache up
    Setup,
    /// Boot a guest and run a real job on the accelerator
    Run,
    /// Run the tests of host and guest
    Test {
        /// Only tests whose names have this in them or fit this pattern
        #[arg(env = "T", default_value = "")]
        pattern: String,
        /// On every flavour there is, also those that take long to build
        #[arg(long)]
        all: bool,
    },
    /// Run the long forms of tests that can do any number of cycles
    Stress {
        /// Only programs whose names have this in them or fit this pattern
        #[arg(env = "T", default_value = "")]
        pattern: String,
        /// How many cycles
        #[arg(long, env = "CYCLES", default_value = "1000")]
        cycles: u64,
    },
    /// Break the code in known ways: each has to be found by the test that is named for it
    Mutants {
        /// Only mutants whose names have this in them or fit this pattern
        #[arg(env = "T", default_value = "")]
        pattern: String,
    },
    /// An interactive shell in a guest
    Shell,
    /// Boot a guest, run a command in it, exit with its status
    Vm {
        /// The command, for bash
        #[arg(long, env = "RUN", default_value = "")]
        run: String,
        /// Files and folders of the host to copy into the guest's working folder
        #[arg(long, env = "PUT", default_value = "")]
        put: String,
    },
    /// Build the kernel modules
    Modules {
        /// A folder with a driver of its own, to build there instead
        #[arg(long, env = "DIR", default_value = "")]
        dir: String,
    },
    /// Formats, lints, documentation, rules
    Check,
    /// Rewrite files as the formatters want them
    Format,
    /// Make the reference of what drivers import
    Docs,
    /// Measure in counted instructions
    Bench,
    /// Make programs up for our calls and run them in a guest
    Fuzz {
        /// How long, without the boot
        #[arg(long, env = "MINUTES", default_value = "")]
        minutes: String,
        /// Run the programs of this file instead, again and again
        #[arg(long, env = "REPLAY", default_value = "")]
        replay: String,
    },
}

fn act(arguments: &Arguments) -> Result<ExitCode> {
    let place = Place::from_env()?;
    let flavour = match arguments.flavour.as_deref() {
        None | Some("") => None,
        Some(name) => Some(support::flavour(name)?),
    };
    let one = flavour.unwrap_or(FLAVOURS[0]);
    match &arguments.action {
        Action::Setup => {
            let kernel = kernel::Kernel::get(&place, one)?;
            kvm::choose(&place, &kernel)?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Run => run::demo(&place, one),
        Action::Test { pattern, all } => {
            let flavours = match flavour {
                Some(flavour) if !all => vec![flavour],
                _ if *all => FLAVOURS.to_vec(),
                // A pattern may name any.
                _ => FLAVOURS
                    .iter()
                    .filter(|flavour| {
                        flavour.usual || pattern.starts_with(&format!("{}/", flavour.name))
                    })
                    .copied()
                    .collect(),
            };
            tests::run(&place, &flavours, pattern, *all)
        }
        Action::Stress { pattern, cycles } => stress::run(&place, one, pattern, *cycles),
        Action::Mutants { pattern } => mutants::run(&place, pattern),
        Action::Shell => run::shell(&place, one),
        Action::Vm { run, put } => run::command(&place, one, run, put),
        Action::Modules { dir } => {
            let kernel = kernel::Kernel::get(&place, one)?;
            if dir.is_empty() {
                modules::build_shown(&place, &kernel)?;
            } else {
                modules::build_foreign(&place, &kernel, &place.host_path(dir)?)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Action::Check => check::run(
            &place,
            flavour.map_or_else(|| support::flavour(support::REFERENCE), Ok)?,
        ),
        Action::Format => check::format(&place, one),
        Action::Docs => check::docs(&place, one),
        Action::Bench => bench::run(&place),
        Action::Fuzz { minutes, replay } => fuzz::run(&place, flavour, minutes, replay),
    }
}

fn main() -> ExitCode {
    match act(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("accel: {error:#}");
            ExitCode::FAILURE
        }
    }
}
