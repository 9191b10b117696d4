// SPDX-License-Identifier: GPL-2.0

//! The slot that holds a driver's data, and the gate in front of it.
//!
//! A [`Guard`] is the only way from user space to the driver. Whoever wants one enters the gate
//! (`gate.c`: two per-CPU instructions, no shared cache line), and gets nothing once the gate is
//! closed. The one who closes it waits until nobody is inside, and holds then a [`Drained`], which
//! is the only way to end the contexts and the data.
//!
//! Interrupt threads and the alarm reach the data without a guard. They are stopped before the data
//! goes.

use super::{
    alarm::Alarm,
    ioctl::ArrayBuffer,
    ops::{
        Erased,
        Ops, //
    },
    parent::Interrupt,
    raw, //
};
use crate::{
    device::Device,
    file::File,
    mm::Region, //
};
use core::cell::UnsafeCell;
use kernel::{
    bindings,
    error::to_result,
    ffi::c_void,
    new_mutex,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        atomic::{
            Atomic,
            Full, //
        },
        Mutex, //
    },
    types::Opaque, //
};

/// A kind of operation that enters the gate, for the log when one does not leave.
#[derive(Clone, Copy)]
pub(crate) struct Kind(u32);

impl Kind {
    pub(crate) const OPEN: Self = Self(0);
    pub(crate) const RELEASE: Self = Self(1);
    pub(crate) const MMAP: Self = Self(2);
    pub(crate) const FAULT: Self = Self(3);
    pub(crate) const POLL: Self = Self(4);
    pub(crate) const FDINFO: Self = Self(5);
    pub(crate) const COMMON: Self = Self(6);
    pub(crate) const ATTRIBUTE: Self = Self(7);
    /// The driver's ioctls follow, each a kind of its own.
    const DRIVER: u32 = 8;

    /// The driver's ioctl at `index` of its table.
    #[inline]
    pub(crate) fn driver(index: usize) -> Self {
        Self(Self::DRIVER + index as u32)
    }
}

/// A driver's data, the gate in front of it, its interrupts and its alarm.
///
/// # Invariants
///
/// `driver` changes twice: when it is filled, before anybody can enter or interrupt, and when it is
/// emptied, after the gate is closed and drained and alarm and interrupts are stopped.
#[pin_data(PinnedDrop)]
pub(crate) struct Slot {
    #[pin]
    gate: Opaque<raw::accel_gate>,
    closing: Atomic<bool>,
    driver: UnsafeCell<Option<Erased>>,
    #[pin]
    interrupts: Mutex<KVec<Interrupt>>,
    #[pin]
    alarm: Alarm,
}

// SAFETY: What it holds is `Send`.
unsafe impl Send for Slot {}
// SAFETY: The gate synchronises `driver`, as the type invariant says.
unsafe impl Sync for Slot {}

impl Slot {
    /// Makes a slot with an open gate for a driver with this table; empty yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(ops: Ops) -> impl PinInit<Self, Error> {
        let kinds = Kind::driver(ops.ioctls_len()).0;

        try_pin_init!(Self {
            gate <- Opaque::try_ffi_init(move |gate| {
                // SAFETY: `gate` is valid for writes and will not move.
                to_result(unsafe { raw::accel_gate_init(gate, kinds) })
            }),
            closing: Atomic::new(false),
            driver: UnsafeCell::new(None),
            interrupts <- new_mutex!(KVec::new(), "accel_interrupts"),
            alarm <- Alarm::new(),
        }? Error)
    }

    /// Puts the driver in.
    ///
    /// # Safety
    ///
    /// Once, of the table that the slot was made for, and before anybody else can reach the slot,
    /// which is that of `device`.
    pub(super) unsafe fn fill(&self, device: &Device, driver: Erased) {
        // SAFETY: By this function's requirements nobody else looks.
        unsafe { *self.driver.get() = Some(driver) };
        // SAFETY: By this function's requirements. `Drained::end` stops it.
        unsafe { self.alarm.start(device) };
    }

    /// Has the driver called at `at_ns`, if it is not to be called before.
    pub(crate) fn set_alarm(&self, at_ns: i64) {
        self.alarm.set(at_ns);
    }

    /// Enters, if the gate is open.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it is closed.
    #[inline(always)]
    pub(crate) fn enter(&self, kind: Kind) -> Result<Guard<'_>> {
        // SAFETY: The gate is initialised and every `Kind` is less than its number of kinds.
        if !unsafe { raw::accel_gate_enter(self.gate.get(), kind.0) } {
            return Err(ENODEV);
        }
        // SAFETY: We are inside, so by the type invariant nobody changes `driver`.
        match unsafe { &*self.driver.get() } {
            Some(driver) => Ok(Guard {
                slot: self,
                driver,
                kind,
            }),
            None => {
                // SAFETY: We have just entered with this kind.
                unsafe { raw::accel_gate_leave(self.gate.get(), kind.0) };
                Err(ENODEV)
            }
        }
    }

    /// Lets nobody in any more. Returns the right to wait for those inside, once.
    pub(crate) fn close(&self) -> Option<Closing<'_>> {
        if self.closing.xchg(true, Full) {
            return None;
        }
        // SAFETY: The gate is initialised.
        unsafe { raw::accel_gate_close(self.gate.get()) };
        Some(Closing { slot: self })
    }

    /// Whether the gate is closed, or about to be. Waiters look at this, outside of the gate.
    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        // `READ_ONCE`; ordering comes from the wait queue, whose lock the waker takes after it has
        // set this.
        // SAFETY: The flag is there for as long as `self`, and any byte that `xchg` has written or
        // is writing is a `bool`.
        unsafe { self.closing.as_ptr().read_volatile() }
    }

    /// The driver, for an interrupt thread or the alarm.
    ///
    /// # Safety
    ///
    /// The caller must be stopped before [`Drained::end`] drops the data.
    pub(super) unsafe fn driver_of_callback(&self) -> Option<&Erased> {
        // SAFETY: `driver` is filled before there are interrupts or an alarm is set, and emptied in
        // `Drained::end`.
        unsafe { (*self.driver.get()).as_ref() }
    }

    /// Whether the driver is here and lies in `module`.
    pub(super) fn is_in(&self, module: *const bindings::module) -> bool {
        self.enter(Kind::OPEN)
            .is_ok_and(|guard| guard.driver.ops().is_in(module))
    }

    /// Owns `interrupt`, and stops it before the data goes.
    pub(super) fn own_interrupt(&self, interrupt: Interrupt) -> Result {
        Ok(self.interrupts.lock().push(interrupt, GFP_KERNEL)?)
    }
}

#[pinned_drop]
impl PinnedDrop for Slot {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The gate is initialised, and a guard would borrow `self`.
        unsafe { raw::accel_gate_destroy(self.gate.get()) };
    }
}

/// The right to be inside: nothing of the driver goes while one of these exists.
///
/// With one of these held nobody may touch user memory, pin pages, or sleep without a limit.
pub(crate) struct Guard<'a> {
    slot: &'a Slot,
    driver: &'a Erased,
    kind: Kind,
}

impl Guard<'_> {
    /// Makes the context of a file that is being opened.
    pub(crate) fn open(&self, file: &File) -> Result {
        file.context().open(self.driver, file.device())
    }

    /// Ends the context of a file that nothing else uses any more.
    pub(crate) fn close(&self, file: &File) {
        file.context().close(self.driver, file.device());
    }

    /// Calls the driver's ioctl at `index`, on a structure and arrays that fit it.
    ///
    /// # Errors
    ///
    /// `ENOTTY` no such ioctl; `EINVAL` when structure or arrays do not fit; the handler's.
    #[inline(always)]
    pub(crate) fn call_ioctl(
        &self,
        file: &File,
        index: usize,
        args: ArgsMut<'_>,
        arrays: &mut [ArrayBuffer],
    ) -> Result {
        let ioctl = self.driver.ops().ioctl(index).ok_or(ENOTTY)?;
        let raw = ioctl.bind(arrays)?;

        if args.size != ioctl.size() || !file.context().is_open() {
            return Err(EINVAL);
        }
        // SAFETY: `ioctl` is of this table; `args` are aligned bytes of its size that we have
        // borrowed; `bind` has checked the arrays; the context is open, and is closed when no call
        // is in progress.
        unsafe {
            self.driver
                .call_ioctl(file, ioctl, args.start, raw.as_ptr())
        }
    }

    /// What the driver shows at an offset.
    pub(crate) fn mmap(&self, file: &File, offset: u64, size: u64) -> Result<Region> {
        if !file.context().is_open() {
            return Err(EINVAL);
        }
        // SAFETY: The context is open.
        unsafe { self.driver.mmap(file, offset, size) }
    }

    /// Whether the driver calls the file readable.
    pub(crate) fn poll(&self, file: &File) -> bool {
        // SAFETY: The context is open.
        file.context().is_open() && unsafe { self.driver.poll(file) }
    }

    /// The driver's lines of fdinfo.
    pub(crate) fn fdinfo(&self, file: &File, seq: &SeqFile) {
        if file.context().is_open() {
            // SAFETY: The context is open.
            unsafe { self.driver.fdinfo(file, seq) }
        }
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: A guard has entered with this kind, and leaves once. The slot outlives it.
        unsafe { raw::accel_gate_leave(self.slot.gate.get(), self.kind.0) };
    }
}

/// A structure in kernel memory on its way to a handler: bytes aligned to 8.
pub(crate) struct ArgsMut<'a> {
    start: *mut c_void,
    size: usize,
    _borrow: core::marker::PhantomData<&'a mut [u64]>,
}

impl<'a> ArgsMut<'a> {
    /// The first `size` bytes of `words`.
    #[inline]
    pub(crate) fn new(words: &'a mut [u64], size: usize) -> Result<Self> {
        if size > core::mem::size_of_val(words) {
            return Err(EINVAL);
        }
        Ok(Self {
            start: words.as_mut_ptr().cast(),
            size,
            _borrow: core::marker::PhantomData,
        })
    }
}

/// The context of an open compute file, or nothing.
pub(crate) struct ContextSlot(Atomic<*mut c_void>);

impl ContextSlot {
    /// The slot of a file without a context.
    pub(crate) fn empty() -> Self {
        Self(Atomic::new(core::ptr::null_mut()))
    }

    fn open(&self, driver: &Erased, device: &Device) -> Result {
        let context = driver.open(device)?;

        if self
            .0
            .cmpxchg(core::ptr::null_mut(), context, Full)
            .is_err()
        {
            // SAFETY: It was just made and nobody has it.
            unsafe { driver.close(device, context) };
            return Err(EEXIST);
        }
        Ok(())
    }

    #[inline]
    pub(super) fn get(&self) -> *mut c_void {
        // `READ_ONCE`, which is not a call as `Atomic::load` is.
        // SAFETY: The pointer is there for as long as `self`, and is written by `xchg` as a whole.
        unsafe { self.0.as_ptr().read_volatile() }
    }

    #[inline]
    fn is_open(&self) -> bool {
        !self.get().is_null()
    }

    fn close(&self, driver: &Erased, device: &Device) {
        let context = self.0.xchg(core::ptr::null_mut(), Full);

        if !context.is_null() {
            // SAFETY: Contexts come from `open`, and whoever exchanged it has it alone. No call is
            // using it: the callers are the file's release and the one who has drained the gate.
            unsafe { driver.close(device, context) };
        }
    }
}

/// The right to wait until nobody is inside.
pub(crate) struct Closing<'a> {
    slot: &'a Slot,
}

impl<'a> Closing<'a> {
    /// Waits up to `timeout_ms`; gives itself back when somebody is still inside.
    pub(crate) fn drain(self, timeout_ms: usize) -> Result<Drained<'a>, Self> {
        // SAFETY: The gate is initialised and closed.
        if unsafe { raw::accel_gate_drain(self.slot.gate.get(), timeout_ms) } {
            Ok(Drained { slot: self.slot })
        } else {
            Err(self)
        }
    }

    /// Calls `found` with the name and number of each kind of operation that is inside.
    pub(crate) fn inside(&self, mut found: impl FnMut(&CStr, u32)) {
        const NAMES: [&CStr; Kind::DRIVER as usize] = [
            c"open",
            c"release",
            c"mmap",
            c"page fault",
            c"poll",
            c"fdinfo",
            c"common ioctl",
            c"attribute",
        ];
        // SAFETY: The one who closes is the one who drains, so `driver` is still unchanged.
        let driver = unsafe { (*self.slot.driver.get()).as_ref() };
        let ioctls = driver.map_or(0, |driver| driver.ops().ioctls_len());

        for kind in 0..Kind::driver(ioctls).0 {
            // SAFETY: The gate is initialised and closed; `kind` is less than its kinds.
            let count = unsafe { raw::accel_gate_inside(self.slot.gate.get(), kind) };
            let index = (kind as usize).wrapping_sub(Kind::DRIVER as usize);

            if count == 0 {
                continue;
            }
            match (
                NAMES.get(kind as usize),
                driver.and_then(|driver| driver.ops().ioctl(index)),
            ) {
                (Some(name), _) => found(name, count),
                // SAFETY: A driver's names are constants that end with NUL.
                (None, Some(ioctl)) => found(unsafe { CStr::from_char_ptr(ioctl.name) }, count),
                (None, None) => (),
            }
        }
    }
}

/// The right to end what the driver owns: nobody is inside and nobody will be.
pub(crate) struct Drained<'a> {
    slot: &'a Slot,
}

impl Drained<'_> {
    /// Ends the context of `file`, if it has one.
    pub(crate) fn close(&self, file: &File) {
        // SAFETY: The gate is drained and this is the only `Drained`, so nobody changes `driver`.
        if let Some(driver) = unsafe { (*self.slot.driver.get()).as_ref() } {
            file.context().close(driver, file.device());
        }
    }

    /// Stops the alarm and then the interrupts: who was called for them has returned when this does.
    ///
    /// In that order, so that an alarm that looks after work finds what interrupts have said of it.
    pub(crate) fn stop_callbacks(&self) {
        self.slot.alarm.stop();
        let interrupts = core::mem::take(&mut *self.slot.interrupts.lock());

        drop(interrupts);
    }

    /// Stops alarm and interrupts if that is still to be done, and drops the driver's data.
    pub(crate) fn end(self) {
        self.stop_callbacks();
        // SAFETY: The gate is drained, this is the only `Drained`, and alarm and interrupts are
        // stopped: all that could have a reference to `driver` is gone.
        let driver = unsafe { (*self.slot.driver.get()).take() };

        drop(driver);
    }
}
