// SPDX-License-Identifier: GPL-2.0
//! Where things are: the checkout, the cache, this checkout's part of the cache.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// As many links in a row as the kernel follows.
const MOST_LINKS: usize = 40;

/// The folders that everything else is found from.
///
/// `bootstrap.sh` hands them over in the environment, already checked.
#[derive(Debug, Clone)]
pub struct Place {
    /// The checkout, at the same path as outside the build root.
    pub tree: PathBuf,
    /// The cache folder, shared by all checkouts of a user.
    pub cache: PathBuf,
    /// This checkout's own part of the cache: build outputs only.
    pub work: PathBuf,
    /// Where the user called from, as it was called outside.
    caller: PathBuf,
}

impl Place {
    pub fn from_env() -> Result<Self> {
        Ok(Self {
            tree: path("ACCEL_TREE")?,
            cache: path("ACCEL_CACHE")?,
            work: path("ACCEL_WORK")?,
            caller: path("ACCEL_CALLER_DIR")?,
        })
    }

    /// The path inside the build root of a path that the user gave; links are followed as they
    /// lead outside.
    pub fn host_path(&self, given: &str) -> Result<PathBuf> {
        let mut outside = self.caller.join(given);
        for _ in 0..MOST_LINKS {
            let below = outside.strip_prefix("/").unwrap_or(&outside);
            let inside = Path::new("/host").join(below);
            match fs::read_link(&inside) {
                Ok(target) => {
                    outside.pop();
                    outside.push(target);
                }
                Err(_) if inside.exists() => return Ok(inside),
                Err(_) => bail!("there is no '{given}'"),
            }
        }
        bail!("'{given}' is a link that leads nowhere");
    }

    /// The cargo workspace.
    pub fn tools(&self) -> PathBuf {
        self.tree.join("tools")
    }

    /// The folder of the kselftests.
    pub fn selftests(&self) -> PathBuf {
        self.tree.join("tools/testing/selftests/accel")
    }

    /// The folder of the mutants.
    pub fn mutants(&self) -> PathBuf {
        self.tree.join("tools/testing/mutants")
    }

    /// Logs of long steps.
    pub fn log(&self, name: &str) -> PathBuf {
        self.work.join("log").join(name)
    }
}

fn path(name: &str) -> Result<PathBuf> {
    env::var_os(name).map(PathBuf::from).with_context(|| {
        format!("{name} is not set: start this program through make or tools/dev/bootstrap.sh")
    })
}
