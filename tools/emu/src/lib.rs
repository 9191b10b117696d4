// SPDX-License-Identifier: GPL-2.0
//! Models of accelerators: processes beside QEMU, each one PCI device of its guest.
//!
//! ```text
//! QEMU ── vfio ── transport ── function (pci) ── npu
//!                               control ─────────┘
//! ```

pub mod control;
pub mod function;
pub mod memory;
pub mod npu;
pub mod pci;
pub mod transport;
pub mod vfio;
