// SPDX-License-Identifier: GPL-2.0

//! From an ioctl's number to its handler and back: copying in, the gate, copying out.
//!
//! ```text
//!  copy the structure in ─ copy the arrays in ─┤ enter ─ handler ─ leave ├─ copy all out
//!        may fault            may fault         nothing here may fault       may fault
//! ```
//!
//! Only what lies between the bars can hold up the end of a device. Structures of up to 128 bytes
//! are on the stack; arrays, and structures beyond that, are allocated and charged to the caller.
//!
//! Numbers are matched on type, number and direction; the size is the structure's version, as
//! `copy_struct_from_user` has it, both ways.

use crate::{
    bindings::{
        ioctl::{
            ArrayBuffer,
            Command,
            RawArrayDescriptor,
            ARRAYS_MAX, //
        },
        ops::Ops,
        slot::{
            ArgsMut,
            Kind,
            MonitorKind, //
        },
        uapi,
        user::{
            index_nospec,
            Room,
            UserMemory, //
        },
    },
    event,
    file::{
        File,
        Node, //
    },
    info,
    limits::Limit, //
};
use kernel::prelude::*;

/// What an ioctl of the driver carries, copied from its table at registration: the table itself may
/// be gone with the driver while an argument is being copied in.
pub(crate) struct Layout {
    command: Command,
    arrays: KVec<RawArrayDescriptor>,
}

impl Layout {
    /// The layouts of a driver's ioctls.
    pub(crate) fn of_driver(driver: Ops) -> Result<KVec<Self>> {
        let mut layouts = KVec::with_capacity(driver.ioctls_len(), GFP_KERNEL)?;

        for index in 0..driver.ioctls_len() {
            let raw = driver.ioctl(index).ok_or(EINVAL)?;
            let mut arrays = KVec::new();

            arrays.extend_from_slice(raw.arrays(), GFP_KERNEL)?;
            layouts.push(
                Self {
                    command: raw.command(),
                    arrays,
                },
                GFP_KERNEL,
            )?;
        }
        Ok(layouts)
    }
}

/// Does the ioctl `cmd` on `file`, with `arg` the user's address of its structure.
///
/// # Errors
///
/// `ENOTTY` no such ioctl on this node; `ENODEV` the device is gone; `EFAULT`; `E2BIG`; those of
/// the ioctl.
#[inline]
pub(crate) fn dispatch(file: &File, cmd: u32, arg: usize) -> Result {
    let command = Command(cmd);

    if command.kind() != uapi::ACCEL_IOCTL_TYPE {
        return Err(ENOTTY);
    }
    let nr = command.nr();
    if file.node() == Node::Control && !matches!(nr, uapi::ACCEL_NR_INFO | uapi::ACCEL_NR_EVENTS) {
        return Err(ENOTTY);
    }
    let user = UserMemory::new(arg, command.size());
    match nr.checked_sub(uapi::ACCEL_NR_DRIVER) {
        Some(index) => driver(file, command, index as usize, user),
        None => common(file, command, user),
    }
}

#[inline(always)]
fn driver(file: &File, command: Command, index: usize, user: UserMemory) -> Result {
    let layouts = file.device().ioctls();
    if index >= layouts.len() {
        return Err(ENOTTY);
    }
    let index = index_nospec(index, layouts.len());
    let layout = layouts.get(index).ok_or(ENOTTY)?;

    if !command.is_version_of(layout.command) {
        return Err(ENOTTY);
    }
    if file.device().slot().is_closing() {
        return Err(ENODEV);
    }
    let size = layout.command.size();
    let from = layout.command.direction().is_in().then_some(user);

    if size <= Room::SIZE {
        driver_call(file, index, layout, user, Room::new().fill(size, from)?)
    } else {
        driver_large(file, index, layout, user, from)
    }
}

/// The part of [`driver`] for structures that do not fit on the stack.
#[inline(never)]
fn driver_large(
    file: &File,
    index: usize,
    layout: &Layout,
    user: UserMemory,
    from: Option<UserMemory>,
) -> Result {
    let size = layout.command.size();
    let mut words = KVec::new();

    words.resize(size.div_ceil(size_of::<u64>()), 0, GFP_KERNEL_ACCOUNT)?;
    if let Some(from) = from {
        from.read_struct(bytes_mut(&mut words, size)?)?;
    }
    driver_call(file, index, layout, user, &mut words)
}

/// Calls the driver with the structure in `words`, and copies out what it leaves there.
#[inline(always)]
fn driver_call(
    file: &File,
    index: usize,
    layout: &Layout,
    user: UserMemory,
    words: &mut [u64],
) -> Result {
    let size = layout.command.size();

    if layout.arrays.is_empty() {
        call(file, index, words, size, &mut [])?;
    } else {
        call_with_arrays(file, index, layout, words)?;
    }
    if layout.command.direction().is_out() {
        user.write_struct(bytes_mut(words, size)?)?;
    }
    Ok(())
}

/// How often a call is made, with a reset between each two.
const CALLS: u32 = 4;

/// Calls the driver; again after a reset, when it says that it needs one first.
#[inline(always)]
fn call(
    file: &File,
    index: usize,
    words: &mut [u64],
    size: usize,
    arrays: &mut [ArrayBuffer],
) -> Result {
    for _ in 0..CALLS {
        let guard = file.device().enter(Kind::driver(index))?;

        match guard.call_ioctl(file, index, ArgsMut::new(words, size)?, arrays) {
            Err(err) if err == ERESTARTNOINTR => drop(guard),
            result => return result,
        }
        file.device().wait_for_reset()?;
    }
    Err(EIO)
}

/// The part of [`driver_call`] for structures that point to arrays.
#[inline(never)]
fn call_with_arrays(file: &File, index: usize, layout: &Layout, words: &mut [u64]) -> Result {
    let size = layout.command.size();
    let mut users = [UserMemory::new(0, 0); ARRAYS_MAX];
    let mut buffers = KVec::with_capacity(layout.arrays.len(), GFP_KERNEL_ACCOUNT)?;

    for (descriptor, user) in layout.arrays.iter().zip(&mut users) {
        let args = bytes_mut(words, size)?;
        let count = u32::from_ne_bytes(field(args, descriptor.count)?);
        let address = u64::from_ne_bytes(field(args, descriptor.pointer)?);
        let mut buffer = ArrayBuffer::new(descriptor, count)?;

        *user = UserMemory::new(
            usize::try_from(address).map_err(|_| EFAULT)?,
            buffer.bytes().len(),
        );
        if descriptor.direction.is_in() {
            user.read_struct(buffer.bytes())?;
        }
        buffers.push(buffer, GFP_KERNEL_ACCOUNT)?;
    }
    call(file, index, words, size, &mut buffers)?;
    for ((descriptor, user), buffer) in layout.arrays.iter().zip(users).zip(&mut *buffers) {
        if descriptor.direction.is_out() {
            user.write_struct(buffer.bytes())?;
        }
    }
    Ok(())
}

/// The first `size` bytes of `words`.
#[inline]
fn bytes_mut(words: &mut [u64], size: usize) -> Result<&mut [u8]> {
    words.as_mut_bytes().get_mut(..size).ok_or(EINVAL)
}

/// The `N` bytes at `offset`.
fn field<const N: usize>(bytes: &[u8], offset: u32) -> Result<[u8; N]> {
    bytes
        .get(offset as usize..)
        .and_then(|bytes| bytes.first_chunk())
        .copied()
        .ok_or(EINVAL)
}

/// Not inlined: it would spill more registers than the driver's ioctls need.
#[inline(never)]
fn common(file: &File, command: Command, user: UserMemory) -> Result {
    match command.nr() {
        uapi::ACCEL_NR_INFO => info::info(file, command, user),
        uapi::ACCEL_NR_BUFFER_CREATE => buffer_create(file, command, user),
        uapi::ACCEL_NR_BUFFER_MMAP => buffer_mmap(file, command, user),
        uapi::ACCEL_NR_BUFFER_DESTROY => buffer_destroy(file, command, user),
        uapi::ACCEL_NR_TIMELINE_CREATE => timeline_create(file, command, user),
        uapi::ACCEL_NR_TIMELINE_DESTROY => timeline_destroy(file, command, user),
        uapi::ACCEL_NR_TIMELINE_WAIT => timeline_wait(file, command, user),
        uapi::ACCEL_NR_TIMELINE_EVENTFD => timeline_eventfd(file, command, user),
        uapi::ACCEL_NR_EVENTS => events(file, command, user),
        _ => Err(ENOTTY),
    }
}

/// Reads the structure of a common ioctl, which is the kernel's `expected` in this or another
/// version.
#[inline]
pub(crate) fn read<T: FromBytes + IntoBytes>(
    file: &File,
    command: Command,
    expected: u32,
    user: UserMemory,
) -> Result<T> {
    if !command.is_version_of(Command(expected)) {
        return Err(ENOTTY);
    }
    if file.device().slot().is_closing() {
        return Err(ENODEV);
    }
    let mut args = T::new_zeroed();

    user.read_struct(args.as_mut_bytes())?;
    Ok(args)
}

fn buffer_create(file: &File, command: Command, user: UserMemory) -> Result {
    let mut args: uapi::accel_buffer_create =
        read(file, command, uapi::ACCEL_IOCTL_BUFFER_CREATE, user)?;

    if args.flags != 0 {
        return Err(EINVAL);
    }
    let charge = file.charge(Limit::Buffers)?;
    // Outside: who is short of memory may be made to wait for it as long as its cgroup likes.
    let buffer = file.device().new_buffer(args.size)?;
    {
        let _monitor = file.device().slot().monitor(MonitorKind::COMMON)?;

        args.handle = file.add_buffer(&buffer, charge)?;
        args.size = buffer.size();
    }
    user.write_struct(args.as_mut_bytes()).inspect_err(|_| {
        // The user may have guessed the handle and destroyed it; then there is nothing to undo.
        drop(file.remove_buffer(args.handle));
    })
}

fn buffer_mmap(file: &File, command: Command, user: UserMemory) -> Result {
    let mut args: uapi::accel_buffer_mmap =
        read(file, command, uapi::ACCEL_IOCTL_BUFFER_MMAP, user)?;

    if args.flags != 0 {
        return Err(EINVAL);
    }
    {
        let _monitor = file.device().slot().monitor(MonitorKind::COMMON)?;
        let buffer = file.buffer(args.handle)?;

        args.offset = buffer.mmap_offset().ok_or(ENOENT)?;
        args.size = buffer.size();
    }
    user.write_struct(args.as_mut_bytes())
}

fn buffer_destroy(file: &File, command: Command, user: UserMemory) -> Result {
    let args: uapi::accel_handle = read(file, command, uapi::ACCEL_IOCTL_BUFFER_DESTROY, user)?;

    if args.flags != 0 {
        return Err(EINVAL);
    }
    let buffer = {
        let _monitor = file.device().slot().monitor(MonitorKind::COMMON)?;

        file.remove_buffer(args.handle)?
    };
    // Outside: this may be the last reference to 4 GiB.
    drop(buffer);
    Ok(())
}

fn timeline_create(file: &File, command: Command, user: UserMemory) -> Result {
    let mut args: uapi::accel_timeline_create =
        read(file, command, uapi::ACCEL_IOCTL_TIMELINE_CREATE, user)?;

    if args.flags != 0 {
        return Err(EINVAL);
    }
    {
        let _monitor = file.device().slot().monitor(MonitorKind::COMMON)?;

        args.handle = file.create_timeline()?;
    }
    user.write_struct(args.as_mut_bytes()).inspect_err(|_| {
        // As in `buffer_create`.
        let _ = file.destroy_timeline(args.handle);
    })
}

fn timeline_destroy(file: &File, command: Command, user: UserMemory) -> Result {
    let args: uapi::accel_handle = read(file, command, uapi::ACCEL_IOCTL_TIMELINE_DESTROY, user)?;

    if args.flags != 0 {
        return Err(EINVAL);
    }
    let _monitor = file.device().slot().monitor(MonitorKind::COMMON)?;
    file.destroy_timeline(args.handle)
}

fn timeline_wait(file: &File, command: Command, user: UserMemory) -> Result {
    let mut args: uapi::accel_timeline_wait =
        read(file, command, uapi::ACCEL_IOCTL_TIMELINE_WAIT, user)?;

    if args.flags != 0 || args.reserved != 0 || args.deadline_ns < 0 {
        return Err(EINVAL);
    }
    let timeline = {
        let _monitor = file.device().slot().monitor(MonitorKind::COMMON)?;

        file.timeline(args.handle)?
    };
    // Not inside: this may take for ever.
    timeline.wait(args.point, args.deadline_ns, || {
        file.device().slot().is_closing()
    })?;
    if file.device().slot().is_closing() {
        return Err(ENODEV);
    }
    (args.value, args.status) = timeline.observe(args.point);
    user.write_struct(args.as_mut_bytes())
}

fn timeline_eventfd(file: &File, command: Command, user: UserMemory) -> Result {
    let args: uapi::accel_timeline_eventfd =
        read(file, command, uapi::ACCEL_IOCTL_TIMELINE_EVENTFD, user)?;

    if args.flags != 0 || args.reserved != 0 {
        return Err(EINVAL);
    }
    let _monitor = file.device().slot().monitor(MonitorKind::COMMON)?;
    file.timeline(args.handle)?
        .bind_eventfd(args.point, args.eventfd)
}

fn events(file: &File, command: Command, user: UserMemory) -> Result {
    let mut args: uapi::accel_events = read(file, command, uapi::ACCEL_IOCTL_EVENTS, user)?;

    if args.flags != 0 || args.reserved != 0 || args.types & !event::types_of(file.node()) != 0 {
        return Err(EINVAL);
    }
    args.types = file.device().subscribe(file, args.types)?;
    user.write_struct(args.as_mut_bytes())
}
