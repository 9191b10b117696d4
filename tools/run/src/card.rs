// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a model is executed on: memory, and somebody who executes commands.

use std::time::{Duration, Instant};

use anyhow::Result;
use libaccel::npu::{Access, Command, Context, Mapped, Program, Run, Shared, Type};

use crate::lower::Span;

/// The largest piece that is copied by one command; an operand has no more elements.
const PIECE: usize = 1 << 26;

/// Something that executes commands, with memory of its own.
pub trait Card {
    /// The device address at which the memory begins.
    fn base(&self) -> u64;

    /// Brings content into the memory.
    fn write(&mut self, parts: &[(Span, Vec<u8>)]) -> Result<()>;

    /// Content of the memory.
    fn read(&mut self, parts: &[Span]) -> Result<Vec<Vec<u8>>>;

    /// Executes lists, one after the other, and tells the time that each took.
    fn execute(&mut self, lists: &[Vec<Command>]) -> Result<Vec<Duration>>;
}

/// An NPU. The model is in the card's memory; what goes in and out passes through host memory of
/// the same size, which the card copies from and to.
pub struct Npu {
    context: Context,
    memory: Mapped,
    host: Shared,
}

impl Npu {
    /// Memory of `size` bytes in an address space of its own.
    pub fn new(context: Context, size: usize) -> Result<Self> {
        let size = size as u64;
        Ok(Self {
            memory: context.memory(size, Access::ReadWrite)?,
            host: context.shared(size, Access::ReadWrite)?,
            context,
        })
    }

    /// Copies the same parts from one memory to the other.
    fn copy(&self, parts: impl Iterator<Item = Span>, to: &Mapped, from: &Mapped) -> Result<()> {
        let mut commands = Vec::new();
        for part in parts {
            for start in (0..part.size).step_by(PIECE) {
                let offset = (part.offset + start) as u64;
                let size = [u32::try_from((part.size - start).min(PIECE))?];
                commands.push(Command::copy(
                    to.tensor(offset, Type::U8, &size)?,
                    from.tensor(offset, Type::U8, &size)?,
                )?);
            }
        }
        if !commands.is_empty() {
            Program::new(&self.context, &[commands])?.run()?;
        }
        Ok(())
    }
}

impl Card for Npu {
    fn base(&self) -> u64 {
        self.memory.address()
    }

    fn write(&mut self, parts: &[(Span, Vec<u8>)]) -> Result<()> {
        for (span, content) in parts {
            self.host.bytes_mut().write_at(span.offset, content)?;
        }
        let spans = parts.iter().map(|(span, _)| *span);
        self.copy(spans, &self.memory, self.host.mapped())
    }

    fn read(&mut self, parts: &[Span]) -> Result<Vec<Vec<u8>>> {
        self.copy(parts.iter().copied(), self.host.mapped(), &self.memory)?;
        let mut contents = Vec::new();
        for part in parts {
            let mut content = vec![0; part.size];
            self.host.bytes().read_at(part.offset, &mut content)?;
            contents.push(content);
        }
        Ok(contents)
    }

    fn execute(&mut self, lists: &[Vec<Command>]) -> Result<Vec<Duration>> {
        let some: Vec<Vec<Command>> = (lists.iter())
            .filter(|it| !it.is_empty())
            .cloned()
            .collect();
        let mut times = Vec::new();
        if !some.is_empty() {
            let program = Program::new(&self.context, &some)?;
            let one = Run {
                batch: 1,
                ..Run::default()
            };
            let mut before = Instant::now();
            program.run_with(one, |_| {
                let now = Instant::now();
                times.push(now - before);
                before = now;
            })?;
        }
        let mut times = times.into_iter();
        Ok((lists.iter())
            .map(|list| match list.is_empty() {
                true => Duration::ZERO,
                false => times.next().unwrap_or_default(),
            })
            .collect())
    }
}
