// SPDX-License-Identifier: GPL-2.0

//! What drivers declare for sysfs and debugfs: typed attributes, and files of text.
//!
//! The tables lie in the driver's module, as that of its ioctls. The core copies names, types and
//! ranges at registration, and calls into the tables only inside the gate or from work that is
//! stopped before the driver's data goes.

use super::{
    debugfs::Report,
    driver::Driver,
    lent::{
        Lent,
        RawCall, //
    },
    ops::Erased, //
};
use crate::device::Device;
use core::marker::PhantomData;
use kernel::{
    error::{
        from_result,
        to_result,
        VTABLE_DEFAULT_ERROR, //
    },
    ffi::c_int,
    prelude::*, //
};

/// Most attributes of a driver, and likewise files in debugfs.
const DECLARED_MAX: usize = 64;

/// Longest name.
const NAME_MAX: usize = 48;

/// What a number's name ends with.
const UNITS: [&str; 19] = [
    "_bytes",
    "_bytes_per_second",
    // Of things.
    "_count",
    "_hertz",
    "_microamperes",
    "_microjoules",
    "_microseconds",
    "_microvolts",
    "_microwatts",
    "_milliamperes",
    "_millicelsius",
    "_milliseconds",
    "_millivolts",
    "_milliwatts",
    "_nanoseconds",
    // That tells one from others, or from what was before: a serial number, a version.
    "_number",
    "_percent",
    "_rpm",
    "_seconds",
];

/// An attribute of a device, which everybody may read and root may write:
/// `/sys/class/accel/accelN/attributes/NAME`.
///
/// # Examples
///
/// ```ignore
/// struct Temperature;
///
/// #[vtable]
/// impl accel::Attribute<Npu> for Temperature {
///     const NAME: &'static str = "temp_millicelsius";
///     type Value = i64;
///
///     fn show(device: &accel::Lent<'_, '_, Npu>) -> Result<i64> {
///         device.data().read_temperature()
///     }
/// }
/// ```
#[vtable]
pub trait Attribute<D: Driver> {
    /// Its name: lower case letters, digits and `_`, from a letter on; that of a number ends with its
    /// unit.
    const NAME: &'static str;

    /// What it is: `u64`, `i64`, `bool`, or one of some [`Words`].
    type Value: Value;

    /// The least and the greatest number that is taken; without it all are.
    const RANGE: Option<(i64, i64)> = None;

    /// Whether others than root may not read it.
    const ROOT_ONLY: bool = false;

    /// Tells its value. The device is awake; while it is not, or is reset, readers are told what was
    /// the last answer. May sleep, but not wait for user space or without a limit.
    ///
    /// # Errors
    ///
    /// Become the errno of `read(2)`.
    fn show(_device: &Lent<'_, '_, D>) -> Result<Self::Value> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Takes a value. Called some time after `write(2)` has returned, with the latest value if there
    /// were several. An idle device is woken for it. Never while another of these, [`Driver::alarm`],
    /// [`Driver::check`], [`Driver::reset`], [`Driver::suspend`] or [`Driver::resume`] runs. May sleep
    /// as [`Self::show`] may.
    ///
    /// # Errors
    ///
    /// Nobody waits for the outcome: they are told in the log.
    fn store(_device: &Lent<'_, '_, D>, _value: Self::Value) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// A file in debugfs that root may read: `/sys/kernel/debug/accel/accelN/NAME`.
pub trait DebugFile<D: Driver> {
    /// Its name, by the rules of [`Attribute::NAME`]; no unit.
    const NAME: &'static str;

    /// Makes its text, when it is opened. The device is awake: while it is not, or is reset, opening
    /// is `EAGAIN`. May sleep, but not wait for user space or without a limit.
    ///
    /// # Errors
    ///
    /// Become the errno of `open(2)`.
    fn show(device: &Lent<'_, '_, D>, report: &mut Report) -> Result;
}

/// Values that have names, of which an attribute has one.
///
/// # Examples
///
/// ```ignore
/// #[derive(Clone, Copy, PartialEq)]
/// enum Speed {
///     Slow,
///     Fast,
/// }
///
/// impl accel::Words for Speed {
///     const WORDS: &'static [(&'static str, Self)] = &[("slow", Self::Slow), ("fast", Self::Fast)];
/// }
/// ```
pub trait Words: Copy + PartialEq + 'static {
    /// All of them, by the rules of [`Attribute::NAME`].
    const WORDS: &'static [(&'static str, Self)];
}

/// What the value of an attribute may be.
pub trait Value: Copy + private::Sealed {
    #[doc(hidden)]
    const KIND: ValueKind;

    #[doc(hidden)]
    fn into_raw(self) -> u64;

    #[doc(hidden)]
    fn from_raw(raw: u64) -> Option<Self>;
}

/// What the bits of a value mean.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub enum ValueKind {
    Unsigned,
    Signed,
    /// 0 or 1.
    Bool,
    /// The index of a word, which the function knows.
    Words(fn(usize) -> Option<&'static str>),
}

mod private {
    pub trait Sealed {}

    impl Sealed for u64 {}
    impl Sealed for i64 {}
    impl Sealed for bool {}
    impl<W: super::Words> Sealed for W {}
}

impl Value for u64 {
    const KIND: ValueKind = ValueKind::Unsigned;

    fn into_raw(self) -> u64 {
        self
    }

    fn from_raw(raw: u64) -> Option<Self> {
        Some(raw)
    }
}

impl Value for i64 {
    const KIND: ValueKind = ValueKind::Signed;

    fn into_raw(self) -> u64 {
        self as u64
    }

    fn from_raw(raw: u64) -> Option<Self> {
        Some(raw as i64)
    }
}

impl Value for bool {
    const KIND: ValueKind = ValueKind::Bool;

    fn into_raw(self) -> u64 {
        self.into()
    }

    fn from_raw(raw: u64) -> Option<Self> {
        Some(raw != 0)
    }
}

impl<W: Words> Value for W {
    const KIND: ValueKind = {
        let mut i = 0;

        assert!(!W::WORDS.is_empty(), "an attribute of no words");
        while i < W::WORDS.len() {
            check_name(W::WORDS[i].0.as_bytes());
            i += 1;
        }
        ValueKind::Words(|index| W::WORDS.get(index).map(|(word, _)| *word))
    };

    fn into_raw(self) -> u64 {
        let index = W::WORDS.iter().position(|(_, value)| *value == self);

        index.map_or(u64::MAX, |index| index as u64)
    }

    fn from_raw(raw: u64) -> Option<Self> {
        W::WORDS.get(raw as usize).map(|(_, value)| *value)
    }
}

type RawShow = unsafe extern "C" fn(call: *const RawCall, value: *mut u64) -> c_int;
type RawStore = unsafe extern "C" fn(call: *const RawCall, value: u64) -> c_int;
type RawReport = unsafe extern "C" fn(call: *const RawCall, report: *mut Report) -> c_int;

/// An [`Attribute`], erased.
pub(crate) struct RawAttribute {
    pub(crate) name: &'static str,
    pub(crate) mode: u16,
    pub(crate) kind: ValueKind,
    pub(crate) range: Option<(i64, i64)>,
    pub(super) show: Option<RawShow>,
    pub(super) store: Option<RawStore>,
}

/// A [`DebugFile`], erased.
pub(crate) struct RawDebugFile {
    pub(crate) name: &'static str,
    pub(super) show: RawReport,
}

/// An entry of [`Driver::ATTRIBUTES`], made by [`attribute`].
#[repr(transparent)]
pub struct AttributeEntry<D: Driver> {
    raw: RawAttribute,
    _driver: PhantomData<fn(D)>,
}

/// An entry of [`Driver::DEBUG_FILES`], made by [`debug_file`].
#[repr(transparent)]
pub struct DebugFileEntry<D: Driver> {
    raw: RawDebugFile,
    _driver: PhantomData<fn(D)>,
}

/// Makes the table entry of `A`.
///
/// Fails to build when the name is not as it should be, or the range is of nothing.
pub const fn attribute<D: Driver, A: Attribute<D>>() -> AttributeEntry<D> {
    let name = A::NAME.as_bytes();
    let kind = <A::Value as Value>::KIND;

    check_name(name);
    assert!(
        A::HAS_SHOW || A::HAS_STORE,
        "an attribute is read, or written, or both"
    );
    match (kind, A::RANGE) {
        (ValueKind::Unsigned | ValueKind::Signed, range) => {
            assert!(
                has_unit(name),
                "the name of a number ends with its unit: one of UNITS"
            );
            if let Some((min, max)) = range {
                assert!(min <= max, "a range of nothing");
                assert!(
                    min >= 0 || matches!(kind, ValueKind::Signed),
                    "a range that begins below 0"
                );
            }
        }
        (_, range) => assert!(range.is_none(), "only numbers have a range"),
    }
    let read = match (A::HAS_SHOW, A::ROOT_ONLY) {
        (false, _) => 0,
        (true, true) => 0o400,
        (true, false) => 0o444,
    };

    AttributeEntry {
        raw: RawAttribute {
            name: A::NAME,
            mode: read | if A::HAS_STORE { 0o200 } else { 0 },
            kind,
            range: A::RANGE,
            show: if A::HAS_SHOW {
                Some(show::<D, A>)
            } else {
                None
            },
            store: if A::HAS_STORE {
                Some(store::<D, A>)
            } else {
                None
            },
        },
        _driver: PhantomData,
    }
}

/// Makes the table entry of `F`.
///
/// Fails to build when the name is not as it should be.
pub const fn debug_file<D: Driver, F: DebugFile<D>>() -> DebugFileEntry<D> {
    check_name(F::NAME.as_bytes());
    DebugFileEntry {
        raw: RawDebugFile {
            name: F::NAME,
            show: report::<D, F>,
        },
        _driver: PhantomData,
    }
}

const fn check_name(name: &[u8]) {
    let mut i = 0;

    assert!(
        !name.is_empty() && name.len() <= NAME_MAX,
        "a name has 1 to 48 bytes"
    );
    assert!(name[0].is_ascii_lowercase(), "a name begins with a letter");
    while i < name.len() {
        assert!(
            name[i].is_ascii_lowercase() || name[i].is_ascii_digit() || name[i] == b'_',
            "a name has lower case letters, digits and _"
        );
        i += 1;
    }
}

const fn has_unit(name: &[u8]) -> bool {
    let mut i = 0;

    while i < UNITS.len() {
        if ends_with(name, UNITS[i].as_bytes()) {
            return true;
        }
        i += 1;
    }
    false
}

const fn ends_with(name: &[u8], end: &[u8]) -> bool {
    let mut i = 0;

    if name.len() <= end.len() {
        return false;
    }
    while i < end.len() {
        if name[name.len() - end.len() + i] != end[i] {
            return false;
        }
        i += 1;
    }
    true
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;

    if a.len() != b.len() {
        return false;
    }
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Checks that no name is there twice.
pub(super) const fn check_attributes<D: Driver>(table: &[AttributeEntry<D>]) -> u32 {
    let mut i = 0;

    assert!(table.len() <= DECLARED_MAX, "too many attributes");
    while i < table.len() {
        let mut j = 0;
        while j < i {
            assert!(
                !same(table[i].raw.name.as_bytes(), table[j].raw.name.as_bytes()),
                "two attributes with one name"
            );
            j += 1;
        }
        i += 1;
    }
    table.len() as u32
}

/// Checks that no name is there twice, nor one of the core's.
pub(super) const fn check_debug_files<D: Driver>(table: &[DebugFileEntry<D>]) -> u32 {
    let mut i = 0;

    assert!(table.len() <= DECLARED_MAX, "too many files");
    while i < table.len() {
        let mut j = 0;
        while j < crate::debugfs::NAMES.len() {
            assert!(
                !same(
                    table[i].raw.name.as_bytes(),
                    crate::debugfs::NAMES[j].as_bytes()
                ),
                "the core has a file of that name"
            );
            j += 1;
        }
        j = 0;
        while j < i {
            assert!(
                !same(table[i].raw.name.as_bytes(), table[j].raw.name.as_bytes()),
                "two files with one name"
            );
            j += 1;
        }
        i += 1;
    }
    table.len() as u32
}

/// # Safety
///
/// `call` must be as [`Lent::from_raw`] asks for; `value` valid for a write.
unsafe extern "C" fn show<D: Driver, A: Attribute<D>>(
    call: *const RawCall,
    value: *mut u64,
) -> c_int {
    from_result(|| {
        // SAFETY: By this function's requirements.
        let shown = A::show(&unsafe { Lent::from_raw(&*call) })?;

        // SAFETY: As above.
        unsafe { *value = shown.into_raw() };
        Ok(0)
    })
}

/// # Safety
///
/// `call` must be as [`Lent::from_raw`] asks for.
unsafe extern "C" fn store<D: Driver, A: Attribute<D>>(call: *const RawCall, value: u64) -> c_int {
    from_result(|| {
        let value = A::Value::from_raw(value).ok_or(EINVAL)?;

        // SAFETY: By this function's requirements.
        A::store(&unsafe { Lent::from_raw(&*call) }, value).map(|()| 0)
    })
}

/// # Safety
///
/// `call` must be as [`Lent::from_raw`] asks for; `report` valid, and nobody else's.
unsafe extern "C" fn report<D: Driver, F: DebugFile<D>>(
    call: *const RawCall,
    report: *mut Report,
) -> c_int {
    from_result(|| {
        // SAFETY: By this function's requirements.
        unsafe { F::show(&Lent::from_raw(&*call), &mut *report) }.map(|()| 0)
    })
}

impl Erased {
    /// The value of the attribute at `index`.
    ///
    /// # Errors
    ///
    /// `ENODEV` when there is none that is read; the driver's.
    pub(super) fn show_attribute(&self, device: &Device, index: usize) -> Result<u64> {
        let attribute = self.ops().attributes().get(index).ok_or(ENODEV)?;
        let show = attribute.show.ok_or(ENODEV)?;
        let mut value = 0;

        // SAFETY: The table is of this driver, and `value` is valid for a write.
        to_result(unsafe { show(&self.call(device), &mut value) })?;
        Ok(value)
    }

    /// Gives the driver a value for the attribute at `index`.
    ///
    /// # Errors
    ///
    /// `ENODEV` when there is none that is written; the driver's.
    pub(super) fn store_attribute(&self, device: &Device, index: usize, value: u64) -> Result {
        let attribute = self.ops().attributes().get(index).ok_or(ENODEV)?;
        let store = attribute.store.ok_or(ENODEV)?;

        // SAFETY: The table is of this driver.
        to_result(unsafe { store(&self.call(device), value) })
    }

    /// Makes the text of the file at `index`.
    ///
    /// # Errors
    ///
    /// `ENODEV` when there is none; the driver's.
    pub(super) fn debug_file(&self, device: &Device, index: usize, report: &mut Report) -> Result {
        let file = self.ops().debug_files().get(index).ok_or(ENODEV)?;

        // SAFETY: The table is of this driver.
        to_result(unsafe { (file.show)(&self.call(device), report) })
    }
}
