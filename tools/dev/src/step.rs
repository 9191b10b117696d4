// SPDX-License-Identifier: GPL-2.0
//! Steps whose result is kept: made under another name, then renamed, so that an interrupted
//! one is never half-used; and the locks that keep two runs apart.

use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::report::{say, seconds};

const STAMP: &str = ".made-of";

/// Makes the folder `result` with `make`, unless it is there and was made of the same `key`.
///
/// `make` gets the folder to fill, which has another name until it is complete.
pub fn folder(
    result: &Path,
    key: &str,
    what: &str,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    if is_made_of(result, key) {
        return Ok(());
    }
    let started = Instant::now();
    say(format!("{what} ..."));
    let unfinished = result.with_extension("unfinished");
    remove(&unfinished)?;
    fs::create_dir_all(&unfinished).with_context(|| format!("making {}", unfinished.display()))?;
    make(&unfinished).with_context(|| what.to_owned())?;
    fs::write(unfinished.join(STAMP), key)
        .with_context(|| format!("writing {}", unfinished.display()))?;
    remove(result)?;
    fs::rename(&unfinished, result)
        .with_context(|| format!("renaming {}", unfinished.display()))?;
    say(format!("{what}: done in {}", seconds(started.elapsed())));
    Ok(())
}

pub fn is_made_of(result: &Path, key: &str) -> bool {
    fs::read_to_string(result.join(STAMP)).is_ok_and(|found| found == key)
}

/// Removes a file or folder, which need not be there.
pub fn remove(path: &Path) -> Result<()> {
    let done = match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    done.with_context(|| format!("removing {}", path.display()))
}

/// Held until dropped; other runs wait.
///
/// The programs that are started meanwhile hold it too: if this one is killed, the lock goes with
/// the last of them, so that nobody works in a folder that an orphan still writes to.
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Nothing can be done about a failure, and closing the file does the same in the end.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Lock {
    pub fn take(path: &Path, why: &str) -> Result<Self> {
        let file =
            File::create(path).with_context(|| format!("making the lock {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            say(format!("waiting for another run that is {why}"));
            flock(&file, FlockOperation::LockExclusive)
                .with_context(|| format!("locking {}", path.display()))?;
        }
        fcntl_setfd(&file, FdFlags::empty())
            .with_context(|| format!("keeping the lock {}", path.display()))?;
        Ok(Self { file })
    }
}
