// SPDX-License-Identifier: GPL-2.0
//! The map of BAR0: which register an access means.

use super::mmu::IDS;
use super::queue::QUEUES;

pub const BAR0_SIZE: u64 = 1 << 20;

pub const ID: u32 = 0x4e50_5531;
pub const REVISION: u32 = 1 << 16;
/// 64 queues, rings of at most 2^10 entries, 8 vectors, 2 compute engines, 1 copy engine.
pub const CAPS: u32 = 64 | (10 << 8) | (8 << 16) | (2 << 24) | (1 << 28);
pub const VECTORS: u16 = 8;

pub const STATUS_READY: u32 = 1 << 0;
pub const STATUS_HALTED: u32 = 1 << 1;
pub const STATUS_EVENTS_LOST: u32 = 1 << 3;

/// TLB_INVALIDATE and SCRUB_CONTROL, read.
pub const BUSY: u32 = 1 << 0;
pub const ERROR: u32 = 1 << 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    Id,
    Revision,
    Caps,
    AddressSpaces,
    MemorySize,
    Status,
    Control,
    Time,
    Serial,
    Scratch,
    EventRing,
    EventSize,
    EventHead,
    ScrubOffset,
    ScrubSize,
    ScrubControl,
    TlbStart,
    TlbEnd,
    TlbId,
    TlbInvalidate,
    TlbHits,
    TlbMisses,
    Temperature,
    TemperatureLimit,
    Power,
    PowerLimit,
    Voltage,
    CoreClock,
    MemoryClock,
    EccCorrected,
    EccUncorrected,
    Energy,
    Busy,
    Queue(usize, QueueRegister),
    Root(usize),
    Doorbell(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueRegister {
    Ring,
    Completions,
    Tail,
    Size,
    Vector,
    Control,
    Status,
    Head,
    FaultAddress,
    Fault,
}

/// Registers that are there once, with their offsets and sizes.
const REGISTERS: &[(u64, u64, Register)] = &[
    (0x000, 4, Register::Id),
    (0x004, 4, Register::Revision),
    (0x008, 4, Register::Caps),
    (0x00c, 4, Register::AddressSpaces),
    (0x010, 8, Register::MemorySize),
    (0x018, 4, Register::Status),
    (0x01c, 4, Register::Control),
    (0x020, 8, Register::Time),
    (0x028, 8, Register::Serial),
    (0x030, 4, Register::Scratch),
    (0x040, 8, Register::EventRing),
    (0x048, 4, Register::EventSize),
    (0x04c, 4, Register::EventHead),
    (0x080, 8, Register::ScrubOffset),
    (0x088, 8, Register::ScrubSize),
    (0x090, 4, Register::ScrubControl),
    (0x100, 8, Register::TlbStart),
    (0x108, 8, Register::TlbEnd),
    (0x110, 4, Register::TlbId),
    (0x114, 4, Register::TlbInvalidate),
    (0x120, 8, Register::TlbHits),
    (0x128, 8, Register::TlbMisses),
    (0x200, 4, Register::Temperature),
    (0x204, 4, Register::TemperatureLimit),
    (0x208, 4, Register::Power),
    (0x20c, 4, Register::PowerLimit),
    (0x210, 4, Register::Voltage),
    (0x214, 4, Register::CoreClock),
    (0x218, 4, Register::MemoryClock),
    (0x220, 4, Register::EccCorrected),
    (0x224, 4, Register::EccUncorrected),
    (0x228, 8, Register::Energy),
    (0x230, 8, Register::Busy),
];

const QUEUE_REGISTERS: &[(u64, u64, QueueRegister)] = &[
    (0x00, 8, QueueRegister::Ring),
    (0x08, 8, QueueRegister::Completions),
    (0x10, 8, QueueRegister::Tail),
    (0x18, 4, QueueRegister::Size),
    (0x1c, 4, QueueRegister::Vector),
    (0x20, 4, QueueRegister::Control),
    (0x24, 4, QueueRegister::Status),
    (0x28, 4, QueueRegister::Head),
    (0x30, 8, QueueRegister::FaultAddress),
    (0x38, 4, QueueRegister::Fault),
];

const QUEUE_BASE: u64 = 0x1_0000;
const QUEUE_STRIDE: u64 = 0x100;
const ROOT_BASE: u64 = 0x2_0000;
pub const DOORBELL_BASE: u64 = 0x8_0000;
const DOORBELL_STRIDE: u64 = 0x1000;

/// What an access is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// All bits of a register, or those of one half.
    Register { register: Register, shift: u32 },
    /// Nothing: reads as 0.
    Nothing,
    /// No access that BAR0 takes: reads as all-ones.
    Wrong,
}

/// The register at `offset`: where it begins, how large it is.
fn find(offset: u64) -> Option<(u64, u64, Register)> {
    let queue_end = QUEUE_BASE + QUEUES as u64 * QUEUE_STRIDE;
    let root_end = ROOT_BASE + 8 * IDS as u64;
    let doorbell_end = DOORBELL_BASE + QUEUES as u64 * DOORBELL_STRIDE;
    if (DOORBELL_BASE..doorbell_end).contains(&offset) {
        let queue = (offset - DOORBELL_BASE) / DOORBELL_STRIDE;
        let start = DOORBELL_BASE + queue * DOORBELL_STRIDE;
        (offset < start + 4).then_some((start, 4, Register::Doorbell(queue as usize)))
    } else if (QUEUE_BASE..queue_end).contains(&offset) {
        let queue = (offset - QUEUE_BASE) / QUEUE_STRIDE;
        let start = QUEUE_BASE + queue * QUEUE_STRIDE;
        QUEUE_REGISTERS
            .iter()
            .map(|&(at, size, register)| {
                (start + at, size, Register::Queue(queue as usize, register))
            })
            .find(|(at, size, _)| (*at..at + size).contains(&offset))
    } else if (ROOT_BASE + 8..root_end).contains(&offset) {
        let id = (offset - ROOT_BASE) / 8;
        Some((ROOT_BASE + 8 * id, 8, Register::Root(id as usize)))
    } else {
        REGISTERS
            .iter()
            .find(|(at, size, _)| (*at..at + size).contains(&offset))
            .copied()
    }
}

/// What an access of `size` bytes at `offset` is to.
pub fn decode(offset: u64, size: usize) -> Target {
    let size = size as u64;
    if !matches!(size, 4 | 8) || offset % size != 0 {
        return Target::Wrong;
    }
    match find(offset) {
        Some((start, width, register)) if size <= width => Target::Register {
            register,
            shift: 8 * (offset - start) as u32,
        },
        None if size == 4 => Target::Nothing,
        _ => Target::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(offset: u64, size: usize) -> Option<(Register, u32)> {
        match decode(offset, size) {
            Target::Register { register, shift } => Some((register, shift)),
            _ => None,
        }
    }

    #[test]
    fn offsets_of_the_manual() {
        use QueueRegister::*;
        use Register::*;
        for (offset, size, expected) in [
            (0x0, 4, (Id, 0)),
            (0x10, 8, (MemorySize, 0)),
            (0x14, 4, (MemorySize, 32)),
            (0x18, 4, (Register::Status, 0)),
            (0x4c, 4, (EventHead, 0)),
            (0x114, 4, (TlbInvalidate, 0)),
            (0x234, 4, (Busy, 32)),
            (0x1_0000, 8, (Queue(0, Ring), 0)),
            (0x1_3f38, 4, (Queue(63, Fault), 0)),
            (0x1_0134, 4, (Queue(1, FaultAddress), 32)),
            (0x2_0008, 8, (Root(1), 0)),
            (0x2_03fc, 4, (Root(127), 32)),
            (0x8_0000, 4, (Doorbell(0), 0)),
            (0xb_f000, 4, (Doorbell(63), 0)),
        ] {
            assert_eq!(register(offset, size), Some(expected), "{offset:#x}");
        }
    }

    #[test]
    fn other_sizes_and_places() {
        for (offset, size) in [
            (0, 1),
            (0, 2),
            (0, 8),
            (2, 4),
            (0x14, 8),
            (0x18, 8),
            (0x1_0018, 8),
            (0x8_0000, 8),
            (0x1000, 8),
            (0, 3),
            (0, 0),
        ] {
            assert_eq!(decode(offset, size), Target::Wrong, "{offset:#x} {size}");
        }
        for offset in [
            0x34, 0x1_003c, 0x1_4000, 0x2_0000, 0x2_0400, 0x8_0004, 0xc_0000, 0xf_fffc,
        ] {
            assert_eq!(decode(offset, 4), Target::Nothing, "{offset:#x}");
        }
    }

    #[test]
    fn no_registers_overlap() {
        for pair in REGISTERS.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0);
        }
        for pair in QUEUE_REGISTERS.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0);
        }
    }
}
