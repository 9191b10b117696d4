// SPDX-License-Identifier: GPL-2.0

//! The card's memory: who has which part of it, and writing to it through its BAR.
//!
//! It is given out in frames of 4 KiB, the size of a page and of a page table. Frames are kept
//! together in blocks of 2 MiB, the size of a large page: a single frame comes from a block that is
//! in use already, as long as there is one.
//!
//! What is given out holds what the last one left there. Page tables are zeroed by
//! [`Window::zero_frame`], what programs see by [`Registers::scrub`], before they are used.
//!
//! [`Registers::scrub`]: crate::regs::Registers::scrub

use kernel::{
    io::Io,
    new_mutex,
    pci,
    prelude::*,
    sync::Mutex,
    types::ScopeGuard, //
};

/// Bytes of a frame.
pub(crate) const FRAME: u64 = 1 << 12;
/// Bytes of a block.
pub(crate) const BLOCK: u64 = 1 << 21;

const FRAMES_PER_BLOCK: u32 = (BLOCK / FRAME) as u32;
const WORDS: usize = (FRAMES_PER_BLOCK / u64::BITS) as usize;

/// A piece of memory: where, and how long. Whole frames, within one block.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

impl Extent {
    fn frame(offset: u64) -> Self {
        Self {
            offset,
            size: FRAME,
        }
    }
}

/// The frames of a block that are in use.
#[derive(Clone, Copy)]
struct Block {
    used: [u64; WORDS],
    free: u32,
}

impl Block {
    const EMPTY: Self = Self {
        used: [0; WORDS],
        free: FRAMES_PER_BLOCK,
    };

    fn is_used(&self, frame: u32) -> bool {
        let word = self.used.get((frame / u64::BITS) as usize).copied();

        // What is not there cannot be given out.
        word.unwrap_or(u64::MAX) & (1 << (frame % u64::BITS)) != 0
    }

    fn set(&mut self, frame: u32, used: bool) {
        if self.is_used(frame) == used {
            return;
        }
        if let Some(word) = self.used.get_mut((frame / u64::BITS) as usize) {
            *word ^= 1 << (frame % u64::BITS);
            if used {
                self.free -= 1;
            } else {
                self.free += 1;
            }
        }
    }

    /// The first free frames, at most `most`: the first of them, and how many.
    fn run(&self, most: u32) -> Option<(u32, u32)> {
        let full = self.used.iter().take_while(|word| **word == u64::MAX);
        let from = full.count() as u32 * u64::BITS;
        let first = (from..FRAMES_PER_BLOCK).find(|frame| !self.is_used(*frame))?;
        let count = (first..FRAMES_PER_BLOCK)
            .take(most as usize)
            .take_while(|frame| !self.is_used(*frame))
            .count();

        Some((first, count as u32))
    }

    fn is_whole(&self) -> bool {
        self.free == FRAMES_PER_BLOCK
    }
}

struct Frames {
    blocks: KVVec<Block>,
    free: u64,
    /// Where a block that is partly used was seen last.
    hint: usize,
}

impl Frames {
    /// A block with a free frame; one that is in use if possible.
    fn partly_free(&mut self) -> Option<usize> {
        let count = self.blocks.len();
        let partly = |block: &Block| block.free > 0 && !block.is_whole();
        let around = Iterator::chain(self.hint..count, 0..self.hint.min(count));
        let found = around
            .clone()
            .find(|at| self.blocks.get(*at).is_some_and(partly))
            .or_else(|| around.clone().find(|at| self.is_whole(*at)))?;

        self.hint = found;
        Some(found)
    }

    fn is_whole(&self, at: usize) -> bool {
        self.blocks.get(at).is_some_and(Block::is_whole)
    }

    fn take(&mut self, at: usize, first: u32, count: u32) -> Option<Extent> {
        let block = self.blocks.get_mut(at)?;

        for frame in first..first + count {
            block.set(frame, true);
        }
        self.free -= u64::from(count);
        Some(Extent {
            offset: at as u64 * BLOCK + u64::from(first) * FRAME,
            size: u64::from(count) * FRAME,
        })
    }
}

/// The frames of a card's memory.
#[pin_data]
pub(crate) struct Memory {
    #[pin]
    frames: Mutex<Frames>,
    size: u64,
}

impl Memory {
    /// All of `size` bytes, whole blocks.
    pub(crate) fn new(size: u64) -> Result<impl PinInit<Self>> {
        let blocks = KVVec::from_elem(Block::EMPTY, (size / BLOCK) as usize, GFP_KERNEL)?;
        let frames = Frames {
            blocks,
            free: size / FRAME,
            hint: 0,
        };

        Ok(pin_init!(Self {
            frames <- new_mutex!(frames, "accel_npu_frames"),
            size,
        }))
    }

    /// Bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that nobody has.
    pub(crate) fn free(&self) -> u64 {
        self.frames.lock().free * FRAME
    }

    /// Takes a frame. `ENOSPC` when there is none.
    pub(crate) fn take_frame(&self) -> Result<u64> {
        Ok(self.take_run(FRAME)?.offset)
    }

    /// Takes a block.
    pub(crate) fn take_block(&self) -> Option<Extent> {
        let mut frames = self.frames.lock();
        let at = frames.blocks.iter().position(Block::is_whole)?;

        frames.take(at, 0, FRAMES_PER_BLOCK)
    }

    /// Takes frames in one piece: `size` bytes or less, whole frames.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when there is none.
    pub(crate) fn take_run(&self, size: u64) -> Result<Extent> {
        let mut frames = self.frames.lock();
        let most = (size / FRAME).min(u64::from(FRAMES_PER_BLOCK)) as u32;
        let at = frames.partly_free().ok_or(ENOSPC)?;
        let run = frames.blocks.get(at).and_then(|block| block.run(most));
        let (first, count) = run.ok_or(ENOSPC)?;

        frames.take(at, first, count).ok_or(ENOSPC)
    }

    /// Gives back what was taken, or a part of it: the card must not reach it any more.
    pub(crate) fn give(&self, extent: Extent) {
        let mut frames = self.frames.lock();
        let first = (extent.offset % BLOCK / FRAME) as u32;
        let count = (extent.size / FRAME) as u32;
        let end = first.saturating_add(count).min(FRAMES_PER_BLOCK);

        if let Some(block) = frames.blocks.get_mut((extent.offset / BLOCK) as usize) {
            let before = block.free;

            for frame in first..end {
                block.set(frame, false);
            }
            let freed = u64::from(block.free - before);
            frames.free += freed;
        }
    }

    /// As [`Self::give`], of a frame.
    pub(crate) fn give_frame(&self, offset: u64) {
        self.give(Extent::frame(offset));
    }
}

/// Most pieces that memory is taken in at a time: where it is in more, each takes a moment to zero.
const PIECES_MAX: usize = 1 << 12;

/// Pieces of the card's memory, in the order of the device addresses that they were taken for.
pub(crate) type Pieces = KVVec<Extent>;

impl Memory {
    /// Takes `size` bytes, whole frames, for device address `address`: blocks where it is aligned
    /// like one. They are given back when the guard is dropped.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when there is not as much, or not in [`PIECES_MAX`] pieces; `ENOMEM`.
    pub(crate) fn take(
        &self,
        address: u64,
        size: u64,
    ) -> Result<ScopeGuard<Pieces, impl FnOnce(Pieces) + use<'_>>> {
        let give_all = |pieces: Pieces| {
            for piece in pieces.iter() {
                self.give(*piece);
            }
        };
        let mut pieces = ScopeGuard::new_with_data(Pieces::new(), give_all);
        let mut done = 0;

        if size > self.free() {
            return Err(ENOSPC);
        }
        while done < size {
            let at = address + done;
            // No piece goes across the border of a large page: none is larger than a block.
            let most = (size - done).min(BLOCK - at % BLOCK);
            if pieces.len() >= PIECES_MAX {
                return Err(ENOSPC);
            }
            // The room first: a piece that is taken is in the list.
            pieces.reserve(1, GFP_KERNEL)?;
            let piece = match (most == BLOCK).then(|| self.take_block()).flatten() {
                Some(block) => block,
                None => self.take_run(most)?,
            };

            done += piece.size;
            if let Err(err) = pieces.push_within_capacity(piece) {
                self.give(err.0);
                return Err(ENOMEM);
            }
        }
        Ok(pieces)
    }
}

/// The BAR through which the CPU writes to the card's memory.
///
/// It is never read: what is in it is known, and a read waits for the card.
pub(crate) struct Window<'bound> {
    bar: pci::Bar<'bound>,
}

impl<'bound> Window<'bound> {
    pub(crate) fn new(pdev: &'bound pci::Device<kernel::device::Bound>) -> Result<Self> {
        Ok(Self {
            bar: pdev.iomap_region(crate::regs::MEMORY_BAR, c"accel_pcie_npu")?,
        })
    }

    /// Writes 8 bytes at `offset`, a multiple of 8.
    ///
    /// # Errors
    ///
    /// `EINVAL` when that is not in the BAR.
    #[inline]
    pub(crate) fn write(&self, offset: u64, value: u64) -> Result {
        self.bar.try_write64(value, offset as usize)
    }

    /// Zeroes the frame at `frame`.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub(crate) fn zero_frame(&self, frame: u64) -> Result {
        for offset in (0..FRAME).step_by(8) {
            self.write(frame + offset, 0)?;
        }
        Ok(())
    }
}
