// SPDX-License-Identifier: GPL-2.0

//! Memory that a device accesses by DMA and the CPU copies to and from.

use crate::mm::Buffer;
use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::{
        Coherent,
        DmaAddress, //
    },
    prelude::*, //
};

/// Coherent memory at an address that the device can reach, as [`crate::Description::dma_bits`]
/// says.
///
/// For devices that cannot reach all memory, or need what they access in one piece.
pub struct Staging {
    memory: Coherent<[u8]>,
}

impl Staging {
    /// Zeroed memory of `size` bytes.
    ///
    /// # Errors
    ///
    /// `EINVAL` for 0; `ENOMEM`.
    pub fn new(parent: &Device<Bound>, size: usize) -> Result<Self> {
        if size == 0 {
            return Err(EINVAL);
        }
        Ok(Self {
            memory: Coherent::zeroed_slice(parent, size, GFP_KERNEL)?,
        })
    }

    /// Where the device finds it.
    pub fn address(&self) -> DmaAddress {
        self.memory.dma_handle()
    }

    /// Copies the first `len` bytes from `offset` in `buffer`. The device should not be writing.
    ///
    /// # Errors
    ///
    /// `ERANGE` when there are not as many on either side.
    pub fn load(&mut self, buffer: &Buffer, offset: u64, len: usize) -> Result {
        // SAFETY: We have the only reference. A device that writes all the same makes the bytes
        // that are copied others, which all are as good: nothing depends on them.
        let bytes = unsafe { self.memory.as_mut() };

        buffer.read(offset, bytes.get_mut(..len).ok_or(ERANGE)?)
    }

    /// Copies the first `len` bytes to `offset` in `buffer`. The device should not be writing.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn store(&self, buffer: &Buffer, offset: u64, len: usize) -> Result {
        // SAFETY: Nobody has a mutable reference. For devices as above.
        let bytes = unsafe { self.memory.as_ref() };

        buffer.write(offset, bytes.get(..len).ok_or(ERANGE)?)
    }
}
