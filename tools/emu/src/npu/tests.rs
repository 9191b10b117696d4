// SPDX-License-Identifier: GPL-2.0
//! A whole card with a host that is a vector.

mod injections;
mod jobs;
mod registers;
mod resets;

use super::command::SIZE as COMMAND;
use super::*;
use crate::control::{Console, Reply};
use crate::transport::fake::{BASE, Did, FakeBus};

const MEMORY_SIZE: u64 = 16 << 20;
/// Where tests put tables.
const TABLES: u64 = 10 << 20;
/// Where tests put lists, also as device addresses of every id that was given tables.
const LISTS: u64 = 1 << 20;
/// Where a page of host memory is for the id.
const HOST_PAGE: u64 = 0x4000_0000;
/// Its host address.
const HOST_DATA: u64 = BASE + (8 << 20);
/// The event ring.
const EVENTS: u64 = BASE + (9 << 20);

const INTERRUPT: u16 = 1;

/// Registers.
const STATUS: u64 = 0x18;
const CONTROL: u64 = 0x1c;
const SCRATCH: u64 = 0x30;
const EVENT_SIZE: u64 = 0x48;
const EVENT_HEAD: u64 = 0x4c;
const TLB_INVALIDATE: u64 = 0x114;
const SCRUB_CONTROL: u64 = 0x90;

const Q_CONTROL: u64 = 0x20;
const Q_STATUS: u64 = 0x24;
const Q_HEAD: u64 = 0x28;
const Q_FAULT_ADDRESS: u64 = 0x30;
const Q_FAULT: u64 = 0x38;

const DISABLED: u32 = 0;
const IDLE: u32 = 1;
const HALTED: u32 = 3;
const STOPPING: u32 = 1 << 2;

fn queue_register(queue: u64, register: u64) -> u64 {
    0x1_0000 + 0x100 * queue + register
}

struct Rig {
    bus: Arc<FakeBus>,
    npu: Npu,
    /// The next table, and the next list.
    next: Mutex<(u64, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Completed {
    cookie: u64,
    address: u64,
    commands: u32,
    status: u16,
    access: u8,
    kind: u8,
    phase: u32,
}

/// Waits until `condition` holds.
#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within 10 s");
        thread::sleep(Duration::from_micros(100));
    }
}

fn nop() -> [u8; COMMAND] {
    [0; COMMAND]
}

/// Puts an operand of bytes in one dimension into a command.
fn operand(command: &mut [u8; COMMAND], index: usize, address: u64, size: u32) {
    let at = 64 + 48 * index;
    command[at..at + 8].copy_from_slice(&address.to_le_bytes());
    command[at + 8] = 2; // U8
    for (dim, value) in [1, 1, 1, size].into_iter().enumerate() {
        command[at + 16 + 4 * dim..][..4].copy_from_slice(&value.to_le_bytes());
    }
    command[at + 44] = 1;
}

fn fill(address: u64, size: u32, value: u8) -> [u8; COMMAND] {
    let mut command = [0; COMMAND];
    command[0] = 2;
    command[8] = value;
    operand(&mut command, 0, address, size);
    command
}

fn copy(to: u64, from: u64, size: u32) -> [u8; COMMAND] {
    let mut command = [0; COMMAND];
    command[0] = 1;
    operand(&mut command, 0, to, size);
    operand(&mut command, 1, from, size);
    command
}

impl Rig {
    /// A card that is ready.
    fn new() -> Self {
        let rig = Self::cold();
        rig.wait_ready();
        rig
    }

    fn cold() -> Self {
        let bus = Arc::new(FakeBus::new(10 << 20));
        let options = Options {
            messages: Messages::Msix,
            memory: MEMORY_SIZE,
            serial: 0x1122_3344_5566_7788,
        };
        let (npu, _) = Npu::new(bus.clone(), options).expect("a card can be made");
        Self {
            bus,
            npu,
            next: Mutex::new((TABLES, LISTS)),
        }
    }

    fn get(&self, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        self.npu.read(REGISTERS, offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn get64(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.npu.read(REGISTERS, offset, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn set(&self, offset: u64, value: u32) {
        self.npu.write(REGISTERS, offset, &value.to_le_bytes());
    }

    fn set64(&self, offset: u64, value: u64) {
        self.npu.write(REGISTERS, offset, &value.to_le_bytes());
    }

    fn status(&self, queue: u64) -> u32 {
        self.get(queue_register(queue, Q_STATUS))
    }

    #[track_caller]
    fn wait_ready(&self) {
        eventually("READY", || self.get(STATUS) & 1 != 0);
    }

    #[track_caller]
    fn wait_status(&self, queue: u64, status: u32) {
        eventually("a queue's status", || self.status(queue) == status);
    }

    fn say(&self, line: &str) -> String {
        match self.npu.say(line) {
            Reply::Line(line) => line,
            Reply::Die => "died".to_owned(),
        }
    }

    /// Waits until what was to hang or stall does.
    #[track_caller]
    fn wait_begun(&self) {
        eventually("it begins", || self.npu.0.inject.planned() == 0);
    }

    #[track_caller]
    fn ok(&self, line: &str) {
        assert_eq!(self.say(line), "ok");
    }

    fn stat(&self, name: &str) -> u64 {
        let stats = self.say("stats");
        let mut words = stats.split_whitespace();
        words
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
            .and_then(|value| value.parse().ok())
            .expect("there is such a number")
    }

    fn put(&self, offset: u64, bytes: &[u8]) {
        self.npu.write(MEMORY, offset, bytes);
    }

    fn bytes(&self, offset: u64, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        self.npu.read(MEMORY, offset, &mut bytes);
        bytes
    }

    fn table(&self) -> u64 {
        let table = self.next.lock().0;
        self.next.lock().0 += 4096;
        self.put(table, &[0; 4096]);
        table
    }

    /// Tables for an id: the first 8 MiB of device memory at the same device addresses, and a page
    /// of host memory at `HOST_PAGE`. Returns where the host page's entry is.
    fn address_space(&self, id: u64) -> u64 {
        let [root, second, low, high, pages] = [(); 5].map(|()| self.table());
        let set = |at: u64, entry: u64| self.put(at, &entry.to_le_bytes());
        set(root, second | 1);
        set(second, low | 1);
        set(second + 8, high | 1);
        for large in 0..4 {
            set(low + 8 * large, (large << 21) | 0xf);
        }
        set(high, pages | 1);
        set(pages, HOST_DATA | 0x1f);
        self.set64(0x2_0000 + 8 * id, root | 1);
        pages
    }

    /// Sets a queue up with rings of `size` and starts it. Its interrupt vector is 1 + queue % 7.
    fn start(&self, queue: u64, size: u32) {
        let at = BASE + 0x2_0000 * queue;
        self.bus.put(at + 0x8000, &[0; 0x8004]);
        self.set64(queue_register(queue, 0x00), at);
        self.set64(queue_register(queue, 0x08), at + 0x8000);
        self.set64(queue_register(queue, 0x10), at + 0x1_0000);
        self.set(queue_register(queue, 0x18), size);
        self.set(queue_register(queue, 0x1c), 1 + queue as u32 % 7);
        self.set(queue_register(queue, Q_CONTROL), 1);
        assert_eq!(self.status(queue), IDLE);
    }

    /// Stops it and waits.
    #[track_caller]
    fn stop(&self, queue: u64) {
        self.set(queue_register(queue, Q_CONTROL), 0);
        self.wait_status(queue, DISABLED);
    }

    fn tail(&self, queue: u64) -> u64 {
        BASE + 0x2_0000 * queue + 0x1_0000
    }

    /// A list of commands.
    fn list(&self, commands: &[[u8; COMMAND]]) -> u64 {
        let mut next = self.next.lock();
        let list = next.1;
        next.1 += (commands.len() * COMMAND) as u64;
        drop(next);
        self.put(list, commands.as_flattened());
        list
    }

    /// Writes an entry without ringing the doorbell.
    fn enqueue(&self, queue: u64, id: u16, flags: u16, list: u64, count: u32, cookie: u64) {
        let tail = self.bus.u32(self.tail(queue));
        let size = self.get(queue_register(queue, 0x18));
        let mut entry = [0; 32];
        entry[0..8].copy_from_slice(&list.to_le_bytes());
        entry[8..12].copy_from_slice(&count.to_le_bytes());
        entry[12..14].copy_from_slice(&id.to_le_bytes());
        entry[14..16].copy_from_slice(&flags.to_le_bytes());
        entry[16..24].copy_from_slice(&cookie.to_le_bytes());
        let at = BASE + 0x2_0000 * queue + 32 * u64::from(tail % size);
        self.bus.put(at, &entry);
        let tail = tail.wrapping_add(1);
        self.bus.put(self.tail(queue), &tail.to_le_bytes());
    }

    fn doorbell(&self, queue: u64) {
        self.set(0x8_0000 + 0x1000 * queue, 0xffff_ffff);
    }

    /// Submits a list of id 1; the cookie is the number of the job.
    fn submit(&self, queue: u64, commands: &[[u8; COMMAND]]) {
        let list = self.list(commands);
        let cookie = u64::from(self.bus.u32(self.tail(queue)));
        self.enqueue(queue, 1, INTERRUPT, list, commands.len() as u32, cookie);
        self.doorbell(queue);
    }

    fn head(&self, queue: u64) -> u32 {
        self.get(queue_register(queue, Q_HEAD))
    }

    #[track_caller]
    fn wait_head(&self, queue: u64, head: u32) {
        eventually("a queue's head", || self.head(queue) == head);
    }

    /// The completion at an index.
    fn completed(&self, queue: u64, index: u64) -> Completed {
        let at = BASE + 0x2_0000 * queue + 0x8000 + 32 * index;
        let word = self.bus.u32(at + 24);
        Completed {
            cookie: self.bus.u64(at),
            address: self.bus.u64(at + 8),
            commands: self.bus.u32(at + 16),
            status: word as u16,
            access: (word >> 16) as u8,
            kind: (word >> 24) as u8,
            phase: self.bus.u32(at + 28),
        }
    }

    fn start_events(&self, size: u32) {
        self.bus.put(EVENTS, &[0; 4096]);
        self.set64(0x40, EVENTS);
        self.set(EVENT_SIZE, size);
    }

    /// An event: kind, queue, information, how many, phase.
    fn event(&self, index: u64) -> (u32, u32, u32, u32, u32) {
        let word = |offset| self.bus.u32(EVENTS + 32 * index + offset);
        (word(0), word(4), word(16), word(20), word(28))
    }

    /// Shows that everything works: with tables, queue and job.
    #[track_caller]
    fn works(&self) {
        self.address_space(1);
        self.set(TLB_INVALIDATE, 1);
        self.start(9, 4);
        let before = self.bus.interrupts(3);
        // Three, so that each engine has something.
        self.put(0, &[0; 64]);
        self.bus.put(HOST_DATA, &[0; 64]);
        self.submit(9, &[nop(), fill(0, 64, 0xa5), copy(HOST_PAGE, 0, 64)]);
        self.wait_head(9, 1);
        let ok = Completed {
            cookie: 0,
            address: 0,
            commands: 3,
            status: 0,
            access: 0,
            kind: 0,
            phase: 1,
        };
        assert_eq!(self.completed(9, 0), ok);
        assert_eq!(self.bus.bytes(HOST_DATA), [0xa5; 64]);
        assert!(self.bus.wait_interrupts(3, before + 1));
        self.stop(9);
    }
}
