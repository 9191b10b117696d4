// SPDX-License-Identifier: GPL-2.0

//! An accelerator without hardware, for tests: arrays, mappings and jobs, as many devices as the
//! parameter asks for. The driver to read first is `samples/accel_null.rs`.

use accel::{
    Call,
    Job,
    Lent, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        Arc,
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

accel::uapi_types!("accel_mock");

struct Mock;

/// What an open file has: a buffer once it is mapped, and a job that it may hold.
#[pin_data]
struct Context {
    #[pin]
    scratch: Mutex<Option<Arc<accel::Buffer>>>,
    #[pin]
    held: Mutex<Option<Job>>,
}

struct Add;

impl accel::Ioctl<Mock> for Add {
    const COMMAND: u32 = uapi::ACCEL_MOCK_IOCTL_ADD;
    const NAME: &'static CStr = c"add";
    type Args = uapi::accel_mock_add;
    type Arrays = ();

    fn call(_: &Call<'_, '_, Mock>, args: &mut Self::Args, (): ()) -> Result {
        args.b = args.b.wrapping_add(args.a);
        Ok(())
    }
}

struct Sum;

/// Shorthand for the structure whose fields describe the arrays.
type SumArgs = uapi::accel_mock_sum;
const COUNT: usize = accel::count_field!(SumArgs, count);
const MAX: usize = uapi::ACCEL_MOCK_SUM_MAX as usize;

impl accel::Ioctl<Mock> for Sum {
    const COMMAND: u32 = uapi::ACCEL_MOCK_IOCTL_SUM;
    const NAME: &'static CStr = c"sum";
    type Args = SumArgs;
    type Arrays = (
        accel::In<u64, { accel::pointer_field!(SumArgs, values) }, COUNT, MAX>,
        accel::Out<u64, { accel::pointer_field!(SumArgs, partial) }, COUNT, MAX>,
    );

    fn call(
        _: &Call<'_, '_, Mock>,
        args: &mut Self::Args,
        (values, partial): (&[u64], &mut [u64]),
    ) -> Result {
        if args.flags != 0 {
            return Err(EINVAL);
        }
        args.sum = 0;
        for (value, partial) in values.iter().zip(partial) {
            args.sum = args.sum.wrapping_add(*value);
            *partial = args.sum;
        }
        Ok(())
    }
}

struct Submit;

impl accel::Ioctl<Mock> for Submit {
    const COMMAND: u32 = uapi::ACCEL_MOCK_IOCTL_SUBMIT;
    const NAME: &'static CStr = c"submit";
    type Args = uapi::accel_mock_submit;
    type Arrays = ();

    fn call(call: &Call<'_, '_, Mock>, args: &mut Self::Args, (): ()) -> Result {
        let context = call.context();
        let mut held = context.held.lock();
        let hold = match args.flags {
            0 => false,
            uapi::ACCEL_MOCK_SUBMIT_HOLD if held.is_some() => return Err(EAGAIN),
            uapi::ACCEL_MOCK_SUBMIT_HOLD => true,
            _ => return Err(EINVAL),
        };
        let job = call.timeline(args.timeline)?.submit()?;

        args.point = job.point();
        if hold {
            *held = Some(job);
        } else {
            job.end(Ok(()));
        }
        Ok(())
    }
}

struct Stall;

impl accel::Ioctl<Mock> for Stall {
    const COMMAND: u32 = uapi::ACCEL_MOCK_IOCTL_STALL;
    const NAME: &'static CStr = c"stall";
    type Args = uapi::accel_mock_stall;
    type Arrays = ();

    fn call(_: &Call<'_, '_, Mock>, args: &mut Self::Args, (): ()) -> Result {
        if args.flags != 0 || args.milliseconds > uapi::ACCEL_MOCK_STALL_MAX {
            return Err(EINVAL);
        }
        fsleep(Delta::from_millis(args.milliseconds.into()));
        Ok(())
    }
}

#[vtable]
impl accel::Driver for Mock {
    type Parent = Device<Bound>;
    type Config = ();
    type Data<'bound> = ();
    type Context = Context;

    const DESCRIPTION: accel::Description = accel::Description {
        uapi_name: "accel_mock",
        class: accel::Class::Virtual,
        ..accel::Description::DEFAULT
    };
    const IOCTLS: &'static [accel::IoctlEntry<Self>] = &[
        accel::ioctl::<Self, Add>(),
        accel::ioctl::<Self, Sum>(),
        accel::ioctl::<Self, Submit>(),
        accel::ioctl::<Self, Stall>(),
    ];

    fn new<'bound>(_: &'bound Device<Bound>, (): ()) -> impl PinInit<(), Error> + 'bound {
        Ok(())
    }

    fn open(_: &Lent<'_, '_, Self>) -> impl PinInit<Context, Error> {
        try_pin_init!(Context {
            scratch <- new_mutex!(None),
            held <- new_mutex!(None),
        })
    }

    fn mmap(call: &Call<'_, '_, Self>, offset: u64, _size: u64) -> Result<accel::Region> {
        if offset != 0 {
            return Err(EINVAL);
        }
        let context = call.context();
        let mut scratch = context.scratch.lock();
        let buffer = match scratch.take() {
            Some(buffer) => buffer,
            None => call.new_buffer(uapi::ACCEL_MOCK_SCRATCH_SIZE.into())?,
        };

        *scratch = Some(buffer.clone());
        Ok(accel::Region::Buffer(buffer))
    }
}

module! {
    type: Module,
    name: "accel_mock",
    authors: ["The accel authors"],
    description: "Accelerators without hardware",
    license: "GPL",
    imports_ns: ["ACCEL"],
    params: {
        devices: u32 {
            default: 1,
            description: "How many devices to make",
        },
    },
}

struct Module {
    _devices: KVVec<accel::Faux>,
}

impl kernel::Module for Module {
    fn init(_: &'static ThisModule) -> Result<Self> {
        let mut devices = KVVec::new();

        for index in 0..*module_parameters::devices.value() {
            let name = CString::try_from_fmt(fmt!("accel_mock.{index}"))?;
            let device = accel::Faux::new(&name)?;

            device.register::<Mock>(accel::Options::default(), ())?;
            devices.push(device, GFP_KERNEL)?;
        }
        Ok(Self { _devices: devices })
    }
}
