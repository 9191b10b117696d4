// SPDX-License-Identifier: GPL-2.0

//! Buffers that a device reaches by DMA.
//!
//! A mapping may not outlive the time that the parent is bound. Its owner is the driver, which may
//! keep or forget it; so the device has a list of all that exist, and ends those that are left when
//! the driver's data is gone.
//!
//! C header: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h)

use super::{
    errno::EOPNOTSUPP,
    pages::{
        cond_resched,
        PageBlock, //
    },
    parent,
    raw, //
};
use crate::mm::Buffer;
use kernel::{
    bindings,
    device,
    dma::DmaAddress,
    error::to_result,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex,
        UniqueArc, //
    }, //
};

/// The mappings of one device that exist.
///
/// # Invariants
///
/// Until [`DmaMappings::end`] has returned the parent is bound, and every buffer that is mapped is
/// in the list. After it none is mapped.
#[pin_data]
pub(crate) struct DmaMappings {
    parent: ARef<device::Device>,
    /// Each knows its position. `None` once they have ended.
    #[pin]
    live: Mutex<Option<KVVec<Arc<Mapped>>>>,
}

impl DmaMappings {
    pub(crate) fn new(parent: &device::Device) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                parent: parent.into(),
                live <- new_mutex!(Some(KVVec::new()), "accel_dma_mappings"),
            }),
            GFP_KERNEL,
        )
    }

    /// Maps `buffer` for the parent.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` when there is memory that the parent does not reach; `ENOMEM`.
    ///
    /// # Safety
    ///
    /// The parent must be bound, and [`Self::end`] still to be called, until this returns.
    pub(super) unsafe fn map(self: &Arc<Self>, buffer: Arc<Buffer>) -> Result<DmaMapping> {
        let dev = parent::raw(&self.parent);
        // SAFETY: `dev` is a valid device.
        if unsafe { bindings::dma_addressing_limited(dev) } {
            return Err(EOPNOTSUPP.into());
        }
        // SAFETY: By this function's requirements.
        let mapped = unsafe { Mapped::new(dev, buffer)? };
        let added = match &mut *self.live.lock() {
            Some(live) => {
                mapped.position.store(live.len(), Relaxed);
                live.push(mapped.clone(), GFP_KERNEL).map_err(Error::from)
            }
            None => Err(ENODEV),
        };

        if let Err(err) = added {
            // SAFETY: By this function's requirements.
            unsafe { mapped.unmap(dev) };
            return Err(err);
        }
        // INVARIANT: It is in the list.
        Ok(DmaMapping {
            mapped,
            mappings: self.clone(),
        })
    }

    /// Takes `mapped`, which is not mapped any more, out of the list.
    fn remove(&self, mapped: &Mapped) {
        let removed = match &mut *self.live.lock() {
            Some(live) => {
                let position = mapped.position.load(Relaxed);
                let last = live.pop();

                // The last one takes the place of the one that goes.
                match (last, live.get_mut(position)) {
                    (Some(last), Some(place)) => {
                        last.position.store(position, Relaxed);
                        Some(core::mem::replace(place, last))
                    }
                    (last, _) => last,
                }
            }
            None => None,
        };

        drop(removed);
    }

    /// Unmaps what is mapped still. Called while the parent is bound, when the driver's data is
    /// gone.
    pub(crate) fn end(&self) {
        let live = self.live.lock().take();

        for mapped in live.iter().flatten() {
            // SAFETY: By the type invariant the parent is bound. Where the mapping's owner is
            // unmapping it, this waits.
            unsafe { mapped.unmap(parent::raw(&self.parent)) };
        }
    }
}

/// A buffer that is, or was, mapped.
#[pin_data]
struct Mapped {
    buffer: Arc<Buffer>,
    /// Where the device finds the buffer's blocks, in their order.
    addresses: KVVec<DmaAddress>,
    /// In the list.
    position: Atomic<usize>,
    #[pin]
    is_mapped: Mutex<bool>,
}

impl Mapped {
    /// # Safety
    ///
    /// `dev` must be valid and bound.
    unsafe fn new(dev: *mut bindings::device, buffer: Arc<Buffer>) -> Result<Arc<Self>> {
        // All that may fail comes before.
        let place = UniqueArc::new_uninit(GFP_KERNEL_ACCOUNT)?;
        // Not charged: who is above `memory.high` is made to sleep for seconds in each few hundred KiB,
        // inside the gate. It is 1/512 at most of the buffer, which is charged.
        let mut addresses = KVVec::with_capacity(buffer.blocks().len(), GFP_KERNEL)?;

        for block in buffer.blocks() {
            // SAFETY: By this function's requirements.
            let address = unsafe { map_block(dev, block) };
            let added = address
                .and_then(|address| addresses.push_within_capacity(address).map_err(|_| ENOMEM));

            if let Err(err) = added {
                // SAFETY: By this function's requirements; these have been mapped.
                unsafe { unmap_blocks(dev, &buffer, &addresses) };
                return Err(err);
            }
            cond_resched();
        }
        let mapped = place.pin_init_with(pin_init!(Self {
            buffer,
            addresses,
            position: Atomic::new(0),
            is_mapped <- new_mutex!(true, "accel_dma_mapped"),
        }))?;

        Ok(mapped.into())
    }

    /// Unmaps it, if that has not been done.
    ///
    /// # Safety
    ///
    /// `dev` must be the device that it was mapped for, and bound if it is still mapped.
    unsafe fn unmap(&self, dev: *mut bindings::device) {
        let mut is_mapped = self.is_mapped.lock();

        // Under the lock: who finds it unmapped can rely on it.
        if core::mem::replace(&mut *is_mapped, false) {
            // SAFETY: By this function's requirements, and it was mapped.
            unsafe { unmap_blocks(dev, &self.buffer, &self.addresses) };
        }
    }
}

/// # Safety
///
/// `dev` must be valid and bound.
unsafe fn map_block(dev: *mut bindings::device, block: &PageBlock) -> Result<DmaAddress> {
    let mut address = 0;

    // SAFETY: By this function's requirements; the pages are there for as long as the buffer, which
    // the mapping holds.
    to_result(unsafe { raw::accel_dma_map(dev, block.as_raw(), block.size(), &mut address) })?;
    Ok(address)
}

/// Unmaps the first blocks of `buffer`, as many as there are `addresses`.
///
/// # Safety
///
/// They must have been mapped for `dev` at these addresses, and `dev` must still be bound.
unsafe fn unmap_blocks(dev: *mut bindings::device, buffer: &Buffer, addresses: &[DmaAddress]) {
    for (block, &address) in buffer.blocks().zip(addresses) {
        // SAFETY: By this function's requirements.
        unsafe { raw::accel_dma_unmap(dev, address, block.size()) };
        cond_resched();
    }
}

/// A buffer that the device may access, until this is dropped.
///
/// The device must not use the addresses after that: whoever drops one has stopped what the device
/// does with them, and has it forget them. To drop one may sleep.
///
/// What has not been dropped when the device goes is unmapped after the driver's data was dropped.
///
/// # Invariants
///
/// `mapped` was put into the list of `mappings` and is in it for as long as it is mapped.
pub struct DmaMapping {
    mapped: Arc<Mapped>,
    mappings: Arc<DmaMappings>,
}

impl DmaMapping {
    /// What is mapped.
    pub fn buffer(&self) -> &Arc<Buffer> {
        &self.mapped.buffer
    }

    /// Bytes, whole pages.
    pub fn size(&self) -> u64 {
        self.mapped.buffer.size()
    }

    /// Where the device finds byte `offset`, and how many bytes from there follow each other for
    /// the device; `None` when the buffer ends before.
    ///
    /// A buffer is made of blocks of 2^n pages, of up to 2 MiB: this goes to the end of one.
    pub fn at(&self, offset: u64) -> Option<(DmaAddress, u64)> {
        let (block, before, left) = self.mapped.buffer.locate(offset)?;
        let address = self.mapped.addresses.get(block)?;

        Some((address + before, left))
    }
}

impl Drop for DmaMapping {
    fn drop(&mut self) {
        // SAFETY: If it is mapped it is in the list, so by the type invariant of `DmaMappings` its
        // end has not returned, and cannot before this does: the parent is bound.
        unsafe { self.mapped.unmap(parent::raw(&self.mappings.parent)) };
        self.mappings.remove(&self.mapped);
    }
}
