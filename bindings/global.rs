// SPDX-License-Identifier: GPL-2.0

//! The one thing that is global: the registry of devices, behind a mutex.

use super::raw;
use crate::minor::{
    self,
    Registry, //
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*, //
};

kernel::sync::global_lock! {
    // SAFETY: Initialised in the module's init, before a driver can link to the module.
    pub(crate) unsafe(uninit) static REGISTRY: Mutex<Option<Registry>> = None;
}

/// Makes [`static@REGISTRY`] usable, at first empty. Empties it again when it is dropped.
pub(crate) struct Global(());

impl Global {
    /// To be called once, from the module's init, before anything can be opened.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Called once, from the module's init.
        unsafe { REGISTRY.init() };
        let this = Self(());

        // SAFETY: Undone in `drop`, before the module goes.
        to_result(unsafe { raw::accel_notify_modules() })?;
        // SAFETY: As above.
        to_result(unsafe { raw::accel_notify_pci() })?;
        Ok(this)
    }

    /// Has the registry be `registry`.
    pub(crate) fn fill(&self, registry: Registry) {
        *REGISTRY.lock() = Some(registry);
    }
}

impl Drop for Global {
    fn drop(&mut self) {
        // SAFETY: To remove what was not added is harmless.
        unsafe {
            raw::accel_unnotify_pci();
            raw::accel_unnotify_modules();
        }
        let registry = REGISTRY.lock().take();

        drop(registry);
    }
}

/// Ends what a module leaves registered when it goes: a driver that forgets its registration, as
/// safe code may, must not leave pointers into its text.
#[no_mangle]
extern "C" fn accel_module_going(module: *const bindings::module) {
    while let Some(device) = minor::find(|device| device.slot().is_in(module)) {
        device.unregister();
        // What was forgotten is still on its parent's list of things to release, and holds the
        // device: the core has to stay.
        // SAFETY: No requirements.
        unsafe { raw::accel_keep_module() };
    }
}
