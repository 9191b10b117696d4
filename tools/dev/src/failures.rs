// SPDX-License-Identifier: GPL-2.0
//! Where in our modules something can fail, and where the tests had it fail.
//!
//! A failed allocation is noticed in the kernel's log by the return address of the nearest frame of
//! ours, so by a call from one of our modules. Every call of a function of which a call has failed
//! is a place that can fail: those are counted in the modules' relocations.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget};

use crate::modules::Modules;
use crate::place::Place;
use crate::report::line;
use crate::run::Ready;

/// What the test program `fail_nth` begins such a line with.
const MARK: &str = "# failed at: ";

/// Bytes from the relocation of a call to where it returns.
const RETURN: u64 = 4;

/// A call in a module.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    /// The function that it is in.
    caller: String,
    /// From the function's beginning to where the call returns.
    offset: u64,
    callee: String,
}

/// Calls that can fail: all of them, and those that did not.
#[derive(Debug, Default, PartialEq, Eq)]
struct Failures {
    places: usize,
    hit: usize,
    /// `module: caller -> callee` of those that no test had fail.
    missed: Vec<String>,
}

/// What a test program said that it had fail.
pub fn read(output: &str) -> impl Iterator<Item = String> {
    output
        .lines()
        .filter_map(|line| line.split_once(MARK))
        .map(|(_, place)| place.trim().to_owned())
}

/// Whether a line of a program is one of those.
pub fn is_place(line: &str) -> bool {
    line.contains(MARK)
}

/// Prints how much of what can fail did, and writes what did not into a log.
pub fn show(place: &Place, ready: &Ready, failed: &BTreeSet<String>) -> Result<()> {
    let found = count(&ready.modules, failed)?;
    let log = place.log("not-failed.log");

    fs::write(&log, found.missed.join("\n"))
        .with_context(|| format!("writing {}", log.display()))?;
    line(format!(
        "{} of {} calls that can fail for want of memory, or of the user's, did; the others are in {}",
        found.hit,
        found.places,
        log.display()
    ));
    Ok(())
}

/// Compares what failed (`module symbol+offset/size`, a line each) with what there is.
fn count(modules: &Modules, failed: &BTreeSet<String>) -> Result<Failures> {
    let mut calls = BTreeMap::new();

    for file in &modules.files {
        // Tools and tests are not what is tested.
        if file.starts_with("tools") {
            continue;
        }
        let path = modules.folder.join(file);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let module = file
            .file_stem()
            .map(|name| name.to_string_lossy().replace('-', "_"))
            .unwrap_or_default();

        calls.insert(
            module,
            calls_in(&bytes).with_context(|| path.display().to_string())?,
        );
    }
    Ok(compare(&calls, failed))
}

fn compare(calls: &BTreeMap<String, Vec<Call>>, failed: &BTreeSet<String>) -> Failures {
    let hit: BTreeSet<(&str, &Call)> = failed
        .iter()
        .filter_map(|line| {
            let (module, frame) = line.split_once(' ')?;
            let (symbol, rest) = frame.rsplit_once("+0x")?;
            let offset = u64::from_str_radix(rest.split('/').next()?, 16).ok()?;
            let (module, calls) = calls.get_key_value(module)?;

            calls
                .iter()
                .find(|call| call.caller == symbol && call.offset == offset)
                .map(|call| (module.as_str(), call))
        })
        .collect();
    let callees: BTreeSet<&str> = hit.iter().map(|(_, call)| call.callee.as_str()).collect();
    let mut found = Failures::default();

    for (module, calls) in calls {
        for call in calls {
            if !callees.contains(call.callee.as_str()) || is_exempt(&call.caller) {
                continue;
            }
            found.places += 1;
            if hit.contains(&(module.as_str(), call)) {
                found.hit += 1;
            } else {
                found
                    .missed
                    .push(format!("{module}: {} -> {}", call.caller, call.callee));
            }
        }
    }
    found
}

/// Whether nothing fails in a function (by its mangled name) that calls what can: memory is freed by
/// a call that allocates too, and KUnit's suites are tests themselves.
fn is_exempt(function: &str) -> bool {
    function.contains("13drop_in_place") || function.contains("_tests")
}

/// The calls from one function of a module's to another, or to the kernel's.
fn calls_in(module: &[u8]) -> Result<Vec<Call>> {
    let elf: ElfFile64 = ElfFile64::parse(module).context("not a module")?;
    let mut found = Vec::new();

    for section in elf.sections() {
        if !section.name().unwrap_or_default().starts_with(".text") {
            continue;
        }
        let mut functions: Vec<(u64, u64, &str)> = elf
            .symbols()
            .filter(|symbol| symbol.section_index() == Some(section.index()))
            .filter(|symbol| symbol.size() > 0)
            .filter_map(|symbol| Some((symbol.address(), symbol.size(), symbol.name().ok()?)))
            .collect();
        functions.sort_unstable();
        for (at, relocation) in section.relocations() {
            let RelocationTarget::Symbol(symbol) = relocation.target() else {
                continue;
            };
            let returns = at + RETURN;
            let last = functions.partition_point(|(start, _, _)| *start < returns);
            let Some((start, size, caller)) = last.checked_sub(1).map(|last| functions[last])
            else {
                continue;
            };
            let callee = elf.symbol_by_index(symbol)?;
            if returns <= start + size && !callee.name()?.is_empty() {
                found.push(Call {
                    caller: caller.to_owned(),
                    offset: returns - start,
                    callee: callee.name()?.to_owned(),
                });
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(caller: &str, offset: u64, callee: &str) -> Call {
        Call {
            caller: caller.to_owned(),
            offset,
            callee: callee.to_owned(),
        }
    }

    #[test]
    fn a_function_that_failed_once_can_fail_everywhere() {
        let calls = BTreeMap::from([(
            "accel".to_owned(),
            vec![
                call("open", 0x10, "kmalloc"),
                call("open", 0x30, "kmalloc"),
                call("open", 0x50, "printk"),
                call("_RINv3core3ptr13drop_in_place", 0x10, "kmalloc"),
            ],
        )]);
        let failed = BTreeSet::from([
            "accel open+0x10/0x80".to_owned(),
            // Nothing of ours returns there.
            "accel open+0x11/0x80".to_owned(),
            "other open+0x10/0x80".to_owned(),
        ]);

        assert_eq!(
            compare(&calls, &failed),
            Failures {
                places: 2,
                hit: 1,
                missed: vec!["accel: open -> kmalloc".to_owned()],
            }
        );
    }
}
