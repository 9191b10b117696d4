// SPDX-License-Identifier: GPL-2.0
//! Fuzzing: `accel-fuzz` runs in a guest of the flavour with KASAN and KCOV. What its programs
//! reach is kept in the cache and begun with the next time; what they break is kept to be run
//! again.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::guest::{Ended, Guest, Job, Said};
use crate::klog;
use crate::place::Place;
use crate::programs;
use crate::report::{say, seconds};
use crate::run::{Ready, exit_code, pass_on};
use crate::support::{self, Flavour};
use crate::tap::{Case, Outcome};
use crate::tests::{Tally, is_asked};

/// The flavour whose kernel says what is executed.
const FLAVOUR: &str = "debug";

/// Minutes, if nobody says how many.
const MINUTES: u64 = 10;

/// Seconds of the run that is part of the tests.
const SHORT: u64 = 60;

/// How often programs are run again to see whether they still break something.
const REPLAYS: usize = 20;

/// What the guest needs besides the run itself.
const AROUND: Duration = Duration::from_secs(300);

/// The programs before the last one are kept with it: what breaks may have been broken by them.
const LAST: usize = 16;

/// Memory that the programs may use together; the rest of the guest is to live on.
const MEMORY: &str = "600M";

/// Where things are in the guest.
const SEEDS: &str = "put/seeds";
const CORPUS: &str = "put/corpus";
const PROGRAMS: &str = "put/programs";
const SIGNS: &str = "put/signs";

/// What a guest has told through its port.
#[derive(Debug, Default)]
struct Told {
    /// The beginning of a line.
    rest: Vec<u8>,
    /// The last programs that began to run.
    last: VecDeque<String>,
    /// Those that reached something new, in order.
    kept: Vec<String>,
    /// Those that took too long.
    killed: Vec<String>,
    /// Functions, and how far each was reached.
    reached: Vec<String>,
}

impl Told {
    fn hear(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            match line.trim_end().split_once(' ') {
                Some(("run", program)) => {
                    self.last.push_back(program.to_owned());
                    if self.last.len() > LAST {
                        self.last.pop_front();
                    }
                }
                Some(("keep", program)) => self.kept.push(program.to_owned()),
                Some(("killed", program)) => self.killed.push(program.to_owned()),
                Some(("reached", function)) => self.reached.push(function.to_owned()),
                _ => {}
            }
        }
    }
}

fn lines(programs: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut text = String::new();
    for program in programs {
        text.push_str(program.as_ref());
        text.push('\n');
    }
    text
}

/// A run that has ended.
struct Done {
    ended: Ended,
    told: Told,
}

impl Done {
    fn is_fine(&self) -> bool {
        self.ended.status == Some(0) && self.ended.trouble().is_none()
    }

    /// Keeps the last programs of a run that found something; says where.
    fn save(&self, place: &Place) -> Result<Option<PathBuf>> {
        if self.told.last.is_empty() {
            return Ok(None);
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_secs());
        let path = folder(place)?.join(format!("found-{now}.jsonl"));
        fs::write(&path, lines(&self.told.last))
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(Some(path))
    }
}

/// Writes a file that is there as it was, or whole.
fn replace(path: &Path, text: &[String]) -> Result<()> {
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, lines(text))
        .and_then(|()| fs::rename(&unfinished, path))
        .with_context(|| format!("writing {}", path.display()))
}

/// What is kept from one run to the next.
fn folder(place: &Place) -> Result<PathBuf> {
    let folder = place.cache.join("fuzz");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// A guest that runs `accel-fuzz` with these arguments.
fn guest<'a>(place: &'a Place, ready: &'a Ready, arguments: &str) -> Result<Guest<'a>> {
    let group = "/sys/fs/cgroup/fuzz";
    let command = format!(
        "set -e\n\
         echo +memory >/sys/fs/cgroup/cgroup.subtree_control\n\
         mkdir {group}\n\
         echo {MEMORY} >{group}/memory.max\n\
         echo $$ >{group}/cgroup.procs\n\
         exec accel-fuzz --record /dev/virtio-ports/accel.record --signs /{SIGNS} \
         --patience {} {arguments}",
        ready.kernel.flavour.patience
    );
    let mut guest = ready.guest(place, Job::Command(command))?;
    let fuzzer = ("usr/bin/accel-fuzz".to_owned(), programs::fuzzer(place)?);
    guest.contents.files.push(fuzzer);
    guest.record = true;
    // KCOV takes the offset of a kernel that lies elsewhere from addresses in modules, too.
    guest.cmdline = "nokaslr".to_owned();
    let signs = (SIGNS.to_owned(), lines(klog::SIGNS));
    guest.contents.texts.push(signs);
    Ok(guest)
}

/// The guest of a run that makes programs up.
fn fuzzing<'a>(
    place: &'a Place,
    ready: &'a Ready,
    time: Duration,
    seed: u64,
    corpus: &Path,
) -> Result<Guest<'a>> {
    let mut arguments = format!("run --seconds {} --seed {seed}", time.as_secs());
    if ready.kernel.flavour.name == FLAVOUR {
        arguments.push_str(" --coverage");
    }
    arguments.push_str(&format!(" /{SEEDS}"));
    if corpus.exists() {
        arguments.push_str(&format!(" /{CORPUS}"));
    }
    let mut guest = guest(place, ready, &arguments)?;
    let seeds = place.tools().join("fuzz/seeds");
    guest.contents.files.push((SEEDS.to_owned(), seeds));
    if corpus.exists() {
        let corpus = (CORPUS.to_owned(), corpus.to_owned());
        guest.contents.files.push(corpus);
    }
    guest.limit = time + AROUND * ready.kernel.flavour.patience;
    guest.silence = guest.limit;
    Ok(guest)
}

fn follow(guest: Guest, mut hear: impl FnMut(Said)) -> Result<Done> {
    let mut told = Told::default();
    let ended = guest.run(|said| match said {
        Said::Record(bytes) => told.hear(bytes),
        other => hear(other),
    })?;
    Ok(Done { ended, told })
}

pub fn run(
    place: &Place,
    flavour: Option<Flavour>,
    minutes: &str,
    replay: &str,
) -> Result<ExitCode> {
    let flavour = match flavour {
        Some(flavour) => flavour,
        None => support::flavour(FLAVOUR)?,
    };
    let minutes = match minutes {
        "" => MINUTES,
        text => match text.parse() {
            Ok(minutes @ 1..=10_000) => minutes,
            _ => bail!("MINUTES is '{text}', not a number from 1 to 10000"),
        },
    };
    let ready = Ready::new(place, flavour)?;
    let corpus = folder(place)?.join("corpus.jsonl");
    let guest = if replay.is_empty() {
        say(format!("fuzzing {} for {minutes} min ...", flavour.name));
        let seed = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |now| now.as_secs());
        let time = Duration::from_secs(minutes * 60);
        fuzzing(place, &ready, time, seed, &corpus)?
    } else {
        let file = place.host_path(replay).context("REPLAY")?;
        // The end of the name says whether it is one program or one a line.
        let end = file.extension().unwrap_or_default().to_string_lossy();
        let inside = format!("{PROGRAMS}.{end}");
        let mut guest = guest(
            place,
            &ready,
            &format!("replay --times {REPLAYS} /{inside}"),
        )?;
        guest.contents.files.push((inside, file));
        guest
    };
    let done = follow(guest, pass_on)?;
    let code = exit_code(&done.ended);
    if !done.told.killed.is_empty() {
        let path = folder(place)?.join("killed.jsonl");
        replace(&path, &done.told.killed)?;
        say(format!(
            "programs that took too long: make fuzz REPLAY={}",
            path.display()
        ));
    }
    if !done.told.reached.is_empty() {
        let path = folder(place)?.join("reached.txt");
        replace(&path, &done.told.reached)?;
        say(format!("all functions: {}", path.display()));
    }
    if done.is_fine() {
        if !done.told.kept.is_empty() {
            replace(&corpus, &done.told.kept)?;
        }
    } else if replay.is_empty() {
        if let Some(path) = done.save(place)? {
            say(format!(
                "the last programs are kept: make fuzz REPLAY={}",
                path.display()
            ));
        }
    }
    Ok(code)
}

/// A short run as a test: from the seeds only, so that it depends on nothing that went before.
pub fn test(place: &Place, ready: &Ready, pattern: &str, tally: &mut Tally) -> Result<()> {
    let name = format!("{}/fuzz", ready.kernel.flavour.name);
    if ready.kernel.flavour.name != FLAVOUR || !is_asked(pattern, &name) {
        return Ok(());
    }
    let began = Instant::now();
    let time = Duration::from_secs(SHORT);
    let guest = fuzzing(place, ready, time, 1, Path::new(""))?;
    let mut printed = Vec::new();
    let done = follow(guest, |said| {
        let (Said::Out(bytes) | Said::Err(bytes) | Said::Record(bytes)) = said;
        printed.extend_from_slice(bytes);
    })?;
    let printed = String::from_utf8_lossy(&printed).into_owned();
    let mut took = seconds(began.elapsed());
    if let Some(sum) = printed
        .lines()
        .rfind(|line| line.contains(" executions in "))
    {
        took.push_str(&format!("; {sum}"));
    }
    let outcome = if done.is_fine() {
        Outcome::Passed
    } else {
        let mut why = printed;
        if let Some(trouble) = done.ended.trouble() {
            why.push_str(&trouble);
        }
        if let Some(path) = done.save(place)? {
            why.push_str(&format!("\nmake fuzz REPLAY={}", path.display()));
        }
        Outcome::Failed(why)
    };
    let case = Case {
        name: "nothing is found in a minute".to_owned(),
        outcome,
    };
    tally.add(&name, &[case], &took);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_comes_in_pieces() {
        let mut told = Told::default();
        for piece in [
            "run {1}\nkee",
            "p {1}\nrun ",
            "{2}\nreached a 1/2 b\nrun {3",
        ] {
            told.hear(piece.as_bytes());
        }
        assert_eq!(told.kept, ["{1}"]);
        assert_eq!(told.reached, ["a 1/2 b"]);
        assert_eq!(told.last, ["{1}", "{2}"]);
        for number in 0..LAST {
            told.hear(format!("run {number}\n").as_bytes());
        }
        assert_eq!(told.last.len(), LAST);
        assert_eq!(told.last.back().map(String::as_str), Some("15"));
    }
}
