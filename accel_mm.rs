// SPDX-License-Identifier: GPL-2.0

//! Buffers of host memory and their mappings.
//!
//! A buffer is made of blocks of zeroed pages, the largest that there are at the time, charged to
//! the memory cgroup of whoever asked for it. Handles, mappings and jobs share it by reference; it
//! goes with the last of them. It holds no reference to the device: memory may outlive it.
//!
//! A mapping shows a part of a buffer. Its pages are mapped by page faults, each of which fills
//! what one entry of the next page table level covers (2 MiB): with one entry if the block is that
//! large and lies right, else page by page. After the device has gone a fault is SIGBUS.

use crate::bindings::{
    pages::{
        cond_resched,
        fatal_signal_pending,
        PageBlock, //
    },
    uapi,
    vma::{
        Fault,
        FaultResult, //
    },
};
use kernel::{
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc, //
    }, //
};

/// Host memory that the buffers of one device take.
pub(crate) struct HostUsage(Atomic<u64>);

impl HostUsage {
    pub(crate) fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A block and where it lies in its buffer.
struct Placed {
    /// Index of its first page.
    first: usize,
    block: PageBlock,
}

impl Placed {
    fn end(&self) -> usize {
        self.first + self.block.pages()
    }
}

/// A buffer of host memory, shared between user space, driver and device.
///
/// What it holds may change at any time, so it is copied and never referenced.
pub struct Buffer {
    /// Ascending and without gaps.
    blocks: KVVec<Placed>,
    pages: usize,
    /// Page offset at which its file maps it, once it has one.
    pgoff: Atomic<usize>,
    usage: Arc<HostUsage>,
}

/// No page offset yet.
const NOWHERE: usize = usize::MAX;

impl Buffer {
    /// Pages of a large buffer's alignment.
    pub(crate) const LARGE_PAGES: usize = 1 << PageBlock::ORDER_PMD;

    /// Makes a zeroed buffer of `size` bytes, rounded up to whole pages.
    ///
    /// # Errors
    ///
    /// `EINVAL` for 0 or more than `ACCEL_BUFFER_SIZE_MAX`; `ENOMEM`; `EINTR` when the task is
    /// being killed; `ENODEV` when `going()`.
    pub(crate) fn new(
        size: u64,
        usage: &Arc<HostUsage>,
        going: impl Fn() -> bool,
    ) -> Result<Arc<Self>> {
        // A device that is gone says so, whatever is asked of it.
        if going() {
            return Err(ENODEV);
        }
        if size == 0 || size > uapi::ACCEL_BUFFER_SIZE_MAX {
            return Err(EINVAL);
        }
        let mut buffer = Self {
            blocks: KVVec::new(),
            pages: 0,
            pgoff: Atomic::new(NOWHERE),
            usage: usage.clone(),
        };
        let pages = size.div_ceil(PAGE_SIZE as u64) as usize;
        // Falls as memory is fragmented, and stays low then.
        let mut order = PageBlock::ORDER_PMD;

        while buffer.pages < pages {
            // Each block may take seconds where memory is short.
            if fatal_signal_pending() {
                return Err(EINTR);
            }
            if going() {
                return Err(ENODEV);
            }
            order = order.min((pages - buffer.pages).ilog2());
            match PageBlock::new(order) {
                Ok(block) => buffer.push(block)?,
                Err(_) if order > 0 => order -= 1,
                Err(err) => return Err(err.into()),
            }
        }
        Ok(Arc::new(buffer, GFP_KERNEL_ACCOUNT)?)
    }

    fn push(&mut self, block: PageBlock) -> Result {
        let pages = block.pages();

        self.blocks.push(
            Placed {
                first: self.pages,
                block,
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        self.pages += pages;
        self.usage
            .0
            .fetch_add((pages as u64) << PAGE_SHIFT, Relaxed);
        Ok(())
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        (self.pages as u64) << PAGE_SHIFT
    }

    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    /// Whether its mappings profit from an alignment of 2 MiB.
    pub(crate) fn is_large(&self) -> bool {
        self.pages >= Self::LARGE_PAGES
    }

    /// Page offset at which its file maps it.
    pub(crate) fn pgoff(&self) -> Option<usize> {
        match self.pgoff.load(Acquire) {
            NOWHERE => None,
            pgoff => Some(pgoff),
        }
    }

    pub(crate) fn set_pgoff(&self, pgoff: usize) {
        self.pgoff.store(pgoff, Release);
    }

    /// What `mmap(2)` takes as its offset.
    pub(crate) fn mmap_offset(&self) -> Option<u64> {
        self.pgoff().map(|pgoff| (pgoff as u64) << PAGE_SHIFT)
    }

    /// The block that page `index` is in.
    fn placed(&self, index: usize) -> Option<&Placed> {
        let at = self.blocks.partition_point(|placed| placed.end() <= index);

        self.blocks.get(at)
    }

    /// Whether `size` bytes at `offset` lie in the buffer.
    ///
    /// # Errors
    ///
    /// `ERANGE` when not.
    pub fn check_range(&self, offset: u64, size: u64) -> Result {
        match offset.checked_add(size) {
            Some(end) if end <= self.size() => Ok(()),
            _ => Err(ERANGE),
        }
    }

    /// Copies bytes at `offset` to `dst`; what a user is writing meanwhile comes as some mixture.
    ///
    /// # Errors
    ///
    /// `ERANGE` when they do not lie in the buffer.
    pub fn read(&self, offset: u64, dst: &mut [u8]) -> Result {
        self.check_range(offset, dst.len() as u64)?;
        let mut done = 0;

        while let Some(rest @ [_, ..]) = dst.get_mut(done..) {
            let (block, within) = self.at(offset + done as u64)?;
            done += block.read(within, rest);
        }
        Ok(())
    }

    /// Copies `src` to `offset`.
    ///
    /// # Errors
    ///
    /// `ERANGE` when it does not fit the buffer there.
    pub fn write(&self, offset: u64, src: &[u8]) -> Result {
        self.check_range(offset, src.len() as u64)?;
        let mut done = 0;

        while let Some(rest @ [_, ..]) = src.get(done..) {
            let (block, within) = self.at(offset + done as u64)?;
            done += block.write(within, rest);
        }
        Ok(())
    }

    /// The block that byte `offset` is in, and where in it.
    fn at(&self, offset: u64) -> Result<(&PageBlock, usize)> {
        let placed = self.placed((offset >> PAGE_SHIFT) as usize).ok_or(ERANGE)?;

        Ok((
            &placed.block,
            (offset - ((placed.first as u64) << PAGE_SHIFT)) as usize,
        ))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.usage.0.fetch_sub(self.size(), Relaxed);
        // There may be a million blocks.
        while let Some(placed) = self.blocks.pop() {
            drop(placed);
            cond_resched();
        }
    }
}

/// What a mapping that the driver was asked for shows.
pub enum Region {
    /// A buffer, from its beginning.
    Buffer(Arc<Buffer>),
}

/// A part of a buffer, in one or several VMAs.
pub(crate) struct Mapping {
    buffer: Arc<Buffer>,
    /// Page offset of the buffer's first page.
    base: usize,
}

impl Mapping {
    /// `pages` pages at page offset `pgoff` of a buffer that begins at page offset `base`.
    ///
    /// # Errors
    ///
    /// `EINVAL` when that is not all in the buffer.
    pub(crate) fn new(
        buffer: Arc<Buffer>,
        base: usize,
        pgoff: usize,
        pages: usize,
    ) -> Result<Self> {
        let end = pgoff
            .checked_sub(base)
            .and_then(|first| first.checked_add(pages));

        match end {
            Some(end) if end <= buffer.pages() => Ok(Self { buffer, base }),
            _ => Err(EINVAL),
        }
    }

    /// Maps the pages around `fault`, one by one.
    pub(crate) fn fault(&self, fault: &Fault<'_>) -> FaultResult {
        // The page that is waited for first: if memory for page tables is short, it counts.
        for pgoff in Iterator::chain(core::iter::once(fault.pgoff()), fault.window()) {
            let Some(pfn) = self.pfn(pgoff) else {
                return FaultResult::SIGBUS;
            };
            if let Err(result) = fault.insert(pgoff, pfn) {
                return if pgoff == fault.pgoff() {
                    result
                } else {
                    FaultResult::DONE
                };
            }
        }
        FaultResult::DONE
    }

    /// Maps all around `fault` with one entry, if a block lies right.
    pub(crate) fn huge_fault(&self, fault: &Fault<'_>) -> FaultResult {
        let first = fault.window().start;
        let block = first
            .checked_sub(self.base)
            .and_then(|index| Some((index, self.buffer.placed(index)?)));

        match block {
            Some((index, placed))
                if placed.first == index && placed.block.order() == PageBlock::ORDER_PMD =>
            {
                fault.insert_huge(placed.block.pfn())
            }
            _ => FaultResult::FALLBACK,
        }
    }

    fn pfn(&self, pgoff: usize) -> Option<usize> {
        let index = pgoff.checked_sub(self.base)?;
        let placed = self.buffer.placed(index)?;

        Some(placed.block.pfn() + (index - placed.first))
    }

    /// For debuggers: as [`Buffer::read`], with `offset` in bytes in the space of mmap offsets.
    pub(crate) fn read(&self, offset: usize, dst: &mut [u8]) -> Result<usize> {
        self.buffer.read(self.offset(offset)?, dst)?;
        Ok(dst.len())
    }

    /// For debuggers: as [`Buffer::write`], with `offset` as in [`Self::read`].
    pub(crate) fn write(&self, offset: usize, src: &[u8]) -> Result<usize> {
        self.buffer.write(self.offset(offset)?, src)?;
        Ok(src.len())
    }

    fn offset(&self, offset: usize) -> Result<u64> {
        let offset = offset.checked_sub(self.base << PAGE_SHIFT).ok_or(EIO)?;

        Ok(offset as u64)
    }
}
