// SPDX-License-Identifier: GPL-2.0

//! What a driver implements.

use super::{
    declared::{
        AttributeEntry,
        DebugFileEntry, //
    },
    ioctl::IoctlEntry,
    lent::{
        Call,
        Lent, //
    }, //
};
use crate::{
    device::Description,
    mm::Region,
    power::Sleep,
    reset::Contexts,
    state::Cause, //
};
use kernel::{
    error::VTABLE_DEFAULT_ERROR,
    prelude::*,
    seq_file::SeqFile, //
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
    /// Also called last of all, after the data was dropped, when the device is no bus master any more:
    /// whoever is bound to the parent next finds it silent. It may have been pulled out by then. Not
    /// after a [`Driver::new`] that has failed.
    ///
    /// # Errors
    ///
    /// Become the error of the registration; at the end they are ignored.
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

    /// Whether `poll(2)` should call the file readable, beyond its timelines and events.
    /// [`Call::wake`] has pollers ask again.
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
    /// is why. If it was asleep it has power again, and [`Driver::resume`] is not called. Without this
    /// function a device that would be reset stays [`crate::State::NeedsReset`].
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
    /// It did not help: the device is [`crate::State::Malfunction`] from then on, until root asks for
    /// another reset.
    fn reset(_device: &Lent<'_, '_, Self>, _cause: Cause) -> Result<Contexts> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Puts the device to sleep. Nobody is in the driver, but for interrupts, which are not handled any
    /// more from when this has returned. Where [`Sleep::Idle`] is concerned the device loses power
    /// after this if the parent's bus can take it away; likewise with [`Sleep::System`].
    ///
    /// * [`Sleep::Idle`]: nobody has called for [`Description::autosuspend_ms`].
    /// * [`Sleep::System`]: what runs is to end within a few seconds, what is queued goes on later. The
    ///   device must access no memory until it wakes.
    /// * [`Sleep::Shutdown`]: the device must access no memory any more; it does not wake. An error
    ///   changes nothing. On PCI it is no bus master any more after it. Registers that user space has
    ///   mapped stay mapped. Left out when calls, or a reset, do not end within two seconds.
    ///
    /// Only an operational device is put to sleep.
    ///
    /// Without this function the device is left as it is, and is reset when the system wakes, if its
    /// driver can.
    ///
    /// # Errors
    ///
    /// It stays awake, as it was: `EBUSY` when it has something to do. The system does not sleep either,
    /// if it was about to; one that is idle is asked again later.
    fn suspend(_device: &Lent<'_, '_, Self>, _sleep: Sleep) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Wakes the device. It has power again; whether it had all the time is for the driver to find out.
    /// Calls follow when this has returned, interrupts are handled from when it begins. Called by
    /// whoever needs an idle device: also with a program's `mmap_lock` held, and when the device goes.
    ///
    /// # Errors
    ///
    /// It does not wake: it is reset, with [`Cause::Resume`]. When it goes they are ignored.
    fn resume(_device: &Lent<'_, '_, Self>) -> Result<Contexts> {
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
