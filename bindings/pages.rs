// SPDX-License-Identifier: GPL-2.0

//! Blocks of zeroed pages that belong to the core and to whoever maps them.

use super::raw;
use core::ptr::NonNull;
use kernel::{
    alloc::AllocError,
    bindings,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*, //
};

/// `2^order` physically contiguous pages, zeroed and charged to the memory cgroup of whoever
/// allocated them.
///
/// # Invariants
///
/// `page` is the first of `2^order` pages that this value owns.
pub(crate) struct PageBlock {
    page: NonNull<bindings::page>,
    order: u32,
}

// SAFETY: Pages belong to no thread.
unsafe impl Send for PageBlock {}
// SAFETY: What a `&PageBlock` gives access to is raw memory that user space and the device change
// at any time anyway; it is only ever copied, never referenced.
unsafe impl Sync for PageBlock {}

impl PageBlock {
    /// The order of a block that one PMD entry maps, 2 MiB on most machines.
    pub(crate) const ORDER_PMD: u32 = raw::ACCEL_PMD_SHIFT - PAGE_SHIFT as u32;

    /// Takes `2^order` zeroed pages.
    pub(crate) fn new(order: u32) -> Result<Self, AllocError> {
        // SAFETY: May be called from any context that can sleep.
        let page = unsafe { raw::accel_pages_alloc(order) };

        // INVARIANT: The pages were just allocated with `order` and have no other owner.
        Ok(Self {
            page: NonNull::new(page).ok_or(AllocError)?,
            order,
        })
    }

    /// Pages in the block.
    pub(crate) fn pages(&self) -> usize {
        1 << self.order
    }

    /// Bytes in the block.
    pub(super) fn size(&self) -> usize {
        PAGE_SIZE << self.order
    }

    pub(crate) fn order(&self) -> u32 {
        self.order
    }

    /// Page frame number of the first page.
    pub(crate) fn pfn(&self) -> usize {
        // SAFETY: By the type invariant `page` is a valid page.
        unsafe { raw::accel_page_pfn(self.page.as_ptr()) as usize }
    }

    /// The first of the pages.
    pub(super) fn as_raw(&self) -> *mut bindings::page {
        self.page.as_ptr()
    }

    fn address(&self) -> *mut u8 {
        // SAFETY: By the type invariant `page` is a valid page, and there is no high memory where
        // this builds (64-bit).
        unsafe { raw::accel_page_address(self.page.as_ptr()).cast() }
    }

    /// Copies from `offset` bytes into the block, as many as `dst` holds or the block has left,
    /// and returns how many.
    ///
    /// User space may be writing: what is read is some mixture then.
    pub(crate) fn read(&self, offset: usize, dst: &mut [u8]) -> usize {
        let len = dst.len().min(self.size().saturating_sub(offset));
        if len > 0 {
            // SAFETY: The source lies in the block, which is mapped in the kernel, by the
            // computation of `len`; the destination is a slice of at least that length.
            unsafe {
                bindings::memcpy(
                    dst.as_mut_ptr().cast(),
                    self.address().add(offset).cast(),
                    len,
                )
            };
        }
        len
    }

    /// Copies to `offset` bytes into the block, as many as `src` holds or the block has left, and
    /// returns how many.
    pub(crate) fn write(&self, offset: usize, src: &[u8]) -> usize {
        let len = src.len().min(self.size().saturating_sub(offset));
        if len > 0 {
            // SAFETY: The destination lies in the block, which is mapped in the kernel, by the
            // computation of `len`; the source is a slice of at least that length.
            unsafe {
                bindings::memcpy(self.address().add(offset).cast(), src.as_ptr().cast(), len)
            };
        }
        len
    }
}

impl Drop for PageBlock {
    fn drop(&mut self) {
        // SAFETY: By the type invariant these pages are ours, allocated with this order. Nothing
        // maps them: mappings hold the buffer that holds this.
        unsafe { bindings::__free_pages(self.page.as_ptr(), self.order) };
    }
}

/// Whether the current task is being killed, so that long work should stop.
pub(crate) fn fatal_signal_pending() -> bool {
    // SAFETY: Only looks at the current task.
    unsafe { raw::accel_fatal_signal_pending() }
}

/// Lets others run, in long work.
pub(crate) fn cond_resched() {
    // SAFETY: Called where the task may sleep.
    unsafe { raw::accel_cond_resched() }
}
