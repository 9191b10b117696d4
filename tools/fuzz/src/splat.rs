// SPDX-License-Identifier: GPL-2.0
//! Reports in the kernel's log.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// What a line of the log has if a report begins there; the host says what that is.
#[derive(Debug, Default)]
pub struct Signs(Vec<String>);

impl Signs {
    /// One a line.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Ok(Self(text.lines().map(str::to_owned).collect()))
    }

    fn is_in(&self, line: &str) -> bool {
        self.0.iter().any(|sign| line.contains(sign.as_str()))
    }
}

/// The log from now on.
pub struct Log {
    file: File,
    signs: Signs,
}

impl Log {
    pub fn new(signs: Signs) -> Result<Self> {
        let mut file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .context("/dev/kmsg")?;
        file.seek(SeekFrom::End(0)).context("/dev/kmsg")?;
        Ok(Self { file, signs })
    }

    /// The first line of a report that came since the last time.
    pub fn report(&mut self) -> Result<Option<String>> {
        let mut record = [0; 8192];
        let mut found = None;
        loop {
            match self.file.read(&mut record) {
                Ok(size) => {
                    let text = String::from_utf8_lossy(&record[..size]);
                    let line = text.split_once(';').map_or(&*text, |(_, line)| line);
                    let line = line.lines().next().unwrap_or_default();
                    if found.is_none() && self.signs.is_in(line) {
                        found = Some(line.to_owned());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(found),
                // Lines were overwritten before they could be read.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) => return Err(error).context("/dev/kmsg"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_parts_of_lines() {
        let signs = Signs(vec!["WARNING:".to_owned(), "BUG:".to_owned()]);
        assert!(signs.is_in("[ 1.0] WARNING: at x.c:1"));
        assert!(!signs.is_in("accel: a warning"));
    }
}
