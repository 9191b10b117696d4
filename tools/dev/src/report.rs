// SPDX-License-Identifier: GPL-2.0
//! What the user sees while things happen: one line a step, with the elapsed time.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since `make` was called (`bootstrap.sh` began to count).
pub fn elapsed() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs());
    let started = env::var("ACCEL_STARTED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(now);
    now.saturating_sub(started)
}

/// One line of progress. It goes to stderr: stdout belongs to what was asked for.
pub fn say(text: impl AsRef<str>) {
    eprintln!("[{:4} s] {}", elapsed(), text.as_ref());
}

/// How an outcome is coloured, where there is somebody to see it.
#[derive(Clone, Copy)]
pub enum Colour {
    Good,
    Bad,
    Odd,
}

pub fn paint(colour: Colour, text: &str) -> String {
    if !io::stdout().is_terminal() || env::var_os("NO_COLOR").is_some() {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Good => 32,
        Colour::Bad => 31,
        Colour::Odd => 33,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// A result line, on stdout.
pub fn line(text: impl AsRef<str>) {
    let mut out = io::stdout().lock();
    // A reader that went away is no reason to stop what was begun.
    let _ = writeln!(out, "{}", text.as_ref());
    let _ = out.flush();
}

pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
