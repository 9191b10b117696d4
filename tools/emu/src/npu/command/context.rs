// SPDX-License-Identifier: GPL-2.0
//! What every operation needs while it runs: the memory, and when to give up.

use std::cell::Cell;

use super::{Failure, Memory};

/// Work between two looks at `aborted`, in nanoseconds as [`Context::spend`] counts them. The
/// estimates are good to a small factor; a millisecond is promised.
const INTERVAL: u64 = 100_000;

/// The surroundings of one command.
pub(super) struct Context<'a> {
    pub(super) memory: &'a dyn Memory,
    aborted: &'a dyn Fn() -> bool,
    spent: Cell<u64>,
}

impl<'a> Context<'a> {
    pub(super) fn new(memory: &'a dyn Memory, aborted: &'a dyn Fn() -> bool) -> Self {
        // The first spending looks at once.
        Self {
            memory,
            aborted,
            spent: Cell::new(INTERVAL),
        }
    }

    /// Notes that about `nanoseconds` of work come next, and looks at `aborted` when it is time.
    ///
    /// # Errors
    ///
    /// [`Failure::Aborted`].
    pub(super) fn spend(&self, nanoseconds: u64) -> Result<(), Failure> {
        let spent = self.spent.get().saturating_add(nanoseconds);
        if spent < INTERVAL {
            self.spent.set(spent);
            return Ok(());
        }
        self.spent.set(0);
        if (self.aborted)() {
            return Err(Failure::Aborted);
        }
        Ok(())
    }
}
