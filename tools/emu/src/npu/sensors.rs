// SPDX-License-Identifier: GPL-2.0
//! What the card measures of itself. Power follows the load, temperature follows the power.

use std::time::Instant;

use super::scheduler::COMPUTE_ENGINES;

/// Thousandths of a degree.
pub const TEMPERATURE_LIMIT: i32 = 95_000;
/// mW.
pub const POWER_LIMIT: u32 = 75_000;

const AMBIENT: f64 = 31_000.0;
/// Thousandths of a degree that each mW makes in the long run.
const HEATING: f64 = 0.62;
/// Seconds in which the difference to that falls to 1/e.
const INERTIA: f64 = 8.0;
const POWER_IDLE: f64 = 11_800.0;
const POWER_LOAD: f64 = 46_000.0;
const VOLTAGE_IDLE: f64 = 720.0;
const VOLTAGE_LOAD: f64 = 130.0;
const CLOCK_IDLE: f64 = 300_000.0;
const CLOCK_LOAD: f64 = 900_000.0;
const MEMORY_CLOCK: u32 = 1_600_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sensor {
    Temperature,
    Power,
    Voltage,
    CoreClock,
    MemoryClock,
}

impl Sensor {
    pub const ALL: [(&'static str, Sensor); 5] = [
        ("temperature", Sensor::Temperature),
        ("power", Sensor::Power),
        ("voltage", Sensor::Voltage),
        ("core_clock", Sensor::CoreClock),
        ("memory_clock", Sensor::MemoryClock),
    ];
}

/// What was measured when last asked.
#[derive(Debug)]
pub struct Sensors {
    at: Instant,
    /// ns that compute engines were busy, added up.
    busy: u64,
    /// Of the compute engines, 0 to 1, over the last fraction of a second.
    load: f64,
    temperature: f64,
    /// µJ.
    energy: f64,
    pub ecc_corrected: u32,
    pub ecc_uncorrected: u32,
    /// What was injected, by `Sensor`.
    forced: [Option<i32>; Sensor::ALL.len()],
}

impl Sensors {
    pub fn new(now: Instant) -> Self {
        Self {
            at: now,
            busy: 0,
            load: 0.0,
            temperature: AMBIENT + HEATING * POWER_IDLE,
            energy: 0.0,
            ecc_corrected: 0,
            ecc_uncorrected: 0,
            forced: [None; Sensor::ALL.len()],
        }
    }

    /// Goes on to `now`, when compute engines have been busy for `busy` ns since power-on.
    pub fn advance(&mut self, now: Instant, busy: u64) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        // Who asks twice in a moment gets the same answer.
        if seconds < 1e-3 {
            return;
        }
        let worked = busy.saturating_sub(self.busy) as f64 * 1e-9;
        let load = (worked / seconds / COMPUTE_ENGINES as f64).clamp(0.0, 1.0);
        // The load as meters see it does not jump.
        self.load += (load - self.load) * (1.0 - (-seconds / 0.1).exp());
        self.energy += (POWER_IDLE + POWER_LOAD * load) * 1e3 * seconds;
        let goal = AMBIENT + HEATING * (POWER_IDLE + POWER_LOAD * load);
        self.temperature += (goal - self.temperature) * (1.0 - (-seconds / INERTIA).exp());
        self.at = now;
        self.busy = busy;
    }

    pub fn read(&self, sensor: Sensor) -> i32 {
        if let Some(value) = self.forced[sensor as usize] {
            return value;
        }
        match sensor {
            Sensor::Temperature => self.temperature as i32,
            Sensor::Power => (POWER_IDLE + POWER_LOAD * self.load) as i32,
            Sensor::Voltage => (VOLTAGE_IDLE + VOLTAGE_LOAD * self.load) as i32,
            Sensor::CoreClock => (CLOCK_IDLE + CLOCK_LOAD * self.load) as i32,
            Sensor::MemoryClock => MEMORY_CLOCK as i32,
        }
    }

    /// µJ since power-on.
    pub fn energy(&self) -> u64 {
        self.energy as u64
    }

    pub fn too_hot(&self) -> bool {
        self.read(Sensor::Temperature) > TEMPERATURE_LIMIT
    }

    pub fn force(&mut self, sensor: Sensor, value: i32) {
        self.forced[sensor as usize] = Some(value);
    }

    pub fn release(&mut self) {
        self.forced = [None; Sensor::ALL.len()];
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn temperature_and_power_follow_the_load() {
        let start = Instant::now();
        let mut sensors = Sensors::new(start);
        let idle = Sensor::ALL.map(|(_, sensor)| sensors.read(sensor));
        assert!((30_000..60_000).contains(&idle[0]));
        let mut busy = 0;
        let mut last = idle[0];
        for tenth in 1..=600u32 {
            busy += 200_000_000; // two engines
            sensors.advance(start + Duration::from_millis(100) * tenth, busy);
            assert!(sensors.read(Sensor::Temperature) >= last);
            last = sensors.read(Sensor::Temperature);
        }
        let hot = Sensor::ALL.map(|(_, sensor)| sensors.read(sensor));
        assert!(hot[0] > idle[0] + 20_000 && hot[0] < TEMPERATURE_LIMIT);
        assert!(hot[1] > 3 * idle[1] && hot[1] < POWER_LIMIT as i32);
        assert!(hot[2] > idle[2] && hot[3] > idle[3]);
        // 60 s of 57.8 W.
        assert!((3_400_000_000..3_500_000_000).contains(&sensors.energy()));
        sensors.advance(start + Duration::from_secs(200), busy);
        let cool = Sensor::ALL.map(|(_, sensor)| sensors.read(sensor));
        assert_eq!(cool, idle);
        assert!(!sensors.too_hot());
    }

    #[test]
    fn what_is_forced_is_read_until_released() {
        let mut sensors = Sensors::new(Instant::now());
        let before = sensors.read(Sensor::Temperature);
        for (value, (_, sensor)) in (-3..).zip(Sensor::ALL) {
            sensors.force(sensor, value);
            assert_eq!(sensors.read(sensor), value);
        }
        sensors.force(Sensor::Temperature, TEMPERATURE_LIMIT);
        assert!(!sensors.too_hot());
        sensors.force(Sensor::Temperature, TEMPERATURE_LIMIT + 1);
        assert!(sensors.too_hot());
        sensors.release();
        assert_eq!(sensors.read(Sensor::Temperature), before);
    }
}
