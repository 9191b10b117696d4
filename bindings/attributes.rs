// SPDX-License-Identifier: GPL-2.0

//! Attributes of class devices: groups of files in sysfs.
//!
//! The C structures depend on the kernel's configuration, so groups are made at run time; those that
//! are the same for all devices once.
//!
//! C header: [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h)

use super::raw;
use crate::{
    device::Device,
    sysfs::{
        self,
        What, //
    }, //
};
use kernel::{
    bindings,
    error::from_result,
    ffi::c_char,
    page::PAGE_SIZE,
    prelude::*,
    str::{
        CString,
        Formatter, //
    },
    types::Opaque, //
};

/// One file. Its address is what the kernel knows it by.
#[repr(C)]
struct Entry {
    raw: Opaque<bindings::device_attribute>,
    what: What,
    /// The kernel keeps the pointer for as long as the file is there.
    _name: CString,
}

/// Some files of a class device, in the device's directory or in one of their own.
///
/// # Invariants
///
/// `raw` points to `pointers`, which end with NULL and point to `entries`; none of them moves, nor
/// changes.
pub(crate) struct Group {
    raw: KBox<Opaque<bindings::attribute_group>>,
    _pointers: KVec<*mut bindings::attribute>,
    _entries: KVec<Entry>,
}

// SAFETY: What it points to are its own vectors.
unsafe impl Send for Group {}
// SAFETY: The kernel only reads it.
unsafe impl Sync for Group {}

impl Group {
    /// Makes a group of files with these names and modes, in a directory called `name` if there is
    /// one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(
        name: Option<&'static CStr>,
        files: impl ExactSizeIterator<Item = (Result<CString>, u16, What)>,
    ) -> Result<Self> {
        let mut entries = KVec::with_capacity(files.len(), GFP_KERNEL)?;
        let mut pointers = KVec::with_capacity(files.len() + 1, GFP_KERNEL)?;

        for (name, mode, what) in files {
            let name = name?;
            let entry = Entry {
                raw: Opaque::zeroed(),
                what,
                _name: name,
            };

            entries.push(entry, GFP_KERNEL)?;
            if let Some(entry) = entries.last() {
                // SAFETY: The entry and the name are on the heap, where they stay: the vector has
                // room for all that follow, and is only dropped with the group.
                let attribute = unsafe {
                    raw::accel_attribute_init(
                        entry.raw.get(),
                        entry._name.as_char_ptr(),
                        mode,
                        Some(show),
                        Some(store),
                    )
                };

                pointers.push(attribute, GFP_KERNEL)?;
            }
        }
        pointers.push(core::ptr::null_mut(), GFP_KERNEL)?;
        let raw = KBox::new(Opaque::zeroed(), GFP_KERNEL)?;

        // SAFETY: `raw` is valid for writes; the name is constant.
        unsafe {
            raw::accel_group_init(
                raw.get(),
                name.map_or(core::ptr::null(), CStr::as_char_ptr),
                pointers.as_mut_ptr(),
                Some(visible),
            )
        };
        // INVARIANT: By the above; a vector's elements do not move with it.
        Ok(Self {
            raw,
            _pointers: pointers,
            _entries: entries,
        })
    }

    /// What the kernel takes.
    pub(super) fn raw(&self) -> *const bindings::attribute_group {
        self.raw.get()
    }
}

/// The device that a class device of ours belongs to.
///
/// # Safety
///
/// `dev` must be a class device of ours that is registered for `'a`.
unsafe fn device<'a>(dev: *mut bindings::device) -> &'a Device {
    // SAFETY: By this function's requirements: a `ClassDevice` holds what it has put there.
    unsafe { &*(*dev).driver_data.cast::<Device>() }
}

/// # Safety
///
/// `attribute` must be the first field of an [`Entry`] that is there for `'a`.
unsafe fn what<'a>(attribute: *const bindings::attribute) -> &'a What {
    // SAFETY: By this function's requirements; an attribute is the first field of a device's.
    unsafe { &(*attribute.cast::<Entry>()).what }
}

/// # Safety
///
/// The kernel calls this for a file of a [`Group`] on a class device of ours, which it keeps
/// registered meanwhile; `buf` is a page.
unsafe extern "C" fn show(
    dev: *mut bindings::device,
    attribute: *mut bindings::device_attribute,
    buf: *mut c_char,
) -> isize {
    // SAFETY: By this function's requirements.
    let (device, what) = unsafe { (device(dev), what(attribute.cast())) };
    // SAFETY: As above; nobody else uses the page meanwhile.
    let page = unsafe { core::slice::from_raw_parts_mut(buf.cast::<u8>(), PAGE_SIZE) };
    let mut text = Formatter::new(page);

    from_result(|| {
        sysfs::show(device, what, &mut text)?;
        Ok(text.bytes_written() as isize)
    })
}

/// # Safety
///
/// As [`show`], with `count` bytes at `buf`.
unsafe extern "C" fn store(
    dev: *mut bindings::device,
    attribute: *mut bindings::device_attribute,
    buf: *const c_char,
    count: usize,
) -> isize {
    // SAFETY: By this function's requirements.
    let (device, what) = unsafe { (device(dev), what(attribute.cast())) };
    // SAFETY: As above.
    let text = unsafe { core::slice::from_raw_parts(buf.cast::<u8>(), count) };

    from_result(|| sysfs::store(device, what, text).map(|()| count as isize))
}

/// # Safety
///
/// The kernel calls this for a file of a [`Group`], with the `kobj` of a class device of ours that
/// it is adding or removing.
unsafe extern "C" fn visible(
    kobj: *mut bindings::kobject,
    attribute: *mut bindings::attribute,
    _index: i32,
) -> bindings::umode_t {
    // SAFETY: By this function's requirements.
    let dev = unsafe { kernel::container_of!(kobj, bindings::device, kobj) };
    // SAFETY: As above; the device's data is set before it is added.
    let (device, what) = unsafe { (device(dev), what(attribute)) };

    if sysfs::exists(device, what) {
        // SAFETY: By this function's requirements.
        unsafe { (*attribute).mode }
    } else {
        0
    }
}
