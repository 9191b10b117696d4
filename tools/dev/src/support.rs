// SPDX-License-Identifier: GPL-2.0
//! Which kernels are supported, and everything that differs between them.

use anyhow::{Result, bail};

/// Kernel series that the modules build against, the preferred one first.
pub const SERIES: &[&str] = &["7.2"];

/// A Debian kernel flavour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flavour {
    /// What `FLAVOUR=` says and test names begin with.
    pub name: &'static str,
    /// The end of Debian's package names.
    pub debian: &'static str,
}

/// All flavours that `make test-all` runs on, the default one first.
pub const FLAVOURS: &[Flavour] = &[
    Flavour {
        name: "cloud",
        debian: "cloud-amd64",
    },
    Flavour {
        name: "amd64",
        debian: "amd64",
    },
];

/// The kernel's own modules that the guest gets where the flavour has them as modules.
pub const KERNEL_MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_console",
    "vgem",
    "drm_shmem_helper",
    "udmabuf",
    "fuse",
    "cuse",
    "uio_pci_generic",
];

/// Parts of the kernel source that a module build never reads; left out to save room.
pub const SOURCE_LEFT_OUT: &[&str] = &[
    "*/drivers/*.[cS]",
    "*/drivers/gpu/drm/amd/*.h",
    "*/sound/*.[chS]",
    "*/fs/*.c",
    "*/net/*.c",
    "*/tools/perf/*",
    "*/tools/testing/selftests/[a-jl-z]*",
    "*/Documentation/*.rst",
    "*/Documentation/*.txt",
    "*/Documentation/*.yaml",
    "*.dts",
    "*.dtsi",
];

pub fn flavour(name: &str) -> Result<Flavour> {
    for flavour in FLAVOURS {
        if flavour.name == name || flavour.debian == name {
            return Ok(*flavour);
        }
    }
    let known: Vec<&str> = FLAVOURS.iter().map(|flavour| flavour.name).collect();
    bail!(
        "there is no kernel flavour '{name}'; FLAVOUR= takes {}",
        known.join(" or ")
    );
}
