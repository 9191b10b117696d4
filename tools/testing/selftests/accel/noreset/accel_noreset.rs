// SPDX-License-Identifier: GPL-2.0

//! A driver that has no `reset`, and needs one. Its interface is that of the null driver: to add to
//! 0 has it ask for a reset, to add to 1 has its device not be well.

use accel::{
    Call,
    Cause,
    Lent, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

accel::uapi_types!("accel_noreset");

/// How often the device is looked at.
const CHECK_MS: u32 = 20;

struct Add;

impl accel::Ioctl<NoReset> for Add {
    const COMMAND: u32 = uapi::ACCEL_NULL_IOCTL_ADD;
    const NAME: &'static CStr = c"add";
    type Args = uapi::accel_null_add;
    type Arrays = ();

    fn call(call: &Call<'_, '_, NoReset>, args: &mut Self::Args, (): ()) -> Result {
        match args.a {
            0 => call.request_reset(Cause::Driver),
            1 => call.data().unwell.store(1, Relaxed),
            _ => {}
        }
        args.b = args.b.wrapping_add(args.a);
        Ok(())
    }
}

struct Health {
    unwell: Atomic<u32>,
}

struct NoReset;

#[vtable]
impl accel::Driver for NoReset {
    type Parent = Device<Bound>;
    type Config = ();
    type Data<'bound> = Health;
    type Context = ();

    const DESCRIPTION: accel::Description = accel::Description {
        uapi_name: "accel_noreset",
        class: accel::Class::Virtual,
        check_ms: CHECK_MS,
        ..accel::Description::DEFAULT
    };
    const IOCTLS: &'static [accel::IoctlEntry<Self>] = &[accel::ioctl::<Self, Add>()];

    fn new<'bound>(_: &'bound Device<Bound>, (): ()) -> impl PinInit<Health, Error> + 'bound {
        Ok(Health {
            unwell: Atomic::new(0),
        })
    }

    fn open(_: &Lent<'_, '_, Self>) -> impl PinInit<(), Error> {
        Ok(())
    }

    fn check(device: &Lent<'_, '_, Self>) -> Result {
        match device.data().unwell.load(Relaxed) {
            0 => Ok(()),
            _ => Err(EIO),
        }
    }
}

module! {
    type: Module,
    name: "accel_noreset",
    authors: ["The accel authors"],
    description: "An accelerator that cannot be reset",
    license: "GPL",
    imports_ns: ["ACCEL"],
}

struct Module {
    _device: accel::Faux,
}

impl kernel::Module for Module {
    fn init(_: &'static ThisModule) -> Result<Self> {
        let device = accel::Faux::new(c"accel_noreset")?;

        device.register::<NoReset>(accel::Options::default(), ())?;
        Ok(Self { _device: device })
    }
}
