// SPDX-License-Identifier: GPL-2.0

//! An accelerator without hardware, for tests: arrays, mappings, jobs and an alarm, as many devices
//! as the parameter asks for. The driver to read first is `samples/accel_null.rs`.

#![deny(unsafe_code)]

use accel::{
    Access,
    Call,
    Cause,
    Contexts,
    Fault,
    Job,
    Lent,
    Sleep, //
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
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

mod attributes;

accel::uapi_types!("accel_mock");

struct Mock;

/// A time that does not come.
const NEVER: i64 = i64::MAX;

/// A job that ends at a time.
struct Later {
    /// Of the context that it belongs to.
    number: u64,
    /// `CLOCK_MONOTONIC`, in nanoseconds; [`NEVER`] when the file holds it.
    at_ns: i64,
    /// Whether the alarm looks every millisecond.
    poll: bool,
    /// Whether the alarm that ends it takes its time.
    stall: bool,
    /// Whether the device faults on it.
    fault: bool,
    job: Job,
}

/// What a device is to ask the core for.
#[derive(Clone, Copy)]
enum Ask {
    Nothing,
    Reset(Cause),
    Check,
    Fail,
    NeedsReset,
}

impl Ask {
    fn now(self, device: &Lent<'_, '_, Mock>) {
        match self {
            Self::Nothing => (),
            Self::Reset(cause) => device.request_reset(cause),
            Self::Check => device.data().plan.lock().unwell = true,
            Self::Fail => device.fail(),
            Self::NeedsReset => device.needs_reset(),
        }
    }
}

/// How resets go.
#[derive(Clone, Copy)]
struct How {
    lose: bool,
    fail: bool,
    milliseconds: u32,
}

/// How it sleeps, and how often it did.
#[derive(Default)]
struct Nap {
    refuse: bool,
    lose: bool,
    fail: bool,
    /// Whether it is asleep now.
    asleep: bool,
    asked: u64,
    slept: u64,
    woken: u64,
}

/// What a device is to do later.
struct Plan {
    later: KVec<Later>,
    /// What it asks for when its time comes.
    ask: Ask,
    ask_ns: i64,
    how: How,
    nap: Nap,
    /// Whether it does not pass its check.
    unwell: bool,
    /// What the alarm has been set to since it came: the mock believes that it is over then.
    alarm_ns: i64,
}

/// What a device has.
#[pin_data]
struct Clock {
    contexts: Atomic<u64>,
    knobs: attributes::Knobs,
    #[pin]
    plan: Mutex<Plan>,
}

impl Clock {
    /// Takes out one of those that are `wanted`.
    fn take(&self, wanted: impl Fn(&Later) -> bool) -> Option<Later> {
        let later = &mut self.plan.lock().later;
        let index = later.iter().position(wanted)?;

        later.remove(index).ok()
    }

    /// Has the alarm come when there is something to do.
    fn set_alarm(&self, device: &Lent<'_, '_, Mock>) {
        let soon_ns = accel::now_ns() + Delta::from_millis(1).as_nanos();
        let plan = &mut *self.plan.lock();
        let next_ns = plan
            .later
            .iter()
            .map(|later| match later.poll {
                true => later.at_ns.min(soon_ns),
                false => later.at_ns,
            })
            .fold(plan.ask_ns, i64::min);

        // Not again if it comes by then anyway: it would come twice, and the second time be taken
        // for what has been set in between.
        if next_ns < plan.alarm_ns {
            plan.alarm_ns = next_ns;
            device.set_alarm(next_ns);
        }
    }
}

/// What an open file has: a buffer once it is mapped.
#[pin_data]
struct Context {
    number: u64,
    #[pin]
    scratch: Mutex<Option<Arc<accel::Buffer>>>,
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
        let number = call.context().number;
        let clock = call.data();
        let plan = &mut *clock.plan.lock();
        let is_held = |it: &Later| it.number == number && it.at_ns == NEVER;
        let hold = match args.flags {
            0 => false,
            uapi::ACCEL_MOCK_SUBMIT_HOLD if plan.later.iter().any(is_held) => return Err(EAGAIN),
            uapi::ACCEL_MOCK_SUBMIT_HOLD => true,
            _ => return Err(EINVAL),
        };
        plan.later.reserve(usize::from(hold), GFP_KERNEL_ACCOUNT)?;
        let job = call.timeline(args.timeline)?.submit()?;

        args.point = job.point();
        if hold {
            let later = Later {
                number,
                at_ns: NEVER,
                poll: false,
                stall: false,
                fault: false,
                job,
            };

            plan.later.push(later, GFP_KERNEL_ACCOUNT)?;
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

    fn call(call: &Call<'_, '_, Mock>, args: &mut Self::Args, (): ()) -> Result {
        let time = Delta::from_millis(args.milliseconds.into());

        if args.milliseconds > uapi::ACCEL_MOCK_STALL_MAX {
            return Err(EINVAL);
        }
        match args.flags {
            0 => fsleep(time),
            uapi::ACCEL_MOCK_STALL_POLITE => {
                let end_ns = accel::now_ns() + time.as_nanos();

                while accel::now_ns() < end_ns {
                    call.go_on()?;
                    fsleep(Delta::from_millis(1));
                }
            }
            _ => return Err(EINVAL),
        }
        Ok(())
    }
}

struct SubmitLater;

impl accel::Ioctl<Mock> for SubmitLater {
    const COMMAND: u32 = uapi::ACCEL_MOCK_IOCTL_LATER;
    const NAME: &'static CStr = c"later";
    type Args = uapi::accel_mock_later;
    type Arrays = ();

    fn call(call: &Call<'_, '_, Mock>, args: &mut Self::Args, (): ()) -> Result {
        const FLAGS: u32 = uapi::ACCEL_MOCK_LATER_POLL
            | uapi::ACCEL_MOCK_LATER_STALL
            | uapi::ACCEL_MOCK_LATER_FAULT;

        if args.flags & !FLAGS != 0
            || args.reserved != 0
            || args.milliseconds > uapi::ACCEL_MOCK_LATER_MS_MAX
        {
            return Err(EINVAL);
        }
        let number = call.context().number;
        let timeline = call.timeline(args.timeline)?;
        let at_ns = accel::now_ns() + Delta::from_millis(args.milliseconds.into()).as_nanos();
        let clock = call.data();
        let mut plan = clock.plan.lock();
        let is_own = |it: &&Later| it.number == number && it.at_ns != NEVER;
        let own = plan.later.iter().filter(is_own).count();

        if own >= uapi::ACCEL_MOCK_LATER_MAX as usize {
            return Err(EAGAIN);
        }
        plan.later.reserve(1, GFP_KERNEL_ACCOUNT)?;
        let job = timeline.submit()?;
        args.point = job.point();
        plan.later.push(
            Later {
                number,
                at_ns,
                poll: args.flags & uapi::ACCEL_MOCK_LATER_POLL != 0,
                stall: args.flags & uapi::ACCEL_MOCK_LATER_STALL != 0,
                fault: args.flags & uapi::ACCEL_MOCK_LATER_FAULT != 0,
                job,
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        drop(plan);
        clock.set_alarm(call);
        Ok(())
    }
}

struct Reset;

impl accel::Ioctl<Mock> for Reset {
    const COMMAND: u32 = uapi::ACCEL_MOCK_IOCTL_RESET;
    const NAME: &'static CStr = c"reset";
    type Args = uapi::accel_mock_reset;
    type Arrays = ();

    fn call(call: &Call<'_, '_, Mock>, args: &mut Self::Args, (): ()) -> Result {
        let ask = match args.ask {
            uapi::ACCEL_MOCK_ASK_NOTHING => Ask::Nothing,
            uapi::ACCEL_MOCK_ASK_RESET => Ask::Reset(Cause::Driver),
            uapi::ACCEL_MOCK_ASK_DEADLINE => Ask::Reset(Cause::Deadline),
            uapi::ACCEL_MOCK_ASK_CHECK => Ask::Check,
            uapi::ACCEL_MOCK_ASK_FAIL => Ask::Fail,
            uapi::ACCEL_MOCK_ASK_NEEDS_RESET => Ask::NeedsReset,
            _ => return Err(EINVAL),
        };

        if args.flags & !(uapi::ACCEL_MOCK_RESET_LOSE | uapi::ACCEL_MOCK_RESET_FAIL) != 0
            || args.milliseconds > uapi::ACCEL_MOCK_RESET_MS_MAX
            || args.delay_ms > uapi::ACCEL_MOCK_RESET_MS_MAX
        {
            return Err(EINVAL);
        }
        let clock = call.data();
        {
            let plan = &mut *clock.plan.lock();

            plan.how = How {
                lose: args.flags & uapi::ACCEL_MOCK_RESET_LOSE != 0,
                fail: args.flags & uapi::ACCEL_MOCK_RESET_FAIL != 0,
                milliseconds: args.milliseconds,
            };
            if args.delay_ms != 0 {
                plan.ask = ask;
                plan.ask_ns = accel::now_ns() + Delta::from_millis(args.delay_ms.into()).as_nanos();
            }
        }
        match args.delay_ms {
            0 => ask.now(call),
            _ => clock.set_alarm(call),
        }
        Ok(())
    }
}

struct TellFault;

impl accel::Ioctl<Mock> for TellFault {
    const COMMAND: u32 = uapi::ACCEL_MOCK_IOCTL_FAULT;
    const NAME: &'static CStr = c"fault";
    type Args = uapi::accel_mock_fault;
    type Arrays = ();

    fn call(call: &Call<'_, '_, Mock>, args: &mut Self::Args, (): ()) -> Result {
        let access = match args.access {
            0 => Access::Read,
            1 => Access::Write,
            _ => return Err(EINVAL),
        };

        call.client().fault(Fault {
            address: args.address,
            access,
            code: args.code,
        });
        Ok(())
    }
}

struct SetSleep;

impl accel::Ioctl<Mock> for SetSleep {
    const COMMAND: u32 = uapi::ACCEL_MOCK_IOCTL_SLEEP;
    const NAME: &'static CStr = c"sleep";
    type Args = uapi::accel_mock_sleep;
    type Arrays = ();

    fn call(call: &Call<'_, '_, Mock>, args: &mut Self::Args, (): ()) -> Result {
        const FLAGS: u32 = uapi::ACCEL_MOCK_SLEEP_REFUSE
            | uapi::ACCEL_MOCK_SLEEP_LOSE
            | uapi::ACCEL_MOCK_SLEEP_FAIL;

        if args.flags & !FLAGS != 0 || args.reserved != 0 {
            return Err(EINVAL);
        }
        let clock = call.data();
        let nap = &mut clock.plan.lock().nap;

        nap.refuse = args.flags & uapi::ACCEL_MOCK_SLEEP_REFUSE != 0;
        nap.lose = args.flags & uapi::ACCEL_MOCK_SLEEP_LOSE != 0;
        nap.fail = args.flags & uapi::ACCEL_MOCK_SLEEP_FAIL != 0;
        args.asked = nap.asked;
        args.slept = nap.slept;
        args.woken = nap.woken;
        Ok(())
    }
}

/// Where the parameter `fail` has the making of a device fail.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Step {
    Quiesce = 1,
    /// Before anything is made.
    New,
    /// With half of it made.
    HalfMade,
    /// All devices are registered.
    Registered,
}

/// The error of `step`, if that is where it is to fail.
fn fail(step: Step) -> Result {
    match *module_parameters::fail.value() == step as u32 {
        true => Err(EIO),
        false => Ok(()),
    }
}

#[vtable]
impl accel::Driver for Mock {
    type Parent = Device<Bound>;
    type Config = ();
    type Data<'bound> = Clock;
    type Context = Context;

    const DESCRIPTION: accel::Description = accel::Description {
        uapi_name: "accel_mock",
        class: accel::Class::Virtual,
        check_ms: 100,
        ..accel::Description::DEFAULT
    };
    const IOCTLS: &'static [accel::IoctlEntry<Self>] = &[
        accel::ioctl::<Self, Add>(),
        accel::ioctl::<Self, Sum>(),
        accel::ioctl::<Self, Submit>(),
        accel::ioctl::<Self, Stall>(),
        accel::ioctl::<Self, SubmitLater>(),
        accel::ioctl::<Self, Reset>(),
        accel::ioctl::<Self, TellFault>(),
        accel::ioctl::<Self, SetSleep>(),
    ];
    const ATTRIBUTES: &'static [accel::AttributeEntry<Self>] = &[
        accel::attribute::<Self, attributes::Temperature>(),
        accel::attribute::<Self, attributes::PowerLimit>(),
        accel::attribute::<Self, attributes::Turbo>(),
        accel::attribute::<Self, attributes::Governor>(),
        accel::attribute::<Self, attributes::Serial>(),
        accel::attribute::<Self, attributes::Poke>(),
        accel::attribute::<Self, attributes::Poked>(),
        accel::attribute::<Self, attributes::Stall>(),
        accel::attribute::<Self, attributes::Broken>(),
        accel::attribute::<Self, attributes::Shows>(),
        accel::attribute::<Self, attributes::Stores>(),
    ];
    const DEBUG_FILES: &'static [accel::DebugFileEntry<Self>] =
        &[accel::debug_file::<Self, attributes::Jobs>()];

    fn quiesce(_: &Device<Bound>) -> Result {
        fail(Step::Quiesce)
    }

    fn new<'bound>(_: &'bound Device<Bound>, (): ()) -> impl PinInit<Clock, Error> + 'bound {
        let slow_ms = *module_parameters::slow_ms.value();

        if slow_ms > 0 {
            fsleep(Delta::from_millis(slow_ms.into()));
        }
        try_pin_init!(Clock {
            _: { fail(Step::New)? },
            contexts: Atomic::new(0),
            knobs: attributes::Knobs::new(),
            plan <- new_mutex!(Plan {
                later: KVec::new(),
                ask: Ask::Nothing,
                ask_ns: NEVER,
                how: How { lose: false, fail: false, milliseconds: 0 },
                nap: Nap::default(),
                unwell: false,
                alarm_ns: NEVER,
            }),
            _: { fail(Step::HalfMade)? },
        })
    }

    fn open(device: &Lent<'_, '_, Self>) -> impl PinInit<Context, Error> {
        try_pin_init!(Context {
            number: device.data().contexts.fetch_add(1, Relaxed),
            scratch <- new_mutex!(None),
        })
    }

    fn close(device: &Lent<'_, '_, Self>, context: Pin<&Context>) {
        let clock = device.data();

        while let Some(later) = clock.take(|later| later.number == context.number) {
            // Ends as cancelled.
            drop(later.job);
        }
    }

    fn alarm(device: &Lent<'_, '_, Self>) {
        let clock = device.data();
        let (due_ns, ask) = {
            let plan = &mut *clock.plan.lock();
            let due_ns = core::mem::replace(&mut plan.alarm_ns, NEVER);
            let ask = match plan.ask_ns <= due_ns {
                true => core::mem::replace(&mut plan.ask, Ask::Nothing),
                false => Ask::Nothing,
            };

            if plan.ask_ns <= due_ns {
                plan.ask_ns = NEVER;
            }
            (due_ns, ask)
        };

        ask.now(device);
        while let Some(later) = clock.take(|later| later.at_ns <= due_ns) {
            if later.stall {
                fsleep(Delta::from_millis(uapi::ACCEL_MOCK_LATER_STALL_MS.into()));
            }
            if later.fault {
                later.job.fault(Fault {
                    address: uapi::ACCEL_MOCK_FAULT_ADDRESS.into(),
                    access: Access::Write,
                    code: uapi::ACCEL_MOCK_FAULT_CODE,
                });
                later.job.end(Err(EFAULT));
            } else {
                later.job.end(Ok(()));
            }
        }
        clock.set_alarm(device);
    }

    fn reset(device: &Lent<'_, '_, Self>, _cause: Cause) -> Result<Contexts> {
        let clock = device.data();
        let how = clock.plan.lock().how;
        let end_ns = accel::now_ns() + Delta::from_millis(how.milliseconds.into()).as_nanos();

        while accel::now_ns() < end_ns {
            if device.is_going() {
                return Err(ENODEV);
            }
            fsleep(Delta::from_millis(1));
        }
        while let Some(later) = clock.take(|_| true) {
            later.job.end(Err(EIO));
        }
        {
            let plan = &mut *clock.plan.lock();

            plan.unwell = false;
            plan.nap.asleep = false;
        }
        match how {
            How { fail: true, .. } => Err(EIO),
            How { lose: true, .. } => Ok(Contexts::Lost),
            _ => Ok(Contexts::Kept),
        }
    }

    fn suspend(device: &Lent<'_, '_, Self>, sleep: Sleep) -> Result {
        let clock = device.data();
        let plan = &mut *clock.plan.lock();

        plan.nap.asked += 1;
        if plan.nap.refuse || (sleep == Sleep::Idle && !plan.later.is_empty()) {
            return Err(EBUSY);
        }
        plan.nap.slept += 1;
        plan.nap.asleep = true;
        Ok(())
    }

    fn resume(device: &Lent<'_, '_, Self>) -> Result<Contexts> {
        let clock = device.data();
        let plan = &mut *clock.plan.lock();

        plan.nap.woken += 1;
        plan.nap.asleep = plan.nap.fail;
        match plan.nap {
            Nap { fail: true, .. } => Err(EIO),
            Nap { lose: true, .. } => Ok(Contexts::Lost),
            _ => Ok(Contexts::Kept),
        }
    }

    fn check(device: &Lent<'_, '_, Self>) -> Result {
        match device.data().plan.lock().unwell {
            true => Err(EIO),
            false => Ok(()),
        }
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
        registrations: u32 {
            default: 1,
            description: "How many accelerators each of them has",
        },
        fail: u32 {
            default: 0,
            description: "Fails in quiesce (1), in new (2), half way through it (3) or after all (4)",
        },
        slow_ms: u32 {
            default: 0,
            description: "Milliseconds that making an accelerator takes longer",
        },
        exclusive: u32 {
            default: 0,
            description: "Whether each takes one compute file at a time",
        },
        autosuspend_ms: u32 {
            default: 0,
            description: "Milliseconds without a call after which they sleep, 0 for never",
        },
    },
}

struct Module {
    _devices: KVVec<accel::Faux>,
}

impl kernel::Module for Module {
    fn init(_: &'static ThisModule) -> Result<Self> {
        let mut devices = KVVec::new();
        let options = accel::Options {
            autosuspend_ms: Some(*module_parameters::autosuspend_ms.value()),
            exclusive: *module_parameters::exclusive.value() != 0,
            ..Default::default()
        };

        for index in 0..*module_parameters::devices.value() {
            let name = CString::try_from_fmt(fmt!("accel_mock.{index}"))?;
            let device = accel::Faux::new(&name)?;

            for _ in 0..*module_parameters::registrations.value() {
                device.register::<Mock>(options, ())?;
            }
            devices.push(device, GFP_KERNEL)?;
        }
        fail(Step::Registered)?;
        Ok(Self { _devices: devices })
    }
}
