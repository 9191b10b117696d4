// SPDX-License-Identifier: GPL-2.0
//! The guest's file system: an initramfs of two archives. The first has what seldom changes and
//! is cached, the second the modules, programs and the job of this run.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{logged, output, tied};
use crate::cpio::Archive;
use crate::kernel::Kernel;
use crate::modules::Modules;
use crate::place::Place;
use crate::step::{self, Lock};
use crate::support::KERNEL_MODULES;

const BASE_RECIPE: &str = "1";

const INIT: &str = include_str!("../guest/init");
const RUN_TESTS: &str = include_str!("../guest/run-tests");

/// Programs of the build root that the guest has too, with the libraries that they need.
const PROGRAMS: &[&str] = &["/usr/bin/bash", "/usr/bin/kmod"];

/// Libraries that a program which is copied into the guest may expect.
const LIBRARIES: &[&str] = &[
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libstdc++.so.6",
    "libutil.so.1",
];

const LIBRARY_FOLDER: &str = "usr/lib/x86_64-linux-gnu";

/// What one run adds to the base.
#[derive(Debug, Default)]
pub struct Contents {
    /// Pairs of path in the guest (without the leading slash) and file of the host.
    pub files: Vec<(String, PathBuf)>,
    /// Pairs of path in the guest and text.
    pub texts: Vec<(String, String)>,
}

/// The cached archive of a kernel, and the folder with the kernel's own modules in it.
struct Base {
    archive: PathBuf,
    modules: PathBuf,
}

/// Writes the initramfs of one run to the file `to`.
pub fn write(
    place: &Place,
    kernel: &Kernel,
    modules: Option<&Modules>,
    contents: &Contents,
    to: &Path,
) -> Result<()> {
    let base = base(place, kernel)?;
    fs::copy(&base.archive, to)
        .with_context(|| format!("copying {} to {}", base.archive.display(), to.display()))?;
    let file = File::options()
        .append(true)
        .open(to)
        .with_context(|| format!("writing {}", to.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));
    archive.bytes("init", 0o755, INIT.as_bytes())?;
    archive.bytes("accel/run-tests", 0o755, RUN_TESTS.as_bytes())?;
    add_modules(
        &mut archive,
        kernel,
        &base,
        modules,
        &to.with_extension("modules"),
    )?;
    for (path, from) in &contents.files {
        archive.tree(path, from)?;
    }
    for (path, text) in &contents.texts {
        archive.bytes(path, 0o644, text.as_bytes())?;
    }
    archive.finish()?;
    Ok(())
}

/// Adds our modules and an index over them and the kernel's.
fn add_modules<W: Write>(
    archive: &mut Archive<W>,
    kernel: &Kernel,
    base: &Base,
    modules: Option<&Modules>,
    scratch: &Path,
) -> Result<()> {
    let inside = format!("lib/modules/{}", kernel.release);
    let staged = scratch.join(&inside);
    step::remove(scratch)?;
    fs::create_dir_all(&staged)?;
    let status = Command::new("cp")
        .arg("-rs")
        .arg(base.modules.join(&inside).join("."))
        .arg(&staged)
        .status()
        .context("starting cp")?;
    if !status.success() {
        bail!(
            "the kernel's modules cannot be staged in {}",
            staged.display()
        );
    }
    if let Some(modules) = modules {
        for file in &modules.files {
            let below = Path::new("updates").join(file);
            let to = staged.join(&below);
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)?;
            }
            let from = modules.folder.join(file);
            fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
            archive.file(&format!("usr/{inside}/{}", below.display()), &to)?;
        }
    }
    // Refusals of the index (unknown symbols, say) are the guest's to find.
    output(
        Command::new("depmod")
            .arg("-b")
            .arg(scratch)
            .arg(&kernel.release),
    )?;
    for entry in fs::read_dir(&staged)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.starts_with("modules.") && path.is_file() {
            archive.file(&format!("usr/{inside}/{name}"), &path)?;
        }
    }
    step::remove(scratch)
}

fn base(place: &Place, kernel: &Kernel) -> Result<Base> {
    let folder =
        place
            .cache
            .join("image")
            .join(format!("{}-{}", kernel.release.replace('.', "_"), "base"));
    let key = format!(
        "{BASE_RECIPE} {KERNEL_MODULES:?} {PROGRAMS:?} {LIBRARIES:?}{}",
        kernel.made_of
    );
    if !step::is_made_of(&folder, &key) {
        let _lock = Lock::take(
            &place.cache.join("image.lock"),
            "making the guest's file system",
        )?;
        step::folder(
            &folder,
            &key,
            &format!("guest file system for {}", kernel.release),
            |to| make_base(place, kernel, to),
        )?;
    }
    Ok(Base {
        archive: folder.join("base.cpio"),
        modules: folder.join("modules"),
    })
}

fn make_base(place: &Place, kernel: &Kernel, to: &Path) -> Result<()> {
    let release = &kernel.release;
    let modules = to.join("modules/lib/modules").join(release);
    stage_kernel_modules(place, kernel, &modules)?;

    let path = to.join("base.cpio");
    let file = File::create(&path).with_context(|| format!("writing {}", path.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));
    for folder in [
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "etc",
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "put",
        "root",
        "accel",
    ] {
        archive.folder(folder)?;
    }
    for folder in ["bin", "sbin", "lib", "lib64"] {
        archive.symlink(folder, &format!("usr/{folder}"))?;
    }
    // The kernel opens this for its first process before anything is mounted.
    archive.device("dev/console", 5, 1)?;
    archive.bytes(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/put:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    )?;
    archive.bytes("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    archive.bytes("etc/ld.so.conf", 0o644, b"/usr/lib/x86_64-linux-gnu\n")?;

    archive.file("usr/bin/busybox", Path::new("/usr/bin/busybox"))?;
    let kmod = ["depmod", "insmod", "lsmod", "modinfo", "modprobe", "rmmod"];
    for applet in output(Command::new("busybox").arg("--list"))?.lines() {
        if applet != "busybox" && applet != "bash" && !kmod.contains(&applet) {
            archive.symlink(&format!("usr/bin/{applet}"), "busybox")?;
        }
    }
    for name in kmod {
        archive.symlink(&format!("usr/sbin/{name}"), "../bin/kmod")?;
    }
    let mut libraries: BTreeSet<PathBuf> = LIBRARIES
        .iter()
        .map(|name| Path::new("/").join(LIBRARY_FOLDER).join(name))
        .filter(|path| path.exists())
        .collect();
    for program in PROGRAMS {
        archive.file(program.trim_start_matches('/'), Path::new(program))?;
        for word in output(Command::new("ldd").arg(program))?.split_whitespace() {
            if word.starts_with('/') {
                libraries.insert(PathBuf::from(word));
            }
        }
    }
    archive.file(
        "usr/lib64/ld-linux-x86-64.so.2",
        Path::new("/lib64/ld-linux-x86-64.so.2"),
    )?;
    for library in libraries {
        let name = library
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if !name.is_empty() && !name.starts_with("ld-linux") {
            archive.file(&format!("{LIBRARY_FOLDER}/{name}"), &library)?;
        }
    }
    archive.tree(&format!("usr/lib/modules/{release}"), &modules)?;
    archive.finish()?;
    Ok(())
}

/// Copies those modules of the kernel that the guest needs, with what they depend on, unpacked.
fn stage_kernel_modules(place: &Place, kernel: &Kernel, to: &Path) -> Result<()> {
    let release = &kernel.release;
    let root = &kernel.modules_root;
    logged(
        tied("depmod").arg("-b").arg(root).arg(release),
        &place.log("depmod.log"),
        "indexing the kernel's modules",
    )?;
    let from = root.join("lib/modules").join(release);
    fs::create_dir_all(to)?;
    for name in [
        "modules.order",
        "modules.builtin",
        "modules.builtin.modinfo",
    ] {
        fs::copy(from.join(name), to.join(name))
            .with_context(|| format!("the kernel's packages have no {name}"))?;
    }
    let mut wanted = BTreeSet::new();
    for name in KERNEL_MODULES {
        let shown = Command::new("modprobe")
            .arg("-d")
            .arg(root)
            .args(["-S", release, "--show-depends", name])
            .output()
            .context("starting modprobe")?;
        // What this flavour does not have at all, it does not need.
        for line in String::from_utf8_lossy(&shown.stdout).lines() {
            if let Some(rest) = line.strip_prefix("insmod ") {
                let path = rest.split_whitespace().next().unwrap_or_default();
                wanted.insert(PathBuf::from(path));
            }
        }
    }
    for path in wanted {
        let below = path
            .strip_prefix(&from)
            .with_context(|| format!("{} is not in {}", path.display(), from.display()))?;
        let copy = to.join(below);
        if let Some(folder) = copy.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(&path, &copy).with_context(|| format!("copying {}", path.display()))?;
        let unpack = match copy.extension().and_then(|end| end.to_str()) {
            Some("xz") => "unxz",
            Some("zst") => "unzstd",
            Some("gz") => "gunzip",
            _ => continue,
        };
        output(Command::new(unpack).arg("-q").arg(&copy))?;
        // unzstd keeps what it unpacks.
        step::remove(&copy)?;
    }
    Ok(())
}
