// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many interrupts a device took, from /proc/interrupts.

use std::fs;

/// The file's text; empty when it cannot be read, as in some containers.
pub fn read() -> String {
    fs::read_to_string("/proc/interrupts").unwrap_or_default()
}

/// Interrupts of `device` between two texts; `None` when no line names it.
pub fn taken(before: &str, after: &str, device: &str) -> Option<u64> {
    let after = count(after, device)?;
    // A line that was not there before has counted from 0.
    Some(after.saturating_sub(count(before, device).unwrap_or(0)))
}

/// The sum over all CPUs and all lines that name `device` as a word.
fn count(text: &str, device: &str) -> Option<u64> {
    let mut found = None;
    for line in text.lines() {
        let Some((_, rest)) = line.split_once(':') else {
            continue;
        };
        let other = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        if !rest.split(other).any(|word| word == device) {
            continue;
        }
        let counts = rest.split_whitespace().map_while(|n| n.parse::<u64>().ok());
        found = Some(found.unwrap_or(0) + counts.sum::<u64>());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "           CPU0       CPU1
  1:          9          0   IO-APIC    1-edge      i8042
 24:         12         30  PCI-MSI-0000:00:03.0   0-edge      accel1
 25:          5          0  PCI-MSI-0000:00:04.0   0-edge      accel10
 26:          1          2  PCI-MSI-0000:00:03.0   1-edge      accel:accel1-dma
ERR:          0
";

    #[test]
    fn lines_are_found_by_the_whole_word() {
        assert_eq!(count(TEXT, "accel1"), Some(45));
        assert_eq!(count(TEXT, "accel10"), Some(5));
        assert_eq!(count(TEXT, "accel0"), None);
        assert_eq!(count("", "accel0"), None);
    }

    #[test]
    fn the_difference_is_what_was_taken() {
        let before = TEXT.replace("30", "20");
        assert_eq!(taken(&before, TEXT, "accel1"), Some(10));
        assert_eq!(taken("", TEXT, "accel1"), Some(45));
        assert_eq!(taken(TEXT, "", "accel1"), None);
    }
}
