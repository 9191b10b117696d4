// SPDX-License-Identifier: GPL-2.0
//! Which kernels are supported, and everything that differs between them.

use anyhow::{Result, bail};

/// Kernel series that the modules build against, the preferred one first.
pub const SERIES: &[&str] = &["7.2"];

/// Where a flavour's kernel comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Debian built it; this is the end of its packages' names.
    Debian(&'static str),
    /// We build it, from the source of the default flavour's kernel, with this configuration.
    Source(&'static str),
}

/// A kernel flavour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flavour {
    /// What `FLAVOUR=` says and test names begin with.
    pub name: &'static str,
    pub origin: Origin,
    /// Whether `make test` runs on it; if not, only `make test-all` does.
    pub usual: bool,
    /// By how much all limits of time are longer.
    pub patience: u32,
    /// The guest's memory in MiB.
    pub memory: usize,
    /// What its command line begins with.
    pub cmdline: &'static str,
    /// What is added for a guest that many tests share: no button is pressed there, and nothing
    /// is plugged.
    pub cmdline_shared: &'static str,
}

impl Flavour {
    /// Whether its kernel is one that we build, with KUnit.
    pub fn is_ours(&self) -> bool {
        matches!(self.origin, Origin::Source(_))
    }
}

/// All flavours that `make test-all` runs on, the default one first.
pub const FLAVOURS: &[Flavour] = &[
    Flavour {
        name: "cloud",
        origin: Origin::Debian("cloud-amd64"),
        usual: true,
        patience: 1,
        memory: 1536,
        cmdline: "console=ttyS0",
        cmdline_shared: "",
    },
    Flavour {
        name: "amd64",
        origin: Origin::Debian("amd64"),
        usual: true,
        patience: 1,
        memory: 1536,
        cmdline: "console=ttyS0",
        cmdline_shared: "",
    },
    Flavour {
        name: "debug",
        origin: Origin::Source(include_str!("../debug/config")),
        usual: false,
        patience: 4,
        // KASAN takes an eighth for itself, and a search for leaks goes through all of it.
        memory: 1536,
        // The console's driver is unbound and bound like all others, and the console is gone: the
        // one of early boot, which has no driver, is kept instead. While a kernel with KASAN
        // finds out that it has five levels of page tables, an interrupt may find it half there.
        cmdline: "console=ttynull earlyprintk=serial,ttyS0,keep no5lvl rcupdate.rcu_expedited=1",
        cmdline_shared: "acpi=noirq",
    },
];

/// The flavour whose compilers judge the code, and that figures are taken on: it has the peers
/// that are compared with.
pub const REFERENCE: &str = "amd64";

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
    "button",
    "aer_inject",
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

/// Parts of it that a kernel of ours is not made of. Its Kconfig files are all read.
pub const SOURCE_UNUSED: &[&str] = &[
    "*/arch/[a-wyz]*/*.[chS]",
    "*/drivers/gpu/drm/amd/*.[ch]",
    "*/drivers/gpu/drm/nouveau/*.[ch]",
    "*/drivers/gpu/drm/i915/*.[ch]",
    "*/drivers/infiniband/*.[ch]",
    "*/drivers/media/*.[ch]",
    "*/drivers/net/ethernet/*.[ch]",
    "*/drivers/net/wireless/*.[ch]",
    "*/drivers/scsi/*.[ch]",
    "*/drivers/staging/*.[ch]",
    "*/sound/*.[chS]",
    "*/tools/perf/*",
    "*/tools/testing/*",
    "*/Documentation/*.rst",
    "*/Documentation/*.txt",
    "*/Documentation/*.yaml",
    "*.dts",
    "*.dtsi",
];

/// The version of clang and LLVM that kernels of ours are built with.
pub const CLANG: &str = "19";

pub fn flavour(name: &str) -> Result<Flavour> {
    for flavour in FLAVOURS {
        if flavour.name == name || matches!(flavour.origin, Origin::Debian(end) if end == name) {
            return Ok(*flavour);
        }
    }
    let known: Vec<&str> = FLAVOURS.iter().map(|flavour| flavour.name).collect();
    bail!(
        "there is no kernel flavour '{name}'; FLAVOUR= takes {}",
        known.join(" or ")
    );
}
