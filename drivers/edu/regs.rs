// SPDX-License-Identifier: GPL-2.0

//! The device's registers, and checks of what they say.
//!
//! Offsets, bits and the buffer's place are those of "EDU device" in QEMU's documentation. A device
//! that is gone reads as all-ones, and one that lies may say anything: every value is checked
//! against what it can be before it is used.

use kernel::{
    io::{
        poll,
        register,
        Io, //
    },
    pci,
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

register! {
    /// What the device is.
    IDENTIFICATION(u32) @ 0x00 {
        31:24 major;
        15:0 magic;
    }

    /// Reads as the inverse of what was written.
    LIVENESS(u32) @ 0x04 {
        31:0 value;
    }

    /// Written: start to compute. Read: the result, modulo 2^32.
    FACTORIAL(u32) @ 0x08 {
        31:0 value;
    }

    STATUS(u32) @ 0x20 {
        /// Interrupt when a factorial is ready.
        7:7 interrupt_after_factorial => bool;
        /// A factorial is being computed.
        0:0 computing => bool;
    }

    /// Why there is an interrupt.
    INTERRUPT_STATUS(u32) @ 0x24 {
        31:0 causes;
    }

    INTERRUPT_ACKNOWLEDGE(u32) @ 0x64 {
        31:0 causes;
    }

    DMA_SOURCE(u64) @ 0x80 {
        63:0 address;
    }

    DMA_DESTINATION(u64) @ 0x88 {
        63:0 address;
    }

    /// Bytes.
    DMA_COUNT(u64) @ 0x90 {
        63:0 count;
    }

    DMA_COMMAND(u64) @ 0x98 {
        /// Interrupt when it is done.
        2:2 interrupt => bool;
        /// From the device's buffer to memory, else from memory to the buffer.
        1:1 to_memory => bool;
        /// Start; still set: not done.
        0:0 run => bool;
    }
}

const SIZE: usize = 0xa0;

/// What the device identifies itself with.
const MAGIC: u32 = 0x00ed;
/// Where its buffer lies for the DMA engine.
const BUFFER: u64 = 0x40000;
/// Bytes of the buffer.
pub(crate) const BUFFER_SIZE: usize = 4096;
/// Bits of the addresses that the DMA engine drives.
pub(crate) const DMA_BITS: u32 = 28;

const CAUSE_FACTORIAL: u32 = 1 << 0;
const CAUSE_DMA: u32 = 1 << 8;

/// What has happened since it was last asked.
#[derive(Clone, Copy)]
pub(crate) struct Causes {
    pub(crate) factorial: bool,
    pub(crate) dma: bool,
}

/// The way of a DMA transfer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToDevice,
    ToMemory,
}

/// The registers of one device.
pub(crate) struct Registers<'bound> {
    bar: pci::Bar<'bound, SIZE>,
}

impl<'bound> Registers<'bound> {
    /// Maps the registers and makes sure that there is such a device behind them.
    pub(crate) fn new(pdev: &'bound pci::Device<kernel::device::Bound>) -> Result<Self> {
        let bar = pdev.iomap_region_sized::<SIZE>(0, c"accel_edu")?;
        let id = bar.read(IDENTIFICATION);

        if u32::from(id.magic()) != MAGIC {
            dev_err!(
                pdev,
                "not an edu device: it identifies as {:#010x}\n",
                id.into_raw()
            );
            return Err(ENODEV);
        }
        let probe = 0x5a5a_1234;
        bar.write_reg(LIVENESS::from_raw(probe));
        let answer = bar.read(LIVENESS).into_raw();
        if answer != !probe {
            dev_err!(pdev, "not alive: {:#010x} for {:#010x}\n", answer, !probe);
            return Err(EIO);
        }
        Ok(Self { bar })
    }

    /// Lets the device interrupt when a factorial is ready.
    pub(crate) fn enable_interrupts(&self) {
        self.bar
            .write_reg(STATUS::zeroed().with_interrupt_after_factorial(true));
    }

    /// Waits until what the device was told to do in an earlier life is done, and forgets that it
    /// was.
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT` when that takes longer than ten times the 100 ms that a transfer takes.
    pub(crate) fn quiesce(&self) -> Result {
        self.bar.write_reg(STATUS::zeroed());
        poll::read_poll_timeout(
            || {
                let is_computing = self.is_computing();

                Ok(self.is_moving() || is_computing)
            },
            |busy| !*busy,
            Delta::from_millis(1),
            Delta::from_secs(1),
        )?;
        // What was ready just then may raise its interrupt a moment later. If it is later than that,
        // `Engine::advance` knows it by what the device is doing.
        fsleep(Delta::from_millis(1));
        let _ = self.acknowledge();
        Ok(())
    }

    /// Acknowledges what has happened. `None` if nothing has, or the device is gone.
    pub(crate) fn acknowledge(&self) -> Option<Causes> {
        let causes = self.bar.read(INTERRUPT_STATUS).into_raw();

        if causes == 0 || causes & !(CAUSE_FACTORIAL | CAUSE_DMA) != 0 {
            return None;
        }
        self.bar.write_reg(INTERRUPT_ACKNOWLEDGE::from_raw(causes));
        Some(Causes {
            factorial: causes & CAUSE_FACTORIAL != 0,
            dma: causes & CAUSE_DMA != 0,
        })
    }

    pub(crate) fn start_factorial(&self, number: u32) {
        self.bar.write_reg(FACTORIAL::from_raw(number));
    }

    /// Whether the factorial that was started is not ready yet; also of a device that is gone.
    pub(crate) fn is_computing(&self) -> bool {
        self.bar.read(STATUS).computing()
    }

    /// The factorial that was started, once it is ready.
    pub(crate) fn factorial(&self) -> u32 {
        self.bar.read(FACTORIAL).into_raw()
    }

    /// Starts to move `count` bytes between `address` and the device's buffer.
    ///
    /// # Errors
    ///
    /// `EINVAL` when they do not fit into the buffer.
    pub(crate) fn start_dma(&self, way: Way, address: u64, count: usize) -> Result {
        if count > BUFFER_SIZE {
            return Err(EINVAL);
        }
        let (source, destination) = match way {
            Way::ToDevice => (address, BUFFER),
            Way::ToMemory => (BUFFER, address),
        };

        self.bar.write_reg(DMA_SOURCE::from_raw(source));
        self.bar.write_reg(DMA_DESTINATION::from_raw(destination));
        self.bar.write_reg(DMA_COUNT::from_raw(count as u64));
        self.bar.write_reg(
            DMA_COMMAND::zeroed()
                .with_interrupt(true)
                .with_to_memory(way == Way::ToMemory)
                .with_run(true),
        );
        Ok(())
    }

    /// Whether the transfer that was started has not ended yet; also of a device that is gone.
    pub(crate) fn is_moving(&self) -> bool {
        self.bar.read(DMA_COMMAND).run()
    }
}
