// SPDX-License-Identifier: GPL-2.0

//! An open file: a compute file with its context, buffers and timelines, or a control file.
//!
//! Handles are numbers from 1 that only this file knows. What they name lives on for as long as a
//! mapping or a job uses it. Whoever shares the file (a fork, a passed descriptor) shares all.

use crate::{
    bindings::{
        parent::RegisterPages,
        slot::{
            ContextSlot,
            Kind,
            MonitorKind, //
        },
        uapi,
        wait::WaitQueue, //
    },
    device::{
        Device,
        Opened, //
    },
    handles::{
        Handles,
        Ranges, //
    },
    job::{
        Timeline,
        Watch, //
    },
    mm::{
        Buffer,
        Mapping,
        Region,
        Shown, //
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

/// Buffers, and likewise timelines, of one file.
const LIMIT: usize = uapi::ACCEL_HANDLES_MAX as usize;

/// First page offset of buffers; below is the driver's.
const BUFFERS_PGOFF: usize = (uapi::ACCEL_MMAP_BUFFERS >> PAGE_SHIFT) as usize;
/// From here on page offsets are given out in units of 2 MiB, so that large buffers are aligned.
const LARGE_PGOFF: usize = 1 << (43 - PAGE_SHIFT);
/// End of the offsets that a 32-bit `mmap2` can name with 4 KiB pages.
const END_PGOFF: usize = 1 << (44 - PAGE_SHIFT);

/// What a file's handles and mmap offsets name.
#[pin_data]
struct Objects {
    #[pin]
    buffers: Handles<Buffer>,
    #[pin]
    timelines: Handles<Timeline>,
    /// The buffers that are not large, by page offset.
    #[pin]
    small: Ranges<Buffer>,
    /// The large ones, aligned.
    #[pin]
    large: Ranges<Buffer>,
}

impl Objects {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            buffers <- Handles::new(),
            timelines <- Handles::new(),
            small <- Ranges::new(BUFFERS_PGOFF, LARGE_PGOFF),
            large <- Ranges::new(LARGE_PGOFF, END_PGOFF),
        })
    }

    /// Where buffers like `buffer` are, and how many pages of it `buffer` takes.
    fn place(&self, buffer: &Buffer) -> (&Ranges<Buffer>, usize) {
        if buffer.is_large() {
            let pages = buffer.pages().next_multiple_of(Buffer::LARGE_PAGES);

            (&self.large, pages)
        } else {
            (&self.small, buffer.pages())
        }
    }

    /// The buffer at page offset `pgoff`, and the offset of its first page.
    fn at(&self, pgoff: usize) -> Option<(usize, Arc<Buffer>)> {
        if pgoff < LARGE_PGOFF {
            self.small.get(pgoff)
        } else {
            self.large.get(pgoff)
        }
    }
}

/// An open file.
#[pin_data]
pub(crate) struct File {
    opened: Opened,
    /// What debugfs knows it by.
    client: u64,
    context: ContextSlot,
    position: Atomic<usize>,
    watch: Arc<Watch>,
    /// Made with the first handle: many files never have one.
    objects: SetOnce<Pin<KBox<Objects>>>,
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
    /// `ENODEV` when it is gone; for a context those of [`Device::enter_open`], `EBUSY` when it has
    /// as many as it takes; `ENOMEM`; the driver's.
    pub(crate) fn open(device: Arc<Device>, node: Node) -> Result<Arc<Self>> {
        match node {
            Node::Compute => {
                let guard = device.enter_open()?;
                let file = Self::new(&device, node)?;

                guard.open(&file)?;
                device.add_file(&file).inspect_err(|_| guard.close(&file))?;
                Ok(file)
            }
            Node::Control => {
                let _monitor = device.slot().monitor(MonitorKind::CONTROL_OPEN)?;
                let file = Self::new(&device, node)?;

                device.add_file(&file)?;
                Ok(file)
            }
        }
    }

    fn new(device: &Arc<Device>, node: Node) -> Result<Arc<Self>> {
        let opened = device.count_open(node)?;
        let watch = Arc::pin_init(Watch::new(), GFP_KERNEL_ACCOUNT)?;
        let client = device.next_client();

        Ok(Arc::pin_init(
            pin_init!(Self {
                opened,
                client,
                context: ContextSlot::empty(),
                position: Atomic::new(0),
                watch,
                objects: SetOnce::new(),
                making <- new_mutex!((), "accel_objects"),
                buffer_count: Atomic::new(0),
                buffer_bytes: Atomic::new(0),
            }),
            GFP_KERNEL_ACCOUNT,
        )?)
    }

    /// Ends a file that nothing uses any more.
    ///
    /// If the device is gone, [`Device::unregister`] has closed the context or is about to.
    pub(crate) fn release(this: Arc<Self>) {
        let device = this.device();

        match this.node() {
            Node::Compute => device.release(&this),
            Node::Control => {
                if let Ok(_monitor) = device.slot().monitor(MonitorKind::CONTROL_RELEASE) {
                    device.remove_file(&this);
                }
            }
        }
        this.signal_all();
    }

    /// Nothing that the file waits for will come any more: the device is gone, or the file.
    pub(crate) fn signal_all(&self) {
        if let Some(objects) = self.existing() {
            objects.timelines.for_each(Timeline::signal_all);
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

    /// A number that no other file of the device has had.
    pub(crate) fn client(&self) -> u64 {
        self.client
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
        let slot = self.device().slot();

        drop(slot.monitor(MonitorKind::POLL)?);
        if self.watch.unseen() {
            return Ok(true);
        }
        Ok(slot
            .enter(Kind::DRIVER_POLL)
            .is_some_and(|guard| guard.poll(self)))
    }

    /// The objects, made if there are none yet.
    fn objects(&self) -> Result<&Objects> {
        if let Some(objects) = self.existing() {
            return Ok(objects);
        }
        let _making = self.making.lock();
        if self.existing().is_none() {
            let objects = KBox::pin_init(Objects::new(), GFP_KERNEL_ACCOUNT)?;

            self.objects.populate(objects);
        }
        self.existing().ok_or(ENOMEM)
    }

    fn existing(&self) -> Option<&Objects> {
        self.objects.as_ref().map(|objects| &**objects)
    }

    /// Gives `buffer` an mmap offset and a handle, and returns the handle.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when there are too many, or no offset is left; `ENOMEM`.
    pub(crate) fn add_buffer(&self, buffer: &Arc<Buffer>) -> Result<u32> {
        let objects = self.objects()?;
        let (ranges, pages) = objects.place(buffer);
        let pgoff = ranges.insert(buffer.clone(), pages)?;

        buffer.set_pgoff(pgoff);
        self.count(buffer, true);
        // Last: whoever finds it finds it complete.
        objects
            .buffers
            .insert(buffer.clone(), LIMIT)
            .inspect_err(|_| {
                ranges.remove(pgoff);
                self.count(buffer, false);
            })
    }

    fn count(&self, buffer: &Buffer, more: bool) {
        if more {
            self.buffer_count.fetch_add(1, Relaxed);
            self.buffer_bytes.fetch_add(buffer.size(), Relaxed);
        } else {
            self.buffer_count.fetch_sub(1, Relaxed);
            self.buffer_bytes.fetch_sub(buffer.size(), Relaxed);
        }
    }

    /// How many buffers there are, and their bytes.
    pub(crate) fn buffers(&self) -> (u64, u64) {
        (
            self.buffer_count.load(Relaxed),
            self.buffer_bytes.load(Relaxed),
        )
    }

    /// How many timelines there are.
    pub(crate) fn timelines(&self) -> usize {
        self.existing()
            .map_or(0, |objects| objects.timelines.count())
    }

    /// Calls `f` with each handle of a buffer and what it names, until it fails.
    pub(crate) fn try_for_each_buffer(&self, f: impl FnMut(u32, &Buffer) -> Result) -> Result {
        match self.existing() {
            Some(objects) => objects.buffers.try_for_each(f),
            None => Ok(()),
        }
    }

    /// The buffer that `handle` names.
    ///
    /// # Errors
    ///
    /// `ENOENT`.
    pub(crate) fn buffer(&self, handle: u32) -> Result<Arc<Buffer>> {
        self.existing()
            .and_then(|objects| objects.buffers.get(handle))
            .ok_or(ENOENT)
    }

    /// Forgets `handle`, and returns what may now be the last reference.
    ///
    /// # Errors
    ///
    /// `ENOENT`.
    pub(crate) fn remove_buffer(&self, handle: u32) -> Result<Arc<Buffer>> {
        let objects = self.existing().ok_or(ENOENT)?;
        let buffer = objects.buffers.remove(handle).ok_or(ENOENT)?;

        if let Some(pgoff) = buffer.pgoff() {
            objects.place(&buffer).0.remove(pgoff);
        }
        self.count(&buffer, false);
        Ok(buffer)
    }

    /// Makes a timeline and returns its handle.
    pub(crate) fn create_timeline(&self) -> Result<u32> {
        let timeline = Arc::pin_init(Timeline::new(self.watch.clone()), GFP_KERNEL_ACCOUNT)?;

        self.objects()?.timelines.insert(timeline, LIMIT)
    }

    /// The timeline that `handle` names.
    ///
    /// # Errors
    ///
    /// `ENOENT`.
    pub(crate) fn timeline(&self, handle: u32) -> Result<Arc<Timeline>> {
        self.existing()
            .and_then(|objects| objects.timelines.get(handle))
            .ok_or(ENOENT)
    }

    /// Forgets `handle`.
    ///
    /// # Errors
    ///
    /// `ENOENT`.
    pub(crate) fn destroy_timeline(&self, handle: u32) -> Result {
        let timeline = self
            .existing()
            .and_then(|objects| objects.timelines.remove(handle))
            .ok_or(ENOENT)?;

        timeline.forget();
        Ok(())
    }

    /// What a new mapping of `pages` pages at page offset `pgoff` shows.
    ///
    /// # Errors
    ///
    /// `EINVAL` nothing is there, or less than that; `ENODEV` the device is gone; for what the driver
    /// shows those of [`Device::enter`], `ESTALE`, the driver's, and those of
    /// [`RegisterPages::find`].
    pub(crate) fn map(&self, pgoff: usize, pages: usize) -> Result<Mapping> {
        if pgoff < BUFFERS_PGOFF {
            let guard = self.device().enter(Kind::DRIVER_MMAP)?;
            let at = |pages: usize| (pages as u64) << PAGE_SHIFT;
            let shown =
                match guard.mmap(self, at(pgoff), at(pages))? {
                    Region::Buffer(buffer) => Shown::Buffer(buffer),
                    Region::Registers { bar, offset, size } => Shown::Registers(
                        RegisterPages::find(self.device().parent(), bar, offset, size)?,
                    ),
                };

            return Mapping::new(shown, pgoff, pgoff, pages);
        }
        let _monitor = self.device().slot().monitor(MonitorKind::MMAP)?;
        let (base, buffer) = self
            .existing()
            .and_then(|objects| objects.at(pgoff))
            .ok_or(EINVAL)?;

        Mapping::new(Shown::Buffer(buffer), base, pgoff, pages)
    }

    /// The lines of `/proc/PID/fdinfo/FD`.
    pub(crate) fn show_fdinfo(&self, seq: &SeqFile) {
        let identity = self.device().identity();
        let driver = CStr::from_bytes_until_nul(identity.driver.as_bytes()).unwrap_or(c"");

        seq_print!(seq, "accel-driver:\t{}\n", driver.to_str().unwrap_or(""));
        seq_print!(seq, "accel-number:\t{}\n", identity.number);
        if self.node() == Node::Compute {
            let (count, bytes) = self.buffers();

            seq_print!(seq, "accel-buffers:\t{}\n", count);
            seq_print!(seq, "accel-buffer-bytes:\t{}\n", bytes);
        }
        if let Some(guard) = self.device().slot().enter(Kind::DRIVER_FDINFO) {
            guard.fdinfo(self, seq);
        }
    }
}
