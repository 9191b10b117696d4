// SPDX-License-Identifier: GPL-2.0

//! Attributes that drivers declare: their types, how their values are written, and what was last
//! known of them.
//!
//! A reader never wakes the hardware: if the gate is open the driver is asked, else the reader is
//! told what the driver said last. A writer never waits for the hardware: what it wrote is checked
//! and kept, and a work item gives it to the driver.

use crate::{
    bindings::{
        declared::{
            RawAttribute,
            ValueKind, //
        },
        errno::ENODATA,
        slot::{
            Kind,
            MonitorKind, //
        }, //
    },
    device::Device, //
};
use core::fmt::Write;
use kernel::{
    new_spinlock,
    prelude::*,
    str::{
        parse_int::ParseInt,
        BStr,
        CString,
        Formatter, //
    },
    sync::SpinLock, //
};

/// What values there are, of 64 bits whose meaning follows from this.
enum Type {
    /// From the first to the second.
    Unsigned(u64, u64),
    /// Likewise.
    Signed(i64, i64),
    /// 0 or 1.
    Bool,
    /// The index of one.
    Words(KVec<CString>),
}

impl Type {
    fn new(kind: ValueKind, range: Option<(i64, i64)>) -> Result<Self> {
        Ok(match (kind, range) {
            (ValueKind::Unsigned, None) => Self::Unsigned(0, u64::MAX),
            (ValueKind::Unsigned, Some((min, max))) => Self::Unsigned(min as u64, max as u64),
            (ValueKind::Signed, None) => Self::Signed(i64::MIN, i64::MAX),
            (ValueKind::Signed, Some((min, max))) => Self::Signed(min, max),
            (ValueKind::Bool, _) => Self::Bool,
            (ValueKind::Words(word), _) => {
                let mut words = KVec::new();

                while let Some(word) = word(words.len()) {
                    words.push(CString::try_from_fmt(fmt!("{}", word))?, GFP_KERNEL)?;
                }
                Self::Words(words)
            }
        })
    }

    /// The value that `text` is, which may end with a newline.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it is none; `ERANGE` when it is a number that is not taken.
    fn parse(&self, text: &[u8]) -> Result<u64> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);

        match self {
            Self::Unsigned(min, max) => in_range(number::<u64>(text)?, *min, *max),
            Self::Signed(min, max) => {
                in_range(number::<i64>(text)?, *min, *max).map(|it| it as u64)
            }
            Self::Bool => match text {
                b"0" => Ok(0),
                b"1" => Ok(1),
                _ => Err(EINVAL),
            },
            Self::Words(words) => words
                .iter()
                .position(|word| word.to_bytes() == text)
                .map(|index| index as u64)
                .ok_or(EINVAL),
        }
    }

    /// Writes `value` as [`Self::parse`] reads it.
    fn write(&self, value: u64, to: &mut Formatter<'_>) -> Result {
        match self {
            Self::Unsigned(..) => write!(to, "{value}")?,
            Self::Signed(..) => write!(to, "{}", value as i64)?,
            Self::Bool => write!(to, "{}", u8::from(value != 0))?,
            Self::Words(words) => {
                let word = words.get(value as usize).ok_or(EINVAL)?;

                write!(to, "{}", word.to_str().map_err(|_| EINVAL)?)?;
            }
        }
        Ok(())
    }
}

/// Decimal, or as the prefixes 0x, 0o, 0b and 0 say.
fn number<T: ParseInt>(text: &[u8]) -> Result<T> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);

    // The kernel's function takes signs where none should be.
    if !digits.iter().all(u8::is_ascii_alphanumeric) {
        return Err(EINVAL);
    }
    T::from_str(BStr::from_bytes(text))
}

fn in_range<T: PartialOrd>(value: T, min: T, max: T) -> Result<T> {
    if value < min || value > max {
        return Err(ERANGE);
    }
    Ok(value)
}

/// An attribute.
struct About {
    name: CString,
    mode: u16,
    values: Type,
}

/// What is known of one.
#[derive(Clone, Copy, Default)]
struct Known {
    /// What the driver said last.
    last: Option<u64>,
    /// What was written last and the driver has not been given yet.
    written: Option<u64>,
}

/// The attributes that the driver of a device has declared, in the order of its table.
#[pin_data]
pub(crate) struct Declared {
    abouts: KVec<About>,
    #[pin]
    known: SpinLock<KVec<Known>>,
}

impl Declared {
    /// Copies what `table` says.
    pub(crate) fn new(table: &[RawAttribute]) -> impl PinInit<Self, Error> + '_ {
        try_pin_init!(Self {
            abouts: {
                let mut abouts = KVec::with_capacity(table.len(), GFP_KERNEL)?;

                for raw in table {
                    let about = About {
                        name: CString::try_from_fmt(fmt!("{}", raw.name))?,
                        mode: raw.mode,
                        values: Type::new(raw.kind, raw.range)?,
                    };

                    abouts.push(about, GFP_KERNEL)?;
                }
                abouts
            },
            known <- new_spinlock!(
                KVec::from_elem(Known::default(), table.len(), GFP_KERNEL)?,
                "accel_attributes"
            ),
        }? Error)
    }

    /// Names and modes.
    pub(crate) fn files(&self) -> impl ExactSizeIterator<Item = (&CStr, u16)> {
        self.abouts.iter().map(|about| (&*about.name, about.mode))
    }

    fn about(&self, index: usize) -> Result<&About> {
        self.abouts.get(index).ok_or(ENODEV)
    }

    /// Whether there is anything that the driver has not been given yet.
    fn has_written(&self) -> bool {
        self.known
            .lock()
            .iter()
            .any(|known| known.written.is_some())
    }

    /// Does `change` to what is known of the one at `index`.
    fn with<R>(&self, index: usize, change: impl FnOnce(&mut Known) -> R) -> Result<R> {
        self.known.lock().get_mut(index).map(change).ok_or(ENODEV)
    }
}

impl Device {
    /// Writes the value of the attribute at `index`: what the driver says, or, when the hardware is
    /// not to be asked, what it said last.
    ///
    /// # Errors
    ///
    /// `ENODATA` when it has said nothing yet; `ENODEV` when the device is going; the driver's.
    pub(crate) fn show_declared(&self, index: usize, to: &mut Formatter<'_>) -> Result {
        let declared = self.declared();
        let value = match self.slot().enter(Kind::DRIVER_SHOW) {
            Some(guard) => {
                let value = guard.show_attribute(self, index)?;

                declared.with(index, |known| known.last = Some(value))?;
                value
            }
            None => {
                let _monitor = self.slot().monitor(MonitorKind::ATTRIBUTE)?;

                declared.with(index, |known| known.last)?.ok_or(ENODATA)?
            }
        };

        declared.about(index)?.values.write(value, to)
    }

    /// Has the driver given what `text` says for the attribute at `index`, later.
    ///
    /// # Errors
    ///
    /// Those of [`Type::parse`]; `EIO` when the device does nothing until it is reset.
    pub(crate) fn store_declared(&self, index: usize, text: &[u8]) -> Result {
        let declared = self.declared();
        let value = declared.about(index)?.values.parse(text)?;

        if self.state().is_broken() {
            return Err(EIO);
        }
        declared.with(index, |known| known.written = Some(value))?;
        self.slot().store_work().queue();
        Ok(())
    }
}

/// Gives the driver what was written to its attributes, the latest value of each.
pub(crate) fn store_written(device: &Device) {
    let declared = device.declared();
    // Not while the device is reset, or put to sleep.
    let Some(lifecycle) = device.slot().lifecycle() else {
        return;
    };

    // It comes again when the system is awake, or the bus has recovered.
    if !declared.has_written() || !device.power().allows_reset() {
        return;
    }
    device.wake_idle_with(&lifecycle);
    // It did not wake, or is still to be reset: it comes again with what becomes of that.
    if !device.state().is_decided() {
        return;
    }
    for (index, about) in declared.abouts.iter().enumerate() {
        let Ok(Some(value)) = declared.with(index, |known| known.written.take()) else {
            continue;
        };
        let stored = match device.state().is_broken() {
            true => Err(EIO),
            false => lifecycle.store_attribute(device, index, value),
        };

        if let Err(err) = stored {
            dev_warn!(
                device.parent(),
                "accel{}: {} was not stored ({})\n",
                device.number(),
                &*about.name,
                err.to_errno()
            );
        }
    }
}

#[kunit_tests(accel_attribute)]
mod attribute_tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_their_range() {
        let all = Type::Unsigned(0, u64::MAX);
        let some = Type::Signed(-5, 5);

        assert_eq!(all.parse(b"0"), Ok(0));
        assert_eq!(all.parse(b"18446744073709551615\n"), Ok(u64::MAX));
        assert_eq!(all.parse(b"0xff"), Ok(255));
        assert_eq!(all.parse(b"18446744073709551616"), Err(EINVAL));
        assert_eq!(some.parse(b"-5"), Ok(-5i64 as u64));
        assert_eq!(some.parse(b"5\n"), Ok(5));
        assert_eq!(some.parse(b"6"), Err(ERANGE));
        assert_eq!(some.parse(b"-6"), Err(ERANGE));
    }

    #[test]
    fn nonsense_is_no_number() {
        let all = Type::Signed(i64::MIN, i64::MAX);

        for text in [
            &b""[..],
            b"\n",
            b" 1",
            b"1 ",
            b"+1",
            b"--1",
            b"-",
            b"0x",
            b"0x-1",
            b"0x+1",
            b"1.0",
            b"1_0",
            b"1\n\n",
            b"1\0",
            b"\xff",
        ] {
            assert_eq!(all.parse(text), Err(EINVAL));
        }
    }

    #[test]
    fn a_bool_is_one_digit() {
        assert_eq!(Type::Bool.parse(b"0\n"), Ok(0));
        assert_eq!(Type::Bool.parse(b"1"), Ok(1));
        for text in [&b"2"[..], b"01", b"y", b"", b"true"] {
            assert_eq!(Type::Bool.parse(text), Err(EINVAL));
        }
    }

    #[test]
    fn a_word_is_the_whole_word() -> Result {
        let words = Type::new(
            ValueKind::Words(|index| ["slow", "fast"].get(index).copied()),
            None,
        )?;

        assert_eq!(words.parse(b"slow"), Ok(0));
        assert_eq!(words.parse(b"fast\n"), Ok(1));
        for text in [&b"fas"[..], b"faster", b"Fast", b"", b"fast slow", b"1"] {
            assert_eq!(words.parse(text), Err(EINVAL));
        }
        Ok(())
    }
}
