// SPDX-License-Identifier: GPL-2.0
//! The project's own rules about files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const MOST_LINES: usize = 800;

/// Kinds of files that carry a licence line.
const LICENSED: &[&str] = &["rs", "c", "h", "sh", "toml", "rst", "S", "lds", "patch"];
const LICENSED_NAMES: &[&str] = &["Makefile", "Kbuild", "Kconfig"];

/// All files of a checkout, relative to it; without what tools put there.
pub fn files(tree: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in walk(tree)? {
        let path = path.strip_prefix(tree).unwrap_or(&path).to_owned();
        let left_out = path.starts_with(".git") || path.starts_with("tools/target");
        if !left_out {
            found.push(path);
        }
    }
    Ok(found)
}

/// All files below a folder, in order.
pub fn walk(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                left.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

pub fn sizes(tree: &Path, files: &[PathBuf]) -> Result<()> {
    complain(files, |path| {
        if path.ends_with("Cargo.lock") {
            return Ok(None);
        }
        let lines = read(tree, path)?.lines().count();
        Ok(
            (lines > MOST_LINES)
                .then(|| format!("{lines} lines, at most {MOST_LINES} are allowed")),
        )
    })
}

pub fn licences(tree: &Path, files: &[PathBuf]) -> Result<()> {
    complain(files, |path| {
        let end = path
            .extension()
            .and_then(|end| end.to_str())
            .unwrap_or_default();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if !LICENSED.contains(&end) && !LICENSED_NAMES.contains(&name) {
            return Ok(None);
        }
        let text = read(tree, path)?;
        let has = text
            .lines()
            .take(3)
            .any(|line| line.contains("SPDX-License-Identifier:"));
        Ok((!has).then(|| "no SPDX-License-Identifier in the first lines".to_owned()))
    })
}

/// Drivers and samples in Rust have no unsafe code: if one needs it, the core lacks a wrapper.
pub fn no_unsafe(tree: &Path, files: &[PathBuf]) -> Result<()> {
    no_line_of_drivers(tree, files, has_unsafe)
}

fn has_unsafe(line: &str) -> bool {
    words(line).any(|word| word == "unsafe")
}

/// The words of a line's code.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let code = line.split("//").next().unwrap_or_default();
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

/// Drivers and samples have nothing to end: no remove function, no `Drop`. What they have is owned
/// by the core, which ends it in the right order.
pub fn no_cleanup(tree: &Path, files: &[PathBuf]) -> Result<()> {
    no_line_of_drivers(tree, files, cleans_up)
}

/// Whether this begins a cleanup of the driver's own: an implementation of `Drop`, or the callback
/// of a bus for the end of a device.
fn cleans_up(line: &str) -> bool {
    let words: Vec<&str> = words(line).collect();
    let pair = |first: &str, second: &str| words.windows(2).any(|two| two == [first, second]);
    pair("Drop", "for") || pair("PinnedDrop", "for") || pair("fn", "unbind")
}

/// No line of the drivers and samples in Rust is `bad`: names the first of each file.
fn no_line_of_drivers(tree: &Path, files: &[PathBuf], bad: fn(&str) -> bool) -> Result<()> {
    complain(files, |path| {
        let is_theirs = path.starts_with("drivers") || path.starts_with("samples");
        if !is_theirs || path.extension().is_none_or(|end| end != "rs") {
            return Ok(None);
        }
        let text = read(tree, path)?;
        let found = text
            .lines()
            .enumerate()
            .find(|(_, line)| bad(line))
            .map(|(number, line)| format!("line {}: {}", number + 1, line.trim()));
        Ok(found)
    })
}

fn read(tree: &Path, path: &Path) -> Result<String> {
    let full = tree.join(path);
    let bytes = fs::read(&full).with_context(|| format!("reading {}", full.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn complain(
    files: &[PathBuf],
    mut judge: impl FnMut(&Path) -> Result<Option<String>>,
) -> Result<()> {
    let mut complaints = Vec::new();
    for path in files {
        if let Some(complaint) = judge(path)? {
            complaints.push(format!("  {}: {complaint}", path.display()));
        }
    }
    if complaints.is_empty() {
        return Ok(());
    }
    bail!("{}", complaints.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleanups_are_seen() {
        assert!(cleans_up("impl Drop for Registers<'_> {"));
        assert!(cleans_up("impl PinnedDrop for X {"));
        assert!(cleans_up(
            "    fn unbind<'bound>(dev: &'bound Device<Core<'_>>) {"
        ));
        assert!(!cleans_up("// impl Drop for X is not needed"));
        assert!(!cleans_up("        drop(later.job);"));
    }

    #[test]
    fn unsafe_is_a_word_of_code() {
        assert!(has_unsafe("    unsafe { f() }"));
        assert!(has_unsafe("unsafe impl Send for X {}"));
        assert!(!has_unsafe("// unsafe"));
        assert!(!has_unsafe("#![deny(unsafe_code)]"));
    }
}
