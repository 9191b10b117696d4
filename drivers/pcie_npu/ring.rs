// SPDX-License-Identifier: GPL-2.0

//! What card and driver share in host memory: ring entries, completions, events.
//!
//! ```text
//!    driver ─► entries[tail]  ─► tail word ─► doorbell ─► card
//!    driver ◄─ completions[head], valid when its phase is that of the pass
//!    driver ◄─ events[head], likewise
//! ```
//!
//! Head and tail count modulo 2^32, and an entry lies at its number modulo the size; the phase is 1
//! in passes of even number. What the card writes is copied before it is checked, and checked
//! before it is used.

use crate::regs::QueueSetup;
use accel::{
    dma_rmb,
    dma_wmb,
    Shared, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    prelude::*, //
};
use zerocopy_derive::{
    FromBytes,
    Immutable,
    IntoBytes, //
};

/// Entries of a ring, a power of two. As many jobs of a context may be on their way.
pub(crate) const ENTRIES: u32 = crate::uapi::ACCEL_NPU_JOBS_MAX;
const _: () = assert!(ENTRIES.is_power_of_two());

/// Entries of the event ring, a power of two.
pub(crate) const EVENTS: u32 = 64;

/// Raise an interrupt when the entry is complete.
const FLAG_INTERRUPT: u16 = 1 << 0;

/// The phase in the pass that entry `number` of a ring of `entries` belongs to.
fn phase(number: u32, entries: u32) -> u32 {
    u32::from(number & entries == 0)
}

/// A job, as the card reads it.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct RawEntry {
    address: u64,
    commands: u32,
    space: u16,
    flags: u16,
    cookie: u64,
    reserved: u64,
}

/// A job to be written to a ring.
pub(crate) struct Entry {
    /// Device address of the commands.
    pub(crate) address: u64,
    pub(crate) commands: u32,
    /// Address-space id.
    pub(crate) space: u16,
    pub(crate) interrupt: bool,
    pub(crate) cookie: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct RawCompletion {
    cookie: u64,
    address: u64,
    commands: u32,
    micros: u32,
    status: u16,
    access: u8,
    kind: u8,
    phase: u32,
}

/// What the card says about a job that is complete. Nothing of it has been checked.
#[derive(Clone, Copy)]
pub(crate) struct Completion {
    pub(crate) cookie: u64,
    /// Of a fault.
    pub(crate) address: u64,
    /// Executed, or the index of the one that failed.
    pub(crate) commands: u32,
    /// Time that it took, in microseconds.
    pub(crate) micros: u32,
    pub(crate) status: u16,
    /// Of a fault: 1 read, 2 write.
    pub(crate) access: u8,
    /// Of a fault.
    pub(crate) kind: u8,
}

impl Completion {
    /// What the application is told of a fault.
    pub(crate) fn fault(&self) -> accel::Fault {
        accel::Fault {
            address: self.address,
            access: match u32::from(self.access) {
                crate::uapi::ACCEL_NPU_ACCESS_WRITE => accel::Access::Write,
                _ => accel::Access::Read,
            },
            code: self.kind.into(),
        }
    }
}

/// The ring of one queue, with its completions and its tail.
///
/// # Invariants
///
/// `tail - head`, modulo 2^32, is at most [`ENTRIES`].
pub(crate) struct Ring {
    entries: Shared<RawEntry>,
    completions: Shared<RawCompletion>,
    tail_word: Shared<u32>,
    /// Entries whose completion was taken.
    head: u32,
    /// Entries that were written.
    tail: u32,
}

impl Ring {
    pub(crate) fn new(parent: &Device<Bound>) -> Result<Self> {
        Ok(Self {
            entries: Shared::new(parent, ENTRIES as usize)?,
            completions: Shared::new(parent, ENTRIES as usize)?,
            tail_word: Shared::new(parent, 1)?,
            head: 0,
            tail: 0,
        })
    }

    /// Where the card finds it; `vector` is what its queue raises.
    pub(crate) fn setup(&self, vector: u32) -> QueueSetup {
        QueueSetup {
            ring: self.entries.address(),
            completions: self.completions.address(),
            tail: self.tail_word.address(),
            entries: ENTRIES,
            vector,
        }
    }

    /// Begins again at index 0. The queue must be disabled, and its jobs have ended.
    pub(crate) fn restart(&mut self) -> Result {
        let empty = RawCompletion {
            cookie: 0,
            address: 0,
            commands: 0,
            micros: 0,
            status: 0,
            access: 0,
            kind: 0,
            phase: 0,
        };

        for index in 0..ENTRIES {
            self.completions.write(index as usize, empty)?;
        }
        self.tail_word.write(0, 0)?;
        self.head = 0;
        self.tail = 0;
        Ok(())
    }

    /// Entries that are free.
    pub(crate) fn room(&self) -> u32 {
        ENTRIES - self.len()
    }

    /// Entries that are not complete.
    pub(crate) fn len(&self) -> u32 {
        self.tail.wrapping_sub(self.head)
    }

    /// The number of the entry that is completed next.
    pub(crate) fn head(&self) -> u32 {
        self.head
    }

    /// The number of the entry that is written next.
    pub(crate) fn tail(&self) -> u32 {
        self.tail
    }

    /// Writes an entry, which the card does not see before [`Self::publish`].
    ///
    /// # Errors
    ///
    /// `EAGAIN` when the ring is full.
    pub(crate) fn push(&mut self, entry: &Entry) -> Result {
        if self.room() == 0 {
            return Err(EAGAIN);
        }
        let flags = if entry.interrupt { FLAG_INTERRUPT } else { 0 };
        let raw = RawEntry {
            address: entry.address.to_le(),
            commands: entry.commands.to_le(),
            space: entry.space.to_le(),
            flags: flags.to_le(),
            cookie: entry.cookie.to_le(),
            reserved: 0,
        };

        self.entries.write(index(self.tail), raw)?;
        self.tail = self.tail.wrapping_add(1);
        Ok(())
    }

    /// Lets the card see what was pushed.
    pub(crate) fn publish(&self) -> Result {
        // The entries before the tail that covers them.
        dma_wmb();
        self.tail_word.write(0, self.tail.to_le())?;
        // The tail before a doorbell that its user rings, without a barrier.
        dma_wmb();
        Ok(())
    }

    /// The completion of the entry at the head, if it is complete.
    ///
    /// # Errors
    ///
    /// `EIO` when there is something that is no completion.
    pub(crate) fn peek(&self) -> Result<Option<Completion>> {
        if self.len() == 0 {
            return Ok(None);
        }
        match u32::from_le(self.completions.read(index(self.head))?.phase) {
            valid if valid == phase(self.head, ENTRIES) => {}
            0 | 1 => return Ok(None),
            _ => return Err(EIO),
        }
        // The card writes the phase last: what was read before it may be older.
        dma_rmb();
        let raw = self.completions.read(index(self.head))?;

        Ok(Some(Completion {
            cookie: u64::from_le(raw.cookie),
            address: u64::from_le(raw.address),
            commands: u32::from_le(raw.commands),
            micros: u32::from_le(raw.micros),
            status: u16::from_le(raw.status),
            access: raw.access,
            kind: raw.kind,
        }))
    }

    /// The entry at the head is done with.
    pub(crate) fn advance(&mut self) {
        if self.len() > 0 {
            self.head = self.head.wrapping_add(1);
        }
    }
}

/// Where the entry of this number lies in a ring.
pub(crate) fn index(number: u32) -> usize {
    (number % ENTRIES) as usize
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct RawEvent {
    kind: u32,
    queue: u32,
    address: u64,
    information: u32,
    count: u32,
    reserved: u32,
    phase: u32,
}

/// What the card tells that is no job's.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    /// A queue halted, and why: [`RING_ERROR`], or a completion status.
    QueueHalted { queue: u32, reason: u32 },
    /// Errors in its memory were corrected; where the last was.
    EccCorrected { count: u32, address: u64 },
    /// The card has stopped: an error in its memory could not be corrected.
    EccUncorrected { address: u64 },
    /// The card has stopped: an engine failed.
    EngineFailure,
    /// The card has stopped: it is too hot, in thousandths of a degree Celsius.
    Thermal { temperature: i32 },
    /// Of a kind that this driver does not know.
    Unknown(u32),
}

/// Why a queue halted: its tail was more than a ring ahead.
pub(crate) const RING_ERROR: u32 = 0x80;

/// The event ring.
pub(crate) struct Events {
    entries: Shared<RawEvent>,
    /// Events that were consumed.
    head: u32,
}

impl Events {
    pub(crate) fn new(parent: &Device<Bound>) -> Result<Self> {
        Ok(Self {
            entries: Shared::new(parent, EVENTS as usize)?,
            head: 0,
        })
    }

    /// Where the card finds it, and how many entries it has.
    pub(crate) fn place(&self) -> (u64, u32) {
        (self.entries.address(), EVENTS)
    }

    /// Begins again at index 0. The card must not be writing to it.
    pub(crate) fn restart(&mut self) -> Result {
        let empty = RawEvent {
            kind: 0,
            queue: 0,
            address: 0,
            information: 0,
            count: 0,
            reserved: 0,
            phase: 0,
        };

        for index in 0..EVENTS {
            self.entries.write(index as usize, empty)?;
        }
        self.head = 0;
        Ok(())
    }

    /// Events that were consumed, modulo 2^32.
    pub(crate) fn head(&self) -> u32 {
        self.head
    }

    /// The next event, if there is one.
    pub(crate) fn next(&mut self) -> Result<Option<Event>> {
        let index = (self.head % EVENTS) as usize;

        if u32::from_le(self.entries.read(index)?.phase) != phase(self.head, EVENTS) {
            return Ok(None);
        }
        // As in `Ring::peek`.
        dma_rmb();
        let raw = self.entries.read(index)?;
        let address = u64::from_le(raw.address);
        let information = u32::from_le(raw.information);

        self.head = self.head.wrapping_add(1);
        Ok(Some(match u32::from_le(raw.kind) {
            1 => Event::QueueHalted {
                queue: u32::from_le(raw.queue),
                reason: information,
            },
            2 => Event::EccCorrected {
                count: u32::from_le(raw.count),
                address,
            },
            3 => Event::EccUncorrected { address },
            4 => Event::EngineFailure,
            5 => Event::Thermal {
                temperature: information as i32,
            },
            kind => Event::Unknown(kind),
        }))
    }
}
