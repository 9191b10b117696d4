// SPDX-License-Identifier: GPL-2.0
//! Whether the checkout builds as a folder of a kernel tree, as modules and built in.
//!
//! The tree is the one that a kernel of ours was built in. Nothing of it is changed: the checkout
//! and the two files that have to name it are mounted into the source for the time of the build,
//! and what kbuild writes goes to a copy.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::command::{logged, output, tied};
use crate::copy;
use crate::kernel::{built, jobs};
use crate::place::Place;
use crate::report::seconds;
use crate::run::Ready;
use crate::step::{self, Lock};
use crate::tap::{Case, Outcome};
use crate::tests::{Tally, is_asked};

/// Where the checkout belongs in a kernel tree.
const FOLDER: &str = "drivers/compute_accel";
/// The line that each of the files has then.
const NAMED_IN: [(&str, &str); 2] = [
    (
        "drivers/Kconfig",
        "source \"drivers/compute_accel/Kconfig\"\n",
    ),
    (
        "drivers/Makefile",
        "obj-$(CONFIG_COMPUTE_ACCEL) += compute_accel/\n",
    ),
];
/// What Kconfig has to offer.
const SYMBOLS: [&str; 5] = ["", "_EDU", "_PCIE_NPU", "_MOCK", "_NULL"];
/// The modules of these symbols.
const MODULES: [&str; 5] = [
    "accel",
    "drivers/edu/accel_edu",
    "drivers/pcie_npu/accel_pcie_npu",
    "drivers/mock/accel_mock",
    "samples/accel_null",
];
/// Objects that are in the kernel when all is built in.
const OBJECTS: [&str; 5] = [
    "accel_core.o",
    "accel_edu.o",
    "accel_pcie_npu.o",
    "accel_mock.o",
    "accel_null.o",
];
/// Parts of the kernel's build folder that building a folder of it does not read.
const NOT_COPIED: [&str; 18] = [
    "./.tmp_vmlinux*",
    "./vmlinux",
    "./vmlinux.a",
    "./vmlinux.unstripped",
    "./installed",
    "./arch/x86/boot/*",
    "./block/*.o",
    "./crypto/*.o",
    "./drivers/*.o",
    "./fs/*.o",
    "./init/*.o",
    "./io_uring/*.o",
    "./ipc/*.o",
    "./kernel/*.o",
    "./lib/*.o",
    "./mm/*.o",
    "./net/*.o",
    "./security/*.o",
];

pub fn run(place: &Place, ready: &Ready, pattern: &str, tally: &mut Tally) -> Result<()> {
    let name = format!("{}/in-tree", ready.kernel.flavour.name);
    if !is_asked(pattern, &name) {
        return Ok(());
    }
    let began = Instant::now();
    let _lock = Lock::take(&place.work.join("in-tree.lock"), "building this checkout")?;
    let tree = Tree::prepare(place, ready)?;
    let cases = [("modules", "m"), ("built-in", "y")].map(|(name, value)| Case {
        name: name.to_owned(),
        outcome: match tree.build(value) {
            Ok(()) => Outcome::Passed,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        },
    });
    tally.add(&name, &cases, &seconds(began.elapsed()));
    Ok(())
}

struct Tree<'a> {
    place: &'a Place,
    ready: &'a Ready,
    folder: PathBuf,
}

impl<'a> Tree<'a> {
    fn prepare(place: &'a Place, ready: &'a Ready) -> Result<Self> {
        let folder = place.work.join("in-tree");
        let kernel = &ready.kernel;
        step::folder(
            &folder.join("build"),
            &kernel.made_of,
            "copy of the kernel's build folder",
            |to| {
                let excluded = NOT_COPIED.map(|pattern| format!("--exclude={pattern}"));
                logged(
                    tied("sh")
                        .args([
                            "-c",
                            "cd \"$0\" && to=$1 && shift && tar -c \"$@\" . | tar -x -C \"$to\"",
                        ])
                        .arg(&kernel.build)
                        .arg(to)
                        .args(excluded),
                    &place.log("in-tree-copy.log"),
                    "copying",
                )
            },
        )?;
        copy::tree(&place.tree, &folder.join("tree"), None)?;
        for (file, line) in NAMED_IN {
            let text = fs::read_to_string(kernel.source.join(file))
                .with_context(|| format!("reading {file}"))?;
            // Kconfig's menu of drivers ends with the last line.
            let text = match text.trim_end().strip_suffix("endmenu") {
                Some(menu) => format!("{menu}{line}endmenu\n"),
                None => text + line,
            };
            fs::write(folder.join(flat(file)), text)?;
        }
        fs::create_dir_all(kernel.source.join(FOLDER))?;
        Ok(Self {
            place,
            ready,
            folder,
        })
    }

    /// Builds all as modules (`m`), or for a kernel that has them built in (`y`).
    ///
    /// Kconfig is asked apart from that: with a configuration that differs from the kernel's in
    /// any way, kbuild makes the kernel's own crates again, which takes minutes.
    fn build(&self, value: &str) -> Result<()> {
        let kernel = &self.ready.kernel;
        let log = self.place.log(&format!("in-tree-{value}.log"));
        let wanted = SYMBOLS.map(|symbol| format!("CONFIG_COMPUTE_ACCEL{symbol}={value}"));
        let config = self.folder.join("build/in-tree.config");
        let original = fs::read_to_string(kernel.build.join(".config"))?;
        fs::write(&config, format!("{original}{}\n", wanted.join("\n")))?;
        logged(
            self.make(&["drivers/Kconfig"])
                .arg("KCONFIG_CONFIG=in-tree.config")
                .arg("olddefconfig"),
            &log,
            "configuring",
        )?;
        let resolved = fs::read_to_string(&config)?;
        let missing = built::missing(&wanted.join("\n"), &resolved).join(" ");
        if !missing.is_empty() {
            bail!("Kconfig does not grant {missing}");
        }

        let mut make = self.make(&["drivers/Makefile"]);
        make.args(&wanted);
        let build = self.folder.join("build").join(FOLDER);
        if value == "m" {
            make.args(MODULES.map(|name| format!("{FOLDER}/{name}.ko")));
            logged(&mut make, &log, "building modules")?;
            return MODULES.iter().try_for_each(|name| {
                let file = build.join(format!("{name}.ko"));
                fs::metadata(&file)
                    .map(drop)
                    .with_context(|| format!("looking for {}", file.display()))
            });
        }
        logged(make.arg(format!("{FOLDER}/")), &log, "building")?;
        // The archive of a folder has what the folders below it have.
        let members = output(Command::new("ar").arg("t").arg(build.join("built-in.a")))?;
        for object in OBJECTS {
            if !members.lines().any(|member| member.ends_with(object)) {
                bail!("built-in.a has no {object}");
            }
        }
        Ok(())
    }

    /// kbuild in the copy, with the checkout and `files` that name it in the source.
    fn make(&self, files: &[&str]) -> Command {
        let kernel = &self.ready.kernel;
        let mut mounts = vec![
            (self.folder.join("build"), kernel.build.clone()),
            (self.folder.join("tree"), kernel.source.join(FOLDER)),
        ];
        for file in files {
            mounts.push((self.folder.join(flat(file)), kernel.source.join(file)));
        }
        let mut make = built::mounted(&mounts);
        make.args(["make", "-C"])
            .arg(&kernel.build)
            .arg(&kernel.toolchain)
            .arg(jobs());
        make
    }
}

/// A name for a copy of `file`.
fn flat(file: &str) -> String {
    file.replace('/', "-")
}
