// SPDX-License-Identifier: GPL-2.0

//! Buffers of host memory, and mappings of them and of registers.
//!
//! A buffer is made of blocks of zeroed pages, the largest that there are at the time, charged to
//! the memory cgroup of whoever asked for it. Handles, mappings and jobs share it by reference; it
//! goes with the last of them. It holds no reference to the device: memory may outlive it.
//!
//! A mapping shows a part of a buffer, or of the parent's registers. Its pages are mapped by page
//! faults, each of which fills what one entry of the next page table level covers (2 MiB): with one
//! entry if it is memory and the block is that large and lies right, else page by page. After the
//! device has gone a fault is SIGBUS.

use crate::{
    bindings::{
        node::Inode,
        pages::{
            cond_resched,
            fatal_signal_pending,
            PageBlock, //
        },
        parent::RegisterPages,
        uapi,
        vma::{
            Fault,
            FaultResult,
            Frame, //
        },
        work::Later, //
    },
    limits::Charge, //
};
use kernel::{
    impl_has_work,
    new_work,
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
    },
    workqueue::{
        Work,
        WorkItem, //
    }, //
};

/// Most areas of memory that the end of a device waits for: what one user may have.
const AREAS_MAX: u32 = 1 << 16;

/// All mappings of a device.
#[pin_data]
pub(crate) struct Mappings {
    inode: Inode,
    #[pin]
    work: Work<Self>,
}

impl_has_work! {
    impl HasWork<Self> for Mappings { self.work }
}

impl WorkItem for Mappings {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.inode.zap();
    }
}

impl Mappings {
    pub(crate) fn new() -> Result<Arc<Self>> {
        let inode = Inode::new()?;

        Arc::pin_init(
            pin_init!(Self {
                inode,
                work <- new_work!("accel_mappings"),
            }),
            GFP_KERNEL,
        )
    }

    /// Through which they are found.
    pub(crate) fn inode(&self) -> &Inode {
        &self.inode
    }

    /// Takes them away, of a device that is gone: what is touched faults, for ever.
    ///
    /// What the driver shows is gone when this returns. So are buffers, unless they are in very many
    /// of all `areas`, as forks can make any number of: pages of a buffer stay valid as long as it
    /// is mapped, and so may be unmapped later.
    pub(crate) fn end(self: &Arc<Self>, areas: u32) {
        if areas <= AREAS_MAX {
            self.inode.zap();
        } else {
            self.inode.zap_below(uapi::ACCEL_MMAP_BUFFERS);
            Later::queue(self.clone());
        }
    }
}

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
        self.blocks.get(self.block_of(index))
    }

    /// Index of the block that page `index` is in; of none when the buffer ends before.
    fn block_of(&self, index: usize) -> usize {
        self.blocks.partition_point(|placed| placed.end() <= index)
    }

    /// Its blocks, in their order.
    pub(crate) fn blocks(&self) -> impl ExactSizeIterator<Item = &PageBlock> {
        self.blocks.iter().map(|placed| &placed.block)
    }

    /// Where byte `offset` is: the index of its block, how many bytes of the block are before it,
    /// and how many are left from it.
    pub(crate) fn locate(&self, offset: u64) -> Option<(usize, u64, u64)> {
        let index = self.block_of((offset >> PAGE_SHIFT) as usize);
        let placed = self.blocks.get(index)?;
        let (first, end) = (placed.first as u64, placed.end() as u64);

        Some((
            index,
            offset - (first << PAGE_SHIFT),
            (end << PAGE_SHIFT) - offset,
        ))
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
    /// Registers of the parent, which is on PCI: uncached, and never more than these. All are whole
    /// pages, in bytes; pages with the table of MSI-X vectors are refused.
    Registers {
        /// BAR, 0 to 5.
        bar: u32,
        /// From the BAR's beginning.
        offset: u64,
        /// Most that a mapping may show.
        size: u64,
    },
}

/// What a mapping shows.
pub(crate) enum Shown {
    Buffer(Arc<Buffer>),
    Registers(RegisterPages),
}

impl Shown {
    fn pages(&self) -> usize {
        match self {
            Self::Buffer(buffer) => buffer.pages(),
            Self::Registers(registers) => registers.pages(),
        }
    }

    /// Whether it has `pages` pages at page offset `pgoff`, when it begins at page offset `base`.
    ///
    /// # Errors
    ///
    /// `EINVAL` when not.
    pub(crate) fn check(&self, base: usize, pgoff: usize, pages: usize) -> Result {
        let end = pgoff
            .checked_sub(base)
            .and_then(|first| first.checked_add(pages));

        match end {
            Some(end) if end <= self.pages() => Ok(()),
            _ => Err(EINVAL),
        }
    }

    /// The page frame at `index`.
    fn frame(&self, index: usize) -> Option<Frame> {
        match self {
            Self::Buffer(buffer) => {
                let placed = buffer.placed(index)?;

                Some(Frame::Memory(placed.block.pfn() + (index - placed.first)))
            }
            Self::Registers(registers) => registers.pfn(index).map(Frame::Registers),
        }
    }

    /// The block of a buffer that begins at page `index` and is as large as one entry of a PMD
    /// maps.
    fn huge_block(&self, index: usize) -> Option<&PageBlock> {
        let Self::Buffer(buffer) = self else {
            return None;
        };
        let placed = buffer.placed(index)?;

        (placed.first == index && placed.block.order() == PageBlock::ORDER_PMD)
            .then_some(&placed.block)
    }
}

/// A part of a buffer or of registers, in one or several VMAs, each of which counts: who takes
/// mappings away has to walk them. To split one can be refused, to inherit one cannot.
pub(crate) struct Mapping {
    shown: Shown,
    /// Page offset of the first page of what is shown.
    base: usize,
    /// For one VMA, and added to for the others.
    charge: Charge,
    vmas: Atomic<usize>,
}

impl Mapping {
    /// Of what `shown`, which begins at page offset `base`, has been checked to have.
    pub(crate) fn new(shown: Shown, base: usize, charge: Charge) -> Self {
        Self {
            shown,
            base,
            charge,
            vmas: Atomic::new(1),
        }
    }

    /// There is one more VMA of it.
    pub(crate) fn opened(&self) {
        self.vmas.fetch_add(1, Relaxed);
        self.charge.add();
    }

    /// There is one VMA less of it. With the last one the mapping goes.
    pub(crate) fn closed(&self) {
        if self.vmas.fetch_sub(1, Relaxed) > 1 {
            self.charge.remove();
        }
    }

    /// Whether one of its VMAs may become two.
    ///
    /// # Errors
    ///
    /// `ENOMEM` when there are as many as may be: what `munmap(2)` and `mprotect(2)` answer for too
    /// many areas.
    pub(crate) fn may_split(&self) -> Result {
        match self.charge.has_room() {
            true => Ok(()),
            false => Err(ENOMEM),
        }
    }

    /// Whether it shows registers.
    pub(crate) fn is_registers(&self) -> bool {
        matches!(self.shown, Shown::Registers(_))
    }

    /// Maps the pages around `fault`, one by one.
    pub(crate) fn fault(&self, fault: &Fault<'_>) -> FaultResult {
        // The page that is waited for first: if memory for page tables is short, it counts.
        for pgoff in Iterator::chain(core::iter::once(fault.pgoff()), fault.window()) {
            let frame = pgoff
                .checked_sub(self.base)
                .and_then(|index| self.shown.frame(index));
            let Some(frame) = frame else {
                return FaultResult::SIGBUS;
            };
            if let Err(result) = fault.insert(pgoff, frame) {
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
        let block = fault
            .window()
            .start
            .checked_sub(self.base)
            .and_then(|index| self.shown.huge_block(index));

        match block {
            Some(block) => fault.insert_huge(block.pfn()),
            None => FaultResult::FALLBACK,
        }
    }

    /// For debuggers: as [`Buffer::read`], with `offset` in bytes in the space of mmap offsets.
    ///
    /// # Errors
    ///
    /// `EIO` for registers: to read one may change the device.
    pub(crate) fn read(&self, offset: usize, dst: &mut [u8]) -> Result<usize> {
        self.buffer()?.read(self.offset(offset)?, dst)?;
        Ok(dst.len())
    }

    /// For debuggers: as [`Buffer::write`], with `offset` as in [`Self::read`].
    ///
    /// # Errors
    ///
    /// `EIO` for registers.
    pub(crate) fn write(&self, offset: usize, src: &[u8]) -> Result<usize> {
        self.buffer()?.write(self.offset(offset)?, src)?;
        Ok(src.len())
    }

    fn buffer(&self) -> Result<&Buffer> {
        match &self.shown {
            Shown::Buffer(buffer) => Ok(buffer),
            Shown::Registers(_) => Err(EIO),
        }
    }

    fn offset(&self, offset: usize) -> Result<u64> {
        let offset = offset.checked_sub(self.base << PAGE_SHIFT).ok_or(EIO)?;

        Ok(offset as u64)
    }
}
