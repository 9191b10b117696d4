// SPDX-License-Identifier: GPL-2.0

//! The boundary between core and driver: the typed [`Driver`] trait on the driver's side
//! (`driver.rs`), one `repr(C)` table of plain functions on the core's.
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
        RawAttribute,
        RawDebugFile, //
    },
    driver::Driver,
    errno::{
        check,
        EOPNOTSUPP,
        EPROTO, //
    },
    ioctl::{
        check_table,
        RawIoctl, //
    },
    lent::{
        Call,
        Lent,
        RawCall, //
    }, //
};
use crate::{
    device::Device,
    file::File,
    mm::Region,
    power::Sleep,
    reset::Contexts,
    state::Cause, //
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::{
        drop_in_place,
        NonNull, //
    }, //
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
        to_result, //
    },
    ffi::{
        c_int,
        c_void, //
    },
    prelude::*,
    seq_file::SeqFile, //
};

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
    suspend: Option<unsafe extern "C" fn(call: *const RawCall, sleep: Sleep) -> c_int>,
    resume: Option<unsafe extern "C" fn(call: *const RawCall, lost: *mut bool) -> c_int>,
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
        assert!(
            D::HAS_SUSPEND == D::HAS_RESUME,
            "a driver that puts its device to sleep wakes it, and the reverse"
        );
        assert!(
            D::HAS_SUSPEND || D::DESCRIPTION.autosuspend_ms == 0,
            "a driver whose device sleeps when it is idle puts it to sleep"
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
        suspend: if D::HAS_SUSPEND {
            Some(Self::suspend)
        } else {
            None
        },
        resume: if D::HAS_RESUME {
            Some(Self::resume)
        } else {
            None
        },
    };

    /// # Safety
    ///
    /// `raw` as [`Lent::from_raw`] asks for; `context` is valid for a write.
    unsafe extern "C" fn open(raw: *const RawCall, context: *mut *mut c_void) -> c_int {
        from_result(|| {
            // SAFETY: By this function's requirements.
            let lent = unsafe { Lent::<D>::from_raw(&*raw) };
            let room = if size_of::<D::Context>() == 0 {
                // SAFETY: A box of nothing dangles. The allocator would find that out itself.
                unsafe { KBox::from_raw(NonNull::<MaybeUninit<D::Context>>::dangling().as_ptr()) }
            } else {
                KBox::new_uninit(GFP_KERNEL_ACCOUNT)?
            };
            let boxed = room.write_pin_init(D::open(&lent))?;
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
        if size_of::<D::Context>() == 0 {
            // SAFETY: It is dropped where it is.
            let context = KBox::into_raw(unsafe { Pin::into_inner_unchecked(context) });

            // SAFETY: It is valid, nobody uses it again, and nothing was allocated.
            unsafe { drop_in_place(context) };
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
    /// `raw` as [`Lent::from_raw`] asks for.
    unsafe extern "C" fn suspend(raw: *const RawCall, sleep: Sleep) -> c_int {
        // SAFETY: By this function's requirements.
        from_result(|| D::suspend(&unsafe { Lent::<D>::from_raw(&*raw) }, sleep).map(|()| 0))
    }

    /// # Safety
    ///
    /// `raw` as [`Lent::from_raw`] asks for; `lost` is valid for a write.
    unsafe extern "C" fn resume(raw: *const RawCall, lost: *mut bool) -> c_int {
        from_result(|| {
            // SAFETY: By this function's requirements.
            let contexts = D::resume(&unsafe { Lent::<D>::from_raw(&*raw) })?;

            // SAFETY: By this function's requirements.
            unsafe { *lost = contexts == Contexts::Lost };
            Ok(0)
        })
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

    /// Whether the driver puts its devices to sleep.
    pub(super) fn has_suspend(self) -> bool {
        self.0.suspend.is_some()
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

    /// Puts the device to sleep.
    pub(super) fn suspend(&self, device: &Device, sleep: Sleep) -> Result {
        match self.ops.0.suspend {
            // SAFETY: `data` and `parent` are valid by the type invariants.
            Some(suspend) => to_result(unsafe { suspend(&self.call(device), sleep) }),
            None => Ok(()),
        }
    }

    /// Wakes the device.
    pub(super) fn resume(&self, device: &Device) -> Result<Contexts> {
        let Some(resume) = self.ops.0.resume else {
            // What the system's sleep has done to it is not known.
            return match self.ops.has_reset() {
                true => Err(EOPNOTSUPP.into()),
                false => Ok(Contexts::Kept),
            };
        };
        let mut lost = false;

        // SAFETY: `data` and `parent` are valid by the type invariants, and `lost` for a write.
        to_result(unsafe { resume(&self.call(device), &mut lost) })?;
        Ok(match lost {
            true => Contexts::Lost,
            false => Contexts::Kept,
        })
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
