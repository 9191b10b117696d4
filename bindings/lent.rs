// SPDX-License-Identifier: GPL-2.0

//! What callbacks of a driver are lent: its data and its parent device, and with [`Call`] the open
//! file that the call is about.

use super::{
    dma_map::DmaMapping,
    driver::Driver, //
};
use crate::{
    device::Device,
    file::File,
    job::{
        Client,
        Timeline, //
    },
    mm::Buffer,
    state::{
        Cause,
        State, //
    }, //
};
use kernel::{
    bindings,
    device::{
        self,
        Bound, //
    },
    ffi::c_void,
    prelude::*,
    sync::Arc, //
};

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
    /// Does not build for a driver without [`crate::Description::dma_bits`].
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
    /// `ENODEV` when the device is going; `EAGAIN` when something else waits for the call, or the
    /// device was given up.
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

    /// Gives the device up, at once: it is [`State::Malfunction`] until root resets it; what others
    /// ask for is forgotten. Calls and opens are `EIO` from now on; those that are in progress go on,
    /// and interrupts and the alarm come as ever. Its jobs are for the driver to end. Does not sleep.
    pub fn fail(&self) {
        self.device.give_up(State::Malfunction);
    }

    /// Has the device do nothing until somebody resets it: it is [`State::NeedsReset`]. Otherwise as
    /// [`Self::fail`].
    pub fn needs_reset(&self) {
        self.device.give_up(State::NeedsReset);
    }

    /// The error of a call that cannot go on before the device has been reset, for which the driver
    /// has asked, or for which [`Self::go_on`] is `EAGAIN`: the core makes the call again then, with
    /// the same arguments, which it must not have changed. Only for ioctls. After four calls it is
    /// `EIO`; when the reset has lost the context, `ESTALE`.
    pub fn after_reset(&self) -> Error {
        ERESTARTNOINTR
    }

    /// Lets the parent access memory again after [`Lent::stop_dma`]: for [`Driver::reset`], when the
    /// device does as it is told. Not done by a reset itself.
    pub fn start_dma(&self) {
        self.device.start_dma();
    }

    /// How many interrupt vectors there are: 0, or from [`crate::Description::interrupts`]' `min` to `max`.
    pub fn interrupts(&self) -> u32 {
        self.device.interrupts()
    }

    /// For a device that does not do as it is told: keeps the parent, if it is on PCI, from accessing
    /// memory, whatever it was doing. When this returns it does not, but for what was on its way.
    ///
    /// That holds until [`Self::start_dma`], or until an accelerator is registered on the parent.
    /// Message-signalled interrupts are accesses of memory: none come any more. Other accelerators on
    /// the parent are hit too.
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
    pub(super) data: *const c_void,
    pub(super) parent: *mut bindings::device,
    pub(super) device: *const Device,
    /// NULL where there is no file yet, or none at all.
    pub(super) context: *mut c_void,
    pub(super) file: *const File,
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
