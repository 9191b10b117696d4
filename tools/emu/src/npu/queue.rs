// SPDX-License-Identifier: GPL-2.0
//! Queues: their registers, and the formats of what is in host memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::command::{Access, Engine, Failure, SIZE as COMMAND};
use super::mmu::IDS;
use super::regs::{QueueRegister, VECTORS};

pub const QUEUES: usize = 64;

/// Bytes of a ring entry, and of a completion.
pub const ENTRY: usize = 32;
/// Where in a completion its phase is.
pub const PHASE: usize = 28;

const COMMANDS_MAX: u32 = 4096;
const INTERRUPT: u16 = 1 << 0;

/// How a job ended, or why a queue halted; the numbers are the manual's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Status {
    Ok = 0,
    BadEntry = 1,
    BadOpcode = 2,
    BadOperand = 3,
    BadParameter = 4,
    TooLarge = 5,
    Fault = 6,
    BusError = 7,
    /// Of queues only.
    RingError = 0x80,
}

/// The access that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refused {
    pub address: u64,
    /// 1 read, 2 write, 0 no access.
    pub access: u8,
    /// Of a FAULT.
    pub kind: u8,
    pub id: u16,
}

impl Refused {
    pub fn of(address: u64, access: Access, kind: u8, id: u16) -> Self {
        Self {
            address,
            access: match access {
                Access::Read => 1,
                Access::Write => 2,
            },
            kind,
            id,
        }
    }
}

/// What a command's failure is in a completion; none if the command was given up.
pub fn status_of(failure: Failure, id: u16) -> Option<(Status, Refused)> {
    let none = Refused::default();
    Some(match failure {
        Failure::Opcode => (Status::BadOpcode, none),
        Failure::Operand => (Status::BadOperand, none),
        Failure::Parameter => (Status::BadParameter, none),
        Failure::TooLarge => (Status::TooLarge, none),
        Failure::Fault {
            address,
            access,
            kind,
        } => (Status::Fault, Refused::of(address, access, kind, id)),
        Failure::Bus { address, access } => (Status::BusError, Refused::of(address, access, 0, id)),
        Failure::Aborted => return None,
    })
}

/// A ring entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub list: u64,
    pub count: u32,
    pub id: u16,
    pub interrupt: bool,
    pub cookie: u64,
    /// Whether it is as entries must be.
    pub valid: bool,
}

impl Entry {
    pub fn parse(bytes: &[u8; ENTRY]) -> Self {
        let list = u64_at(bytes, 0);
        let count = u32_at(bytes, 8);
        let id = u16_at(bytes, 12);
        let flags = u16_at(bytes, 14);
        let valid = list % 64 == 0
            && (1..=COMMANDS_MAX).contains(&count)
            && (1..IDS).contains(&usize::from(id))
            && flags & !INTERRUPT == 0
            && u64_at(bytes, 24) == 0;
        Self {
            list,
            count,
            id,
            interrupt: flags & INTERRUPT != 0,
            cookie: u64_at(bytes, 16),
            valid,
        }
    }
}

/// What is told of a job that ended; all but the phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    pub cookie: u64,
    pub address: u64,
    pub commands: u32,
    pub microseconds: u32,
    pub status: u16,
    pub access: u8,
    pub kind: u8,
}

impl Completion {
    pub fn bytes(&self) -> [u8; PHASE] {
        let mut bytes = [0; PHASE];
        bytes[0..8].copy_from_slice(&self.cookie.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.address.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.commands.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.microseconds.to_le_bytes());
        bytes[24..26].copy_from_slice(&self.status.to_le_bytes());
        bytes[26] = self.access;
        bytes[27] = self.kind;
        bytes
    }
}

fn u16_at(bytes: &[u8; ENTRY], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8; ENTRY], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | (u32::from(u16_at(bytes, at + 2)) << 16)
}

fn u64_at(bytes: &[u8; ENTRY], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | (u64::from(u32_at(bytes, at + 4)) << 32)
}

/// What the registers say that can be written while the queue is disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Setup {
    pub ring: u64,
    pub completions: u64,
    pub tail: u64,
    pub size: u32,
    pub vector: u32,
}

impl Setup {
    pub fn is_valid(&self) -> bool {
        self.size.is_power_of_two()
            && (4..=1024).contains(&self.size)
            && self.vector < u32::from(VECTORS)
    }

    /// The host address of the ring entry of the job with this number.
    pub fn entry(&self, number: u32) -> u64 {
        self.ring.wrapping_add(self.offset(number))
    }

    /// The host address of its completion.
    pub fn completion(&self, number: u32) -> u64 {
        self.completions.wrapping_add(self.offset(number))
    }

    fn offset(&self, number: u32) -> u64 {
        // The sizes are powers of two: a division by 0 is not reached, nor defined away.
        u64::from(number & self.size.wrapping_sub(1)) * ENTRY as u64
    }

    /// 1 in the first pass over the ring, 0 in the second.
    pub fn phase(&self, number: u32) -> u32 {
        u32::from(number & self.size == 0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    #[default]
    Disabled,
    /// Nothing to do until the doorbell is rung.
    Idle,
    /// Waiting for its turn, or a worker has it.
    Running,
    Halted(Status),
}

/// A job whose commands are being executed.
#[derive(Debug)]
pub struct Job {
    pub entry: Entry,
    /// Commands that were executed.
    pub done: u32,
    pub began: Instant,
    /// The next command where it was fetched for another kind of engine.
    pub fetched: Option<(Engine, [u8; COMMAND])>,
}

/// A queue.
#[derive(Debug, Default)]
pub struct Queue {
    pub setup: Setup,
    pub state: State,
    /// It was disabled and something may still be accessed for it.
    pub stopping: bool,
    /// What is executed for it hangs: it does not stop before a reset.
    pub hung: bool,
    pub head: u32,
    pub refused: Option<Refused>,
    /// The doorbell was rung since the tail was read.
    pub rung: bool,
    /// The tail as it was read last.
    pub tail: u32,
    pub job: Option<Job>,
    /// A worker has it.
    pub taken: bool,
    /// Tells what is executed for it to give up. A new one with each start.
    pub abort: Arc<AtomicBool>,
}

impl Queue {
    fn enabled(&self) -> bool {
        self.state != State::Disabled && !self.stopping
    }

    /// Whether it has anything that a worker could do.
    pub fn has_work(&self) -> bool {
        self.rung || self.job.is_some() || self.head != self.tail
    }

    /// The card looks at the tail. Returns whether the queue is now waiting for a turn.
    #[must_use]
    pub fn ring(&mut self) -> bool {
        if self.stopping || !matches!(self.state, State::Idle | State::Running) {
            return false;
        }
        self.rung = true;
        if self.state == State::Running {
            return false;
        }
        self.state = State::Running;
        true
    }

    /// Writes ENABLE. A start with registers that make no ring halts at once; that is returned.
    #[must_use]
    pub fn enable(&mut self, enable: bool) -> Option<Status> {
        if enable && self.state == State::Disabled {
            *self = Self {
                setup: self.setup,
                state: State::Idle,
                ..Self::default()
            };
            if !self.setup.is_valid() {
                self.halt(Status::RingError, None);
                return Some(Status::RingError);
            }
        } else if !enable && self.enabled() {
            self.abort.store(true, Ordering::Release);
            self.job = None;
            if self.taken {
                self.stopping = true;
            } else {
                self.stopped();
            }
        }
        None
    }

    /// There is no access for it any more. What a worker may still compute goes nowhere.
    pub fn stopped(&mut self) {
        self.state = State::Disabled;
        self.taken = false;
        self.stopping = false;
        self.rung = false;
        self.job = None;
    }

    pub fn halt(&mut self, why: Status, refused: Option<Refused>) {
        self.state = State::Halted(why);
        self.refused = refused;
        self.rung = false;
        self.job = None;
    }

    pub fn read(&self, register: QueueRegister) -> u64 {
        match register {
            QueueRegister::Ring => self.setup.ring,
            QueueRegister::Completions => self.setup.completions,
            QueueRegister::Tail => self.setup.tail,
            QueueRegister::Size => u64::from(self.setup.size),
            QueueRegister::Vector => u64::from(self.setup.vector),
            QueueRegister::Control => u64::from(self.enabled()),
            QueueRegister::Status => {
                let (state, why) = match self.state {
                    State::Disabled => (0, 0),
                    State::Idle => (1, 0),
                    State::Running => (2, 0),
                    State::Halted(why) => (3, why as u64),
                };
                state | (u64::from(self.stopping) << 2) | (why << 8)
            }
            QueueRegister::Head => u64::from(self.head),
            QueueRegister::FaultAddress => self.refused.map_or(0, |refused| refused.address),
            QueueRegister::Fault => self.refused.map_or(0, |refused| {
                (1 << 7)
                    | u64::from(refused.access)
                    | (u64::from(refused.kind) << 8)
                    | (u64::from(refused.id) << 16)
            }),
        }
    }

    /// Writes what can be written only while the queue is disabled; all but ENABLE.
    pub fn write(&mut self, register: QueueRegister, value: u64) {
        if self.state != State::Disabled {
            return;
        }
        match register {
            QueueRegister::Ring => self.setup.ring = value & !0xfff,
            QueueRegister::Completions => self.setup.completions = value & !0xfff,
            QueueRegister::Tail => self.setup.tail = value & !0x3f,
            QueueRegister::Size => self.setup.size = value as u32,
            QueueRegister::Vector => self.setup.vector = value as u32,
            QueueRegister::Control
            | QueueRegister::Status
            | QueueRegister::Head
            | QueueRegister::FaultAddress
            | QueueRegister::Fault => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(change: impl FnOnce(&mut [u8; ENTRY])) -> Entry {
        let mut bytes = [0; ENTRY];
        bytes[0..8].copy_from_slice(&0x1_2345_6740u64.to_le_bytes());
        bytes[8] = 3;
        bytes[12] = 7;
        bytes[16..24].copy_from_slice(&0x1122_3344_5566_7788u64.to_le_bytes());
        change(&mut bytes);
        Entry::parse(&bytes)
    }

    #[test]
    fn entries_are_checked() {
        let good = Entry {
            list: 0x1_2345_6740,
            count: 3,
            id: 7,
            interrupt: false,
            cookie: 0x1122_3344_5566_7788,
            valid: true,
        };
        assert_eq!(entry(|_| {}), good);
        let interrupting = Entry {
            interrupt: true,
            ..good
        };
        assert_eq!(entry(|bytes| bytes[14] = 1), interrupting);
        assert!(entry(|bytes| bytes[8..12].copy_from_slice(&[0, 16, 0, 0])).valid);
        assert!(entry(|bytes| bytes[12] = 127).valid);
        let wrong: [fn(&mut [u8; ENTRY]); 10] = [
            |bytes| bytes[0] = 0x20,
            |bytes| bytes[8] = 0,
            |bytes| bytes[8..12].copy_from_slice(&[1, 16, 0, 0]),
            |bytes| bytes[11] = 0x80,
            |bytes| bytes[12] = 0,
            |bytes| bytes[12] = 128,
            |bytes| bytes[13] = 1,
            |bytes| bytes[14] = 2,
            |bytes| bytes[15] = 0x80,
            |bytes| bytes[31] = 1,
        ];
        for (number, change) in wrong.into_iter().enumerate() {
            assert!(!entry(change).valid, "{number}");
        }
    }

    #[test]
    fn indices_and_phases_of_every_size() {
        for log in 2..=10 {
            let setup = Setup {
                ring: 0x1000,
                completions: 0x10_0000,
                size: 1 << log,
                ..Setup::default()
            };
            assert!(setup.is_valid());
            let mut number = 0u32.wrapping_sub(4 * setup.size);
            let mut expected = (1, 0);
            for _ in 0..8 * setup.size {
                assert_eq!(setup.phase(number), expected.0);
                assert_eq!(setup.entry(number), 0x1000 + 32 * expected.1);
                assert_eq!(setup.completion(number), 0x10_0000 + 32 * expected.1);
                number = number.wrapping_add(1);
                expected.1 += 1;
                if expected.1 == u64::from(setup.size) {
                    expected = (1 - expected.0, 0);
                }
            }
        }
    }

    #[test]
    fn wrong_setups_halt_at_once() {
        for (size, vector) in [(0, 0), (2, 0), (6, 0), (2048, 0), (u32::MAX, 0), (4, 8)] {
            let mut queue = Queue::default();
            queue.write(QueueRegister::Size, u64::from(size));
            queue.write(QueueRegister::Vector, vector);
            assert_eq!(queue.enable(true), Some(Status::RingError));
            assert_eq!(queue.read(QueueRegister::Status), 0x8003);
            assert!(!queue.ring());
            assert_eq!(queue.enable(false), None);
            assert_eq!(queue.read(QueueRegister::Status), 0);
        }
    }

    #[test]
    fn registers_are_kept_while_enabled() {
        let mut queue = Queue::default();
        queue.write(QueueRegister::Size, 4);
        queue.write(QueueRegister::Ring, 0x1234_5678_9abc_d123);
        assert_eq!(queue.read(QueueRegister::Ring), 0x1234_5678_9abc_d000);
        assert_eq!(queue.enable(true), None);
        assert_eq!(queue.read(QueueRegister::Control), 1);
        queue.write(QueueRegister::Ring, 0);
        queue.write(QueueRegister::Size, 8);
        assert_eq!(queue.read(QueueRegister::Ring), 0x1234_5678_9abc_d000);
        assert_eq!(queue.read(QueueRegister::Size), 4);
        assert_eq!(queue.read(QueueRegister::Status), 1);
        assert!(queue.ring());
        assert!(!queue.ring(), "it waits already");
        assert_eq!(queue.read(QueueRegister::Status), 2);

        // A worker has it: stopping takes until it lets go.
        queue.taken = true;
        let abort = queue.abort.clone();
        assert_eq!(queue.enable(false), None);
        assert!(abort.load(Ordering::Acquire));
        assert_eq!(queue.read(QueueRegister::Status), 2 | 4);
        assert_eq!(queue.read(QueueRegister::Control), 0);
        assert_eq!(queue.enable(true), None);
        assert!(queue.stopping && !queue.ring());
        queue.taken = false;
        queue.stopped();
        assert_eq!(queue.read(QueueRegister::Status), 0);
        assert_eq!(queue.enable(true), None);
        assert!(!queue.abort.load(Ordering::Acquire));
    }
}
