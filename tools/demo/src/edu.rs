// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work for an edu device: factorials and a copy, both checked.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use libaccel::uapi::ACCEL_EDU_FACTORIAL_MAX;
use libaccel::{Compute, Deadline, Device, Errno, Mapping, Timeline, edu};
use sha2::{Digest, Sha256};

use crate::progress::Progress;
use crate::{Problem, Work};

/// The numbers whose factorials are computed: all that the device takes.
pub const NUMBERS: Numbers = Numbers(0..=ACCEL_EDU_FACTORIAL_MAX);

/// Numbers of one job.
const BATCH: usize = 64;

/// Bytes of one copy: one step of the device, so that progress can be seen.
const STEP: usize = 4096;

/// Jobs that are queued at once: enough for the device not to wait for us, few
/// enough to leave room for other users.
const WINDOW: usize = 8;

/// No job takes that long, also on a slow emulator that others use too.
const LIMIT: Duration = Duration::from_secs(30);

/// A range of numbers that can say how many it has.
pub struct Numbers(RangeInclusive<u32>);

impl Numbers {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.clone().count()
    }

    fn to_vec(&self) -> Vec<u32> {
        self.0.clone().collect()
    }
}

/// Gives `device` its work and checks what comes of it.
pub fn work(
    device: &Device,
    share: &[u8],
    index: usize,
    progress: &Sender<Progress>,
) -> Result<Work, Problem> {
    let compute = device.open()?;
    let timeline = compute.timeline()?;
    let started = Instant::now();
    let mut work = Work {
        jobs: factorials(&compute, &timeline)?,
        time: started.elapsed(),
        copied: None,
    };
    if !share.is_empty() {
        let report = |done: usize| {
            // Nobody listens any more when the program is about to end.
            let _ = progress.send(Progress {
                device: index,
                done: done as u64,
            });
        };
        let (jobs, time, copy) = copy(&compute, &timeline, share, report)?;
        work.jobs += jobs;
        work.time += time;
        work.copied = Some((copy, time));
    }
    Ok(work)
}

/// Has factorials computed and checks them; returns how many jobs that took.
fn factorials(compute: &Compute, timeline: &Timeline) -> Result<u64, Problem> {
    let numbers = NUMBERS.to_vec();
    let answers = compute.buffer(numbers.len() as u64 * 4)?;
    let mut queue = Queue::new(timeline);
    for (i, batch) in numbers.chunks(BATCH).enumerate() {
        let offset = (i * BATCH * 4) as u64;
        queue.submit(|| edu::factorial(compute, batch, timeline, &answers, offset))?;
    }
    queue.finish()?;
    let found = answers
        .map()
        .and_then(|map| map.read_u32s(0, numbers.len()))?;
    for (number, found) in numbers.iter().zip(found) {
        let right = expected(*number).map_err(Problem::Wrong)?;
        if found != right {
            return Err(Problem::Wrong(format!(
                "factorials: {number}! is {right} modulo 2^32, and the device says {found}"
            )));
        }
    }
    Ok(queue.ended)
}

/// Copies `share` through the device; returns the jobs, their time, and the copy.
fn copy(
    compute: &Compute,
    timeline: &Timeline,
    share: &[u8],
    report: impl Fn(usize),
) -> Result<(u64, Duration, Vec<u8>), Problem> {
    let size = share.len() as u64;
    let source = compute.buffer(size)?;
    let target = compute.buffer(size)?;
    source.map().and_then(|mut map| map.write_at(0, share))?;
    let mut result = target.map()?;
    // No byte is right before it is copied, zeroes of the file included.
    let wrong: Vec<u8> = share.iter().map(|byte| !byte).collect();
    result.write_at(0, &wrong)?;

    let started = Instant::now();
    let mut queue = Queue::new(timeline);
    for start in (0..share.len()).step_by(STEP) {
        let end = share.len().min(start + STEP);
        let range = start as u64..end as u64;
        queue.submit(|| {
            edu::copy(
                compute,
                &source,
                range.clone(),
                &target,
                range.start,
                timeline,
            )
        })?;
        report(share.len().min(queue.ended as usize * STEP));
    }
    while queue.wait_for_one()? {
        report(share.len().min(queue.ended as usize * STEP));
    }
    let time = started.elapsed();
    let copy = read_back(&result, share)?;
    Ok((queue.ended, time, copy))
}

/// Reads the copy and says where it is wrong, if it is.
fn read_back(result: &Mapping, share: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut copy = vec![0; share.len()];
    result.read_at(0, &mut copy)?;
    if Sha256::digest(&copy) == Sha256::digest(share) {
        return Ok(copy);
    }
    let differ = share
        .iter()
        .zip(&copy)
        .enumerate()
        .filter(|(_, (a, b))| a != b);
    let count = differ.clone().count();
    let first = differ.map(|(at, _)| at).next().unwrap_or_default();
    Err(Problem::Wrong(format!(
        "copy: {count} of {} bytes are wrong, the first at {first}: {:#04x} went in and {:#04x} came out",
        share.len(),
        share[first],
        copy[first]
    )))
}

/// Jobs that are under way, the oldest first.
struct Queue<'a> {
    timeline: &'a Timeline,
    points: VecDeque<u64>,
    ended: u64,
}

impl<'a> Queue<'a> {
    fn new(timeline: &'a Timeline) -> Self {
        Self {
            timeline,
            points: VecDeque::new(),
            ended: 0,
        }
    }

    /// Queues a job, when there is room for it.
    fn submit(&mut self, mut job: impl FnMut() -> libaccel::Result<u64>) -> Result<(), Problem> {
        if self.points.len() >= WINDOW {
            self.wait_for_one()?;
        }
        loop {
            match job() {
                Ok(point) => {
                    self.points.push_back(point);
                    return Ok(());
                }
                Err(error) if error.errno() == Some(Errno::AGAIN) => {
                    if !self.wait_for_one()? {
                        return Err(error.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for the oldest job; false when there is none.
    fn wait_for_one(&mut self) -> Result<bool, Problem> {
        let Some(point) = self.points.pop_front() else {
            return Ok(false);
        };
        match self.timeline.wait(point, Deadline::after(LIMIT)) {
            Ok(_) => {
                self.ended += 1;
                Ok(true)
            }
            Err(error) if error.is_timeout() => Err(Problem::Wrong(format!(
                "a job has not ended after {} s; does the device raise its interrupt? ({error})",
                LIMIT.as_secs()
            ))),
            Err(error) => Err(error.into()),
        }
    }

    fn finish(&mut self) -> Result<(), Problem> {
        while self.wait_for_one()? {}
        Ok(())
    }
}

/// `number!` modulo 2^32, in two ways that must agree.
fn expected(number: u32) -> Result<u32, String> {
    let product = (1..=number).fold(1, u32::wrapping_mul);
    // 34! is the greatest that fits into 128 bits. It is a multiple of 2^32, as
    // are all after it: of 34 numbers in a row 17 + 8 + 4 + 2 + 1 = 32 twos divide them.
    let other = if number <= 34 {
        (1..=u128::from(number)).product::<u128>() % (1 << 32)
    } else {
        0
    };
    if u128::from(product) == other {
        Ok(product)
    } else {
        Err(format!(
            "this program cannot compute {number}!: {product} or {other}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_agree_on_all_numbers() {
        for number in NUMBERS.to_vec() {
            expected(number).unwrap();
        }
        assert_eq!(expected(0), Ok(1));
        assert_eq!(expected(12), Ok(479_001_600));
        assert_eq!(expected(13), Ok(1_932_053_504));
        assert_eq!(expected(33), Ok(2_147_483_648));
        assert_eq!(expected(34), Ok(0));
    }

    #[test]
    fn numbers_are_counted() {
        assert_eq!(NUMBERS.len(), 256);
    }
}
