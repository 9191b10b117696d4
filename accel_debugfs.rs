// SPDX-License-Identifier: GPL-2.0

//! What `/sys/kernel/debug/accel/accelN/` tells root of a device: who uses it for what.
//!
//! Text is made when a file is opened, inside the gate; copying it to the reader is outside. The
//! directory is removed with the nodes, which waits for those who are opening a file, after the gate
//! is closed. So nothing in here may wait for unregister. Nothing wakes the hardware.
//!
//! A file of debugfs knows its device by number and finds it as an `open` of a node does.
//!
//! `Documentation/ABI/testing/debugfs-accel` describes each.

use crate::{
    bindings::{
        debugfs::{
            Directory,
            Report, //
        },
        node::Mapped,
        slot::MonitorKind,
        uapi, //
    },
    device::Device,
    file::{
        File,
        Node, //
    },
    limits::Limit,
    minor, //
};
use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    str::CString, //
};

/// A file that every device has.
struct DebugFile {
    name: &'static CStr,
    show: fn(&Device, &mut Report) -> Result,
}

static FILES: [DebugFile; 4] = [
    DebugFile {
        name: c"clients",
        show: clients,
    },
    DebugFile {
        name: c"contexts",
        show: contexts,
    },
    DebugFile {
        name: c"buffers",
        show: buffers,
    },
    DebugFile {
        name: c"mappings",
        show: mappings,
    },
];

/// Which file a key names; above these bits is the index of the device.
const FILE_BITS: u32 = 8;

/// Makes the directory of the device that is at `index` of the registry.
pub(crate) fn add(device: &Device, index: usize, parent: &Directory) -> Result<Directory> {
    let name = CString::try_from_fmt(fmt!("accel{}", device.number()))?;
    let directory = Directory::new(&name, Some(parent));

    for (file, about) in FILES.iter().enumerate() {
        directory.add(about.name, index << FILE_BITS | file);
    }
    Ok(directory)
}

/// The text of the file that has `key`.
///
/// # Errors
///
/// `ENODEV` when the device is gone; `EFBIG` when there is too much; `ENOMEM`.
pub(crate) fn open(key: usize) -> Result<Report> {
    let device = minor::get(key >> FILE_BITS).ok_or(ENODEV)?;
    let about = FILES.get(key & ((1 << FILE_BITS) - 1)).ok_or(ENODEV)?;
    let mut report = Report::new();
    let _monitor = device.slot().monitor(MonitorKind::ATTRIBUTE)?;

    (about.show)(&device, &mut report)?;
    Ok(report)
}

/// One line for each open file.
fn clients(device: &Device, to: &mut Report) -> Result {
    to.add(fmt!("client\tnode\tbuffers\tbytes\ttimelines\n"))?;
    device.try_for_each_file(|file| {
        let node = match file.node() {
            Node::Compute => "compute",
            Node::Control => "control",
        };

        to.add(fmt!(
            "{}\t{}\t{}\t{}\t{}\n",
            file.client(),
            node,
            file.account().used(Limit::Buffers),
            file.buffer_bytes(),
            file.account().used(Limit::Timelines)
        ))
    })
}

/// One line for each compute file.
fn contexts(device: &Device, to: &mut Report) -> Result {
    to.add(fmt!("client\tstate\n"))?;
    device.try_for_each_file(|file| match file.node() {
        Node::Compute => to.add(fmt!("{}\topen\n", file.client())),
        Node::Control => Ok(()),
    })
}

/// One line for each buffer that has a handle.
fn buffers(device: &Device, to: &mut Report) -> Result {
    let mapped = Maps::of(device)?;

    to.add(fmt!("client\thandle\tbytes\toffset\tmappings\n"))?;
    device.try_for_each_file(|file| {
        file.try_for_each_buffer(|handle, buffer| {
            let first = buffer.pgoff().unwrap_or_default();

            to.add(fmt!(
                "{}\t{}\t{}\t{:#x}\t{}\n",
                file.client(),
                handle,
                buffer.size(),
                first << PAGE_SHIFT,
                mapped.count(file, first, first + buffer.pages())
            ))
        })
    })
}

/// One line for each area of memory in which something is mapped.
fn mappings(device: &Device, to: &mut Report) -> Result {
    let mapped = Maps::of(device)?;

    to.add(fmt!("client\tpid\taddress\tbytes\toffset\twhat\n"))?;
    for it in &mapped.0 {
        let offset = (it.pgoff as u64) << PAGE_SHIFT;
        let what = match offset < uapi::ACCEL_MMAP_BUFFERS {
            true => "driver",
            false => "buffer",
        };

        to.add(fmt!(
            "{}\t{}\t{:#x}\t{}\t{:#x}\t{}\n",
            it.client,
            it.pid,
            it.start,
            it.size,
            offset,
            what
        ))?;
    }
    Ok(())
}

/// What is mapped of a device, in the order of clients and offsets.
struct Maps(KVVec<Mapped>);

impl Maps {
    fn of(device: &Device) -> Result<Self> {
        device.inode().mapped().map(Self)
    }

    /// How many there are of `file` from page offset `first` to below `end`.
    fn count(&self, file: &File, first: usize, end: usize) -> usize {
        let before = |pgoff| {
            self.0
                .partition_point(|it| it.order() < (file.client(), pgoff, 0))
        };

        before(end) - before(first)
    }
}
