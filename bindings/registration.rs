// SPDX-License-Identifier: GPL-2.0

//! A registration: from probe to the unbinding of the parent, whatever happens between.

use super::{
    driver::Driver,
    ops::{
        Erased,
        Ops, //
    },
    parent::{
        Hardware,
        Parent, //
    },
    power::Resting,
    slot::Slot, //
};
use crate::{
    attribute::Declared,
    device::{
        Carries,
        Description,
        Device,
        Options, //
    },
    ioctl::Layout,
    minor, //
};
use kernel::{
    device::{
        self,
        Core, //
    },
    devres,
    prelude::*,
    sync::Arc, //
};

/// Registers an accelerator on `dev`, from the probe of its driver.
///
/// Makes the driver's data and the two nodes. Both are gone again when `dev` is unbound; there is
/// nothing to keep and nothing to call. A parent may have several.
///
/// # Errors
///
/// Those of [`Driver::quiesce`] and [`Driver::new`]; `ENOSPC` when there are as many devices as
/// there can be; `EBUSY` for interrupts when the parent has another accelerator; `EOPNOTSUPP` for
/// interrupts on a bus where the core cannot get them; `ENOMEM`; those of the parent's bus. The log
/// says more.
pub fn register<D: Driver>(
    dev: &device::Device<Core<'_>>,
    options: Options,
    config: D::Config,
) -> Result {
    let registration = Registration::begin(dev, &D::DESCRIPTION, options, Ops::of::<D>())?;

    if D::HAS_QUIESCE {
        D::quiesce(<D::Parent as Parent>::from_device(dev)?)?;
    }
    registration.device.start_dma();
    // SAFETY: The registration takes it, and ends it when it is dropped: either on an error, or by
    // the unbinding of `dev`.
    let driver = unsafe { Erased::new::<D>(dev, config)? };
    registration.finish(dev, driver)
}

/// Ends the registration when it is dropped, however far it had come.
struct Registration {
    device: Arc<Device>,
}

impl Registration {
    /// Does all that needs no driver.
    fn begin(
        dev: &device::Device<Core<'_>>,
        about: &Description,
        options: Options,
        ops: Ops,
    ) -> Result<Self> {
        ops.check()?;
        let hardware = Hardware::prepare(dev, about, minor::siblings(dev) == 0)?;
        let ioctls = Layout::of_driver(ops)?;
        let device = Device::new(
            dev,
            about,
            options,
            Carries {
                ioctls,
                reset: ops.has_reset(),
                declared: KBox::pin_init(Declared::new(ops.attributes()), GFP_KERNEL)?,
                suspend: ops.has_suspend(),
            },
            hardware,
            Slot::new(ops),
        )?;

        Ok(Self { device })
    }

    /// Takes the driver's data, and lets interrupts and user space come.
    fn finish(self, dev: &device::Device<Core<'_>>, driver: Erased) -> Result {
        let handles_interrupts = driver.ops().has_interrupt();
        let sleeps = driver.ops().has_suspend();

        // SAFETY: The device has no nodes and no interrupts yet, the slot is its own, and this happens
        // once.
        unsafe { self.device.slot().fill(&self.device, driver) };
        if handles_interrupts {
            self.device.request_interrupts()?;
        }
        dev.follow(sleeps);
        if self.device.power().autosuspend_ms() > 0 {
            dev.start_resting(self.device.power().autosuspend_ms())?;
        }
        self.device.publish(dev)?;
        // Added last, so released first: what the driver has got before is there until then.
        devres::register(dev, self, GFP_KERNEL)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.device.unregister();
    }
}
