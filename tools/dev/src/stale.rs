// SPDX-License-Identifier: GPL-2.0
//! A driver that was built against another core must not load: its idea of the core's types may
//! be wrong. A core that was only built again must still take it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::command::output;
use crate::copy;
use crate::guest::{Job, Said};
use crate::modules::{Modules, build_tree};
use crate::place::Place;
use crate::report::{say, seconds};
use crate::run::Ready;
use crate::tap::{self, Case, Outcome};
use crate::tests::{Tally, is_asked};

/// The root of the core's crate and the module that it becomes.
const CORE_SOURCE: &str = "accel_core.rs";
const CORE: &str = "accel.ko";
const CHANGE: &str = "\n// One line more.\n";

const JOB: &str = include_str!("../guest/stale-driver");

pub fn run(place: &Place, ready: &Ready, pattern: &str, tally: &mut Tally) -> Result<()> {
    let flavour = ready.kernel.flavour.name;
    let name = format!("{flavour}/stale-driver");
    if !is_asked(pattern, &name) {
        return Ok(());
    }
    let drivers = rust_drivers(&ready.modules)?;
    if drivers.is_empty() {
        say(format!("{name}: no Rust driver yet"));
        return Ok(());
    }
    let began = Instant::now();
    let same = core(place, ready, "same", "")?;
    let changed = core(place, ready, "changed", CHANGE)?;
    let mut guest = ready.guest(place, Job::Command(JOB.to_owned()))?;
    guest.load.clear();
    guest.limit = Duration::from_secs(120);
    let files = &mut guest.contents.files;
    files.push(("put/same/accel.ko".to_owned(), same));
    files.push(("put/changed/accel.ko".to_owned(), changed));
    for driver in drivers {
        let file = driver
            .file_name()
            .and_then(|name| name.to_str())
            .with_context(|| format!("{} has no name", driver.display()))?;
        files.push((format!("put/drivers/{file}"), driver.clone()));
    }
    let mut printed = Vec::new();
    let ended = guest.run(|said| {
        let (Said::Out(bytes) | Said::Err(bytes) | Said::Record(bytes)) = said;
        printed.extend_from_slice(bytes);
    })?;
    let mut cases = tap::cases(&String::from_utf8_lossy(&printed));
    if let Some(why) = ended.trouble() {
        cases.push(Case {
            name: "guest".to_owned(),
            outcome: Outcome::Failed(why),
        });
    }
    tally.add(&name, &cases, &seconds(began.elapsed()));
    Ok(())
}

/// Drivers that link against Rust symbols of the core; others have an ABI of their own.
fn rust_drivers(modules: &Modules) -> Result<Vec<PathBuf>> {
    let core = modules.folder.join(CORE);
    if !core.exists() {
        return Ok(Vec::new());
    }
    let defined = rust_symbols(&core, "--defined-only")?;
    let mut found = Vec::new();
    for file in &modules.files {
        let path = modules.folder.join(file);
        if path != core && !rust_symbols(&path, "--undefined-only")?.is_disjoint(&defined) {
            found.push(path);
        }
    }
    Ok(found)
}

fn rust_symbols(module: &Path, which: &str) -> Result<BTreeSet<String>> {
    let symbols = output(Command::new("nm").arg("-j").arg(which).arg(module))?;
    Ok(symbols
        .lines()
        .filter(|symbol| symbol.starts_with("_R"))
        .map(str::to_owned)
        .collect())
}

/// Builds a copy of the checkout with `change` at the end of the core; gives its core module.
fn core(place: &Place, ready: &Ready, which: &str, change: &str) -> Result<PathBuf> {
    let folder = place.work.join("stale").join(which);
    let tree = folder.join("tree");
    copy::tree(&place.tree, &tree, Some(CORE_SOURCE))?;
    let source = tree.join(CORE_SOURCE);
    let wanted = fs::read_to_string(place.tree.join(CORE_SOURCE))
        .with_context(|| format!("reading {CORE_SOURCE}"))?
        + change;
    if fs::read_to_string(&source).ok().as_deref() != Some(wanted.as_str()) {
        fs::write(&source, wanted).with_context(|| format!("writing {}", source.display()))?;
    }
    let build = folder.join(ready.kernel.flavour.name);
    let built = build_tree(place, &ready.kernel, &tree, &build)?;
    Ok(built.folder.join(CORE))
}
