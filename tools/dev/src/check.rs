// SPDX-License-Identifier: GPL-2.0
//! `make check`: what can be said about the code without running it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::check_rules as rules;
use crate::command::{tail, tied};
use crate::kernel::Kernel;
use crate::modules;
use crate::mutants;
use crate::panics;
use crate::place::Place;
use crate::report::{Colour, elapsed, line, paint, seconds};
use crate::support::Flavour;

/// What checkpatch asks of patches and not of files, or of the kernel's own tree only.
const CHECKPATCH_IGNORED: &str = "FILE_PATH_CHANGES,LINUX_VERSION_CODE,EMBEDDED_FILENAME";

/// What kselftest_harness.h makes programs look like.
const CHECKPATCH_IGNORED_IN_TESTS: &str = "COMPLEX_MACRO,MACRO_WITH_FLOW_CONTROL,SPACING,\
                                           CAMELCASE,PREFER_KERNEL_TYPES,AVOID_BUG,\
                                           NEW_TYPEDEFS,OPEN_ENDED_LINE,AVOID_EXTERNS,\
                                           STRCPY,STRNCPY,CONSTANT_CONVERSION,VOLATILE,\
                                           SPLIT_STRING,LINE_SPACING,CODE_INDENT,\
                                           LEADING_SPACE,BRACES";

struct Check<'a> {
    place: &'a Place,
    kernel: Kernel,
    files: Vec<PathBuf>,
    failed: Vec<&'static str>,
}

/// Rewrites the files as the formatters want them.
pub fn format(place: &Place, flavour: Flavour) -> Result<ExitCode> {
    let check = Check::new(place, flavour)?;
    let rust = check.kernel_rust();
    if !rust.is_empty() {
        quiet(&mut rustfmt(&check.kernel, rust))?;
    }
    let c = check.c_files();
    if !c.is_empty() {
        quiet(clang_format(&check.kernel, c).arg("-i"))?;
    }
    check.cargo(&["fmt", "--all"], &[])?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the reference of what drivers import, and says where it is.
pub fn docs(place: &Place, flavour: Flavour) -> Result<ExitCode> {
    Check::new(place, flavour)?.kernel_rustdoc()?;
    println!("{}", place.work.join("doc/accel_core/index.html").display());
    Ok(ExitCode::SUCCESS)
}

pub fn run(place: &Place, flavour: Flavour) -> Result<ExitCode> {
    let mut check = Check::new(place, flavour)?;
    check.step("file sizes", |it| rules::sizes(&it.place.tree, &it.files));
    check.step("licence lines", |it| {
        rules::licences(&it.place.tree, &it.files)
    });
    check.step("no unsafe in drivers and samples", |it| {
        rules::no_unsafe(&it.place.tree, &it.files)
    });
    check.step("no cleanup in drivers and samples", |it| {
        rules::no_cleanup(&it.place.tree, &it.files)
    });
    check.step("mutants apply", |it| mutants::check(it.place));
    check.step("rustfmt", Check::rustfmt);
    check.step("clang-format", Check::clang_format);
    check.step("checkpatch", Check::checkpatch);
    check.step("shellcheck", Check::shellcheck);
    check.step("cargo fmt", |it| {
        it.cargo(&["fmt", "--all", "--check"], &[])
    });
    check.step("Cargo.lock", |it| {
        it.cargo(
            &["metadata", "--locked", "--offline", "--format-version=1"],
            &[],
        )
    });
    check.step("cargo clippy", |it| {
        it.cargo(
            &[
                "clippy",
                "--offline",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ],
            &[],
        )
    });
    check.step("cargo doc", |it| {
        it.cargo(
            &[
                "doc",
                "--offline",
                "--workspace",
                "--no-deps",
                "--document-private-items",
            ],
            &[("RUSTDOCFLAGS", "-D warnings")],
        )
    });
    check.step("kbuild with CLIPPY=1", Check::kernel_clippy);
    check.step("rustdoc of the modules", Check::kernel_rustdoc);
    check.step("panics that never happen", |it| {
        panics::check(it.place, &it.kernel)
    });

    if check.failed.is_empty() {
        line("check: all is well");
        return Ok(ExitCode::SUCCESS);
    }
    line(format!("check: failed: {}", check.failed.join(", ")));
    Ok(ExitCode::FAILURE)
}

impl<'a> Check<'a> {
    fn new(place: &'a Place, flavour: Flavour) -> Result<Self> {
        Ok(Self {
            place,
            kernel: Kernel::get(place, flavour)?,
            files: rules::files(&place.tree)?,
            failed: Vec::new(),
        })
    }

    fn step(&mut self, what: &'static str, run: impl FnOnce(&Self) -> Result<()>) {
        let began = Instant::now();
        let result = run(self);
        let word = match &result {
            Ok(()) => paint(Colour::Good, "ok"),
            Err(_) => paint(Colour::Bad, "failed"),
        };
        line(format!(
            "[{:4} s] {what}: {word} ({})",
            elapsed(),
            seconds(began.elapsed())
        ));
        if let Err(error) = result {
            line(format!("{error:#}"));
            self.failed.push(what);
        }
    }

    fn cargo(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
        let mut cargo = tied("cargo");
        cargo
            .args(arguments)
            .envs(environment.iter().copied())
            .env("CARGO_TERM_COLOR", "never")
            .current_dir(self.place.tools());
        quiet(&mut cargo)
    }

    /// Kernel code; the workspace has cargo fmt.
    fn rustfmt(&self) -> Result<()> {
        let files = self.kernel_rust();
        if files.is_empty() {
            return Ok(());
        }
        quiet(rustfmt(&self.kernel, files).args(["--check", "--color", "never"]))
    }

    fn clang_format(&self) -> Result<()> {
        let mut odd = Vec::new();
        for file in self.c_files() {
            let style = clang_format(&self.kernel, vec![file.clone()])
                .args(["--dry-run", "-Werror", "--ferror-limit=3"])
                .stdin(Stdio::null())
                .output()
                .context("starting clang-format")?;
            if !style.status.success() {
                odd.push(tail(&String::from_utf8_lossy(&style.stderr), 3));
            }
        }
        if odd.is_empty() {
            return Ok(());
        }
        bail!("{}\n  'make format' puts them right", odd.join("\n"));
    }

    /// Kernel code; cargo formats the workspace and the programs among the samples.
    fn kernel_rust(&self) -> Vec<PathBuf> {
        self.select(|path| {
            ends(path, &["rs"]) && !path.starts_with("tools") && !path.starts_with("samples/user")
        })
    }

    fn c_files(&self) -> Vec<PathBuf> {
        self.select(|path| ends(path, &["c", "h"]) && !is_generated(path))
    }

    fn checkpatch(&self) -> Result<()> {
        let tests = Path::new("tools/testing");
        let ours = self.select(|path| {
            ends(path, &["c", "h"]) && !path.starts_with(tests) && !is_generated(path)
        });
        let programs = self.select(|path| ends(path, &["c", "h"]) && path.starts_with(tests));
        self.checkpatch_on(ours, CHECKPATCH_IGNORED)?;
        self.checkpatch_on(
            programs,
            &format!("{CHECKPATCH_IGNORED},{CHECKPATCH_IGNORED_IN_TESTS}"),
        )
    }

    fn checkpatch_on(&self, files: Vec<PathBuf>, ignored: &str) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        quiet(
            tied("perl")
                .arg(self.kernel.source.join("scripts/checkpatch.pl"))
                .args([
                    "--no-tree",
                    "--quiet",
                    "--terse",
                    "--show-types",
                    "--no-summary",
                ])
                .args(["--ignore", ignored, "-f"])
                .args(files),
        )
    }

    fn shellcheck(&self) -> Result<()> {
        let files: Vec<PathBuf> = self
            .select(|_| true)
            .into_iter()
            .filter(|path| {
                ends(path, &["sh"])
                    || fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"#!/bin/sh"))
            })
            .collect();
        quiet(tied("shellcheck").args(["--shell=sh"]).args(files))
    }

    /// The modules built anew by clippy; a warning of rustc, clippy, gcc or modpost fails.
    fn kernel_clippy(&self) -> Result<()> {
        let folder = self.place.work.join("build/clippy");
        let output = modules::build_anew(self.place, &self.kernel, &folder, &["CLIPPY=1", "W=e"])?;
        let warnings: Vec<&str> = output
            .lines()
            .filter(|line| line.starts_with("warning") || line.contains(": warning:"))
            .filter(|line| !line.contains("warning emitted") && !line.contains("warnings emitted"))
            .collect();
        if warnings.is_empty() {
            return Ok(());
        }
        bail!("{}\n{}", warnings.join("\n"), tail(&output, 80));
    }

    /// rustdoc with the flags that kbuild gave rustc.
    fn kernel_rustdoc(&self) -> Result<()> {
        let folder = self.place.work.join("build").join(self.kernel.flavour.name);
        modules::build(self.place, &self.kernel)?;
        for path in rules::walk(&folder)? {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if !name.ends_with(".o.cmd") {
                continue;
            }
            let text = fs::read_to_string(&path)?;
            let command = text
                .lines()
                .next()
                .and_then(|line| line.split_once(" := "))
                .map_or("", |(_, command)| command);
            if !command.contains(" rustc ") {
                continue;
            }
            let doc = self.place.work.join("doc");
            quiet(
                tied("sh")
                    .arg("-c")
                    .arg(rustdoc(command, &doc))
                    .env("RUSTC_BOOTSTRAP", "1")
                    .current_dir(&folder),
            )
            .with_context(|| format!("rustdoc as in {}", path.display()))?;
        }
        Ok(())
    }

    /// Full paths of those files whose path in the checkout fits.
    fn select(&self, fits: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
        self.files
            .iter()
            .filter(|path| fits(path))
            .map(|path| self.place.tree.join(path))
            .collect()
    }
}

fn rustfmt(kernel: &Kernel, files: Vec<PathBuf>) -> Command {
    let mut rustfmt = tied("rustfmt");
    rustfmt
        .args(["--edition", "2021", "--config-path"])
        .arg(kernel.source.join(".rustfmt.toml"))
        .args(files);
    rustfmt
}

fn clang_format(kernel: &Kernel, files: Vec<PathBuf>) -> Command {
    let style = kernel.source.join(".clang-format");
    let mut format = tied("clang-format");
    format
        .arg(format!("--style=file:{}", style.display()))
        .args(files);
    format
}

/// Turns a saved command line of rustc into one of rustdoc.
fn rustdoc(command: &str, output: &Path) -> String {
    let mut words = Vec::new();
    let mut given = command.split_whitespace();
    while let Some(word) = given.next() {
        match word {
            "rustc" => words.push("rustdoc".to_owned()),
            "--out-dir" => drop(given.next()),
            // Which rustdoc does not know: it goes into the real environment.
            "--env-set" => words.insert(0, given.next().unwrap_or_default().to_owned()),
            // What follows is objtool's.
            ";" => break,
            _ if word.starts_with("--emit=") || word.starts_with("-Clto") => {}
            _ => words.push(word.to_owned()),
        }
    }
    words.push("-Dwarnings --document-private-items --output".to_owned());
    words.push(output.display().to_string());
    words.join(" ")
}

fn ends(path: &Path, ends: &[&str]) -> bool {
    path.extension()
        .and_then(|end| end.to_str())
        .is_some_and(|end| ends.contains(&end))
}

/// Files that a program wrote follow no style.
fn is_generated(path: &Path) -> bool {
    path.to_string_lossy().contains("generated")
}

/// Runs it; what it said is the error if it fails.
fn quiet(command: &mut Command) -> Result<()> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    if done.status.success() {
        return Ok(());
    }
    let said = [done.stdout, done.stderr].concat();
    bail!("{}", tail(&String::from_utf8_lossy(&said), 80));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_for_rustdoc() {
        let found = rustdoc(
            "A=b rustc -Clto=n --emit=obj=a.o --out-dir ./ --cfg MODULE a.rs",
            Path::new("/doc"),
        );
        assert_eq!(
            found,
            "A=b rustdoc --cfg MODULE a.rs -Dwarnings --document-private-items --output /doc"
        );
    }
}
