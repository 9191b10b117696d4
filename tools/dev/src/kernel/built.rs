// SPDX-License-Identifier: GPL-2.0
//! A kernel of our own: the source of the Debian kernel in use, with another configuration and
//! built with clang, which can do what gcc cannot: check memory in C and in Rust alike.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Kernel, jobs, unpack_source};
use crate::command::{logged, output, tied, watched};
use crate::packages;
use crate::place::Place;
use crate::report::say;
use crate::step::{self, Lock};
use crate::support::{CLANG, Flavour, SOURCE_UNUSED};

// A change of how the steps below work makes their results anew.
const RECIPE: &str = "1";

/// How many lines kbuild prints, about; and how often it is said how far it has come.
const STEPS: usize = 2080;
const SAY_EVERY: Duration = Duration::from_secs(60);

/// What is added to the kernel's Kconfig files: allocators that have no switch of their own.
const WANTED: &str = "\nconfig ACCEL_DEBUG_GPU_BUDDY\n\tdef_bool y\n\tselect GPU_BUDDY\n";
const WANTED_IN: &str = "drivers/gpu/Kconfig";

/// What keeps the stacks of all that is allocated takes a third of the guest's time if it is
/// checked like everything else.
const UNCHECKED: &[&str] = &[
    "KASAN_SANITIZE_unwind_frame.o=n",
    "UBSAN_SANITIZE_unwind_frame.o=n",
    "KASAN_SANITIZE_extable.o=n",
    "UBSAN_SANITIZE_extable.o=n",
    "KASAN_SANITIZE_stacktrace.o=n",
    "UBSAN_SANITIZE_stacktrace.o=n",
];

/// Where, below the folder of the build, what the guest needs of it is installed.
const INSTALLED: &str = "installed";

/// The kernel with the configuration `config` of the version that `other` has: from the cache,
/// else built.
pub fn get(place: &Place, flavour: Flavour, config: &str, other: &Kernel) -> Result<Kernel> {
    install_compilers(place)?;
    let key = key(other, config)?;
    let folder =
        other
            .build
            .with_file_name(format!("{}-{}", other.base.replace('.', "_"), flavour.name));
    if !step::is_made_of(&folder, &key) {
        let lock = place.cache.join(format!("kernel-{}.lock", flavour.name));
        let _lock = Lock::take(&lock, "building a kernel")?;
        let what = format!("kernel of flavour {} (20 to 30 minutes)", flavour.name);
        step::folder(&folder, &key, &what, |to| {
            // kbuild writes its folder's name into what it makes, so this step cannot work under
            // another name. What it makes is guarded by the stamp all the same.
            step::remove(&folder)?;
            fs::create_dir_all(&folder)?;
            make(place, config, other, &folder)?;
            fs::remove_dir(to)?;
            fs::rename(&folder, to)?;
            Ok(())
        })?;
    }
    Ok(Kernel {
        flavour,
        release: release(&folder)?,
        image: folder.join("arch/x86/boot/bzImage"),
        modules_root: folder.join(INSTALLED),
        toolchain: toolchain(),
        made_of: key,
        build: folder,
        ..other.clone()
    })
}

fn toolchain() -> String {
    format!("LLVM=-{CLANG}")
}

fn release(folder: &Path) -> Result<String> {
    let file = folder.join("include/config/kernel.release");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    Ok(text.trim().to_owned())
}

/// All that the result follows from.
fn key(other: &Kernel, config: &str) -> Result<String> {
    let clang = format!("clang-{CLANG}");
    let mut parts = vec![RECIPE.to_owned(), other.version.clone(), WANTED.to_owned()];
    parts.extend(UNCHECKED.iter().map(|variable| (*variable).to_owned()));
    for program in [clang.as_str(), "rustc", "bindgen"] {
        parts.push(output(Command::new(program).arg("--version"))?);
    }
    parts.push(config.to_owned());
    Ok(parts.join("\n"))
}

/// The compilers that only this needs are put into the build root when they are needed.
fn install_compilers(place: &Place) -> Result<()> {
    let is_there = || Path::new(&format!("/usr/bin/ld.lld-{CLANG}")).exists();
    if is_there() {
        return Ok(());
    }
    let _lock = Lock::take(&place.cache.join("clang.lock"), "installing clang")?;
    if is_there() {
        return Ok(());
    }
    say("clang (20 MB to fetch) ...");
    let install = || {
        logged(
            tied("apt-get")
                .args(["-q", "install", "-y", "--no-install-recommends"])
                // The linker last: with it, all are there.
                .args(["clang", "llvm", "lld"].map(|name| format!("{name}-{CLANG}")))
                .env("DEBIAN_FRONTEND", "noninteractive"),
            &place.log("apt-clang.log"),
            "installing clang",
        )
    };
    // Lists that are older than the mirror name files that are gone.
    if install().is_err() {
        packages::update_lists(place)?;
        install()?;
    }
    say("clang: done");
    Ok(())
}

fn make(place: &Place, config: &str, other: &Kernel, folder: &Path) -> Result<()> {
    // All of the source is needed only now, so it is unpacked only for now.
    let source = folder.with_extension("source");
    step::remove(&source)?;
    fs::create_dir_all(&source)?;
    say("the whole source (165 MB to fetch) ...");
    unpack_source(place, other.series, &other.version, SOURCE_UNUSED, &source)?;
    let mut kconfig = OpenOptions::new()
        .append(true)
        .open(source.join(WANTED_IN))
        .with_context(|| format!("opening {WANTED_IN}"))?;
    kconfig
        .write_all(WANTED.as_bytes())
        .with_context(|| format!("writing {WANTED_IN}"))?;

    let fragment = folder.join("fragment");
    fs::write(&fragment, config).with_context(|| format!("writing {}", fragment.display()))?;
    logged(
        kbuild(&source, &other.source, folder)
            .arg(format!("KCONFIG_ALLCONFIG={}", fragment.display()))
            .arg("allnoconfig"),
        &place.log("allnoconfig.log"),
        "configuring the kernel",
    )?;
    check_config(config, &folder.join(".config"))?;

    let log = place.log("kernel-build.log");
    watched(
        kbuild(&source, &other.source, folder)
            .arg(jobs())
            .args(["bzImage", "modules"]),
        &log,
        "building the kernel",
        SAY_EVERY,
        || {
            let lines =
                fs::read(&log).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count());
            say(format!("  {lines} of about {STEPS} steps"));
        },
    )?;
    logged(
        kbuild(&source, &other.source, folder)
            .arg(format!(
                "INSTALL_MOD_PATH={}",
                folder.join(INSTALLED).display()
            ))
            .arg("modules_install"),
        &place.log("modules-install.log"),
        "installing the kernel's modules",
    )?;
    let installed = folder
        .join(INSTALLED)
        .join("lib/modules")
        .join(release(folder)?);
    for link in ["build", "source"] {
        step::remove(&installed.join(link))?;
    }
    // Stages of linking, as large as the kernel each.
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(".tmp_vmlinux")
        {
            step::remove(&entry.path())?;
        }
    }
    step::remove(&source)
}

/// kbuild for the kernel itself. It sees the whole source where the part of it is that all
/// flavours share: what it writes down of paths stays true when the whole one is gone.
fn kbuild(whole: &Path, shared: &Path, folder: &Path) -> Command {
    let mut command = mounted(&[(whole.to_owned(), shared.to_owned())]);
    command
        .args(["make", "-C"])
        .arg(shared)
        .arg(format!("O={}", folder.display()))
        .arg(toolchain())
        .args(UNCHECKED);
    command
}

/// The beginning of a command that sees the first file or folder of each pair where the second is.
pub fn mounted(pairs: &[(PathBuf, PathBuf)]) -> Command {
    let mut command = tied("unshare");
    command
        .args(["--mount", "sh", "-e", "-c"])
        .arg(
            "while [ \"$1\" != -- ]; do busybox mount -o bind \"$1\" \"$2\"; shift 2; done; \
             shift; exec \"$@\"",
        )
        .arg("sh");
    for (seen, at) in pairs {
        command.arg(seen).arg(at);
    }
    command.arg("--");
    command
}

/// Kconfig drops without a word what it cannot grant.
fn check_config(wanted: &str, resolved: &Path) -> Result<()> {
    let text =
        fs::read_to_string(resolved).with_context(|| format!("reading {}", resolved.display()))?;
    let missing = missing(wanted, &text);
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "the kernel's configuration does not have what tools/dev/debug/config asks for:\n  {}",
        missing.join("\n  ")
    );
}

/// The lines of a fragment that a resolved configuration does not have.
pub fn missing<'a>(wanted: &'a str, resolved: &str) -> Vec<&'a str> {
    let has = |line: &str| resolved.lines().any(|found| found == line);
    let sets = |name: &str| {
        resolved
            .lines()
            .any(|found| found.split_once('=').is_some_and(|(set, _)| set == name))
    };
    wanted
        .lines()
        .filter(|line| line.starts_with("CONFIG_"))
        .filter(|line| match line.strip_suffix("=n") {
            Some(name) => sets(name),
            None => !has(line),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kconfig_drops_is_named() {
        let wanted = "# words\nCONFIG_A=y\nCONFIG_B=n\nCONFIG_C=n\nCONFIG_D=\"x\"\nCONFIG_E=m\n";
        let resolved = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=y\nCONFIG_E=y\n";
        assert_eq!(
            missing(wanted, resolved),
            ["CONFIG_C=n", "CONFIG_D=\"x\"", "CONFIG_E=m"]
        );
    }
}
