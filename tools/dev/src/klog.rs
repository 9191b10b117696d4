// SPDX-License-Identifier: GPL-2.0
//! Reports in a kernel log that fail a run, whatever its job said.

/// What a report has in its first line.
pub const SIGNS: &[&str] = &[
    "WARNING:",
    "BUG:",
    "Oops",
    "Call Trace",
    "INFO: task",
    "possible circular",
    "possible recursive",
    "refcount_t",
    "general protection",
    "Kernel panic",
    "kernel panic",
    "unregister_netdevice",
    "list_add corruption",
    "list_del corruption",
    "sysfs: cannot create duplicate",
    "stalls on CPUs",
    "self-detected stall",
    "soft lockup",
    "leaked",
    "UBSAN:",
    "KASAN:",
    "unreferenced object",
    "suspicious RCU usage",
    "rust_kernel: panicked",
    "CFI failure",
    "ODEBUG:",
    "DMA-API:",
    "INFO: trying to register non-static key",
    "INFO: lockdep is turned off",
    "kmemleak: Kernel memory leak detector disabled",
    "kmemleak: Cannot",
];

/// Words of every boot that look like a report and are none.
const HARMLESS: &[&str] = &[
    "DMA-API: preallocated",
    "DMA-API: debugging enabled by kernel config",
];

/// What begins and ends the trace of a failure that a test has asked for.
const ASKED_FOR: &str = "FAULT_INJECTION: forcing a failure.";
const TRACE_END: &str = "</TASK>";

/// What the guest writes into the log before each test program.
const TEST: &str = "accel-dev: test ";

/// How much of the log is shown before and after a report's first line.
const BEFORE: usize = 3;
const AFTER: usize = 30;

/// The reports in `log`, each with the lines around it.
pub fn reports(log: &str) -> Vec<String> {
    let mut asked_for = false;
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| {
            asked_for |= line.contains(ASKED_FOR);
            let keep = !asked_for;
            asked_for &= !line.contains(TRACE_END);
            keep
        })
        .collect();
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(offset) = lines[from..].iter().position(|line| is_report(line)) {
        let first = from + offset;
        let end = (first + AFTER).min(lines.len());
        let before = first.saturating_sub(BEFORE);
        let test = lines[..before].iter().rposition(|line| line.contains(TEST));
        found.push(
            test.iter()
                .map(|line| lines[*line])
                .chain(lines[before..end].iter().copied())
                .map(|line| format!("  | {}", line.trim_end()))
                .collect::<Vec<_>>()
                .join("\n"),
        );
        from = end;
    }
    found
}

/// Whether a report begins with this line.
pub fn is_report(line: &str) -> bool {
    SIGNS.iter().any(|sign| line.contains(sign))
        && !HARMLESS.iter().any(|words| line.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_found_once_with_what_is_around_it() {
        let mut log = String::from("[0.0] accel-dev: test a\n\n\n\n[0.1] before\n");
        log.push_str("[0.2] WARNING: CPU: 0 PID: 1 at x.c:1\n[0.3] Call Trace:\n[0.4]  f+0x1\n");
        let found = reports(&log);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("before") && found[0].contains("f+0x1"));
        assert!(found[0].contains("test a"));
    }

    #[test]
    fn failures_that_were_asked_for_are_no_reports() {
        let log = "[0.1] FAULT_INJECTION: forcing a failure.\n[0.2] Call Trace:\n\
                   [0.3]  </TASK>\n[0.4] BUG: x\n";
        let found = reports(log);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("BUG: x") && !found[0].contains("Call Trace"));
    }

    #[test]
    fn a_quiet_log_has_none() {
        assert!(reports("[0.0] Linux version\n[1.0] reboot: Power down\n").is_empty());
    }
}
