// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which accelerators there are: sysfs names them, their control nodes confirm it.
//!
//! The classes are not ours alone: where the kernel has DRM's accelerators, class
//! `accel` is DRM's and ours is `accel_core`. DRM's have no control node, and
//! would not answer INFO if they had.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::makedev;
use rustix::io::Errno;

use crate::info::{Info, expect_number};
use crate::{Compute, Control, Error, Identity, Result};

/// The classes that accelerators may be in.
const CLASSES: [&str; 2] = ["accel", "accel_core"];

/// An accelerator that was found. Its number stays its own while this is held:
/// the control node is open, and the kernel reuses no number that is in use.
#[derive(Debug)]
pub struct Device {
    control: Control,
    identity: Identity,
    place: Place,
}

impl Device {
    /// `accelN`.
    pub fn name(&self) -> String {
        format!("accel{}", self.identity.number)
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its control node.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Its folder in sysfs.
    pub fn sysfs(&self) -> &Path {
        &self.place.sysfs
    }

    /// The path of its compute node.
    pub fn path(&self) -> &Path {
        &self.place.compute.path
    }

    /// Opens its compute node.
    ///
    /// # Errors
    ///
    /// As [`Compute::open`].
    pub fn open(&self) -> Result<Compute> {
        let Entry { path, rdev } = &self.place.compute;
        Compute::open_as(path, Some(*rdev))
    }

    fn probe(place: Place) -> Result<Self> {
        let Entry { path, rdev } = &place.control;
        let control = Control::open_as(path, Some(*rdev))?;
        let identity = control.identity()?;
        expect_number(&path.display().to_string(), &identity, place.number)?;
        Ok(Self {
            control,
            identity,
            place,
        })
    }
}

/// What [`scan`] found.
#[derive(Debug, Default)]
pub struct Scan {
    /// The accelerators, in the order of their numbers.
    pub devices: Vec<Device>,
    /// Why others, which there are, could not be asked.
    pub refused: Vec<Error>,
}

/// Looks for accelerators.
///
/// Those that go while they are asked, and those whose nodes are kept out of a
/// container, are in neither list.
pub fn scan() -> Scan {
    let mut scan = Scan::default();
    for place in places(Path::new("/sys/class"), Path::new("/dev")) {
        match Device::probe(place) {
            Ok(device) => scan.devices.push(device),
            Err(error) if is_absent(&error) => {}
            Err(error) => scan.refused.push(error),
        }
    }
    scan
}

/// The accelerators, in the order of their numbers; at least one.
///
/// # Errors
///
/// When there is none: why one that exists could not be asked, else
/// [`Error::None`].
pub fn devices() -> Result<Vec<Device>> {
    let scan = scan();
    if scan.devices.is_empty() {
        return Err(none(scan.refused, None));
    }
    Ok(scan.devices)
}

/// The first accelerator with a driver's own calls: [`edu::NAME`](crate::edu::NAME), say.
///
/// # Errors
///
/// As [`devices`], when there is none.
pub fn find(uapi_name: &str) -> Result<Device> {
    let scan = scan();
    let wanted = |device: &Device| device.identity.uapi_name == uapi_name;
    match scan.devices.into_iter().find(wanted) {
        Some(device) => Ok(device),
        None => Err(none(scan.refused, Some(uapi_name))),
    }
}

/// Why nothing was found: what refused may be what was wanted.
fn none(refused: Vec<Error>, uapi_name: Option<&str>) -> Error {
    refused.into_iter().next().unwrap_or(Error::None {
        uapi_name: uapi_name.map(str::to_owned),
    })
}

/// Whether `error` means that there is no such accelerator, for us at least.
fn is_absent(error: &Error) -> bool {
    error.is_gone()
        || matches!(
            error.errno(),
            Some(Errno::NOENT | Errno::NOTTY | Errno::OPNOTSUPP)
        )
}

/// A node by what sysfs says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    path: PathBuf,
    rdev: u64,
}

/// A device by what sysfs says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    number: u32,
    sysfs: PathBuf,
    compute: Entry,
    control: Entry,
}

/// What may be accelerators of ours, in the order of their numbers.
fn places(classes: &Path, dev: &Path) -> Vec<Place> {
    // By number: no two can have the same, since the nodes share one folder.
    let mut found = BTreeMap::new();
    for class in CLASSES {
        // A class that does not exist has no devices.
        let Ok(entries) = fs::read_dir(classes.join(class)) else {
            continue;
        };
        for name in entries.flatten().map(|entry| entry.file_name()) {
            let number = name.to_str().and_then(control_number);
            if let Some(place) = number.and_then(|n| place(&classes.join(class), dev, n)) {
                found.insert(place.number, place);
            }
        }
    }
    found.into_values().collect()
}

/// N of `accel_controlN`.
fn control_number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("accel_control")?;
    let number = digits.parse().ok()?;
    // "+1" and "01" parse, but the kernel makes no such names.
    (format!("{number}") == digits).then_some(number)
}

fn place(class: &Path, dev: &Path, number: u32) -> Option<Place> {
    let sysfs = class.join(format!("accel{number}"));
    Some(Place {
        number,
        compute: entry(&sysfs, dev, &format!("accel/accel{number}"))?,
        control: entry(
            &class.join(format!("accel_control{number}")),
            dev,
            &format!("accel/accel_control{number}"),
        )?,
        sysfs,
    })
}

/// The node of `folder`, when that is called `name` under /dev.
fn entry(folder: &Path, dev: &Path, name: &str) -> Option<Entry> {
    let uevent = fs::read_to_string(folder.join("uevent")).ok()?;
    let value = |key: &str| {
        uevent
            .lines()
            .filter_map(|line| line.split_once('='))
            .find_map(|(k, v)| (k == key).then_some(v))
    };
    if value("DEVNAME")? != name {
        return None;
    }
    let major = value("MAJOR")?.parse().ok()?;
    let minor = value("MINOR")?.parse().ok()?;
    Some(Entry {
        path: dev.join(name),
        rdev: makedev(major, minor),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that goes when the test ends.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn add(&self, class: &str, name: &str, uevent: &str) {
            let folder = self.0.join(class).join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("uevent"), uevent).unwrap();
        }

        fn add_pair(&self, class: &str, number: u32, minor: u32) {
            for (name, minor) in [("accel", minor), ("accel_control", minor + 1)] {
                let name = format!("{name}{number}");
                let uevent = format!("MAJOR=240\nMINOR={minor}\nDEVNAME=accel/{name}\n");
                self.add(class, &name, &uevent);
            }
        }

        fn numbers(&self) -> Vec<u32> {
            let places = places(&self.0, Path::new("/dev"));
            places.iter().map(|place| place.number).collect()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn pairs_are_found_in_the_order_of_numbers() {
        let tree = Tree::new("libaccel-pairs");
        for number in [10, 2, 0] {
            tree.add_pair("accel", number, number * 2);
        }
        tree.add_pair("accel_core", 256, 512);
        let found = places(&tree.0, Path::new("/dev"));
        let numbers: Vec<u32> = found.iter().map(|place| place.number).collect();
        assert_eq!(numbers, [0, 2, 10, 256]);
        assert_eq!(found[1].compute.path, Path::new("/dev/accel/accel2"));
        assert_eq!(found[1].compute.rdev, makedev(240, 4));
        assert_eq!(
            found[1].control.path,
            Path::new("/dev/accel/accel_control2")
        );
        assert_eq!(found[1].control.rdev, makedev(240, 5));
        assert_eq!(found[3].sysfs, tree.0.join("accel_core/accel256"));
    }

    #[test]
    fn devices_of_drm_are_not_ours() {
        let tree = Tree::new("libaccel-drm");
        tree.add(
            "accel",
            "accel0",
            "MAJOR=261\nMINOR=0\nDEVNAME=accel/accel0\n",
        );
        tree.add_pair("accel_core", 256, 0);
        assert_eq!(tree.numbers(), [256]);
    }

    #[test]
    fn what_is_half_there_is_left_out() {
        let tree = Tree::new("libaccel-half");
        let control = "MAJOR=1\nMINOR=2\nDEVNAME=accel/accel_control1\n";
        tree.add("accel", "accel_control1", control);
        tree.add("accel", "accel_control2", control);
        tree.add(
            "accel",
            "accel2",
            "MAJOR=1\nMINOR=1\nDEVNAME=accel/accel2\n",
        );
        tree.add("accel", "accel_control3", "MAJOR=x\n");
        tree.add("accel", "accel3", "");
        fs::create_dir_all(tree.0.join("accel/accel_control4")).unwrap();
        assert_eq!(tree.numbers(), [0; 0]);
    }

    #[test]
    fn no_classes_are_no_devices() {
        let tree = Tree::new("libaccel-none");
        assert_eq!(tree.numbers(), [0; 0]);
    }

    #[test]
    fn names_are_those_that_the_kernel_makes() {
        assert_eq!(control_number("accel_control0"), Some(0));
        assert_eq!(control_number("accel_control4294967295"), Some(u32::MAX));
        for wrong in [
            "accel_control",
            "accel_control01",
            "accel_control+1",
            "accel_control4294967296",
            "accel_control1x",
            "accel1",
        ] {
            assert_eq!(control_number(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn absent_is_not_refused() {
        let open = |errno| Error::open(Path::new("/nonexistent"), errno);
        assert!(is_absent(&open(Errno::NOENT)));
        assert!(is_absent(&open(Errno::NXIO)));
        assert!(!is_absent(&open(Errno::ACCESS)));
    }
}
