// SPDX-License-Identifier: GPL-2.0
//! The event ring: what is no job's is told there.

use crate::transport::Bus;

const ENTRY: u64 = 32;
/// Where in an entry its phase is.
const PHASE: usize = 28;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    QueueHalted = 1,
    EccCorrected = 2,
    EccUncorrected = 3,
    EngineFailure = 4,
    Thermal = 5,
    /// No event of the manual: a lie.
    Nonsense = 0x7777_7777,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub kind: Kind,
    pub queue: Option<u32>,
    pub address: u64,
    pub information: u32,
    pub count: u32,
}

/// The registers of the ring, and where it stands.
#[derive(Debug, Default)]
pub struct Events {
    ring: u64,
    /// A valid size, or 0: off.
    size: u32,
    head: u32,
    /// Entries that were written.
    tail: u32,
    lost: bool,
}

impl Events {
    pub fn ring(&self) -> u64 {
        self.ring
    }

    pub fn set_ring(&mut self, ring: u64) {
        self.ring = ring & !63;
    }

    pub fn size(&self) -> u32 {
        self.size
    }

    /// Starts the ring; a size that it cannot have turns it off.
    pub fn set_size(&mut self, size: u32) {
        let valid = size.is_power_of_two() && (16..=4096).contains(&size);
        *self = Self {
            ring: self.ring,
            size: if valid { size } else { 0 },
            ..Self::default()
        };
    }

    pub fn head(&self) -> u32 {
        self.head
    }

    pub fn set_head(&mut self, head: u32) {
        self.head = head;
        self.lost = false;
    }

    /// The ring was full, or not in memory.
    pub fn lost(&self) -> bool {
        self.lost
    }

    /// Writes an event. Returns whether the host is to be told.
    #[must_use]
    pub fn post(&mut self, bus: &dyn Bus, event: Event) -> bool {
        if self.size == 0 {
            return false;
        }
        // A head that is ahead of the tail makes no room either.
        if self.tail.wrapping_sub(self.head) >= self.size {
            self.lost = true;
            return false;
        }
        let index = u64::from(self.tail % self.size);
        let phase = u32::from(self.tail / self.size % 2 == 0);
        let mut entry = [0; PHASE];
        entry[0..4].copy_from_slice(&(event.kind as u32).to_le_bytes());
        entry[4..8].copy_from_slice(&event.queue.unwrap_or(u32::MAX).to_le_bytes());
        entry[8..16].copy_from_slice(&event.address.to_le_bytes());
        entry[16..20].copy_from_slice(&event.information.to_le_bytes());
        entry[20..24].copy_from_slice(&event.count.to_le_bytes());
        let at = self.ring.wrapping_add(ENTRY * index);
        let written = bus
            .write(at, &entry)
            .and_then(|()| bus.store(at.wrapping_add(PHASE as u64), phase));
        match written {
            Ok(()) => self.tail = self.tail.wrapping_add(1),
            Err(_) => self.lost = true,
        }
        written.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::fake::{BASE, FakeBus};

    fn event(count: u32) -> Event {
        Event {
            kind: Kind::EccCorrected,
            queue: None,
            address: 0x1234_5678_9abc,
            information: 7,
            count,
        }
    }

    #[test]
    fn entries_are_as_in_the_manual() {
        let bus = FakeBus::new(1 << 16);
        let mut events = Events::default();
        assert!(!events.post(&bus, event(1)), "it is off");
        assert!(!events.lost());
        events.set_ring(BASE + 64 + 5);
        assert_eq!(events.ring(), BASE + 64);
        events.set_size(16);
        assert!(events.post(&bus, event(3)));
        let entry: [u8; 32] = bus.bytes(BASE + 64);
        let mut expected = [0; 32];
        expected[0] = 2;
        expected[4..8].fill(0xff);
        expected[8..14].copy_from_slice(&[0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12]);
        expected[16] = 7;
        expected[20] = 3;
        expected[28] = 1;
        assert_eq!(entry, expected);
    }

    #[test]
    fn a_full_ring_loses_events_until_told_that_it_is_not() {
        let bus = FakeBus::new(1 << 16);
        let mut events = Events::default();
        events.set_ring(BASE);
        events.set_size(16);
        for count in 0..16 {
            assert!(events.post(&bus, event(count + 1)));
        }
        assert!(!events.lost());
        assert!(!events.post(&bus, event(17)));
        assert!(events.lost());
        assert_eq!(bus.u32(BASE + 20), 1);
        events.set_head(2);
        assert!(!events.lost());
        assert!(events.post(&bus, event(18)));
        assert!(events.post(&bus, event(19)));
        assert!(!events.post(&bus, event(20)));
        assert_eq!((bus.u32(BASE + 20), bus.u32(BASE + 28)), (18, 0));
        assert_eq!((bus.u32(BASE + 52), bus.u32(BASE + 60)), (19, 0));
        assert_eq!((bus.u32(BASE + 84), bus.u32(BASE + 92)), (3, 1));
        // Writing the size starts it again.
        events.set_size(32);
        assert_eq!((events.head(), events.lost()), (0, false));
        assert!(events.post(&bus, event(21)));
        assert_eq!((bus.u32(BASE + 20), bus.u32(BASE + 28)), (21, 1));
    }

    #[test]
    fn every_size_wraps() {
        let bus = FakeBus::new(4096 * 32);
        for log in 4..=12 {
            let size = 1 << log;
            let mut events = Events::default();
            events.set_ring(BASE);
            events.set_size(size);
            // As after 2^32 - size / 2 events.
            events.tail = 0u32.wrapping_sub(size / 2);
            for number in 0..2 * size {
                let index = u64::from(events.tail % size);
                let phase = 1 - events.tail / size % 2;
                events.set_head(events.tail);
                assert!(events.post(&bus, event(number)));
                assert_eq!(bus.u32(BASE + 32 * index + 20), number);
                assert_eq!(bus.u32(BASE + 32 * index + 28), phase);
            }
        }
    }

    #[test]
    fn wrong_sizes_turn_it_off_and_wrong_places_lose() {
        let bus = FakeBus::new(1 << 16);
        let mut events = Events::default();
        for size in [0, 1, 8, 15, 17, 100, 8192, u32::MAX] {
            events.set_size(size);
            assert_eq!(events.size(), 0, "{size}");
        }
        events.set_ring(u64::MAX);
        events.set_size(16);
        assert!(!events.post(&bus, event(1)));
        assert!(events.lost());
        events.set_ring(BASE);
        events.set_head(100);
        assert!(!events.post(&bus, event(1)), "a head ahead of the tail");
        assert!(events.lost());
        events.set_head(0);
        assert!(events.post(&bus, event(2)));
        assert_eq!((bus.u32(BASE + 20), bus.u32(BASE + 28)), (2, 1));
    }
}
