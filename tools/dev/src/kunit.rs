// SPDX-License-Identifier: GPL-2.0
//! KUnit suites in our modules. The kernel runs them when it loads the module that they are in,
//! and writes what came out of them to its log.

use crate::tap::{self, Case, Outcome};

/// The results in a kernel log, `<suite>/<case>`. A module that is loaded again runs its suites
/// again; a case counts once, and has failed if it ever did.
pub fn cases(log: &str) -> Vec<Case> {
    let lines: Vec<&str> = log.lines().map(message).collect();
    let mut found: Vec<Case> = Vec::new();
    for case in tap::cases(&lines.join("\n")) {
        match found.iter_mut().find(|known| known.name == case.name) {
            Some(known) if matches!(case.outcome, Outcome::Failed(_)) => *known = case,
            Some(_) => {}
            None => found.push(case),
        }
    }
    if found.is_empty() {
        found.push(Case {
            name: "suites".to_owned(),
            outcome: Outcome::Failed("no module has run any when it was loaded".to_owned()),
        });
    }
    found
}

/// A line of the log without its time; how far it is indented matters.
fn message(line: &str) -> &str {
    match line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    {
        Some((time, message)) if time.trim().parse::<f64>().is_ok() => message,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
[    1.500000] accel: loading\r
[    1.600000] KTAP version 1\r
[    1.600001] 1..1\r
[    1.600002]     KTAP version 1\r
[    1.600003]     # Subtest: accel_handles\r
[    1.600004]     1..2\r
[    1.600005]     ok 1 one\r
[    1.600006]     # two: ASSERTION FAILED at accel_handles.rs:0\r
[    1.600007]     not ok 2 two\r
[    1.600008] # accel_handles: pass:1 fail:1 skip:0 total:2\r
[    1.600009] not ok 1 accel_handles\r
";

    #[test]
    fn results_are_found_in_a_log() {
        let found = cases(LOG);
        let names: Vec<&str> = found.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names, ["accel_handles/one", "accel_handles/two"]);
        assert_eq!(found[0].outcome, Outcome::Passed);
        assert!(matches!(&found[1].outcome, Outcome::Failed(why) if why.contains("ASSERTION")));
    }

    #[test]
    fn once_failed_is_failed() {
        let good = LOG.replace("not ok", "ok");
        let found = cases(&format!("{good}{LOG}{good}"));
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].outcome, Outcome::Passed);
        assert!(matches!(found[1].outcome, Outcome::Failed(_)));
    }

    #[test]
    fn a_log_without_results_is_a_failure() {
        let found = cases("[    1.5] Linux version\n");
        assert!(matches!(
            found[..],
            [Case {
                outcome: Outcome::Failed(_),
                ..
            }]
        ));
    }
}
