// SPDX-License-Identifier: GPL-2.0

//! Numbers: which are free, which device has which, and how `open` gets from a minor to a device.
//!
//! A device takes the lowest free number N when it is registered, for both nodes. User space finds
//! it from [`publish`] to [`unpublish`]; the number stays taken until the last reference to the
//! device is gone, so that no name means two devices to one program.
//!
//! On a kernel with `CONFIG_DRM_ACCEL=y`, DRM owns the class `accel` and the names accel0 to
//! accel255. There our class is `accel_core`, and numbers start at 256.

use crate::{
    bindings::{
        debugfs::Directory,
        global::{
            Global,
            REGISTRY, //
        },
        node::{
            ClassDevice,
            FileSystem,
            Numbers, //
        },
        work::Later, //
    },
    debugfs,
    device::Device,
    file::{
        File,
        Node, //
    },
    sysfs::Common, //
};
use kernel::{
    device,
    id_pool::IdPool,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    str::CString,
    sync::Arc, //
};

/// Devices that there can be at a time.
const LIMIT: u32 = 4096;

/// The first number.
const BASE: u32 = if cfg!(CONFIG_DRM_ACCEL) { 256 } else { 0 };

const CLASS: &CStr = if cfg!(CONFIG_DRM_ACCEL) {
    c"accel_core"
} else {
    c"accel"
};

/// All devices.
pub(crate) struct Registry {
    /// Numbers taken, less [`BASE`].
    ids: IdPool,
    /// The device of each number, while it is published.
    devices: KVVec<Option<Arc<Device>>>,
    /// How many published devices are on a parent, by its address.
    on_parent: RBTree<usize, u32>,
    numbers: Arc<Numbers>,
    attributes: Common,
    debugfs: Arc<Directory>,
    /// What is left to be done may use an inode.
    _later: Later,
    /// Unmounted last.
    _fs: FileSystem,
}

/// The registry, for as long as the module is loaded.
pub(crate) struct Registered {
    _global: Global,
}

impl Registered {
    pub(crate) fn new() -> Result<Self> {
        let global = Global::new()?;
        let fs = FileSystem::mount()?;
        let later = Later::start()?;
        let mut devices = KVVec::new();

        for _ in 0..LIMIT {
            devices.push(None, GFP_KERNEL)?;
        }
        global.fill(Registry {
            ids: IdPool::with_capacity(LIMIT as usize, GFP_KERNEL)?,
            devices,
            on_parent: RBTree::new(),
            numbers: Arc::new(Numbers::new(CLASS, LIMIT)?, GFP_KERNEL)?,
            attributes: Common::new()?,
            debugfs: Arc::new(Directory::new(CLASS, None), GFP_KERNEL)?,
            _later: later,
            _fs: fs,
        });
        Ok(Self { _global: global })
    }
}

/// A number that a device has until this is dropped.
pub(crate) struct Number(usize);

impl Number {
    /// Takes the lowest free one.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when [`LIMIT`] are taken.
    pub(crate) fn take() -> Result<Self> {
        let mut registry = REGISTRY.lock();
        let registry = registry.as_mut().ok_or(ENODEV)?;

        // The pool's capacity is rounded up to what fits its words.
        if let Some(id) = registry.ids.find_unused_id(0) {
            if id.as_usize() < LIMIT as usize {
                return Ok(Self(id.acquire()));
            }
        }
        pr_err!("no number left: the limit is {} devices\n", LIMIT);
        Err(ENOSPC)
    }

    /// N of accelN and accel_controlN.
    pub(crate) fn get(&self) -> u32 {
        BASE + self.0 as u32
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        if let Some(registry) = REGISTRY.lock().as_mut() {
            registry.ids.release_id(self.0);
        }
    }
}

/// The two nodes of a device and its directory in debugfs; gone when this is dropped.
pub(crate) struct Nodes {
    compute: ClassDevice,
    _control: ClassDevice,
    _debugfs: Directory,
}

impl Nodes {
    /// Has programs that listen for uevents told of a change of the device.
    pub(crate) fn changed(&self, variables: &[&CStr]) {
        self.compute.changed(variables);
    }
}

/// What `on_parent` knows `parent` by.
fn key(parent: &device::Device) -> usize {
    core::ptr::from_ref(parent).addr()
}

/// Lets user space find `device`, and makes its nodes.
pub(crate) fn publish(device: &Arc<Device>) -> Result<Nodes> {
    let index = device.number_taken().0;
    let first_on_parent = RBTreeNodeReservation::new(GFP_KERNEL)?;
    let (numbers, attributes, debugfs) = {
        let mut registry = REGISTRY.lock();
        let registry = registry.as_mut().ok_or(ENODEV)?;
        let parent = key(device.parent());

        *registry.devices.get_mut(index).ok_or(ENOSPC)? = Some(device.clone());
        match registry.on_parent.get_mut(&parent) {
            Some(count) => *count += 1,
            None => drop(
                registry
                    .on_parent
                    .insert(first_on_parent.into_node(parent, 1)),
            ),
        }
        (
            registry.numbers.clone(),
            registry.attributes.clone(),
            registry.debugfs.clone(),
        )
    };
    let add = |node: Node, name: &str| {
        let name = CString::try_from_fmt(fmt!("{}{}", name, device.number()))?;

        numbers.add(
            device,
            node,
            index as u32,
            &name,
            attributes.of(device, node)?,
        )
    };

    Ok(Nodes {
        compute: add(Node::Compute, "accel")?,
        _control: add(Node::Control, "accel_control")?,
        _debugfs: debugfs::add(device, index, &debugfs)?,
    })
}

/// Hides `device` from `open` again.
pub(crate) fn unpublish(device: &Device) {
    let hidden = {
        let mut registry = REGISTRY.lock();
        let Some(registry) = registry.as_mut() else {
            return;
        };
        let hidden = registry
            .devices
            .get_mut(device.number_taken().0)
            .and_then(Option::take);
        let parent = key(device.parent());

        if hidden.is_some() {
            let left = registry.on_parent.get_mut(&parent).map_or(0, |count| {
                *count -= 1;
                *count
            });
            if left == 0 {
                registry.on_parent.remove(&parent);
            }
        }
        hidden
    };

    // Not under the lock: this may be the last reference, which gives the number back.
    drop(hidden);
}

/// How many published devices are on `parent`.
pub(crate) fn siblings(parent: &device::Device) -> u32 {
    REGISTRY
        .lock()
        .as_ref()
        .and_then(|registry| registry.on_parent.get(&key(parent)).copied())
        .unwrap_or(0)
}

/// A published device that `fits`.
pub(crate) fn find(fits: impl Fn(&Device) -> bool) -> Option<Arc<Device>> {
    let fits = |device: &&Arc<Device>| fits(device);

    REGISTRY
        .lock()
        .as_ref()
        .and_then(|registry| registry.devices.iter().flatten().find(fits).cloned())
}

/// The published device at `index`.
pub(crate) fn get(index: usize) -> Option<Arc<Device>> {
    REGISTRY
        .lock()
        .as_ref()
        .and_then(|registry| registry.devices.get(index)?.clone())
}

/// Opens the device that has `minor` among the minors of `node`.
///
/// # Errors
///
/// `ENODEV` when there is none, or it is going; those of [`File::open`].
pub(crate) fn open(node: Node, minor: u32) -> Result<Arc<File>> {
    let index = minor.wrapping_sub(node as u32 * LIMIT) as usize;

    File::open(get(index).ok_or(ENODEV)?, node)
}

/// Whether a node of this name is one for monitoring.
pub(crate) fn is_control(name: &CStr) -> bool {
    name.to_bytes().starts_with(b"accel_control")
}

/// The mode of a node before udev's rules: to compute is to spend the device, to monitor is to
/// read.
pub(crate) fn mode(name: &CStr) -> u16 {
    if is_control(name) {
        0o440
    } else {
        0o660
    }
}
