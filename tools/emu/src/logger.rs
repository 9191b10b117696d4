// SPDX-License-Identifier: GPL-2.0
//! The log: a file, a line for each record.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use log::{LevelFilter, Log, Metadata, Record};

struct Logger {
    file: File,
    began: Instant,
}

/// Logs to `path` from here on.
pub fn start(path: &Path) -> Result<()> {
    let file = File::create(path).with_context(|| format!("writing {}", path.display()))?;
    let began = Instant::now();
    log::set_boxed_logger(Box::new(Logger { file, began })).context("there is a log already")?;
    log::set_max_level(LevelFilter::Info);
    Ok(())
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let seconds = self.began.elapsed().as_secs_f64();
        let thread = std::thread::current();
        let line = format!(
            "{seconds:10.4} {:5} {}: {}\n",
            record.level(),
            thread.name().unwrap_or("?"),
            record.args()
        );
        // One write for a line, so that those of several threads do not mix. A full disk is no
        // reason to stop.
        let _ = (&self.file).write_all(line.as_bytes());
    }

    fn flush(&self) {}
}
