// SPDX-License-Identifier: GPL-2.0

//! An open file: a compute file with its context, buffers and timelines, or a control file.
//!
//! Handles are numbers from 1 that only this file knows. What they name lives on for as long as a
//! mapping or a job uses it. Whoever shares the file (a fork, a passed descriptor) shares all.

use crate::{
    bindings::{
        opener::Opener,
        parent::RegisterPages,
        slot::{
            ContextSlot,
            Kind,
            MonitorKind, //
        },
        uapi,
        user::Destination,
        wait::{
            now_ns,
            WaitQueue, //
        }, //
    },
    device::Device,
    event::{
        Events,
        Next,
        What, //
    },
    handles::{
        Handles,
        Ranges, //
    },
    job::{
        Timeline,
        Watch, //
    },
    limits::{
        Charge,
        FileAccount,
        Limit,
        Opened, //
    },
    mm::{
        Buffer,
        Mapping,
        Region,
        Shown, //
    },
    state::Cause,
};
use kernel::{
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
        SetOnce, //
    },
};

/// Which of a device's two nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    Compute = 0,
    Control = 1,
}

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

/// How a context was lost.
#[derive(Clone, Copy)]
pub(crate) struct ContextLost {
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub(crate) at_ns: i64,
    /// Of the reset.
    pub(crate) cause: Cause,
}

/// An open file.
pub(crate) struct File {
    device: Arc<Device>,
    opened: Opened,
    opener: Opener,
    /// What debugfs knows it by.
    client: u64,
    context: ContextSlot,
    context_lost: SetOnce<ContextLost>,
    position: Atomic<usize>,
    /// Made with the first handle: many files never have one.
    objects: SetOnce<Pin<KBox<Objects>>>,
    buffer_bytes: Atomic<u64>,
}

impl File {
    /// Opens `node` of a device.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it is gone; for a context those of [`Device::enter_now`], `EBUSY` when it has
    /// as many as it takes; `ENOSPC` when it has as many files, `EDQUOT` when the user has; `ENOMEM`;
    /// the driver's.
    pub(crate) fn open(device: Arc<Device>, node: Node) -> Result<Arc<Self>> {
        match node {
            Node::Compute => {
                let guard = device.enter_now(Kind::OPEN)?;
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
        let init = try_init!(Self {
            opener <- Opener::current(),
            device: device.clone(),
            opened: {
                let account = FileAccount::new(device.account(), node, opener.user());
                let watch = Arc::pin_init(Watch::new(account), GFP_KERNEL_ACCOUNT)?;

                Opened::new(watch, node)?
            },
            client: device.next_client(),
            context: ContextSlot::empty(),
            context_lost: SetOnce::new(),
            position: Atomic::new(0),
            objects: SetOnce::new(),
            buffer_bytes: Atomic::new(0),
        }? Error);

        Arc::try_init(init, GFP_KERNEL_ACCOUNT)
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
        if let Some(events) = this.events() {
            events.forget(this.account());
        }
    }

    /// Nothing that the file waits for will come any more: the device is gone, or the file.
    pub(crate) fn signal_all(&self) {
        if let Some(objects) = self.existing() {
            objects.timelines.for_each(Timeline::signal_all);
        }
    }

    #[inline]
    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
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

    /// Who has opened it.
    pub(crate) fn opener(&self) -> &Opener {
        &self.opener
    }

    /// What it has.
    pub(crate) fn account(&self) -> &FileAccount {
        self.watch().account()
    }

    /// Counts one more thing that it has.
    ///
    /// # Errors
    ///
    /// Those of [`Charge::new`].
    pub(crate) fn charge(&self, limit: Limit) -> Result<Charge> {
        Charge::new(self.watch(), limit)
    }

    pub(crate) fn watch(&self) -> &Arc<Watch> {
        self.opened.watch()
    }

    /// Bytes of the buffers that have a handle.
    pub(crate) fn buffer_bytes(&self) -> u64 {
        self.buffer_bytes.load(Relaxed)
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
        self.watch().queue()
    }

    /// Wakes pollers and waiters.
    pub(crate) fn wake(&self) {
        self.watch().wake();
    }

    /// Whether `poll(2)` calls the file readable, and whether it calls the device gone.
    ///
    /// Who has events is told the end by the last of them: not before it is there.
    pub(crate) fn poll(&self) -> (bool, bool) {
        let (unread, more) = self.events().map_or((false, false), Events::poll);

        let slot = self.device().slot();

        if slot.monitor(MonitorKind::POLL).is_err() {
            return (unread, !more);
        }
        let readable = unread
            || self.watch().unseen()
            || slot
                .enter(Kind::DRIVER_POLL)
                .is_some_and(|guard| guard.poll(self));

        (readable, false)
    }

    /// What the file had on the device is lost, in a reset for `cause`. Called with the device's list
    /// of files locked.
    pub(crate) fn lose_context(&self, cause: Cause) {
        let lost = ContextLost {
            at_ns: now_ns(),
            cause,
        };

        self.context_lost.populate(lost);
        self.watch().tell(lost.at_ns, What::ContextLost(cause));
        self.wake();
    }

    /// When that was, and why, if it was.
    pub(crate) fn context_lost(&self) -> Option<ContextLost> {
        self.context_lost.copy()
    }

    /// Events that were not read, and those to come; `None` if the file never wanted any.
    pub(crate) fn events(&self) -> Option<&Events> {
        self.watch().events()
    }

    /// Does `read(2)`: whole events, as many as there is room for. Returns their bytes. Not inside
    /// the gate, which a user whose memory does not answer would hold up.
    ///
    /// # Errors
    ///
    /// As `struct accel_events` documents; `EFAULT`, for which no event is lost that there is room
    /// for.
    pub(crate) fn read(&self, to: &mut Destination<'_>, may_wait: bool) -> Result<usize> {
        let Some(events) = self.events() else {
            return Err(match self.device().slot().is_closing() {
                true => ENODEV,
                false => EINVAL,
            });
        };
        let mut done = 0;

        loop {
            let err = match events.take(self.account(), to.room()) {
                Next::Event(event) => match event.write(to) {
                    Ok(size) => {
                        done += size;
                        continue;
                    }
                    Err(err) => {
                        events.give_back(self.account(), event);
                        // Somebody may have gone to sleep because there was none.
                        self.wake();
                        err
                    }
                },
                Next::NoRoom | Next::Unwanted => EINVAL,
                Next::End => ENODEV,
                Next::Nothing if done == 0 && may_wait => {
                    self.queue().wait_until(i64::MAX, || events.is_ready())?;
                    continue;
                }
                Next::Nothing => EAGAIN,
            };

            return if done == 0 { Err(err) } else { Ok(done) };
        }
    }

    /// The objects, made if there are none yet.
    fn objects(&self) -> Result<&Objects> {
        if let Some(objects) = self.existing() {
            return Ok(objects);
        }
        let objects = KBox::pin_init(Objects::new(), GFP_KERNEL_ACCOUNT)?;
        let making = self.device.making().lock();
        // Somebody may have been faster.
        let unused = match self.existing() {
            Some(_) => Some(objects),
            None => {
                self.objects.populate(objects);
                None
            }
        };

        drop(making);
        drop(unused);
        self.existing().ok_or(ENOMEM)
    }

    fn existing(&self) -> Option<&Objects> {
        self.objects.as_ref().map(|objects| &**objects)
    }

    /// Gives `buffer` an mmap offset and a handle, and returns the handle. `charge` is for it.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when no offset is left; `ENOMEM`.
    pub(crate) fn add_buffer(&self, buffer: &Arc<Buffer>, charge: Charge) -> Result<u32> {
        let objects = self.objects()?;
        let (ranges, pages) = objects.place(buffer);
        let pgoff = ranges.insert(buffer.clone(), pages)?;

        buffer.set_pgoff(pgoff);
        self.buffer_bytes.fetch_add(buffer.size(), Relaxed);
        // Last: whoever finds it finds it complete.
        objects
            .buffers
            .insert(buffer.clone(), charge)
            .inspect_err(|_| {
                ranges.remove(pgoff);
                self.buffer_bytes.fetch_sub(buffer.size(), Relaxed);
            })
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
        self.buffer_bytes.fetch_sub(buffer.size(), Relaxed);
        Ok(buffer)
    }

    /// Makes a timeline and returns its handle.
    ///
    /// # Errors
    ///
    /// Those of a limit; `ENOMEM`.
    pub(crate) fn create_timeline(&self) -> Result<u32> {
        let charge = self.charge(Limit::Timelines)?;
        let timeline = Arc::pin_init(Timeline::new(self.watch().clone()), GFP_KERNEL_ACCOUNT)?;

        let handle = self.objects()?.timelines.insert(timeline.clone(), charge)?;

        timeline.set_handle(handle);
        Ok(handle)
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
    /// `EINVAL` nothing is there, or less than that; `ENODEV` the device is gone; those of a limit;
    /// for what the driver shows those of [`Device::enter_now`], `ESTALE`, the driver's, and those of
    /// [`RegisterPages::find`].
    pub(crate) fn map(&self, pgoff: usize, pages: usize) -> Result<Mapping> {
        if pgoff < BUFFERS_PGOFF {
            let guard = self.device().enter_now(Kind::DRIVER_MMAP)?;
            let at = |pages: usize| (pages as u64) << PAGE_SHIFT;
            let shown =
                match guard.mmap(self, at(pgoff), at(pages))? {
                    Region::Buffer(buffer) => Shown::Buffer(buffer),
                    Region::Registers { bar, offset, size } => Shown::Registers(
                        RegisterPages::find(self.device().parent(), bar, offset, size)?,
                    ),
                };

            return self.mapping(shown, pgoff, pgoff, pages);
        }
        let _monitor = self.device().slot().monitor(MonitorKind::MMAP)?;
        let (base, buffer) = self
            .existing()
            .and_then(|objects| objects.at(pgoff))
            .ok_or(EINVAL)?;

        self.mapping(Shown::Buffer(buffer), base, pgoff, pages)
    }

    fn mapping(&self, shown: Shown, base: usize, pgoff: usize, pages: usize) -> Result<Mapping> {
        shown.check(base, pgoff, pages)?;
        Ok(Mapping::new(shown, base, self.charge(Limit::Mappings)?))
    }

    /// The lines of `/proc/PID/fdinfo/FD`.
    pub(crate) fn show_fdinfo(&self, seq: &SeqFile) {
        let identity = self.device().identity();
        let driver = CStr::from_bytes_until_nul(identity.driver.as_bytes()).unwrap_or(c"");

        seq_print!(seq, "accel-driver:\t{}\n", driver.to_str().unwrap_or(""));
        seq_print!(seq, "accel-number:\t{}\n", identity.number);
        if self.node() == Node::Compute {
            seq_print!(
                seq,
                "accel-buffers:\t{}\n",
                self.account().used(Limit::Buffers)
            );
            seq_print!(seq, "accel-buffer-bytes:\t{}\n", self.buffer_bytes());
        }
        if let Some(guard) = self.device().slot().enter(Kind::DRIVER_FDINFO) {
            guard.fdinfo(self, seq);
        }
    }
}
