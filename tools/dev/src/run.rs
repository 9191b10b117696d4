// SPDX-License-Identifier: GPL-2.0
//! Guests for people and for other programs: the demonstration, the shell, one command.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::guest::{DEFAULT_EDU, DEFAULT_NPU, Ended, Guest, Job, Said};
use crate::image::Contents;
use crate::kernel::Kernel;
use crate::models::{Interrupts, PROGRAM};
use crate::modules::{self, Modules};
use crate::place::Place;
use crate::report::say;
use crate::support::Flavour;
use crate::{kvm, programs};

/// A guest may take this many seconds unless `ACCEL_LIMIT` says otherwise.
const LIMIT: u64 = 1800;

fn limit() -> Result<u64> {
    match std::env::var("ACCEL_LIMIT") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("ACCEL_LIMIT is '{text}', not a number of seconds")),
        Err(_) => Ok(LIMIT),
    }
}

/// Everything that a guest needs besides its job.
pub struct Ready {
    pub kernel: Kernel,
    pub modules: Modules,
    /// What the guest gets.
    pub programs: Vec<PathBuf>,
    /// The program that has the models of devices; it stays on the host.
    pub emulator: PathBuf,
}

impl Ready {
    pub fn new(place: &Place, flavour: Flavour) -> Result<Self> {
        let kernel = Kernel::get(place, flavour)?;
        let modules = modules::build(place, &kernel)?;
        let (emulator, programs): (Vec<_>, Vec<_>) = programs::workspace(place)?
            .into_iter()
            .partition(|path| path.ends_with(PROGRAM));
        Ok(Self {
            kernel,
            modules,
            programs,
            emulator: emulator
                .into_iter()
                .next()
                .with_context(|| format!("the workspace has no program {PROGRAM}"))?,
        })
    }

    /// A guest with our modules, all loaded, and our programs.
    pub fn guest<'a>(&'a self, place: &'a Place, job: Job) -> Result<Guest<'a>> {
        let mut contents = Contents::default();
        for program in &self.programs {
            let name = program
                .file_name()
                .and_then(|name| name.to_str())
                .with_context(|| format!("{} has no name", program.display()))?;
            contents
                .files
                .push((format!("usr/bin/{name}"), program.clone()));
        }
        let limit = Duration::from_secs(limit()?);
        Ok(Guest {
            place,
            kernel: &self.kernel,
            modules: Some(&self.modules),
            load: self.modules.loaded_by_default(),
            contents,
            job,
            accel: kvm::choose(place, &self.kernel)?,
            cpus: 2,
            edu: DEFAULT_EDU,
            npu: DEFAULT_NPU,
            npu_interrupts: Interrupts::default(),
            emulator: Some(&self.emulator),
            plugin: None,
            record: false,
            cmdline: String::new(),
            cycles: None,
            restarts: false,
            limit,
            silence: limit,
        })
    }
}

/// Passes a job's output on, live.
pub fn pass_on(said: Said) {
    // A reader that went away does not stop the guest; its status still counts.
    let _ = match said {
        Said::Out(bytes) => {
            let mut out = io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        Said::Err(bytes) => io::stderr().lock().write_all(bytes),
        // For those who have asked for it.
        Said::Record(_) => Ok(()),
    };
}

/// The exit code that says what the job's status and the kernel log say.
pub fn exit_code(ended: &Ended) -> ExitCode {
    if let Some(trouble) = ended.trouble() {
        eprintln!("accel: {trouble}");
    }
    match ended.status {
        Some(0) if ended.trouble().is_some() => ExitCode::FAILURE,
        Some(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        None => ExitCode::FAILURE,
    }
}

pub fn demo(place: &Place, flavour: Flavour) -> Result<ExitCode> {
    let ready = Ready::new(place, flavour)?;
    let job = "accel-demo /put/vmlinuz && echo && exec accel-run --check person_detect astronaut";
    let mut guest = ready.guest(place, Job::Command(job.to_owned()))?;
    guest
        .contents
        .files
        .push(("put/vmlinuz".to_owned(), ready.kernel.image.clone()));
    say(format!(
        "booting {} under {} ...",
        ready.kernel.release, guest.accel
    ));
    let ended = guest.run(pass_on)?;
    let code = exit_code(&ended);
    if ended.status == Some(0) && ended.trouble().is_none() {
        say("done; 'make shell' brings you into such a guest, 'make help' says what else there is");
    }
    Ok(code)
}

pub fn shell(place: &Place, flavour: Flavour) -> Result<ExitCode> {
    if !io::stdin().is_terminal() {
        bail!("a shell needs a terminal; for one command there is make vm RUN='...'");
    }
    let ready = Ready::new(place, flavour)?;
    let guest = ready.guest(place, Job::Shell)?;
    say(format!(
        "booting under {}; 'exit' or Ctrl-D ends the guest",
        guest.accel
    ));
    let ended = guest.run(pass_on)?;
    Ok(exit_code(&ended))
}

/// Runs `line` in a guest with the files that `put` names (separated by white space).
pub fn command(place: &Place, flavour: Flavour, line: &str, put: &str) -> Result<ExitCode> {
    if line.trim().is_empty() {
        bail!("nothing to run: make vm RUN='command' [PUT='files'] [FLAVOUR=amd64]");
    }
    let mut files = Vec::new();
    for given in put.split_whitespace() {
        let path = place.host_path(given).context("PUT")?;
        let name = Path::new(given)
            .file_name()
            .and_then(|name| name.to_str())
            .with_context(|| format!("PUT names '{given}', which has no file name"))?;
        files.push((format!("put/{name}"), path));
    }
    let ready = Ready::new(place, flavour)?;
    let mut guest = ready.guest(place, Job::Command(line.to_owned()))?;
    guest.contents.files.extend(files);
    let ended = guest.run(pass_on)?;
    Ok(exit_code(&ended))
}
