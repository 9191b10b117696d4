// SPDX-License-Identifier: GPL-2.0
//! What the host is told as it happens, one line each, through a port that holds the writer until
//! the line has arrived: if the guest dies, the host knows the program that it died of.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::program::Program;

pub struct Record {
    to: Option<File>,
}

impl Record {
    pub fn new(path: Option<&Path>) -> Result<Self> {
        let to = path
            .map(|path| {
                File::options()
                    .write(true)
                    .open(path)
                    .with_context(|| path.display().to_string())
            })
            .transpose()?;
        Ok(Self { to })
    }

    /// This program is about to run.
    pub fn runs(&mut self, program: &Program) -> Result<()> {
        self.say("run", &program.to_json())
    }

    /// This one has reached something new.
    pub fn keeps(&mut self, program: &Program) -> Result<()> {
        self.say("keep", &program.to_json())
    }

    /// This one did not end.
    pub fn was_killed(&mut self, program: &Program) -> Result<()> {
        self.say("killed", &program.to_json())
    }

    /// How far a function was reached.
    pub fn reached(&mut self, function: &str) -> Result<()> {
        self.say("reached", function)
    }

    fn say(&mut self, word: &str, what: &str) -> Result<()> {
        let Some(to) = &mut self.to else {
            return Ok(());
        };
        let line = format!("{word} {what}\n");
        to.write_all(line.as_bytes()).context("telling the host")
    }
}
