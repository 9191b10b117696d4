// SPDX-License-Identifier: GPL-2.0
//! Fuzzes the calls of the accel subsystem in a guest: `make fuzz` runs it.

mod coverage;
mod devices;
mod engine;
mod generate;
mod mutate;
mod program;
mod record;
mod run;
mod splat;
mod sys;
mod table;
mod target;
mod worker;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use crate::engine::{Done, Subject};
use crate::program::Program;
use crate::record::Record;
use crate::splat::Signs;
use crate::target::Target;

#[derive(Parser)]
#[command(about = "Fuzzes the calls of the accel subsystem")]
struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// Where to tell of programs before they run
    #[arg(long, global = true)]
    record: Option<PathBuf>,
    /// A file with what the kernel's log must not have, one a line
    #[arg(long, global = true)]
    signs: Option<PathBuf>,
    /// By how much everything may take longer
    #[arg(long, global = true, default_value_t = 1)]
    patience: u32,
}

#[derive(Subcommand)]
enum Action {
    /// Make programs up and run them
    Run {
        #[arg(long)]
        seconds: u64,
        /// What random numbers follow from
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Fail if the kernel does not say what was reached
        #[arg(long)]
        coverage: bool,
        /// Files and folders of programs to begin with
        programs: Vec<PathBuf>,
    },
    /// Run programs as they are
    Replay {
        #[arg(long, default_value_t = 1)]
        times: usize,
        programs: Vec<PathBuf>,
    },
}

/// The programs of a file (`.json` has one, anything else one a line) or of a folder.
fn programs(path: &Path) -> Result<Vec<Program>> {
    let broken = || path.display().to_string();
    if path.is_dir() {
        let mut entries = fs::read_dir(path)
            .with_context(broken)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?;
        entries.sort();
        let all: Result<Vec<_>> = entries.iter().map(|path| programs(path)).collect();
        return Ok(all?.concat());
    }
    let text = fs::read_to_string(path).with_context(broken)?;
    let parse = |text: &str| {
        Program::from_json(text).map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))
    };
    if path.extension().is_some_and(|end| end == "json") {
        return Ok(vec![parse(&text)?]);
    }
    text.lines().map(parse).collect()
}

fn all_programs(paths: &[PathBuf]) -> Result<Vec<Program>> {
    let all: Result<Vec<_>> = paths.iter().map(|path| programs(path)).collect();
    Ok(all?.concat())
}

fn act(arguments: &Arguments) -> Result<ExitCode> {
    let record = Record::new(arguments.record.as_deref())?;
    let signs = match &arguments.signs {
        Some(path) => Signs::read(path)?,
        None => Signs::default(),
    };
    match &arguments.action {
        Action::Run {
            seconds,
            seed,
            coverage,
            programs,
        } => {
            let seeds = all_programs(programs)?;
            let target = Target::new(record, signs, arguments.patience, false)?;
            if *coverage && target.blocks() == 0 {
                bail!("this kernel does not say what of our modules is executed (KCOV)");
            }
            println!("{} programs to begin with; seed {seed}", seeds.len());
            let mut done = engine::fuzz(target, &seeds, *seed, Duration::from_secs(*seconds))?;
            done.subject.tell_functions()?;
            Ok(tell(&done))
        }
        Action::Replay { times, programs } => {
            let programs = all_programs(programs)?;
            let mut target = Target::new(record, signs, arguments.patience, true)?;
            let mut map = vec![0; target.map_size()];
            for _ in 0..*times {
                for program in &programs {
                    target.run(program, &mut map)?;
                }
            }
            println!(
                "{} programs ran {times} times: nothing found, {} of {} blocks hit",
                programs.len(),
                target.hits(),
                target.blocks()
            );
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn tell(done: &Done<Target>) -> ExitCode {
    if let Some(report) = done.subject.report() {
        println!("\n{report}");
    }
    let seconds = done.took.as_secs_f64();
    println!(
        "{} executions in {seconds:.0} s ({:.1}/s; {:.0} s to run them, {:.0} s to have devices \
         back), {} killed, {} programs kept, {} of {} blocks hit, {} found",
        done.executions,
        done.executions as f64 / seconds,
        done.subject.running.as_secs_f64(),
        done.subject.restoring.as_secs_f64(),
        done.subject.killed,
        done.kept,
        done.subject.hits(),
        done.subject.blocks(),
        usize::from(done.found.is_some())
    );
    match &done.found {
        None => ExitCode::SUCCESS,
        Some(found) => {
            println!("found: {found:#}");
            ExitCode::FAILURE
        }
    }
}

fn main() -> ExitCode {
    match act(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("accel-fuzz: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_programs_with_a_purpose() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
        let seeds = programs(&folder).unwrap();
        assert!(seeds.len() >= 5);
        assert!(seeds.iter().all(|seed| !seed.about.is_empty()));
    }
}
