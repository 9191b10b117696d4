// SPDX-License-Identifier: GPL-2.0

//! NPU1 cards: PCI Express accelerators with memory of their own and an MMU.
//!
//! The hardware is described in `Documentation/npu-hardware.rst`, what programs see in
//! `include/uapi/accel/accel_npu.h`, and this driver in `Documentation/npu-driver.rst`.
//!
//! | file | what |
//! | --- | --- |
//! | `regs.rs` | the registers, and checks of what they say |
//! | `ring.rs` | what card and driver share in host memory: rings, completions, events |
//! | `memory.rs` | the card's memory: who has which part, and writing to it |
//! | `mmu.rs` | page tables of one address space |
//! | `space.rs` | what is mapped in an address space: buffers and memory of the card |
//! | `channel.rs` | one of the queues: its ring, its jobs and its errors |
//! | `context.rs` | a context, and submitting to it |
//! | `device.rs` | the card: open and close, interrupts, deadlines, reset |
//! | `log.rs` | messages that are limited in number |
//! | this one | probe, ioctls |
//!
//! # Objects
//!
//! ```text
//!    accel.ko ──► Card ──────────► Channel 0 .. 63 ──► Ring, jobs ──► accel::Job
//!      │           │ Registers       ▲  (one a queue;     (made at the first open,
//!      │           │ Window, Memory  ┊   Free while        kept to the end)
//!      │           │ Events          ┊   no file has it)
//!      │           └ Control         ┊ index
//!      └──► Context (an open file) ┄┄┘
//!             └ Space ─► Tables ─► frames of the card's memory
//!                  ├ Mapping ─► DmaMapping ─► accel::Buffer
//!                  └ Mapping ─► frames of the card's memory
//! ```
//!
//! | object | begins | ends |
//! | --- | --- | --- |
//! | `Card` | probe | last: contexts, interrupts and DMA are gone |
//! | `Ring` of a queue | first context that has the queue | with the `Card` |
//! | queue and address-space id of a `Context` | open | close, when the queue is disabled and the TLB has nothing of the id; never, if the card has died |
//! | `Space` | open | as its id |
//! | `Mapping` | MAP | UNMAP or close, after the invalidation |
//! | `accel::Job` | SUBMIT | completion, or when its queue has stopped or the card is reset |
//!
//! # Lock order
//!
//! Outer to inner:
//!
//! 1. `Context::submitting`, the turn of those who submit to one context; `Context::space`, the
//!    mappings and page tables of one context. Never both
//! 2. `Card::control`: reset, queues that start and stop, TLB, scrubber. Waits for the card, never
//!    longer than half a second
//! 3. `Card::events`; `Channel::ended`, the order in which the jobs of one queue are ended
//! 4. `Channel::state`, ring and jobs of one queue. Nothing sleeps or allocates with it
//! 5. the frames of the card's memory
//!
//! Interrupts take 3 and 4, and 2 only when something is wrong. Jobs are ended with `ended` locked,
//! which nothing needs that goes on with the queue. What may be the last reference to a buffer is
//! dropped with none of them.

#![deny(unsafe_code)]

mod attributes;
mod channel;
mod context;
mod device;
mod log;
mod memory;
mod mmu;
mod regs;
mod ring;
mod space;

use context::Context;
use device::Card;
use kernel::{
    device::{
        Bound,
        Core, //
    },
    pci,
    prelude::*,
    seq_file::SeqFile,
    seq_print, //
};
use space::{
    Gone,
    MapRequest, //
};

accel::uapi_types!("accel_pcie_npu");

/// How often the core has the driver look whether the card is well, in milliseconds.
const CHECK_MS: u32 = 500;

/// After how long without a call it sleeps at first, in milliseconds.
const AUTOSUSPEND_MS: u32 = 5000;

struct Npu;

type Lent<'a, 'bound> = accel::Lent<'a, 'bound, Npu>;
type Call<'a, 'bound> = accel::Call<'a, 'bound, Npu>;

kernel::pci_device_table!(
    PCI_TABLE,
    MODULE_PCI_TABLE,
    <Npu as pci::Driver>::IdInfo,
    [(
        pci::DeviceId::from_id(accel::pci_vendor(0x1af4), 0x10f0),
        ()
    )]
);

impl pci::Driver for Npu {
    type IdInfo = ();
    type Data<'bound> = ();
    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        (): &'bound (),
    ) -> impl PinInit<(), Error> + 'bound {
        let options = accel::Options {
            // `Card::new` makes sure that the card says the same.
            memory: Some(pdev.resource_len(regs::MEMORY_BAR)?),
            ..Default::default()
        };

        accel::register::<Self>(pdev.as_ref(), options, ())
    }
}

#[vtable]
impl accel::Driver for Npu {
    type Parent = pci::Device<Bound>;
    type Config = ();
    type Data<'bound> = Card<'bound>;
    type Context = Context;

    const DESCRIPTION: accel::Description = accel::Description {
        uapi_name: "accel_npu",
        class: accel::Class::Npu,
        max_contexts: uapi::ACCEL_NPU_CONTEXTS_MAX,
        max_address_spaces: uapi::ACCEL_NPU_CONTEXTS_MAX,
        dma_bits: Some(regs::DMA_BITS),
        interrupts: Some(accel::Interrupts { min: 1, max: 8 }),
        check_ms: CHECK_MS,
        autosuspend_ms: AUTOSUSPEND_MS,
        ..accel::Description::DEFAULT
    };
    const IOCTLS: &'static [accel::IoctlEntry<Self>] = &[
        accel::ioctl::<Self, Map>(),
        accel::ioctl::<Self, Unmap>(),
        accel::ioctl::<Self, Submit>(),
        accel::ioctl::<Self, TellError>(),
        accel::ioctl::<Self, Describe>(),
    ];
    const ATTRIBUTES: &'static [accel::AttributeEntry<Self>] = &[
        accel::attribute::<Self, attributes::Temperature>(),
        accel::attribute::<Self, attributes::TemperatureLimit>(),
        accel::attribute::<Self, attributes::Power>(),
        accel::attribute::<Self, attributes::PowerLimit>(),
        accel::attribute::<Self, attributes::Voltage>(),
        accel::attribute::<Self, attributes::CoreClock>(),
        accel::attribute::<Self, attributes::MemoryClock>(),
        accel::attribute::<Self, attributes::EccCorrected>(),
        accel::attribute::<Self, attributes::EccUncorrected>(),
    ];
    const DEBUG_FILES: &'static [accel::DebugFileEntry<Self>] =
        &[accel::debug_file::<Self, attributes::Rings>()];

    fn quiesce(pdev: &Self::Parent) -> Result {
        regs::Registers::new(pdev)?
            .reset()
            .inspect_err(|err| dev_err!(pdev, "reset fails ({})\n", err.to_errno()))
    }

    fn new<'bound>(
        pdev: &'bound Self::Parent,
        (): (),
    ) -> impl PinInit<Card<'bound>, Error> + 'bound {
        Card::new(pdev)
    }

    fn open(device: &Lent<'_, '_>) -> impl PinInit<Context, Error> {
        // Nothing that can fail comes after the context is known to the card.
        pin_init::pin_init_scope(move || device.data().get_ref().open(device))
    }

    fn close(device: &Lent<'_, '_>, context: Pin<&Context>) {
        device.data().close(device, context.get_ref());
    }

    fn mmap(call: &Call<'_, '_>, offset: u64, _size: u64) -> Result<accel::Region> {
        if offset != u64::from(uapi::ACCEL_NPU_MMAP_DOORBELL) {
            return Err(EINVAL);
        }
        let (offset, size) = regs::doorbell_page(call.context().channel())?;

        Ok(accel::Region::Registers {
            bar: regs::BAR,
            offset,
            size,
        })
    }

    fn fdinfo(call: &Call<'_, '_>, seq: &SeqFile) {
        let (host, device) = call.context().mapped();
        let (resets, ecc) = call.data().counts();

        if let Ok(channel) = call.data().channel(call.context().channel()) {
            let (jobs, micros) = channel.done();

            seq_print!(seq, "accel_npu-jobs:\t{}\n", channel.pending());
            seq_print!(seq, "accel_npu-all-jobs:\t{}\n", jobs);
            seq_print!(
                seq,
                "accel_npu-engine-queue:\t{} ns\n",
                micros.saturating_mul(1000)
            );
        }
        seq_print!(seq, "accel_npu-total-host:\t{} KiB\n", host >> 10);
        seq_print!(seq, "accel_npu-total-device:\t{} KiB\n", device >> 10);
        seq_print!(seq, "accel_npu-resets:\t{}\n", resets);
        seq_print!(seq, "accel_npu-ecc-corrected:\t{}\n", ecc);
    }

    fn interrupt(device: &Lent<'_, '_>, vector: u32) -> bool {
        device.data().interrupt(device, vector)
    }

    fn alarm(device: &Lent<'_, '_>) {
        device.data().alarm(device);
    }

    fn check(device: &Lent<'_, '_>) -> Result {
        device.data().check(device)
    }

    fn suspend(device: &Lent<'_, '_>, sleep: accel::Sleep) -> Result {
        device.data().suspend(device, sleep)
    }

    fn resume(device: &Lent<'_, '_>) -> Result<accel::Contexts> {
        device.data().resume(device)
    }

    fn reset(device: &Lent<'_, '_>, cause: accel::Cause) -> Result<accel::Contexts> {
        device.data().reset(device, cause)
    }
}

struct Map;

impl accel::Ioctl<Npu> for Map {
    const COMMAND: u32 = uapi::ACCEL_NPU_IOCTL_MAP;
    const NAME: &'static CStr = c"map";
    type Args = uapi::accel_npu_map;
    type Arrays = ();

    fn call(call: &Call<'_, '_>, args: &mut Self::Args, (): ()) -> Result {
        let request = MapRequest::new(call, args)?;

        call.context().with_space(|space| space.map(call, &request))
    }
}

struct Unmap;

impl accel::Ioctl<Npu> for Unmap {
    const COMMAND: u32 = uapi::ACCEL_NPU_IOCTL_UNMAP;
    const NAME: &'static CStr = c"unmap";
    type Args = uapi::accel_npu_unmap;
    type Arrays = ();

    fn call(call: &Call<'_, '_>, args: &mut Self::Args, (): ()) -> Result {
        // Dropped when the address space is free again.
        let mut gone = Gone::new();

        call.context()
            .with_space(|space| space.unmap(call, args, &mut gone))
    }
}

struct Submit;

type SubmitArgs = uapi::accel_npu_submit;

impl accel::Ioctl<Npu> for Submit {
    const COMMAND: u32 = uapi::ACCEL_NPU_IOCTL_SUBMIT;
    const NAME: &'static CStr = c"submit";
    type Args = SubmitArgs;
    type Arrays = (
        accel::In<
            uapi::accel_npu_job,
            { accel::pointer_field!(SubmitArgs, jobs) },
            { accel::count_field!(SubmitArgs, count) },
            { uapi::ACCEL_NPU_BATCH_MAX as usize },
        >,
    );

    fn call(
        call: &Call<'_, '_>,
        args: &mut Self::Args,
        (jobs,): (&[uapi::accel_npu_job],),
    ) -> Result {
        context::submit(call, args, jobs)
    }
}

struct TellError;

impl accel::Ioctl<Npu> for TellError {
    const COMMAND: u32 = uapi::ACCEL_NPU_IOCTL_ERROR;
    const NAME: &'static CStr = c"error";
    type Args = uapi::accel_npu_error;
    type Arrays = ();

    fn call(call: &Call<'_, '_>, args: &mut Self::Args, (): ()) -> Result {
        if args.flags != 0 {
            return Err(EINVAL);
        }
        let (failure, count) = call.data().take_failure(call)?;

        *args = uapi::accel_npu_error {
            kind: failure.kind,
            flags: 0,
            timeline: failure.timeline,
            command: failure.command,
            point: failure.point,
            address: failure.address,
            access: failure.access,
            count,
        };
        Ok(())
    }
}

struct Describe;

impl accel::Ioctl<Npu> for Describe {
    const COMMAND: u32 = uapi::ACCEL_NPU_IOCTL_DEVICE;
    const NAME: &'static CStr = c"device";
    type Args = uapi::accel_npu_device;
    type Arrays = ();

    fn call(call: &Call<'_, '_>, args: &mut Self::Args, (): ()) -> Result {
        if args.flags != 0 {
            return Err(EINVAL);
        }
        let card = call.data();
        let caps = &card.caps;

        *args = uapi::accel_npu_device {
            memory_total: caps.memory,
            memory_free: card.memory.free(),
            serial: caps.serial,
            revision: caps.revision,
            compute_engines: caps.compute_engines,
            copy_engines: caps.copy_engines,
            flags: 0,
        };
        Ok(())
    }
}

kernel::module_pci_driver! {
    type: Npu,
    name: "accel_pcie_npu",
    authors: ["The accel authors"],
    description: "NPU1 cards",
    license: "GPL",
    imports_ns: ["ACCEL"],
}
