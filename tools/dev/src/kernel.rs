// SPDX-License-Identifier: GPL-2.0
//! The kernel under test: found in the archive, unpacked, and prepared for building modules.
//!
//! Debian's header packages lack the Rust metadata. It is regenerated from Debian's source with
//! Debian's configuration and compilers, which gives the same symbol names as the running kernel
//! has.

pub mod built;

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{logged, output, tied};
use crate::packages;
use crate::place::Place;
use crate::step::{self, Lock};
use crate::support::{FLAVOURS, Flavour, Origin, SERIES, SOURCE_LEFT_OUT};

/// A flavour's kernel, ready to boot and to build modules for.
#[derive(Debug, Clone)]
pub struct Kernel {
    pub flavour: Flavour,
    /// What `uname -r` says.
    pub release: String,
    /// What `make -C` takes.
    pub build: PathBuf,
    /// The unpacked source.
    pub source: PathBuf,
    pub image: PathBuf,
    /// The folder that has `lib/modules/<release>`.
    pub modules_root: PathBuf,
    /// `uname -r` without the flavour.
    base: String,
    series: &'static str,
    /// Debian's version of the packages.
    version: String,
    /// What a kernel of ours was made of; nothing for Debian's, which never change.
    pub made_of: String,
    /// What kbuild has to be told of the compilers to build modules with.
    pub toolchain: String,
}

/// A kernel in the archive.
#[derive(Debug, Clone)]
struct Choice {
    /// `uname -r` without the flavour.
    base: String,
    series: &'static str,
    release: String,
    /// Debian's version of the packages.
    version: String,
}

// A change of how the steps below work makes their results anew.
const SOURCE_RECIPE: &str = "1";
const KERNEL_RECIPE: &str = "1";

impl Kernel {
    /// The kernel of a flavour: from the cache, else fetched and prepared.
    pub fn get(place: &Place, flavour: Flavour) -> Result<Self> {
        match flavour.origin {
            Origin::Debian(debian) => Self::get_debian(place, flavour, debian),
            Origin::Source(config) => {
                // The same version as the other flavours have.
                let default = Self::get(place, FLAVOURS[0])?;
                built::get(place, flavour, config, &default)
            }
        }
    }

    fn get_debian(place: &Place, flavour: Flavour, debian: &str) -> Result<Self> {
        let record = place.cache.join(format!("kernel-{}", flavour.name));
        if let Some(choice) = read_record(&record, debian) {
            let (folder, source) = folders(place, &choice, flavour);
            if step::is_made_of(&folder, KERNEL_RECIPE) {
                return Self::open(flavour, &choice, folder, source);
            }
        }

        let _lock = Lock::take(&place.cache.join("kernel.lock"), "setting a kernel up")?;
        let choice = match read_record(&record, debian) {
            Some(choice) => choice,
            None => find(place, debian)?,
        };
        let (folder, source) = folders(place, &choice, flavour);
        step::folder(
            &source,
            SOURCE_RECIPE,
            &format!("source of Linux {} (165 MB to fetch)", choice.base),
            |to| unpack_source(place, choice.series, &choice.version, SOURCE_LEFT_OUT, to),
        )?;
        let files = folder.with_extension("files");
        step::folder(
            &files,
            KERNEL_RECIPE,
            &format!("kernel {} (50 to 200 MB to fetch)", choice.release),
            |to| unpack_kernel(place, &choice, to),
        )?;
        step::folder(
            &folder,
            KERNEL_RECIPE,
            &format!("Rust metadata of {} (about a minute)", choice.release),
            |to| {
                // kbuild writes its folder's name into what it makes, so this step cannot work
                // under another name. What it makes is guarded by the stamp all the same.
                step::remove(&folder)?;
                fs::create_dir_all(&folder)?;
                prepare(place, &choice, &files, &source, &folder)?;
                fs::remove_dir(to)?;
                fs::rename(&folder, to)?;
                Ok(())
            },
        )?;
        fs::write(
            &record,
            format!("{}\n{}\n{}\n", choice.base, choice.series, choice.version),
        )
        .with_context(|| format!("writing {}", record.display()))?;
        Self::open(flavour, &choice, folder, source)
    }

    fn open(flavour: Flavour, choice: &Choice, build: PathBuf, source: PathBuf) -> Result<Self> {
        let files = build.with_extension("files");
        Ok(Self {
            flavour,
            release: choice.release.clone(),
            image: files.join("vmlinuz"),
            modules_root: files.clone(),
            toolchain: format!("CC={}", compiler(&files.join("config"))?),
            build,
            source,
            base: choice.base.clone(),
            series: choice.series,
            version: choice.version.clone(),
            made_of: String::new(),
        })
    }
}

fn folders(place: &Place, choice: &Choice, flavour: Flavour) -> (PathBuf, PathBuf) {
    let kernels = place.cache.join("kernel");
    (
        kernels.join(format!(
            "{}-{}",
            choice.base.replace('.', "_"),
            flavour.name
        )),
        kernels.join(format!("{}-source", choice.base.replace('.', "_"))),
    )
}

fn read_record(record: &Path, debian: &str) -> Option<Choice> {
    let text = fs::read_to_string(record).ok()?;
    let mut lines = text.lines();
    let base = lines.next()?.to_owned();
    let wanted = lines.next()?;
    let series = SERIES.iter().find(|series| **series == wanted)?;
    Some(Choice {
        release: format!("{base}-{debian}"),
        base,
        series,
        version: lines.next()?.to_owned(),
    })
}

/// The newest kernel of a supported series whose image, headers and source are all there in one
/// version; the one that another flavour uses already, if this flavour has it too.
fn find(place: &Place, debian: &str) -> Result<Choice> {
    if let Some(choice) = find_once(place, debian)? {
        return Ok(choice);
    }
    packages::update_lists(place)?;
    find_once(place, debian)?.with_context(|| {
        format!(
            "no suitable kernel: looked for linux-image-<version>-{debian}, \
             linux-headers-<version>-{debian} and linux-source-<series>, all of one version, \
             of series {series}, in the suites that {root}/etc/apt names. \
             If the series has left the archive, this checkout is too old for it: update it.",
            series = SERIES.join(", "),
            root = place.cache.join("root").display(),
        )
    })
}

fn find_once(place: &Place, debian: &str) -> Result<Option<Choice>> {
    let in_use: Vec<String> = FLAVOURS
        .iter()
        .filter_map(|other| {
            let record = place.cache.join(format!("kernel-{}", other.name));
            read_record(&record, debian).map(|choice| choice.base)
        })
        .collect();
    for series in SERIES {
        let prefix = format!("linux-image-{series}");
        let names = output(Command::new("apt-cache").args(["pkgnames", &prefix]))?;
        let mut bases: Vec<&str> = names
            .lines()
            .filter_map(|name| {
                let base = name
                    .strip_prefix("linux-image-")?
                    .strip_suffix(debian)?
                    .strip_suffix('-')?;
                let point = base.strip_prefix(series)?;
                // A dash would be another flavour (cloud-, rt-) or a release candidate.
                (point.starts_with(['.', '+']) && !base.contains('-')).then_some(base)
            })
            .collect();
        bases.sort_by(|a, b| {
            let used = |base: &str| in_use.iter().any(|other| other == base);
            used(b).cmp(&used(a)).then_with(|| compare_versions(b, a))
        });
        for base in bases {
            let release = format!("{base}-{debian}");
            for version in versions(&format!("linux-image-{release}"))? {
                let headers = versions(&format!("linux-headers-{release}"))?;
                let sources = versions(&format!("linux-source-{series}"))?;
                if headers.contains(&version) && sources.contains(&version) {
                    return Ok(Some(Choice {
                        base: base.to_owned(),
                        series,
                        release,
                        version,
                    }));
                }
            }
        }
    }
    Ok(None)
}

fn versions(package: &str) -> Result<Vec<String>> {
    let text = output(Command::new("apt-cache").args(["madison", package]))?;
    Ok(text
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(|version| version.trim().to_owned())
        .collect())
}

/// Compares numbers as numbers: 7.2.12 is newer than 7.2.9.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let numbers = |text: &str| -> Vec<u64> {
        text.split(|c: char| !c.is_ascii_digit())
            .filter_map(|part| part.parse().ok())
            .collect()
    };
    numbers(a).cmp(&numbers(b))
}

fn unpack_source(
    place: &Place,
    series: &str,
    version: &str,
    left_out: &[&str],
    to: &Path,
) -> Result<()> {
    let package = format!("linux-source-{series}");
    let packed = to.join("packed");
    fs::create_dir_all(&packed)?;
    packages::unpack(place, &[format!("{package}={version}")], &packed)?;
    let mut tar = tied("tar");
    tar.arg("-xf")
        .arg(packed.join(format!("usr/src/{package}.tar.xz")))
        .arg("-C")
        .arg(to)
        .args(["--strip-components=1", "--anchored", "--wildcards"])
        .arg("--wildcards-match-slash");
    for pattern in left_out {
        tar.arg(format!("--exclude={pattern}"));
    }
    logged(&mut tar, &place.log("source.log"), "unpacking the source")?;
    step::remove(&packed)
}

/// Unpacks what is needed of the binary packages: the kernel, its configuration and modules,
/// and the symbols of the headers.
fn unpack_kernel(place: &Place, choice: &Choice, to: &Path) -> Result<()> {
    let release = &choice.release;
    let image = format!("linux-image-{release}");
    let headers = format!("linux-headers-{release}");
    // The files are in the image package or, in newer kernels, in those that it depends on.
    let depends = output(Command::new("apt-cache").args([
        "show",
        "--no-all-versions",
        &format!("{image}={}", choice.version),
    ]))?;
    let mut names = vec![image, headers.clone()];
    for line in depends.lines() {
        let Some(list) = line.strip_prefix("Depends:") else {
            continue;
        };
        names.extend(
            list.split([',', '|'])
                .filter_map(|one| one.split_whitespace().next())
                .filter(|name| name.starts_with("linux-") && name.ends_with(release.as_str()))
                .map(str::to_owned),
        );
    }
    names.sort();
    names.dedup();
    let packed = to.join("packed");
    fs::create_dir_all(&packed)?;
    let wanted: Vec<String> = names
        .iter()
        .map(|name| format!("{name}={}", choice.version))
        .collect();
    packages::unpack(place, &wanted, &packed)?;

    let modules = first_of(
        &packed,
        &[
            format!("usr/lib/modules/{release}"),
            format!("lib/modules/{release}"),
        ],
    )?;
    for (name, candidates) in [
        (
            "vmlinuz",
            [
                modules.join("vmlinuz"),
                packed.join(format!("boot/vmlinuz-{release}")),
            ],
        ),
        (
            "config",
            [
                modules.join("config"),
                packed.join(format!("boot/config-{release}")),
            ],
        ),
    ] {
        let from = candidates
            .iter()
            .find(|path| path.exists())
            .with_context(|| format!("the packages of {release} have no {name}"))?;
        fs::rename(from, to.join(name))?;
    }
    let symbols = packed.join(format!("usr/src/{headers}"));
    for name in [
        "Module.symvers",
        "include/config/kernel.release",
        "include/generated/utsrelease.h",
    ] {
        let from = symbols.join(name);
        let file = from.file_name().context("a file's path has a name")?;
        fs::rename(&from, to.join(file))
            .with_context(|| format!("the package {headers} has no {name}"))?;
    }
    fs::create_dir_all(to.join("lib/modules"))?;
    fs::rename(&modules, to.join("lib/modules").join(release))?;
    for link in ["build", "source"] {
        step::remove(&to.join("lib/modules").join(release).join(link))?;
    }
    step::remove(&packed)
}

fn first_of(base: &Path, candidates: &[String]) -> Result<PathBuf> {
    candidates
        .iter()
        .map(|name| base.join(name))
        .find(|path| path.exists())
        .with_context(|| {
            format!(
                "the kernel's packages have none of {}",
                candidates.join(", ")
            )
        })
}

fn prepare(
    place: &Place,
    choice: &Choice,
    files: &Path,
    source: &Path,
    build: &Path,
) -> Result<()> {
    let config = files.join("config");
    let cc = compiler(&config)?;
    check_compilers(&config, &cc, &choice.release)?;
    fs::copy(&config, build.join(".config"))?;
    fs::copy(files.join("Module.symvers"), build.join("Module.symvers"))?;
    let run = |targets: &[&str], log: &str| {
        logged(
            tied("make")
                .arg("-C")
                .arg(source)
                .arg(format!("O={}", build.display()))
                .arg(format!("CC={cc}"))
                .arg(jobs())
                .args(targets),
            &place.log(log),
            "preparing the kernel for module builds",
        )
    };
    run(&["olddefconfig"], "olddefconfig.log")?;
    let kept = fs::read_to_string(build.join(".config"))?;
    if !kept.lines().any(|line| line == "CONFIG_RUST=y") {
        bail!(
            "CONFIG_RUST went away in the configuration of {}: this root's rustc, bindgen and \
             the kernel do not fit together",
            choice.release
        );
    }
    run(&["prepare", "modules_prepare"], "prepare.log")?;
    // These say what the running kernel says of itself, Debian's suffixes included.
    fs::copy(
        files.join("kernel.release"),
        build.join("include/config/kernel.release"),
    )?;
    fs::copy(
        files.join("utsrelease.h"),
        build.join("include/generated/utsrelease.h"),
    )?;
    // Without the kernel's type information, modules are built without; pahole then says so
    // for every module.
    Ok(())
}

pub fn jobs() -> String {
    let jobs = std::thread::available_parallelism().map_or(2, usize::from);
    format!("-j{jobs}")
}

fn config_text(config: &Path, option: &str) -> Result<String> {
    let text =
        fs::read_to_string(config).with_context(|| format!("reading {}", config.display()))?;
    text.lines()
        .find_map(|line| line.strip_prefix(option)?.strip_prefix("=\""))
        .and_then(|rest| rest.strip_suffix('"'))
        .map(str::to_owned)
        .with_context(|| format!("{} has no {option}", config.display()))
}

/// The C compiler that the kernel was built with, under the name that its configuration gives.
fn compiler(config: &Path) -> Result<String> {
    let text = config_text(config, "CONFIG_CC_VERSION_TEXT")?;
    Ok(text.split_whitespace().next().unwrap_or("gcc").to_owned())
}

/// A compiler other than the kernel's gives other symbol names and other struct layouts.
fn check_compilers(config: &Path, cc: &str, release: &str) -> Result<()> {
    let pairs = [
        ("CONFIG_RUSTC_VERSION_TEXT", "rustc"),
        ("CONFIG_CC_VERSION_TEXT", cc),
    ];
    for (option, program) in pairs {
        let wanted = config_text(config, option)?;
        let found = output(Command::new(program).arg("--version"))
            .map(|text| text.lines().next().unwrap_or_default().to_owned())
            .unwrap_or_else(|_| format!("no {program}"));
        if wanted != found {
            bail!(
                "kernel {release} was built with '{wanted}'; the build root has '{found}'. \
                 Modules built so would not fit. Remove the cache (make distclean) to make a \
                 new root; if that does not help, Debian has moved on and this checkout needs \
                 an update (tools/dev/src/support.rs)."
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(
            compare_versions("7.2.12+deb13", "7.2.9+deb13"),
            Ordering::Greater
        );
        assert_eq!(
            compare_versions("7.2.9+deb13", "7.2.9+deb13"),
            Ordering::Equal
        );
    }
}
