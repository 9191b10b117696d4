// SPDX-License-Identifier: GPL-2.0

//! Measures in the kernel what cannot be measured from outside, when it is loaded, and prints it:
//! `accel_bench: NAME FIGURE`, in cycles, which are instructions where `-icount` makes them so.

use accel::Lent;
use kernel::{
    device::{
        Bound,
        Device, //
    },
    prelude::*,
    str::CString, //
};

unsafe extern "C" {
    safe fn accel_bench_now() -> u64;
    safe fn accel_bench_gate() -> u64;
}

/// A driver that does nothing.
struct Nothing;

#[vtable]
impl accel::Driver for Nothing {
    type Parent = Device<Bound>;
    type Config = ();
    type Data<'bound> = ();
    type Context = ();

    const DESCRIPTION: accel::Description = accel::Description {
        uapi_name: "accel_bench",
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

/// How often each figure is taken; the least counts.
const REPEATS: usize = 8;

fn device(index: usize) -> Result<accel::Faux> {
    accel::Faux::new(&CString::try_from_fmt(fmt!("accel_bench.{index}"))?)
}

/// Registers and unregisters one device more.
fn one_more(index: usize) -> Result<u64> {
    let mut least = u64::MAX;

    for _ in 0..REPEATS {
        let parent = device(index)?;
        let start = accel_bench_now();

        parent.register::<Nothing>(accel::Options::default(), ())?;
        drop(parent);
        least = least.min(accel_bench_now() - start);
    }
    Ok(least)
}

/// Has `count` devices in all.
fn fill(devices: &mut KVVec<accel::Faux>, count: usize) -> Result {
    while devices.len() < count {
        let parent = device(devices.len())?;

        parent.register::<Nothing>(accel::Options::default(), ())?;
        devices.push(parent, GFP_KERNEL)?;
    }
    Ok(())
}

module! {
    type: Bench,
    name: "accel_bench",
    authors: ["The accel authors"],
    description: "Measures the accelerator subsystem from inside",
    license: "GPL",
    imports_ns: ["ACCEL"],
}

struct Bench;

impl kernel::Module for Bench {
    fn init(_: &'static ThisModule) -> Result<Self> {
        let mut devices = KVVec::new();

        pr_info!("guard {}\n", accel_bench_gate());
        fill(&mut devices, 15)?;
        pr_info!("register_unregister_16 {}\n", one_more(15)?);
        fill(&mut devices, 1023)?;
        pr_info!("register_unregister_1024 {}\n", one_more(1023)?);
        Ok(Self)
    }
}
