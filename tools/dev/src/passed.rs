// SPDX-License-Identifier: GPL-2.0
//! What has passed a short while ago, so that `make test-all` right after `make test` does not
//! do the same again.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use crate::check_rules::files;
use crate::place::Place;
use crate::support::FLAVOURS;

/// How long "just now" is.
const FRESH: Duration = Duration::from_secs(2 * 60 * 60);

/// The results of one flavour, or of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub passed: usize,
    pub skipped: usize,
}

/// The checkout and the kernels as they are now.
pub struct State {
    key: u64,
    folder: PathBuf,
}

impl State {
    pub fn of(place: &Place) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        for path in files(&place.tree)? {
            let full = place.tree.join(&path);
            path.hash(&mut hasher);
            fs::read(&full)
                .with_context(|| format!("reading {}", full.display()))?
                .hash(&mut hasher);
        }
        for name in FLAVOURS
            .iter()
            .map(|flavour| format!("kernel-{}", flavour.name))
        {
            fs::read(place.cache.join(name)).ok().hash(&mut hasher);
        }
        fs::read(place.cache.join("root/.accel-root"))
            .ok()
            .hash(&mut hasher);
        Ok(Self {
            key: hasher.finish(),
            folder: place.work.join("passed"),
        })
    }

    /// The results of `name`, if all of it passed just now with everything as it is.
    pub fn recall(&self, name: &str) -> Option<Counts> {
        let file = self.folder.join(name);
        let age = SystemTime::now()
            .duration_since(fs::metadata(&file).ok()?.modified().ok()?)
            .ok()?;
        let text = fs::read_to_string(&file).ok()?;
        let mut words = text.split_whitespace();
        let key: u64 = words.next()?.parse().ok()?;
        let counts = Counts {
            passed: words.next()?.parse().ok()?,
            skipped: words.next()?.parse().ok()?,
        };
        (key == self.key && age < FRESH).then_some(counts)
    }

    pub fn remember(&self, name: &str, counts: Counts) -> Result<()> {
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("making {}", self.folder.display()))?;
        let file = self.folder.join(name);
        fs::write(
            &file,
            format!("{} {} {}\n", self.key, counts.passed, counts.skipped),
        )
        .with_context(|| format!("writing {}", file.display()))
    }

    pub fn forget(&self, name: &str) -> Result<()> {
        crate::step::remove(&self.folder.join(name))
    }
}
