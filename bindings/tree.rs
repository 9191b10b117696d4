// SPDX-License-Identifier: GPL-2.0

//! Trees of shared objects, each in a range of numbers: handles, and mmap offsets.

use core::ops::RangeBounds;
use kernel::{
    maple_tree::{
        AllocErrorKind,
        MapleTreeAlloc, //
    },
    prelude::*,
    sync::Arc, //
};

/// Objects, each in a range of numbers that it is found by.
///
/// The kernel's maple tree with what it lacks: it may be shared between threads.
#[pin_data]
pub(crate) struct Tree<T: 'static> {
    #[pin]
    tree: MapleTreeAlloc<Arc<T>>,
}

// SAFETY: A maple tree belongs to no thread, and may be dropped on any, as `Arc<T>` may.
unsafe impl<T: Send + Sync> Send for Tree<T> {}
// SAFETY: A maple tree has a lock of its own, which all methods take; what they give away is an
// `Arc<T>`, or a `&T`.
unsafe impl<T: Send + Sync> Sync for Tree<T> {}

impl<T: 'static> Tree<T> {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            tree <- MapleTreeAlloc::new(),
        })
    }

    /// Puts `value` into the lowest free range of `len` numbers in `range`, and returns its first.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when there is none; `ENOMEM`.
    pub(crate) fn alloc(
        &self,
        len: usize,
        value: Arc<T>,
        range: impl RangeBounds<usize>,
    ) -> Result<usize> {
        self.tree
            .alloc_range(len, value, range, GFP_KERNEL_ACCOUNT)
            .map_err(|err| match err.cause {
                AllocErrorKind::Busy => ENOSPC,
                cause => cause.into(),
            })
    }

    /// What `number` is in the range of.
    pub(crate) fn get(&self, number: usize) -> Option<Arc<T>> {
        self.tree.lock().load(number).map(Arc::from)
    }

    /// Takes out what `number` is in the range of.
    pub(crate) fn take(&self, number: usize) -> Option<Arc<T>> {
        self.tree.erase(number)
    }

    /// Calls `f`, which must not sleep, with each object, in ascending order.
    pub(crate) fn for_each(&self, mut f: impl FnMut(&T)) {
        let mut guard = self.tree.lock();
        let mut state = guard.ma_state(0, usize::MAX);

        while let Some(value) = state.find(usize::MAX) {
            f(&value);
        }
    }
}
