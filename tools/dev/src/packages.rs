// SPDX-License-Identifier: GPL-2.0
//! Debian packages: fetched and unpacked, without running their scripts.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::command::{logged, tied};
use crate::place::Place;
use crate::report::say;
use crate::step::{self, Lock};

pub fn update_lists(place: &Place) -> Result<()> {
    say("package lists ...");
    logged(
        tied("apt-get").args(["-q", "update", "--error-on=any"]),
        &place.log("apt-update.log"),
        "package lists",
    )
}

/// Fetches packages, each `name` or `name=version`, and unpacks them into `to`.
pub fn unpack(place: &Place, wanted: &[String], to: &Path) -> Result<()> {
    let debs = to.join("debs");
    fs::create_dir_all(&debs)?;
    let fetch = || {
        logged(
            tied("apt-get")
                .args(["-q", "download"])
                .args(wanted)
                .current_dir(&debs),
            &place.log("apt-download.log"),
            "fetching packages",
        )
    };
    // Lists that are older than the mirror name files that are gone.
    if fetch().is_err() {
        update_lists(place)?;
        fetch()?;
    }
    for entry in fs::read_dir(&debs)? {
        logged(
            tied("dpkg").arg("-x").arg(entry?.path()).arg(to),
            &place.log("dpkg.log"),
            "unpacking packages",
        )?;
    }
    step::remove(&debs)
}

/// The folder that has what is in the packages `names`; made once, and kept.
pub fn folder(place: &Place, names: &[String]) -> Result<PathBuf> {
    let all = place.cache.join("packages");
    let folder = all.join(names.first().map_or("none", String::as_str));
    let key = names.join(" ");
    if !step::is_made_of(&folder, &key) {
        fs::create_dir_all(&all)?;
        let _lock = Lock::take(&place.cache.join("packages.lock"), "fetching packages")?;
        step::folder(&folder, &key, &format!("packages {key}"), |to| {
            unpack(place, names, to)
        })?;
    }
    Ok(folder)
}
