// SPDX-License-Identifier: GPL-2.0
//! Copies of the checkout that are built with a change.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// What no build reads.
const LEFT_OUT: &[&str] = &[".git", "target", "Documentation"];

/// Makes `to` a copy of the checkout `from`. What is the same already keeps its time, so that
/// a build has nothing to do for it; files named `except` are the caller's.
pub fn tree(from: &Path, to: &Path, except: Option<&str>) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    let mut kept = Vec::new();
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if LEFT_OUT.iter().any(|left| name == *left) {
            continue;
        }
        let (source, copy) = (entry.path(), to.join(&name));
        if entry.file_type()?.is_dir() {
            tree(&source, &copy, except)?;
        } else if except.is_none_or(|except| name != except) {
            let bytes =
                fs::read(&source).with_context(|| format!("reading {}", source.display()))?;
            if fs::read(&copy).ok().as_ref() != Some(&bytes) {
                fs::write(&copy, bytes).with_context(|| format!("writing {}", copy.display()))?;
            }
        }
        kept.push(name);
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if !kept.contains(&entry.file_name()) {
            crate::step::remove(&entry.path())?;
        }
    }
    if kept.is_empty() && from.join("Makefile").exists() {
        bail!("nothing was copied from {}", from.display());
    }
    Ok(())
}
