// SPDX-License-Identifier: GPL-2.0
//! Whether KVM works here. A guest really has to boot under it: on some machines `/dev/kvm`
//! opens, and guests hang.

use std::fs::{self, OpenOptions};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::guest::{Accel, Guest, Job};
use crate::image::Contents;
use crate::kernel::Kernel;
use crate::models::Interrupts;
use crate::place::Place;
use crate::report::say;

const PATIENCE: Duration = Duration::from_secs(6);

/// What guests run on here. The answer is kept until the host boots anew.
pub fn choose(place: &Place, kernel: &Kernel) -> Result<Accel> {
    match std::env::var("ACCEL_KVM").as_deref() {
        Ok("0") => return Ok(Accel::Tcg),
        Ok("1") => return Ok(Accel::Kvm),
        _ => {}
    }
    let can_open = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let key = format!("{} {can_open}", boot.trim());
    let record = place.cache.join("kvm");
    if let Ok(text) = fs::read_to_string(&record) {
        match text.rsplit_once(' ') {
            Some((found, "kvm")) if found == key => return Ok(Accel::Kvm),
            Some((found, "tcg")) if found == key => return Ok(Accel::Tcg),
            _ => {}
        }
    }
    let works = can_open && boots(place, kernel)?;
    say(match (can_open, works) {
        (_, true) => "guests run under KVM",
        (true, false) => "guests run under TCG: /dev/kvm is there, but no guest boots under it",
        (false, false) => "guests run under TCG: /dev/kvm is not there or not ours to use",
    });
    let word = if works { "kvm" } else { "tcg" };
    fs::write(&record, format!("{key} {word}"))
        .with_context(|| format!("writing {}", record.display()))?;
    Ok(if works { Accel::Kvm } else { Accel::Tcg })
}

fn boots(place: &Place, kernel: &Kernel) -> Result<bool> {
    let guest = Guest {
        place,
        kernel,
        modules: None,
        load: Vec::new(),
        contents: Contents::default(),
        job: Job::Probe,
        accel: Accel::Kvm,
        cpus: 2,
        edu: 0,
        npu: 0,
        npu_interrupts: Interrupts::default(),
        emulator: None,
        plugin: None,
        record: false,
        cmdline: String::new(),
        cycles: None,
        restarts: false,
        limit: PATIENCE,
        silence: PATIENCE,
    };
    // QEMU's own refusal is an answer too.
    Ok(guest.run(|_| {}).is_ok_and(|ended| ended.booted))
}
