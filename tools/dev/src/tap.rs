// SPDX-License-Identifier: GPL-2.0
//! Reading the Test Anything Protocol as kselftests speak it.

use crate::failures;

/// How one test case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

/// One test case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    pub name: String,
    pub outcome: Outcome,
}

/// The cases in what a program printed; nested ones count, their summary lines do not.
pub fn cases(output: &str) -> Vec<Case> {
    let mut found: Vec<(usize, Case)> = Vec::new();
    // What the program said since the last result: the reason, if the next one is a failure.
    let mut said = Vec::new();
    for line in output.lines() {
        let depth = line.len() - line.trim_start().len();
        let Some(case) = case(line.trim(), &said) else {
            // What is meant for us is no reason.
            if !failures::is_place(line) {
                said.push(line);
            }
            continue;
        };
        said.clear();
        // A result less deep than those just before it sums them up.
        let nested = found.iter().rev().take_while(|(at, _)| *at > depth).count();
        if nested > 0 {
            let group = case.name;
            let first = found.len() - nested;
            for (at, inner) in &mut found[first..] {
                inner.name = format!("{group}/{}", inner.name);
                *at = depth;
            }
        } else {
            found.push((depth, case));
        }
    }
    found.into_iter().map(|(_, case)| case).collect()
}

/// How many cases the program announced, if it did and ran them all in one level.
pub fn plan(output: &str) -> Option<usize> {
    output
        .lines()
        .find_map(|line| line.strip_prefix("1.."))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|count| count.parse().ok())
}

fn case(line: &str, said: &[&str]) -> Option<Case> {
    let (good, rest) = if let Some(rest) = line.strip_prefix("not ok ") {
        (false, rest)
    } else {
        (true, line.strip_prefix("ok ")?)
    };
    let (description, directive) = match rest.split_once('#') {
        Some((description, directive)) => (description, directive.trim()),
        None => (rest, ""),
    };
    let name = description
        .trim()
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .trim_start_matches([' ', '-'])
        .trim();
    let upper = directive.to_ascii_uppercase();
    let outcome = if upper.starts_with("SKIP") {
        Outcome::Skipped(directive[4..].trim().to_owned())
    } else if good || upper.starts_with("XFAIL") || upper.starts_with("TODO") {
        Outcome::Passed
    } else {
        let from = said.len().saturating_sub(12);
        Outcome::Failed(said[from..].join("\n"))
    };
    Some(Case {
        name: if name.is_empty() { "unnamed" } else { name }.to_owned(),
        outcome,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kselftest_harness_output() {
        let output = "TAP version 13\n1..3\n# Starting\n#  RUN a.x ...\n#            OK  a.x\n\
                      ok 1 a.x\n# a.c:10:y:Expected 1 == 2\n# y: Test failed\nnot ok 2 a.y\n\
                      ok 3 a.z # SKIP no buddy\n# FAILED: 1 / 3\n";
        let found = cases(output);
        assert_eq!(found.len(), 3);
        assert_eq!(plan(output), Some(3));
        assert_eq!(found[0].outcome, Outcome::Passed);
        assert!(matches!(&found[1].outcome, Outcome::Failed(why) if why.contains("Expected")));
        assert_eq!(found[2].outcome, Outcome::Skipped("no buddy".to_owned()));
        assert_eq!(found[2].name, "a.z");
    }

    #[test]
    fn nested_results_count_their_sum_does_not() {
        let found = cases("    ok 1 - one\n    not ok 2 - two\nnot ok 1 - group\nok 2 - alone\n");
        let names: Vec<&str> = found.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names, ["group/one", "group/two", "alone"]);
    }
}
