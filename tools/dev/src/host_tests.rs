// SPDX-License-Identifier: GPL-2.0
//! The tests that need no guest: those of the cargo workspace.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::command::{tail, tied};
use crate::manifest::{Test, fits};
use crate::place::Place;
use crate::step::Lock;
use crate::tap::{Case, Outcome};

/// Runs the scripts beside the kselftests that need no guest, among the built programs.
pub fn scripts(place: &Place, tests: &[Test], pattern: &str) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for test in tests.iter().filter(|test| test.host) {
        let name = format!("host/{}", test.name);
        let Some(script) = test.sources.first() else {
            continue;
        };
        if !pattern.is_empty() && !fits(pattern, &name) {
            continue;
        }
        let done = tied("timeout")
            .arg(test.timeout.to_string())
            .arg("sh")
            .arg(place.selftests().join(script))
            .args(&test.args)
            .current_dir(place.work.join("selftests"))
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("starting {script}"))?;
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        let outcome = match done.status.code() {
            Some(0) => Outcome::Passed,
            Some(4) => Outcome::Skipped(said.trim().to_owned()),
            _ => Outcome::Failed(tail(&said, 40)),
        };
        cases.push(Case {
            name: test.name.clone(),
            outcome,
        });
    }
    Ok(cases)
}

/// Runs the workspace's tests and gives the results, named `<program>/<test>`.
pub fn run(place: &Place, pattern: &str) -> Result<Vec<Case>> {
    let _lock = Lock::take(&place.work.join("cargo.lock"), "building this checkout")?;
    let log = place.log("host-tests.log");
    fs::create_dir_all(place.work.join("log"))?;
    let file = File::create(&log).with_context(|| format!("writing {}", log.display()))?;
    let mut cargo = tied("cargo");
    cargo
        .args(["test", "--offline", "--workspace", "--no-fail-fast"])
        .current_dir(place.tools())
        .env("CARGO_TERM_COLOR", "never")
        .stdin(Stdio::null())
        .stderr(file.try_clone()?)
        .stdout(file);
    let status = cargo.status().context("starting cargo")?;
    let output = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let mut cases = cases(&output);
    if !status.success()
        && !cases
            .iter()
            .any(|case| matches!(case.outcome, Outcome::Failed(_)))
    {
        cases.push(Case {
            name: "cargo test".to_owned(),
            outcome: Outcome::Failed(format!("{}\n  {}", tail(&output, 30), log.display())),
        });
    }
    cases.retain(|case| pattern.is_empty() || fits(pattern, &format!("host/{}", case.name)));
    Ok(cases)
}

fn cases(output: &str) -> Vec<Case> {
    let mut program = String::new();
    let mut found = Vec::new();
    for line in output.lines() {
        let trimmed = line.trim();
        if let Some(rest) = trimmed.strip_prefix("Running ") {
            program = program_name(rest);
        } else if let Some(rest) = trimmed.strip_prefix("Doc-tests ") {
            program = format!("{rest}.doc");
        } else if let Some((name, result)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.rsplit_once(" ... "))
        {
            let outcome = match result.split([',', ' ']).next() {
                Some("ok") => Outcome::Passed,
                Some("ignored") => Outcome::Skipped("ignored".to_owned()),
                _ => Outcome::Failed(panic_of(output, name)),
            };
            found.push(Case {
                name: format!("{program}/{name}"),
                outcome,
            });
        }
    }
    found
}

/// `unittests src/main.rs (target/debug/deps/accel_dev-0123)` is `accel_dev`.
fn program_name(running: &str) -> String {
    let path = running
        .rsplit_once('(')
        .map_or(running, |(_, path)| path.trim_end_matches(')'));
    let stem = Path::new(path)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or(path);
    stem.rsplit_once('-')
        .map_or(stem, |(name, _)| name)
        .to_owned()
}

fn panic_of(output: &str, name: &str) -> String {
    output
        .split(&format!("---- {name} stdout ----"))
        .nth(1)
        .map(|rest| {
            let lines: Vec<&str> = rest
                .lines()
                .take_while(|line| !line.starts_with("----") && !line.starts_with("failures:"))
                .filter(|line| !line.is_empty())
                .collect();
            tail(&lines.join("\n"), 15)
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_cargo_test() {
        let output = "     Running unittests src/main.rs (target/debug/deps/accel_dev-0a1)\n\
                      running 3 tests\ntest a::b ... ok\ntest a::c ... FAILED\n\
                      test a::d ... ignored, slow\n---- a::c stdout ----\nboom\nfailures:\n";
        let found = cases(output);
        assert_eq!(found[0].name, "accel_dev/a::b");
        assert!(matches!(&found[1].outcome, Outcome::Failed(why) if why.contains("boom")));
        assert!(matches!(found[2].outcome, Outcome::Skipped(_)));
    }
}
