// SPDX-License-Identifier: GPL-2.0
//! Coverage in tables.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Site;

/// Lines of the table of functions.
const FUNCTIONS: usize = 40;

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    blocks: usize,
    hit: usize,
    panics: usize,
}

impl Count {
    fn add(&mut self, site: &Site, hit: bool) {
        self.blocks += 1;
        self.hit += usize::from(hit);
        self.panics += usize::from(site.is_panic && !hit);
    }

    /// Blocks that there may be a way to, and that were not hit.
    fn missed(self) -> usize {
        (self.blocks - self.panics).saturating_sub(self.hit)
    }

    /// Of the blocks that there may be a way to.
    fn percent(self) -> f64 {
        100.0 * self.hit as f64 / (self.blocks - self.panics).max(1) as f64
    }
}

/// A line for each function: its module, how many of how many blocks were hit (without those that
/// panic), its name.
pub fn functions(sites: &[Site], hit: &[bool]) -> Vec<String> {
    let mut all: BTreeMap<(&str, &str), Count> = BTreeMap::new();
    for (site, hit) in sites.iter().zip(hit) {
        all.entry((&site.module, &site.function))
            .or_default()
            .add(site, *hit);
    }
    all.iter()
        .map(|((module, function), count)| {
            let blocks = count.blocks - count.panics;
            format!("{module} {}/{blocks} {function}", count.hit)
        })
        .collect()
}

/// Blocks by module, and the functions with the most blocks that were never hit.
pub fn tables(sites: &[Site], hit: &[bool]) -> String {
    let mut all = Count::default();
    let mut modules: BTreeMap<&str, Count> = BTreeMap::new();
    let mut functions: BTreeMap<(&str, &str), Count> = BTreeMap::new();
    for (site, hit) in sites.iter().zip(hit) {
        all.add(site, *hit);
        modules.entry(&site.module).or_default().add(site, *hit);
        functions
            .entry((&site.module, &site.function))
            .or_default()
            .add(site, *hit);
    }
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{:<16} {:>8} {:>8} {:>8} {:>7}  {:>9} {:>7}",
        "module", "blocks", "panics", "hit", "", "functions", "never"
    );
    let line = |text: &mut String, name: &str, count: Count, of: &dyn Fn(&str) -> bool| {
        let mine = functions.iter().filter(|((module, _), _)| of(module));
        let never = mine.clone().filter(|(_, count)| count.hit == 0).count();
        let _ = writeln!(
            text,
            "{name:<16} {:>8} {:>8} {:>8} {:>5.1} %  {:>9} {never:>7}",
            count.blocks,
            count.panics,
            count.hit,
            count.percent(),
            mine.count()
        );
    };
    for (name, count) in &modules {
        line(&mut text, name, *count, &|module| module == *name);
    }
    line(&mut text, "all", all, &|_| true);

    let mut missed: Vec<_> = functions
        .iter()
        .filter(|(_, count)| count.missed() > 0)
        .collect();
    missed.sort_by_key(|(_, count)| std::cmp::Reverse(count.missed()));
    let _ = writeln!(
        text,
        "\n{:<16} {:>8} {:>8}  function",
        "never hit", "blocks", "missed"
    );
    for ((module, function), count) in missed.iter().take(FUNCTIONS) {
        let _ = writeln!(
            text,
            "{module:<16} {:>8} {:>8}  {function}{}",
            count.blocks - count.panics,
            count.missed(),
            if count.hit == 0 {
                "  (never called)"
            } else {
                ""
            }
        );
    }
    if missed.len() > FUNCTIONS {
        let _ = writeln!(text, "and {} more functions", missed.len() - FUNCTIONS);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(module: &str, function: &str) -> Site {
        Site {
            module: module.to_owned(),
            section: ".text".to_owned(),
            offset: 0,
            function: function.to_owned(),
            is_panic: false,
        }
    }

    #[test]
    fn blocks_are_counted_by_module_and_function() {
        let panic = Site {
            is_panic: true,
            ..site("b", "f")
        };
        let sites = [
            site("a", "f"),
            site("a", "f"),
            site("a", "g"),
            site("b", "f"),
            panic,
        ];
        let hit = [true, false, false, true, false];
        let text = tables(&sites, &hit);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[1], ["a", "3", "0", "1", "33.3", "%", "2", "1"]);
        assert_eq!(lines[2], ["b", "2", "1", "1", "100.0", "%", "1", "0"]);
        assert_eq!(lines[3], ["all", "5", "1", "2", "50.0", "%", "3", "1"]);
        assert_eq!(lines[6], ["a", "2", "1", "f"]);
        assert_eq!(lines[7], ["a", "1", "1", "g", "(never", "called)"]);
        assert_eq!(lines.len(), 8);
        assert_eq!(functions(&sites, &hit), ["a 1/2 f", "a 0/1 g", "b 1/1 f"]);
    }
}
