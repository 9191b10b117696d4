// SPDX-License-Identifier: GPL-2.0
//! The NPU1 card: a PCI Express accelerator with memory, queues and an MMU of its own.
//!
//! The law is `Documentation/npu-hardware.rst`. The transport's thread comes in through
//! [`Device`] and never waits: engines, resets and long scrubs have threads of their own.

pub mod command;
mod console;
mod engine;
mod events;
mod inject;
mod mmu;
mod queue;
mod regs;
mod scheduler;
mod sensors;
mod upkeep;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use self::events::{Event, Events, Kind};
use self::inject::{Delivery, Inject};
use self::mmu::Mmu;
use self::regs::{QueueRegister, Register, Target};
use self::scheduler::{Fatal, Mode, State};
use self::sensors::{Sensor, Sensors};
use self::upkeep::Cause;
use crate::function::{Function, Gate, Table};
use crate::memory::Mapping;
use crate::pci::{Config, Identity, Width};
use crate::transport::{BARS, Bus, Device, Messages, Region, Reset};

/// Where BARs are.
const REGISTERS: usize = 0;
const MEMORY: usize = 2;
const TABLE: usize = 4;

const TABLE_SIZE: u64 = 0x2000;
const PENDING: u32 = 0x1000;

/// How far apart an interrupt that is sent repeatedly is.
const REPEAT: Duration = Duration::from_millis(2);

/// How a card is built.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub messages: Messages,
    /// Bytes of memory, a power of two.
    pub memory: u64,
    pub serial: u64,
}

/// The card, as all of its threads share it.
struct Card {
    bus: Arc<dyn Bus>,
    memory: Arc<Mapping>,
    mmu: Mmu,
    /// Locked before all others that are here.
    state: Mutex<State>,
    /// Wakes workers, by kind of engine.
    work: [Condvar; 2],
    /// Wakes the thread that resets.
    upkeep: Condvar,
    events: Mutex<Events>,
    sensors: Mutex<Sensors>,
    power_on: Mutex<Instant>,
    inject: Inject,
    counters: Counters,
    serial: u64,
}

/// For the console.
#[derive(Debug, Default)]
struct Counters {
    mmio_reads: AtomicU64,
    mmio_writes: AtomicU64,
    doorbells: AtomicU64,
    interrupts: AtomicU64,
    jobs: AtomicU64,
    commands: AtomicU64,
    host_read: AtomicU64,
    host_written: AtomicU64,
    invalidations: AtomicU64,
    resets: AtomicU64,
}

/// A card; its threads end with it.
pub struct Npu(Arc<Card>);

impl Npu {
    /// A card that is switched on, and the file that its memory is.
    pub fn new(bus: Arc<dyn Bus>, options: Options) -> io::Result<(Self, File)> {
        let (memory, file) = Mapping::create("npu-memory", options.memory)?;
        scramble(&memory);
        let memory = Arc::new(memory);
        let now = Instant::now();
        let card = Arc::new(Card {
            bus,
            mmu: Mmu::new(memory.clone()),
            memory,
            state: Mutex::new(State::new(now)),
            work: Default::default(),
            upkeep: Condvar::new(),
            events: Mutex::default(),
            sensors: Mutex::new(Sensors::new(now)),
            power_on: Mutex::new(now),
            inject: Inject::default(),
            counters: Counters::default(),
            serial: options.serial,
        });
        card.start_workers();
        let upkeep = card.clone();
        thread::Builder::new()
            .name("upkeep".to_owned())
            .spawn(move || upkeep.keep_up())?;
        Ok((Self(card), file))
    }
}

impl Drop for Npu {
    fn drop(&mut self) {
        self.0.state.lock().end();
        for condition in &self.0.work {
            condition.notify_all();
        }
        self.0.upkeep.notify_all();
    }
}

/// A PCI function with a card behind it.
pub fn function(bus: Arc<dyn Bus>, options: Options) -> io::Result<Function<Npu>> {
    let gate = Arc::new(Gate::new(bus));
    let (npu, memory) = Npu::new(gate.clone(), options)?;
    let mut config = Config::new(Identity {
        vendor: 0x1af4,
        device: 0x10f0,
        class: 0x12_0000,
        revision: 1,
        subsystem: (0x1af4, 1),
    })
    .bar(REGISTERS, regs::BAR0_SIZE, Width::Bits32)
    .bar(MEMORY, options.memory, Width::Bits64)
    .power_management()
    .express();
    let mut bars = [const { None }; BARS];
    bars[REGISTERS] = Some(Region {
        size: regs::BAR0_SIZE,
        memory: None,
    });
    bars[MEMORY] = Some(Region {
        size: options.memory,
        memory: Some(memory),
    });
    let mut table = None;
    match options.messages {
        Messages::Msi => config = config.msi(regs::VECTORS),
        Messages::Msix => {
            config = config.bar(TABLE, TABLE_SIZE, Width::Bits32).msix(
                regs::VECTORS,
                TABLE as u8,
                0,
                PENDING,
            );
            bars[TABLE] = Some(Region {
                size: TABLE_SIZE,
                memory: None,
            });
            table = Some(Table::new(
                TABLE,
                TABLE_SIZE as usize,
                usize::from(regs::VECTORS),
                PENDING as usize,
            ));
        }
    }
    Ok(Function::new(
        config.build(),
        bars,
        table,
        gate,
        Arc::new(npu),
    ))
}

/// Memory is undefined at power-on: a driver that takes it for zeroed shall notice. Both ends are
/// enough for that, where allocators begin.
fn scramble(memory: &Mapping) {
    const ENDS: u64 = 4 << 20;
    let mut word = 0x9e37_79b9_7f4a_7c15u64;
    let mut page = [0; 4096];
    for start in (0..memory.size()).step_by(page.len()) {
        if (ENDS..memory.size().saturating_sub(ENDS)).contains(&start) {
            continue;
        }
        for bytes in page.chunks_exact_mut(8) {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        // The last piece of a memory that is no multiple of the page is left as it is.
        let _ = memory.write(start, &page);
    }
}

impl Card {
    /// Raises a vector, as far as nothing was injected.
    fn interrupt(self: &Card, vector: u16) {
        let times = match self.inject.delivery() {
            Delivery::Never => 0,
            Delivery::Once => 1,
            Delivery::Thrice => 3,
        };
        for number in 0..times {
            // Together they would be one.
            if number > 0 {
                thread::sleep(REPEAT);
            }
            self.counters.interrupts.fetch_add(1, Relaxed);
            self.bus.interrupt(vector);
        }
    }

    /// Writes an event and raises vector 0.
    fn post(&self, event: Event) {
        log::info!("{event:?}");
        let written = self.events.lock().post(&*self.bus, event);
        if written {
            self.interrupt(0);
        }
    }

    /// Everything stops, and an event says why. Returns false if everything stands still already.
    fn fatal(&self, why: Fatal) -> bool {
        if !self.state.lock().halt(why) {
            return false;
        }
        let (kind, address, information) = match why {
            Fatal::Ecc => {
                self.sensors.lock().ecc_uncorrected += 1;
                (Kind::EccUncorrected, self.memory.size() / 2, why as u32)
            }
            Fatal::Engine => (Kind::EngineFailure, 0, why as u32),
            Fatal::Thermal => {
                let temperature = self.sensor(Sensor::Temperature);
                (Kind::Thermal, 0, temperature as u32)
            }
        };
        self.post(Event {
            kind,
            queue: None,
            address,
            information,
            count: 1,
        });
        true
    }

    fn sensor(&self, sensor: Sensor) -> i32 {
        let now = Instant::now();
        let busy = self.state.lock().busy(now);
        let mut sensors = self.sensors.lock();
        sensors.advance(now, busy);
        sensors.read(sensor)
    }

    fn read(&self, offset: u64, to: &mut [u8]) {
        self.counters.mmio_reads.fetch_add(1, Relaxed);
        if let Some(time) = self.inject.slows() {
            thread::sleep(time);
        }
        let value = match (self.inject.register(offset), regs::decode(offset, to.len())) {
            (Some(lie), Target::Register { .. } | Target::Nothing) => lie,
            (_, Target::Register { register, shift }) => self.register(register) >> shift,
            (_, Target::Nothing) => 0,
            (_, Target::Wrong) => u64::MAX,
        };
        for (to, from) in to.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
    }

    fn write(&self, offset: u64, from: &[u8]) {
        self.counters.mmio_writes.fetch_add(1, Relaxed);
        if let Some(time) = self.inject.slows() {
            thread::sleep(time);
        }
        let Target::Register { register, shift } = regs::decode(offset, from.len()) else {
            return;
        };
        let mut bytes = [0; 8];
        bytes[..from.len()].copy_from_slice(from);
        let mut value = u64::from_le_bytes(bytes) << shift;
        if from.len() == 4 && is_wide(register) {
            // The other half stays.
            value |= self.register(register) & !(u64::from(u32::MAX) << shift);
        }
        self.set_register(register, value);
    }

    /// A register's value.
    fn register(&self, register: Register) -> u64 {
        let state = self.state.lock();
        match register {
            Register::Id => return u64::from(regs::ID),
            Register::Revision => return u64::from(regs::REVISION),
            Register::Status => return u64::from(self.status(&state)),
            Register::Control => {
                return u64::from(matches!(
                    state.mode,
                    Mode::Resetting {
                        by_control: true,
                        ..
                    }
                ));
            }
            _ if !matches!(state.mode, Mode::Ready | Mode::Halted(_)) => return 0,
            _ => {}
        }
        let upkeep = &state.upkeep;
        match register {
            Register::Id | Register::Revision | Register::Status | Register::Control => 0,
            Register::Caps => u64::from(regs::CAPS),
            Register::AddressSpaces => mmu::IDS as u64,
            Register::MemorySize => self.memory.size(),
            Register::Time => {
                u64::try_from(self.power_on.lock().elapsed().as_nanos()).unwrap_or(u64::MAX)
            }
            Register::Serial => self.serial,
            Register::Scratch => u64::from(state.scratch),
            Register::EventRing => self.events.lock().ring(),
            Register::EventSize => u64::from(self.events.lock().size()),
            Register::EventHead => u64::from(self.events.lock().head()),
            Register::ScrubOffset => upkeep.scrub_offset,
            Register::ScrubSize => upkeep.scrub_size,
            Register::ScrubControl => upkeep.scrub_control(),
            Register::TlbStart => upkeep.tlb_start,
            Register::TlbEnd => upkeep.tlb_end,
            Register::TlbId => u64::from(upkeep.tlb_id),
            Register::TlbInvalidate => upkeep.tlb_invalidate(),
            Register::TlbHits => self.mmu.counts().0,
            Register::TlbMisses => self.mmu.counts().1,
            Register::TemperatureLimit => sensors::TEMPERATURE_LIMIT as u64,
            Register::PowerLimit => u64::from(sensors::POWER_LIMIT),
            Register::EccCorrected => u64::from(self.sensors.lock().ecc_corrected),
            Register::EccUncorrected => u64::from(self.sensors.lock().ecc_uncorrected),
            Register::Busy => state.busy(Instant::now()),
            Register::Queue(number, register) => state.queues[number].read(register),
            Register::Root(id) => self.mmu.root(id),
            Register::Doorbell(_) => 0,
            Register::Temperature
            | Register::Power
            | Register::Voltage
            | Register::CoreClock
            | Register::MemoryClock
            | Register::Energy => {
                drop(state);
                let sensor = match register {
                    Register::Temperature => Sensor::Temperature,
                    Register::Power => Sensor::Power,
                    Register::Voltage => Sensor::Voltage,
                    Register::CoreClock => Sensor::CoreClock,
                    Register::MemoryClock => Sensor::MemoryClock,
                    _ => {
                        self.sensor(Sensor::Power);
                        return self.sensors.lock().energy();
                    }
                };
                u64::from(self.sensor(sensor) as u32)
            }
        }
    }

    fn status(&self, state: &State) -> u32 {
        let mut status = match state.mode {
            Mode::Ready => regs::STATUS_READY,
            Mode::Halted(why) => regs::STATUS_READY | regs::STATUS_HALTED | ((why as u32) << 8),
            Mode::Resetting { .. } | Mode::Asleep => return 0,
        };
        if self.events.lock().lost() {
            status |= regs::STATUS_EVENTS_LOST;
        }
        status
    }

    fn set_register(&self, register: Register, value: u64) {
        if register == Register::Control {
            if value & 1 != 0 {
                self.begin_reset(Cause::Control);
            }
            return;
        }
        let mut state = self.state.lock();
        if !matches!(state.mode, Mode::Ready | Mode::Halted(_)) {
            return;
        }
        let upkeep = &mut state.upkeep;
        match register {
            Register::Scratch => state.scratch = value as u32,
            Register::EventRing => self.events.lock().set_ring(value),
            Register::EventSize => self.events.lock().set_size(value as u32),
            Register::EventHead => self.events.lock().set_head(value as u32),
            Register::ScrubOffset => upkeep.scrub_offset = value,
            Register::ScrubSize => upkeep.scrub_size = value,
            Register::ScrubControl => {
                drop(state);
                if value & 1 != 0 {
                    self.scrub();
                }
            }
            Register::TlbStart => upkeep.tlb_start = value,
            Register::TlbEnd => upkeep.tlb_end = value,
            Register::TlbId => upkeep.tlb_id = value as u32,
            Register::TlbInvalidate => {
                drop(state);
                self.invalidate(value);
            }
            Register::Root(id) => self.mmu.set_root(id, value),
            Register::Doorbell(queue) => {
                self.counters.doorbells.fetch_add(1, Relaxed);
                state.ring(queue);
                self.wake(&state);
            }
            Register::Queue(number, QueueRegister::Control) => {
                if value & 1 == 0 {
                    if state.disable(number) {
                        self.upkeep.notify_one();
                    }
                } else if let Some(why) = state.queues[number].enable(true) {
                    drop(state);
                    self.tell_halted(number, why);
                }
            }
            Register::Queue(number, register) => state.queues[number].write(register, value),
            // Read only.
            _ => {}
        }
    }
}

/// Whether a register has 64 bits.
fn is_wide(register: Register) -> bool {
    matches!(
        register,
        Register::EventRing
            | Register::ScrubOffset
            | Register::ScrubSize
            | Register::TlbStart
            | Register::TlbEnd
            | Register::Root(_)
            | Register::Queue(
                _,
                QueueRegister::Ring | QueueRegister::Completions | QueueRegister::Tail
            )
    )
}

impl Device for Npu {
    fn read(&self, bar: usize, offset: u64, to: &mut [u8]) {
        match bar {
            REGISTERS => self.0.read(offset, to),
            MEMORY if self.0.memory.read(offset, to).is_ok() => {}
            _ => to.fill(0xff),
        }
    }

    fn write(&self, bar: usize, offset: u64, from: &[u8]) {
        match bar {
            REGISTERS => self.0.write(offset, from),
            // What is beyond the end is dropped, as by any memory.
            MEMORY => drop(self.0.memory.write(offset, from)),
            _ => {}
        }
    }

    fn reset(&self, how: Reset) {
        self.0.begin_reset(match how {
            Reset::PowerOn => Cause::PowerOn,
            Reset::Function => Cause::Function,
        });
    }

    fn sleep(&self) {
        self.0.begin_sleep();
    }
}

#[cfg(test)]
mod tests;
