// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work for a mock device: additions, sums and jobs that end at once.

use std::time::{Duration, Instant};

use libaccel::{Deadline, Device, mock};

use crate::{Problem, Work};

/// Values to sum.
const VALUES: u64 = 1000;

/// Jobs to submit.
const JOBS: u64 = 1000;

/// Gives `device` its work and checks what comes of it.
pub fn work(device: &Device) -> Result<Work, Problem> {
    let started = Instant::now();
    let jobs = calls(device)?;
    Ok(Work {
        jobs,
        time: started.elapsed(),
        copied: None,
    })
}

fn calls(device: &Device) -> Result<u64, Problem> {
    let compute = device.open()?;

    for (a, b) in [(2, 3), (u64::MAX, 1), (1 << 63, 1 << 63)] {
        let found = mock::add(&compute, a, b)?;
        let right = a.wrapping_add(b);
        if found != right {
            return Err(Problem::Wrong(format!(
                "add: {a} + {b} is {right}, and the device says {found}"
            )));
        }
    }

    let values: Vec<u64> = (1..=VALUES).collect();
    let mut partial = vec![0; values.len()];
    let sum = mock::sum(&compute, &values, &mut partial)?;
    for (n, found) in values.iter().zip(&partial) {
        let right = n * (n + 1) / 2;
        if *found != right {
            return Err(Problem::Wrong(format!(
                "sum: 1 to {n} is {right}, and the device says {found}"
            )));
        }
    }
    if partial.last() != Some(&sum) {
        return Err(Problem::Wrong(format!(
            "sum: the device says {sum}, and not its last part"
        )));
    }

    let timeline = compute.timeline()?;
    let mut point = 0;
    for _ in 0..JOBS {
        point = mock::submit(&compute, &timeline)?;
    }
    let deadline = Deadline::after(Duration::from_secs(10));
    let value = timeline.wait(point, deadline)?;
    if (point, value) != (JOBS, JOBS) {
        return Err(Problem::Wrong(format!(
            "jobs: after {JOBS} of them the last point is {point} and the timeline at {value}"
        )));
    }
    Ok(JOBS)
}
