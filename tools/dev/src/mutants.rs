// SPDX-License-Identifier: GPL-2.0
//! Mutants: patches that break the code in known ways. Each names the test that has to find it;
//! a mutant that this test passes with has survived, and shows that the test is worth less than
//! it seems.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::command::tail;
use crate::guest_tests::{self, Form, Verdict};
use crate::manifest::{self, Test, fits};
use crate::mutant::{Mutant, Part};
use crate::place::Place;
use crate::programs::{self, Built};
use crate::report::{Colour, line, paint, say, seconds};
use crate::run::Ready;
use crate::step::Lock;
use crate::support::{self, FLAVOURS, Flavour};
use crate::tap::{Case, Outcome};
use crate::workers::{self, Slots};
use crate::{copy, klog, modules};

/// How much of a failure's message the table shows, in characters.
const MOST_SHOWN: usize = 60;

/// Mutants that are built and tested at once.
const WORKERS: usize = 2;

/// What became of a mutant.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// The test failed; its first failing case, and what that said.
    Killed(String),
    /// The test passed.
    Survived(String),
    /// The test was not asked: the mutant did not build, or the test could not begin.
    Unknown(String),
}

impl Fate {
    fn word(&self) -> String {
        match self {
            Fate::Killed(_) => paint(Colour::Good, "killed"),
            Fate::Survived(_) => paint(Colour::Bad, "SURVIVED"),
            Fate::Unknown(_) => paint(Colour::Bad, "NOT TESTED"),
        }
    }

    fn why(&self) -> &str {
        match self {
            Fate::Killed(why) | Fate::Survived(why) | Fate::Unknown(why) => why,
        }
    }
}

/// Runs the mutants whose names fit `pattern`, or all.
pub fn run(place: &Place, pattern: &str) -> Result<ExitCode> {
    let mut mutants = load(place)?;
    mutants.retain(|mutant| pattern.is_empty() || fits(pattern, &mutant.name));
    if mutants.is_empty() {
        bail!(
            "no mutant in {} fits '{pattern}'",
            place.mutants().display()
        );
    }
    let tests = manifest::tests(place)?;
    applicable(place, &mutants, &tests)?;
    // Neighbours that change the same part cost one build less.
    mutants.sort_by(|a, b| (a.part, &a.paths, &a.name).cmp(&(b.part, &b.paths, &b.name)));

    let mut fates = Vec::new();
    for flavour in FLAVOURS {
        let here: Vec<&Mutant> = mutants
            .iter()
            .filter(|mutant| flavour_of(&mutant.killer).is_some_and(|of| of == *flavour))
            .collect();
        if !here.is_empty() {
            run_flavour(place, *flavour, &here, &tests, mutants.len(), &mut fates)?;
        }
    }
    show(&fates);
    let killed = |(_, fate): &(&Mutant, Fate)| matches!(fate, Fate::Killed(_));
    Ok(if fates.iter().all(killed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether all mutants are as they should be, and can be applied to the checkout.
pub fn check(place: &Place) -> Result<()> {
    applicable(place, &load(place)?, &manifest::tests(place)?)
}

fn load(place: &Place) -> Result<Vec<Mutant>> {
    let folder = place.mutants();
    let mut found = Vec::new();
    for entry in folder
        .read_dir()
        .with_context(|| format!("reading {}", folder.display()))?
    {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "patch") {
            found.push(Mutant::read(&path)?);
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn applicable(place: &Place, mutants: &[Mutant], tests: &[Test]) -> Result<()> {
    let mut wrong = Vec::new();
    for mutant in mutants {
        let killer = &mutant.killer;
        if flavour_of(killer).is_none() || !tests.iter().any(|test| names(test, killer)) {
            wrong.push(format!("{}: there is no test '{killer}'", mutant.name));
        }
        if let Err(why) = patch(&mutant.file, &place.tree, true) {
            wrong.push(format!("{}: {why:#}", mutant.name));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

fn flavour_of(killer: &str) -> Option<Flavour> {
    let (name, _) = killer.split_once('/')?;
    support::flavour(name).ok()
}

/// Whether `<flavour>/<program>[.i386][.<kind>]` is a run of `test`.
fn names(test: &Test, killer: &str) -> bool {
    let Some((flavour, rest)) = killer.split_once('/') else {
        return false;
    };
    let programs = [
        Some(test.name.clone()),
        test.i386.then(|| format!("{}.i386", test.name)),
    ];
    test.runs_on(flavour)
        && !test.host
        && programs.iter().flatten().any(|program| {
            if test.devices.is_empty() {
                rest == program
            } else {
                test.devices
                    .iter()
                    .any(|kind| rest == format!("{program}.{kind}"))
            }
        })
}

/// Applies a patch, or with `dry` only sees whether it could. Lines may have moved; what is
/// around the change must be as it was.
fn patch(file: &Path, tree: &Path, dry: bool) -> Result<()> {
    let mut command = Command::new("patch");
    command
        .args(["-p1", "--batch", "--forward", "--fuzz=0"])
        .args(["--no-backup-if-mismatch", "--reject-file=-"])
        .arg("-i")
        .arg(file)
        .arg("-d")
        .arg(tree);
    if dry {
        command.arg("--dry-run");
    }
    let done = command
        .stdin(Stdio::null())
        .output()
        .context("starting patch")?;
    if !done.status.success() {
        bail!(
            "does not apply\n{}",
            tail(&String::from_utf8_lossy(&done.stdout), 10)
        );
    }
    Ok(())
}

fn run_flavour<'a>(
    place: &Place,
    flavour: Flavour,
    mutants: &[&'a Mutant],
    tests: &[Test],
    of: usize,
    fates: &mut Vec<(&'a Mutant, Fate)>,
) -> Result<()> {
    let ready = Ready::new(place, flavour)?;
    let needed: Vec<Test> = tests
        .iter()
        .filter(|test| mutants.iter().any(|mutant| names(test, &mutant.killer)))
        .cloned()
        .collect();
    let built = programs::selftests(place, &ready.kernel, &needed)?;
    unmutated(place, &ready, &built, mutants)?;
    let _lock = Lock::take(&place.work.join("mutants.lock"), "building mutants")?;
    let fates = Mutex::new(fates);
    // While the guest of one runs, the next one is built.
    workers::share(WORKERS, mutants, |number, mutants| {
        let work = Work {
            place,
            ready: &ready,
            folder: place.work.join("mutants").join(number.to_string()),
        };

        for mutant in mutants {
            let began = Instant::now();
            let fate = work
                .build(mutant)
                .and_then(|mutated| tested(place, &mutated, &built, &mutant.killer))
                .unwrap_or_else(|error| Fate::Unknown(shortened(&format!("{error:#}"))));
            let mut fates = fates.lock().unwrap_or_else(PoisonError::into_inner);

            say(format!(
                "{}/{of} {}: {} ({})",
                fates.len() + 1,
                mutant.name,
                fate.word(),
                seconds(began.elapsed())
            ));
            fates.push((mutant, fate));
        }
    });
    Ok(())
}

/// The tests have to pass with the code as it is: else a failure says nothing of a mutant.
fn unmutated(place: &Place, ready: &Ready, built: &[Built], mutants: &[&Mutant]) -> Result<()> {
    let asked = |name: &str| mutants.iter().any(|mutant| mutant.killer == name);
    let mut failed = Vec::new();
    let mut passed = Vec::new();
    guest_tests::run(
        place,
        ready,
        built,
        Form::Short,
        &Slots::new(1),
        asked,
        &mut |verdict| {
            let passes = verdict
                .cases
                .iter()
                .any(|case| matches!(case.outcome, Outcome::Passed));
            match first_failure(&verdict.cases) {
                Some(why) => failed.push(format!("{}: {why}", verdict.name)),
                None if !passes => failed.push(format!("{}: nothing of it passed", verdict.name)),
                None => passed.push(verdict.name),
            }
        },
    )?;
    if !failed.is_empty() {
        bail!(
            "without any mutant, these fail already:\n{}",
            failed.join("\n")
        );
    }
    passed.sort();
    passed.dedup();
    say(format!("pass without any mutant: {}", passed.join(", ")));
    Ok(())
}

/// The copy of the checkout where a worker builds mutants, one after the other.
struct Work<'a> {
    place: &'a Place,
    ready: &'a Ready,
    folder: PathBuf,
}

impl Work<'_> {
    /// Builds the part that the mutant is in; the rest is as it was built without it.
    fn build(&self, mutant: &Mutant) -> Result<Ready> {
        let tree = self.folder.join("tree");
        copy::tree(&self.place.tree, &tree, None)?;
        patch(&mutant.file, &tree, false)?;
        let mut mutated = Ready {
            kernel: self.ready.kernel.clone(),
            modules: self.ready.modules.clone(),
            programs: self.ready.programs.clone(),
            emulator: self.ready.emulator.clone(),
        };
        match mutant.part {
            Part::Model => {
                let target = self.folder.join("target");
                mutated.emulator = programs::emulator(self.place, &tree, &target)?;
            }
            Part::Driver | Part::Core => {
                let folder = self.folder.join(self.ready.kernel.flavour.name);
                mutated.modules =
                    modules::build_tree(self.place, &self.ready.kernel, &tree, &folder)?;
            }
        }
        Ok(mutated)
    }
}

/// Runs only the test that is to find the mutant.
fn tested(place: &Place, mutated: &Ready, built: &[Built], killer: &str) -> Result<Fate> {
    let mut verdicts = Vec::new();
    guest_tests::run(
        place,
        mutated,
        built,
        Form::Short,
        &Slots::new(1),
        |name| name == killer,
        &mut |verdict| {
            verdicts.push(verdict);
        },
    )?;
    Ok(judge(killer, &verdicts))
}

/// Only the named test can kill. A report in the kernel's log alone does not; a guest that is
/// lost while the test runs is the test's failure.
fn judge(killer: &str, verdicts: &[Verdict]) -> Fate {
    let elsewhere = verdicts
        .iter()
        .filter(|verdict| verdict.name != killer)
        .find_map(|verdict| first_failure(&verdict.cases));
    let Some(verdict) = verdicts.iter().find(|verdict| verdict.name == killer) else {
        let why = elsewhere.unwrap_or_else(|| "no such test ran".to_owned());
        return Fate::Unknown(why);
    };
    match first_failure(&verdict.cases) {
        Some(why) if verdict.began => Fate::Killed(why),
        Some(why) => Fate::Unknown(why),
        None => Fate::Survived(match elsewhere {
            Some(why) => format!("all passed, but: {why}"),
            None => "all passed".to_owned(),
        }),
    }
}

/// The first failing case and what it said, in one line.
fn first_failure(cases: &[Case]) -> Option<String> {
    cases.iter().find_map(|case| match &case.outcome {
        Outcome::Failed(why) => Some(format!("{}: {}", case.name, shortened(why))),
        _ => None,
    })
}

/// The line that says most: what an assertion of the kselftest harness expected, a report of the
/// kernel, a compiler's error; else the first.
fn shortened(why: &str) -> String {
    let lines: Vec<&str> = why
        .lines()
        .map(|line| line.trim_start_matches([' ', '|', '#']).trim())
        .filter(|line| !line.is_empty() && !line.starts_with("RUN "))
        .collect();
    let telling = |line: &&&str| {
        line.contains(":Expected ")
            || line.starts_with("error")
            || line.starts_with("the device model")
            || klog::is_report(line)
    };
    let found = lines.iter().find(telling).or(lines.first());
    let found = found.copied().unwrap_or("it did not say why");
    // Where in the program it was, the case tells.
    let found = found.find("Expected ").map_or(found, |at| &found[at..]);
    if found.chars().count() <= MOST_SHOWN {
        return found.to_owned();
    }
    let cut: String = found.chars().take(MOST_SHOWN - 3).collect();
    format!("{}...", cut.trim_end())
}

fn show(fates: &[(&Mutant, Fate)]) {
    let rows = fates.iter().map(|(mutant, fate)| {
        [
            mutant.what.clone(),
            mutant.part.to_string(),
            format!("{} {}", mutant.killer, fate.why()),
            fate.word(),
        ]
    });
    for row in table(
        ["mutant", "where", "killed by", "outcome"].map(str::to_owned),
        rows.collect(),
    ) {
        line(row);
    }
    let count = |which: fn(&Fate) -> bool| fates.iter().filter(|(_, fate)| which(fate)).count();
    line(format!(
        "{} killed, {} survived, {} not tested",
        count(|fate| matches!(fate, Fate::Killed(_))),
        count(|fate| matches!(fate, Fate::Survived(_))),
        count(|fate| matches!(fate, Fate::Unknown(_))),
    ));
}

/// Rows with aligned columns; the last one's width does not matter.
fn table<const N: usize>(head: [String; N], rows: Vec<[String; N]>) -> Vec<String> {
    let mut all = vec![head];
    all.extend(rows);
    let widths: Vec<usize> = (0..N)
        .map(|column| {
            all.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    all.iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLER: &str = "cloud/mmu.npu";

    fn verdict(name: &str, began: bool, outcomes: &[Outcome]) -> Verdict {
        Verdict {
            name: name.to_owned(),
            cases: outcomes
                .iter()
                .map(|outcome| Case {
                    name: "mmu.flush".to_owned(),
                    outcome: outcome.clone(),
                })
                .collect(),
            took: String::new(),
            began,
            output: String::new(),
        }
    }

    fn failed(why: &str) -> Outcome {
        Outcome::Failed(why.to_owned())
    }

    #[test]
    fn only_the_named_test_kills() {
        let assertion =
            failed("# mmu.c:7:flush:Expected 0 (0) == error (14)\n# flush: Test failed");
        let found = judge(
            KILLER,
            &[verdict(KILLER, true, &[Outcome::Passed, assertion])],
        );
        let why = "mmu.flush: Expected 0 (0) == error (14)".to_owned();
        assert_eq!(found, Fate::Killed(why));

        let splat = verdict(
            "cloud/guest",
            true,
            &[failed("  | [1.0] WARNING: at x.c:1")],
        );
        let passed = verdict(KILLER, true, &[Outcome::Passed]);
        assert!(matches!(
            judge(KILLER, &[passed, splat]),
            Fate::Survived(why) if why.contains("WARNING")
        ));
    }

    #[test]
    fn a_test_that_did_not_begin_kills_nothing() {
        let missing = verdict(KILLER, false, &[failed("there is no device of kind npu")]);
        assert!(matches!(judge(KILLER, &[missing]), Fate::Unknown(_)));
        assert!(matches!(judge(KILLER, &[]), Fate::Unknown(_)));
    }

    #[test]
    fn a_message_is_one_short_line() {
        assert_eq!(shortened("\n  | one\ntwo"), "one");
        assert_eq!(
            shortened("log: failed\n  | error[E0425]: no x"),
            "error[E0425]: no x"
        );
        assert_eq!(shortened(""), "it did not say why");
        assert_eq!(
            shortened("#  RUN   mmu.flush ...\n# flush: Test terminated by timeout"),
            "flush: Test terminated by timeout"
        );
        let long = shortened(&"x".repeat(500));
        assert_eq!(long.chars().count(), MOST_SHOWN);
    }

    #[test]
    fn killers_are_runs_of_tests() {
        let test: Test = toml::from_str(
            "name = \"mmu\"\ndevices = [\"npu\"]\ni386 = true\nflavours = [\"cloud\"]",
        )
        .expect("it is a test");
        assert!(names(&test, KILLER) && names(&test, "cloud/mmu.i386.npu"));
        assert!(!names(&test, "amd64/mmu.npu"));
        assert!(!names(&test, "cloud/mmu") && !names(&test, "cloud/mmu.edu"));
        assert!(!names(&test, "mmu.npu"));
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let rows = table(
            ["a", "b"].map(str::to_owned),
            vec![["long", "x"].map(str::to_owned)],
        );
        assert_eq!(rows, ["a     b", "long  x"]);
    }
}
