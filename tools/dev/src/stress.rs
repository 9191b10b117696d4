// SPDX-License-Identifier: GPL-2.0
//! The long forms of tests: those that take a device through its life again and again, as often
//! as somebody wants, and a table of what they did.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::guest_tests::{self, Form, Verdict};
use crate::manifest::{self, Test};
use crate::place::Place;
use crate::programs;
use crate::report::{line, say};
use crate::run::Ready;
use crate::support::Flavour;
use crate::tap::Outcome;
use crate::tests::is_asked;
use crate::workers::Slots;

/// What a line of a program's begins with that is meant for the table.
const MARK: &str = "stress: shape=";
/// What the guest writes into the kernel's log before each program.
const TEST: &str = "accel-dev: test ";

/// What was done in one way.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    name: String,
    cycles: String,
    longest: String,
    leaks: String,
}

impl Shape {
    /// From `... stress: shape=<name> cycles=<n> longest_unbind_ms=<n> leaks=<n>`; what a shape
    /// has not measured may be missing.
    fn read(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once(MARK)?;
        let mut words = rest.split_whitespace();
        let mut shape = Self {
            name: words.next()?.to_owned(),
            cycles: "-".to_owned(),
            longest: "-".to_owned(),
            leaks: "-".to_owned(),
        };
        for word in words {
            match word.split_once('=') {
                Some(("cycles", value)) => shape.cycles = value.to_owned(),
                Some(("longest_unbind_ms", value)) => shape.longest = value.to_owned(),
                Some(("leaks", value)) => shape.leaks = value.to_owned(),
                _ => {}
            }
        }
        Some(shape)
    }
}

/// What came out so far.
#[derive(Default)]
struct Table {
    shapes: Vec<(String, Shape)>,
    /// For each report in a kernel's log, the program that was running.
    splats: Vec<String>,
    failures: Vec<String>,
}

impl Table {
    fn add(&mut self, flavour: &str, verdict: Verdict) {
        let program = verdict
            .name
            .strip_prefix(&format!("{flavour}/"))
            .unwrap_or(&verdict.name)
            .to_owned();
        let shapes: Vec<Shape> = verdict.output.lines().filter_map(Shape::read).collect();
        let failed = verdict.cases.iter().filter_map(|case| match &case.outcome {
            Outcome::Failed(why) => Some((case.name.as_str(), why)),
            _ => None,
        });
        let mut quiet = true;
        for (case, why) in failed {
            quiet = false;
            if case == guest_tests::KERNEL_LOG {
                self.splats.push(running(why));
            }
            self.failures
                .push(format!("{}/{case}\n{why}", verdict.name));
        }
        if quiet && shapes.is_empty() {
            self.failures
                .push(format!("{}: says nothing of cycles", verdict.name));
        }
        say(format!("{}: {}", verdict.name, verdict.took));
        self.shapes
            .extend(shapes.into_iter().map(|shape| (program.clone(), shape)));
    }

    fn show(&self) {
        let mut rows =
            vec![["shape", "cycles", "splats", "longest unbind ms", "leaks"].map(str::to_owned)];
        for (program, shape) in &self.shapes {
            let splats = self.splats.iter().filter(|name| *name == program).count();
            rows.push([
                shape.name.clone(),
                shape.cycles.clone(),
                splats.to_string(),
                shape.longest.clone(),
                shape.leaks.clone(),
            ]);
        }
        let widths: Vec<usize> = (0..rows[0].len())
            .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
            .collect();
        for row in &rows {
            let mut text = format!("{:<1$}", row[0], widths[0]);
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                text.push_str(&format!("  {cell:>width$}"));
            }
            line(text);
        }
    }
}

/// The program that ran when a report was made, as names of tests have it.
fn running(report: &str) -> String {
    let mut words = report
        .lines()
        .find_map(|text| text.split_once(TEST))
        .map_or("", |(_, rest)| rest)
        .split_whitespace();
    match (words.next(), words.next()) {
        (Some(file), Some("-") | None) => file.to_owned(),
        (Some(file), Some(kind)) => format!("{file}.{kind}"),
        (None, _) => String::new(),
    }
}

/// Runs the long forms that `pattern` asks for.
pub fn run(place: &Place, flavour: Flavour, pattern: &str, cycles: u64) -> Result<ExitCode> {
    let tests: Vec<Test> = manifest::tests(place)?
        .into_iter()
        .filter(|test| test.stress.is_some() && test.runs_on(flavour.name))
        .collect();
    let ready = Ready::new(place, flavour)?;
    let built = programs::selftests(place, &ready.kernel, &tests)?;
    let mut table = Table::default();
    guest_tests::run(
        place,
        &ready,
        &built,
        Form::Long { cycles },
        &Slots::new(1),
        |name| is_asked(pattern, name),
        &mut |verdict| table.add(flavour.name, verdict),
    )?;
    if table.shapes.is_empty() && table.failures.is_empty() {
        bail!("no test that has a long form fits '{pattern}'");
    }
    for failure in &table.failures {
        line(format!("failed: {failure}"));
    }
    table.show();
    let leaks = table
        .shapes
        .iter()
        .any(|(_, shape)| shape.leaks != "0" && shape.leaks != "-");
    Ok(if table.failures.is_empty() && !leaks {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_the_table_is_read_wherever_it_stands() {
        let found =
            Shape::read("# x.c:9:y:# stress: shape=x.edu/y cycles=20 longest_unbind_ms=7 leaks=0");
        assert_eq!(
            found,
            Some(Shape {
                name: "x.edu/y".to_owned(),
                cycles: "20".to_owned(),
                longest: "7".to_owned(),
                leaks: "0".to_owned(),
            })
        );
        let found = Shape::read("stress: shape=restarts/kexec cycles=5");
        assert!(found.is_some_and(|shape| shape.longest == "-" && shape.cycles == "5"));
        assert_eq!(Shape::read("# stress: nothing"), None);
    }

    #[test]
    fn a_report_belongs_to_the_program_that_ran() {
        let report = "  | [1.0] accel-dev: test lifecycle edu\n  | [1.1] WARNING: x";
        assert_eq!(running(report), "lifecycle.edu");
        assert_eq!(running("  | [1.0] accel-dev: test scale -\n"), "scale");
        assert_eq!(running("  | [1.1] WARNING: x"), "");
    }
}
