// SPDX-License-Identifier: GPL-2.0
//! Where our modules can panic, and why each of these places never does.
//!
//! A call of `core::panicking` is told its place in the source, as a constant of type
//! `core::panic::Location` in the module's read-only data. So those constants are all the places
//! there are, however the compiler has inlined and merged the calls. Each has to be in
//! `tools/testing/panics.toml` with an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex};
use serde::Deserialize;

use crate::kernel::Kernel;
use crate::modules;
use crate::place::Place;

/// Where the standard library's source is, as its own build says.
const RUST_SOURCE: &str = "/usr/lib/rustlib/src/rust/";

/// Bytes of a `Location`: address and length of the file's name, line, column.
const LOCATION: usize = 24;

/// No path is longer.
const PATH_MAX: u64 = 4096;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    #[serde(default)]
    panic: Vec<Entry>,
}

/// A place that is known, or several whose source reads alike.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Relative to the checkout; `kernel/...` and `rust/...` for code that others have written.
    file: String,
    /// The line of source, without its indentation. For others' code, where one argument does for
    /// all that is inlined from a file, it may be left out.
    line: Option<String>,
    why: String,
}

/// A place where a module can panic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Site {
    file: String,
    line: String,
}

/// Fails if a module of `kernel` can panic where `panics.toml` does not say why it never does, or
/// if that file says so of a place that no module has.
pub fn check(place: &Place, kernel: &Kernel) -> Result<()> {
    let path = place.tree.join("tools/testing/panics.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let known: Known = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let modules = modules::build(place, kernel)?;
    let mut sites: BTreeMap<Site, BTreeSet<String>> = BTreeMap::new();

    for file in &modules.files {
        let path = modules.folder.join(file);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let found = locations(&bytes).with_context(|| path.display().to_string())?;
        for (source, line) in found {
            let site = site(place, kernel, &source, line)?;
            let module = file.file_name().unwrap_or_default().to_string_lossy();
            sites.entry(site).or_default().insert(module.into_owned());
        }
    }
    judge(&sites, &known.panic)
}

fn judge(sites: &BTreeMap<Site, BTreeSet<String>>, known: &[Entry]) -> Result<()> {
    let fits = |entry: &Entry, site: &Site| {
        entry.file == site.file && entry.line.as_ref().is_none_or(|line| *line == site.line)
    };
    let mut wrong = Vec::new();

    for (site, modules) in sites {
        if !known.iter().any(|entry| fits(entry, site)) {
            let modules: Vec<&str> = modules.iter().map(String::as_str).collect();
            wrong.push(format!(
                "[[panic]] # in {}; not known: make it impossible, or say here why it never happens\n\
                 file = {:?}\nline = {:?}\nwhy = \"\"",
                modules.join(", "),
                site.file,
                site.line
            ));
        }
    }
    for entry in known {
        let line = entry.line.as_deref().unwrap_or("any line");
        if !sites.keys().any(|site| fits(entry, site)) {
            wrong.push(format!(
                "no module can panic any more at '{line}' of {}: take it out of panics.toml",
                entry.file
            ));
        }
        if entry.why.trim().is_empty() {
            wrong.push(format!("no argument for '{line}' of {}", entry.file));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{}", wrong.join("\n"));
}

/// Whose file it is, and what stands there.
fn site(place: &Place, kernel: &Kernel, source: &str, line: u32) -> Result<Site> {
    let full = Path::new(source);
    let (file, readable) = if let Ok(own) = full.strip_prefix(&place.tree) {
        (own.display().to_string(), full.to_owned())
    } else if let Ok(theirs) = full.strip_prefix(&kernel.source) {
        (format!("kernel/{}", theirs.display()), full.to_owned())
    } else if let Some(rest) = source.strip_prefix(RUST_SOURCE) {
        (format!("rust/{rest}"), full.to_owned())
    } else {
        bail!("a panic in {source}, line {line}, which is in no tree that is known");
    };
    let text =
        fs::read_to_string(&readable).with_context(|| format!("reading {}", readable.display()))?;
    let line = (line as usize)
        .checked_sub(1)
        .and_then(|index| text.lines().nth(index))
        .with_context(|| format!("{source} has no line {line}"))?;

    Ok(Site {
        file,
        line: line.trim().to_owned(),
    })
}

/// The file and line of each `Location` in a module.
fn locations(module: &[u8]) -> Result<Vec<(String, u32)>> {
    let elf: ElfFile64 = ElfFile64::parse(module).context("not a module")?;
    let mut found = Vec::new();

    for section in elf.sections() {
        let name = section.name().unwrap_or_default();
        if !name.starts_with(".rodata") && !name.starts_with(".data.rel.ro") {
            continue;
        }
        let data = section.data()?;
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(symbol) = relocation.target() else {
                continue;
            };
            let symbol = elf.symbol_by_index(symbol)?;
            let Some(target) = symbol.section_index() else {
                continue;
            };
            let address = symbol.address().wrapping_add_signed(relocation.addend());
            if let Some(location) = location(&elf, data, offset, target, address) {
                found.push(location);
            }
        }
    }
    Ok(found)
}

/// The `Location` at `offset` of `data`, whose name is at `address` of section `target`.
fn location(
    elf: &ElfFile64,
    data: &[u8],
    offset: u64,
    target: SectionIndex,
    address: u64,
) -> Option<(String, u32)> {
    let start = usize::try_from(offset).ok()?;
    let bytes = data.get(start..start.checked_add(LOCATION)?)?;
    let len = u64::from_le_bytes(*bytes.get(8..)?.first_chunk()?);
    let line = u32::from_le_bytes(*bytes.get(16..)?.first_chunk()?);
    if len > PATH_MAX {
        return None;
    }
    let section = elf.section_by_index(target).ok()?;
    let name = section.data_range(address, len).ok()??;
    let name = std::str::from_utf8(name).ok()?;

    (name.ends_with(".rs") && !name.contains('\0') && line > 0).then(|| (name.to_owned(), line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites() -> BTreeMap<Site, BTreeSet<String>> {
        let site = Site {
            file: "a.rs".to_owned(),
            line: "x + 1".to_owned(),
        };
        BTreeMap::from([(site, BTreeSet::from(["a.ko".to_owned()]))])
    }

    fn entry(line: Option<&str>, why: &str) -> Entry {
        Entry {
            file: "a.rs".to_owned(),
            line: line.map(str::to_owned),
            why: why.to_owned(),
        }
    }

    #[test]
    fn a_place_with_an_argument() {
        assert!(judge(&sites(), &[entry(Some("x + 1"), "x is small")]).is_ok());
        assert!(judge(&sites(), &[entry(None, "all are small")]).is_ok());
    }

    #[test]
    fn a_place_that_nobody_knows() {
        let error = judge(&sites(), &[]).unwrap_err().to_string();
        assert!(error.contains("a.ko") && error.contains("x + 1"), "{error}");
    }

    #[test]
    fn an_argument_for_nothing() {
        let known = [entry(None, "small"), entry(Some("y + 1"), "small too")];
        let error = judge(&sites(), &known).unwrap_err().to_string();
        assert!(error.contains("y + 1"), "{error}");
    }

    #[test]
    fn no_argument() {
        assert!(judge(&sites(), &[entry(None, " ")]).is_err());
    }
}
