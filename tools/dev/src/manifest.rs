// SPDX-License-Identifier: GPL-2.0
//! What `tests.toml` and `skips.toml` beside the kselftests say.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::models::Interrupts;
use crate::place::Place;
use crate::support::FLAVOURS;

/// What stands where a flavour's name does for tests that need no guest.
pub const HOST: &str = "host";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// Sources that every C program is made of besides its own.
    #[serde(default)]
    common: Vec<String>,
    #[serde(default)]
    test: Vec<Test>,
}

/// A test program; `tests.toml` documents the fields.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Test {
    pub name: String,
    #[serde(default)]
    pub sources: Vec<String>,
    #[serde(default)]
    pub libs: Vec<String>,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub devices: Vec<String>,
    #[serde(default)]
    pub i386: bool,
    #[serde(default = "Test::default_timeout")]
    pub timeout: u64,
    #[serde(default)]
    pub modules: Vec<String>,
    #[serde(default)]
    pub host: bool,
    #[serde(default)]
    pub own_boot: bool,
    pub edu: Option<usize>,
    pub npu: Option<usize>,
    pub npu_interrupts: Option<Interrupts>,
    pub cmdline: Option<String>,
    /// Debian packages that its guest has, unpacked.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Files of the checkout that its guest has beside the program.
    #[serde(default)]
    pub files: Vec<String>,
    #[serde(default)]
    pub restarts: bool,
    #[serde(default)]
    pub flavours: Vec<String>,
    #[serde(default)]
    pub debug: Debug,
    /// Whether its guest on flavour `debug` waits as long as it says it does.
    #[serde(default = "Test::default_debug_waits")]
    pub debug_waits: bool,
    /// Seconds that its long form may take; one that has none is not part of `make stress`.
    pub stress: Option<u64>,
}

/// Whether flavour `debug` runs a program, which takes ten times as long there.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub enum Debug {
    All(bool),
    /// With these kinds of device only.
    Kinds(Vec<String>),
}

impl Default for Debug {
    fn default() -> Self {
        Self::All(false)
    }
}

impl Test {
    fn default_timeout() -> u64 {
        60
    }

    fn default_debug_waits() -> bool {
        true
    }

    /// What it says about its guest, which only makes sense if it has one of its own.
    fn shapes_guest(&self) -> bool {
        self.edu.is_some()
            || self.npu.is_some()
            || self.npu_interrupts.is_some()
            || self.cmdline.is_some()
            || !self.packages.is_empty()
            || !self.files.is_empty()
            || self.restarts
            || !self.debug_waits
    }

    /// A shell script is run as it is.
    pub fn is_script(&self) -> bool {
        self.sources
            .first()
            .is_some_and(|source| source.ends_with(".sh"))
    }

    pub fn runs_on(&self, flavour: &str) -> bool {
        let on_debug = self.debug != Debug::All(false);
        let everywhere = self.flavours.is_empty() && (on_debug || flavour != "debug");

        everywhere || self.flavours.iter().any(|name| name == flavour)
    }

    /// The kinds of device that it runs with on a flavour; in its long form with all of them.
    pub fn kinds_on(&self, flavour: &str, is_long: bool) -> impl Iterator<Item = &str> {
        let some = match &self.debug {
            Debug::Kinds(kinds) if flavour == "debug" && !is_long => Some(kinds),
            _ => None,
        };
        self.devices
            .iter()
            .filter(move |kind| some.is_none_or(|some| some.contains(kind)))
            .map(String::as_str)
    }
}

/// A skip that is expected.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skip {
    pub flavour: String,
    /// A pattern of the test's name after the flavour, `program/case`.
    pub test: String,
    pub reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Skips {
    #[serde(default)]
    skip: Vec<Skip>,
}

pub fn tests(place: &Place) -> Result<Vec<Test>> {
    let file = place.selftests().join("tests.toml");
    let Manifest {
        common,
        test: mut tests,
    } = read(&file)?;
    for test in &mut tests {
        if test.sources.is_empty() {
            test.sources.push(format!("{}.c", test.name));
        }
        if !test.is_script() {
            test.sources.extend(common.iter().cloned());
        }
        if test.name.contains(['/', ' ', '.']) || test.name.is_empty() {
            bail!("{}: a test cannot be named '{}'", file.display(), test.name);
        }
        if test.is_script() && test.i386 {
            bail!(
                "{}: '{}' is a script, i386 means nothing for it",
                file.display(),
                test.name
            );
        }
        if test.shapes_guest() && !test.own_boot {
            bail!(
                "{}: '{}' says what its guest is like, and has no guest of its own (own-boot)",
                file.display(),
                test.name
            );
        }
        for flavour in &test.flavours {
            check_flavour(&file, flavour)?;
        }
        if test.host && !test.is_script() {
            bail!(
                "{}: '{}' is to run on the host and is no script",
                file.display(),
                test.name
            );
        }
        for source in &test.sources {
            if !place.selftests().join(source).exists() {
                bail!(
                    "{}: '{}' names {source}, which is not there",
                    file.display(),
                    test.name
                );
            }
        }
    }
    Ok(tests)
}

pub fn skips(place: &Place) -> Result<Vec<Skip>> {
    let file = place.selftests().join("skips.toml");
    let skips = read::<Skips>(&file)?.skip;
    for skip in &skips {
        if skip.flavour != HOST {
            check_flavour(&file, &skip.flavour)?;
        }
        if skip.reason.trim().is_empty() {
            bail!(
                "{}: the skip of '{}' has no reason",
                file.display(),
                skip.test
            );
        }
    }
    Ok(skips)
}

fn check_flavour(file: &Path, name: &str) -> Result<()> {
    if FLAVOURS.iter().any(|flavour| flavour.name == name) {
        return Ok(());
    }
    bail!("{}: there is no flavour '{name}'", file.display());
}

fn read<T: Default + DeserializeOwned>(file: &Path) -> Result<T> {
    if !file.exists() {
        return Ok(T::default());
    }
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not as it should be", file.display()))
}

/// Whether `name` fits `pattern`: with `*`, as a whole; without, as a part.
pub fn fits(pattern: &str, name: &str) -> bool {
    if pattern.contains('*') {
        glob(pattern.as_bytes(), name.as_bytes())
    } else {
        name.contains(pattern)
    }
}

fn glob(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|from| glob(rest, &name[from..])),
        Some((first, rest)) => name
            .split_first()
            .is_some_and(|(found, more)| found == first && glob(rest, more)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        assert!(fits("ioctl", "cloud/ioctl.edu"));
        assert!(fits("cloud/*.edu", "cloud/ioctl.edu"));
        assert!(!fits("cloud/*.null", "cloud/ioctl.edu"));
        assert!(fits("*", ""));
        assert!(!fits("a*b", "acd"));
    }

    #[test]
    fn a_manifest_is_read() {
        let text = "[[test]]\nname = \"x\"\nown-boot = true\ndevices = [\"edu\"]\n";
        let manifest: Result<Manifest, _> = toml::from_str(text);
        assert!(manifest.is_ok_and(|found| found.test[0].own_boot && found.test[0].timeout == 60));
        let wrong: Result<Manifest, _> =
            toml::from_str("[[test]]\nname = \"x\"\nown_boot = true\n");
        assert!(wrong.is_err());
    }

    #[test]
    fn a_guest_of_its_own_has_what_the_test_says() {
        let read = |line: &str| toml::from_str::<Test>(&format!("name = \"x\"\n{line}\n"));
        let test = read("npu = 0\nnpu-interrupts = \"msi\"");
        assert!(test.is_ok_and(|test| test.npu == Some(0)
            && test.npu_interrupts == Some(Interrupts::Msi)
            && test.shapes_guest()));
        assert!(read("").is_ok_and(|test| !test.shapes_guest()));
        assert!(read("edu = 1").is_ok_and(|test| test.shapes_guest()));
        assert!(read("restarts = true").is_ok_and(|test| test.shapes_guest()));
        assert!(read("debug-waits = false").is_ok_and(|test| test.shapes_guest()));
        assert!(read("npu-interrupts = \"intx\"").is_err());
        assert!(read("npu = -1").is_err());
    }
}
