// SPDX-License-Identifier: GPL-2.0
//! Measuring: the guest's clock counts instructions, so that numbers do not depend on the machine.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::guest::{Accel, Job};
use crate::place::Place;
use crate::report::say;
use crate::run::{Ready, exit_code, pass_on};
use crate::support;

/// Peers that are compared with need what the cloud kernel lacks.
const FLAVOUR: &str = "amd64";

pub fn run(place: &Place) -> Result<ExitCode> {
    let ready = Ready::new(place, support::flavour(FLAVOUR)?)?;
    if !ready
        .programs
        .iter()
        .any(|path| path.ends_with("accel-bench"))
    {
        bail!("the workspace has no program accel-bench");
    }
    let boots = [
        ("counting instructions", Accel::Counting, 1, "accel-bench"),
        (
            "scaling on two CPUs",
            Accel::Tcg,
            2,
            "accel-bench --scaling",
        ),
    ];
    for (what, accel, cpus, command) in boots {
        say(format!("bench: {what} ..."));
        let mut guest = ready.guest(place, Job::Command(format!("exec {command}")))?;
        guest.load.push("vgem".to_owned());
        guest.accel = accel;
        guest.cpus = cpus;
        let ended = guest.run(pass_on)?;
        if ended.status != Some(0) || ended.trouble().is_some() {
            return Ok(exit_code(&ended));
        }
    }
    Ok(ExitCode::SUCCESS)
}
