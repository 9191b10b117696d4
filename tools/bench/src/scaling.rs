// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether two threads do twice the work of one.
//!
//! Needs two CPUs that really run at once, where no counter counts instructions:
//! so it is measured in rounds, one thread against two, and the median of the
//! ratios is what counts. Beyond that nothing is promised.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use libaccel::uapi::{ACCEL_NULL_IOCTL_ADD, accel_null_add};
use libaccel::{Compute, now_ns};

use crate::{operations, sys};

/// Calls between two looks at the clock, so that the clock is not measured.
const BURST: u64 = 64;

/// Measures `rounds` rounds of runs that take `time` each, and prints them.
pub fn run(rounds: u32, time: Duration) -> Result<bool, String> {
    let cpus = sys::cpus().map_err(|e| format!("sched_getaffinity: {e}"))?;
    let &[first, second, ..] = cpus.as_slice() else {
        return Err("two CPUs are needed to see how two threads scale".into());
    };
    let device = operations::null_device()?;
    let open = || device.open().map_err(|e| e.to_string());
    let files: [Compute; 2] = [open()?, open()?];
    let [a, b] = [files[0].as_fd(), files[1].as_fd()];

    // Alternating, so that what disturbs a round disturbs all of it.
    let mut own = Vec::new();
    let mut shared = Vec::new();
    println!(
        "{:>5} {:>12} {:>14} {:>14}",
        "round", "1 thread", "2, own files", "2, one file"
    );
    for round in 1..=rounds {
        let one = calls(&[(first, a)], time)?;
        let two = calls(&[(first, a), (second, b)], time)?;
        let same = calls(&[(first, a), (second, a)], time)?;
        println!("{round:>5} {one:>12} {two:>14} {same:>14}");
        own.push(two as f64 / one as f64);
        shared.push(same as f64 / one as f64);
    }
    println!(
        "\ntwo threads over one, median of {rounds}: {:.2} with own files, {:.2} on one file",
        median(&mut own),
        median(&mut shared)
    );
    Ok(true)
}

/// How many calls threads on these CPUs and files make together in `time`.
fn calls(threads: &[(usize, BorrowedFd<'_>)], time: Duration) -> Result<u64, String> {
    let start = Barrier::new(threads.len());
    thread::scope(|scope| {
        let threads: Vec<_> = threads
            .iter()
            .map(|(cpu, fd)| scope.spawn(|| calls_of_one(*cpu, *fd, &start, time)))
            .collect();
        let mut total = 0;
        for thread in threads {
            total += thread.join().map_err(|_| "a thread panicked")??;
        }
        // What is divided by is never 0.
        Ok(total.max(1))
    })
}

fn calls_of_one(
    cpu: usize,
    fd: BorrowedFd<'_>,
    start: &Barrier,
    time: Duration,
) -> Result<u64, String> {
    let pinned = sys::pin(cpu);
    // Before anything may fail: the other thread waits here too.
    start.wait();
    pinned.map_err(|e| format!("sched_setaffinity to CPU {cpu}: {e}"))?;
    let end = now_ns() + time.as_nanos() as i64;
    let mut numbers = accel_null_add { a: 2, b: 3 };
    let mut done = 0;
    while now_ns() < end {
        for _ in 0..BURST {
            if sys::plain(fd, ACCEL_NULL_IOCTL_ADD, &mut numbers) != 0 {
                let error = std::io::Error::last_os_error();
                return Err(format!("{}: {error}", ACCEL_NULL_IOCTL_ADD.name()));
            }
        }
        done += BURST;
    }
    Ok(done)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&mut []).is_nan());
    }

    #[test]
    fn a_failing_thread_does_not_hang_the_other() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let cpu = sys::cpus().unwrap()[0];
        let threads = [(cpu, file.as_fd()), (cpu, file.as_fd())];
        assert!(calls(&threads, Duration::from_millis(1)).is_err());
    }
}
