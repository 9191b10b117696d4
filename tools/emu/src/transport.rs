// SPDX-License-Identifier: GPL-2.0
//! What a PCI device model gets from whoever carries its transactions, and what it offers: the
//! logic of a device knows no more of the outside than this.

use std::fs::File;

/// Nobody answered at this host address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusError {
    /// The first byte that could not be accessed.
    pub address: u64,
}

/// What a device gets: host memory and interrupts, for any of its threads.
pub trait Bus: Send + Sync {
    /// Reads host memory. What the host writes meanwhile may be torn.
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), BusError>;

    /// Writes host memory. After an error what comes before its address is written.
    fn write(&self, address: u64, from: &[u8]) -> Result<(), BusError>;

    /// Reads an aligned word; what is read afterwards is at least as new. A misaligned one is an
    /// error.
    fn load(&self, address: u64) -> Result<u32, BusError>;

    /// Writes an aligned word: who sees it sees everything that was written before. A misaligned
    /// one is an error.
    fn store(&self, address: u64, value: u32) -> Result<(), BusError>;

    /// Sends message `vector`; one that the host has not enabled is lost.
    fn interrupt(&self, vector: u16);
}

/// What a device offers behind its configuration space.
///
/// Nothing here may block: the whole guest waits for the answer.
pub trait Device: Send + Sync {
    /// Reads `to.len()` bytes of a BAR, 1 to 8.
    fn read(&self, bar: usize, offset: u64, to: &mut [u8]);

    /// Writes `from.len()` bytes to a BAR, 1 to 8.
    fn write(&self, bar: usize, offset: u64, from: &[u8]);

    /// Resets everything but the content of memory; at power-on that too. The device goes on
    /// from here, also if it slept.
    fn reset(&self, how: Reset);

    /// D3hot: stands still and accesses nothing until it is reset.
    fn sleep(&self);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    PowerOn,
    /// FLR, the way back from D3hot, or a reset of the slot.
    Function,
}

/// A PCI function as those who carry its transactions see it.
pub trait Endpoint: Send + Sync {
    /// Regions that exist, by BAR.
    fn bars(&self) -> &[Option<Region>; BARS];

    /// Bytes of configuration space.
    fn config_size(&self) -> u64;

    /// What it interrupts with, and how many vectors it has.
    fn messages(&self) -> (Messages, u16);

    fn config_read(&self, offset: u64, to: &mut [u8]);
    fn config_write(&self, offset: u64, from: &[u8]);
    fn bar_read(&self, bar: usize, offset: u64, to: &mut [u8]);
    fn bar_write(&self, bar: usize, offset: u64, from: &[u8]);

    /// The bus was reset, or, `PowerOn`, there is a new host.
    fn reset(&self, how: Reset);
}

/// How many BARs a function can have.
pub const BARS: usize = 6;

/// What is behind a BAR.
#[derive(Debug)]
pub struct Region {
    /// Bytes, a power of two.
    pub size: u64,
    /// Memory that the host may map directly instead of asking for each access.
    pub memory: Option<File>,
}

/// How a function interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Messages {
    Msi,
    Msix,
}

#[cfg(test)]
pub mod fake;
