// SPDX-License-Identifier: GPL-2.0
//! What can be told to a card from beside: injecting what goes wrong, looking inside.

use std::fmt::Write;
use std::str::{FromStr, SplitWhitespace};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::command::Engine;
use super::events::{Event, Kind};
use super::inject::{Field, Stuck};
use super::regs::{BAR0_SIZE, VECTORS};
use super::scheduler::Fatal;
use super::sensors::Sensor;
use super::{Card, Npu};
use crate::control::{Console, Reply};

const HELP: &str = "stats | hang compute|copy | stall MS [N] | fatal ecc|engine|thermal | \
    ecc N [OFFSET] | interrupts drop N | interrupts repeat N | interrupts spurious VECTOR | \
    lie completion cookie|status|phase|command N | lie register OFFSET VALUE [N] | lie event N | \
    slow MS N | tlb-stuck N | reset-stuck N | scrub-stuck N | sensor NAME VALUE | \
    peek OFFSET LEN | vanish | die | clear";

/// Bytes that one peek shows.
const PEEK_MAX: u64 = 64 << 10;
/// The longest time that can be asked for.
const MILLISECONDS_MAX: u64 = 3_600_000;
const NOT_READY: &str = "the card is not ready, or halted";

/// The words of a line that were not yet used.
struct Words<'a>(SplitWhitespace<'a>);

impl Words<'_> {
    fn word(&mut self, what: &str) -> Result<&str, String> {
        self.0.next().ok_or_else(|| format!("{what} is missing"))
    }

    /// One of the words that `choices` have.
    fn choice<T: Copy>(&mut self, choices: &[(&str, T)]) -> Result<T, String> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let names = names.join("|");
        let word = self.word(&names)?;
        let found = choices.iter().find(|(name, _)| *name == word);
        found
            .map(|(_, choice)| *choice)
            .ok_or_else(|| format!("{word} is none of {names}"))
    }

    /// A number, also with 0x.
    fn number<T: TryFrom<u64>>(&mut self, what: &str) -> Result<T, String> {
        let word = self.word(what)?;
        let value = match word.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => u64::from_str(word),
        };
        value
            .ok()
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| format!("{what}: {word} is no number that it can have"))
    }

    fn number_or<T: TryFrom<u64>>(&mut self, what: &str, default: T) -> Result<T, String> {
        if self.0.clone().next().is_none() {
            return Ok(default);
        }
        self.number(what)
    }

    fn time(&mut self) -> Result<Duration, String> {
        match self.number("MS")? {
            milliseconds @ 0..=MILLISECONDS_MAX => Ok(Duration::from_millis(milliseconds)),
            _ => Err(format!("at most {MILLISECONDS_MAX} ms")),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        match self.0.next() {
            Some(word) => Err(format!("{word} is too much")),
            None => Ok(()),
        }
    }
}

impl Console for Npu {
    fn say(&self, line: &str) -> Reply {
        match self.0.obey(line) {
            Ok(Done::Answer(answer)) if answer.is_empty() => Reply::Line("ok".to_owned()),
            Ok(Done::Answer(answer)) => Reply::Line(format!("ok {answer}")),
            Ok(Done::Die) => Reply::Die,
            Err(why) => Reply::Line(format!("error {why}")),
        }
    }
}

enum Done {
    Answer(String),
    Die,
}

impl Card {
    fn obey(&self, line: &str) -> Result<Done, String> {
        let mut words = Words(line.split_whitespace());
        let mut answer = String::new();
        match words.word("a command")? {
            "help" => answer.push_str(HELP),
            "stats" => {
                words.end()?;
                answer = self.stats();
            }
            "hang" => {
                let engine =
                    words.choice(&[("compute", Engine::Compute), ("copy", Engine::Copy)])?;
                words.end()?;
                self.inject.hang(engine);
            }
            "stall" => {
                let (time, times) = (words.time()?, words.number_or("N", 1)?);
                words.end()?;
                self.inject.stall(time, times);
            }
            "fatal" => {
                let why = words.choice(&[
                    ("ecc", Fatal::Ecc),
                    ("engine", Fatal::Engine),
                    ("thermal", Fatal::Thermal),
                ])?;
                words.end()?;
                if !self.fatal(why) {
                    return Err(NOT_READY.to_owned());
                }
            }
            "ecc" => {
                let (count, address) = (words.number("N")?, words.number_or("OFFSET", 0)?);
                words.end()?;
                self.correct(count, address)?;
            }
            "interrupts" => self.obey_interrupts(&mut words)?,
            "lie" => self.obey_lie(&mut words)?,
            "slow" => {
                let (time, times) = (words.time()?, words.number("N")?);
                words.end()?;
                self.inject.slow(time, times);
            }
            command @ ("tlb-stuck" | "reset-stuck" | "scrub-stuck") => {
                let what = match command {
                    "tlb-stuck" => Stuck::Tlb,
                    "reset-stuck" => Stuck::Reset,
                    _ => Stuck::Scrub,
                };
                let times = words.number("N")?;
                words.end()?;
                self.inject.stick(what, times);
            }
            "sensor" => {
                let sensor = words.choice(&Sensor::ALL)?;
                let value = words.word("VALUE")?;
                let value = i32::from_str(value).map_err(|error| format!("{value}: {error}"))?;
                words.end()?;
                self.force(sensor, value);
            }
            "peek" => {
                let (offset, size) = (words.number("OFFSET")?, words.number("LEN")?);
                words.end()?;
                answer = self.peek(offset, size)?;
            }
            "die" => {
                words.end()?;
                return Ok(Done::Die);
            }
            "clear" => {
                words.end()?;
                self.inject.clear();
                self.sensors.lock().release();
            }
            other => return Err(format!("{other} is no command; see help")),
        }
        Ok(Done::Answer(answer))
    }

    fn obey_interrupts(&self, words: &mut Words<'_>) -> Result<(), String> {
        let how = words.choice(&[("drop", 0), ("repeat", 1), ("spurious", 2)])?;
        if how == 2 {
            let vector = words.number("VECTOR")?;
            words.end()?;
            if vector >= VECTORS {
                return Err(format!("vectors are below {VECTORS}"));
            }
            self.counters.interrupts.fetch_add(1, Relaxed);
            self.bus.interrupt(vector);
            return Ok(());
        }
        let times = words.number("N")?;
        words.end()?;
        match how {
            0 => self.inject.drop_interrupts(times),
            _ => self.inject.repeat_interrupts(times),
        }
        Ok(())
    }

    fn obey_lie(&self, words: &mut Words<'_>) -> Result<(), String> {
        match words.choice(&[("completion", 0), ("register", 1), ("event", 2)])? {
            0 => {
                let field = words.choice(&[
                    ("cookie", Field::Cookie),
                    ("status", Field::Status),
                    ("phase", Field::Phase),
                    ("command", Field::Command),
                ])?;
                let times = words.number("N")?;
                words.end()?;
                self.inject.lie_in_completions(field, times);
            }
            1 => {
                let (offset, value) = (words.number("OFFSET")?, words.number("VALUE")?);
                let times = words.number_or("N", 1)?;
                words.end()?;
                if offset >= BAR0_SIZE {
                    return Err(format!("BAR0 ends at {BAR0_SIZE:#x}"));
                }
                self.inject.lie_in_register(offset, value, times);
            }
            _ => {
                let times: u16 = words.number("N")?;
                words.end()?;
                for _ in 0..times {
                    self.post(Event {
                        kind: Kind::Nonsense,
                        queue: Some(0x0bad_0bad),
                        address: u64::MAX,
                        information: u32::MAX,
                        count: 0,
                    });
                }
            }
        }
        Ok(())
    }

    fn correct(&self, count: u32, address: u64) -> Result<(), String> {
        if count == 0 || address >= self.memory.size() {
            return Err("there is no such error".to_owned());
        }
        {
            let mut sensors = self.sensors.lock();
            sensors.ecc_corrected = sensors.ecc_corrected.wrapping_add(count);
        }
        self.post(Event {
            kind: Kind::EccCorrected,
            queue: None,
            address,
            information: 0,
            count,
        });
        Ok(())
    }

    fn force(&self, sensor: Sensor, value: i32) {
        let too_hot = {
            let mut sensors = self.sensors.lock();
            sensors.force(sensor, value);
            sensors.too_hot()
        };
        if too_hot {
            // One that is halted or not ready notices when it is.
            self.fatal(Fatal::Thermal);
        }
    }

    fn peek(&self, offset: u64, size: u64) -> Result<String, String> {
        if size > PEEK_MAX {
            return Err(format!("at most {PEEK_MAX} bytes"));
        }
        let mut bytes = vec![0; size as usize];
        self.memory
            .read(offset, &mut bytes)
            .map_err(|_| "not in device memory".to_owned())?;
        let mut hex = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Ok(hex)
    }

    fn stats(&self) -> String {
        let counters = &self.counters;
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let (hits, misses) = self.mmu.counts();
        let all = [
            ("mmio_reads", get(&counters.mmio_reads)),
            ("mmio_writes", get(&counters.mmio_writes)),
            ("doorbells", get(&counters.doorbells)),
            ("interrupts", get(&counters.interrupts)),
            ("jobs", get(&counters.jobs)),
            ("commands", get(&counters.commands)),
            ("host_read", get(&counters.host_read)),
            ("host_written", get(&counters.host_written)),
            ("tlb_hits", hits),
            ("tlb_misses", misses),
            ("invalidations", get(&counters.invalidations)),
            ("resets", get(&counters.resets)),
            ("planned", self.inject.planned()),
        ];
        let all = all.map(|(name, value)| format!("{name}={value}"));
        all.join(" ")
    }
}
