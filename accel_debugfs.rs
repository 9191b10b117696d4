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
        slot::{
            Kind,
            Monitor,
            MonitorKind, //
        },
        uapi, //
    },
    device::Device,
    file::{
        File,
        Node, //
    },
    limits::Limit,
    minor,
    state::HISTORY,
    sysfs, //
};
use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    str::CString, //
};

/// A file that every device has.
struct DebugFile {
    name: &'static CStr,
    show: fn(&Device, &Monitor<'_>, &mut Report) -> Result,
}

static FILES: [DebugFile; 6] = [
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
    DebugFile {
        name: c"history",
        show: history,
    },
    DebugFile {
        name: c"operations",
        show: operations,
    },
];

/// Names that drivers cannot use.
pub(crate) const NAMES: [&str; 6] = [
    "clients",
    "contexts",
    "buffers",
    "mappings",
    "history",
    "operations",
];

/// Which file a key names; above these bits is the index of the device.
const FILE_BITS: u32 = 8;

/// Makes the directory of the device that is at `index` of the registry.
pub(crate) fn add(device: &Device, index: usize, parent: &Directory) -> Result<Directory> {
    let name = CString::try_from_fmt(fmt!("accel{}", device.number()))?;
    let directory = Directory::new(&name, Some(parent));

    let monitor = device.slot().monitor(MonitorKind::ATTRIBUTE)?;
    let mut keys = index << FILE_BITS..;

    for (about, key) in FILES.iter().zip(&mut keys) {
        directory.add(about.name, key);
    }
    monitor.debug_files(|name| {
        if let (Ok(name), Some(key)) = (CString::try_from_fmt(fmt!("{}", name)), keys.next()) {
            directory.add(&name, key);
        }
    });
    drop(monitor);
    Ok(directory)
}

/// The text of the file that has `key`.
///
/// # Errors
///
/// `ENODEV` when the device is gone; `ENOMEM`; for a driver's file `EAGAIN` when the hardware is not
/// to be asked, and the driver's.
pub(crate) fn open(key: usize) -> Result<Report> {
    let device = minor::get(key >> FILE_BITS).ok_or(ENODEV)?;
    let file = key & ((1 << FILE_BITS) - 1);
    let mut report = Report::new();

    let shown = match FILES.get(file) {
        Some(about) => {
            let monitor = device.slot().monitor(MonitorKind::ATTRIBUTE)?;

            (about.show)(&device, &monitor, &mut report)
        }
        None => {
            let Some(guard) = device.slot().enter(Kind::DRIVER_SHOW) else {
                return Err(match device.slot().is_closing() {
                    true => ENODEV,
                    false => EAGAIN,
                });
            };

            guard.debug_file(&device, file - FILES.len(), &mut report)
        }
    };

    match shown {
        // Users decide how much there is: they must not decide that nothing is told.
        Err(err) if err == EFBIG => report.cut()?,
        shown => shown?,
    }
    Ok(report)
}

/// One line for each open file.
fn clients(device: &Device, _: &Monitor<'_>, to: &mut Report) -> Result {
    to.add(fmt!(
        "client\tnode\tbuffers\tbytes\ttimelines\tpid\tuid\tname\n"
    ))?;
    device.try_for_each_file(|file| {
        let node = match file.node() {
            Node::Compute => "compute",
            Node::Control => "control",
        };

        let opener = file.opener();

        to.add(fmt!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t",
            file.client(),
            node,
            file.account().used(Limit::Buffers),
            file.buffer_bytes(),
            file.account().used(Limit::Timelines),
            opener.pid(),
            opener.uid()
        ))?;
        // A process calls itself what it likes.
        for byte in opener.name().iter().take_while(|&&byte| byte != 0) {
            match byte.is_ascii_graphic() {
                true => to.add(fmt!("{}", char::from(*byte)))?,
                false => to.add(fmt!("?"))?,
            }
        }
        to.add(fmt!("\n"))
    })
}

/// One line for each compute file.
fn contexts(device: &Device, _: &Monitor<'_>, to: &mut Report) -> Result {
    to.add(fmt!("client\tstate\n"))?;
    device.try_for_each_file(|file| match file.node() {
        Node::Compute => {
            let state = match file.context().is_lost() {
                true => "lost",
                false => "open",
            };

            to.add(fmt!("{}\t{}\n", file.client(), state))
        }
        Node::Control => Ok(()),
    })
}

/// One line for each buffer that has a handle.
fn buffers(device: &Device, _: &Monitor<'_>, to: &mut Report) -> Result {
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
fn mappings(device: &Device, _: &Monitor<'_>, to: &mut Report) -> Result {
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

/// One line for each of the last changes of the state, the oldest first.
fn history(device: &Device, _: &Monitor<'_>, to: &mut Report) -> Result {
    let last = device.machine().changes();

    to.add(fmt!("number\ttime_ns\tfrom\tto\tcause\n"))?;
    for number in last.saturating_sub(HISTORY as u64) + 1..=last {
        let change = device.machine().change_of(number);
        let Some(change) = change else {
            continue;
        };
        let [from, what, cause] = sysfs::words(&change);

        to.add(fmt!(
            "{}\t{}\t{}\t{}\t{}\n",
            number,
            change.at_ns,
            from,
            what,
            cause
        ))?;
    }
    Ok(())
}

/// One line for each kind of operation that enters the gate.
fn operations(_: &Device, monitor: &Monitor<'_>, to: &mut Report) -> Result {
    to.add(fmt!("operation\tcount\tinside\n"))?;
    monitor.operations(|name, count, inside| {
        let name = name.to_str().map_err(|_| EINVAL)?;

        to.add(fmt!("{}\t{}\t{}\n", name, count, inside))
    })
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
