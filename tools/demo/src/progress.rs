// SPDX-License-Identifier: MIT OR Apache-2.0
//! One line on a terminal that shows how far the work is.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::mpsc::Receiver;

/// How far one device is.
pub struct Progress {
    /// Which device.
    pub device: usize,
    /// Bytes that it has copied.
    pub done: u64,
}

/// The line; nothing at all when there is no terminal to show it.
pub struct Bar {
    terminal: bool,
    unicode: bool,
}

/// Characters between the ends of the bar.
const WIDTH: usize = 40;

impl Bar {
    /// A bar for standard output.
    pub fn new(terminal: bool) -> Self {
        // The first that is set decides, as setlocale(3) has it.
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .iter()
            .filter_map(|name| std::env::var(name).ok())
            .find(|value| !value.is_empty())
            .unwrap_or_default()
            .to_uppercase();
        Self {
            terminal,
            unicode: locale.contains("UTF-8") || locale.contains("UTF8"),
        }
    }

    /// Shows what is received until all senders are gone.
    pub fn follow(&self, progress: &Receiver<Progress>, total: u64) {
        let mut done = BTreeMap::new();
        for Progress { device, done: now } in progress {
            done.insert(device, now);
            self.show(done.values().sum(), total, "bytes");
        }
        if !done.is_empty() {
            self.end();
        }
    }

    /// Shows that `done` of `total` are.
    pub fn show(&self, done: u64, total: u64, what: &str) {
        if self.terminal {
            print!("\r{}", line(done, total, what, self.unicode));
            // A terminal that is gone is found out by the next print.
            let _ = std::io::stdout().flush();
        }
    }

    /// Ends the line.
    pub fn end(&self) {
        if self.terminal {
            println!();
        }
    }
}

fn line(done: u64, total: u64, what: &str, unicode: bool) -> String {
    let (full, empty) = if unicode { ("█", "░") } else { ("#", ".") };
    let done = done.min(total);
    let part = |of: u64| (u128::from(done) * u128::from(of) / u128::from(total.max(1))) as usize;
    let filled = part(WIDTH as u64);
    format!(
        "  {}{} {:3} %  {done} of {total} {what}",
        full.repeat(filled),
        empty.repeat(WIDTH - filled),
        part(100)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fill() {
        assert!(line(0, 100, "bytes", false).starts_with("  ......"));
        assert!(line(50, 100, "bytes", false).contains(" 50 %"));
        assert_eq!(line(50, 100, "bytes", true).matches('█').count(), 20);
        assert!(line(200, 100, "bytes", false).contains("100 %"));
        assert!(line(0, 0, "bytes", false).contains("  0 %"));
        assert!(line(u64::MAX, u64::MAX, "bytes", false).contains("100 %"));
    }
}
