// SPDX-License-Identifier: GPL-2.0

//! QEMU's educational PCI device as an accelerator.
//!
//! | file | what |
//! | --- | --- |
//! | `regs.rs` | the registers, and checks of what they say |
//! | `engine.rs` | jobs, and the steps that the device takes for them |
//! | this one | probe, contexts, ioctls |
//!
//! Reference: the specification in QEMU's documentation, "EDU device".

#![deny(unsafe_code)]

mod engine;
mod regs;

use accel::{
    Call,
    Cause,
    Contexts,
    Lent,
    Sleep, //
};
use engine::{
    Engine,
    Kind,
    Work, //
};
use kernel::{
    device::Core,
    pci,
    prelude::*, //
};
use regs::Registers;

accel::uapi_types!("accel_edu");

struct Edu;

kernel::pci_device_table!(
    PCI_TABLE,
    MODULE_PCI_TABLE,
    <Edu as pci::Driver>::IdInfo,
    [(
        pci::DeviceId::from_id(accel::pci_vendor(0x1234), 0x11e8),
        ()
    )]
);

impl pci::Driver for Edu {
    type IdInfo = ();
    type Data<'bound> = ();
    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        (): &'bound (),
    ) -> impl PinInit<(), Error> + 'bound {
        let options = accel::Options {
            memory: Some(regs::BUFFER_SIZE as u64),
            ..Default::default()
        };

        accel::register::<Self>(pdev.as_ref(), options, ())
    }
}

#[vtable]
impl accel::Driver for Edu {
    type Parent = pci::Device<kernel::device::Bound>;
    type Config = ();
    type Data<'bound> = Engine<'bound>;
    type Context = accel::Lane<Work>;

    const DESCRIPTION: accel::Description = accel::Description {
        uapi_name: "accel_edu",
        max_contexts: uapi::ACCEL_EDU_CONTEXTS_MAX,
        dma_bits: Some(regs::DMA_BITS),
        interrupts: Some(accel::Interrupts { min: 1, max: 1 }),
        check_ms: 1000,
        autosuspend_ms: 2000,
        ..accel::Description::DEFAULT
    };
    const IOCTLS: &'static [accel::IoctlEntry<Self>] = &[
        accel::ioctl::<Self, Factorial>(),
        accel::ioctl::<Self, Copy>(),
    ];

    fn quiesce(pdev: &Self::Parent) -> Result {
        Registers::new(pdev)?.quiesce()
    }

    fn new<'bound>(
        pdev: &'bound Self::Parent,
        (): (),
    ) -> impl PinInit<Engine<'bound>, Error> + 'bound {
        Engine::new(pdev)
    }

    fn open(device: &Lent<'_, '_, Self>) -> impl PinInit<Self::Context, Error> {
        device.data().lane(uapi::ACCEL_EDU_JOBS_MAX as usize)
    }

    fn interrupt(device: &Lent<'_, '_, Self>, _vector: u32) -> bool {
        device.data().interrupt()
    }

    fn check(device: &Lent<'_, '_, Self>) -> Result {
        device.data().check()
    }

    fn reset(device: &Lent<'_, '_, Self>, _cause: Cause) -> Result<Contexts> {
        device.data().reset()?;
        Ok(Contexts::Kept)
    }

    fn suspend(device: &Lent<'_, '_, Self>, sleep: Sleep) -> Result {
        device.data().pause(sleep != Sleep::Idle)
    }

    fn resume(device: &Lent<'_, '_, Self>) -> Result<Contexts> {
        device.data().resume();
        Ok(Contexts::Kept)
    }
}

/// Queues what `kind` makes, as a job on `timeline`, and returns its point.
fn submit(call: &Call<'_, '_, Edu>, timeline: u32, kind: Kind) -> Result<u64> {
    let timeline = call.timeline(timeline)?;
    let context = call.context();
    let place = context.reserve()?;
    let job = timeline.submit()?;
    let point = job.point();

    drop(place.fill(Work::new(job, kind)));
    call.data().kick();
    Ok(point)
}

struct Factorial;

type FactorialArgs = uapi::accel_edu_factorial;

impl accel::Ioctl<Edu> for Factorial {
    const COMMAND: u32 = uapi::ACCEL_EDU_IOCTL_FACTORIAL;
    const NAME: &'static CStr = c"factorial";
    type Args = FactorialArgs;
    type Arrays = (
        accel::In<
            u32,
            { accel::pointer_field!(FactorialArgs, numbers) },
            { accel::count_field!(FactorialArgs, count) },
            { uapi::ACCEL_EDU_BATCH_MAX as usize },
        >,
    );

    fn call(call: &Call<'_, '_, Edu>, args: &mut Self::Args, (numbers,): (&[u32],)) -> Result {
        let too_large = |&number: &u32| number > uapi::ACCEL_EDU_FACTORIAL_MAX;

        if args.flags != 0
            || args.dst_offset % 4 != 0
            || numbers.is_empty()
            || numbers.iter().any(too_large)
        {
            return Err(EINVAL);
        }
        let dst = call.buffer(args.dst)?;
        dst.check_range(args.dst_offset, size_of_val(numbers) as u64)?;
        let mut copy = KVec::new();
        copy.extend_from_slice(numbers, GFP_KERNEL_ACCOUNT)?;

        args.point = submit(
            call,
            args.timeline,
            Kind::Factorial {
                numbers: copy,
                dst,
                dst_offset: args.dst_offset,
            },
        )?;
        Ok(())
    }
}

struct Copy;

impl accel::Ioctl<Edu> for Copy {
    const COMMAND: u32 = uapi::ACCEL_EDU_IOCTL_COPY;
    const NAME: &'static CStr = c"copy";
    type Args = uapi::accel_edu_copy;
    type Arrays = ();

    fn call(call: &Call<'_, '_, Edu>, args: &mut Self::Args, (): ()) -> Result {
        if args.flags != 0 || args.size == 0 {
            return Err(EINVAL);
        }
        let src = call.buffer(args.src)?;
        let dst = call.buffer(args.dst)?;
        src.check_range(args.src_offset, args.size)?;
        dst.check_range(args.dst_offset, args.size)?;

        args.point = submit(
            call,
            args.timeline,
            Kind::Copy {
                src,
                src_offset: args.src_offset,
                dst,
                dst_offset: args.dst_offset,
                size: args.size,
            },
        )?;
        Ok(())
    }
}

kernel::module_pci_driver! {
    type: Edu,
    name: "accel_edu",
    authors: ["The accel authors"],
    description: "QEMU's educational device as an accelerator",
    license: "GPL",
    imports_ns: ["ACCEL"],
}
