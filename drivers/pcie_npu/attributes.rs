// SPDX-License-Identifier: GPL-2.0

//! What the card tells beside what every device does: its sensors in sysfs, its rings in debugfs.

use crate::{
    regs::Sensor,
    Npu, //
};
use accel::{
    Lent,
    Report, //
};
use kernel::prelude::*;

/// Makes an attribute of a sensor: its name, its type, and its value of the register's; and
/// `ROOT_ONLY` where it tells, read often, what the card computes for others.
macro_rules! sensor {
    ($(#[$about:meta])* $type:ident, $name:literal, $value:ty, $convert:expr $(, $root:ident)?) => {
        $(#[$about])*
        pub(crate) struct $type;

        #[vtable]
        impl accel::Attribute<Npu> for $type {
            const NAME: &'static str = $name;
            $(const $root: bool = true;)?
            type Value = $value;

            fn show(device: &Lent<'_, '_, Npu>) -> Result<$value> {
                let convert: fn(u32) -> $value = $convert;

                device.data().regs.sensor(Sensor::$type).map(convert)
            }
        }
    };
}

const HERTZ_PER_KILOHERTZ: u64 = 1000;

sensor!(
    /// Above its limit the card halts.
    Temperature, "temp_millicelsius", i64, |raw| (raw as i32).into()
);
sensor!(TemperatureLimit, "temp_limit_millicelsius", i64, |raw| (raw
    as i32)
    .into());
sensor!(Power, "power_milliwatts", u64, u64::from, ROOT_ONLY);
sensor!(PowerLimit, "power_limit_milliwatts", u64, u64::from);
sensor!(Voltage, "core_millivolts", u64, u64::from, ROOT_ONLY);
sensor!(CoreClock, "core_clock_hertz", u64, |raw| {
    u64::from(raw) * HERTZ_PER_KILOHERTZ
});
sensor!(MemoryClock, "memory_clock_hertz", u64, |raw| {
    u64::from(raw) * HERTZ_PER_KILOHERTZ
});
sensor!(EccCorrected, "ecc_corrected_count", u64, u64::from);
sensor!(EccUncorrected, "ecc_uncorrected_count", u64, u64::from);

/// The queues that have been used.
pub(crate) struct Rings;

impl accel::DebugFile<Npu> for Rings {
    const NAME: &'static str = "rings";

    fn show(device: &Lent<'_, '_, Npu>, report: &mut Report) -> Result {
        report.add(fmt!("queue\tmode\tspace\thead\ttail\tdone\n"))?;
        for channel in device.data().channels() {
            let Some(ring) = channel.ring() else {
                continue;
            };
            let (done, _) = channel.done();

            report.add(fmt!(
                "{}\t{:?}\t{}\t{}\t{}\t{}\n",
                channel.index(),
                ring.mode,
                ring.space,
                ring.head,
                ring.tail,
                done
            ))?;
        }
        Ok(())
    }
}
