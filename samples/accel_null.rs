// SPDX-License-Identifier: GPL-2.0

//! The smallest accelerator driver: no hardware, as many devices as the parameter asks for.
//!
//! Read it from the end: the module makes devices, each is registered, and the core calls what the
//! driver offers. There is no clean-up, because there is nothing to clean up by hand.

#![deny(unsafe_code)]

use kernel::{
    device::{
        Bound,
        Device, //
    },
    prelude::*,
    str::CString, //
};

// The module `uapi`: what `include/uapi/accel/accel_null.h` declares.
accel::uapi_types!("accel_null");

/// An ioctl: its number, its structure, and what it does.
struct Add;

impl accel::Ioctl<Null> for Add {
    const COMMAND: u32 = uapi::ACCEL_NULL_IOCTL_ADD;
    const NAME: &'static CStr = c"add";
    type Args = uapi::accel_null_add;
    type Arrays = ();

    fn call(_: &accel::Call<'_, '_, Null>, args: &mut Self::Args, (): ()) -> Result {
        args.b = args.b.wrapping_add(args.a);
        Ok(())
    }
}

/// The driver.
struct Null;

#[vtable]
impl accel::Driver for Null {
    type Parent = Device<Bound>;
    type Config = ();
    type Data<'bound> = ();
    type Context = ();

    const DESCRIPTION: accel::Description = accel::Description {
        uapi_name: "accel_null",
        class: accel::Class::Virtual,
        ..accel::Description::DEFAULT
    };
    const IOCTLS: &'static [accel::IoctlEntry<Self>] = &[accel::ioctl::<Self, Add>()];

    /// Makes what the driver knows of a device: nothing, here.
    fn new<'bound>(_: &'bound Device<Bound>, (): ()) -> impl PinInit<(), Error> + 'bound {
        Ok(())
    }

    /// Makes what the driver knows of an open file: nothing, here.
    fn open(_: &accel::Lent<'_, '_, Self>) -> impl PinInit<(), Error> {
        Ok(())
    }
}

module! {
    type: Module,
    name: "accel_null",
    authors: ["The accel authors"],
    description: "Accelerators without hardware",
    license: "GPL",
    imports_ns: ["ACCEL"],
    params: {
        devices: u32 { default: 1, description: "How many devices to make", },
    },
}

struct Module {
    _devices: KVVec<accel::Faux>,
}

impl kernel::Module for Module {
    fn init(_: &'static ThisModule) -> Result<Self> {
        let mut devices = KVVec::new();

        for index in 0..*module_parameters::devices.value() {
            let device = accel::Faux::new(&CString::try_from_fmt(fmt!("accel_null.{index}"))?)?;

            device.register::<Null>(accel::Options::default(), ())?;
            devices.push(device, GFP_KERNEL)?;
        }
        Ok(Self { _devices: devices })
    }
}
