// SPDX-License-Identifier: GPL-2.0

//! A driver that forgets what it has registered, as safe code may: its module goes, its device's
//! parent stays.

use accel::Lent;
use kernel::{
    device::{
        Bound,
        Device, //
    },
    prelude::*,
    str::CString, //
};

struct Forgetful;

#[vtable]
impl accel::Driver for Forgetful {
    type Parent = Device<Bound>;
    type Config = ();
    type Data<'bound> = ();
    type Context = ();

    const DESCRIPTION: accel::Description = accel::Description {
        uapi_name: "accel_forget",
        class: accel::Class::Virtual,
        ..accel::Description::DEFAULT
    };
    const IOCTLS: &'static [accel::IoctlEntry<Self>] = &[];

    fn new<'bound>(_: &'bound Device<Bound>, (): ()) -> impl PinInit<(), Error> + 'bound {
        Ok(())
    }

    fn open(_: &Lent<'_, '_, Self>) -> impl PinInit<(), Error> {
        Ok(())
    }
}

module! {
    type: Module,
    name: "accel_forget",
    authors: ["The accel authors"],
    description: "Leaves an accelerator behind",
    license: "GPL",
    imports_ns: ["ACCEL"],
    params: {
        id: u32 {
            default: 0,
            description: "Tells the parent from those that were left behind before",
        },
    },
}

struct Module;

impl kernel::Module for Module {
    fn init(_: &'static ThisModule) -> Result<Self> {
        let name = CString::try_from_fmt(fmt!("accel_forget.{}", *module_parameters::id.value()))?;
        let device = accel::Faux::new(&name)?;

        device.register::<Forgetful>(accel::Options::default(), ())?;
        core::mem::forget(device);
        Ok(Self)
    }
}
