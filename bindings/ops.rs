// SPDX-License-Identifier: GPL-2.0

//! The boundary between core and driver: the typed [`Driver`] trait on the driver's side, one
//! `repr(C)` table of plain functions on the core's.
//!
//! The table and its functions are made by generic code and so lie in the driver's module; the core
//! has them, and the driver's data, in an [`Erased`], which is dropped before the module can go.
//! Everything the core keeps for longer (names, sizes) is copied at registration.
//!
//! # Lifetimes
//!
//! The data of a driver may borrow its parent device for `'bound`, the time until the parent is
//! unbound. The core makes the data itself, through [`Driver::new`], which must work for every
//! `'bound`: so the data can borrow from the parent and from what is `'static`, and from nothing
//! else that might be gone before it. Callbacks must likewise work for every `'bound`, so what they
//! get cannot leave them.

use super::{
    declared::{
        check_attributes,
        check_debug_files,
        AttributeEntry,
        DebugFileEntry,
        RawAttribute,
        RawDebugFile, //
    },
    dma_map::DmaMapping,
    errno::{
        check,
        EOPNOTSUPP,
        EPROTO, //
    },
    ioctl::{
        check_table,
        IoctlEntry,
        RawIoctl, //
    }, //
};
use crate::{
    device::{
        Description,
        Device, //
    },
    file::File,
    job::{
        Client,
        Timeline, //
    },
    mm::{
        Buffer,
        Region, //
    },
    reset::Contexts,
    state::{
        Cause,
        State, //
    }, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    device::{
        self,
        Bound,
        Core, //
    },
    error::{
        from_result,
        to_result,
        VTABLE_DEFAULT_ERROR, //
    },
    ffi::{
        c_int,
        c_void, //
    },
    prelude::*,
    seq_file::SeqFile,
    sync::Arc, //
};

/// A driver of accelerators.
///
/// The type itself is a name only; what the driver knows of one device is its [`Data`], of one open
/// compute file its [`Context`]. There is nothing to clean up by hand: both are dropped by the
/// core, the contexts first, when nothing can use them any more.
///
/// `samples/accel_null.rs` is the smallest example.
///
/// [`Data`]: Driver::Data
/// [`Context`]: Driver::Context
#[vtable]
pub trait Driver: Sized + 'static {
    /// The kind of device that this driver is bound to: `pci::Device<Bound>`,
    /// `platform::Device<Bound>` or `device::Device<Bound>`.
    type Parent: super::parent::Parent;

    /// What probe tells [`Driver::new`]; `()` for nothing.
    type Config: 'static;

    /// What the driver knows of one device. May own what is borrowed from the parent: BARs, say.
    type Data<'bound>: Send + Sync + 'bound;

    /// What the driver knows of one open compute file.
    type Context: Send + Sync;

    /// Names and limits.
    const DESCRIPTION: Description;

    /// The driver's ioctls, in the order of their numbers, from `ACCEL_NR_DRIVER`.
    const IOCTLS: &'static [IoctlEntry<Self>];

    /// Attributes that the devices have beside those of the core.
    const ATTRIBUTES: &'static [AttributeEntry<Self>] = &[];

    /// Files that root may read in debugfs, beside those of the core.
    const DEBUG_FILES: &'static [DebugFileEntry<Self>] = &[];

    /// Makes sure that the device does nothing that an earlier driver, or firmware, had it do. It
    /// may be accessed, but accesses no memory itself: it becomes a bus master after this, unless
    /// another accelerator on its parent has made it one.
    ///
    /// Also called last of all, when the data is dropped and the device is no bus master any more:
    /// whoever is bound to the parent next finds it silent.
    ///
    /// # Errors
    ///
    /// Become the error of the registration.
    fn quiesce(_parent: &Self::Parent) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Makes the data of a device. The device is awake and, if it is on PCI, enabled, a bus master
    /// and limited to [`Description::dma_bits`]; interrupts come after this has returned.
    ///
    /// When the data of the last accelerator on a parent is dropped, the parent is no bus master any
    /// more. It still is for those before, which stop what is theirs in [`Driver::close`] and their
    /// own drops; and it is when this fails: whatever makes the device access memory comes after all
    /// that may fail.
    ///
    /// # Errors
    ///
    /// Become the error of the registration.
    fn new<'bound>(
        parent: &'bound Self::Parent,
        config: Self::Config,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound;

    /// Makes the context of a compute file that is being opened.
    ///
    /// # Errors
    ///
    /// Become the errno of `open(2)`.
    fn open(device: &Lent<'_, '_, Self>) -> impl PinInit<Self::Context, Error>;

    /// Tells the device that a context is about to be dropped: when its file is closed, or the
    /// device goes. The device must not use anything that the context owns after this.
    fn close(_device: &Lent<'_, '_, Self>, _context: Pin<&Self::Context>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Says what a mapping of `size` bytes at mmap offset `offset` (below `ACCEL_MMAP_BUFFERS`)
    /// shows. Both are multiples of the page size.
    ///
    /// # Errors
    ///
    /// Become the errno of `mmap(2)`; without this function it is `EINVAL`.
    fn mmap(_call: &Call<'_, '_, Self>, _offset: u64, _size: u64) -> Result<Region> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Whether `poll(2)` should call the file readable, beyond its timelines. [`Call::wake`] has
    /// pollers ask again.
    fn poll(_call: &Call<'_, '_, Self>) -> bool {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Adds lines to `/proc/PID/fdinfo/FD`: `key:\tvalue\n`.
    fn fdinfo(_call: &Call<'_, '_, Self>, _seq: &SeqFile) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Handles interrupt `vector` of [`Description::interrupts`], in a thread. May sleep, but not
    /// wait for user space. Returns whether the device had raised it.
    fn interrupt(_device: &Lent<'_, '_, Self>, _vector: u32) -> bool {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Does what is due, at or after the earliest time that [`Lent::set_alarm`] was asked for since
    /// the last such call began. Not twice at a time. May sleep, but not wait for user space, nor
    /// for an interrupt without a limit; may set the alarm again.
    fn alarm(_device: &Lent<'_, '_, Self>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Brings the device back to work, whatever it is doing and whatever state it is in; `cause`
    /// is why. Without this function a device that would be reset stays [`State::NeedsReset`].
    ///
    /// No call of the driver is in progress but interrupts, and none begins before this has
    /// returned: neither of user space nor the alarm. Registers that user space has mapped are not
    /// mapped any more; they are again when they are touched.
    ///
    /// Ends the jobs that the device does not do any more, with `EIO` or what the driver documents;
    /// those who wait for them do so meanwhile. May sleep, but not without a limit: the end of the
    /// device waits for this ([`Lent::is_going`]).
    ///
    /// [`Contexts::Lost`] when what the contexts had on the device is gone: then no call on those
    /// that are open comes any more (it is `ESTALE`) but [`Driver::close`].
    ///
    /// # Errors
    ///
    /// It did not help: the device is [`State::Malfunction`] from then on, until root asks for
    /// another reset.
    fn reset(_device: &Lent<'_, '_, Self>, _cause: Cause) -> Result<Contexts> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Looks whether the device is well, every [`Description::check_ms`] while it is operational.
    /// Calls may be in progress, but neither the alarm nor a reset. May sleep, but not without a
    /// limit.
    ///
    /// # Errors
    ///
    /// It is not: it is reset, with [`Cause::Watchdog`].
    fn check(_device: &Lent<'_, '_, Self>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// What a callback of the driver is lent for as long as it runs: the driver's data and the parent
/// device, which is bound for that time.
pub struct Lent<'a, 'bound, D: Driver> {
    data: Pin<&'a D::Data<'bound>>,
    parent: &'a D::Parent,
    device: &'a Device,
}

impl<'a, 'bound, D: Driver> Lent<'a, 'bound, D> {
    /// The driver's data.
    #[inline]
    pub fn data(&self) -> Pin<&'a D::Data<'bound>> {
        self.data
    }

    /// The parent device, bound.
    #[inline]
    pub fn parent(&self) -> &'a D::Parent {
        self.parent
    }

    /// Makes a buffer of `size` bytes, rounded up to pages, for the driver's own use or for
    /// [`Driver::mmap`] to show.
    ///
    /// # Errors
    ///
    /// `EINVAL` for 0 or more than `ACCEL_BUFFER_SIZE_MAX`; `ENOMEM`.
    pub fn new_buffer(&self, size: u64) -> Result<Arc<Buffer>> {
        self.device.new_buffer(size)
    }

    /// Lets the device access all of `buffer`, for reading and writing, until the result is dropped.
    ///
    /// Does not build for a driver without [`Description::dma_bits`].
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` when there is memory that the device does not reach; `ENOMEM`, also where it
    /// reaches copies only.
    pub fn map_dma(&self, buffer: Arc<Buffer>) -> Result<DmaMapping> {
        const {
            assert!(
                D::DESCRIPTION.dma_bits.is_some(),
                "a driver that does DMA says how many bits of addresses its device has"
            );
        }
        // SAFETY: The parent is bound for as long as the data lives, which is lent, and the mappings
        // end after it.
        unsafe { self.device.dma_mappings().map(buffer) }
    }

    /// Has [`Driver::alarm`] called at `at_ns` or soon after, if it is not to be called before. A
    /// time that has passed is now.
    ///
    /// The call sees what was done before this. Where an alarm is set to that time or an earlier
    /// one, this is a comparison.
    ///
    /// Does not build for a driver without [`Driver::alarm`].
    ///
    /// `at_ns`: `CLOCK_MONOTONIC` in nanoseconds, as [`crate::now_ns`]; [`i64::MAX`] is never.
    #[inline]
    pub fn set_alarm(&self, at_ns: i64) {
        const { assert!(D::HAS_ALARM, "a driver that sets an alarm handles it") }
        self.device.slot().set_alarm(at_ns);
    }

    /// Whether the device is going, which waits for calls that are in progress: those that have much
    /// to do should give up then, with `ENODEV`.
    pub fn is_going(&self) -> bool {
        self.device.slot().is_closing()
    }

    /// Whether a call may go on that has much to do, and reaches points at which it could give up:
    /// the end of the device, a reset, and its sleep wait for calls that are in progress.
    ///
    /// Not for [`Driver::reset`] and what it calls, which nothing but the end of the device waits
    /// for.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the device is going; `EAGAIN` when something else waits for the call.
    pub fn go_on(&self) -> Result {
        self.device.go_on()
    }

    /// Asks for a reset, and returns: [`Driver::reset`] is called as soon as nobody is in the driver
    /// any more. Until it begins, others that ask for one get the same.
    ///
    /// `cause` is [`Cause::Deadline`] or [`Cause::Driver`]; the others are for who has them, and
    /// count as the latter. Does not sleep.
    pub fn request_reset(&self, cause: Cause) {
        self.device.request_reset(match cause {
            Cause::Deadline => cause,
            _ => Cause::Driver,
        });
    }

    /// Gives the device up, at once: it is [`State::Malfunction`] until root resets it. Calls and
    /// opens are `EIO` from now on; those that are in progress go on. Its jobs are for the driver to
    /// end. Does not sleep.
    pub fn fail(&self) {
        self.device.give_up(State::Malfunction);
    }

    /// Has the device do nothing until somebody resets it: it is [`State::NeedsReset`]. Otherwise as
    /// [`Self::fail`].
    pub fn needs_reset(&self) {
        self.device.give_up(State::NeedsReset);
    }

    /// The error of a call that cannot go on before the device has been reset, for which the driver
    /// has asked: the core makes the call again then, with the same arguments, which it must not have
    /// changed. Only for ioctls.
    pub fn after_reset(&self) -> Error {
        ERESTARTNOINTR
    }

    /// Lets the parent access memory again after [`Lent::stop_dma`]: for [`Driver::reset`], when the
    /// device does as it is told.
    pub fn start_dma(&self) {
        self.device.start_dma();
    }

    /// How many interrupt vectors there are: 0, or from [`Description::interrupts`]' `min` to `max`.
    pub fn interrupts(&self) -> u32 {
        self.device.interrupts()
    }

    /// For a device that does not do as it is told: keeps the parent, if it is on PCI, from accessing
    /// memory, whatever it was doing. When this returns it does not, but for what was on its way.
    ///
    /// That holds until an accelerator is registered on the parent. Message-signalled interrupts are
    /// accesses of memory: none come any more. Other accelerators on the parent are hit too.
    pub fn stop_dma(&self) {
        self.device.stop_dma();
    }
}

/// A call from user space on an open compute file.
pub struct Call<'a, 'bound, D: Driver> {
    lent: Lent<'a, 'bound, D>,
    context: Pin<&'a D::Context>,
    file: &'a File,
}

impl<'a, 'bound, D: Driver> core::ops::Deref for Call<'a, 'bound, D> {
    type Target = Lent<'a, 'bound, D>;

    fn deref(&self) -> &Self::Target {
        &self.lent
    }
}

impl<'a, D: Driver> Call<'a, '_, D> {
    /// The file's context.
    #[inline]
    pub fn context(&self) -> Pin<&'a D::Context> {
        self.context
    }

    /// The buffer that the file knows by `handle`.
    ///
    /// # Errors
    ///
    /// `ENOENT`.
    pub fn buffer(&self, handle: u32) -> Result<Arc<Buffer>> {
        self.file.buffer(handle)
    }

    /// The timeline that the file knows by `handle`.
    ///
    /// # Errors
    ///
    /// `ENOENT`.
    pub fn timeline(&self, handle: u32) -> Result<Arc<Timeline>> {
        self.file.timeline(handle)
    }

    /// The application that the file belongs to, to be kept: who learns of a fault later, and of no
    /// job that it was for, tells it through this.
    pub fn client(&self) -> Client {
        Client::new(self.file.watch())
    }

    /// Wakes whoever polls the file.
    pub fn wake(&self) {
        self.file.wake();
    }

    /// # Safety
    ///
    /// For `'a`, `raw` must be valid and come from the core, in a call through the table of `D`
    /// that a guard is held for, with a context of `D`.
    pub(super) unsafe fn from_raw(raw: *const RawCall) -> Self {
        // SAFETY: `raw` is valid.
        let raw = unsafe { &*raw };

        Self {
            // SAFETY: By this function's requirements.
            lent: unsafe { Lent::from_raw(raw) },
            // SAFETY: The context was made by `open::<D>()` in a pinned box, and is dropped when no
            // guard is held on the file's behalf.
            context: unsafe { Pin::new_unchecked(&*raw.context.cast()) },
            // SAFETY: Calls with a context come from a file, which outlives the call.
            file: unsafe { &*raw.file },
        }
    }
}

/// [`Call`] and [`Lent`], erased.
#[repr(C)]
pub(crate) struct RawCall {
    data: *const c_void,
    parent: *mut bindings::device,
    device: *const Device,
    /// NULL where there is no file yet, or none at all.
    context: *mut c_void,
    file: *const File,
}

impl<D: Driver> Lent<'_, '_, D> {
    /// # Safety
    ///
    /// For the returned value's life, `raw` must come from the core, in a call through the table of
    /// `D` for as long as which the data is not dropped and the parent is bound.
    pub(super) unsafe fn from_raw(raw: &RawCall) -> Self {
        // SAFETY: The parent is bound for as long as the data lives.
        let parent = unsafe { device::Device::<Bound>::from_raw(raw.parent) };

        Self {
            // SAFETY: The data was made by `Erased::new::<D>()` in a pinned box. It was made for
            // another lifetime, which makes no difference to its layout; callbacks are generic in
            // that lifetime and cannot tell.
            data: unsafe { Pin::new_unchecked(&*raw.data.cast()) },
            // SAFETY: `Erased::new` got this very parent as a `D::Parent`.
            parent: unsafe { <D::Parent as super::parent::Parent>::from_device_unchecked(parent) },
            // SAFETY: The core's device outlives the driver's data.
            device: unsafe { &*raw.device },
        }
    }
}

/// The version of [`RawOps`]; changes when the meaning of a field does, or of what it points to.
const ABI: u32 = 1;

/// The table between core and driver.
///
/// Once released, fields keep their places and their meaning; new ones go to the end, as an
/// `Option` whose `None` is what was before. A table that is longer than the core's is taken, its
/// end is not looked at; a shorter one is refused, see [`Ops::check`].
#[repr(C)]
pub(crate) struct RawOps {
    /// Bytes of the table that the driver was built with.
    size: u32,
    abi: u32,
    ioctls: *const RawIoctl,
    ioctls_len: u32,
    open: unsafe extern "C" fn(call: *const RawCall, context: *mut *mut c_void) -> c_int,
    close: unsafe extern "C" fn(call: *const RawCall),
    mmap: Option<
        unsafe extern "C" fn(
            call: *const RawCall,
            offset: u64,
            size: u64,
            region: *mut Option<Region>,
        ) -> c_int,
    >,
    poll: Option<unsafe extern "C" fn(call: *const RawCall) -> bool>,
    fdinfo: Option<unsafe extern "C" fn(call: *const RawCall, seq: *const SeqFile)>,
    interrupt: Option<unsafe extern "C" fn(call: *const RawCall, vector: u32) -> bool>,
    drop_data: unsafe extern "C" fn(data: *mut c_void),
    alarm: Option<unsafe extern "C" fn(call: *const RawCall)>,
    reset:
        Option<unsafe extern "C" fn(call: *const RawCall, cause: Cause, lost: *mut bool) -> c_int>,
    check: Option<unsafe extern "C" fn(call: *const RawCall) -> c_int>,
    quiesce: Option<unsafe extern "C" fn(parent: *mut bindings::device) -> c_int>,
    attributes: *const RawAttribute,
    attributes_len: u32,
    debug_files_len: u32,
    debug_files: *const RawDebugFile,
}

// SAFETY: The table is constant.
unsafe impl Sync for RawOps {}

struct Table<D>(PhantomData<D>);

impl<D: Driver> Table<D> {
    const CHECK: () = {
        let name = D::DESCRIPTION.uapi_name.len();

        assert!(0 < name && name < 32, "uapi_name has 1 to 31 bytes");
        assert!(
            D::HAS_INTERRUPT == D::DESCRIPTION.interrupts.is_some(),
            "a driver that asks for interrupts handles them, and the reverse"
        );
        assert!(
            D::HAS_CHECK == (D::DESCRIPTION.check_ms != 0),
            "a driver that has its device checked says how often, and the reverse"
        );
    };

    const OPS: RawOps = RawOps {
        size: size_of::<RawOps>() as u32,
        abi: ABI,
        // `IoctlEntry` is transparent.
        ioctls: D::IOCTLS.as_ptr().cast(),
        ioctls_len: check_table(D::IOCTLS),
        open: Self::open,
        close: Self::close,
        mmap: if D::HAS_MMAP { Some(Self::mmap) } else { None },
        poll: if D::HAS_POLL { Some(Self::poll) } else { None },
        fdinfo: if D::HAS_FDINFO {
            Some(Self::fdinfo)
        } else {
            None
        },
        interrupt: if D::HAS_INTERRUPT {
            Some(Self::interrupt)
        } else {
            None
        },
        drop_data: Self::drop_data,
        alarm: if D::HAS_ALARM {
            Some(Self::alarm)
        } else {
            None
        },
        reset: if D::HAS_RESET {
            Some(Self::reset)
        } else {
            None
        },
        check: if D::HAS_CHECK {
            Some(Self::check)
        } else {
            None
        },
        quiesce: if D::HAS_QUIESCE {
            Some(Self::quiesce)
        } else {
            None
        },
        // The entries are transparent.
        attributes: D::ATTRIBUTES.as_ptr().cast(),
        attributes_len: check_attributes(D::ATTRIBUTES),
        debug_files_len: check_debug_files(D::DEBUG_FILES),
        debug_files: D::DEBUG_FILES.as_ptr().cast(),
    };

    /// # Safety
    ///
    /// `raw` as [`Lent::from_raw`] asks for; `context` is valid for a write.
    unsafe extern "C" fn open(raw: *const RawCall, context: *mut *mut c_void) -> c_int {
        from_result(|| {
            // SAFETY: By this function's requirements.
            let lent = unsafe { Lent::<D>::from_raw(&*raw) };
            let boxed = KBox::pin_init(D::open(&lent), GFP_KERNEL_ACCOUNT)?;
            // SAFETY: What is pinned stays where it is until `close` makes it a box again.
            let boxed = KBox::into_raw(unsafe { Pin::into_inner_unchecked(boxed) });

            // SAFETY: By this function's requirements.
            unsafe { *context = boxed.cast() };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `raw` as [`Lent::from_raw`] asks for, with a context that comes from `open` and is not used
    /// again.
    unsafe extern "C" fn close(raw: *const RawCall) {
        // SAFETY: By this function's requirements.
        let raw = unsafe { &*raw };
        // SAFETY: By this function's requirements. It stays pinned: it is dropped where it is.
        let context = Pin::from(unsafe { KBox::<D::Context>::from_raw(raw.context.cast()) });

        if D::HAS_CLOSE {
            // SAFETY: By this function's requirements.
            D::close(&unsafe { Lent::<D>::from_raw(raw) }, context.as_ref());
        }
    }

    /// # Safety
    ///
    /// `raw` as [`Call::from_raw`] asks for; `region` is valid for a write.
    unsafe extern "C" fn mmap(
        raw: *const RawCall,
        offset: u64,
        size: u64,
        region: *mut Option<Region>,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By this function's requirements.
            let call = unsafe { Call::<D>::from_raw(raw) };
            let shown = D::mmap(&call, offset, size)?;

            // SAFETY: By this function's requirements.
            unsafe { *region = Some(shown) };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `raw` as [`Call::from_raw`] asks for.
    unsafe extern "C" fn poll(raw: *const RawCall) -> bool {
        // SAFETY: By this function's requirements.
        D::poll(&unsafe { Call::<D>::from_raw(raw) })
    }

    /// # Safety
    ///
    /// `raw` as [`Call::from_raw`] asks for; `seq` is valid.
    unsafe extern "C" fn fdinfo(raw: *const RawCall, seq: *const SeqFile) {
        // SAFETY: By this function's requirements.
        unsafe { D::fdinfo(&Call::<D>::from_raw(raw), &*seq) }
    }

    /// # Safety
    ///
    /// `raw` as [`Lent::from_raw`] asks for.
    unsafe extern "C" fn interrupt(raw: *const RawCall, vector: u32) -> bool {
        // SAFETY: By this function's requirements.
        D::interrupt(&unsafe { Lent::<D>::from_raw(&*raw) }, vector)
    }

    /// # Safety
    ///
    /// `raw` as [`Lent::from_raw`] asks for.
    unsafe extern "C" fn alarm(raw: *const RawCall) {
        // SAFETY: By this function's requirements.
        D::alarm(&unsafe { Lent::<D>::from_raw(&*raw) });
    }

    /// # Safety
    ///
    /// `parent` is bound, and is a `D::Parent`.
    unsafe extern "C" fn quiesce(parent: *mut bindings::device) -> c_int {
        // SAFETY: By this function's requirements.
        let parent = unsafe {
            <D::Parent as super::parent::Parent>::from_device_unchecked(
                device::Device::<Bound>::from_raw(parent),
            )
        };

        from_result(|| D::quiesce(parent).map(|()| 0))
    }

    /// # Safety
    ///
    /// `raw` as [`Lent::from_raw`] asks for; `lost` is valid for a write.
    unsafe extern "C" fn reset(raw: *const RawCall, cause: Cause, lost: *mut bool) -> c_int {
        from_result(|| {
            // SAFETY: By this function's requirements.
            let contexts = D::reset(&unsafe { Lent::<D>::from_raw(&*raw) }, cause)?;

            // SAFETY: By this function's requirements.
            unsafe { *lost = contexts == Contexts::Lost };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `raw` as [`Lent::from_raw`] asks for.
    unsafe extern "C" fn check(raw: *const RawCall) -> c_int {
        // SAFETY: By this function's requirements.
        from_result(|| D::check(&unsafe { Lent::<D>::from_raw(&*raw) }).map(|()| 0))
    }

    /// # Safety
    ///
    /// `data` comes from [`Erased::new`], and is not used again.
    unsafe extern "C" fn drop_data(data: *mut c_void) {
        // SAFETY: By this function's requirements. It stays pinned: it is dropped where it is.
        drop(unsafe { KBox::<D::Data<'_>>::from_raw(data.cast()) });
    }
}

/// A driver's table.
///
/// # Invariants
///
/// The table lies in the driver's module, which is there for as long as this value is used.
#[derive(Clone, Copy)]
pub(crate) struct Ops(&'static RawOps);

impl Ops {
    /// The table of `D`.
    pub(super) fn of<D: Driver>() -> Self {
        const { Table::<D>::CHECK };
        Self(&Table::<D>::OPS)
    }

    /// Whether core and driver agree about the table.
    pub(super) fn check(self) -> Result {
        if self.0.abi != ABI || (self.0.size as usize) < size_of::<RawOps>() {
            return Err(EPROTO.into());
        }
        Ok(())
    }

    /// Whether the driver lies in `module`.
    pub(super) fn is_in(self, module: *const bindings::module) -> bool {
        // SAFETY: `module` is valid; the address is only compared.
        unsafe { super::raw::accel_within_module(core::ptr::from_ref(self.0).cast(), module) }
    }

    /// Number of the driver's ioctls.
    pub(crate) fn ioctls_len(self) -> usize {
        self.0.ioctls_len as usize
    }

    /// The entry at `index`, if there is one.
    #[inline]
    pub(crate) fn ioctl(self, index: usize) -> Option<&'static RawIoctl> {
        if index >= self.ioctls_len() {
            return None;
        }
        // SAFETY: `ioctls` has `ioctls_len` entries, constants in the driver's module.
        Some(unsafe { &*self.0.ioctls.add(index) })
    }

    /// The driver's attributes.
    pub(super) fn attributes(self) -> &'static [RawAttribute] {
        // SAFETY: There are as many, constants in the driver's module.
        unsafe { core::slice::from_raw_parts(self.0.attributes, self.0.attributes_len as usize) }
    }

    /// The driver's files in debugfs.
    pub(crate) fn debug_files(self) -> &'static [RawDebugFile] {
        // SAFETY: As above.
        unsafe { core::slice::from_raw_parts(self.0.debug_files, self.0.debug_files_len as usize) }
    }

    /// Whether the driver can reset its devices.
    pub(super) fn has_reset(self) -> bool {
        self.0.reset.is_some()
    }

    /// Whether the driver handles interrupts.
    pub(super) fn has_interrupt(self) -> bool {
        self.0.interrupt.is_some()
    }
}

/// A driver's data and its table, without their types.
///
/// # Invariants
///
/// `data` was made for `ops`, borrows nothing but `parent` and what is `'static`, and is owned by
/// this value. `parent` is bound to the driver and the driver's module is there for as long as this
/// value exists.
pub(super) struct Erased {
    ops: Ops,
    data: NonNull<c_void>,
    parent: *mut bindings::device,
}

// SAFETY: `Driver::Data` is `Send`, the rest are pointers to what belongs to no thread.
unsafe impl Send for Erased {}
// SAFETY: `Driver::Data` is `Sync`.
unsafe impl Sync for Erased {}

impl Erased {
    /// Makes the data of a device.
    ///
    /// # Safety
    ///
    /// The value must be dropped before `dev` is unbound.
    pub(super) unsafe fn new<D: Driver>(
        dev: &device::Device<Core<'_>>,
        config: D::Config,
    ) -> Result<Self> {
        let bound: &device::Device<Bound> = dev;
        let parent = <D::Parent as super::parent::Parent>::from_device(bound)?;
        let data = KBox::pin_init(D::new(parent, config), GFP_KERNEL)?;
        // SAFETY: What is pinned stays where it is until `drop_data` makes it a box again.
        let data = KBox::into_raw(unsafe { Pin::into_inner_unchecked(data) });

        // INVARIANT: `data` and the table are both of `D`. `D::new` is generic in the lifetime that
        // it borrows `parent` for. The caller drops this before `dev` is unbound, and a module that
        // is bound to a device is not unloaded.
        Ok(Self {
            ops: Ops::of::<D>(),
            data: NonNull::new(data.cast()).ok_or(ENOMEM)?,
            parent: super::parent::raw(bound),
        })
    }

    /// The table.
    #[inline]
    pub(super) fn ops(&self) -> Ops {
        self.ops
    }

    #[inline]
    pub(super) fn call(&self, device: &Device) -> RawCall {
        RawCall {
            data: self.data.as_ptr(),
            parent: self.parent,
            device,
            context: core::ptr::null_mut(),
            file: core::ptr::null(),
        }
    }

    #[inline]
    fn file_call(&self, file: &File) -> RawCall {
        RawCall {
            context: file.context().get(),
            file,
            ..self.call(file.device())
        }
    }

    /// Makes a context.
    pub(super) fn open(&self, device: &Device) -> Result<*mut c_void> {
        let mut context = core::ptr::null_mut();

        // SAFETY: `data` and `parent` are valid by the type invariants.
        to_result(unsafe { (self.ops.0.open)(&self.call(device), &mut context) })?;
        Ok(context)
    }

    /// Closes and drops a context.
    ///
    /// # Safety
    ///
    /// `context` comes from [`Self::open`] and is not used again.
    pub(super) unsafe fn close(&self, device: &Device, context: *mut c_void) {
        let call = RawCall {
            context,
            ..self.call(device)
        };

        // SAFETY: By this function's requirements and the type invariants.
        unsafe { (self.ops.0.close)(&call) }
    }

    /// Calls the handler of `ioctl`.
    ///
    /// # Safety
    ///
    /// `ioctl` is this table's, `args` and `arrays` are as it asks for; `file` has a context.
    #[inline(always)]
    pub(super) unsafe fn call_ioctl(
        &self,
        file: &File,
        ioctl: &RawIoctl,
        args: *mut c_void,
        arrays: *const super::ioctl::RawArray,
    ) -> Result {
        // SAFETY: By this function's requirements and the type invariants.
        check(unsafe { (ioctl.handler)(&self.file_call(file), args, arrays) })
    }

    /// # Safety
    ///
    /// `file` has a context.
    pub(super) unsafe fn mmap(&self, file: &File, offset: u64, size: u64) -> Result<Region> {
        let mmap = self.ops.0.mmap.ok_or(EINVAL)?;
        let mut region = None;

        // SAFETY: By this function's requirements and the type invariants.
        to_result(unsafe { mmap(&self.file_call(file), offset, size, &mut region) })?;
        region.ok_or(EINVAL)
    }

    /// # Safety
    ///
    /// `file` has a context.
    pub(super) unsafe fn poll(&self, file: &File) -> bool {
        match self.ops.0.poll {
            // SAFETY: By this function's requirements and the type invariants.
            Some(poll) => unsafe { poll(&self.file_call(file)) },
            None => false,
        }
    }

    /// # Safety
    ///
    /// `file` has a context.
    pub(super) unsafe fn fdinfo(&self, file: &File, seq: &SeqFile) {
        if let Some(fdinfo) = self.ops.0.fdinfo {
            // SAFETY: By this function's requirements and the type invariants.
            unsafe { fdinfo(&self.file_call(file), seq) }
        }
    }

    /// Handles an interrupt.
    pub(super) fn interrupt(&self, device: &Device, vector: u32) -> bool {
        match self.ops.0.interrupt {
            // SAFETY: `data` and `parent` are valid by the type invariants.
            Some(interrupt) => unsafe { interrupt(&self.call(device), vector) },
            None => false,
        }
    }

    /// Resets the device.
    pub(super) fn reset(&self, device: &Device, cause: Cause) -> Result<Contexts> {
        let reset = self.ops.0.reset.ok_or(EOPNOTSUPP)?;
        let mut lost = false;

        // SAFETY: `data` and `parent` are valid by the type invariants, and `lost` for a write.
        to_result(unsafe { reset(&self.call(device), cause, &mut lost) })?;
        Ok(match lost {
            true => Contexts::Lost,
            false => Contexts::Kept,
        })
    }

    /// Looks whether the device is well.
    pub(super) fn check(&self, device: &Device) -> Result {
        match self.ops.0.check {
            // SAFETY: `data` and `parent` are valid by the type invariants.
            Some(check) => to_result(unsafe { check(&self.call(device)) }),
            None => Ok(()),
        }
    }

    /// Handles the alarm.
    pub(super) fn alarm(&self, device: &Device) {
        if let Some(alarm) = self.ops.0.alarm {
            // SAFETY: `data` and `parent` are valid by the type invariants.
            unsafe { alarm(&self.call(device)) }
        }
    }
}

impl Drop for Erased {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, and this is the end of `data`.
        unsafe { (self.ops.0.drop_data)(self.data.as_ptr()) };
        if let Some(quiesce) = self.ops.0.quiesce {
            // A device that is gone does nothing.
            // SAFETY: By the type invariants the parent is bound.
            let _ = unsafe { quiesce(self.parent) };
        }
    }
}
