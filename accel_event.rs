// SPDX-License-Identifier: GPL-2.0

//! Events: what a file is told without asking each time.
//!
//! A file that wants events has a ring of them, made when it first says so and charged to whoever
//! does. What concerns the device is told to every file that wants it, on both nodes; what concerns
//! one application (its context, its faults) only to the file of that application.
//!
//! ```text
//!  told ─→ [ lost: 3 ][ 4 ][ 5 ] ... [ 259 ]      sequence numbers; at most ACCEL_EVENTS_MAX
//!               │       │                         of the ring, of which the oldest are lost
//!               └───────┴─→ read()
//! ```
//!
//! # Reading
//!
//! An event is taken out of the ring, copied to the user with nothing held, and given back to its
//! place if it cannot be copied. So each is read once, by whoever shares the file; a user whose
//! memory does not answer keeps what it has taken and nobody else. Given back to a ring that is full
//! it is lost, being the oldest, and counted so.
//!
//! # Order
//!
//! Changes of the state are told with the device's list of files locked, and so is a subscription
//! made, which begins with the last change that was told: nobody is told a change twice or misses
//! one. The end of the device is the last
//! event; only who has read it gets `ENODEV`.
//!
//! # Locks
//!
//! A ring is behind a spinlock, in which nothing is allocated, and what the file has is counted
//! (`accel_limits.rs`): over any limit its oldest event is lost. Readers and pollers are woken after
//! it. Events are told in process context, the device's with no spinlock held.

use crate::{
    bindings::{
        uapi,
        user::Destination, //
    },
    file::Node,
    state::{
        Cause,
        Change, //
    },
};
use kernel::{
    alloc::kvec::InsertError,
    new_spinlock,
    prelude::*,
    sync::SpinLock, //
};
use zerocopy::{
    Immutable,
    IntoBytes, //
};

/// Counts the events of a file that were not read, and says how many there may be.
pub(crate) trait Count {
    /// Counts one more. Returns whether there may be; if not, nothing is counted.
    fn more(&self) -> bool;

    /// Counts one less.
    fn less(&self);
}

/// Events of one file that were not read.
const LIMIT: usize = uapi::ACCEL_EVENTS_MAX as usize;

/// How an access was made that a device may not make.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Access {
    /// It would have read.
    Read = uapi::ACCEL_FAULT_READ,
    /// It would have written.
    Write = uapi::ACCEL_FAULT_WRITE,
}

/// An access that a device made for one application, and may not make.
#[derive(Clone, Copy)]
pub struct Fault {
    /// In the context's address space.
    pub address: u64,
    /// Whether it was to read or to write.
    pub access: Access,
    /// The driver's number of what was wrong; its uAPI header says which there are.
    pub code: u32,
}

/// What an event says.
#[derive(Clone, Copy)]
pub(crate) enum What {
    /// As many before this one were lost.
    Lost(u64),
    /// The device's state has changed, and how many resets there were.
    State { change: Change, resets: u64 },
    /// What the file had on the device is lost, in a reset for this cause.
    ContextLost(Cause),
    /// The device accessed what it may not for the job at a point of a timeline; both are 0 where no
    /// job is known.
    Fault {
        fault: Fault,
        point: u64,
        timeline: u32,
    },
}

impl What {
    /// `enum accel_event_type`.
    fn kind(&self) -> u32 {
        match self {
            Self::Lost(_) => uapi::ACCEL_EVENT_LOST,
            Self::State { .. } => uapi::ACCEL_EVENT_STATE,
            Self::ContextLost(_) => uapi::ACCEL_EVENT_CONTEXT_LOST,
            Self::Fault { .. } => uapi::ACCEL_EVENT_FAULT,
        }
    }

    /// Bytes that a user reads.
    fn size(&self) -> usize {
        match self {
            Self::Lost(_) => size_of::<uapi::accel_event_lost>(),
            Self::State { .. } => size_of::<uapi::accel_event_state>(),
            Self::ContextLost(_) => size_of::<uapi::accel_event_context_lost>(),
            Self::Fault { .. } => size_of::<uapi::accel_event_fault>(),
        }
    }
}

/// Bytes of the smallest event: with less room than this there is none for any.
const SIZE_MIN: usize = {
    let (lost, context_lost) = (
        size_of::<uapi::accel_event_lost>(),
        size_of::<uapi::accel_event_context_lost>(),
    );

    if lost < context_lost {
        lost
    } else {
        context_lost
    }
};

/// The bits of the types that there are on `node`.
pub(crate) fn types_of(node: Node) -> u64 {
    let common = bit(uapi::ACCEL_EVENT_LOST) | bit(uapi::ACCEL_EVENT_STATE);

    match node {
        Node::Control => common,
        Node::Compute => {
            common | bit(uapi::ACCEL_EVENT_CONTEXT_LOST) | bit(uapi::ACCEL_EVENT_FAULT)
        }
    }
}

const fn bit(kind: u32) -> u64 {
    1 << kind
}

/// An event of one file.
#[derive(Clone, Copy)]
pub(crate) struct Event {
    sequence: u64,
    time_ns: i64,
    what: What,
}

impl Event {
    /// Copies it to the user, and returns its size.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    pub(crate) fn write(&self, to: &mut Destination<'_>) -> Result<usize> {
        let size = self.what.size();
        let header = uapi::accel_event {
            type_: self.what.kind(),
            size: size as u32,
            sequence: self.sequence,
            time_ns: self.time_ns as u64,
        };

        match self.what {
            What::Lost(count) => write(to, &uapi::accel_event_lost { header, count }),
            What::State { change, resets } => write(
                to,
                &uapi::accel_event_state {
                    header,
                    state: change.to as u32,
                    previous: change.from as u32,
                    cause: change.cause as u32,
                    reserved: 0,
                    resets,
                },
            ),
            What::ContextLost(cause) => write(
                to,
                &uapi::accel_event_context_lost {
                    header,
                    cause: cause as u32,
                    reserved: 0,
                },
            ),
            What::Fault {
                fault,
                point,
                timeline,
            } => write(
                to,
                &uapi::accel_event_fault {
                    header,
                    address: fault.address,
                    access: fault.access as u32,
                    code: fault.code,
                    point,
                    timeline,
                    reserved: 0,
                },
            ),
        }?;
        Ok(size)
    }
}

fn write<T: IntoBytes + Immutable>(to: &mut Destination<'_>, event: &T) -> Result {
    to.write(event.as_bytes())
}

/// What a reader finds.
pub(crate) enum Next {
    /// The oldest event, which is the reader's now.
    Event(Event),
    /// The oldest event is larger than the reader has room for, or any would be.
    NoRoom,
    /// Nothing yet.
    Nothing,
    /// The file wants no events.
    Unwanted,
    /// Nothing, and nothing will be: the device is gone.
    End,
}

/// The events of a file that were not read, the oldest first.
struct Ring {
    /// Those that the file wants.
    types: u64,
    /// Of the latest event.
    sequence: u64,
    /// Up to here the user has given up what was not read.
    forgotten: u64,
    /// Those that were lost and not told: how many, and the latest of them.
    lost: u64,
    lost_sequence: u64,
    lost_ns: i64,
    /// With capacity for [`LIMIT`].
    unread: KVVec<Event>,
    /// The device is gone.
    ended: bool,
}

impl Ring {
    fn new() -> Result<Self> {
        Ok(Self {
            types: 0,
            sequence: 0,
            forgotten: 0,
            lost: 0,
            lost_sequence: 0,
            lost_ns: 0,
            unread: KVVec::with_capacity(LIMIT, GFP_KERNEL_ACCOUNT)?,
            ended: false,
        })
    }

    /// Adds an event, if the file wants it. Returns whether it does.
    fn tell(&mut self, count: &impl Count, time_ns: i64, what: What) -> bool {
        if self.types & bit(what.kind()) == 0 || self.ended {
            return false;
        }
        self.sequence += 1;
        self.insert(
            count,
            Event {
                sequence: self.sequence,
                time_ns,
                what,
            },
        );
        true
    }

    /// Puts an event to its place; if there is no room the oldest is lost.
    fn insert(&mut self, count: &impl Count, event: Event) {
        let at = self
            .unread
            .partition_point(|other| other.sequence < event.sequence);

        // What is older than what was lost already would be read in the wrong order.
        if self.lost != 0 && event.sequence < self.lost_sequence {
            return self.lose(event);
        }
        let at = if count.more() {
            at
        } else if at == 0 {
            return self.lose(event);
        } else {
            // It is counted instead of the oldest.
            if let Ok(oldest) = self.unread.remove(0) {
                self.lose(oldest);
            }
            at - 1
        };
        // There is room for as many as are counted.
        if let Err(InsertError::IndexOutOfBounds(event) | InsertError::OutOfCapacity(event)) =
            self.unread.insert_within_capacity(at, event)
        {
            count.less();
            self.lose(event);
        }
    }

    fn lose(&mut self, event: Event) {
        if self.lost == 0 || event.sequence > self.lost_sequence {
            self.lost_sequence = event.sequence;
            self.lost_ns = event.time_ns;
        }
        self.lost += match event.what {
            What::Lost(count) => count,
            _ => 1,
        };
    }

    /// Takes the oldest event for a reader who has room for `room` bytes.
    fn take(&mut self, count: &impl Count, room: usize) -> Next {
        if self.lost != 0 {
            let event = Event {
                sequence: self.lost_sequence,
                time_ns: self.lost_ns,
                what: What::Lost(self.lost),
            };

            if event.what.size() > room {
                return Next::NoRoom;
            }
            self.lost = 0;
            return Next::Event(event);
        }
        match self.unread.first() {
            Some(event) if event.what.size() > room => Next::NoRoom,
            Some(_) => self.unread.remove(0).map_or(Next::Nothing, |event| {
                count.less();
                Next::Event(event)
            }),
            None if self.ended => Next::End,
            None if self.types == 0 => Next::Unwanted,
            None if room < SIZE_MIN => Next::NoRoom,
            None => Next::Nothing,
        }
    }

    /// Takes back an event that a reader could not use.
    fn give_back(&mut self, count: &impl Count, event: Event) {
        if event.sequence <= self.forgotten {
            return;
        }
        match event.what {
            What::Lost(_) => self.lose(event),
            _ => self.insert(count, event),
        }
    }

    /// What the file wants from now on. Returns what it wanted before.
    fn want(&mut self, count: &impl Count, types: u64) -> u64 {
        if types == 0 {
            for _ in self.unread.drain_all() {
                count.less();
            }
            self.lost = 0;
            self.forgotten = self.sequence;
        }
        core::mem::replace(&mut self.types, types)
    }

    fn is_empty(&self) -> bool {
        self.unread.is_empty() && self.lost == 0
    }
}

/// The events of one file.
#[pin_data]
pub(crate) struct Events {
    #[pin]
    ring: SpinLock<Ring>,
}

impl Events {
    /// For a file that wants none yet; charged to the caller.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Pin<KBox<Self>>> {
        let ring = Ring::new()?;

        KBox::pin_init(
            pin_init!(Self {
                ring <- new_spinlock!(ring, "accel_events"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Adds an event, if the file wants it. Returns whether there is something to wake readers for.
    pub(crate) fn tell(&self, count: &impl Count, time_ns: i64, what: What) -> bool {
        self.ring.lock().tell(count, time_ns, what)
    }

    /// What the file wants from now on. Of `told`, each with its time, it is told what it did not
    /// want before. Returns what it wanted before.
    pub(crate) fn want(
        &self,
        count: &impl Count,
        types: u64,
        told: impl IntoIterator<Item = (i64, What)>,
    ) -> u64 {
        let mut ring = self.ring.lock();
        let before = ring.want(count, types);

        for (time_ns, what) in told {
            if before & bit(what.kind()) == 0 {
                ring.tell(count, time_ns, what);
            }
        }
        before
    }

    /// The device is gone, as `what` says: nothing is told after this.
    pub(crate) fn end(&self, count: &impl Count, time_ns: i64, what: What) {
        let mut ring = self.ring.lock();

        ring.tell(count, time_ns, what);
        ring.ended = true;
    }

    /// Nobody reads them any more: the file is closed.
    pub(crate) fn forget(&self, count: &impl Count) {
        self.ring.lock().want(count, 0);
    }

    /// Takes the oldest event for a reader who has room for `room` bytes.
    pub(crate) fn take(&self, count: &impl Count, room: usize) -> Next {
        self.ring.lock().take(count, room)
    }

    /// Takes back an event that a reader could not use.
    pub(crate) fn give_back(&self, count: &impl Count, event: Event) {
        self.ring.lock().give_back(count, event);
    }

    /// Whether a reader would not sleep.
    pub(crate) fn is_ready(&self) -> bool {
        let ring = self.ring.lock();

        !ring.is_empty() || ring.ended || ring.types == 0
    }

    /// Whether there are events to be read, and whether more may come.
    pub(crate) fn poll(&self) -> (bool, bool) {
        let ring = self.ring.lock();

        (!ring.is_empty(), !ring.ended)
    }
}

#[kunit_tests(accel_event)]
mod event_tests {
    use super::*;
    use core::cell::Cell;

    const FAULT: What = What::Fault {
        fault: Fault {
            address: 0,
            access: Access::Read,
            code: 0,
        },
        point: 0,
        timeline: 0,
    };
    const ALL: u64 = !0;

    /// Counts up to a limit.
    struct Counter {
        used: Cell<usize>,
        most: usize,
    }

    impl Count for Counter {
        fn more(&self) -> bool {
            if self.used.get() == self.most {
                return false;
            }
            self.used.set(self.used.get() + 1);
            true
        }

        fn less(&self) {
            self.used.set(self.used.get() - 1);
        }
    }

    fn counter(most: usize) -> Counter {
        Counter {
            used: Cell::new(0),
            most,
        }
    }

    fn ring(count: &Counter, events: usize) -> Result<Ring> {
        let mut ring = Ring::new()?;

        ring.want(count, ALL);
        for time_ns in 0..events {
            assert!(ring.tell(count, time_ns as i64, FAULT));
        }
        Ok(ring)
    }

    fn take(count: &Counter, ring: &mut Ring) -> Option<Event> {
        match ring.take(count, usize::MAX) {
            Next::Event(event) => Some(event),
            _ => None,
        }
    }

    /// Takes all; each is its sequence number and how many were lost.
    fn drain(count: &Counter, ring: &mut Ring, mut each: impl FnMut(u64, u64)) {
        while let Some(event) = take(count, ring) {
            match event.what {
                What::Lost(count) => each(event.sequence, count),
                _ => each(event.sequence, 0),
            }
        }
    }

    #[test]
    fn full_and_one_more() -> Result {
        for extra in [0, 1, 2, LIMIT, 1000] {
            let count = &counter(LIMIT);
            let mut ring = ring(count, LIMIT + extra)?;
            let (mut read, mut lost, mut last) = (0, 0, 0);

            drain(count, &mut ring, |sequence, count| {
                assert!(sequence > last);
                last = sequence;
                lost += count;
                read += u64::from(count == 0);
            });
            assert_eq!((read, lost), (LIMIT as u64, extra as u64));
            assert_eq!(last, (LIMIT + extra) as u64);
        }
        Ok(())
    }

    /// A limit that others have reached too.
    #[test]
    fn refused() -> Result {
        let none = &counter(0);
        let mut ring = ring(none, 2)?;
        let lost = take(none, &mut ring).ok_or(EINVAL)?;

        assert!(matches!(lost.what, What::Lost(2)));
        assert_eq!(lost.sequence, 2);
        assert!(take(none, &mut ring).is_none());

        let three = &counter(3);
        for _ in 0..5 {
            ring.tell(three, 0, FAULT);
        }
        assert_eq!(three.used.get(), 3);
        let (mut read, mut lost) = (0, 0);
        drain(three, &mut ring, |_, count| {
            lost += count;
            read += u64::from(count == 0);
        });
        assert_eq!((read, lost), (3, 2));
        assert_eq!(three.used.get(), 0);
        Ok(())
    }

    #[test]
    fn room() -> Result {
        let count = &counter(LIMIT);
        let mut ring = ring(count, 1)?;
        let size = size_of::<uapi::accel_event_fault>();

        assert!(matches!(ring.take(count, size - 1), Next::NoRoom));
        assert!(matches!(ring.take(count, size), Next::Event(_)));
        assert!(matches!(ring.take(count, SIZE_MIN), Next::Nothing));
        assert!(matches!(ring.take(count, SIZE_MIN - 1), Next::NoRoom));
        Ok(())
    }

    #[test]
    fn given_back_in_order() -> Result {
        let count = &counter(LIMIT);
        let mut ring = ring(count, 4)?;
        let (first, second) = (take(count, &mut ring), take(count, &mut ring));
        let mut last = 0;

        // By two readers, the earlier one first.
        ring.give_back(count, first.ok_or(EINVAL)?);
        ring.give_back(count, second.ok_or(EINVAL)?);
        drain(count, &mut ring, |sequence, count| {
            assert_eq!((sequence, count), (last + 1, 0));
            last = sequence;
        });
        assert_eq!(last, 4);
        Ok(())
    }

    #[test]
    fn given_back_too_late() -> Result {
        let count = &counter(LIMIT);
        let mut ring = ring(count, 1)?;
        let first = take(count, &mut ring).ok_or(EINVAL)?;

        for _ in 0..LIMIT {
            ring.tell(count, 0, FAULT);
        }
        ring.give_back(count, first);
        let lost = take(count, &mut ring).ok_or(EINVAL)?;
        assert!(matches!(lost.what, What::Lost(1)));
        assert_eq!(lost.sequence, 1);
        // What tells the loss is given back too, while more are lost.
        ring.tell(count, 7, FAULT);
        ring.give_back(count, lost);
        let lost = take(count, &mut ring).ok_or(EINVAL)?;
        assert!(matches!(lost.what, What::Lost(2)));
        assert_eq!(lost.sequence, 2);
        ring.give_back(count, lost);
        ring.tell(count, 8, FAULT);
        let lost = take(count, &mut ring).ok_or(EINVAL)?;
        assert!(matches!(lost.what, What::Lost(3)));
        assert_eq!(lost.sequence, 3);
        Ok(())
    }

    #[test]
    fn forgotten() -> Result {
        let count = &counter(LIMIT);
        let mut ring = ring(count, LIMIT + 3)?;
        let lost = take(count, &mut ring).ok_or(EINVAL)?;
        let first = take(count, &mut ring).ok_or(EINVAL)?;

        assert_eq!(ring.want(count, 0), ALL);
        ring.give_back(count, lost);
        ring.give_back(count, first);
        assert!(ring.is_empty());
        assert_eq!(count.used.get(), 0);
        assert!(matches!(ring.take(count, 64), Next::Unwanted));
        assert!(!ring.tell(count, 0, FAULT));
        ring.want(count, ALL);
        assert!(ring.tell(count, 0, FAULT));
        let next = take(count, &mut ring).ok_or(EINVAL)?;
        assert_eq!(next.sequence, LIMIT as u64 + 4);
        Ok(())
    }

    #[test]
    fn unwanted_is_not_counted() -> Result {
        let count = &counter(LIMIT);
        let mut ring = ring(count, 1)?;

        ring.want(count, bit(uapi::ACCEL_EVENT_STATE));
        assert!(!ring.tell(count, 0, FAULT));
        ring.want(count, ALL);
        ring.tell(count, 0, FAULT);
        let (_, second) = (take(count, &mut ring), take(count, &mut ring));
        assert_eq!(second.ok_or(EINVAL)?.sequence, 2);
        Ok(())
    }

    #[test]
    fn end() -> Result {
        let count = &counter(LIMIT);
        let mut ring = ring(count, 1)?;

        ring.ended = true;
        assert!(!ring.tell(count, 0, FAULT));
        assert!(matches!(ring.take(count, 64), Next::Event(_)));
        assert!(matches!(ring.take(count, 0), Next::End));
        ring.want(count, 0);
        assert!(matches!(ring.take(count, 64), Next::End));
        Ok(())
    }
}
