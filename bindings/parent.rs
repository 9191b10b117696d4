// SPDX-License-Identifier: GPL-2.0

//! The device that an accelerator is on: its bus, DMA, interrupts and power.
//!
//! What a driver would otherwise do by hand, and undo in the right order, is done here once:
//! [`Hardware`] enables on the way in and disables on the way out.

use super::{
    errno::EOPNOTSUPP,
    raw,
    traced::Traced,
    uapi::accel_info_identity, //
};
use crate::device::{
    Description,
    Device, //
};
use kernel::{
    bindings,
    device::{
        self,
        Bound,
        Core, //
    },
    dma,
    error::to_result,
    faux,
    ffi::c_void,
    page::PAGE_SHIFT,
    pci,
    platform,
    prelude::*,
    str::{
        CString, //
    },
    sync::aref::ARef, //
};
use zerocopy::FromZeros;

/// A kind of device that a driver can be bound to. Only this module implements it.
pub trait Parent: private::Sealed {
    /// # Errors
    ///
    /// `EINVAL` when `dev` is of another bus.
    #[doc(hidden)]
    fn from_device(dev: &device::Device<Bound>) -> Result<&Self>;

    /// # Safety
    ///
    /// [`Parent::from_device`] must have succeeded on `dev`.
    #[doc(hidden)]
    unsafe fn from_device_unchecked(dev: &device::Device<Bound>) -> &Self;
}

mod private {
    pub trait Sealed {}

    impl Sealed for kernel::device::Device<kernel::device::Bound> {}
    impl Sealed for kernel::pci::Device<kernel::device::Bound> {}
    impl Sealed for kernel::platform::Device<kernel::device::Bound> {}
}

impl Parent for device::Device<Bound> {
    fn from_device(dev: &device::Device<Bound>) -> Result<&Self> {
        Ok(dev)
    }

    unsafe fn from_device_unchecked(dev: &device::Device<Bound>) -> &Self {
        dev
    }
}

impl Parent for pci::Device<Bound> {
    fn from_device(dev: &device::Device<Bound>) -> Result<&Self> {
        dev.try_into()
    }

    unsafe fn from_device_unchecked(dev: &device::Device<Bound>) -> &Self {
        // SAFETY: By this function's requirements `dev` is part of a PCI device.
        unsafe { device::AsBusDevice::from_device(dev) }
    }
}

impl Parent for platform::Device<Bound> {
    fn from_device(dev: &device::Device<Bound>) -> Result<&Self> {
        dev.try_into()
    }

    unsafe fn from_device_unchecked(dev: &device::Device<Bound>) -> &Self {
        // SAFETY: By this function's requirements `dev` is part of a platform device.
        unsafe { device::AsBusDevice::from_device(dev) }
    }
}

/// The C pointer, which the kernel's crate keeps to itself.
pub(super) fn raw<Ctx: device::DeviceContext>(dev: &device::Device<Ctx>) -> *mut bindings::device {
    // CAST: `device::Device` is a transparent wrapper of `Opaque<bindings::device>`.
    core::ptr::from_ref(dev).cast_mut().cast()
}

/// What the parent tells about itself.
pub(crate) fn identity(dev: &device::Device) -> accel_info_identity {
    let mut identity = accel_info_identity::new_zeroed();

    // SAFETY: `identity` is zeroed and valid for writes, `dev` is a valid device.
    unsafe { raw::accel_identity_fill(&mut identity, raw(dev)) };
    identity
}

/// A parent that has been made ready for its driver, and is put back when this is dropped.
///
/// Awake; on PCI: memory decoding on, DMA masks, interrupt vectors; a bus master from
/// [`Hardware::start_dma`] to [`Hardware::stop_dma`].
pub(crate) struct Hardware {
    dev: ARef<device::Device>,
    enabled: bool,
    vectors: u32,
}

impl Hardware {
    /// Makes `dev` ready for a driver that is its only one so far if `alone`.
    ///
    /// # Errors
    ///
    /// The bus's; `EOPNOTSUPP` for interrupts where the core cannot get them for the driver;
    /// `EBUSY` for interrupts where another accelerator on `dev` may have them.
    pub(crate) fn prepare(
        dev: &device::Device<Core<'_>>,
        about: &Description,
        alone: bool,
    ) -> Result<Self> {
        // SAFETY: `dev` is a valid device.
        unsafe { raw::accel_pm_get(raw(dev)) };
        let mut this = Self {
            dev: dev.into(),
            enabled: false,
            vectors: 0,
        };

        if let Some(bits) = about.dma_bits {
            let mask = dma::DmaMask::try_new(bits)?.value();
            // SAFETY: A `Core` device is in its probe, before its driver has allocated or mapped
            // anything for DMA through us.
            to_result(unsafe { bindings::dma_set_mask_and_coherent(raw(dev), mask) })?;
        }
        if let Some(pdev) = this.pci() {
            // SAFETY: `pdev` is a valid PCI device.
            to_result(unsafe { bindings::pci_enable_device_mem(pdev) })?;
            this.enabled = true;
            if alone {
                // Firmware or an earlier kernel may have left it a bus master.
                // SAFETY: As above.
                unsafe { bindings::pci_clear_master(pdev) };
            }
        }
        if let Some(wanted) = &about.interrupts {
            let pdev = this.pci().ok_or(EOPNOTSUPP)?;
            if !alone {
                return Err(EBUSY);
            }
            // SAFETY: As above; the rest is checked by the call.
            let got = unsafe {
                bindings::pci_alloc_irq_vectors(
                    pdev,
                    wanted.min,
                    wanted.max,
                    bindings::PCI_IRQ_MSI | bindings::PCI_IRQ_MSIX,
                )
            };
            to_result(got)?;
            this.vectors = got as u32;
        }
        Ok(this)
    }

    fn pci(&self) -> Option<*mut bindings::pci_dev> {
        pci_of(&self.dev)
    }

    /// Requests all vectors for `device`, which owns and so ends them.
    pub(crate) fn request_interrupts(&self, device: &Device) -> Result {
        let Some(pdev) = self.pci() else {
            return Ok(());
        };
        for vector in 0..self.vectors {
            // SAFETY: `pdev` is a valid PCI device.
            let irq = unsafe { bindings::pci_irq_vector(pdev, vector) };

            to_result(irq)?;
            // SAFETY: `device` owns what it is given here, and so outlives it.
            let interrupt = unsafe { Interrupt::request(device, irq as u32, vector)? };
            device.slot().own_interrupt(interrupt)?;
        }
        Ok(())
    }

    /// How many interrupt vectors there are.
    pub(crate) fn vectors(&self) -> u32 {
        self.vectors
    }

    /// Lets the device access memory.
    pub(crate) fn start_dma(&self) {
        if let Some(pdev) = self.pci() {
            // SAFETY: `pdev` is a valid PCI device.
            unsafe { bindings::pci_set_master(pdev) };
        }
    }

    /// Keeps the device from accessing memory, whatever it was doing.
    pub(crate) fn stop_dma(&self) {
        if self.enabled {
            stop_dma(&self.dev);
        }
    }
}

impl Drop for Hardware {
    fn drop(&mut self) {
        if let Some(pdev) = self.pci() {
            if self.vectors > 0 {
                // SAFETY: The vectors were allocated in `prepare`, and whoever requested them is
                // gone.
                unsafe { bindings::pci_free_irq_vectors(pdev) };
            }
            if self.enabled {
                // SAFETY: The device was enabled in `prepare`.
                unsafe { bindings::pci_disable_device(pdev) };
            }
        }
        // SAFETY: `dev` is a valid device whose usage `prepare` has counted.
        unsafe { raw::accel_pm_put(raw(&self.dev)) };
    }
}

/// The PCI device that `dev` is, if it is one.
fn pci_of(dev: &device::Device) -> Option<*mut bindings::pci_dev> {
    // SAFETY: `dev` is a valid device.
    let pdev = unsafe { raw::accel_to_pci(raw(dev)) };

    (!pdev.is_null()).then_some(pdev)
}

/// Keeps `dev` from accessing memory, if it is on PCI, whatever it was doing.
pub(crate) fn stop_dma(dev: &device::Device) {
    if let Some(pdev) = pci_of(dev) {
        // SAFETY: `pdev` is a valid PCI device.
        unsafe { bindings::pci_clear_master(pdev) };
    }
}

/// Pages of registers: a part of a BAR.
///
/// # Invariants
///
/// The `pages` page frames from `first` lie in a memory BAR of a PCI device.
pub(crate) struct RegisterPages {
    first: usize,
    pages: usize,
}

impl RegisterPages {
    /// Those of `size` bytes at `offset` in BAR `bar` of `dev`.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` when `dev` is not on PCI; `EINVAL` when the BAR has no such whole pages of
    /// memory, or the vectors of MSI-X lie there; `ENODEV` when the device does not answer.
    pub(crate) fn find(dev: &device::Device, bar: u32, offset: u64, size: u64) -> Result<Self> {
        let mut pfn = 0;

        // SAFETY: `dev` is a valid device, `pfn` is valid for a write.
        to_result(unsafe { raw::accel_bar_pfn(raw(dev), bar, offset, size, &mut pfn) })?;
        // INVARIANT: The call has checked that they lie in a BAR.
        Ok(Self {
            first: pfn,
            pages: (size >> PAGE_SHIFT) as usize,
        })
    }

    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    /// The page frame at `index`, if it is one of these.
    pub(crate) fn pfn(&self, index: usize) -> Option<usize> {
        (index < self.pages).then(|| self.first + index)
    }
}

/// What the thread of an interrupt line knows.
struct Line {
    vector: u32,
    name: CString,
    device: *const Device,
}

/// An interrupt line of an accelerator, with a thread that calls the driver.
///
/// # Invariants
///
/// The line was requested with the address of `line` as its cookie. The device that it points to
/// outlives `self`.
pub(super) struct Interrupt {
    irq: u32,
    line: KBox<Line>,
}

// SAFETY: An interrupt line belongs to no thread, `Device` is `Send` and `Sync`.
unsafe impl Send for Interrupt {}
// SAFETY: As above.
unsafe impl Sync for Interrupt {}

impl Interrupt {
    /// # Safety
    ///
    /// `device` must outlive the result.
    unsafe fn request(device: &Device, irq: u32, vector: u32) -> Result<Self> {
        let line = KBox::new(
            Line {
                vector,
                name: CString::try_from_fmt(fmt!("accel{}-{}", device.number(), vector))?,
                device,
            },
            GFP_KERNEL,
        )?;

        // SAFETY: The line's name and the cookie live in boxes that are not freed before the line
        // is, and that do not move when `Self` does.
        to_result(unsafe {
            raw::accel_interrupt_request(
                irq,
                line.name.as_char_ptr(),
                core::ptr::from_ref(&*line).cast_mut().cast(),
            )
        })?;
        // INVARIANT: The line was requested with this address.
        Ok(Self { irq, line })
    }
}

/// Calls the driver, and says whether the interrupt was its device's.
///
/// # Safety
///
/// In the thread of a line that was requested with a `Line` as its cookie.
#[no_mangle]
unsafe extern "C" fn accel_interrupt(cookie: *mut c_void) -> bool {
    let _traced = Traced::begin();
    // SAFETY: The cookie is a `Line`, which is there until the interrupt is freed.
    let line = unsafe { &*cookie.cast::<Line>() };
    // SAFETY: By the type invariant of `Interrupt`.
    let device = unsafe { &*line.device };

    // Late ones, of a device that was quiet when it was put to sleep.
    if device.power().is_quiet() {
        return true;
    }
    // SAFETY: `Drained::end` drops the `Interrupt`, and so stops this thread, first.
    match unsafe { device.slot().driver_of_callback() } {
        Some(driver) => driver.interrupt(device, line.vector),
        None => false,
    }
}

impl Interrupt {
    /// Waits until the driver does not handle it. Who comes after this sees what was done before it.
    pub(super) fn synchronize(&self) {
        // SAFETY: By the type invariant it is a line.
        unsafe { bindings::synchronize_irq(self.irq) };
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. Returns when the thread has.
        unsafe { bindings::free_irq(self.irq, core::ptr::from_ref(&*self.line).cast_mut().cast()) };
    }
}

/// A PCI vendor that the kernel's crate has no name for.
pub const fn pci_vendor(id: u16) -> pci::Vendor {
    // SAFETY: `Vendor` is a transparent wrapper of a `u16`, any of which is valid.
    unsafe { core::mem::transmute::<u16, pci::Vendor>(id) }
}

/// A parent for accelerators without hardware: a device on the faux bus, bound for as long as this
/// exists.
///
/// To forget one is to leave a device behind; what is registered on it ends at the latest when the
/// driver's module goes.
pub struct Faux(faux::Registration);

impl Faux {
    /// Makes a device called `name`.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it cannot be made.
    pub fn new(name: &CStr) -> Result<Self> {
        faux::Registration::new(name, None).map(Self)
    }

    /// Registers an accelerator on it, as [`crate::register`]. Dropping `self` unregisters.
    ///
    /// # Errors
    ///
    /// As [`crate::register`].
    pub fn register<D>(&self, options: crate::Options, config: D::Config) -> Result
    where
        D: super::driver::Driver<Parent = device::Device<Bound>>,
    {
        let dev: &device::Device = self.0.as_ref();
        // SAFETY: The faux bus binds the device before `new` returns, lets nobody unbind it, and
        // unbinds it in the drop of `self`, which is borrowed. Nobody else calls on it, as in a
        // callback of the bus. `device::Device` is transparent whatever its context.
        let dev = unsafe { &*core::ptr::from_ref(dev).cast::<device::Device<Core<'_>>>() };

        super::registration::register::<D>(dev, options, config)
    }
}
