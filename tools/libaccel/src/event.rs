// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a device tells without being asked each time.

use std::mem::offset_of;
use std::ops::BitOr;
use std::os::fd::AsFd;

use rustix::io::{Errno, IoSliceMut, ReadWriteFlags, preadv2, read, retry_on_intr};

use crate::node::Node;
use crate::uapi::*;
use crate::{Cause, Result, Status};

/// Which events a file wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted(u64);

impl Wanted {
    /// Changes of the device's state.
    pub const STATE: Self = Self(1 << ACCEL_EVENT_STATE);
    /// What the file had on the device is lost; on compute nodes.
    pub const CONTEXT_LOST: Self = Self(1 << ACCEL_EVENT_CONTEXT_LOST);
    /// The device accessed for the file what it may not; on compute nodes.
    pub const FAULT: Self = Self(1 << ACCEL_EVENT_FAULT);
}

impl BitOr for Wanted {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Something that was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Counts the events of the file from 1, those that were lost too.
    pub sequence: u64,
    /// Nanoseconds of `CLOCK_MONOTONIC` when it happened.
    pub time_ns: u64,
    /// What.
    pub what: What,
}

/// What an [`Event`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// As many events before this one were lost; its number is that of the last.
    Lost(u64),
    /// The state changed; the first time it is what it was already.
    State {
        /// What it is now.
        status: Status,
        /// What it was before.
        previous: Status,
        /// Why.
        cause: Cause,
        /// Resets since the driver registered the device.
        resets: u64,
    },
    /// What the file had on the device is lost, in a reset for this cause: close it
    /// and open it again.
    ContextLost(Cause),
    /// The device accessed for the file what it may not.
    Fault {
        /// In the context's address space.
        address: u64,
        /// To write, not to read.
        write: bool,
        /// The driver's number of what was wrong.
        code: u32,
        /// The job's point on its timeline; 0 when no job is known.
        point: u64,
        /// The timeline's handle; 0 when it was destroyed.
        timeline: u32,
    },
    /// One of a type that this version of the crate does not know.
    Unknown(u32),
}

/// The events of an open file, as an iterator: it waits for the next one, and ends
/// when the device is gone and all was read.
///
/// The file wants none any more when this is dropped, so have one of them at a
/// time. It polls as readable while there are events.
#[derive(Debug)]
pub struct Events<'a> {
    node: &'a Node,
    room: Box<[u8]>,
    /// What was read and not given out yet: the bytes from here to there.
    at: usize,
    end: usize,
}

/// Bytes that one read has room for.
const ROOM: usize = 4096;

impl<'a> Events<'a> {
    pub(crate) fn new(node: &'a Node, wanted: Wanted) -> Result<Self> {
        subscribe(node, wanted.0)?;
        Ok(Self {
            node,
            room: vec![0; ROOM].into(),
            at: 0,
            end: 0,
        })
    }

    /// The next event, if there is one now.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the device is gone and all was read.
    pub fn try_next(&mut self) -> Result<Option<Event>> {
        match self.take(false) {
            Ok(event) => Ok(Some(event)),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(self.node.error("read", errno)),
        }
    }

    fn take(&mut self, wait: bool) -> std::result::Result<Event, Errno> {
        if self.at == self.end {
            let (node, room) = (self.node, &mut self.room);

            self.at = 0;
            self.end = 0;
            self.end = retry_on_intr(|| {
                if wait {
                    read(node, &mut room[..])
                } else {
                    // u64::MAX is where the file is, as files without a place have it.
                    preadv2(
                        node,
                        &mut [IoSliceMut::new(room)],
                        u64::MAX,
                        ReadWriteFlags::NOWAIT,
                    )
                }
            })?;
        }
        let rest = self.room.get(self.at..self.end).ok_or(Errno::IO)?;
        let (event, size) = parse(rest).ok_or(Errno::IO)?;

        self.at += size;
        Ok(event)
    }
}

impl Iterator for Events<'_> {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.take(true) {
            Ok(event) => Some(Ok(event)),
            Err(Errno::NODEV) => None,
            Err(errno) => Some(Err(self.node.error("read", errno))),
        }
    }
}

impl AsFd for Events<'_> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.node.as_fd()
    }
}

impl Drop for Events<'_> {
    fn drop(&mut self) {
        // When the device is gone there is nothing to be told.
        let _ = subscribe(self.node, 0);
    }
}

fn subscribe(node: &Node, types: u64) -> Result<()> {
    let mut argument = accel_events {
        types,
        ..Default::default()
    };
    node.ioctl(ACCEL_IOCTL_EVENTS, &mut argument)
}

/// The first event of `bytes`, and how many it takes. What a newer kernel has added to
/// its end is passed over.
fn parse(bytes: &[u8]) -> Option<(Event, usize)> {
    let kind = u32_at(bytes, offset_of!(accel_event, type_))?;
    let size = u32_at(bytes, offset_of!(accel_event, size))? as usize;
    let event = bytes.get(..size)?;
    let u32_at = |offset| u32_at(event, offset);
    let u64_at = |offset| u64_at(event, offset);
    let what = match kind {
        ACCEL_EVENT_LOST => What::Lost(u64_at(offset_of!(accel_event_lost, count))?),
        ACCEL_EVENT_STATE => What::State {
            status: u32_at(offset_of!(accel_event_state, state))?.into(),
            previous: u32_at(offset_of!(accel_event_state, previous))?.into(),
            cause: u32_at(offset_of!(accel_event_state, cause))?.into(),
            resets: u64_at(offset_of!(accel_event_state, resets))?,
        },
        ACCEL_EVENT_CONTEXT_LOST => {
            What::ContextLost(u32_at(offset_of!(accel_event_context_lost, cause))?.into())
        }
        ACCEL_EVENT_FAULT => What::Fault {
            address: u64_at(offset_of!(accel_event_fault, address))?,
            write: u32_at(offset_of!(accel_event_fault, access))? == ACCEL_FAULT_WRITE,
            code: u32_at(offset_of!(accel_event_fault, code))?,
            point: u64_at(offset_of!(accel_event_fault, point))?,
            timeline: u32_at(offset_of!(accel_event_fault, timeline))?,
        },
        kind => What::Unknown(kind),
    };
    let event = Event {
        sequence: u64_at(offset_of!(accel_event, sequence))?,
        time_ns: u64_at(offset_of!(accel_event, time_ns))?,
        what,
    };

    Some((event, size))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event as the kernel writes it: the header, and what follows in words.
    fn raw(kind: u32, words: &[u64]) -> Vec<u8> {
        let size = 24 + 8 * words.len() as u32;
        let mut bytes = Vec::new();

        bytes.extend(kind.to_ne_bytes());
        bytes.extend(size.to_ne_bytes());
        for word in [5, 1000].iter().chain(words) {
            bytes.extend(word.to_ne_bytes());
        }
        bytes
    }

    /// Two fields of 32 bits.
    fn pair(first: u32, second: u32) -> u64 {
        let mut bytes = [0; 8];

        bytes[..4].copy_from_slice(&first.to_ne_bytes());
        bytes[4..].copy_from_slice(&second.to_ne_bytes());
        u64::from_ne_bytes(bytes)
    }

    fn what(bytes: &[u8]) -> What {
        let (event, size) = parse(bytes).expect("an event");

        assert_eq!(size, bytes.len());
        assert_eq!((event.sequence, event.time_ns), (5, 1000));
        event.what
    }

    #[test]
    fn each_type() {
        assert_eq!(what(&raw(0, &[9])), What::Lost(9));
        assert_eq!(
            what(&raw(1, &[pair(1, 0), pair(3, 0), 4])),
            What::State {
                status: Status::Resetting,
                previous: Status::Operational,
                cause: Cause::Deadline,
                resets: 4,
            }
        );
        assert_eq!(what(&raw(2, &[pair(5, 0)])), What::ContextLost(Cause::Bus));
        assert_eq!(
            what(&raw(3, &[0x1000, pair(1, 7), 2, pair(3, 0)])),
            What::Fault {
                address: 0x1000,
                write: true,
                code: 7,
                point: 2,
                timeline: 3,
            }
        );
    }

    #[test]
    fn of_a_newer_kernel() {
        // One that is longer, and one of another type.
        assert_eq!(what(&raw(0, &[9, 1, 2, 3])), What::Lost(9));
        assert_eq!(what(&raw(77, &[1])), What::Unknown(77));
    }

    #[test]
    fn what_is_cut_off_is_none() {
        let whole = raw(3, &[0x1000, pair(1, 7), 2, pair(3, 0)]);

        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), None);
        }
        // One that claims to be shorter than its type is.
        assert_eq!(parse(&raw(3, &[0x1000])), None);
        assert_eq!(parse(&raw(0, &[])), None);
    }
}
