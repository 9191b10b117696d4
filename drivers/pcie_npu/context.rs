// SPDX-License-Identifier: GPL-2.0

//! A context: the queue and the address space of one open file; and submitting to it.

use crate::{
    channel::Batch,
    device::Card,
    space::Space,
    uapi,
    Call, //
};
use accel::Job;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Mutex, //
    }, //
};

const NS_PER_MS: i64 = 1_000_000;

/// Device addresses of a job's list are multiples of this.
const LIST_ALIGN: u64 = 64;
/// Bytes of a command.
const COMMAND: u64 = 256;
const _: () = assert!(COMMAND as usize == size_of::<uapi::accel_npu_command>());

/// An open file.
#[pin_data]
pub(crate) struct Context {
    channel: usize,
    /// `None` once it is closed.
    #[pin]
    space: Mutex<Option<Space>>,
    /// Submitters take turns: the points of a SUBMIT are consecutive. The jobs of the one whose
    /// turn it is, with capacity for a batch.
    #[pin]
    submitting: Mutex<KVec<Job>>,
    /// Bytes of buffers, and of the card's memory, that are mapped.
    host: Atomic<i64>,
    device: Atomic<i64>,
}

impl Context {
    pub(crate) fn new(channel: usize, space: Space, jobs: KVec<Job>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            channel,
            space <- new_mutex!(Some(space), "accel_npu_space"),
            submitting <- new_mutex!(jobs, "accel_npu_submitting"),
            host: Atomic::new(0),
            device: Atomic::new(0),
        }? Error)
    }

    /// Which of the card's channels it has.
    pub(crate) fn channel(&self) -> usize {
        self.channel
    }

    /// Runs `change` with the address space.
    ///
    /// # Errors
    ///
    /// `EIO` once it is closed; those of `change`.
    pub(crate) fn with_space<R>(&self, change: impl FnOnce(&mut Space) -> Result<R>) -> Result<R> {
        match &mut *self.space.lock() {
            Some(space) => change(space),
            None => Err(EIO),
        }
    }

    /// Takes the address space out.
    pub(crate) fn take_space(&self) -> Option<Space> {
        self.space.lock().take()
    }

    /// Bytes of buffers that are mapped, and of the card's memory.
    pub(crate) fn mapped(&self) -> (i64, i64) {
        (self.host.load(Relaxed), self.device.load(Relaxed))
    }

    /// As many more bytes of buffers are mapped.
    pub(crate) fn host_changed(&self, bytes: i64) {
        self.host.fetch_add(bytes, Relaxed);
    }

    /// As many more bytes of the card's memory are mapped.
    pub(crate) fn device_changed(&self, bytes: i64) {
        self.device.fetch_add(bytes, Relaxed);
    }
}

/// Whether the card can be given this job.
fn is_valid(job: &uapi::accel_npu_job) -> bool {
    let end = job
        .address
        .checked_add(u64::from(job.count).saturating_mul(COMMAND));

    job.address % LIST_ALIGN == 0
        && (1..=uapi::ACCEL_NPU_COMMANDS_MAX).contains(&job.count)
        && job.reserved == 0
        && end.is_some_and(|end| end <= uapi::ACCEL_NPU_ADDRESS_END)
}

/// SUBMIT.
pub(crate) fn submit(
    call: &Call<'_, '_>,
    args: &mut uapi::accel_npu_submit,
    jobs: &[uapi::accel_npu_job],
) -> Result {
    if args.flags & !uapi::ACCEL_NPU_SUBMIT_DEFER != 0
        || args.deadline_ms > uapi::ACCEL_NPU_DEADLINE_MAX
        || jobs.is_empty()
        || !jobs.iter().all(is_valid)
    {
        return Err(EINVAL);
    }
    let timeline = call.timeline(args.timeline)?;
    let card: &Card<'_> = call.data().get_ref();
    let context = call.context();
    let channel = card.channel(context.channel)?;
    let milliseconds = match args.deadline_ms {
        0 => uapi::ACCEL_NPU_DEADLINE_DEFAULT,
        given => given,
    };
    let now = accel::now_ns();
    let batch = Batch {
        jobs,
        timeline: args.timeline,
        deadline: now.saturating_add(i64::from(milliseconds) * NS_PER_MS),
    };

    let mut turn = context.submitting.lock();
    channel.wait_for_room(call, jobs.len() as u32)?;
    // Memory for the jobs is allocated here, where no interrupt waits for it.
    for _ in jobs {
        match timeline.submit() {
            Ok(job) => {
                args.point = job.point();
                let _ = turn.push_within_capacity(job);
            }
            Err(err) => {
                turn.clear();
                return Err(err);
            }
        }
    }
    if channel.write(call, &batch, &mut turn).is_err() {
        // It was stopped just now, or waits for a reset: as if the jobs had been in it. The points
        // are taken, so the call is not made again.
        for job in turn.drain_all() {
            job.end(Err(EIO));
        }
        return Err(EIO);
    }
    drop(turn);
    if args.flags & uapi::ACCEL_NPU_SUBMIT_DEFER == 0 {
        card.regs.ring_doorbell(channel.index())?;
    }
    card.expect_completions(call, now, batch.deadline);
    Ok(())
}
