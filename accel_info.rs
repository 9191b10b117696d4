// SPDX-License-Identifier: GPL-2.0

//! What both nodes can tell: `ACCEL_IOCTL_INFO` and its queries.
//!
//! Every answer is made inside the gate from what the core knows, and copied out after it. A new
//! query is one more entry in [`QUERIES`].

use crate::{
    bindings::{
        errno::{
            ENODATA,
            EOPNOTSUPP, //
        },
        ioctl::Command,
        slot::MonitorKind,
        uapi,
        user::{
            index_nospec,
            UserMemory, //
        }, //
    },
    device::Device,
    file::{
        File,
        Node, //
    },
    ioctl,
    limits::Limit,
    state::RESET_CAUSES, //
};
use kernel::prelude::*;
use zerocopy::FromZeros;

/// Most bytes that a user may have room for.
const SIZE_MAX: u32 = 64 << 10;

/// One query.
struct Query {
    number: u32,
    name: &'static str,
    size: usize,
    /// How many indices the device answers now.
    count: fn(&Device) -> u32,
}

const fn one(_: &Device) -> u32 {
    1
}

/// All queries, ascending.
const QUERIES: [Query; 8] = [
    Query {
        number: uapi::ACCEL_INFO_QUERIES,
        name: "queries",
        size: size_of::<uapi::accel_info_queries>(),
        count: |_| QUERIES.len() as u32,
    },
    Query {
        number: uapi::ACCEL_INFO_IDENTITY,
        name: "identity",
        size: size_of::<uapi::accel_info_identity>(),
        count: one,
    },
    Query {
        number: uapi::ACCEL_INFO_STATE,
        name: "state",
        size: size_of::<uapi::accel_info_state>(),
        count: one,
    },
    Query {
        number: uapi::ACCEL_INFO_MEMORY,
        name: "memory",
        size: size_of::<uapi::accel_info_memory>(),
        count: |device| 1 + u32::from(device.memory().is_some()),
    },
    Query {
        number: uapi::ACCEL_INFO_OPENS,
        name: "opens",
        size: size_of::<uapi::accel_info_opens>(),
        count: one,
    },
    Query {
        number: uapi::ACCEL_INFO_RESETS,
        name: "resets",
        size: size_of::<uapi::accel_info_resets>(),
        count: |_| RESET_CAUSES.len() as u32,
    },
    Query {
        number: uapi::ACCEL_INFO_CLIENTS,
        name: "clients",
        size: size_of::<uapi::accel_info_client>(),
        count: |device| device.opens_now(Node::Compute),
    },
    Query {
        number: uapi::ACCEL_INFO_LIMITS,
        name: "limits",
        size: size_of::<uapi::accel_info_limit>(),
        count: |_| Limit::ALL.len() as u32,
    },
];

/// Does `ACCEL_IOCTL_INFO`.
///
/// # Errors
///
/// As `struct accel_info` documents.
pub(crate) fn info(file: &File, command: Command, user: UserMemory) -> Result {
    let mut args: uapi::accel_info = ioctl::read(file, command, uapi::ACCEL_IOCTL_INFO, user)?;

    if args.flags != 0 || args.size == 0 || args.size > SIZE_MAX {
        return Err(EINVAL);
    }
    let to = UserMemory::new(
        usize::try_from(args.ptr).map_err(|_| EFAULT)?,
        args.size as usize,
    );
    let device = file.device();
    let index = args.index;
    let known = match args.query {
        // Not on the stack: it is constant, and the largest.
        uapi::ACCEL_INFO_IDENTITY => {
            single(index)?;
            drop(device.slot().monitor(MonitorKind::COMMON)?);
            give(to, device.identity())?
        }
        uapi::ACCEL_INFO_QUERIES => give(to, &inside(device, || queries(device, index))?)?,
        uapi::ACCEL_INFO_STATE => {
            single(index)?;
            give(to, &inside(device, || Ok(state(device)))?)?
        }
        uapi::ACCEL_INFO_MEMORY => give(to, &inside(device, || memory(device, index))?)?,
        uapi::ACCEL_INFO_OPENS => {
            single(index)?;
            give(to, &inside(device, || Ok(opens(device)))?)?
        }
        uapi::ACCEL_INFO_RESETS => give(to, &inside(device, || resets(device, index))?)?,
        uapi::ACCEL_INFO_CLIENTS => give(to, &inside(device, || client(device, index))?)?,
        uapi::ACCEL_INFO_LIMITS => give(to, &inside(device, || limit(file, index))?)?,
        _ => return Err(EOPNOTSUPP.into()),
    };

    args.size = known as u32;
    user.write_struct(args.as_mut_bytes())
}

/// Only index 0 exists.
fn single(index: u32) -> Result {
    if index != 0 {
        return Err(EINVAL);
    }
    Ok(())
}

fn inside<T>(device: &Device, answer: impl FnOnce() -> Result<T>) -> Result<T> {
    let _guard = device.slot().monitor(MonitorKind::COMMON)?;

    answer()
}

/// Copies an answer out, and returns how large it is.
fn give<T: IntoBytes + zerocopy::Immutable>(to: UserMemory, answer: &T) -> Result<usize> {
    to.write_struct_zeroed(answer.as_bytes())?;
    Ok(size_of::<T>())
}

fn queries(device: &Device, index: u32) -> Result<uapi::accel_info_queries> {
    if index as usize >= QUERIES.len() {
        return Err(ENODATA.into());
    }
    let index = index_nospec(index as usize, QUERIES.len());
    let query = QUERIES.get(index).ok_or(ENODATA)?;
    let mut answer = uapi::accel_info_queries::new_zeroed();

    answer.query = query.number;
    answer.size = query.size as u32;
    answer.count = (query.count)(device);
    for (to, from) in answer.name.iter_mut().zip(query.name.bytes()) {
        *to = from as kernel::ffi::c_char;
    }
    Ok(answer)
}

fn state(device: &Device) -> uapi::accel_info_state {
    let (last, resets) = device.status();

    uapi::accel_info_state {
        state: last.to as u32,
        flags: 0,
        since_ns: last.at_ns as u64,
        registered_ns: device.registered_ns() as u64,
        cause: last.cause as u32,
        reserved: 0,
        resets,
    }
}

fn resets(device: &Device, index: u32) -> Result<uapi::accel_info_resets> {
    let index = index as usize;

    if index >= RESET_CAUSES.len() {
        return Err(ENODATA.into());
    }
    let cause = RESET_CAUSES
        .get(index_nospec(index, RESET_CAUSES.len()))
        .copied()
        .ok_or(ENODATA)?;
    let resets = device.resets(cause);

    Ok(uapi::accel_info_resets {
        cause: cause as u32,
        flags: 0,
        count: resets.count,
        failed: resets.failed,
        last_ns: resets.last_ns as u64,
    })
}

fn memory(device: &Device, index: u32) -> Result<uapi::accel_info_memory> {
    match (index, device.memory()) {
        (0, _) => Ok(uapi::accel_info_memory {
            kind: uapi::ACCEL_MEMORY_HOST,
            flags: uapi::ACCEL_MEMORY_USED,
            total: 0,
            used: device.host().bytes(),
        }),
        (1, Some(total)) => Ok(uapi::accel_info_memory {
            kind: uapi::ACCEL_MEMORY_DEVICE,
            flags: uapi::ACCEL_MEMORY_TOTAL,
            total,
            used: 0,
        }),
        _ => Err(ENODATA.into()),
    }
}

fn opens(device: &Device) -> uapi::accel_info_opens {
    uapi::accel_info_opens {
        compute_total: device.opens_total(Node::Compute),
        compute_now: device.opens_now(Node::Compute),
        control_now: device.opens_now(Node::Control),
        control_total: device.opens_total(Node::Control),
    }
}

fn client(device: &Device, index: u32) -> Result<uapi::accel_info_client> {
    device
        .with_client(index as usize, |file| {
            let opener = file.opener();

            if !opener.may_be_told() {
                return uapi::accel_info_client::new_zeroed();
            }
            uapi::accel_info_client {
                flags: uapi::ACCEL_CLIENT_VISIBLE,
                pid: opener.pid(),
                uid: opener.uid(),
                lost: file.context().is_lost().into(),
                opened_ns: opener.at_ns() as u64,
                buffers: file.account().used(Limit::Buffers).into(),
                buffer_bytes: file.buffer_bytes(),
                name: opener.name(),
            }
        })
        .ok_or(ENODATA.into())
}

fn limit(file: &File, index: u32) -> Result<uapi::accel_info_limit> {
    let limit = Limit::ALL.get(index as usize).ok_or(ENODATA)?;

    Ok(file.account().info(*limit))
}
