// SPDX-License-Identifier: GPL-2.0
//! Measuring in instructions, so that numbers do not depend on the machine. The guest's clock
//! counts them; where a device is waited for, a plugin of QEMU's does.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::guest::{Accel, Job};
use crate::place::Place;
use crate::programs;
use crate::report::say;
use crate::run::{Ready, exit_code, pass_on};
use crate::support;

pub fn run(place: &Place) -> Result<ExitCode> {
    let ready = Ready::new(place, support::flavour(support::REFERENCE)?)?;
    if !ready
        .programs
        .iter()
        .any(|path| path.ends_with("accel-bench"))
    {
        bail!("the workspace has no program accel-bench");
    }
    let plugin = programs::plugin(place)?;
    let boots = [
        Boot {
            what: "counting instructions",
            command: "accel-bench",
            accel: Accel::Counting,
            cpus: 1,
            npu: 0,
        },
        Boot {
            what: "scaling on two CPUs",
            command: "accel-bench --scaling",
            accel: Accel::Tcg,
            cpus: 2,
            npu: 0,
        },
        Boot {
            what: "jobs and mappings of the NPU",
            command: "accel-bench --npu --iterations 500",
            accel: Accel::Tcg,
            cpus: 1,
            npu: 1,
        },
    ];
    for boot in boots {
        say(format!("bench: {} ...", boot.what));
        let mut guest = ready.guest(place, Job::Command(format!("exec {}", boot.command)))?;
        if boot.accel == Accel::Counting {
            // The peers; nothing else is compared with them.
            guest.load.push("vgem".to_owned());
        }
        guest.accel = boot.accel;
        guest.cpus = boot.cpus;
        guest.npu = boot.npu;
        guest.plugin = (boot.npu > 0).then(|| plugin.clone());
        let ended = guest.run(pass_on)?;
        if ended.status != Some(0) || ended.trouble().is_some() {
            return Ok(exit_code(&ended));
        }
    }
    print!("\n{}", driver_lines(place)?);
    Ok(ExitCode::SUCCESS)
}

/// A guest that measures.
struct Boot {
    what: &'static str,
    command: &'static str,
    accel: Accel,
    cpus: usize,
    npu: usize,
}

/// How long the files of the NPU's driver are.
fn driver_lines(place: &Place) -> Result<String> {
    let folder = place.tree.join("drivers/pcie_npu");
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        // What the build generates in the checkout is not there.
        if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            files.push((name.into_owned(), text.lines().count()));
        }
    }
    files.sort();
    let total: usize = files.iter().map(|(_, lines)| lines).sum();
    let mut table = format!("{:<36} {:>9}\n", "drivers/pcie_npu", "lines");
    for (name, lines) in &files {
        table.push_str(&format!("{name:<36} {lines:>9}\n"));
    }
    table.push_str(&format!("{:<36} {total:>9}\n", "all"));
    Ok(table)
}
