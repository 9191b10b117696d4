// SPDX-License-Identifier: GPL-2.0
//! The kselftests: run in few boots, their results taken apart.

use std::cmp::Reverse;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

use crate::guest::{Accel, Ended, Guest, Job, Said};
use crate::kunit;
use crate::packages;
use crate::place::Place;
use crate::programs::Built;
use crate::report::{say, seconds};
use crate::run::Ready;
use crate::support::Flavour;
use crate::tap::{self, Case, Outcome};
use crate::workers::{self, Slots};

/// The name of the case that a report in the kernel's log is.
pub const KERNEL_LOG: &str = "kernel log";

/// What a boot and its end may take besides the tests.
const BOOT: u64 = 60;

/// Of how many programs a boot of their own is worth while.
const MANY: usize = 6;

/// The status of a program that was not started, because something that it needs is not there.
const NOT_BEGUN: i32 = 125;

/// One run of a program: with one kind of device, or with none.
#[derive(Debug, Clone)]
struct Run<'a> {
    built: &'a Built,
    file: String,
    kind: Option<&'a str>,
    /// `<flavour>/<file>.<kind>`
    name: String,
    /// Seconds that it may take.
    limit: u64,
}

/// How much the programs do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// What `make test` asks for.
    Short,
    /// As many cycles as somebody wants; only of programs that have such.
    Long { cycles: u64 },
}

/// What one program's run came to, or a whole boot.
pub struct Verdict {
    /// `<flavour>/<program>`
    pub name: String,
    pub cases: Vec<Case>,
    pub took: String,
    /// Whether the program began: all that it needs may not have been there.
    pub began: bool,
    /// All that the program said.
    pub output: String,
}

/// One boot, or more if guests die.
struct Boot<'a> {
    runs: Vec<Run<'a>>,
    /// What the KUnit suites are called, if they count here.
    suites: Option<String>,
}

/// Runs those programs whose names are `asked` for, in as many guests at a time as there are
/// `slots`; `report` gets each verdict as it comes.
pub fn run(
    place: &Place,
    ready: &Ready,
    built: &[Built],
    form: Form,
    slots: &Slots,
    asked: impl Fn(&str) -> bool,
    report: &mut (dyn FnMut(Verdict) + Send),
) -> Result<()> {
    let Flavour {
        name: flavour,
        patience,
        ..
    } = ready.kernel.flavour;
    let (own, shared): (Vec<Run>, Vec<Run>) = built
        .iter()
        .flat_map(|program| runs(flavour, program, form, u64::from(patience)))
        .filter(|run| asked(&run.name))
        .partition(|run| run.built.test.own_boot);
    let mut boots = boots_for(shared, slots.count());
    // They are run in the first boot.
    let suites = format!("{flavour}/kunit");
    if ready.kernel.flavour.is_ours() && form == Form::Short && asked(&suites) {
        if boots.is_empty() {
            boots.push(Boot::of(Vec::new()));
        }
        boots[0].suites = Some(suites);
    }
    boots.extend(own_boots(own));

    let report = Mutex::new(report);
    let done = workers::share(slots.count().min(boots.len()), &boots, |_, boots| {
        for boot in boots {
            let _slot = slots.take();
            boot.run(place, ready, form, &mut |verdict| {
                let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                report(verdict);
            })?;
        }
        Ok(())
    });
    done.into_iter().collect()
}

/// One boot for all; if several guests run at a time, one for each kind of device that many
/// programs run with.
fn boots_for(runs: Vec<Run>, at_once: usize) -> Vec<Boot> {
    let mut boots: Vec<(Option<&str>, Vec<Run>)> = Vec::new();
    let many = |kind| runs.iter().filter(|run| run.kind == kind).count() >= MANY;
    let kinds: Vec<_> = runs
        .iter()
        .map(|run| run.kind.filter(|_| at_once > 1 && many(run.kind)))
        .collect();
    for (run, kind) in runs.into_iter().zip(kinds) {
        match boots.iter_mut().find(|(its, _)| *its == kind) {
            Some((_, runs)) => runs.push(run),
            None => boots.push((kind, vec![run])),
        }
    }
    // What takes longest first, so that all end at about the same time.
    boots.sort_by_key(|(_, runs)| Reverse(runs.iter().map(|run| run.limit).sum::<u64>()));
    boots.into_iter().map(|(_, runs)| Boot::of(runs)).collect()
}

/// A boot for each program, what takes longest first.
fn own_boots(runs: Vec<Run>) -> Vec<Boot> {
    let mut boots: Vec<Boot> = Vec::new();
    for run in runs {
        match boots.last_mut() {
            Some(last) if last.runs.iter().any(|other| other.file == run.file) => {
                last.runs.push(run);
            }
            _ => boots.push(Boot::of(vec![run])),
        }
    }
    boots.sort_by_key(|boot| Reverse(boot.runs.iter().map(|run| run.limit).sum::<u64>()));
    boots
}

fn runs<'a>(flavour: &str, built: &'a Built, form: Form, patience: u64) -> Vec<Run<'a>> {
    let limit = match form {
        Form::Short => Some(built.test.timeout),
        Form::Long { .. } => built.test.stress,
    };
    // A clock that leaps gets further.
    let leaps = if built.test.debug_waits { 1 } else { patience };
    let Some(limit) = limit.map(|seconds| seconds * patience * leaps) else {
        return Vec::new();
    };
    let file = built
        .path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let base = format!("{flavour}/{file}");
    if built.test.devices.is_empty() {
        return vec![Run {
            built,
            file,
            kind: None,
            name: base,
            limit,
        }];
    }
    built
        .test
        .kinds_on(flavour, form != Form::Short)
        .map(|kind| Run {
            built,
            file: file.clone(),
            kind: Some(kind),
            name: format!("{base}.{kind}"),
            limit,
        })
        .collect()
}

impl<'a> Boot<'a> {
    fn of(runs: Vec<Run<'a>>) -> Self {
        Self { runs, suites: None }
    }

    /// Runs all, in one boot if no guest dies of them.
    fn run(
        &self,
        place: &Place,
        ready: &Ready,
        form: Form,
        report: &mut dyn FnMut(Verdict),
    ) -> Result<()> {
        let mut left = self.runs.clone();
        let mut suites = self.suites.clone();
        while !left.is_empty() || suites.is_some() {
            let flavour = ready.kernel.flavour.name;
            say(format!(
                "{flavour}: booting for {} test programs",
                left.len()
            ));
            let mut frames = Frames::default();
            let mut guest = guest(place, ready, form, &left)?;
            if ready.kernel.flavour.is_ours() && suites.is_none() {
                guest.cmdline.push_str(" kunit.enable=0");
            }
            if !left.iter().any(|run| run.built.test.own_boot) {
                guest.cmdline.push(' ');
                guest.cmdline.push_str(ready.kernel.flavour.cmdline_shared);
            }
            let ended = guest.run(|said| {
                let (Said::Out(bytes) | Said::Err(bytes) | Said::Record(bytes)) = said;
                frames.take(bytes, |frame| {
                    if let Some(run) = left.get(frame.number) {
                        report(Verdict {
                            name: run.name.clone(),
                            cases: results(run, &frame),
                            took: seconds(frame.took),
                            began: frame.status != NOT_BEGUN,
                            output: frame.output,
                        });
                    }
                });
            })?;
            let done = frames.ended;
            let died = done < left.len();
            if let Some(name) = suites.take() {
                report(Verdict {
                    name,
                    cases: kunit::cases(&ended.log),
                    took: "when loaded".to_owned(),
                    began: true,
                    output: String::new(),
                });
            }
            boot_results(flavour, &left, &ended, &frames, died, report);
            // The one that was running when the guest died has failed; the others get a new guest.
            left.drain(..if died { done + 1 } else { done });
        }
        Ok(())
    }
}

fn guest<'a>(place: &'a Place, ready: &'a Ready, form: Form, left: &[Run]) -> Result<Guest<'a>> {
    let mut guest = ready.guest(place, Job::Tests)?;
    let patience = u64::from(ready.kernel.flavour.patience);
    let mut list = String::new();
    let mut seconds = BOOT * patience;
    let mut longest = 0;
    for (number, run) in left.iter().enumerate() {
        let test = &run.built.test;
        let or_dash = |text: String| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                text
            }
        };
        list.push_str(&format!(
            "{number}\t{}\t{}\t{}\t{}\t{}\n",
            run.file,
            run.limit,
            run.kind.unwrap_or("-"),
            or_dash(test.modules.join(",")),
            test.args.join(" "),
        ));
        seconds += run.limit + 5;
        longest = longest.max(run.limit);
        guest.contents.files.push((
            format!("usr/lib/accel/selftests/{}", run.file),
            run.built.path.clone(),
        ));
        if test.own_boot {
            guest.edu = test.edu.unwrap_or(guest.edu);
            guest.npu = test.npu.unwrap_or(guest.npu);
            guest.npu_interrupts = test.npu_interrupts.unwrap_or(guest.npu_interrupts);
            guest.cmdline = test.cmdline.clone().unwrap_or_default();
            if !test.packages.is_empty() {
                let folder = packages::folder(place, &test.packages)?;
                guest
                    .contents
                    .files
                    .push(("usr".to_owned(), folder.join("usr")));
            }
            for file in &test.files {
                let name = file.rsplit('/').next().unwrap_or(file);
                guest.contents.files.push((
                    format!("usr/lib/accel/selftests/{name}"),
                    place.tree.join(file),
                ));
            }
            guest.restarts = test.restarts;
            if !test.debug_waits && ready.kernel.flavour.is_ours() {
                guest.accel = Accel::Counting;
            }
        }
    }
    guest.contents.texts.push(("accel/tests".to_owned(), list));
    if let Form::Long { cycles } = form {
        guest.cycles = Some(cycles);
    }
    guest.limit = Duration::from_secs(seconds);
    guest.silence = Duration::from_secs(longest + BOOT * patience);
    Ok(guest)
}

/// What a whole boot has to answer for: the kernel log, modules that did not load, its death.
fn boot_results(
    flavour: &str,
    left: &[Run],
    ended: &Ended,
    frames: &Frames,
    died: bool,
    report: &mut dyn FnMut(Verdict),
) {
    let failed = |name: &str, why: String| Case {
        name: name.to_owned(),
        outcome: Outcome::Failed(why),
    };
    let mut cases: Vec<Case> = ended
        .refused
        .iter()
        .map(|why| failed("modprobe", why.clone()))
        .collect();
    cases.extend(
        ended
            .reports
            .iter()
            .map(|report| failed(KERNEL_LOG, report.clone())),
    );
    cases.extend(
        ended
            .models
            .iter()
            .map(|why| failed("device model", why.clone())),
    );
    if !cases.is_empty() {
        report(Verdict {
            name: format!("{flavour}/guest"),
            cases,
            took: "whole boot".to_owned(),
            began: true,
            output: String::new(),
        });
    }
    // A guest that never got to its tests is the first one's failure.
    if died {
        let run = &left[frames.ended];
        let why = format!(
            "{}\n{}",
            ended.trouble().unwrap_or_default(),
            crate::command::tail(&frames.open, 20)
        );
        report(Verdict {
            name: run.name.clone(),
            cases: vec![failed("guest lost", why)],
            took: "guest lost".to_owned(),
            began: frames.begun > frames.ended,
            output: frames.open.clone(),
        });
    }
}

/// The cases of one program's run, and what its exit status adds to them.
fn results(run: &Run, frame: &Frame) -> Vec<Case> {
    let mut cases = tap::cases(&frame.output);
    let has_failed = cases
        .iter()
        .any(|case| matches!(case.outcome, Outcome::Failed(_)));
    let shown = crate::command::tail(&frame.output, 15);
    let trouble = match frame.status {
        // SIGKILL comes from the time limit only.
        137 => Some(format!("took longer than {} s\n{shown}", run.limit)),
        4 if cases.is_empty() => {
            cases.push(Case {
                name: "all".to_owned(),
                outcome: Outcome::Skipped(frame.output.trim().to_owned()),
            });
            None
        }
        0 if cases.is_empty() => Some(format!("printed no results\n{shown}")),
        0 => None,
        _ if has_failed => None,
        status => Some(format!("exit status {status}\n{shown}")),
    };
    let planned = tap::plan(&frame.output).unwrap_or(0);
    if let Some(why) = trouble {
        cases.push(Case {
            name: "program".to_owned(),
            outcome: Outcome::Failed(why),
        });
    } else if cases.len() < planned {
        cases.push(Case {
            name: "program".to_owned(),
            outcome: Outcome::Failed(format!(
                "announced {planned} results, gave {}\n{shown}",
                cases.len()
            )),
        });
    }
    cases
}

/// What one program printed.
struct Frame {
    number: usize,
    status: i32,
    took: Duration,
    output: String,
}

/// Takes the stream of all programs apart.
#[derive(Default)]
struct Frames {
    partial: Vec<u8>,
    /// What the program that is running has printed.
    open: String,
    /// How many have begun, and how many ended.
    begun: usize,
    ended: usize,
}

impl Frames {
    fn take(&mut self, bytes: &[u8], mut whole: impl FnMut(Frame)) {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).into_owned();
            if line.starts_with("@accel begin ") {
                self.open.clear();
                self.begun += 1;
            } else if let Some(rest) = line.strip_prefix("@accel end ") {
                if let Some(frame) = frame(rest, &mut self.open) {
                    self.ended += 1;
                    whole(frame);
                }
            } else {
                self.open.push_str(&line);
            }
        }
    }
}

fn frame(rest: &str, output: &mut String) -> Option<Frame> {
    let mut words = rest.split_whitespace();
    let number = words.next()?.parse().ok()?;
    let status = words.next()?.parse().ok()?;
    let began: f64 = words.next()?.parse().ok()?;
    let ended: f64 = words.next()?.parse().ok()?;
    Some(Frame {
        number,
        status,
        took: Duration::from_secs_f64((ended - began).max(0.0)),
        output: std::mem::take(output),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_however_they_are_cut() {
        let stream = b"\n@accel begin 0\nok 1 a\n\n@accel end 0 0 1.5 2.75\n\n@accel begin 1\nhalf";
        let mut frames = Frames::default();
        let mut seen = Vec::new();
        for byte in stream {
            frames.take(&[*byte], |frame| {
                seen.push((frame.number, frame.took, frame.output))
            });
        }
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].0, 0);
        assert_eq!(seen[0].1, Duration::from_millis(1250));
        assert!(seen[0].2.contains("ok 1 a"));
        assert_eq!((frames.begun, frames.ended), (2, 1));
    }
}
