// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for jobs.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::Timespec;
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::node::Node;
use crate::sys;
use crate::uapi::*;
use crate::{Error, Result};

/// When to stop waiting: a time of `CLOCK_MONOTONIC`, which signals do not move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(i64);

impl Deadline {
    /// Do not sleep.
    pub const NOW: Self = Self(0);

    /// Wait without limit.
    pub const NEVER: Self = Self(i64::MAX);

    /// `timeout` from now; [`NEVER`](Self::NEVER) when that is too far for the clock.
    pub fn after(timeout: Duration) -> Self {
        Self::from_now(now_ns(), timeout)
    }

    /// Nanoseconds of `CLOCK_MONOTONIC`; what is before 0 is [`NOW`](Self::NOW).
    pub const fn at_ns(nanoseconds: i64) -> Self {
        Self(if nanoseconds < 0 { 0 } else { nanoseconds })
    }

    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub const fn as_ns(self) -> i64 {
        self.0
    }

    /// Whether it is over.
    pub fn has_passed(self) -> bool {
        self != Self::NEVER && self.0 <= now_ns()
    }

    fn from_now(now: i64, timeout: Duration) -> Self {
        i64::try_from(timeout.as_nanos())
            .ok()
            .and_then(|timeout| now.checked_add(timeout))
            .map_or(Self::NEVER, Self)
    }

    /// What is left of it, for calls that take a duration; `None` without limit.
    pub(crate) fn remaining(self) -> Option<Timespec> {
        self.remaining_at(now_ns())
    }

    fn remaining_at(self, now: i64) -> Option<Timespec> {
        if self == Self::NEVER {
            return None;
        }
        let left = self.0.saturating_sub(now).max(0);
        Some(Timespec {
            tv_sec: (left / NS_PER_S) as _,
            tv_nsec: (left % NS_PER_S) as _,
        })
    }
}

const NS_PER_S: i64 = 1_000_000_000;

/// The time now, in nanoseconds of `CLOCK_MONOTONIC`, as deadlines and the times of states and
/// events are. It is not negative.
// Nanoseconds are narrower on some architectures.
#[allow(clippy::useless_conversion)]
pub fn now_ns() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec
        .saturating_mul(NS_PER_S)
        .saturating_add(i64::from(now.tv_nsec))
}

/// A count of jobs: each that is submitted to it has a point, and its value is
/// the greatest point up to which every job has ended.
#[derive(Debug)]
pub struct Timeline {
    node: Arc<Node>,
    handle: u32,
}

impl Timeline {
    pub(crate) fn new(node: Arc<Node>) -> Result<Self> {
        let mut argument = accel_timeline_create::default();
        node.ioctl(ACCEL_IOCTL_TIMELINE_CREATE, &mut argument)?;
        Ok(Self {
            node,
            handle: argument.handle,
        })
    }

    /// What a driver's calls name it by, on the file that it was made with.
    pub fn handle(&self) -> u32 {
        self.handle
    }

    /// Its value now.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the device is gone.
    pub fn value(&self) -> Result<u64> {
        // Point 0 is where every timeline begins, so there is nothing to wait for.
        self.wait(0, Deadline::NOW)
    }

    /// Sleeps until every job up to `point` has ended; returns the value.
    ///
    /// Points that no job has yet may be waited for.
    ///
    /// # Errors
    ///
    /// [`Error::Job`] when one of those jobs failed (the point is reached all the
    /// same); `ETIME` when the deadline came first ([`Error::is_timeout`]);
    /// `ENODEV` when the device is gone.
    pub fn wait(&self, point: u64, deadline: Deadline) -> Result<u64> {
        let mut argument = accel_timeline_wait {
            handle: self.handle,
            point,
            deadline_ns: deadline.as_ns(),
            ..Default::default()
        };
        self.node.ioctl(ACCEL_IOCTL_TIMELINE_WAIT, &mut argument)?;
        match status(argument.status) {
            None => Ok(argument.value),
            Some(status) => Err(Error::Job {
                device: self.node.name().to_owned(),
                point,
                value: argument.value,
                status,
            }),
        }
    }

    /// Adds 1 to `eventfd`, once, when the value reaches `point`; also when the
    /// device goes or the file is closed, so ask the timeline what it was.
    ///
    /// # Errors
    ///
    /// `EINVAL` when that is no eventfd; `ENOSPC` when [`ACCEL_EVENTFDS_MAX`] wait
    /// on this timeline.
    pub fn notify(&self, point: u64, eventfd: impl AsFd) -> Result<()> {
        let argument = accel_timeline_eventfd {
            handle: self.handle,
            point,
            ..Default::default()
        };
        sys::timeline_eventfd(self.node.as_fd(), argument, eventfd.as_fd())
            .map_err(|errno| self.node.error(ACCEL_IOCTL_TIMELINE_EVENTFD.name(), errno))
    }

    /// A new eventfd (close-on-exec, non-blocking) that becomes readable when the
    /// value reaches `point`.
    ///
    /// # Errors
    ///
    /// As [`notify`](Self::notify), and `EMFILE` when there are too many files.
    pub fn eventfd(&self, point: u64) -> Result<OwnedFd> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| self.node.error("eventfd", errno))?;
        self.notify(point, &fd)?;
        Ok(fd)
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        let mut argument = accel_handle {
            handle: self.handle,
            flags: 0,
        };
        // When the device is gone, so is the handle; nothing else can be wrong.
        let _ = self.node.ioctl(ACCEL_IOCTL_TIMELINE_DESTROY, &mut argument);
    }
}

/// A job's status as an errno; anything but a negative errno would be the
/// kernel's mistake, and is an input/output error rather than a success.
fn status(status: i32) -> Option<Errno> {
    match status {
        0 => None,
        -4095..=-1 => Some(Errno::from_raw_os_error(-status)),
        _ => Some(Errno::IO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_do_not_wrap() {
        let second = Duration::from_secs(1);
        assert_eq!(Deadline::from_now(5, second).as_ns(), 1_000_000_005);
        assert_eq!(Deadline::from_now(i64::MAX - 1, second), Deadline::NEVER);
        assert_eq!(Deadline::from_now(0, Duration::MAX), Deadline::NEVER);
        assert_eq!(Deadline::at_ns(-1), Deadline::NOW);
        assert_eq!(Deadline::at_ns(7).as_ns(), 7);
    }

    #[test]
    fn what_is_left_is_never_negative() {
        let left = |deadline: i64, now| {
            Deadline::at_ns(deadline)
                .remaining_at(now)
                .map(|t| (t.tv_sec, t.tv_nsec))
        };
        assert_eq!(left(2_500_000_000, 1_000_000_000), Some((1, 500_000_000)));
        assert_eq!(left(5, 9), Some((0, 0)));
        assert_eq!(left(0, i64::MAX), Some((0, 0)));
        assert_eq!(Deadline::NEVER.remaining_at(0), None);
    }

    #[test]
    fn deadlines_pass() {
        assert!(Deadline::NOW.has_passed());
        assert!(!Deadline::NEVER.has_passed());
        assert!(!Deadline::after(Duration::from_secs(3600)).has_passed());
        let soon = Deadline::after(Duration::from_millis(2));
        std::thread::sleep(Duration::from_millis(5));
        assert!(soon.has_passed());
    }

    #[test]
    fn only_zero_is_success() {
        assert_eq!(status(0), None);
        assert_eq!(status(-125), Some(Errno::CANCELED));
        assert_eq!(status(1), Some(Errno::IO));
        assert_eq!(status(i32::MIN), Some(Errno::IO));
    }
}
