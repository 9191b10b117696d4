// SPDX-License-Identifier: GPL-2.0

//! Character devices, their class, and the operations of their files.
//!
//! Two ranges of minors under one major, one `cdev` each: `open` finds the device by its minor, so
//! that a device costs no `cdev` and none can be left behind. The operations are the core's own and
//! pin the core's module only: a driver can go while its files are open.

use super::{
    attributes::Group,
    raw,
    user::Destination,
    vma,
    wait::{
        poll_mask,
        Poll, //
    }, //
};
use crate::{
    device::Device,
    file::{
        File,
        Node, //
    },
    minor,
    THIS_MODULE, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    ffi::{
        c_char,
        c_int,
        c_long,
        c_uint,
        c_ulong,
        c_void, //
    },
    prelude::*,
    seq_file::SeqFile,
    sync::Arc,
    types::ForeignOwnable, //
};

/// The inode that all files of one device share, for the sake of its address space: who unmaps it
/// finds every mapping of the device.
///
/// # Invariants
///
/// The inode is valid and this value owns a reference to it.
pub(crate) struct Inode(NonNull<bindings::inode>);

// SAFETY: Inodes belong to no thread.
unsafe impl Send for Inode {}
// SAFETY: As above.
unsafe impl Sync for Inode {}

impl Inode {
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: The file system is mounted for as long as the module is there.
        let inode = from_err_ptr(unsafe { raw::accel_fs_inode() })?;

        // INVARIANT: We were given a reference.
        Ok(Self(NonNull::new(inode).ok_or(ENOMEM)?))
    }

    fn mapping(&self) -> *mut bindings::address_space {
        // SAFETY: By the type invariant the inode is valid.
        unsafe { (*self.0.as_ptr()).i_mapping }
    }

    /// What is mapped of it now, in the order of [`Mapped::order`].
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn mapped(&self) -> Result<KVVec<Mapped>> {
        let mut found = Found {
            mapped: KVVec::new(),
            count: 0,
        };

        loop {
            // SAFETY: The address space is valid, and its areas are our files'; `found` is what the
            // function takes.
            unsafe {
                raw::accel_walk_vmas(
                    self.mapping(),
                    Some(found_vma),
                    core::ptr::from_mut(&mut found).cast(),
                )
            };
            if found.mapped.len() == found.count {
                break;
            }
            // There may be a few more by then.
            let room = found.count + found.count / 8;

            found.mapped.clear();
            // Not charged: as a report of debugfs, for which this is.
            found.mapped.reserve(room, GFP_KERNEL)?;
            found.count = 0;
        }
        // The kernel's own sort: `core`'s has ways to panic.
        // SAFETY: These are as many elements, and the function takes two of them.
        unsafe {
            raw::accel_sort(
                found.mapped.as_mut_ptr().cast(),
                found.mapped.len(),
                size_of::<Mapped>(),
                Some(compare),
            )
        };
        Ok(found.mapped)
    }

    /// Unmaps every page of every mapping. What is touched again faults.
    pub(crate) fn zap(&self) {
        // SAFETY: The address space is the inode's, which is valid. 0, 0: all of it.
        unsafe { bindings::unmap_mapping_range(self.mapping(), 0, 0, 1) };
    }

    /// Unmaps what is mapped at offsets below `end`, in bytes, of all files.
    pub(crate) fn zap_below(&self, end: u64) {
        // SAFETY: The address space is the inode's, which is valid.
        unsafe { bindings::unmap_mapping_range(self.mapping(), 0, end as i64, 1) };
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours to give back.
        unsafe { bindings::iput(self.0.as_ptr()) };
    }
}

/// An area of somebody's memory in which something of a file of ours is mapped.
pub(crate) struct Mapped {
    /// Of [`File::client`].
    pub(crate) client: u64,
    /// The process, for the caller; 0 when it is not known.
    pub(crate) pid: i32,
    /// Address in the process.
    pub(crate) start: usize,
    /// Bytes.
    pub(crate) size: usize,
    /// Page offset in the file.
    pub(crate) pgoff: usize,
}

impl Mapped {
    /// By files, and by what they map.
    pub(crate) fn order(&self) -> (u64, usize, usize) {
        (self.client, self.pgoff, self.start)
    }
}

/// # Safety
///
/// `a` and `b` point to a [`Mapped`] each.
unsafe extern "C" fn compare(a: *const c_void, b: *const c_void) -> c_int {
    // SAFETY: By this function's requirements.
    let (a, b) = unsafe { (&*a.cast::<Mapped>(), &*b.cast::<Mapped>()) };

    a.order().cmp(&b.order()) as c_int
}

/// Those that were found: as many as there is room for, and how many there are.
struct Found {
    mapped: KVVec<Mapped>,
    count: usize,
}

/// # Safety
///
/// `found` is a [`Found`] that nobody else uses, `vma` an area of one of our files that does not
/// change meanwhile.
unsafe extern "C" fn found_vma(
    found: *mut c_void,
    vma: *const bindings::vm_area_struct,
    pid: c_int,
) {
    // SAFETY: By this function's requirements; an area holds its file.
    let (found, vma, file) =
        unsafe { (&mut *found.cast::<Found>(), &*vma, private((*vma).vm_file)) };
    // SAFETY: Both are fields of a valid area.
    let (start, end) = unsafe {
        (
            vma.__bindgen_anon_1.__bindgen_anon_1.vm_start,
            vma.__bindgen_anon_1.__bindgen_anon_1.vm_end,
        )
    };

    found.count += 1;
    // What there is no room for is only counted.
    let _ = found.mapped.push_within_capacity(Mapped {
        client: file.client(),
        pid,
        start,
        size: end - start,
        pgoff: vma.vm_pgoff,
    });
}

/// The hidden file system that [`Inode`]s are on; mounted for as long as this exists.
pub(crate) struct FileSystem(());

impl FileSystem {
    pub(crate) fn mount() -> Result<Self> {
        // SAFETY: Called once, from the module's init.
        to_result(unsafe { raw::accel_fs_mount() })?;
        Ok(Self(()))
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        // SAFETY: Mounted by `mount`; inodes belong to devices, whose files pin the module and whose
        // drivers use it: none is left when it exits.
        unsafe { raw::accel_fs_unmount() };
    }
}

/// A major number with two ranges of minors, each with a `cdev`, and the class of their devices.
pub(crate) struct Numbers {
    first: bindings::dev_t,
    per_node: u32,
    cdevs: [*mut bindings::cdev; 2],
    class: *mut bindings::class,
}

// SAFETY: None of it belongs to a thread.
unsafe impl Send for Numbers {}
// SAFETY: It does not change once it is made.
unsafe impl Sync for Numbers {}

impl Numbers {
    /// Allocates a major with `per_node` minors for each node, and a class called `name`.
    pub(crate) fn new(name: &'static CStr, per_node: u32) -> Result<Self> {
        let mut first = 0;

        // SAFETY: `first` is valid for a write; the name is constant.
        to_result(unsafe {
            bindings::alloc_chrdev_region(&mut first, 0, 2 * per_node, name.as_char_ptr())
        })?;
        let mut this = Self {
            first,
            per_node,
            cdevs: [core::ptr::null_mut(); 2],
            class: core::ptr::null_mut(),
        };

        // SAFETY: The name is constant.
        this.class = from_err_ptr(unsafe { bindings::class_create(name.as_char_ptr()) })?;
        // SAFETY: The class was just made; nothing of it is in use.
        unsafe {
            (*this.class).devnode = Some(devnode);
            raw::accel_class_power(this.class);
        }
        for (node, fops) in [(Node::Compute, &COMPUTE), (Node::Control, &CONTROL)] {
            // SAFETY: No requirements.
            let cdev = unsafe { bindings::cdev_alloc() };

            if cdev.is_null() {
                return Err(ENOMEM);
            }
            // SAFETY: `cdev` was just made.
            unsafe {
                (*cdev).ops = &fops.0;
                (*cdev).owner = THIS_MODULE.as_ptr();
            }
            // SAFETY: `cdev` is valid and the range is ours.
            let ret = unsafe { bindings::cdev_add(cdev, this.devt(node, 0), per_node) };
            if ret != 0 {
                // SAFETY: It was not added, so the reference is still ours.
                unsafe { bindings::kobject_put(&mut (*cdev).kobj) };
                return Err(Error::from_errno(ret));
            }
            if let Some(slot) = this.cdevs.get_mut(node as usize) {
                *slot = cdev;
            }
        }
        Ok(this)
    }

    /// Device number of the `index`-th `node`.
    fn devt(&self, node: Node, index: u32) -> bindings::dev_t {
        // SAFETY: Plain arithmetic.
        unsafe {
            raw::accel_mkdev(
                raw::accel_major(self.first),
                node as u32 * self.per_node + index,
            )
        }
    }

    /// Makes a node of `device` called `name`, with these attributes.
    pub(crate) fn add(
        &self,
        device: &Arc<Device>,
        node: Node,
        index: u32,
        name: &CStr,
        groups: KVec<Arc<Group>>,
    ) -> Result<ClassDevice> {
        let mut list = KVec::with_capacity(groups.len() + 1, GFP_KERNEL)?;

        for group in &groups {
            list.push(group.raw(), GFP_KERNEL)?;
        }
        list.push(core::ptr::null(), GFP_KERNEL)?;
        // SAFETY: The class is valid, the parent too; the list ends with NULL, and its groups and
        // the data are there for as long as the class device is registered; the format takes one
        // string.
        let dev = from_err_ptr(unsafe {
            bindings::device_create_with_groups(
                self.class,
                super::parent::raw(device.parent()),
                self.devt(node, index),
                Arc::as_ptr(device).cast_mut().cast(),
                list.as_mut_ptr(),
                c"%s".as_char_ptr(),
                name.as_char_ptr(),
            )
        })?;

        // INVARIANT: The device was just registered, with these.
        Ok(ClassDevice {
            dev: NonNull::new(dev).ok_or(ENOMEM)?,
            _list: list,
            _groups: groups,
            _device: device.clone(),
        })
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        for cdev in self.cdevs {
            if !cdev.is_null() {
                // SAFETY: It was added, and is forgotten after this.
                unsafe { bindings::cdev_del(cdev) };
            }
        }
        if !self.class.is_null() {
            // SAFETY: As above.
            unsafe { bindings::class_destroy(self.class) };
        }
        // SAFETY: The region is ours.
        unsafe { bindings::unregister_chrdev_region(self.first, 2 * self.per_node) };
    }
}

/// A registered class device with its node in `/dev` and its attributes; all go with this.
///
/// # Invariants
///
/// The device is registered, with the groups of `_list`, which are those of `_groups`, and `_device`
/// as its data; this value owns the reference that goes with that.
pub(crate) struct ClassDevice {
    dev: NonNull<bindings::device>,
    _list: KVec<*const bindings::attribute_group>,
    _groups: KVec<Arc<Group>>,
    _device: Arc<Device>,
}

// SAFETY: Devices belong to no thread.
unsafe impl Send for ClassDevice {}
// SAFETY: As above.
unsafe impl Sync for ClassDevice {}

/// Most variables of a uevent that tells of a change.
const VARIABLES_MAX: usize = 3;

impl ClassDevice {
    /// Sends a uevent that says that the device has changed, with up to three variables, as
    /// `NAME=value`.
    pub(crate) fn changed(&self, variables: &[&CStr]) {
        let mut list = [core::ptr::null_mut(); VARIABLES_MAX + 1];

        for (to, variable) in list.iter_mut().take(VARIABLES_MAX).zip(variables) {
            *to = variable.as_char_ptr().cast_mut();
        }
        // SAFETY: By the type invariant the device is valid; the list ends with NULL, and what it
        // points to is only read. It fails where there is no memory, and nobody can help it.
        unsafe {
            bindings::kobject_uevent_env(
                &raw mut (*self.dev.as_ptr()).kobj,
                bindings::kobject_action_KOBJ_CHANGE,
                list.as_mut_ptr(),
            )
        };
    }
}

impl Drop for ClassDevice {
    fn drop(&mut self) {
        // Waits for those who read or write an attribute, and for the class where it tells of the
        // system's sleep or end: who comes later finds no data.
        // SAFETY: By the type invariant.
        unsafe { raw::accel_class_device_end(self.dev.as_ptr()) };
    }
}

/// Where a node lies in `/dev`, and who may open it before udev's rules say otherwise.
///
/// # Safety
///
/// The driver core calls this as an operation of our class.
unsafe extern "C" fn devnode(
    dev: *const bindings::device,
    mode: *mut bindings::umode_t,
) -> *mut c_char {
    // SAFETY: The driver core calls with a device of the class, whose name is valid.
    let name = unsafe { CStr::from_char_ptr(bindings::dev_name(dev)) };

    if !mode.is_null() {
        // SAFETY: The driver core calls with a valid pointer or NULL.
        unsafe { *mode = minor::mode(name) };
    }
    // SAFETY: The format takes one string. The caller frees the result, and takes NULL.
    unsafe {
        bindings::kasprintf(
            bindings::GFP_KERNEL,
            c"accel/%s".as_char_ptr(),
            name.as_char_ptr(),
        )
    }
}

struct FileOps(bindings::file_operations);

// SAFETY: The table is constant.
unsafe impl Sync for FileOps {}

static COMPUTE: FileOps = FileOps(bindings::file_operations {
    owner: THIS_MODULE.as_ptr(),
    open: Some(open::<true>),
    mmap_prepare: Some(vma::mmap_prepare),
    get_unmapped_area: Some(raw::accel_get_unmapped_area),
    ..COMMON
});

static CONTROL: FileOps = FileOps(bindings::file_operations {
    owner: THIS_MODULE.as_ptr(),
    open: Some(open::<false>),
    ..COMMON
});

const COMMON: bindings::file_operations = bindings::file_operations {
    release: Some(release),
    unlocked_ioctl: Some(ioctl),
    // The structures are the same for 32 bits; the address is all that differs.
    compat_ioctl: bindings::compat_ptr_ioctl,
    read_iter: Some(read_iter),
    poll: Some(poll),
    show_fdinfo: Some(show_fdinfo),
    ..pin_init::zeroed()
};

/// # Safety
///
/// The VFS calls this as an operation of one of our files.
unsafe extern "C" fn open<const COMPUTE: bool>(
    inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    from_result(|| {
        let node = if COMPUTE {
            Node::Compute
        } else {
            Node::Control
        };
        // SAFETY: The VFS calls with a valid inode.
        let minor = unsafe { raw::accel_inode_minor(inode) };
        let private = minor::open(node, minor)?;
        let mapping = private.device().inode().mapping();

        // SAFETY: The VFS calls with a file that is being opened and is not shared yet. The address
        // space belongs to the device, which the private data holds until `release`, after which
        // nothing asks a file for its address space.
        unsafe {
            (*file).f_mapping = mapping;
            // What reads need not wait: `RWF_NOWAIT`, io_uring.
            (*file).f_mode |= raw::ACCEL_FMODE_NOWAIT;
            (*file).private_data = private.into_foreign().cast();
        }
        Ok(0)
    })
}

/// # Safety
///
/// The VFS calls this as an operation of one of our files.
unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    // SAFETY: `open` has put it there, and the VFS calls this once, last.
    let private =
        unsafe { <Arc<File> as ForeignOwnable>::from_foreign((*file).private_data.cast()) };

    File::release(private);
    0
}

/// What is behind a pointer that an `Arc<T>` was made into.
///
/// # Safety
///
/// `ptr` must come from `Arc::<T>::into_foreign`, and not go back before the end of `'a`.
#[inline]
pub(super) unsafe fn shared<'a, T: 'static>(ptr: *mut c_void) -> &'a T {
    // SAFETY: By this function's requirements.
    let borrow = unsafe { <Arc<T> as ForeignOwnable>::borrow(ptr) };
    let ptr: *const T = &*borrow;

    // SAFETY: What an `Arc` shares does not move, and is there for `'a`.
    unsafe { &*ptr }
}

/// # Safety
///
/// `file` must be one of ours, open for `'a`.
#[inline]
unsafe fn private<'a>(file: *mut bindings::file) -> &'a File {
    // SAFETY: By this function's requirements; `open` has put an `Arc<File>` there.
    unsafe { shared((*file).private_data) }
}

/// # Safety
///
/// The VFS calls this as an operation of one of our files.
unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
    // SAFETY: The VFS calls with an open file of ours.
    let file = unsafe { private(file) };

    match crate::ioctl::dispatch(file, cmd, arg) {
        Ok(()) => 0,
        Err(err) => err.to_errno() as c_long,
    }
}

/// # Safety
///
/// The VFS calls this as an operation of one of our files.
unsafe extern "C" fn poll(
    file: *mut bindings::file,
    table: *mut bindings::poll_table,
) -> bindings::__poll_t {
    // SAFETY: The VFS calls with an open file of ours and its poll's table.
    let (file, poll) = unsafe { (private(file), Poll::from_raw(file, table)) };

    // The queue belongs to the file that is polled.
    poll.register(file.queue());
    let (readable, gone) = file.poll();

    poll_mask(readable, gone)
}

/// # Safety
///
/// The VFS calls this as an operation of one of our files.
unsafe extern "C" fn read_iter(iocb: *mut bindings::kiocb, iter: *mut bindings::iov_iter) -> isize {
    // SAFETY: The VFS calls with a valid control block of an open file of ours.
    let (file, may_wait) = unsafe { (private((*iocb).ki_filp), raw::accel_may_wait(iocb)) };
    // SAFETY: The VFS calls with a valid iterator, which is ours until this returns.
    let mut to = unsafe { Destination::from_raw(iter) };

    match file.read(&mut to, may_wait) {
        Ok(size) => size as isize,
        Err(err) => err.to_errno() as isize,
    }
}

/// # Safety
///
/// The VFS calls this as an operation of one of our files.
unsafe extern "C" fn show_fdinfo(seq: *mut bindings::seq_file, file: *mut bindings::file) {
    // SAFETY: The VFS calls with an open file of ours and a valid sequence file.
    let (file, seq) = unsafe { (private(file), SeqFile::from_raw(seq)) };

    file.show_fdinfo(seq);
}
