// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was measured, and the table of it.

use std::fmt::Write as _;

use crate::sys::counter;

/// Runs before the first that counts: caches, page tables and branches settle.
pub const WARM_UP: usize = 64;

/// One operation's cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure {
    pub min: u64,
    pub median: u64,
    pub p99: u64,
    /// How often it was measured.
    pub n: usize,
}

impl Figure {
    /// Of samples in any order; `None` when there is none.
    fn of(samples: &mut [u64]) -> Option<Self> {
        samples.sort_unstable();
        let n = samples.len();
        Some(Self {
            min: *samples.first()?,
            median: *samples.get(n / 2)?,
            p99: *samples.get(n * 99 / 100)?,
            n,
        })
    }

    /// One that was measured elsewhere, once.
    pub fn single(value: u64) -> Self {
        Self {
            min: value,
            median: value,
            p99: value,
            n: 1,
        }
    }
}

/// Measures `operation` `n` times; an error when one does not return `good`.
#[inline(always)]
pub fn time<R: PartialEq + std::fmt::Debug>(
    n: usize,
    good: R,
    operation: impl FnMut() -> R,
) -> Result<Figure, String> {
    time_by(counter, n, good, operation)
}

/// As [`time`], with another counter.
#[inline(always)]
pub fn time_by<R: PartialEq + std::fmt::Debug>(
    counter: impl Fn() -> u64,
    n: usize,
    good: R,
    mut operation: impl FnMut() -> R,
) -> Result<Figure, String> {
    time_prepared(counter, n, good, || Ok(()), |()| operation())
}

/// As [`time_by`], with something for each run that is made before and dropped after it, uncounted.
#[inline(always)]
pub fn time_prepared<P, R: PartialEq + std::fmt::Debug>(
    counter: impl Fn() -> u64,
    n: usize,
    good: R,
    mut prepare: impl FnMut() -> Result<P, String>,
    mut operation: impl FnMut(&mut P) -> R,
) -> Result<Figure, String> {
    let mut samples = Vec::with_capacity(n);
    for i in 0..n + WARM_UP {
        let mut prepared = prepare()?;
        let before = counter();
        let returned = operation(&mut prepared);
        let after = counter();
        if returned != good {
            let error = std::io::Error::last_os_error();
            return Err(format!("returned {returned:?} and not {good:?} ({error})"));
        }
        if i >= WARM_UP {
            samples.push(after.saturating_sub(before));
        }
    }
    Figure::of(&mut samples).ok_or_else(|| "not measured".into())
}

/// Figures by name, in the order in which they were measured; for those that
/// could not be, why.
#[derive(Default)]
pub struct Figures(Vec<(String, Result<Figure, String>)>);

impl Figures {
    /// Adds one.
    pub fn add(&mut self, name: &str, figure: Result<Figure, String>) {
        self.0.push((name.to_owned(), figure));
    }

    /// Adds those of another.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The median of `name`, when it was measured.
    pub fn median(&self, name: &str) -> Option<u64> {
        let (_, figure) = self.0.iter().find(|(found, _)| found == name)?;
        figure.as_ref().ok().map(|figure| figure.median)
    }

    /// The table of all.
    pub fn table(&self) -> String {
        let mut table = format!(
            "{:<36} {:>9} {:>9} {:>9} {:>6}\n",
            "operation", "min", "median", "p99", "n"
        );
        for (name, figure) in &self.0 {
            // Writing to a string does not fail.
            let _ = match figure {
                Ok(Figure {
                    min,
                    median,
                    p99,
                    n,
                }) => {
                    writeln!(table, "{name:<36} {min:>9} {median:>9} {p99:>9} {n:>6}")
                }
                Err(why) => writeln!(table, "{name:<36} not measured: {why}"),
            };
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_statistics() {
        let mut samples: Vec<u64> = (1..=200).rev().collect();
        let figure = Figure::of(&mut samples).unwrap();
        assert_eq!((figure.min, figure.median, figure.p99), (1, 101, 199));
        assert_eq!(Figure::of(&mut []), None);
        let one = Figure::of(&mut [7]).unwrap();
        assert_eq!(one, Figure::single(7));
    }

    #[test]
    fn failing_operations_are_not_measured() {
        let mut runs = 0;
        let good = time(10, 0, || {
            runs += 1;
            0
        });
        assert_eq!(good.unwrap().n, 10);
        assert_eq!(runs, 10 + WARM_UP);
        assert!(time(10, 0, || -1).unwrap_err().contains("-1"));
    }

    #[test]
    fn what_is_missing_says_why() {
        let mut figures = Figures::default();
        figures.add("a", Ok(Figure::single(5)));
        figures.add("b", Err("no device".into()));
        assert_eq!(figures.median("a"), Some(5));
        assert_eq!(figures.median("b"), None);
        assert_eq!(figures.median("c"), None);
        let table = figures.table();
        assert_eq!(table.lines().count(), 3);
        assert!(table.contains("not measured: no device"));
    }
}
