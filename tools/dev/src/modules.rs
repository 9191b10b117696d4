// SPDX-License-Identifier: GPL-2.0
//! Building the kernel modules of the checkout, outside the checkout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command::{logged, tied};
use crate::kernel::{Kernel, jobs};
use crate::place::Place;
use crate::report::{say, seconds};
use crate::step::{self, Lock};

/// A build that took less had nothing to do, which is not worth a line.
const NOTABLE: Duration = Duration::from_secs(2);

/// Modules of one tree, built for one kernel.
#[derive(Debug, Clone)]
pub struct Modules {
    /// Where they are; below it they lie as in the tree.
    pub folder: PathBuf,
    /// The `.ko` files, relative to `folder`, in the order of loading.
    pub files: Vec<PathBuf>,
}

impl Modules {
    /// The names by which modprobe knows those that a guest loads by itself. What lies among the
    /// tools is for those who ask for it.
    pub fn loaded_by_default(&self) -> Vec<String> {
        self.files
            .iter()
            .filter(|file| !file.starts_with("tools"))
            .filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()))
            .collect()
    }
}

/// Builds the checkout's modules and shows kbuild's output only if that fails.
pub fn build(place: &Place, kernel: &Kernel) -> Result<Modules> {
    let folder = place.work.join("build").join(kernel.flavour.name);
    build_tree(place, kernel, &place.tree, &folder)
}

/// Builds the modules of any `tree` into `folder`.
pub fn build_tree(place: &Place, kernel: &Kernel, tree: &Path, folder: &Path) -> Result<Modules> {
    let _lock = lock(place)?;
    let started = Instant::now();
    let log = format!("modules-{}.log", kernel.flavour.name);
    logged(
        &mut kbuild(kernel, tree, folder, &["modules"])?,
        &place.log(&log),
        &format!("modules for {}", kernel.release),
    )?;
    if started.elapsed() > NOTABLE {
        say(format!(
            "modules for {}: built in {}",
            kernel.release,
            seconds(started.elapsed())
        ));
    }
    built(folder)
}

/// Builds the checkout's modules with kbuild's output shown as it comes.
pub fn build_shown(place: &Place, kernel: &Kernel) -> Result<()> {
    let folder = place.work.join("build").join(kernel.flavour.name);
    let _lock = lock(place)?;
    let status = kbuild(kernel, &place.tree, &folder, &["modules"])?
        .stdin(Stdio::null())
        .status()
        .context("starting make")?;
    if !status.success() {
        bail!("the modules for {} do not build", kernel.release);
    }
    say(format!(
        "modules for {} are in {}",
        kernel.release,
        folder.display()
    ));
    Ok(())
}

/// Builds somebody's driver in its own `folder`, against the core of this checkout.
pub fn build_foreign(place: &Place, kernel: &Kernel, folder: &Path) -> Result<()> {
    let core = build(place, kernel)?;
    let symbols = core.folder.join("Module.symvers");
    let status = kbuild(
        kernel,
        folder,
        folder,
        &[
            "modules",
            &format!("KBUILD_EXTRA_SYMBOLS={}", symbols.display()),
            &format!("ACCEL_OBJ={}", core.folder.display()),
            &format!("ACCEL_SRC={}", place.tree.display()),
        ],
    )?
    .stdin(Stdio::null())
    .status()
    .context("starting make")?;
    if !status.success() {
        bail!("the modules in {} do not build", folder.display());
    }
    Ok(())
}

/// Builds the checkout's modules into `folder` with more arguments for kbuild; gives its output.
pub fn build_anew(
    place: &Place,
    kernel: &Kernel,
    folder: &Path,
    arguments: &[&str],
) -> Result<String> {
    let _lock = lock(place)?;
    step::remove(folder)?;
    let log = place.log("modules-check.log");
    let mut all = vec!["modules"];
    all.extend(arguments);
    logged(
        &mut kbuild(kernel, &place.tree, folder, &all)?,
        &log,
        &format!("modules for {}", kernel.release),
    )?;
    fs::read_to_string(&log).with_context(|| format!("reading {}", log.display()))
}

fn lock(place: &Place) -> Result<Lock> {
    Lock::take(&place.work.join("build.lock"), "building this checkout")
}

fn kbuild(kernel: &Kernel, tree: &Path, folder: &Path, arguments: &[&str]) -> Result<Command> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut make = tied("make");
    make.arg("-C")
        .arg(&kernel.build)
        .arg(format!("M={}", tree.display()))
        .arg(format!("MO={}", folder.display()))
        .arg(&kernel.toolchain)
        .arg(jobs())
        .args(arguments);
    Ok(make)
}

fn built(folder: &Path) -> Result<Modules> {
    let order = folder.join("modules.order");
    let text =
        fs::read_to_string(&order).with_context(|| format!("reading {}", order.display()))?;
    Ok(Modules {
        folder: folder.to_owned(),
        files: text
            .lines()
            .map(|line| {
                let path = Path::new(line);
                path.strip_prefix(folder)
                    .unwrap_or(path)
                    .with_extension("ko")
            })
            .collect(),
    })
}
