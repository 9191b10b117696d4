// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can only be measured inside of the kernel: a module does so when it is
//! loaded, and says it in the kernel's log.

use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::figures::{Figure, Figures};
use crate::sys;

/// Taking and releasing the guard of a device.
pub const GUARD: &str = "guard";
/// Registering and unregistering a device beside 15 others.
pub const REGISTER_16: &str = "register_unregister_16";
/// Registering and unregistering a device beside 1,023 others.
pub const REGISTER_1024: &str = "register_unregister_1024";

const NAME: &str = "accel_bench";
const C_NAME: &CStr = c"accel_bench";

/// Loads the module and reads what it has measured.
pub fn measure(module: Option<&Path>) -> Figures {
    let mut figures = Figures::default();
    let why = match load_and_read(module) {
        Ok(found) => {
            for (name, value) in found {
                figures.add(&name, Ok(Figure::single(value)));
            }
            format!("{NAME}.ko did not say it")
        }
        Err(why) => why,
    };
    for name in [GUARD, REGISTER_16, REGISTER_1024] {
        if figures.median(name).is_none() {
            figures.add(name, Err(why.clone()));
        }
    }
    figures
}

/// The figures by name, in the module's order.
fn load_and_read(module: Option<&Path>) -> Result<Vec<(String, u64)>, String> {
    // It measures when it is loaded, so one that is loaded has to go first.
    // Most often there is none, and a failure shows when it is loaded.
    let _ = sys::delete_module(C_NAME);
    let mut log = Log::open()?;
    let loaded = match module {
        Some(path) => insert(path),
        None => modprobe(NAME).or_else(|why| match find_module() {
            Some(path) => insert(&path),
            None => Err(why),
        }),
    };
    let found = figures(&log.lines()?);
    let _ = sys::delete_module(C_NAME);
    // A module may refuse to stay once it has said what there is to say.
    if found.is_empty() {
        loaded?;
    }
    Ok(found)
}

/// Loads a module and what it needs.
pub fn modprobe(name: &str) -> Result<(), String> {
    let output = Command::new("modprobe")
        .arg(name)
        .output()
        .map_err(|e| format!("modprobe {name}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("modprobe {name}: {}", said.trim()))
}

/// Loads the module in `path`, without what it needs.
fn insert(path: &Path) -> Result<(), String> {
    let broken = |e| format!("{}: {e}", path.display());
    let file = File::open(path).map_err(broken)?;
    let compressed = path.extension().is_none_or(|extension| extension != "ko");
    sys::finit_module(file.as_fd(), compressed).map_err(broken)
}

/// The module's file, where modprobe would look if it had an index.
fn find_module() -> Option<PathBuf> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    find_below(&Path::new("/lib/modules").join(release.trim()))
}

fn find_below(folder: &Path) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        // Links lead out of the folder, to the sources.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if let Some(found) = find_below(&path) {
                return Some(found);
            }
        } else if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("accel_bench.ko"))
        {
            return Some(path);
        }
    }
    None
}

/// The kernel's log from the time when this was opened.
struct Log(File);

impl Log {
    fn open() -> Result<Self, String> {
        let open = || {
            let mut file = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NONBLOCK)
                .open("/dev/kmsg")?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        open()
            .map(Self)
            .map_err(|e: std::io::Error| format!("/dev/kmsg: {e}"))
    }

    /// The messages that have come.
    fn lines(&mut self) -> Result<Vec<String>, String> {
        let mut lines = Vec::new();
        // One read is one record; none is longer than this.
        let mut record = [0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(0) => return Ok(lines),
                Ok(len) => {
                    let record = String::from_utf8_lossy(&record[..len]);
                    lines.extend(message(&record).map(str::to_owned));
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(lines),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // Records that were overwritten are lost; go on after them.
                Err(e) if e.raw_os_error() == Some(libc::EPIPE) => {}
                Err(e) => return Err(format!("/dev/kmsg: {e}")),
            }
        }
    }
}

/// The text in `level,number,time,flags;text` and lines of other things.
fn message(record: &str) -> Option<&str> {
    record.split_once(';')?.1.lines().next()
}

/// `accel_bench: name figure` in each line that is one.
fn figures(lines: &[String]) -> Vec<(String, u64)> {
    lines
        .iter()
        .filter_map(|line| {
            let mut words = line.strip_prefix(NAME)?.strip_prefix(": ")?.split(' ');
            let name = words.next()?;
            let figure = words.next()?.parse().ok()?;
            words.next().is_none().then(|| (name.to_owned(), figure))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_a_text() {
        assert_eq!(
            message("6,1234,5678,-;accel_bench: guard 31\n SUBSYSTEM=x\n"),
            Some("accel_bench: guard 31")
        );
        assert_eq!(message("6,1,2,-;"), None);
        assert_eq!(message("nothing"), None);
    }

    #[test]
    fn figures_are_told_from_other_lines() {
        let lines = [
            "accel_bench: guard 31",
            "accel_bench: loading out-of-tree module taints kernel.",
            "accel_bench: register_unregister_16 12345",
            "accel_bench: guard 31 more",
            "accel_bench: guard -1",
            "other: guard 5",
            "accel_benchmark: guard 5",
        ]
        .map(str::to_owned);
        assert_eq!(
            figures(&lines),
            [
                ("guard".to_owned(), 31),
                ("register_unregister_16".to_owned(), 12345)
            ]
        );
    }
}
