// SPDX-License-Identifier: GPL-2.0
//! Makes the argument of an ioctl from the fields that a program gives, and takes out of it what
//! the call gave.

use std::collections::BTreeMap;

use libaccel::now_ns;

use super::things::{File, Things};
use crate::program::{Other, Resize, Value};
use crate::sys::{Arena, PAGE};
use crate::table::{self, CallTable, Element, FieldTable, Kind, StructTable};

/// Milliseconds that programs let the kernel wait.
const PATIENCE: u64 = 30;

/// Deadlines up to this are milliseconds from now.
const RELATIVE: u64 = 1000;

/// Where arrays begin in an arena; the argument is before them.
const ARRAYS: usize = PAGE;

/// An argument that is being made.
pub struct Argument<'a> {
    arena: &'a Arena,
    things: &'a Things,
    file: File,
    /// Where the next array goes.
    next: usize,
}

/// A call that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    pub number: u32,
    pub address: u64,
}

type Fields = BTreeMap<String, Value>;

impl<'a> Argument<'a> {
    pub fn new(arena: &'a Arena, things: &'a Things, file: File) -> Self {
        Self {
            arena,
            things,
            file,
            next: ARRAYS,
        }
    }

    /// Puts the argument at the beginning of the arena.
    pub fn make(mut self, call: &CallTable, fields: &Fields, resize: Option<Resize>) -> Made {
        let mut bytes = self.structure(&call.argument, fields);
        let mut number = call.number;
        if let Some(Resize { by, with }) = resize {
            let size = bytes.len().saturating_add_signed(by.into()).min(PAGE);
            bytes.resize(size, with);
            // 14 bits of the number are the size.
            number = number & !(0x3fff << 16) | ((size as u32 & 0x3fff) << 16);
        }
        self.arena.put(0, &bytes);
        Made {
            number,
            address: self.arena.address(0),
        }
    }

    fn structure(&mut self, table: &StructTable, fields: &Fields) -> Vec<u8> {
        let mut bytes = vec![0; table.size];
        for field in &table.fields {
            let value = match (fields.get(field.name), field.kind) {
                (given, Kind::Pointer(element, count)) => {
                    let count = self.count(fields, count);
                    self.pointer(element, given, count)
                }
                (Some(given), kind) => self.value(given, kind),
                (None, _) => match count_of(table, field, fields) {
                    Some(count) => count,
                    None => self.value(&Value::Other(Other::Latest(0)), field.kind),
                },
            };
            // Arrays of more than a word hold names and the like, which calls write.
            let size = field.size.min(8);
            bytes[field.offset..field.offset + size].copy_from_slice(&value.to_le_bytes()[..size]);
        }
        bytes
    }

    /// How many elements the field of this name says that there are; none if it is not given.
    fn count(&self, fields: &Fields, name: &str) -> Option<usize> {
        match fields.get(name) {
            Some(Value::Number(count)) => usize::try_from(*count).ok(),
            _ => None,
        }
    }

    fn value(&self, value: &Value, kind: Kind) -> u64 {
        let number = match value {
            Value::Number(number) => *number,
            Value::Other(other) => return self.other(other, kind),
            Value::List(_) | Value::Fields(_) => return 0,
        };
        match kind {
            Kind::Milliseconds { most } if number <= most => number.min(PATIENCE),
            Kind::Deadline if (1..=RELATIVE).contains(&number) => {
                now_ns() as u64 + number * 1_000_000
            }
            _ => number,
        }
    }

    fn other(&self, other: &Other, kind: Kind) -> u64 {
        let (owner, before) = match other {
            Other::Latest(before) => (Some(self.file.id), *before),
            Other::Foreign(before) => (None, *before),
            Other::Edge(before) => return self.arena.edge((*before).into()),
            Other::ReadOnly(offset) => return self.arena.read_only((*offset).into()),
            Other::Mapping(before) => {
                return self.things.map(*before).map_or(0, |map| map.address);
            }
        };
        match kind {
            Kind::Wants(pool) => self.things.value(pool, owner, before).unwrap_or(0),
            // A negative number is no descriptor.
            Kind::Eventfd => self.things.eventfd(before).unwrap_or(-1) as u64,
            _ => 0,
        }
    }

    /// An address with as many elements as are given, or else as are wanted.
    fn pointer(&mut self, element: Element, given: Option<&Value>, count: Option<usize>) -> u64 {
        let elements = match given {
            Some(Value::List(elements)) => elements.as_slice(),
            Some(Value::Number(address)) => return *address,
            Some(Value::Other(other)) => return self.other(other, Kind::Reserved),
            Some(Value::Fields(_)) | None => &[],
        };
        let at = self.next;
        let size = match element {
            Element::U8 => 1,
            Element::U32 => 4,
            Element::U64 => 8,
            Element::Struct(name) => table::of_struct(name).map_or(0, |table| table.size),
        };
        let wanted = count.unwrap_or(0).max(elements.len()).saturating_mul(size);
        // Arrays that are larger than an arena begin in it all the same: the rest is a hole.
        self.next = (at + wanted.min(Arena::SIZE)).next_multiple_of(8);
        if self.next >= Arena::SIZE {
            self.next = ARRAYS;
        }
        for (number, value) in elements.iter().enumerate() {
            let bytes = match (element, value) {
                (Element::Struct(name), Value::Fields(fields)) => table::of_struct(name)
                    .map_or(Vec::new(), |table| self.structure(&table, fields)),
                _ => self.value(value, Kind::Reserved).to_le_bytes()[..size.min(8)].to_vec(),
            };
            self.arena.put(at + number * size, &bytes);
        }
        self.arena.address(at)
    }
}

/// What a field that is not given holds if it says how long a list is that is given.
fn count_of(table: &StructTable, field: &FieldTable, fields: &Fields) -> Option<u64> {
    table.fields.iter().find_map(|pointer| match pointer.kind {
        Kind::Pointer(_, count) if count == field.name => match fields.get(pointer.name) {
            Some(Value::List(elements)) => Some(elements.len() as u64),
            _ => None,
        },
        _ => None,
    })
}

/// Remembers what a call that succeeded has written.
pub fn harvest(arena: &Arena, things: &mut Things, call: &CallTable, file: File) {
    for field in &call.argument.fields {
        if let Kind::Gives(pool) = field.kind {
            things.add(pool, arena.number(field.offset, field.size), file.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{Device, Node};
    use crate::table::Pool;

    const FILE: File = File {
        fd: 3,
        id: 0,
        device: Device::Npu,
        node: Node::Compute,
    };

    fn call(name: &str) -> &'static CallTable {
        table::calls()
            .iter()
            .find(|call| call.name == name)
            .unwrap()
    }

    fn fields(json: &str) -> Fields {
        serde_json::from_str(json).unwrap()
    }

    fn make(arena: &Arena, things: &Things, name: &str, json: &str, by: Option<Resize>) -> Made {
        Argument::new(arena, things, FILE).make(call(name), &fields(json), by)
    }

    #[test]
    fn fields_are_where_the_header_has_them() {
        let arena = Arena::new().unwrap();
        let mut things = Things::default();
        things.add(Pool::Buffer, 5, 0);
        things.add(Pool::Buffer, 6, 0);
        let json = r#"{"flags": 3, "size": 8192, "address": 2097152, "buffer": {"latest": 1}}"#;
        let made = make(&arena, &things, "ACCEL_NPU_IOCTL_MAP", json, None);
        assert_eq!(made.number, libaccel::uapi::ACCEL_NPU_IOCTL_MAP.number());
        assert_eq!(made.address, arena.address(0));
        let words: Vec<u64> = (0..4).map(|word| arena.number(word * 8, 8)).collect();
        assert_eq!(words, [5 | (3 << 32), 0, 8192, 2_097_152]);
    }

    #[test]
    fn what_is_not_given_follows() {
        let arena = Arena::new().unwrap();
        let mut things = Things::default();
        things.add(Pool::Timeline, 9, 0);
        let json = r#"{"jobs": [{"address": 64, "count": 2}, {"address": 128, "count": 1}]}"#;
        make(&arena, &things, "ACCEL_NPU_IOCTL_SUBMIT", json, None);
        assert_eq!(arena.number(8, 4), 2, "the count");
        assert_eq!(arena.number(12, 4), 9, "the timeline");
        let at = arena.number(0, 8) - arena.address(0);
        let word = |offset| arena.number(at as usize + offset, 8);
        assert_eq!([word(0), word(8), word(16), word(24)], [64, 2, 128, 1]);
    }

    #[test]
    fn sizes_change_with_the_number() {
        let arena = Arena::new().unwrap();
        let things = Things::default();
        let by = Some(Resize { by: 8, with: 0xee });
        let made = make(&arena, &things, "ACCEL_NULL_IOCTL_ADD", "{}", by);
        assert_eq!((made.number >> 16) & 0x3fff, 24);
        assert_eq!(arena.number(16, 8), 0xeeee_eeee_eeee_eeee);
        let by = Some(Resize { by: -100, with: 0 });
        let made = make(&arena, &things, "ACCEL_NULL_IOCTL_ADD", "{}", by);
        assert_eq!((made.number >> 16) & 0x3fff, 0);
    }

    #[test]
    fn nobody_waits_long() {
        let arena = Arena::new().unwrap();
        let things = Things::default();
        let stall = |json| {
            make(&arena, &things, "ACCEL_MOCK_IOCTL_STALL", json, None);
            arena.number(0, 4)
        };
        assert_eq!(stall(r#"{"milliseconds": 20000}"#), PATIENCE);
        assert_eq!(stall(r#"{"milliseconds": 20001}"#), 20001);
        make(
            &arena,
            &things,
            "ACCEL_IOCTL_TIMELINE_WAIT",
            r#"{"deadline_ns": 5}"#,
            None,
        );
        assert!(arena.number(16, 8).abs_diff(now_ns() as u64) < 10_000_000);
    }

    #[test]
    fn addresses_can_be_bad() {
        let arena = Arena::new().unwrap();
        let things = Things::default();
        let pointer = |json| {
            make(&arena, &things, "ACCEL_IOCTL_INFO", json, None);
            arena.number(16, 8)
        };
        assert_eq!(pointer(r#"{"ptr": 7}"#), 7);
        assert_eq!(pointer(r#"{"ptr": {"edge": 3}}"#), arena.edge(3));
        assert_eq!(pointer(r#"{"ptr": {"read_only": 3}}"#), arena.read_only(3));
        assert_eq!(pointer(r#"{"ptr": {"mapping": 0}}"#), 0);
        assert_eq!(pointer(r#"{"size": 64}"#), arena.address(PAGE));
    }
}
