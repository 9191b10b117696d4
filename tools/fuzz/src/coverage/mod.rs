// SPDX-License-Identifier: GPL-2.0
//! What of our modules was executed: the places that the compiler put a call of KCOV at, each with
//! a number, and which of them were hit.

mod elf;
mod report;

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};

use crate::devices;
use crate::program::THREADS_MAX;
use crate::sys::Kcov;

/// Words of a thread's buffer. What does not fit is not seen.
const WORDS: usize = 1 << 16;

/// What work items of the subsystem give to KCOV as their handle (bindings/helpers.c).
const REMOTE: u64 = 0xacce1;

/// A place that KCOV is called at: the beginning of a basic block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    pub module: String,
    pub section: String,
    /// Where the call returns to, from the beginning of the section.
    pub offset: u64,
    pub function: String,
    /// It leads to a panic of Rust and nowhere else: what was checked was wrong.
    pub is_panic: bool,
}

/// All places of all our modules that are loaded, and a buffer for each thread.
pub struct Coverage {
    sites: Vec<Site>,
    hit: Vec<bool>,
    /// Sections that have sites, each with the numbers of those, which follow one another.
    sections: Vec<Range<usize>>,
    /// Where the sections are.
    places: Vec<Option<u64>>,
    /// The numbers of sites by their addresses, as they follow from `places`.
    numbers: HashMap<u64, usize>,
    pub kcov: Vec<Kcov>,
    remote: Option<Kcov>,
}

/// Where a section of a loaded module is.
fn place(module: &str, section: &str) -> Option<u64> {
    let path = Path::new("/sys/module").join(module).join("sections");
    let text = fs::read_to_string(path.join(section)).ok()?;
    u64::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

/// Runs of sites that are in the same section.
fn sections(sites: &[Site]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (number, site) in sites.iter().enumerate() {
        match found.last_mut() {
            Some(last)
                if (&sites[last.start].module, &sites[last.start].section)
                    == (&site.module, &site.section) =>
            {
                last.end = number + 1;
            }
            _ => found.push(number..number + 1),
        }
    }
    found
}

impl Coverage {
    /// None where the kernel has no KCOV, or our modules were not built for it.
    pub fn new() -> Result<Option<Self>> {
        let mut sites = Vec::new();
        for (module, path) in devices::loaded_modules() {
            let file = fs::read(&path).with_context(|| path.display().to_string())?;
            sites.extend(
                elf::sites(&module, &file).with_context(|| format!("in {}", path.display()))?,
            );
        }
        if sites.is_empty() {
            return Ok(None);
        }
        let mut kcov = Vec::new();
        // One more for the end of a program.
        for _ in 0..=THREADS_MAX {
            match Kcov::new(WORDS) {
                Ok(one) => kcov.push(one),
                Err(libc::ENOENT) => return Ok(None),
                Err(errno) => {
                    let why = std::io::Error::from_raw_os_error(errno);
                    return Err(why).context("KCOV gives no buffer");
                }
            }
        }
        let remote = Kcov::new(WORDS).ok();
        // Work items are somebody else's threads: they run into this one.
        let remote = remote.filter(|kcov| kcov.enable_remote(REMOTE).is_ok());
        let mut coverage = Self {
            hit: vec![false; sites.len()],
            sections: sections(&sites),
            sites,
            places: Vec::new(),
            numbers: HashMap::new(),
            kcov,
            remote,
        };
        coverage.find_places();
        Ok(Some(coverage))
    }

    pub fn len(&self) -> usize {
        self.sites.len()
    }

    pub fn hits(&self) -> usize {
        self.hit.iter().filter(|hit| **hit).count()
    }

    /// Looks where the modules are; those that were unloaded and loaded are elsewhere.
    pub fn find_places(&mut self) {
        self.numbers.clear();
        self.places.clear();
        self.add_places();
    }

    /// The same, for a program that has loaded modules: what it hit before that counts too.
    pub fn add_places(&mut self) {
        let places = self.sections.iter().map(|range| {
            let site = &self.sites[range.start];
            place(&site.module, &site.section)
        });
        let places: Vec<_> = places.collect();
        if places == self.places {
            return;
        }
        for (range, place) in self.sections.iter().zip(&places) {
            // A module that is not there has no addresses.
            let Some(place) = place else { continue };
            for number in range.clone() {
                let address = place + self.sites[number].offset;
                let before = self.numbers.insert(address, number);
                // Of two modules that were there one after the other nobody knows which it was.
                if before.is_some_and(|before| before != number) {
                    self.numbers.remove(&address);
                }
            }
        }
        self.places = places;
    }

    /// Empties the buffers into `map`, which has a byte for each place.
    pub fn take(&mut self, map: &mut [u8]) {
        for kcov in self.kcov.iter().chain(&self.remote) {
            kcov.take(|address| {
                if let Some(number) = self.numbers.get(&address) {
                    map[*number] = 1;
                    self.hit[*number] = true;
                }
            });
        }
    }

    /// What was hit and what never was, in tables.
    pub fn report(&self) -> String {
        report::tables(&self.sites, &self.hit)
    }

    /// A line for each function.
    pub fn functions(&self) -> Vec<String> {
        report::functions(&self.sites, &self.hit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_of_a_section_follow_one_another() {
        let site = |module: &str, section: &str| Site {
            module: module.to_owned(),
            section: section.to_owned(),
            offset: 0,
            function: String::new(),
            is_panic: false,
        };
        let sites = [
            site("a", ".text"),
            site("a", ".text"),
            site("a", ".text.x"),
            site("b", ".text.x"),
        ];
        assert_eq!(sections(&sites), [0..2, 2..3, 3..4]);
        assert!(sections(&[]).is_empty());
    }
}
