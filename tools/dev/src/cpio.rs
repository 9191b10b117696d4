// SPDX-License-Identifier: GPL-2.0
//! Writing an initramfs: the "newc" cpio format, `Documentation/driver-api/early-userspace/
//! buffer-format.rst` of the kernel.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// An archive that is being written to `out`. All files belong to root.
pub struct Archive<W: Write> {
    out: W,
    next_inode: u32,
    folders: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    pub fn new(out: W) -> Self {
        Self {
            out,
            next_inode: 1,
            folders: BTreeSet::new(),
        }
    }

    /// A folder and those above it. Paths have no leading slash.
    pub fn folder(&mut self, path: &str) -> Result<()> {
        if path.is_empty() || self.folders.contains(path) {
            return Ok(());
        }
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above)?;
        }
        self.folders.insert(path.to_owned());
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[])
    }

    pub fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        self.above(path)?;
        self.entry(path, SYMLINK | 0o777, (0, 0), target.as_bytes())
    }

    pub fn device(&mut self, path: &str, major: u32, minor: u32) -> Result<()> {
        self.above(path)?;
        self.entry(path, CHARACTER | 0o600, (major, minor), &[])
    }

    pub fn bytes(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        self.above(path)?;
        self.entry(path, REGULAR | mode, (0, 0), bytes)
    }

    /// A file of the host, with its permissions.
    pub fn file(&mut self, path: &str, from: &Path) -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        let mode = fs::metadata(from)
            .with_context(|| format!("reading {}", from.display()))?
            .permissions()
            .mode();
        self.bytes(path, mode & 0o777, &bytes)
    }

    /// A file or folder of the host, with all that is in it.
    pub fn tree(&mut self, path: &str, from: &Path) -> Result<()> {
        let meta =
            fs::symlink_metadata(from).with_context(|| format!("reading {}", from.display()))?;
        if meta.is_symlink() {
            let target = fs::read_link(from)?;
            return self.symlink(path, &target.to_string_lossy());
        }
        if !meta.is_dir() {
            return self.file(path, from);
        }
        self.folder(path)?;
        let mut names: Vec<_> = fs::read_dir(from)
            .with_context(|| format!("reading {}", from.display()))?
            .collect::<io::Result<Vec<_>>>()?
            .into_iter()
            .map(|entry| entry.file_name())
            .collect();
        names.sort();
        for name in names {
            self.tree(
                &format!("{path}/{}", name.to_string_lossy()),
                &from.join(&name),
            )?;
        }
        Ok(())
    }

    /// Ends the archive. Several may follow each other in one file.
    pub fn finish(mut self) -> Result<W> {
        self.next_inode = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn above(&mut self, path: &str) -> Result<()> {
        match path.rsplit_once('/') {
            Some((above, _)) => self.folder(above),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), bytes: &[u8]) -> Result<()> {
        let size = u32::try_from(bytes.len())
            .with_context(|| format!("{path} is too large for the guest's file system"))?;
        let (major, minor) = device;
        let name_size = path.len() + 1;
        write!(
            self.out,
            "070701{:08X}{mode:08X}{:08X}{:08X}{:08X}{:08X}{size:08X}{:08X}{:08X}{major:08X}\
             {minor:08X}{name_size:08X}{:08X}{path}\0",
            self.next_inode, 0, 0, 1, 0, 0, 0, 0,
        )?;
        // The header has 110 bytes; name and content each end at a multiple of four.
        self.pad(110 + name_size)?;
        self.out.write_all(bytes)?;
        self.pad(bytes.len())?;
        self.next_inode += 1;
        Ok(())
    }

    fn pad(&mut self, written: usize) -> Result<()> {
        let missing = written.next_multiple_of(4) - written;
        self.out.write_all(&[0; 4][..missing])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_folders_come_first() -> Result<()> {
        let mut archive = Archive::new(Vec::new());
        archive.bytes("a/b/c", 0o755, b"12345")?;
        let bytes = archive.finish()?;
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let place = |what: &str| text.find(what);
        assert!(place("a\0") < place("a/b\0"));
        assert!(place("a/b\0") < place("a/b/c\0"));
        assert!(text.contains("12345"));
        Ok(())
    }
}
