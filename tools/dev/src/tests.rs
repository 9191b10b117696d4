// SPDX-License-Identifier: GPL-2.0
//! All tests: the host's, and on each kernel flavour the guest's.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::guest_tests::Form;
use crate::kernel::Kernel;
use crate::manifest::{self, HOST, Skip, Test, fits};
use crate::passed::{Counts, State};
use crate::place::Place;
use crate::report::{Colour, elapsed, line, paint, say, seconds};
use crate::run::Ready;
use crate::support::{FLAVOURS, Flavour};
use crate::tap::{Case, Outcome};
use crate::workers::{self, Slots};
use crate::{failures, fuzz, guest_tests, host_tests, in_tree, programs, stale};

/// What came out so far.
pub struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
    skips: Vec<Skip>,
    /// For each of `skips`, whether something was skipped for it.
    used: Vec<bool>,
}

impl Tally {
    fn new(skips: Vec<Skip>) -> Self {
        Self {
            passed: 0,
            failed: 0,
            skipped: 0,
            used: vec![false; skips.len()],
            skips,
        }
    }

    /// Counts and shows the results of one program, `<flavour>/<program>`.
    pub fn add(&mut self, program: &str, cases: &[Case], took: &str) {
        let (mut passed, mut failed, mut skipped) = (0, 0, 0);
        let mut words = Vec::new();
        for case in cases {
            let name = format!("{program}/{}", case.name);
            match &case.outcome {
                Outcome::Passed => passed += 1,
                Outcome::Failed(why) => {
                    failed += 1;
                    words.push(format!(
                        "  {} {name}\n{}",
                        paint(Colour::Bad, "failed:"),
                        indent(why)
                    ));
                }
                Outcome::Skipped(why) => {
                    if self.expects(&name) {
                        skipped += 1;
                    } else {
                        failed += 1;
                        words.push(format!(
                            "  {} {name}: skipped ({why}), and skips.toml does not say it may be",
                            paint(Colour::Bad, "failed:")
                        ));
                    }
                }
            }
        }
        self.passed += passed;
        self.failed += failed;
        self.skipped += skipped;
        let colour = match (failed, skipped) {
            (0, 0) => Colour::Good,
            (0, _) => Colour::Odd,
            _ => Colour::Bad,
        };
        let mut counts = format!("{passed} passed");
        if failed > 0 {
            counts.push_str(&format!(", {failed} failed"));
        }
        if skipped > 0 {
            counts.push_str(&format!(", {skipped} skipped"));
        }
        words.insert(
            0,
            format!(
                "[{:4} s] {program}: {} ({took})",
                elapsed(),
                paint(colour, &counts)
            ),
        );
        // In one piece: others speak at the same time.
        line(words.join("\n"));
    }

    /// Whether the table expects `<flavour>/<program>/<case>` to be skipped.
    fn expects(&mut self, name: &str) -> bool {
        let Some((flavour, test)) = name.split_once('/') else {
            return false;
        };
        let mut found = false;
        for (skip, used) in self.skips.iter().zip(&mut self.used) {
            if skip.flavour == flavour && fits(&skip.test, test) {
                *used = true;
                found = true;
            }
        }
        found
    }

    /// Runs all tests of one flavour, or of the host, and remembers it if they all passed.
    fn whole(
        &mut self,
        name: &str,
        state: &State,
        pattern: &str,
        run: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let (passed, failed, skipped) = (self.passed, self.failed, self.skipped);
        if pattern.is_empty() {
            state.forget(name)?;
        }
        // What does not build has failed; the other flavours still have their say.
        if let Err(error) = run(self) {
            let case = Case {
                name: "build and boot".to_owned(),
                outcome: Outcome::Failed(format!("{error:#}")),
            };
            self.add(name, &[case], "not run");
        } else if pattern.is_empty() {
            self.find_stale(name);
        }
        if pattern.is_empty() && self.failed == failed {
            let counts = Counts {
                passed: self.passed - passed,
                skipped: self.skipped - skipped,
            };
            state.remember(name, counts)?;
        }
        Ok(())
    }

    fn add_known(&mut self, name: &str, counts: Counts) {
        self.passed += counts.passed;
        self.skipped += counts.skipped;
        line(format!(
            "[{:4} s] {name}: all {} passed just now, and nothing has changed since",
            elapsed(),
            counts.passed
        ));
    }

    /// An expected skip that did not happen is a mistake in the table.
    fn find_stale(&mut self, name: &str) {
        for (skip, used) in self.skips.iter().zip(&self.used) {
            if !used && skip.flavour == name {
                self.failed += 1;
                line(format!(
                    "  {} skips.toml expects '{}' to be skipped on {name} ({}); nothing was",
                    paint(Colour::Bad, "failed:"),
                    skip.test,
                    skip.reason
                ));
            }
        }
    }
}

fn indent(text: &str) -> String {
    text.lines()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Whether `T=` asks for the test program of this name.
pub fn is_asked(pattern: &str, name: &str) -> bool {
    pattern.is_empty() || fits(pattern, name)
}

/// Runs what `pattern` asks for; with `skip_known`, not what has passed just now.
pub fn run(
    place: &Place,
    flavours: &[Flavour],
    pattern: &str,
    skip_known: bool,
) -> Result<ExitCode> {
    let tests = manifest::tests(place)?;
    let mut tally = Tally::new(manifest::skips(place)?);
    for flavour in flavours {
        Kernel::get(place, *flavour)?;
    }
    let state = State::of(place)?;
    let known = |name: &str| {
        (skip_known && pattern.is_empty())
            .then(|| state.recall(name))
            .flatten()
    };

    // A pattern that begins with a flavour cannot mean a host test.
    let guests_only = flavours
        .iter()
        .any(|flavour| pattern.starts_with(&format!("{}/", flavour.name)));
    if let Some(counts) = known(HOST) {
        tally.add_known(HOST, counts);
    } else if !guests_only {
        tally.whole(HOST, &state, pattern, |tally| {
            let began = Instant::now();
            say("host tests ...");
            let cases = host_tests::run(place, pattern)?;
            if pattern.is_empty() || !cases.is_empty() {
                tally.add(HOST, &cases, &seconds(began.elapsed()));
            }
            Ok(())
        })?;
    }
    // The scripts look at programs that are built with a kernel's headers.
    let scripts_ran = AtomicBool::new(false);
    let mut left = Vec::new();
    for flavour in flavours {
        let another = guests_only && !pattern.starts_with(&format!("{}/", flavour.name));
        if let Some(counts) = known(flavour.name).filter(|_| !another) {
            tally.add_known(flavour.name, counts);
            scripts_ran.store(true, Relaxed);
        } else if !another {
            left.push(*flavour);
        }
    }
    if pattern.starts_with("host/") {
        left.truncate(1);
    }
    // Guests wait more than they compute.
    let slots = Slots::new(thread::available_parallelism().map_or(1, usize::from));
    let done = workers::share(left.len(), &left, |_, flavours| {
        let mut own = Tally::new(tally.skips.clone());

        for flavour in flavours {
            own.whole(flavour.name, &state, pattern, |own| {
                run_flavour(place, *flavour, &tests, pattern, &scripts_ran, &slots, own)
            })?;
        }
        Ok::<_, anyhow::Error>(own)
    });
    for own in done {
        let own = own?;

        tally.passed += own.passed;
        tally.failed += own.failed;
        tally.skipped += own.skipped;
    }
    if tally.passed + tally.failed + tally.skipped == 0 {
        bail!("no test fits '{pattern}'");
    }
    line(format!(
        "{} passed, {} failed, {} skipped",
        tally.passed, tally.failed, tally.skipped
    ));
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn run_flavour(
    place: &Place,
    flavour: Flavour,
    tests: &[Test],
    pattern: &str,
    scripts_ran: &AtomicBool,
    slots: &Slots,
    tally: &mut Tally,
) -> Result<()> {
    let ready = Ready::new(place, flavour)?;
    let here: Vec<_> = tests
        .iter()
        .filter(|test| test.runs_on(flavour.name))
        .cloned()
        .collect();
    let built = programs::selftests(place, &ready.kernel, &here)?;
    if !scripts_ran.swap(true, Relaxed) {
        let cases = host_tests::scripts(place, tests, pattern)?;
        if !cases.is_empty() {
            tally.add(HOST, &cases, "scripts");
        }
    }
    let asked = |name: &str| is_asked(pattern, name);
    let mut failed = BTreeSet::new();
    guest_tests::run(
        place,
        &ready,
        &built,
        Form::Short,
        slots,
        asked,
        &mut |verdict| {
            tally.add(&verdict.name, &verdict.cases, &verdict.took);
            failed.extend(failures::read(&verdict.output));
        },
    )?;
    if !failed.is_empty() {
        failures::show(place, &ready, &failed)?;
    }
    let _slot = slots.take();
    // What it shows is of the compiler and the core; one kernel is enough unless it is asked for.
    if flavour.name == FLAVOURS[0].name || !pattern.is_empty() {
        stale::run(place, &ready, pattern, tally)?;
    }
    if flavour.is_ours() {
        in_tree::run(place, &ready, pattern, tally)?;
    }
    fuzz::test(place, &ready, pattern, tally)
}
