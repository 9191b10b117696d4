// SPDX-License-Identifier: GPL-2.0

//! An open file: a compute file with its context, buffers and timelines, or a control file.
//!
//! Handles are numbers from 1 that only this file knows. What they name lives on for as long as a
//! mapping or a job uses it. Whoever shares the file (a fork, a passed descriptor) shares all.

use crate::{
    bindings::{
        slot::{
            ContextSlot,
            Kind, //
        },
        tree::Tree,
        uapi,
        wait::WaitQueue, //
    },
    device::{
        Device,
        Opened, //
    },
    job::{
        Timeline,
        Watch, //
    },
    mm::{
        Buffer,
        Mapping,
        Region, //
    },
};
use kernel::{
    new_mutex,
    page::PAGE_SHIFT,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex,
        SetOnce, //
    },
};

/// Which of a device's two nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    Compute = 0,
    Control = 1,
}

/// Valid handles.
const HANDLES: core::ops::RangeInclusive<usize> = 1..=uapi::ACCEL_HANDLES_MAX as usize;

/// First page offset of buffers; below is the driver's.
const BUFFERS_PGOFF: usize = (uapi::ACCEL_MMAP_BUFFERS >> PAGE_SHIFT) as usize;
/// From here on page offsets are given out in units of 2 MiB, so that large buffers are aligned.
const LARGE_PGOFF: usize = 1 << (43 - PAGE_SHIFT);
/// End of the offsets that a 32-bit `mmap2` can name with 4 KiB pages.
const END_PGOFF: usize = 1 << (44 - PAGE_SHIFT);

/// What a file's handles name.
#[pin_data]
struct Handles {
    #[pin]
    buffers: Tree<Buffer>,
    /// The same buffers, by page offset.
    #[pin]
    offsets: Tree<Buffer>,
    #[pin]
    timelines: Tree<Timeline>,
}

impl Handles {
    /// Gives a buffer its place among the mmap offsets.
    fn place(&self, buffer: &Arc<Buffer>) -> Result {
        let (pages, range) = if buffer.is_large() {
            let pages = buffer.pages().next_multiple_of(Buffer::LARGE_PAGES);

            (pages, LARGE_PGOFF..END_PGOFF)
        } else {
            (buffer.pages(), BUFFERS_PGOFF..LARGE_PGOFF)
        };

        buffer.set_pgoff(self.offsets.alloc(pages, buffer.clone(), range)?);
        Ok(())
    }
}

/// An open file.
#[pin_data]
pub(crate) struct File {
    opened: Opened,
    context: ContextSlot,
    position: Atomic<usize>,
    watch: Arc<Watch>,
    /// Made with the first handle: many files never have one.
    handles: SetOnce<Pin<KBox<Handles>>>,
    #[pin]
    making: Mutex<()>,
    buffer_count: Atomic<u64>,
    buffer_bytes: Atomic<u64>,
}

impl File {
    /// Opens `node` of `device`.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it is gone; `EBUSY` when it has as many contexts as it takes; `ENOMEM`; the
    /// driver's.
    pub(crate) fn open(device: Arc<Device>, node: Node) -> Result<Arc<Self>> {
        let guard = device.slot().enter(Kind::OPEN)?;
        let opened = device.count_open(node)?;
        let watch = Arc::pin_init(Watch::new(), GFP_KERNEL_ACCOUNT)?;
        let file = Arc::pin_init(
            pin_init!(Self {
                opened,
                context: ContextSlot::empty(),
                position: Atomic::new(0),
                watch,
                handles: SetOnce::new(),
                making <- new_mutex!((), "accel_handles"),
                buffer_count: Atomic::new(0),
                buffer_bytes: Atomic::new(0),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;

        if node == Node::Compute {
            guard.open(&file)?;
        }
        if let Err(err) = device.add_file(&file) {
            guard.close(&file);
            return Err(err);
        }
        Ok(file)
    }

    /// Ends a file that nothing uses any more.
    ///
    /// If the device is gone, [`Device::unregister`] has closed the context or is about to.
    pub(crate) fn release(this: Arc<Self>) {
        if let Ok(guard) = this.device().slot().enter(Kind::RELEASE) {
            guard.close(&this);
            this.device().remove_file(&this);
        }
    }

    /// The device is gone: nothing that the file waits for will come any more.
    pub(crate) fn device_gone(&self) {
        if let Some(handles) = self.handles.as_ref() {
            handles.timelines.for_each(Timeline::signal_all);
        }
    }

    #[inline]
    pub(crate) fn device(&self) -> &Arc<Device> {
        self.opened.device()
    }

    #[inline]
    pub(crate) fn node(&self) -> Node {
        self.opened.node()
    }

    #[inline]
    pub(crate) fn context(&self) -> &ContextSlot {
        &self.context
    }

    /// Where the file is in its device's list.
    pub(crate) fn position(&self) -> usize {
        self.position.load(Relaxed)
    }

    /// Called with the list's lock held.
    pub(crate) fn set_position(&self, position: usize) {
        self.position.store(position, Relaxed);
    }

    /// Where pollers and waiters wait.
    pub(crate) fn queue(&self) -> &WaitQueue {
        self.watch.queue()
    }

    /// Wakes pollers and waiters.
    pub(crate) fn wake(&self) {
        self.watch.queue().wake_all();
    }

    /// Whether `poll(2)` calls the file readable.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the device is gone.
    pub(crate) fn readable(&self) -> Result<bool> {
        let guard = self.device().slot().enter(Kind::POLL)?;

        Ok(self.watch.unseen() || guard.poll(self))
    }

    /// The handles, made if there are none yet.
    fn handles(&self) -> Result<&Handles> {
        if let Some(handles) = self.existing_handles() {
            return Ok(handles);
        }
        let _making = self.making.lock();
        if self.existing_handles().is_none() {
            let handles = KBox::pin_init(
                pin_init!(Handles {
                    buffers <- Tree::new(),
                    offsets <- Tree::new(),
                    timelines <- Tree::new(),
                }),
                GFP_KERNEL_ACCOUNT,
            )?;

            self.handles.populate(handles);
        }
        self.existing_handles().ok_or(ENOMEM)
    }

    fn existing_handles(&self) -> Option<&Handles> {
        self.handles.as_ref().map(|handles| &**handles)
    }

    /// Makes a buffer of `size` bytes and returns its handle.
    pub(crate) fn create_buffer(&self, size: u64) -> Result<(u32, Arc<Buffer>)> {
        let handles = self.handles()?;
        let buffer = self.device().new_buffer(size)?;
        let handle = handles.buffers.alloc(1, buffer.clone(), HANDLES)?;

        if let Err(err) = handles.place(&buffer) {
            drop(handles.buffers.take(handle));
            return Err(err);
        }
        self.buffer_count.fetch_add(1, Relaxed);
        self.buffer_bytes.fetch_add(buffer.size(), Relaxed);
        Ok((handle as u32, buffer))
    }

    /// The buffer that `handle` names.
    ///
    /// # Errors
    ///
    /// `ENOENT`.
    pub(crate) fn buffer(&self, handle: u32) -> Result<Arc<Buffer>> {
        self.existing_handles()
            .and_then(|handles| handles.buffers.get(handle as usize))
            .ok_or(ENOENT)
    }

    /// Forgets `handle`.
    ///
    /// # Errors
    ///
    /// `ENOENT`.
    pub(crate) fn destroy_buffer(&self, handle: u32) -> Result {
        let handles = self.existing_handles().ok_or(ENOENT)?;
        let buffer = handles.buffers.take(handle as usize).ok_or(ENOENT)?;

        if let Some(pgoff) = buffer.pgoff() {
            drop(handles.offsets.take(pgoff));
        }
        self.buffer_count.fetch_sub(1, Relaxed);
        self.buffer_bytes.fetch_sub(buffer.size(), Relaxed);
        Ok(())
    }

    /// Makes a timeline and returns its handle.
    pub(crate) fn create_timeline(&self) -> Result<u32> {
        let timeline = Arc::pin_init(Timeline::new(self.watch.clone()), GFP_KERNEL_ACCOUNT)?;

        Ok(self.handles()?.timelines.alloc(1, timeline, HANDLES)? as u32)
    }

    /// The timeline that `handle` names.
    ///
    /// # Errors
    ///
    /// `ENOENT`.
    pub(crate) fn timeline(&self, handle: u32) -> Result<Arc<Timeline>> {
        self.existing_handles()
            .and_then(|handles| handles.timelines.get(handle as usize))
            .ok_or(ENOENT)
    }

    /// Forgets `handle`.
    ///
    /// # Errors
    ///
    /// `ENOENT`.
    pub(crate) fn destroy_timeline(&self, handle: u32) -> Result {
        let timeline = self
            .existing_handles()
            .and_then(|handles| handles.timelines.take(handle as usize))
            .ok_or(ENOENT)?;

        timeline.set_seen();
        Ok(())
    }

    /// What a new mapping of `pages` pages at page offset `pgoff` shows.
    ///
    /// # Errors
    ///
    /// `EINVAL` nothing is there, or less than that; `ENODEV` the device is gone; the driver's.
    pub(crate) fn map(&self, pgoff: usize, pages: usize) -> Result<Mapping> {
        let guard = self.device().slot().enter(Kind::MMAP)?;

        if pgoff < BUFFERS_PGOFF {
            let at = |pages: usize| (pages as u64) << PAGE_SHIFT;
            let Region::Buffer(buffer) = guard.mmap(self, at(pgoff), at(pages))?;

            return Mapping::new(buffer, pgoff, pgoff, pages);
        }
        let buffer = self
            .existing_handles()
            .and_then(|handles| handles.offsets.get(pgoff))
            .ok_or(EINVAL)?;
        let base = buffer.pgoff().ok_or(EINVAL)?;

        Mapping::new(buffer, base, pgoff, pages)
    }

    /// The lines of `/proc/PID/fdinfo/FD`.
    pub(crate) fn show_fdinfo(&self, seq: &SeqFile) {
        let identity = self.device().identity();
        let driver = CStr::from_bytes_until_nul(identity.driver.as_bytes()).unwrap_or(c"");

        seq_print!(seq, "accel-driver:\t{}\n", driver.to_str().unwrap_or(""));
        seq_print!(seq, "accel-number:\t{}\n", identity.number);
        if self.node() == Node::Compute {
            seq_print!(seq, "accel-buffers:\t{}\n", self.buffer_count.load(Relaxed));
            seq_print!(
                seq,
                "accel-buffer-bytes:\t{}\n",
                self.buffer_bytes.load(Relaxed)
            );
        }
        if let Ok(guard) = self.device().slot().enter(Kind::FDINFO) {
            guard.fdinfo(self, seq);
        }
    }
}
