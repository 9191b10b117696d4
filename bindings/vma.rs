// SPDX-License-Identifier: GPL-2.0

//! Mappings of an accelerator's files: the core owns the VMA from `mmap` to the last `munmap`.
//!
//! `mmap_prepare` sets flags and operations and nothing else, because the mapping may still fail.
//! `mapped` comes when the VMA can be found by [`super::node::Inode::zap`]; it takes the reference
//! to what is mapped, which splits, forks and moves of the VMA count through `open` and `close`.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::{
    node::shared,
    raw,
    slot::{
        Kind,
        MonitorKind, //
    }, //
};
use crate::{
    device::Device,
    file::File,
    mm::Mapping, //
};
use core::ops::Range;
use kernel::{
    bindings,
    error::from_result,
    ffi::{
        c_int,
        c_ulong,
        c_void, //
    },
    page::{
        PAGE_MASK,
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::Arc,
    types::ForeignOwnable, //
};

/// Bytes that one fault fills: what one PMD entry maps.
const WINDOW: usize = 1 << raw::ACCEL_PMD_SHIFT;

/// # Safety
///
/// `desc` must be that of an `mmap_prepare` operation of one of our files.
pub(super) unsafe extern "C" fn mmap_prepare(desc: *mut bindings::vm_area_desc) -> c_int {
    // SAFETY: By this function's requirements.
    let err = unsafe { raw::accel_mmap_prepare(desc) };

    if err == 0 {
        // SAFETY: As above.
        unsafe { (*desc).vm_ops = &VM_OPS.0 };
    }
    err
}

struct VmOps(bindings::vm_operations_struct);

// SAFETY: The table is constant.
unsafe impl Sync for VmOps {}

static VM_OPS: VmOps = VmOps(bindings::vm_operations_struct {
    open: Some(open),
    close: Some(close),
    may_split: Some(may_split),
    mapped: Some(mapped),
    fault: Some(fault),
    huge_fault: Some(huge_fault),
    access: Some(access),
    ..pin_init::zeroed()
});

/// The file that a VMA or a fault belongs to.
///
/// # Safety
///
/// `file` must be one of our open files and stay so for `'a`.
unsafe fn file_of<'a>(file: *const bindings::file) -> &'a File {
    // SAFETY: By this function's requirements; our files' private data is an `Arc<File>`.
    unsafe { shared((*file).private_data) }
}

/// # Safety
///
/// The kernel calls this as an operation of one of our VMAs.
unsafe extern "C" fn mapped(
    start: c_ulong,
    end: c_ulong,
    pgoff: c_ulong,
    file: *const bindings::file,
    private: *mut *mut c_void,
) -> c_int {
    from_result(|| {
        // SAFETY: The file is one of ours, which the new VMA holds.
        let file = unsafe { file_of(file) };
        let pages = (end - start) >> PAGE_SHIFT;
        let mapping = Arc::new(file.map(pgoff, pages)?, GFP_KERNEL_ACCOUNT)?;

        // SAFETY: `private` is where the kernel takes the VMA's private data from.
        unsafe { *private = mapping.into_foreign().cast() };
        Ok(0)
    })
}

/// What a VMA shows; nothing if `mapped` has failed on it.
///
/// # Safety
///
/// `vma` must be one of ours, held so that `close` is not called for `'a`.
unsafe fn mapping_of<'a>(vma: *mut bindings::vm_area_struct) -> Option<&'a Mapping> {
    // SAFETY: By this function's requirements.
    let private = unsafe { (*vma).vm_private_data };

    if private.is_null() {
        return None;
    }
    // SAFETY: Private data that is not NULL was set by `mapped`.
    Some(unsafe { shared(private) })
}

/// # Safety
///
/// The kernel calls this as an operation of one of our VMAs.
unsafe extern "C" fn open(vma: *mut bindings::vm_area_struct) {
    // SAFETY: The kernel calls with a VMA that is a copy of one of ours.
    let private = unsafe { (*vma).vm_private_data };

    if !private.is_null() {
        // SAFETY: The VMA that this was copied from holds a reference.
        let mapping = unsafe { <Arc<Mapping> as ForeignOwnable>::borrow(private.cast()) };
        mapping.opened();
        // The copy's own reference; `close` of the copy gives it back.
        let _ = Arc::<Mapping>::from(mapping).into_foreign();
    }
}

/// # Safety
///
/// The kernel calls this as an operation of one of our VMAs.
unsafe extern "C" fn close(vma: *mut bindings::vm_area_struct) {
    // SAFETY: The kernel calls with one of our VMAs, whose reference this gives back.
    let mapping = unsafe {
        <Arc<Mapping> as ForeignOwnable>::try_from_foreign((*vma).vm_private_data.cast())
    };

    if let Some(mapping) = mapping {
        mapping.closed();
    }
}

/// # Safety
///
/// The kernel calls this as an operation of one of our VMAs.
unsafe extern "C" fn may_split(vma: *mut bindings::vm_area_struct, _address: c_ulong) -> c_int {
    from_result(|| {
        // SAFETY: The kernel holds the VMA.
        if let Some(mapping) = unsafe { mapping_of(vma) } {
            mapping.may_split()?;
        }
        Ok(0)
    })
}

/// # Safety
///
/// The kernel calls this as an operation of one of our VMAs.
unsafe extern "C" fn access(
    vma: *mut bindings::vm_area_struct,
    address: c_ulong,
    buf: *mut c_void,
    len: c_int,
    write: c_int,
) -> c_int {
    from_result(|| {
        // SAFETY: The kernel holds the VMA, and with it the file.
        let (file, mapping) = unsafe { (file_of((*vma).vm_file), mapping_of(vma)) };
        let mapping = mapping.ok_or(EIO)?;
        // SAFETY: As above.
        let (range, pgoff, flags) = unsafe {
            (
                &(*vma).__bindgen_anon_1.__bindgen_anon_1,
                (*vma).vm_pgoff,
                (*vma).__bindgen_anon_2.vm_flags,
            )
        };
        // What the mapping's owner may not do, a debugger of it may not either.
        let may = if write != 0 {
            bindings::VM_WRITE
        } else {
            bindings::VM_READ
        };
        if flags & may == 0 {
            return Err(EFAULT);
        }
        let offset = (pgoff << PAGE_SHIFT) + (address - range.vm_start);
        // The kernel may ask for more than this VMA has.
        let len = usize::try_from(len)?.min(range.vm_end - address);
        let _monitor = file.device().slot().monitor(MonitorKind::FAULT)?;

        let done = if write != 0 {
            // SAFETY: The kernel hands in a buffer of `len` bytes to read from.
            mapping.write(offset, unsafe {
                core::slice::from_raw_parts(buf.cast(), len)
            })?
        } else {
            // SAFETY: The kernel hands in a buffer of `len` bytes to write to.
            mapping.read(offset, unsafe {
                core::slice::from_raw_parts_mut(buf.cast(), len)
            })?
        };
        Ok(done as c_int)
    })
}

/// # Safety
///
/// The kernel calls this as an operation of one of our VMAs.
unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
    // SAFETY: The kernel calls with a fault on one of our VMAs.
    unsafe { handle(vmf, |mapping, fault| mapping.fault(fault)) }
}

/// # Safety
///
/// The kernel calls this as an operation of one of our VMAs.
unsafe extern "C" fn huge_fault(
    vmf: *mut bindings::vm_fault,
    order: core::ffi::c_uint,
) -> bindings::vm_fault_t {
    // SAFETY: The kernel calls with a fault on one of our VMAs.
    if !unsafe { raw::accel_vmf_is_pmd(vmf, order) } {
        return bindings::vm_fault_reason_VM_FAULT_FALLBACK;
    }
    // SAFETY: As above; the kernel holds the VMA during a fault.
    if unsafe { mapping_of((*vmf).__bindgen_anon_1.vma) }.is_some_and(Mapping::is_registers) {
        return FaultResult::FALLBACK.0;
    }
    // SAFETY: As above.
    unsafe { handle(vmf, |mapping, fault| mapping.huge_fault(fault)) }
}

/// # Safety
///
/// `vmf` must be a fault on one of our VMAs.
unsafe fn handle(
    vmf: *mut bindings::vm_fault,
    handler: impl FnOnce(&Mapping, &Fault<'_>) -> FaultResult,
) -> bindings::vm_fault_t {
    // SAFETY: By this function's requirements.
    let vmf = unsafe { &mut *vmf };
    // SAFETY: The kernel holds the VMA, and with it the file, during a fault.
    let (file, mapping) = unsafe {
        let vma = vmf.__bindgen_anon_1.vma;

        (file_of((*vma).vm_file), mapping_of(vma))
    };
    let slot = file.device().slot();
    let result = match mapping {
        Some(mapping) if mapping.is_registers() => match slot.enter(Kind::REGISTERS) {
            Some(_guard) if file.context().is_open() => handler(mapping, &Fault { vmf }),
            Some(_guard) => FaultResult::SIGBUS,
            None => wait(vmf, file.device().clone()),
        },
        Some(mapping) => match slot.monitor(MonitorKind::FAULT) {
            Ok(_monitor) => handler(mapping, &Fault { vmf }),
            Err(_) => FaultResult::SIGBUS,
        },
        None => FaultResult::SIGBUS,
    };

    result.0
}

/// Waits for a device whose gate is blocked, with `mmap_lock` held no longer than must be: whoever
/// looks at the process needs it.
fn wait(vmf: &mut bindings::vm_fault, device: Arc<Device>) -> FaultResult {
    if device.slot().is_closing() || device.state().is_broken() {
        return FaultResult::SIGBUS;
    }
    // SAFETY: The kernel calls with a fault on one of our VMAs; nothing of it is used after this if it
    // was let go of, nor is the file, which may be gone.
    if unsafe { raw::accel_vmf_unlock(vmf) } {
        device.wait_for_fault();
        return FaultResult::RETRY;
    }
    // Touched again it faults again.
    match device.will_unblock() {
        true => FaultResult::DONE,
        false => FaultResult::SIGBUS,
    }
}

/// What a fault ended with.
pub(crate) struct FaultResult(bindings::vm_fault_t);

impl FaultResult {
    /// There is nothing to map.
    pub(crate) const SIGBUS: Self = Self(bindings::vm_fault_reason_VM_FAULT_SIGBUS);
    /// The kernel is to begin anew: what it held was let go of.
    const RETRY: Self = Self(bindings::vm_fault_reason_VM_FAULT_RETRY);
    /// Not in one piece: the kernel asks again for single pages.
    pub(crate) const FALLBACK: Self = Self(bindings::vm_fault_reason_VM_FAULT_FALLBACK);
    /// Pages are mapped.
    pub(crate) const DONE: Self = Self(bindings::vm_fault_reason_VM_FAULT_NOPAGE);

    fn is_error(&self) -> bool {
        self.0 & bindings::vm_fault_reason_VM_FAULT_NOPAGE == 0
    }
}

/// A page frame that a fault maps.
#[derive(Clone, Copy)]
pub(crate) enum Frame {
    /// Of host memory.
    Memory(usize),
    /// Of a device's registers: mapped without caching.
    Registers(usize),
}

/// A page fault in progress.
pub(crate) struct Fault<'a> {
    vmf: &'a mut bindings::vm_fault,
}

impl Fault<'_> {
    fn vma(&self) -> *mut bindings::vm_area_struct {
        self.vmf.__bindgen_anon_1.vma
    }

    fn address(&self) -> usize {
        self.vmf.__bindgen_anon_1.address & PAGE_MASK
    }

    /// Page offset in the file's space of mmap offsets that the fault is at.
    pub(crate) fn pgoff(&self) -> usize {
        self.vmf.__bindgen_anon_1.pgoff
    }

    /// Page offsets around the fault that one fault should fill: those that share its PMD entry and
    /// its VMA.
    pub(crate) fn window(&self) -> Range<usize> {
        let address = self.address();
        // SAFETY: The kernel holds the VMA during a fault.
        let (start, end) = unsafe {
            let vma = &(*self.vma()).__bindgen_anon_1.__bindgen_anon_1;

            (vma.vm_start, vma.vm_end)
        };
        let base = address & !(WINDOW - 1);
        let first = start.max(base);
        let last = end.min(base.saturating_add(WINDOW));
        let at = |address: usize, of: usize| (of.wrapping_sub(address)) >> PAGE_SHIFT;
        let pgoff = self.pgoff();

        pgoff - at(first, address)..pgoff + at(address, last)
    }

    /// Maps `frame` at page offset `pgoff`, which must be in the window. A page that is mapped
    /// already stays.
    ///
    /// Memory must belong to what the mapping holds a reference to, registers to the device, which
    /// takes its mappings away before it goes.
    pub(crate) fn insert(&self, pgoff: usize, frame: Frame) -> Result<(), FaultResult> {
        let window = self.window();

        if !window.contains(&pgoff) {
            return Err(FaultResult::SIGBUS);
        }
        let address = self
            .address()
            .wrapping_add(pgoff.wrapping_sub(self.pgoff()).wrapping_mul(PAGE_SIZE));
        // SAFETY: The VMA is held and is a PFN mapping; the address lies in it.
        let result = FaultResult(unsafe {
            match frame {
                Frame::Memory(pfn) => bindings::vmf_insert_pfn(self.vma(), address, pfn),
                Frame::Registers(pfn) => raw::accel_vmf_insert_registers(self.vma(), address, pfn),
            }
        });

        if result.is_error() {
            return Err(result);
        }
        Ok(())
    }

    /// Maps the PMD-sized block at `pfn` over the whole window.
    ///
    /// Only in a huge fault, of which the window is the size. As in [`Self::insert`], the mapping
    /// must hold the block.
    pub(crate) fn insert_huge(&self, pfn: usize) -> FaultResult {
        let vmf: *const bindings::vm_fault = self.vmf;

        // SAFETY: `huge_fault` has checked that the VMA, which is a PFN mapping, has room.
        FaultResult(unsafe { raw::accel_vmf_insert_pmd(vmf.cast_mut(), pfn) })
    }
}
