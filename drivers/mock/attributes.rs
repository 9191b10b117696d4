// SPDX-License-Identifier: GPL-2.0

//! Attributes of every type, and a file in debugfs.

use super::Mock;
use accel::{
    Lent,
    Report,
    Words, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// What is behind them.
pub(crate) struct Knobs {
    temperature: Atomic<i64>,
    power: Atomic<u64>,
    turbo: Atomic<u64>,
    governor: Atomic<u64>,
    stalled: Atomic<u64>,
    poked: Atomic<u64>,
    /// How often the temperature was asked for.
    shows: Atomic<u64>,
    /// How many values were given.
    stores: Atomic<u64>,
}

impl Knobs {
    pub(crate) fn new() -> Self {
        Self {
            temperature: Atomic::new(25_000),
            power: Atomic::new(15_000),
            turbo: Atomic::new(0),
            governor: Atomic::new(Governor::Balanced as u64),
            stalled: Atomic::new(0),
            poked: Atomic::new(0),
            shows: Atomic::new(0),
            stores: Atomic::new(0),
        }
    }

    fn count_store(&self) {
        self.stores.fetch_add(1, Relaxed);
    }
}

/// What sleeps takes no value.
fn awake<'a>(device: &'a Lent<'_, '_, Mock>) -> Result<&'a Knobs> {
    match device.data().plan.lock().nap.asleep {
        true => Err(EIO),
        false => Ok(&device.data().get_ref().knobs),
    }
}

pub(crate) struct Temperature;

#[vtable]
impl accel::Attribute<Mock> for Temperature {
    const NAME: &'static str = "temp_millicelsius";
    type Value = i64;
    const RANGE: Option<(i64, i64)> = Some((-40_000, 125_000));

    fn show(device: &Lent<'_, '_, Mock>) -> Result<i64> {
        let knobs = &device.data().knobs;

        knobs.shows.fetch_add(1, Relaxed);
        Ok(knobs.temperature.load(Relaxed))
    }

    fn store(device: &Lent<'_, '_, Mock>, value: i64) -> Result {
        let knobs = awake(device)?;

        knobs.temperature.store(value, Relaxed);
        knobs.count_store();
        Ok(())
    }
}

pub(crate) struct PowerLimit;

#[vtable]
impl accel::Attribute<Mock> for PowerLimit {
    const NAME: &'static str = "power_limit_milliwatts";
    type Value = u64;
    const RANGE: Option<(i64, i64)> = Some((1000, 75_000));

    fn show(device: &Lent<'_, '_, Mock>) -> Result<u64> {
        Ok(device.data().knobs.power.load(Relaxed))
    }

    fn store(device: &Lent<'_, '_, Mock>, value: u64) -> Result {
        let knobs = awake(device)?;

        knobs.power.store(value, Relaxed);
        knobs.count_store();
        Ok(())
    }
}

pub(crate) struct Turbo;

#[vtable]
impl accel::Attribute<Mock> for Turbo {
    const NAME: &'static str = "turbo";
    type Value = bool;

    fn show(device: &Lent<'_, '_, Mock>) -> Result<bool> {
        Ok(device.data().knobs.turbo.load(Relaxed) != 0)
    }

    fn store(device: &Lent<'_, '_, Mock>, value: bool) -> Result {
        let knobs = awake(device)?;

        knobs.turbo.store(value.into(), Relaxed);
        knobs.count_store();
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Governor {
    Slow,
    Balanced,
    Fast,
}

impl Words for Governor {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("slow", Self::Slow),
        ("balanced", Self::Balanced),
        ("fast", Self::Fast),
    ];
}

#[vtable]
impl accel::Attribute<Mock> for Governor {
    const NAME: &'static str = "governor";
    type Value = Self;

    fn show(device: &Lent<'_, '_, Mock>) -> Result<Self> {
        Ok(match device.data().knobs.governor.load(Relaxed) {
            0 => Self::Slow,
            1 => Self::Balanced,
            _ => Self::Fast,
        })
    }

    fn store(device: &Lent<'_, '_, Mock>, value: Self) -> Result {
        let knobs = awake(device)?;

        knobs.governor.store(value as u64, Relaxed);
        knobs.count_store();
        Ok(())
    }
}

/// For root only.
pub(crate) struct Serial;

#[vtable]
impl accel::Attribute<Mock> for Serial {
    const NAME: &'static str = "serial_number";
    type Value = u64;
    const ROOT_ONLY: bool = true;

    fn show(_: &Lent<'_, '_, Mock>) -> Result<u64> {
        Ok(u64::MAX)
    }
}

/// Only written. All are added.
pub(crate) struct Poke;

#[vtable]
impl accel::Attribute<Mock> for Poke {
    const NAME: &'static str = "poke_count";
    type Value = u64;

    fn store(device: &Lent<'_, '_, Mock>, value: u64) -> Result {
        let knobs = awake(device)?;

        knobs.poked.fetch_add(value, Relaxed);
        knobs.count_store();
        Ok(())
    }
}

pub(crate) struct Poked;

#[vtable]
impl accel::Attribute<Mock> for Poked {
    const NAME: &'static str = "poked_count";
    type Value = u64;

    fn show(device: &Lent<'_, '_, Mock>) -> Result<u64> {
        Ok(device.data().knobs.poked.load(Relaxed))
    }
}

/// Takes its time to be stored.
pub(crate) struct Stall;

#[vtable]
impl accel::Attribute<Mock> for Stall {
    const NAME: &'static str = "stall_milliseconds";
    type Value = u64;
    const RANGE: Option<(i64, i64)> = Some((0, 2000));

    fn show(device: &Lent<'_, '_, Mock>) -> Result<u64> {
        Ok(device.data().knobs.stalled.load(Relaxed))
    }

    fn store(device: &Lent<'_, '_, Mock>, value: u64) -> Result {
        fsleep(Delta::from_millis(value as i64));
        let knobs = awake(device)?;

        knobs.stalled.store(value, Relaxed);
        knobs.count_store();
        Ok(())
    }
}

/// Cannot be read, nor written.
pub(crate) struct Broken;

#[vtable]
impl accel::Attribute<Mock> for Broken {
    const NAME: &'static str = "broken";
    type Value = bool;

    fn show(_: &Lent<'_, '_, Mock>) -> Result<bool> {
        Err(ENXIO)
    }

    fn store(_: &Lent<'_, '_, Mock>, _: bool) -> Result {
        Err(ENXIO)
    }
}

pub(crate) struct Shows;

#[vtable]
impl accel::Attribute<Mock> for Shows {
    const NAME: &'static str = "shows_count";
    type Value = u64;

    fn show(device: &Lent<'_, '_, Mock>) -> Result<u64> {
        Ok(device.data().knobs.shows.load(Relaxed))
    }
}

pub(crate) struct Stores;

#[vtable]
impl accel::Attribute<Mock> for Stores {
    const NAME: &'static str = "stores_count";
    type Value = u64;

    fn show(device: &Lent<'_, '_, Mock>) -> Result<u64> {
        Ok(device.data().knobs.stores.load(Relaxed))
    }
}

/// The jobs that end later, in debugfs.
pub(crate) struct Jobs;

impl accel::DebugFile<Mock> for Jobs {
    const NAME: &'static str = "jobs";

    fn show(device: &Lent<'_, '_, Mock>, report: &mut Report) -> Result {
        let clock = device.data();
        let plan = clock.plan.lock();

        report.add(fmt!("context\tpoint\n"))?;
        for later in &plan.later {
            report.add(fmt!("{}\t{}\n", later.number, later.job.point()))?;
        }
        Ok(())
    }
}
