// SPDX-License-Identifier: GPL-2.0

//! The slot that holds a driver's data, and the gate in front of it.
//!
//! A [`Guard`] is the only way from user space to the driver. Whoever wants one enters the gate
//! (`gate.c`: two per-CPU instructions, no shared cache line), and gets nothing while the gate is
//! blocked, or once it is closed. A [`Monitor`] is the right to look at the device, which a blocked
//! gate lets in too, and never leads to the driver.
//!
//! A [`Lifecycle`] is the right to have the driver change the device as a whole: to reset it. There
//! is one at a time. Its holder may wait for those inside the gate; so who is inside never waits
//! for a lifecycle.
//!
//! The one who closes the gate ends the lifecycle, waits until nobody is inside, and holds then a
//! [`Drained`](lifecycle::Drained), which is the only way to end the contexts and the data.
//!
//! Interrupt threads, the alarm and other work reach the data without a guard. They are stopped
//! before the data goes.

mod lifecycle;

pub(crate) use self::lifecycle::{
    Closing,
    Lifecycle, //
};
use super::{
    alarm::Alarm,
    debugfs::Report,
    errno::ESTALE,
    ioctl::ArrayBuffer,
    ops::{
        Erased,
        Ops, //
    },
    parent::Interrupt,
    raw,
    work::DeviceWork, //
};
use crate::{
    attribute,
    device::Device,
    file::File,
    mm::Region,
    power,
    reset, //
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
            Full,
            Relaxed, //
        },
        Mutex,
        MutexGuard, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    types::Opaque, //
};

/// A kind of operation that looks at a device and leaves the hardware alone: a blocked gate lets it
/// in. For the log when one does not leave.
#[derive(Clone, Copy)]
pub(crate) struct MonitorKind(u32);

impl MonitorKind {
    pub(crate) const COMMON: Self = Self(0);
    pub(crate) const CONTROL_OPEN: Self = Self(1);
    pub(crate) const CONTROL_RELEASE: Self = Self(2);
    pub(crate) const MMAP: Self = Self(3);
    pub(crate) const FAULT: Self = Self(4);
    pub(crate) const POLL: Self = Self(5);
    /// An attribute, or a file in debugfs.
    pub(crate) const ATTRIBUTE: Self = Self(6);
    const COUNT: u32 = 7;
}

/// A kind of operation that reaches the driver: a blocked gate keeps it out.
#[derive(Clone, Copy)]
pub(crate) struct Kind(u32);

impl Kind {
    // Those that are left out when they do not get in.
    pub(crate) const DRIVER_POLL: Self = Self(MonitorKind::COUNT);
    pub(crate) const DRIVER_FDINFO: Self = Self(MonitorKind::COUNT + 1);
    /// An attribute, or a file in debugfs.
    pub(crate) const DRIVER_SHOW: Self = Self(MonitorKind::COUNT + 2);
    // Those that need the device.
    pub(crate) const OPEN: Self = Self(MonitorKind::COUNT + 3);
    pub(crate) const RELEASE: Self = Self(MonitorKind::COUNT + 4);
    pub(crate) const DRIVER_MMAP: Self = Self(MonitorKind::COUNT + 5);
    pub(crate) const REGISTERS: Self = Self(MonitorKind::COUNT + 6);
    /// The driver's ioctls follow, each a kind of its own.
    const DRIVER: u32 = MonitorKind::COUNT + 7;

    /// The driver's ioctl at `index` of its table.
    #[inline]
    pub(crate) fn driver(index: usize) -> Self {
        Self(Self::DRIVER + index as u32)
    }
}

/// Names of the kinds before the driver's ioctls.
const NAMES: [&CStr; Kind::DRIVER as usize] = [
    c"common ioctl",
    c"open of the control node",
    c"release of the control node",
    c"mmap",
    c"page fault",
    c"poll",
    c"attribute",
    c"the driver's poll",
    c"the driver's fdinfo",
    c"the driver's attribute",
    c"open",
    c"release",
    c"mmap of the driver's",
    c"page fault on registers",
];

/// A driver's data, the gate in front of it, its interrupts, its alarm and other work.
///
/// # Invariants
///
/// `driver` changes twice: when it is filled, before anybody can enter or interrupt, and when it is
/// emptied, after the lifecycle is over, the gate is closed and drained, and work and interrupts are
/// stopped.
#[pin_data(PinnedDrop)]
pub(crate) struct Slot {
    #[pin]
    gate: Opaque<raw::accel_gate>,
    closing: Atomic<bool>,
    driver: UnsafeCell<Option<Erased>>,
    #[pin]
    interrupts: Mutex<KVec<Interrupt>>,
    /// Whether nobody gets a [`Lifecycle`] any more.
    #[pin]
    lifecycle: Mutex<bool>,
    #[pin]
    alarm: Alarm,
    #[pin]
    reset: DeviceWork,
    #[pin]
    check: DeviceWork,
    #[pin]
    stores: DeviceWork,
    #[pin]
    rest: DeviceWork,
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
                to_result(unsafe { raw::accel_gate_init(gate, MonitorKind::COUNT, kinds) })
            }),
            closing: Atomic::new(false),
            driver: UnsafeCell::new(None),
            interrupts <- new_mutex!(KVec::new(), "accel_interrupts"),
            lifecycle <- new_mutex!(false, "accel_lifecycle"),
            alarm <- Alarm::new(),
            reset <- DeviceWork::new(reset::run),
            check <- DeviceWork::new(reset::check),
            stores <- DeviceWork::new(attribute::store_written),
            rest <- DeviceWork::new(power::look),
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
        // SAFETY: By this function's requirements. `Drained::end` stops them.
        unsafe {
            self.alarm.start(device);
            self.reset.start(device);
            self.check.start(device);
            self.stores.start(device);
            self.rest.start(device);
        }
    }

    pub(super) fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    /// The work that resets the device and tells of what has changed, [`reset::run`].
    pub(crate) fn reset_work(&self) -> &DeviceWork {
        &self.reset
    }

    /// The work that looks whether the device is well, [`reset::check`].
    pub(crate) fn check_work(&self) -> &DeviceWork {
        &self.check
    }

    /// The work that gives the driver what was written to its attributes,
    /// [`attribute::store_written`].
    pub(crate) fn store_work(&self) -> &DeviceWork {
        &self.stores
    }

    /// The work that looks whether the device is idle, [`power::look`].
    pub(crate) fn rest_work(&self) -> &DeviceWork {
        &self.rest
    }

    /// Has an alarm that came while the driver was not to be called come again.
    pub(crate) fn kick_alarm(&self) {
        self.alarm.kick();
    }

    /// How many have entered to reach the driver; it wraps.
    pub(crate) fn calls(&self) -> usize {
        // SAFETY: The gate is initialised.
        unsafe { raw::accel_gate_uses(self.gate.get(), Kind::OPEN.0) }
    }

    /// Has the driver called at `at_ns`, if it is not to be called before.
    pub(crate) fn set_alarm(&self, at_ns: i64) {
        self.alarm.set(at_ns);
    }

    /// Enters to reach the driver, if the gate is open.
    #[inline(always)]
    pub(crate) fn enter(&self, kind: Kind) -> Option<Guard<'_>> {
        self.enter_any(kind.0)
    }

    /// `kind` is less than the gate's number of kinds.
    #[inline(always)]
    fn enter_any(&self, kind: u32) -> Option<Guard<'_>> {
        // SAFETY: The gate is initialised and every kind is less than its number of kinds.
        if !unsafe { raw::accel_gate_enter(self.gate.get(), kind) } {
            return None;
        }
        // SAFETY: We are inside, so by the type invariant nobody changes `driver`.
        match unsafe { &*self.driver.get() } {
            Some(driver) => Some(Guard {
                slot: self,
                driver,
                kind,
            }),
            None => {
                // SAFETY: We have just entered with this kind.
                unsafe { raw::accel_gate_leave(self.gate.get(), kind) };
                None
            }
        }
    }

    /// Enters to look at the device, if the gate is not closed.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it is closed.
    #[inline]
    pub(crate) fn monitor(&self, kind: MonitorKind) -> Result<Monitor<'_>> {
        // SAFETY: The gate is initialised and every kind is less than its number of kinds.
        if !unsafe { raw::accel_gate_enter(self.gate.get(), kind.0) } {
            return Err(ENODEV);
        }
        Ok(Monitor { slot: self, kind })
    }

    /// Lets monitors in only, from soon on: [`Lifecycle::drain`] waits for it. Does not sleep.
    pub(crate) fn block(&self) {
        // SAFETY: The gate is initialised.
        unsafe { raw::accel_gate_block(self.gate.get()) };
    }

    /// Lets all in again, unless the gate is closed.
    pub(crate) fn unblock(&self) {
        // SAFETY: The gate is initialised.
        unsafe { raw::accel_gate_unblock(self.gate.get()) };
    }

    /// Whether the gate lets monitors in only.
    pub(crate) fn is_blocked(&self) -> bool {
        // SAFETY: The gate is initialised.
        unsafe { raw::accel_gate_is_blocked(self.gate.get()) }
    }

    /// Waits for the right to change the device as a whole. Not to be called inside the gate.
    ///
    /// Nothing once the device is going, or while it is not there yet.
    pub(crate) fn lifecycle(&self) -> Option<Lifecycle<'_>> {
        self.lifecycle_of(self.lifecycle.lock())
    }

    /// As [`Self::lifecycle`], but waits about `ms` at most.
    ///
    /// # Errors
    ///
    /// `EBUSY` when somebody else has it all that time.
    pub(crate) fn lifecycle_within(&self, ms: usize) -> Result<Option<Lifecycle<'_>>> {
        for _ in 0..ms {
            if let Some(guard) = self.lifecycle.try_lock() {
                return Ok(self.lifecycle_of(guard));
            }
            fsleep(Delta::from_millis(1));
        }
        Err(EBUSY)
    }

    fn lifecycle_of<'a>(&'a self, guard: MutexGuard<'a, bool>) -> Option<Lifecycle<'a>> {
        if *guard {
            return None;
        }
        // SAFETY: The lifecycle is not over, and will not be while we hold its lock, so by the type
        // invariant nobody empties `driver`; it is filled before anybody else is here.
        let driver = unsafe { (*self.driver.get()).as_ref()? };

        Some(Lifecycle {
            slot: self,
            driver,
            _guard: guard,
        })
    }

    /// Keeps others from having a [`Lifecycle`].
    pub(super) fn lock_lifecycle(&self) -> MutexGuard<'_, bool> {
        self.lifecycle.lock()
    }

    /// Lets nobody in any more. Returns the right to end what is behind the gate, once.
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
    /// The caller must be stopped before [`Drained::end`](lifecycle::Drained::end) drops the data.
    pub(super) unsafe fn driver_of_callback(&self) -> Option<&Erased> {
        // SAFETY: `driver` is filled before there are interrupts or an alarm is set, and emptied in
        // `Drained::end`.
        unsafe { (*self.driver.get()).as_ref() }
    }

    /// Whether the driver is here and lies in `module`.
    pub(super) fn is_in(&self, module: *const bindings::module) -> bool {
        // As a monitor: also when the gate is blocked.
        self.enter_any(MonitorKind::COMMON.0)
            .is_some_and(|guard| guard.driver.ops().is_in(module))
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
    kind: u32,
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

    /// The value of the driver's attribute at `index`.
    pub(crate) fn show_attribute(&self, device: &Device, index: usize) -> Result<u64> {
        self.driver.show_attribute(device, index)
    }

    /// Makes the text of the driver's file at `index`.
    pub(crate) fn debug_file(&self, device: &Device, index: usize, report: &mut Report) -> Result {
        self.driver.debug_file(device, index, report)
    }

    /// Calls the driver's ioctl at `index`, on a structure and arrays that fit it.
    ///
    /// # Errors
    ///
    /// `ENOTTY` no such ioctl; `EINVAL` when structure or arrays do not fit; `ESTALE` when the
    /// context is lost; the handler's.
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

        if args.size != ioctl.size() {
            return Err(EINVAL);
        }
        file.context().check()?;
        // SAFETY: `ioctl` is of this table; `args` are aligned bytes of its size that we have
        // borrowed; `bind` has checked the arrays; the context is open, and is closed when no call
        // is in progress.
        unsafe {
            self.driver
                .call_ioctl(file, ioctl, args.start, raw.as_ptr())
        }
    }

    /// What the driver shows at an offset.
    ///
    /// # Errors
    ///
    /// `ESTALE` when the context is lost; the driver's.
    pub(crate) fn mmap(&self, file: &File, offset: u64, size: u64) -> Result<Region> {
        file.context().check()?;
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
        unsafe { raw::accel_gate_leave(self.slot.gate.get(), self.kind) };
    }
}

/// The right to look at a device: it does not go while one of these exists. What holds for a
/// [`Guard`]'s holder holds for this one's.
pub(crate) struct Monitor<'a> {
    slot: &'a Slot,
    kind: MonitorKind,
}

impl Monitor<'_> {
    /// Calls `found` with the name of each kind of operation, how often it has begun, and how many
    /// are in progress, unless it fails.
    pub(crate) fn operations(
        &self,
        mut found: impl FnMut(&CStr, usize, usize) -> Result,
    ) -> Result {
        // SAFETY: We are inside, so by the type invariant of the slot nobody changes `driver`.
        let ops = unsafe { (*self.slot.driver.get()).as_ref().ok_or(ENODEV)?.ops() };

        for kind in 0..Kind::driver(ops.ioctls_len()).0 {
            let gate = self.slot.gate.get();
            // SAFETY: The gate is initialised; `kind` is less than its kinds.
            let (inside, entered) = unsafe {
                (
                    raw::accel_gate_inside(gate, kind),
                    raw::accel_gate_entered(gate, kind),
                )
            };

            found(name(ops, kind).unwrap_or(c""), entered, inside)?;
        }
        Ok(())
    }

    /// Calls `found` with the names of the driver's files in debugfs.
    pub(crate) fn debug_files(&self, found: impl FnMut(&'static str)) {
        // SAFETY: As above.
        if let Some(driver) = unsafe { (*self.slot.driver.get()).as_ref() } {
            driver
                .ops()
                .debug_files()
                .iter()
                .map(|file| file.name)
                .for_each(found);
        }
    }
}

/// The name of a kind of operation.
fn name(ops: Ops, kind: u32) -> Option<&'static CStr> {
    let index = (kind as usize).wrapping_sub(Kind::DRIVER as usize);

    NAMES.get(kind as usize).copied().or_else(|| {
        let ioctl = ops.ioctl(index)?;

        // SAFETY: A driver's names are constants that end with NUL.
        Some(unsafe { CStr::from_char_ptr(ioctl.name) })
    })
}

impl Drop for Monitor<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: A monitor has entered with this kind, and leaves once. The slot outlives it.
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
pub(crate) struct ContextSlot {
    /// What calls work on.
    context: Atomic<*mut c_void>,
    /// What was there until it was lost in a reset: no call gets it.
    lost: Atomic<*mut c_void>,
}

impl ContextSlot {
    /// The slot of a file without a context.
    pub(crate) fn empty() -> Self {
        Self {
            context: Atomic::new(core::ptr::null_mut()),
            lost: Atomic::new(core::ptr::null_mut()),
        }
    }

    fn open(&self, driver: &Erased, device: &Device) -> Result {
        let context = driver.open(device)?;

        if self
            .context
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
        unsafe { self.context.as_ptr().read_volatile() }
    }

    /// Whether there is a context, and it is not lost.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        !self.get().is_null()
    }

    /// Whether the context was lost in a reset.
    pub(crate) fn is_lost(&self) -> bool {
        !self.lost.load(Relaxed).is_null()
    }

    #[inline]
    fn check(&self) -> Result {
        if !self.is_open() {
            return Err(self.missing());
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn missing(&self) -> Error {
        match self.is_lost() {
            true => ESTALE.into(),
            false => EINVAL,
        }
    }

    /// Has no call work on the context any more. Returns whether there was one to lose.
    fn lose(&self) -> bool {
        let context = self.context.xchg(core::ptr::null_mut(), Full);

        if context.is_null() {
            return false;
        }
        self.lost.store(context, Relaxed);
        true
    }

    fn close(&self, driver: &Erased, device: &Device) {
        for slot in [&self.context, &self.lost] {
            let context = slot.xchg(core::ptr::null_mut(), Full);

            if !context.is_null() {
                // SAFETY: Contexts come from `open`, and whoever exchanged it has it alone. No call
                // is using it: the callers are the file's release and the one who has drained the
                // gate.
                unsafe { driver.close(device, context) };
            }
        }
    }
}
