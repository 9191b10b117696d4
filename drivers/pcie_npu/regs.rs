// SPDX-License-Identifier: GPL-2.0

//! The card's registers, and checks of what they say.
//!
//! Offsets, bits and times are those of `Documentation/npu-hardware.rst`. A card that is gone reads
//! as all-ones, and one that is broken may say anything: what is read is checked before it is used,
//! and nothing is waited for without a limit.

use kernel::{
    io::{
        poll,
        register,
        register::Array,
        Io, //
    },
    pci,
    prelude::*,
    time::Delta, //
};

register! {
    /// What the card is.
    ID(u32) @ 0x000 {
        31:0 value;
    }

    /// Of the interface between card and driver.
    REVISION(u32) @ 0x004 {
        31:16 major;
        15:0 minor;
    }

    CAPS(u32) @ 0x008 {
        31:28 copy_engines;
        27:24 compute_engines;
        23:16 vectors;
        15:8 ring_log2;
        7:0 queues;
    }

    ADDRESS_SPACES(u32) @ 0x00c {
        31:0 count;
    }

    /// Bytes.
    MEMORY_SIZE(u64) @ 0x010 {
        63:0 bytes;
    }

    STATUS(u32) @ 0x018 {
        15:8 reason;
        3:3 events_lost => bool;
        1:1 halted => bool;
        0:0 ready => bool;
    }

    CONTROL(u32) @ 0x01c {
        0:0 reset => bool;
    }

    /// Nanoseconds since it has power.
    TIME(u64) @ 0x020 {
        63:0 value;
    }

    SERIAL(u64) @ 0x028 {
        63:0 value;
    }

    EVENT_RING(u64) @ 0x040 {
        63:0 address;
    }

    EVENT_SIZE(u32) @ 0x048 {
        31:0 entries;
    }

    EVENT_HEAD(u32) @ 0x04c {
        31:0 consumed;
    }

    SCRUB_OFFSET(u64) @ 0x080 {
        63:0 offset;
    }

    SCRUB_SIZE(u64) @ 0x088 {
        63:0 bytes;
    }

    SCRUB_CONTROL(u32) @ 0x090 {
        /// Read only.
        1:1 error => bool;
        /// Written: start. Read: busy.
        0:0 busy => bool;
    }

    TLB_START(u64) @ 0x100 {
        63:0 address;
    }

    TLB_END(u64) @ 0x108 {
        63:0 address;
    }

    TLB_ID(u32) @ 0x110 {
        31:0 id;
    }

    /// Written: what to invalidate.
    TLB_INVALIDATE(u32) @ 0x114 {
        31:0 what;
    }

    /// Read.
    TLB_STATUS(u32) => TLB_INVALIDATE {
        1:1 error => bool;
        0:0 busy => bool;
    }

    TEMPERATURE(u32) @ 0x200 {
        31:0 value;
    }

    TEMPERATURE_LIMIT(u32) @ 0x204 {
        31:0 value;
    }

    POWER(u32) @ 0x208 {
        31:0 value;
    }

    POWER_LIMIT(u32) @ 0x20c {
        31:0 value;
    }

    VOLTAGE(u32) @ 0x210 {
        31:0 value;
    }

    CORE_CLOCK(u32) @ 0x214 {
        31:0 value;
    }

    MEMORY_CLOCK(u32) @ 0x218 {
        31:0 value;
    }

    ECC_CORRECTED(u32) @ 0x220 {
        31:0 value;
    }

    ECC_UNCORRECTED(u32) @ 0x224 {
        31:0 value;
    }

    Q_RING(u64)[64, stride = 0x100] @ 0x10000 {
        63:0 address;
    }

    Q_COMPLETIONS(u64)[64, stride = 0x100] @ 0x10008 {
        63:0 address;
    }

    Q_TAIL(u64)[64, stride = 0x100] @ 0x10010 {
        63:0 address;
    }

    Q_SIZE(u32)[64, stride = 0x100] @ 0x10018 {
        31:0 entries;
    }

    Q_VECTOR(u32)[64, stride = 0x100] @ 0x1001c {
        31:0 vector;
    }

    Q_CONTROL(u32)[64, stride = 0x100] @ 0x10020 {
        0:0 enable => bool;
    }

    Q_STATUS(u32)[64, stride = 0x100] @ 0x10024 {
        15:8 reason;
        2:2 stopping => bool;
        1:0 state;
    }

    ROOT(u64)[128] @ 0x20000 {
        51:12 frame;
        0:0 valid => bool;
    }

    DOORBELL(u32)[64, stride = 0x1000] @ 0x80000 {
        31:0 value;
    }
}

/// BAR of the registers, and its size.
pub(crate) const BAR: u32 = 0;
const SIZE: usize = 1 << 20;

/// BAR of the device's memory.
pub(crate) const MEMORY_BAR: u32 = 2;

/// What ID says.
const MAGIC: u32 = 0x4e50_5531;
/// The major revision that this driver knows.
const MAJOR: u32 = 1;
/// What everything reads as when the card is gone.
const GONE: u32 = u32::MAX;

/// As many queues and address-space ids have registers.
pub(crate) const QUEUES_MAX: usize = 64;
pub(crate) const SPACES_MAX: usize = 128;

/// Bits of the host addresses that the card drives.
pub(crate) const DMA_BITS: u32 = 52;

const INVALIDATE_ID: u32 = 2;
const INVALIDATE_RANGE: u32 = 3;

const QUEUE_DISABLED: u32 = 0;
const QUEUE_RUNNING: u32 = 2;
const QUEUE_HALTED: u32 = 3;

/// How long is waited, in milliseconds. The manual promises a fifth of the first, a tenth of the
/// second and half of the last; a reset is everybody's, and not to be had by a host that is busy.
const STOP_MS: i64 = 250;
const INVALIDATE_MS: i64 = 100;
const RESET_MS: i64 = 200;
/// For [`SCRUB_BYTES`].
const SCRUB_MS: i64 = 100;

/// Most bytes that are scrubbed at a time.
pub(crate) const SCRUB_BYTES: u64 = 8 << 20;

/// What the card says that it has, in ranges that the driver can rely on.
#[derive(Clone, Copy)]
pub(crate) struct Caps {
    /// 1 to [`QUEUES_MAX`].
    pub(crate) queues: usize,
    /// Address-space ids are below this, and not 0. 2 to [`SPACES_MAX`].
    pub(crate) spaces: usize,
    /// At least 1.
    pub(crate) vectors: u32,
    pub(crate) compute_engines: u32,
    pub(crate) copy_engines: u32,
    /// Major << 16 | minor.
    pub(crate) revision: u32,
    pub(crate) serial: u64,
    /// Bytes.
    pub(crate) memory: u64,
}

/// Where a queue finds what it needs in host memory, and what it raises.
pub(crate) struct QueueSetup {
    pub(crate) ring: u64,
    pub(crate) completions: u64,
    pub(crate) tail: u64,
    pub(crate) entries: u32,
    pub(crate) vector: u32,
}

/// How the card is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// It works. Whether events were lost.
    Good { events_lost: bool },
    /// Everything has stopped; why.
    Halted(u32),
    /// It has no answer that makes sense, or is gone.
    Bad,
}

/// What the card measures of itself, or is limited to.
#[derive(Clone, Copy)]
pub(crate) enum Sensor {
    /// Thousandths of a degree Celsius, signed; likewise the limit.
    Temperature,
    TemperatureLimit,
    /// Milliwatts; likewise the limit.
    Power,
    PowerLimit,
    /// Millivolts.
    Voltage,
    /// Kilohertz; likewise that of the memory.
    CoreClock,
    MemoryClock,
    /// Errors in the card's memory.
    EccCorrected,
    EccUncorrected,
}

/// The registers of one card.
pub(crate) struct Registers<'bound> {
    bar: pci::Bar<'bound, SIZE>,
}

impl<'bound> Registers<'bound> {
    /// Maps the registers and makes sure that there is such a card behind them.
    ///
    /// # Errors
    ///
    /// `ENODEV` when there is not.
    pub(crate) fn new(pdev: &'bound pci::Device<kernel::device::Bound>) -> Result<Self> {
        let bar = pdev.iomap_region_sized::<SIZE>(BAR, c"accel_pcie_npu")?;
        let id = bar.read(ID).into_raw();

        if id != MAGIC {
            dev_err!(pdev, "not an NPU1: it identifies as {:#010x}\n", id);
            return Err(ENODEV);
        }
        Ok(Self { bar })
    }

    /// Whether the card answers at all.
    pub(crate) fn is_there(&self) -> bool {
        self.bar.read(ID).into_raw() == MAGIC
    }

    /// What the card has. `memory` is the size of the BAR that shows its memory.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it says what this driver cannot work with, or what cannot be.
    pub(crate) fn caps(
        &self,
        pdev: &pci::Device<kernel::device::Bound>,
        memory: u64,
    ) -> Result<Caps> {
        let revision = self.bar.read(REVISION);
        let caps = self.bar.read(CAPS);
        let spaces = self.bar.read(ADDRESS_SPACES).into_raw();
        let size = self.bar.read(MEMORY_SIZE).into_raw();
        let queues = u32::from(caps.queues()) as usize;

        if u32::from(revision.major()) != MAJOR {
            dev_err!(
                pdev,
                "interface {}.{} is not known, only {}\n",
                u32::from(revision.major()),
                u32::from(revision.minor()),
                MAJOR
            );
            return Err(ENODEV);
        }
        if size != memory || size % crate::memory::BLOCK != 0 || size == 0 {
            dev_err!(
                pdev,
                "it says that it has {:#x} bytes of memory and shows {:#x}\n",
                size,
                memory
            );
            return Err(ENODEV);
        }
        if queues == 0
            || queues > QUEUES_MAX
            || 1u64 << u32::from(caps.ring_log2()).min(31) < u64::from(crate::ring::ENTRIES)
            || u32::from(caps.vectors()) == 0
            || spaces < 2
            || spaces as usize > SPACES_MAX
        {
            dev_err!(
                pdev,
                "it cannot have capabilities {:#010x} and {} address spaces\n",
                caps.into_raw(),
                spaces
            );
            return Err(ENODEV);
        }
        Ok(Caps {
            queues,
            spaces: spaces as usize,
            vectors: u32::from(caps.vectors()),
            compute_engines: u32::from(caps.compute_engines()),
            copy_engines: u32::from(caps.copy_engines()),
            revision: revision.into_raw(),
            serial: self.bar.read(SERIAL).into_raw(),
            memory: size,
        })
    }

    /// How the card is.
    pub(crate) fn health(&self) -> Health {
        let status = self.bar.read(STATUS);

        if status.into_raw() == GONE {
            Health::Bad
        } else if status.halted() {
            Health::Halted(u32::from(status.reason()))
        } else if status.ready() {
            Health::Good {
                events_lost: status.events_lost(),
            }
        } else {
            Health::Bad
        }
    }

    /// What a sensor says.
    ///
    /// # Errors
    ///
    /// `EIO` when the card is gone.
    pub(crate) fn sensor(&self, sensor: Sensor) -> Result<u32> {
        let value = match sensor {
            Sensor::Temperature => self.bar.read(TEMPERATURE).into_raw(),
            Sensor::TemperatureLimit => self.bar.read(TEMPERATURE_LIMIT).into_raw(),
            Sensor::Power => self.bar.read(POWER).into_raw(),
            Sensor::PowerLimit => self.bar.read(POWER_LIMIT).into_raw(),
            Sensor::Voltage => self.bar.read(VOLTAGE).into_raw(),
            Sensor::CoreClock => self.bar.read(CORE_CLOCK).into_raw(),
            Sensor::MemoryClock => self.bar.read(MEMORY_CLOCK).into_raw(),
            Sensor::EccCorrected => self.bar.read(ECC_CORRECTED).into_raw(),
            Sensor::EccUncorrected => self.bar.read(ECC_UNCORRECTED).into_raw(),
        };

        // -1 is a temperature too.
        if value == GONE && !self.is_there() {
            return Err(EIO);
        }
        Ok(value)
    }

    /// Resets the card and waits until it has booted. When this has succeeded, the card does no
    /// access any more that began before.
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT`; `EIO` when it is gone.
    pub(crate) fn reset(&self) -> Result {
        self.bar.write_reg(CONTROL::zeroed().with_reset(true));
        wait(RESET_MS, || {
            let control = self.bar.read(CONTROL);
            let status = self.bar.read(STATUS);

            if control.into_raw() == GONE && status.into_raw() == GONE {
                return Err(EIO);
            }
            Ok(!control.reset() && status.into_raw() != GONE && status.ready() && !status.halted())
        })
    }

    /// Nanoseconds since the card has power.
    pub(crate) fn time(&self) -> u64 {
        self.bar.read(TIME).into_raw()
    }

    /// Has events written to `entries` entries at `address`; 0 entries for none.
    pub(crate) fn set_event_ring(&self, address: u64, entries: u32) {
        self.bar.write_reg(EVENT_RING::from_raw(address));
        self.bar.write_reg(EVENT_HEAD::from_raw(0));
        self.bar.write_reg(EVENT_SIZE::from_raw(entries));
    }

    /// Whether the card still knows of the event ring of `entries` entries: a reset has it forget
    /// that, as everything.
    pub(crate) fn has_event_ring(&self, entries: u32) -> bool {
        self.bar.read(EVENT_SIZE).into_raw() == entries
    }

    /// As many events have been consumed, modulo 2^32.
    pub(crate) fn consume_events(&self, head: u32) {
        self.bar.write_reg(EVENT_HEAD::from_raw(head));
    }

    /// Zeroes `size` bytes, at most [`SCRUB_BYTES`], of the card's memory.
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT`; `EIO` when the card refuses, or is gone.
    pub(crate) fn scrub(&self, offset: u64, size: u64) -> Result {
        self.bar.write_reg(SCRUB_OFFSET::from_raw(offset));
        self.bar.write_reg(SCRUB_SIZE::from_raw(size));
        self.bar.write_reg(SCRUB_CONTROL::zeroed().with_busy(true));
        wait(SCRUB_MS, || {
            let control = self.bar.read(SCRUB_CONTROL);

            if control.error() {
                return Err(EIO);
            }
            Ok(!control.busy())
        })
    }

    /// Invalidates what the card remembers of `start` to `end` of address space `id`.
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT`; `EIO` when the card refuses, or is gone.
    pub(crate) fn invalidate_range(&self, id: u16, start: u64, end: u64) -> Result {
        self.bar.write_reg(TLB_START::from_raw(start));
        self.bar.write_reg(TLB_END::from_raw(end));
        self.bar.write_reg(TLB_ID::from_raw(id.into()));
        self.invalidate(INVALIDATE_RANGE)
    }

    /// Invalidates all that the card remembers of address space `id`.
    ///
    /// # Errors
    ///
    /// As [`Self::invalidate_range`].
    pub(crate) fn invalidate_id(&self, id: u16) -> Result {
        self.bar.write_reg(TLB_ID::from_raw(id.into()));
        self.invalidate(INVALIDATE_ID)
    }

    fn invalidate(&self, what: u32) -> Result {
        self.bar.write_reg(TLB_INVALIDATE::from_raw(what));
        wait(INVALIDATE_MS, || {
            let status = self.bar.read(TLB_STATUS);

            if status.error() {
                return Err(EIO);
            }
            Ok(!status.busy())
        })
    }

    /// Sets the root table of address space `id`.
    ///
    /// # Errors
    ///
    /// `EINVAL` when there is no such id.
    pub(crate) fn set_root(&self, id: u16, table: Option<u64>) -> Result {
        // Tables are whole frames: the bits of VALID and the reserved ones are 0.
        let root = match table {
            Some(table) => ROOT::from_raw(table).with_valid(true),
            None => ROOT::zeroed(),
        };

        self.bar
            .try_write(ROOT::try_at(id.into()).ok_or(EINVAL)?, root)
    }

    /// Starts queue `queue`, which is disabled, at the beginning of its ring.
    ///
    /// # Errors
    ///
    /// `EINVAL` when there is no such queue.
    pub(crate) fn start_queue(&self, queue: usize, setup: &QueueSetup) -> Result {
        let bar = &self.bar;
        let at = || EINVAL;

        bar.try_write(
            Q_RING::try_at(queue).ok_or_else(at)?,
            Q_RING::from_raw(setup.ring),
        )?;
        bar.try_write(
            Q_COMPLETIONS::try_at(queue).ok_or_else(at)?,
            Q_COMPLETIONS::from_raw(setup.completions),
        )?;
        bar.try_write(
            Q_TAIL::try_at(queue).ok_or_else(at)?,
            Q_TAIL::from_raw(setup.tail),
        )?;
        bar.try_write(
            Q_SIZE::try_at(queue).ok_or_else(at)?,
            Q_SIZE::from_raw(setup.entries),
        )?;
        bar.try_write(
            Q_VECTOR::try_at(queue).ok_or_else(at)?,
            Q_VECTOR::from_raw(setup.vector),
        )?;
        self.enable(queue, true)
    }

    fn enable(&self, queue: usize, enable: bool) -> Result {
        self.bar.try_write(
            Q_CONTROL::try_at(queue).ok_or(EINVAL)?,
            Q_CONTROL::zeroed().with_enable(enable),
        )
    }

    /// Has queue `queue` begin to stop, which [`Self::stop_queue`] waits for.
    ///
    /// # Errors
    ///
    /// `EINVAL` when there is no such queue.
    pub(crate) fn begin_stop(&self, queue: usize) -> Result {
        self.enable(queue, false)
    }

    /// Stops queue `queue`: when this has succeeded, the card does no access for it any more.
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT` when an engine does not let go; `EIO` when the card is gone.
    pub(crate) fn stop_queue(&self, queue: usize) -> Result {
        self.enable(queue, false)?;
        wait(STOP_MS, || {
            let status = self.queue_status(queue)?;

            Ok(!status.stopping() && u32::from(status.state()) == QUEUE_DISABLED)
        })
    }

    /// Whether queue `queue` executes jobs. One that has some and does not will not before its
    /// doorbell is rung.
    pub(crate) fn queue_is_running(&self, queue: usize) -> bool {
        self.queue_status(queue)
            .is_ok_and(|status| u32::from(status.state()) == QUEUE_RUNNING)
    }

    /// Whether queue `queue` has halted.
    ///
    /// # Errors
    ///
    /// `EIO` when the card is gone.
    pub(crate) fn queue_halted(&self, queue: usize) -> Result<bool> {
        Ok(u32::from(self.queue_status(queue)?.state()) == QUEUE_HALTED)
    }

    fn queue_status(&self, queue: usize) -> Result<Q_STATUS> {
        let status = self.bar.try_read(Q_STATUS::try_at(queue).ok_or(EINVAL)?)?;

        if status.into_raw() == GONE {
            return Err(EIO);
        }
        Ok(status)
    }

    /// Has the card look at the tail of queue `queue`.
    ///
    /// # Errors
    ///
    /// `EINVAL` when there is no such queue.
    pub(crate) fn ring_doorbell(&self, queue: usize) -> Result {
        self.bar.try_write(
            DOORBELL::try_at(queue).ok_or(EINVAL)?,
            DOORBELL::from_raw(1),
        )
    }
}

/// The doorbell page of queue `queue`: where in [`BAR`], and its size.
pub(crate) fn doorbell_page(queue: usize) -> Result<(u64, u64)> {
    if queue >= QUEUES_MAX {
        return Err(EINVAL);
    }
    Ok((0x80000 + ((queue as u64) << 12), 0x1000))
}

/// Reads before the first sleep: what is quick has happened by then.
const QUICK_READS: u32 = 4;

/// Waits until `done()`.
///
/// # Errors
///
/// `ETIMEDOUT` after about `limit_ms` milliseconds; those of `done`.
fn wait(limit_ms: i64, mut done: impl FnMut() -> Result<bool>) -> Result {
    for _ in 0..QUICK_READS {
        if done()? {
            return Ok(());
        }
    }
    poll::read_poll_timeout(
        done,
        |done| *done,
        Delta::from_micros(100),
        Delta::from_millis(limit_ms),
    )?;
    Ok(())
}
