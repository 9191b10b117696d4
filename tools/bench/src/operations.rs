// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is measured from user space, and the peers that it is measured beside.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use libaccel::uapi::*;
use libaccel::{Device, null};

use crate::figures::{Figure, Figures, time};
use crate::{kernel, sys};

/// A driver's ioctl with 16 bytes in and out.
pub const ADD: &str = "accel driver ioctl, 16 B";
/// The query that everybody asks.
pub const IDENTITY: &str = "accel INFO identity";
/// Opening and closing a compute node.
pub const OPEN: &str = "accel open+close, compute";
/// DRM's ioctl with 16 bytes in and out.
pub const DRM_GET_CAP: &str = "DRM GET_CAP, 16 B";
/// DRM's larger query.
pub const DRM_VERSION: &str = "DRM VERSION";
/// Opening and closing a render node.
pub const OPEN_DRM: &str = "DRM open+close, render";

/// Measures all, each `n` times.
pub fn measure(n: usize) -> Figures {
    let mut figures = Figures::default();
    figures.add("empty", time(n, (), || ()));
    // Any number is good, but it is always the same one.
    let parent = sys::getppid();
    let floor = time(n, parent, sys::getppid);
    if let Ok(Figure { min, p99, .. }) = floor {
        if p99 > min + min / 20 {
            println!("note: this counter does not count instructions; trust ratios only");
        }
    }
    figures.add("getppid", floor);
    null_file(&mut figures, n);
    match render_node() {
        Ok(path) => drm(&mut figures, n, &path),
        Err(why) => {
            for name in [DRM_GET_CAP, DRM_VERSION, OPEN_DRM] {
                figures.add(name, Err(why.clone()));
            }
        }
    }
    match null_device() {
        Ok(device) => accel(&mut figures, n, &device),
        Err(why) => {
            for name in [ADD, IDENTITY, OPEN] {
                figures.add(name, Err(why.clone()));
            }
        }
    }
    figures
}

/// A device without hardware; its driver is loaded when there is none.
pub fn null_device() -> Result<Device, String> {
    libaccel::find(null::NAME).or_else(|error| {
        kernel::modprobe(null::NAME).map_err(|why| format!("{error} ({why})"))?;
        libaccel::find(null::NAME).map_err(|e| e.to_string())
    })
}

/// The cheapest file there is.
fn null_file(figures: &mut Figures, n: usize) {
    let refused = open(Path::new("/dev/null")).and_then(|file| {
        let fd = file.as_fd();
        time(n, -1, || sys::refused(fd))
    });
    figures.add("/dev/null ioctl, refused", refused);
    figures.add(
        "/dev/null open+close",
        time(n, 0, || sys::open_close(c"/dev/null")),
    );
}

/// The peer: a render node without hardware.
fn drm(figures: &mut Figures, n: usize, path: &Path) {
    let file = open(path);
    let get_cap = file.as_ref().map_err(Clone::clone).and_then(|file| {
        let mut argument = sys::DrmGetCap {
            capability: 5,
            value: 0,
        };
        time(n, 0, || sys::drm_get_cap(file.as_fd(), &mut argument))
    });
    figures.add(DRM_GET_CAP, get_cap);
    let version = file.as_ref().map_err(Clone::clone).and_then(|file| {
        let mut argument = sys::DrmVersion::numbers();
        time(n, 0, || sys::drm_version(file.as_fd(), &mut argument))
    });
    figures.add(DRM_VERSION, version);
    // Else these would be opens of a device that is open already.
    drop(file);
    let opens = sys::c_path(path).and_then(|path| time(n, 0, || sys::open_close(&path)));
    figures.add(OPEN_DRM, opens);
}

/// Ours, on a device without hardware as well.
fn accel(figures: &mut Figures, n: usize, device: &Device) {
    let compute = match device.open() {
        Ok(compute) => compute,
        Err(error) => {
            for name in [ADD, IDENTITY, OPEN] {
                figures.add(name, Err(error.to_string()));
            }
            return;
        }
    };
    let fd = compute.as_fd();

    let mut numbers = accel_null_add { a: 2, b: 3 };
    figures.add(
        ADD,
        time(n, 0, || sys::plain(fd, ACCEL_NULL_IOCTL_ADD, &mut numbers)),
    );

    let mut info = accel_info::default();
    let mut identity = accel_info_identity::default();
    figures.add(
        IDENTITY,
        time(n, 0, || sys::identity(fd, &mut info, &mut identity)),
    );

    let reached = compute
        .timeline()
        .map_err(|e| e.to_string())
        .and_then(|timeline| {
            let mut wait = accel_timeline_wait {
                handle: timeline.handle(),
                ..Default::default()
            };
            time(n, 0, || {
                sys::plain(fd, ACCEL_IOCTL_TIMELINE_WAIT, &mut wait)
            })
        });
    figures.add("accel TIMELINE_WAIT, reached", reached);

    let buffer = time(n, 0, || {
        let mut create = accel_buffer_create {
            size: 4096,
            ..Default::default()
        };
        let failed = sys::plain(fd, ACCEL_IOCTL_BUFFER_CREATE, &mut create);
        let mut destroy = accel_handle {
            handle: create.handle,
            flags: 0,
        };
        failed | sys::plain(fd, ACCEL_IOCTL_BUFFER_DESTROY, &mut destroy)
    });
    figures.add("accel buffer create+destroy, 1 page", buffer);

    drop(compute);
    let opens = sys::c_path(device.path()).and_then(|path| time(n, 0, || sys::open_close(&path)));
    figures.add(OPEN, opens);
}

fn open(path: &Path) -> Result<File, String> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|e| format!("{}: {e}", path.display()))
}

/// vgem's render node; the driver is loaded when there is none.
fn render_node() -> Result<PathBuf, String> {
    find_render_node().or_else(|_| {
        kernel::modprobe("vgem")?;
        find_render_node()
    })
}

fn find_render_node() -> Result<PathBuf, String> {
    let none = || "no render node of vgem in /dev/dri (modprobe vgem)".to_owned();
    let entries = fs::read_dir("/dev/dri").map_err(|_| none())?;
    let mut nodes: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    nodes.sort();
    nodes
        .into_iter()
        .find(|path| is_render_node(path) && is_vgem(path))
        .ok_or_else(none)
}

fn is_render_node(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("renderD"))
}

fn is_vgem(path: &Path) -> bool {
    open(path)
        .ok()
        .and_then(|file| sys::drm_name(file.as_fd()).ok())
        .is_some_and(|name| name == "vgem")
}
