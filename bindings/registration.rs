// SPDX-License-Identifier: GPL-2.0

//! A registration: from probe to the unbinding of the parent, whatever happens between.

use super::{
    ops::{
        Driver,
        Erased, //
    },
    parent::Hardware,
    slot::Slot, //
};
use crate::device::{
    Description,
    Device,
    Options, //
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
/// Those of [`Driver::new`]; `ENOSPC` when there are as many devices as there can be; `ENOMEM`;
/// those of the parent's bus. The log says more.
pub fn register<D: Driver>(
    dev: &device::Device<Core<'_>>,
    options: Options,
    config: D::Config,
) -> Result {
    let hardware = Hardware::prepare(dev, &D::DESCRIPTION)?;
    // SAFETY: `register_erased` takes it. Either it fails and drops it, or it has the unbinding of
    // `dev` drop it.
    let driver = unsafe { Erased::new::<D>(dev, config)? };

    register_erased(dev, &D::DESCRIPTION, options, hardware, driver)
}

fn register_erased(
    dev: &device::Device<Core<'_>>,
    about: &Description,
    options: Options,
    hardware: Hardware,
    driver: Erased,
) -> Result {
    let ioctls = crate::ioctl::Layout::of_driver(&driver)?;
    let device = Device::new(dev, about, options, ioctls, Slot::new(driver))?;
    let registration = Registration { device, hardware };
    let device = registration.device.clone();

    if device.slot().has_interrupt()? {
        registration.hardware.request_interrupts(&device)?;
    }
    // Added last, so released first: what the driver has got before is there until then.
    devres::register(dev, registration, GFP_KERNEL)?;
    device.publish(dev)
}

/// Ends the registration when it is dropped.
struct Registration {
    device: Arc<Device>,
    hardware: Hardware,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.device.unregister(&self.hardware);
    }
}
