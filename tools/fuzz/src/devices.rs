// SPDX-License-Identifier: GPL-2.0
//! Where the guest's devices are in sysfs, and how they are taken from their drivers and given
//! back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use libaccel::uapi::{
    ACCEL_MOCK_IOCTL_RESET, ACCEL_MOCK_IOCTL_SLEEP, accel_mock_reset, accel_mock_sleep,
};

use crate::program::{Device, Node};
use crate::sys::{self, Answer};

/// The control socket of the NPU's model.
const MODEL: &str = "/dev/virtio-ports/accel.npu0";

/// How long a device may take to come back, on a kernel that is not slow.
const RETURN: Duration = Duration::from_secs(30);

/// How long processes that were killed may keep it open.
const BUSY: Duration = Duration::from_secs(2);

/// How long a reset may take to begin.
const RESET: Duration = Duration::from_millis(250);

/// What a device hangs on, which does not change when it goes and comes.
#[derive(Debug)]
struct Parent {
    /// What the device in sysfs is called.
    name: String,
    from: Origin,
    /// Where the compute node was in sysfs the last time.
    last: Mutex<PathBuf>,
}

/// Where a parent comes from.
#[derive(Debug)]
enum Origin {
    /// It is on PCI; the folder of its driver.
    Pci(PathBuf),
    /// A module makes it: its name and file.
    Module(String, PathBuf),
}

/// Files of a device in sysfs and in debugfs.
#[derive(Debug, Clone, Default)]
struct Files {
    all: Vec<PathBuf>,
    /// Those that can be written to.
    writable: Vec<PathBuf>,
    /// Those that set limits, with what they were.
    limits: Vec<(PathBuf, String)>,
}

/// The devices that there were when the fuzzer began.
#[derive(Debug, Default)]
pub struct Devices {
    parents: BTreeMap<Device, Parent>,
    /// By the folder of the compute node. To look for them takes longer than to read one.
    files: Mutex<BTreeMap<PathBuf, Arc<Files>>>,
    /// Whether the kernel can have only the devices sleep: from any other sleep nobody wakes it.
    can_suspend: bool,
}

fn errno(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Where a link leads, as a name.
fn target(link: &Path) -> Option<String> {
    fs::read_link(link).ok().map(|path| name_of(&path))
}

/// Folders of compute nodes in sysfs, in the order of their numbers.
fn folders() -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = ["accel", "accel_core"]
        .iter()
        .filter_map(|class| fs::read_dir(Path::new("/sys/class").join(class)).ok())
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let number = name_of(&path).strip_prefix("accel")?.parse().ok()?;
            Some((number, path))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// The files of modules that a guest has, by their names.
fn modules() -> BTreeMap<String, PathBuf> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut left = vec![
        Path::new("/lib/modules")
            .join(release.trim())
            .join("updates"),
    ];
    let mut found = BTreeMap::new();
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
            } else if let Some(name) = name_of(&path).strip_suffix(".ko") {
                found.insert(name.replace('-', "_"), path);
            }
        }
    }
    found
}

/// Those of our modules that are loaded, with their files.
pub fn loaded_modules() -> BTreeMap<String, PathBuf> {
    let mut all = modules();
    all.retain(|name, _| {
        Path::new("/sys/module")
            .join(name)
            .join("sections")
            .is_dir()
    });
    all
}

impl Devices {
    /// Looks what there is.
    pub fn find() -> Self {
        let modules = modules();
        let mut devices = Self::default();
        for device in Device::ALL {
            let folder = folders()
                .into_iter()
                .filter(|folder| is_kind(folder, device))
                .nth(device.index());
            let Some(folder) = folder else { continue };
            let parent = folder.join("device");
            let name = target(&parent).unwrap_or_default();
            let module = name.split_once('.').map_or("", |(module, _)| module);
            let from = match (modules.get(module), parent.join("driver").canonicalize()) {
                (Some(file), _) => Origin::Module(module.to_owned(), file.clone()),
                (None, Ok(driver)) => Origin::Pci(driver),
                (None, Err(_)) => continue,
            };
            let last = Mutex::new(folder);
            devices.parents.insert(device, Parent { name, from, last });
            devices.files(device);
        }
        devices
    }

    pub fn all(&self) -> impl Iterator<Item = Device> {
        self.parents.keys().copied()
    }

    /// Whether a module makes it: then that is loaded and unloaded to have it go and come.
    pub fn is_of_module(&self, device: Device) -> bool {
        let parent = self.parents.get(&device);
        parent.is_some_and(|parent| matches!(parent.from, Origin::Module(..)))
    }

    /// The folder of its compute node in sysfs, if it is there now.
    fn folder(&self, device: Device) -> Option<PathBuf> {
        let parent = self.parents.get(&device)?;
        let is_of = |folder: &Path| target(&folder.join("device")).as_ref() == Some(&parent.name);
        let mut last = parent.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_of(&last) {
            *last = folders().into_iter().find(|folder| is_of(folder))?;
        }
        Some(last.clone())
    }

    pub fn open(&self, device: Device, node: Node, read_only: bool) -> Answer {
        let folder = self.folder(device).ok_or(libc::ENOENT)?;
        let flags = if read_only {
            libc::O_RDONLY
        } else {
            libc::O_RDWR
        };
        let name = match node {
            Node::Compute => name_of(&folder),
            Node::Control => name_of(&folder).replacen("accel", "accel_control", 1),
        };
        sys::open(&Path::new("/dev/accel").join(name), flags)
    }

    pub fn unbind(&self, device: Device) -> Answer {
        let parent = self.parents.get(&device).ok_or(libc::ENODEV)?;
        match &parent.from {
            Origin::Pci(driver) => put(&driver.join("unbind"), &parent.name),
            Origin::Module(name, _) => sys::delete_module(name),
        }
    }

    pub fn bind(&self, device: Device) -> Answer {
        let parent = self.parents.get(&device).ok_or(libc::ENODEV)?;
        match &parent.from {
            Origin::Pci(driver) => put(&driver.join("bind"), &parent.name),
            Origin::Module(_, file) => {
                let fd = sys::open(file, libc::O_RDONLY)? as i32;
                let parameters = match device {
                    // Else it never sleeps.
                    Device::Mock => c"autosuspend_ms=20",
                    _ => c"",
                };
                let done = sys::finit_module(fd, parameters);
                let _ = sys::close(fd);
                done
            }
        }
    }

    /// Has the subsystem reset the device, or the bus.
    pub fn reset(&self, device: Device, bus: bool) -> Answer {
        let folder = self.folder(device).ok_or(libc::ENOENT)?;
        let file = if bus { "device/reset" } else { "reset" };
        put(&folder.join(file), "1")
    }

    /// Its files, if it is there.
    fn files(&self, device: Device) -> Arc<Files> {
        let Some(folder) = self.folder(device) else {
            return Arc::default();
        };
        let mut known = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let files = known.entry(folder).or_insert_with_key(|folder| {
            let all = files_of(folder);
            let mut writable = all.clone();
            writable.retain(|path| {
                fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o200 != 0)
            });
            let is_limit =
                |path: &&PathBuf| path.parent().map(name_of).as_deref() == Some("limits");
            let limits = writable.iter().filter(is_limit);
            let limits = limits
                .filter_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?)))
                .collect();
            Arc::new(Files {
                all,
                writable,
                limits,
            })
        });
        Arc::clone(files)
    }

    /// Reads one of its files.
    pub fn show(&self, device: Device, file: u8) -> Answer {
        let files = self.files(device);
        let text = fs::read(nth(&files.all, file)?).map_err(|error| errno(&error))?;
        Ok(text.len() as i64)
    }

    /// Writes to one of those of its files that can be written to.
    pub fn set(&self, device: Device, file: u8, text: &str) -> Answer {
        let files = self.files(device);
        put(nth(&files.writable, file)?, text)
    }

    /// Has all devices sleep and wake.
    pub fn suspend(&self) -> Answer {
        if !self.can_suspend {
            return Err(libc::EOPNOTSUPP);
        }
        put(Path::new("/sys/power/state"), "mem")
    }

    /// Says a line to the model of the NPU.
    pub fn inject(&self, line: &str) -> Answer {
        put(Path::new(MODEL), &format!("{line}\n"))
    }

    /// Makes all devices be there and work. Those in `told` were told something that lasts, in
    /// their files or else.
    pub fn restore(&self, told: &[Device], patience: u32) -> Result<()> {
        for device in told {
            // Whether it helps is seen when they are opened.
            for (path, text) in &self.files(*device).limits {
                let _ = put(path, text);
            }
            let _ = match device {
                Device::Mock => self.be_a_good_mock(),
                Device::Npu => self
                    .inject("clear")
                    .and_then(|_| self.reset(*device, false)),
                _ => Ok(0),
            };
        }
        for device in self.all() {
            self.restore_one(device, patience)?;
        }
        if told.contains(&Device::Mock) {
            // It may not have listened before it was reset.
            let _ = self.be_a_good_mock();
        }
        Ok(())
    }

    /// Has resets and the sleep of the mock go as they did in the beginning.
    fn be_a_good_mock(&self) -> Answer {
        let fd = self.open(Device::Mock, Node::Compute, false)? as i32;
        let mut reset = accel_mock_reset::default();
        let mut sleep = accel_mock_sleep::default();
        let (number, address) = (ACCEL_MOCK_IOCTL_RESET.number(), &raw mut reset);
        let done = sys::ioctl(fd, number, address.expose_provenance() as u64);
        let (number, address) = (ACCEL_MOCK_IOCTL_SLEEP.number(), &raw mut sleep);
        let done = done.and(sys::ioctl(fd, number, address.expose_provenance() as u64));
        let _ = sys::close(fd);
        done
    }

    /// Makes the guest as it is to be for programs.
    pub fn prepare(&mut self, patience: u32) -> Result<()> {
        let set = |path: &str, text| put(Path::new(path), text).is_ok();
        self.can_suspend = set("/sys/power/pm_test", "devices")
            // The system wakes at once, and does not wait long for processes that do not stop.
            && set("/sys/module/suspend/parameters/pm_test_delay", "0")
            && set("/sys/power/pm_freeze_timeout", "2000");
        let _ = self.unbind(Device::Mock);
        self.restore_one(Device::Mock, patience)
    }

    fn restore_one(&self, device: Device, patience: u32) -> Result<()> {
        let time = RETURN * patience;
        let began = Instant::now();
        let mut last = 0;
        let mut reset: Option<Instant> = None;
        while began.elapsed() < time {
            match self.open(device, Node::Compute, false) {
                Ok(fd) => {
                    let _ = sys::close(fd as i32);
                    return Ok(());
                }
                Err(errno) => last = errno,
            }
            match last {
                libc::ENOENT | libc::ENODEV | libc::ENXIO => drop(self.bind(device)),
                libc::EBUSY if began.elapsed() < BUSY * patience => {}
                // It is being reset.
                libc::EAGAIN if began.elapsed() < time / 2 => {}
                libc::EIO if reset.is_none() => {
                    let _ = self.reset(device, false);
                    reset = Some(Instant::now());
                }
                libc::EIO if reset.is_some_and(|at| at.elapsed() < RESET * patience) => {}
                _ => drop(self.unbind(device)),
            }
            // A node is made by a thread of the kernel's that may be late.
            std::thread::sleep(Duration::from_millis(5));
        }
        let why = std::io::Error::from_raw_os_error(last);
        bail!(
            "{device:?} did not come back within {} s: {why}",
            time.as_secs()
        )
    }

    /// Fails if one of the devices that every guest has is not there.
    pub fn expect_all(&self) -> Result<()> {
        for device in Device::ALL {
            self.parents
                .get(&device)
                .with_context(|| format!("this guest has no {device:?}"))?;
        }
        Ok(())
    }
}

/// Whether the folder is of a device of this kind.
fn is_kind(folder: &Path, device: Device) -> bool {
    let parent = folder.join("device");
    let name = target(&parent).unwrap_or_default();
    let driver = target(&parent.join("driver")).unwrap_or_default();
    match device {
        Device::Mock => name.starts_with("accel_mock."),
        Device::Null => name.starts_with("accel_null."),
        Device::Edu | Device::Edu2 => driver == "accel_edu",
        Device::Npu => driver == "accel_pcie_npu",
    }
}

fn nth(files: &[PathBuf], number: u8) -> Result<&Path, i32> {
    let path = files.get(usize::from(number) % files.len().max(1));
    path.map(PathBuf::as_path).ok_or(libc::ENOENT)
}

/// The files of the device with this compute node, in the order of their names.
fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let control = name_of(folder).replacen("accel", "accel_control", 1);
    list(folder, 2, &mut found);
    list(&folder.with_file_name(control), 2, &mut found);
    let debugfs = fs::read_dir("/sys/kernel/debug");
    for entry in debugfs.into_iter().flatten().flatten() {
        if name_of(&entry.path()).starts_with("accel") {
            list(&entry.path().join(name_of(folder)), 2, &mut found);
        }
    }
    found.sort();
    found
}

/// Files below a folder; links are not followed.
fn list(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 1 => list(&entry.path(), depth - 1, found),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

/// One write(2), whose errno is the attribute's.
fn put(path: &Path, text: &str) -> Answer {
    let fd = sys::open(path, libc::O_WRONLY | libc::O_NONBLOCK)? as i32;
    let done = sys::write(fd, text.as_ptr().expose_provenance() as u64, text.len());
    let _ = sys::close(fd);
    done
}
