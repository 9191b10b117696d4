// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shows the accelerators and gives them work whose outcome it checks.
//!
//! On every edu device at once: factorials, checked against arithmetic of its
//! own, and a share of a file, copied through the device and checked by its
//! SHA-256. On every mock device: sums and empty jobs. On every NPU: handwritten
//! digits, checked against a reference. Ends with a status other than 0 when
//! anything is not as it must be, and says what and where.

mod edu;
mod interrupts;
mod mock;
mod npu;
mod progress;
mod table;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Parser;
use libaccel::{Device, Info};
use sha2::{Digest, Sha256};

use crate::progress::{Bar, Progress};
use crate::table::{Table, bytes, grouped};

/// Shows the accelerators and gives them work whose outcome it checks.
#[derive(Parser)]
#[command(name = "accel-demo", version)]
struct Options {
    /// What to copy through the devices; this program itself when not given
    file: Option<PathBuf>,
    /// Only list the devices
    #[arg(long)]
    list: bool,
    /// How much of the file to copy, at most
    #[arg(long, default_value_t = 64 * 1024, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    bytes: u64,
}

/// What a device did, for the table at the end.
struct Work {
    /// Jobs that ended well.
    jobs: u64,
    /// Time that they took in all.
    time: Duration,
    /// What came back of its share of the file, and the time of that.
    copied: Option<(Vec<u8>, Duration)>,
}

/// Why a device did not do its work.
#[derive(Debug)]
enum Problem {
    /// A call failed; the error names the device.
    Call(libaccel::Error),
    /// What came of the work is wrong.
    Wrong(String),
}

impl From<libaccel::Error> for Problem {
    fn from(error: libaccel::Error) -> Self {
        Self::Call(error)
    }
}

impl Problem {
    fn text(&self, device: &str) -> String {
        match self {
            Self::Call(error) => error.to_string(),
            Self::Wrong(what) => format!("{device}: {what}"),
        }
    }
}

/// How it went on one device.
struct Outcome<'a> {
    device: &'a Device,
    result: Result<Work, Problem>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let problems = run(&options);
    for problem in &problems {
        eprintln!("accel-demo: {problem}");
    }
    if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Does it all; returns what is wrong.
fn run(options: &Options) -> Vec<String> {
    let scan = libaccel::scan();
    let mut problems: Vec<String> = scan.refused.iter().map(ToString::to_string).collect();
    if scan.devices.is_empty() {
        if problems.is_empty() {
            problems.push(libaccel::Error::None { uapi_name: None }.to_string());
        }
        return problems;
    }
    list(&scan.devices, &mut problems);
    if !options.list {
        work(&scan.devices, options, &mut problems);
    }
    problems
}

/// Prints what every device says about itself.
fn list(devices: &[Device], problems: &mut Vec<String>) {
    let mut table = Table::new(&[
        "device", "state", "class", "driver", "parent", "calls", "memory", "open", "opens",
    ]);
    for device in devices {
        match row(device) {
            Ok(row) => table.add(row),
            Err(error) => problems.push(error.to_string()),
        }
    }
    print!("{table}");
}

/// What one device says about itself.
fn row(device: &Device) -> libaccel::Result<Vec<String>> {
    let control = device.control();
    let identity = device.identity();
    let state = control.state()?;
    let opens = control.opens()?;
    let mut memory = String::new();
    for part in control.memories()? {
        if !memory.is_empty() {
            memory.push_str(", ");
        }
        // Writing to a string does not fail.
        let _ = write!(memory, "{}", part.kind);
        let _ = match (part.used, part.total) {
            (Some(used), Some(total)) => write!(memory, " {} of {}", bytes(used), bytes(total)),
            (Some(used), None) => write!(memory, " {} used", bytes(used)),
            (None, Some(total)) => write!(memory, " {}", bytes(total)),
            (None, None) => Ok(()),
        };
    }
    let limit = identity
        .max_contexts
        .map_or(String::new(), |limit| format!(" of {limit}"));
    Ok(vec![
        device.name(),
        state.status.to_string(),
        identity.class.to_string(),
        identity.driver.clone(),
        format!("{} {}", identity.bus, identity.parent),
        format!(
            "{} {}.{}",
            identity.uapi_name, identity.uapi_major, identity.uapi_minor
        ),
        memory,
        format!("{}{limit}", opens.compute_now),
        opens.compute_total.to_string(),
    ])
}

/// Gives every device that this program has work for its part, at once.
fn work(devices: &[Device], options: &Options, problems: &mut Vec<String>) {
    let named = |name| -> Vec<&Device> {
        let calls = |device: &&Device| device.identity().uapi_name == name;
        devices.iter().filter(calls).collect()
    };
    let edu = named(libaccel::edu::NAME);
    let mock = named(libaccel::mock::NAME);
    let npus = named(libaccel::npu::NAME);
    if edu.is_empty() && mock.is_empty() && npus.is_empty() {
        problems.push(
            "no device here is one that this program has work for: load accel_edu, accel_mock \
             or accel_pcie_npu"
                .into(),
        );
        return;
    }

    let bar = Bar::new(std::io::stdout().is_terminal());
    if !(edu.is_empty() && mock.is_empty()) {
        jobs(&edu, &mock, options, &bar, problems);
    }
    if npus.is_empty() {
        println!("\nno NPU here, so no digits: load accel_pcie_npu where there is one");
    }
    // One after the other: their figures are to be their own.
    for device in npus {
        npu::work(device, &bar, problems);
    }
    for device in devices {
        still_well(device, problems);
    }
}

/// Gives edu and mock devices their part, at once.
fn jobs(
    edu: &[&Device],
    mock: &[&Device],
    options: &Options,
    bar: &Bar,
    problems: &mut Vec<String>,
) {
    let (path, data) = match edu.is_empty() {
        true => (PathBuf::new(), Vec::new()),
        false => match input(options) {
            Ok(input) => input,
            Err(problem) => return problems.push(problem),
        },
    };
    let share = data.len().div_ceil(edu.len().max(1)).max(1);
    let mut shares = data.chunks(share);
    if !edu.is_empty() {
        println!(
            "\n{} numbers to each edu device, and {} of {} through {}",
            edu::NUMBERS.len(),
            bytes(data.len() as u64),
            path.display(),
            counted(edu.len(), "device")
        );
    }

    let (sender, receiver) = mpsc::channel::<Progress>();
    let before = interrupts::read();
    // Each device has a thread of its own, as programs that use several would.
    let outcomes: Vec<Outcome<'_>> = thread::scope(|scope| {
        let mut threads = Vec::new();
        for (index, device) in edu.iter().enumerate() {
            let share = shares.next().unwrap_or_default();
            let sender = sender.clone();
            let work = move || edu::work(device, share, index, &sender);
            threads.push((*device, scope.spawn(work)));
        }
        for device in mock {
            threads.push((*device, scope.spawn(|| mock::work(device))));
        }
        drop(sender);
        // Ends when the last thread has dropped its sender.
        bar.follow(&receiver, data.len() as u64);
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            let panicked = |_| {
                Err(Problem::Wrong(
                    "the thread that worked for it panicked".into(),
                ))
            };
            thread.join().unwrap_or_else(panicked)
        };
        threads
            .into_iter()
            .map(|(device, thread)| Outcome {
                device,
                result: join(thread),
            })
            .collect()
    });
    let after = interrupts::read();
    report(&outcomes, &before, &after, problems);
    // Of a device that failed the report has said so already.
    if !edu.is_empty() && outcomes.iter().all(|outcome| outcome.result.is_ok()) {
        let copies = outcomes
            .into_iter()
            .filter_map(|outcome| outcome.result.ok()?.copied)
            .flat_map(|(copy, _)| copy)
            .collect::<Vec<u8>>();
        compare(&data, &copies, problems);
    }
}

/// What to copy: where it is from, and its bytes.
fn input(options: &Options) -> Result<(PathBuf, Vec<u8>), String> {
    let path = match &options.file {
        Some(path) => path.clone(),
        None => std::env::current_exe()
            .map_err(|e| format!("cannot tell where this program is ({e}): name a FILE"))?,
    };
    let data = read(&path, options.bytes).map_err(|e| format!("{}: {e}", path.display()))?;
    if data.is_empty() {
        return Err(format!(
            "{}: it is empty: name another FILE",
            path.display()
        ));
    }
    Ok((path, data))
}

fn read(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut data)?;
    Ok(data)
}

/// Prints what every device did.
fn report(outcomes: &[Outcome<'_>], before: &str, after: &str, problems: &mut Vec<String>) {
    let mut table = Table::new(&[
        "device",
        "jobs",
        "jobs/s",
        "copied",
        "bytes/s",
        "interrupts",
        "outcome",
    ]);
    for Outcome { device, result } in outcomes {
        let name = device.name();
        let taken = interrupts::taken(before, after, &name);
        let taken = taken.map_or("-".into(), |taken| taken.to_string());
        let mut row = vec![name.clone()];
        match result {
            Ok(work) => {
                row.extend([work.jobs.to_string(), rate(work.jobs, work.time)]);
                row.extend(match &work.copied {
                    Some((copy, time)) => {
                        let size = copy.len() as u64;
                        [bytes(size), rate(size, *time)]
                    }
                    None => ["-".into(), "-".into()],
                });
                row.extend([taken, "right".into()]);
            }
            Err(problem) => {
                problems.push(problem.text(&name));
                row.extend(["-", "-", "-", "-"].map(str::to_owned));
                let outcome = match problem {
                    Problem::Call(_) => "FAILED",
                    Problem::Wrong(_) => "WRONG",
                };
                row.extend([taken, outcome.into()]);
            }
        }
        table.add(row);
    }
    print!("\n{table}");
}

/// Compares what went in with what came out, by SHA-256 as anybody can repeat it.
fn compare(before: &[u8], after: &[u8], problems: &mut Vec<String>) {
    let hash = |data: &[u8]| -> String {
        let mut text = String::new();
        for byte in Sha256::digest(data) {
            let _ = write!(text, "{byte:02x}");
        }
        text
    };
    let (hash_before, hash_after) = (hash(before), hash(after));
    println!("\nsha256 before  {hash_before}");
    println!("sha256 after   {hash_after}");
    if hash_before != hash_after {
        problems.push("the file is another one after its way through the devices".into());
    }
}

/// A device that has done its work must still be able to do more.
fn still_well(device: &Device, problems: &mut Vec<String>) {
    match device.control().state() {
        Ok(state) if state.status == libaccel::Status::Operational => {}
        // Nobody uses it any more, so it may be put to sleep at any time.
        Ok(state) if state.status == libaccel::Status::Suspended => {}
        Ok(state) => problems.push(format!(
            "{}: now its state is: {}",
            device.name(),
            state.status
        )),
        Err(error) => problems.push(error.to_string()),
    }
}

/// `count` in a second, when that many took `time`.
fn rate(count: u64, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 {
        grouped((count as f64 / seconds) as u64)
    } else {
        "-".into()
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!(rate(10, Duration::from_secs(2)), "5");
        assert_eq!(rate(10, Duration::ZERO), "-");
        assert_eq!(rate(1_000_000, Duration::from_millis(500)), "2,000,000");
    }

    #[test]
    fn a_changed_byte_is_found() {
        let mut problems = Vec::new();
        compare(b"same", b"same", &mut problems);
        assert!(problems.is_empty());
        compare(b"same", b"sane", &mut problems);
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn options_are_consistent() {
        use clap::CommandFactory;
        Options::command().debug_assert();
        assert!(Options::try_parse_from(["accel-demo", "--bytes", "0"]).is_err());
    }
}
