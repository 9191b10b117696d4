// SPDX-License-Identifier: GPL-2.0
//! One mutant: a patch with a header that says what it breaks and which test finds it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Which part of the code a mutant is in; only that part is built again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Model,
    Driver,
    Core,
}

impl Part {
    /// Whether a file of the checkout belongs to it.
    fn has(self, path: &str) -> bool {
        match self {
            Part::Model => path.starts_with("tools/emu/"),
            Part::Driver => path.starts_with("drivers/") || path.starts_with("samples/"),
            Part::Core => path.starts_with("bindings/") || !path.contains('/'),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(match self {
            Part::Model => "model",
            Part::Driver => "driver",
            Part::Core => "core",
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Mutant {
    /// The file's name without its end.
    pub name: String,
    pub file: PathBuf,
    /// What is broken.
    pub what: String,
    pub part: Part,
    /// The test that finds it, `<flavour>/<program>[.i386][.<kind>]`.
    pub killer: String,
    /// The files that it changes.
    pub paths: Vec<String>,
}

impl Mutant {
    pub fn read(file: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        Self::parse(file, &text).with_context(|| format!("{} is no mutant", file.display()))
    }

    fn parse(file: &Path, text: &str) -> Result<Self> {
        let (mut what, mut part, mut killer) = (None, None, None);
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next_if(|line| !begins_diff(line)) {
            if line.trim().is_empty() {
                continue;
            }
            let (key, value) = line
                .split_once(':')
                .map(|(key, value)| (key, value.trim()))
                .with_context(|| format!("'{line}' is no line of a header"))?;
            let twice = match key {
                "SPDX-License-Identifier" => false,
                "Mutant" => what.replace(value).is_some(),
                "In" => part.replace(value).is_some(),
                "Killed-by" => killer.replace(value).is_some(),
                _ => bail!("a header has Mutant, In and Killed-by, not '{key}'"),
            };
            if twice {
                bail!("{key} is there twice");
            }
        }
        let needed = |value: Option<&str>, key: &str| {
            value
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
                .with_context(|| format!("its header has no {key}"))
        };
        let part = match needed(part, "In")?.as_str() {
            "driver" => Part::Driver,
            "model" => Part::Model,
            "core" => Part::Core,
            other => bail!("In is '{other}', not driver, model or core"),
        };
        let paths: Vec<String> = lines
            .filter_map(|line| line.strip_prefix("+++ b/"))
            .map(|path| path.split('\t').next().unwrap_or(path).to_owned())
            .collect();
        if paths.is_empty() {
            bail!("it changes nothing ('+++ b/...')");
        }
        if let Some(other) = paths.iter().find(|path| !part.has(path)) {
            bail!("{other} is not in the {part}");
        }
        Ok(Self {
            name: file
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
                .unwrap_or_default(),
            file: file.to_owned(),
            what: needed(what, "Mutant")?,
            part,
            killer: needed(killer, "Killed-by")?,
            paths,
        })
    }
}

fn begins_diff(line: &str) -> bool {
    line.starts_with("diff ") || line.starts_with("--- ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "SPDX-License-Identifier: GPL-2.0\n\
                          Mutant: no flush: at all\nIn: driver\nKilled-by: cloud/mmu.npu\n\n";
    const DIFF: &str = "diff --git a/drivers/x.rs b/drivers/x.rs\n--- a/drivers/x.rs\n\
                        +++ b/drivers/x.rs\n@@ -1 +1 @@\n-a: b\n+b: a\n";

    fn parse(text: &str) -> Result<Mutant> {
        Mutant::parse(Path::new("/m/no-flush.patch"), text)
    }

    fn refused(text: &str, why: &str) {
        let said = match parse(text) {
            Ok(found) => panic!("taken: {found:?}"),
            Err(error) => format!("{error:#}"),
        };
        assert!(said.contains(why), "{said}");
    }

    #[test]
    fn a_header_and_a_diff() {
        let found = parse(&format!("{HEADER}{DIFF}")).expect("it is a mutant");
        assert_eq!(found.name, "no-flush");
        assert_eq!(found.what, "no flush: at all");
        assert_eq!(found.part, Part::Driver);
        assert_eq!(found.killer, "cloud/mmu.npu");
        assert_eq!(found.paths, ["drivers/x.rs"]);
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        let all = format!("{HEADER}{DIFF}");
        refused(&all.replace("Killed-by", "Killed by"), "not 'Killed by'");
        refused(&all.replace("Mutant: no flush: at all\n", ""), "no Mutant");
        refused(&all.replace("In: driver", "In: engine"), "'engine'");
        refused(&all.replace("In: driver", "In: core"), "not in the core");
        refused(&all.replace("Mutant", "In: driver\nIn"), "twice");
        refused(HEADER, "changes nothing");
    }

    #[test]
    fn parts() {
        assert!(Part::Core.has("accel_mm.rs") && Part::Core.has("bindings/gate.c"));
        assert!(!Part::Core.has("tools/emu/src/main.rs"));
        assert!(Part::Model.has("tools/emu/src/main.rs"));
    }
}
