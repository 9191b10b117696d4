// SPDX-License-Identifier: GPL-2.0

//! The one thing that is global: the registry of devices, behind a mutex.

use crate::minor::Registry;
use kernel::prelude::*;

kernel::sync::global_lock! {
    // SAFETY: Initialised in the module's init, before a driver can link to the module.
    pub(crate) unsafe(uninit) static REGISTRY: Mutex<Option<Registry>> = None;
}

/// Makes [`static@REGISTRY`] usable, and `registry` what it holds. Empties it again when it is dropped.
pub(crate) struct Global(());

impl Global {
    /// To be called once, from the module's init.
    pub(crate) fn new(registry: Registry) -> Self {
        // SAFETY: Called once, from the module's init.
        unsafe { REGISTRY.init() };
        *REGISTRY.lock() = Some(registry);
        Self(())
    }
}

impl Drop for Global {
    fn drop(&mut self) {
        let registry = REGISTRY.lock().take();

        drop(registry);
    }
}
