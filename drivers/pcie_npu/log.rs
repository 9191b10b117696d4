// SPDX-License-Identifier: GPL-2.0

//! Messages that a broken card could fill the kernel's log with: each kind at most once in ten
//! seconds, with how many there were meanwhile.

use kernel::{
    device::Bound,
    pci,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

const INTERVAL_NS: i64 = 10_000_000_000;

type Pdev = pci::Device<Bound>;

/// One kind of message.
struct Limit {
    /// When the next may come.
    next_ns: Atomic<i64>,
    skipped: Atomic<u64>,
}

impl Limit {
    fn new() -> Self {
        Self {
            next_ns: Atomic::new(0),
            skipped: Atomic::new(0),
        }
    }

    /// Whether to log it now; if so, how many were not.
    fn take(&self) -> Option<u64> {
        let now = accel::now_ns();

        // Two at a time may both be logged, which is no harm.
        if now < self.next_ns.load(Relaxed) {
            self.skipped.fetch_add(1, Relaxed);
            return None;
        }
        self.next_ns.store(now.saturating_add(INTERVAL_NS), Relaxed);
        Some(self.skipped.xchg(0, Relaxed))
    }
}

/// What a card's log is limited by.
pub(crate) struct Log {
    reset: Limit,
    ecc: Limit,
    fatal: Limit,
    nonsense: Limit,
    unknown: Limit,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            reset: Limit::new(),
            ecc: Limit::new(),
            fatal: Limit::new(),
            nonsense: Limit::new(),
            unknown: Limit::new(),
        }
    }

    /// The card is being reset.
    pub(crate) fn reset(&self, pdev: &Pdev, why: &str) {
        if let Some(skipped) = self.reset.take() {
            dev_warn!(pdev, "reset: {} ({} resets not logged)\n", why, skipped);
        }
    }

    /// Errors were corrected.
    pub(crate) fn ecc(&self, pdev: &Pdev, count: u32, address: u64) {
        if let Some(skipped) = self.ecc.take() {
            dev_warn!(
                pdev,
                "{} corrected memory errors, the last at {:#x} ({} events not logged)\n",
                count,
                address,
                skipped
            );
        }
    }

    /// An error in the card's memory could not be corrected.
    pub(crate) fn uncorrected(&self, pdev: &Pdev, address: u64) {
        if let Some(skipped) = self.fatal.take() {
            dev_err!(
                pdev,
                "memory error at {:#x} ({} fatal events not logged)\n",
                address,
                skipped
            );
        }
    }

    /// The card is too hot, in thousandths of a degree Celsius.
    pub(crate) fn thermal(&self, pdev: &Pdev, temperature: i32) {
        if let Some(skipped) = self.fatal.take() {
            dev_err!(
                pdev,
                "{} thousandths of a degree ({} fatal events not logged)\n",
                temperature,
                skipped
            );
        }
    }

    /// Something that should not be, and does no harm.
    pub(crate) fn nonsense(&self, pdev: &Pdev, what: &str) {
        if let Some(skipped) = self.nonsense.take() {
            dev_warn!(pdev, "{} ({} not logged)\n", what, skipped);
        }
    }

    /// An event of a kind that this driver does not know.
    pub(crate) fn unknown(&self, pdev: &Pdev, kind: u32) {
        if let Some(skipped) = self.unknown.take() {
            dev_warn!(
                pdev,
                "event of unknown kind {} ({} not logged)\n",
                kind,
                skipped
            );
        }
    }
}
