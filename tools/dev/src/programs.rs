// SPDX-License-Identifier: GPL-2.0
//! Building what runs in the guest's user space: the workspace's programs and the kselftests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, bail};

use crate::command::{logged, output, tied};
use crate::kernel::Kernel;
use crate::manifest::Test;
use crate::models::PROGRAM;
use crate::place::Place;
use crate::report::{say, seconds};
use crate::step::Lock;

/// What makes up programs for our calls.
const FUZZER: &str = "accel-fuzz";

/// The workspace's programs, but for this one and the fuzzer, which few need and which takes long.
pub fn workspace(place: &Place) -> Result<Vec<PathBuf>> {
    let started = Instant::now();
    let programs = build(
        place,
        &[
            "--workspace",
            "--bins",
            "--exclude",
            "accel-dev",
            "--exclude",
            FUZZER,
        ],
    )?;
    if started.elapsed().as_secs() > 2 {
        say(format!("programs: built in {}", seconds(started.elapsed())));
    }
    Ok(programs)
}

/// The fuzzer.
pub fn fuzzer(place: &Place) -> Result<PathBuf> {
    let started = Instant::now();
    let programs = build(place, &["--package", FUZZER, "--bins"])?;
    if started.elapsed().as_secs() > 2 {
        say(format!("{FUZZER}: built in {}", seconds(started.elapsed())));
    }
    programs
        .into_iter()
        .find(|path| path.ends_with(FUZZER))
        .with_context(|| format!("the workspace has no program {FUZZER}"))
}

/// Builds programs of the workspace, and says where they are.
fn build(place: &Place, which: &[&str]) -> Result<Vec<PathBuf>> {
    let _lock = Lock::take(&place.work.join("cargo.lock"), "building this checkout")?;
    let arguments = ["build", "--offline", "--release", "--quiet"];
    logged(
        tied("cargo")
            .args(arguments)
            .args(which)
            .current_dir(place.tools()),
        &place.log("programs.log"),
        "programs of the workspace",
    )?;
    // The same again costs nothing and says where they are.
    let json = output(
        Command::new("cargo")
            .args(arguments)
            .args(which)
            .arg("--message-format=json")
            .current_dir(place.tools()),
    )?;

    Ok(json
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once("\"executable\":\"")?;
            rest.split_once('"').map(|(path, _)| PathBuf::from(path))
        })
        .collect())
}

/// Builds the plugin that counts a guest's instructions.
pub fn plugin(place: &Place) -> Result<PathBuf> {
    let _lock = Lock::take(&place.work.join("cargo.lock"), "building this checkout")?;
    let json = output(
        tied("cargo")
            .args(["build", "--offline", "--release", "--quiet"])
            .args(["--package", "accel-bench-plugin", "--message-format=json"])
            .current_dir(place.tools()),
    )?;
    json.lines()
        .filter(|line| line.contains("accel_bench_plugin"))
        .find_map(|line| {
            let (_, rest) = line.split_once("\"filenames\":[\"")?;
            rest.split_once('"').map(|(path, _)| PathBuf::from(path))
        })
        .context("cargo does not say where the plugin is")
}

/// Builds the program with the device models in a copy of the checkout, with `target` for
/// cargo's outputs.
pub fn emulator(place: &Place, tree: &Path, target: &Path) -> Result<PathBuf> {
    logged(
        tied("cargo")
            .args(["build", "--offline", "--release", "--bin", PROGRAM])
            .env("CARGO_TARGET_DIR", target)
            .current_dir(tree.join("tools")),
        &place.log("emulator.log"),
        "the program with the device models",
    )?;
    Ok(target.join("release").join(PROGRAM))
}

/// A kselftest program, built.
#[derive(Debug, Clone)]
pub struct Built {
    pub test: Test,
    /// The file in the build folder; its name is the name in the guest.
    pub path: PathBuf,
}

/// Builds the test programs that are older than what they are made of.
pub fn selftests(place: &Place, kernel: &Kernel, tests: &[Test]) -> Result<Vec<Built>> {
    let started = Instant::now();
    let _lock = Lock::take(&place.work.join("selftests.lock"), "building this checkout")?;
    let folder = place.work.join("selftests");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let headers = newest_header(&[
        place.selftests(),
        place.tree.join("include/uapi/accel"),
        kernel.source.join("tools/testing/selftests/kselftest"),
    ])?;
    let mut built = Vec::new();
    let mut jobs = Vec::new();
    for test in tests.iter().filter(|test| !test.host) {
        for i386 in [false, true] {
            if i386 && !test.i386 {
                continue;
            }
            let name = if i386 {
                format!("{}.i386", test.name)
            } else {
                test.name.clone()
            };
            let path = folder.join(&name);
            let sources: Vec<PathBuf> = test
                .sources
                .iter()
                .map(|source| place.selftests().join(source))
                .collect();
            if test.is_script() {
                fs::copy(&sources[0], &path)
                    .with_context(|| format!("copying {}", sources[0].display()))?;
            } else if !is_newer(&path, &sources, headers) {
                jobs.push((compiler(place, kernel, test, i386, &sources, &path), name));
            }
            built.push(Built {
                test: test.clone(),
                path,
            });
        }
    }
    let count = jobs.len();
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    while !jobs.is_empty() {
        let batch = jobs.split_off(jobs.len().saturating_sub(workers));
        compile(place, batch)?;
    }
    if count > 0 {
        say(format!(
            "{count} kselftest programs: built in {}",
            seconds(started.elapsed())
        ));
    }
    Ok(built)
}

fn compiler(
    place: &Place,
    kernel: &Kernel,
    test: &Test,
    i386: bool,
    sources: &[PathBuf],
    to: &Path,
) -> Command {
    let mut gcc = tied("gcc");
    gcc.args(["-std=gnu11", "-O2", "-g", "-pthread"])
        .args([
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-sign-compare",
            "-Wno-unused-parameter",
        ])
        .args(["-D_GNU_SOURCE=", "-D_FILE_OFFSET_BITS=64"])
        .arg("-I")
        .arg(place.selftests())
        .arg("-I")
        .arg(place.tree.join("include/uapi"))
        .arg("-isystem")
        .arg(kernel.source.join("tools/testing/selftests"));
    if i386 {
        gcc.args(["-m32", "-static"]);
    }
    gcc.args(sources)
        .arg("-o")
        .arg(to.with_file_name(unfinished(to)));
    gcc.args(test.libs.iter().map(|lib| format!("-l{lib}")));
    gcc
}

fn unfinished(to: &Path) -> String {
    let name = to.file_name().and_then(|name| name.to_str()).unwrap_or("x");
    format!(".{name}.unfinished")
}

fn compile(place: &Place, batch: Vec<(Command, String)>) -> Result<()> {
    let mut running = Vec::new();
    for (mut command, name) in batch {
        let child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting gcc")?;
        running.push((child, name));
    }
    let mut broken = Vec::new();
    for (child, name) in running {
        let done = child.wait_with_output().context("waiting for gcc")?;
        let path = place.work.join("selftests").join(&name);
        if done.status.success() {
            fs::rename(path.with_file_name(unfinished(&path)), &path)
                .with_context(|| format!("renaming {}", path.display()))?;
        } else {
            broken.push(format!(
                "{name}:\n{}",
                String::from_utf8_lossy(&done.stderr)
            ));
        }
    }
    if !broken.is_empty() {
        bail!("kselftests do not build: {}", broken.join("\n"));
    }
    Ok(())
}

fn newest_header(folders: &[PathBuf]) -> Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for folder in folders {
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "h") {
                newest = newest.max(fs::metadata(&path)?.modified()?);
            }
        }
    }
    Ok(newest)
}

fn is_newer(path: &Path, sources: &[PathBuf], headers: SystemTime) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
    let Ok(built) = time(path) else {
        return false;
    };
    built > headers
        && sources
            .iter()
            .all(|source| time(source).is_ok_and(|changed| built > changed))
}
