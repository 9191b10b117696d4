// SPDX-License-Identifier: GPL-2.0
//! What the fields of each ioctl mean. Which ioctls and fields there are comes from the headers; a
//! test fails when one of them is not described here.

use std::sync::OnceLock;

use libaccel::uapi::*;

/// Things that calls give and other calls want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pool {
    Buffer,
    Timeline,
    /// Points of timelines.
    Point,
    /// Offsets for mmap.
    Offset,
}

/// What the elements of an array are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    U8,
    U32,
    U64,
    Struct(&'static str),
}

/// What a field means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Must be 0.
    Reserved,
    /// These bits.
    Flags(u64),
    /// These values and those beside them are where something changes.
    Number(&'static [u64]),
    /// A number that the call writes.
    Out,
    /// A handle, offset or point that an earlier call gave.
    Wants(Pool),
    /// The call writes one.
    Gives(Pool),
    /// A duration; programs have no time to wait for long ones.
    Milliseconds {
        most: u64,
    },
    /// Nanoseconds of `CLOCK_MONOTONIC`; small values are milliseconds from now.
    Deadline,
    Eventfd,
    /// Points to as many elements as the field of that name says.
    Pointer(Element, &'static str),
}

/// A field of a struct.
#[derive(Debug, Clone, Copy)]
pub struct FieldTable {
    pub name: &'static str,
    pub offset: usize,
    pub size: usize,
    pub kind: Kind,
}

/// A struct with the meaning of its fields.
#[derive(Debug)]
pub struct StructTable {
    pub size: usize,
    pub fields: Vec<FieldTable>,
}

/// An ioctl.
#[derive(Debug)]
pub struct CallTable {
    pub name: &'static str,
    pub number: u32,
    pub argument: StructTable,
    /// The interface that it belongs to; none for those that every device has.
    pub interface: Option<&'static str>,
    /// The control node has it too.
    pub on_control: bool,
}

impl CallTable {
    pub fn field(&self, name: &str) -> Option<&FieldTable> {
        self.argument.fields.iter().find(|field| field.name == name)
    }
}

const SIZES: &[u64] = &[1, 4095, 4096, 4097, 8192, 65536, 1 << 21, 1 << 22, 1 << 32];
const OFFSETS: &[u64] = &[0, 1, 4, 4092, 4095, 4096, 8192, 1 << 21];
const ADDRESSES: &[u64] = &[
    0,
    ACCEL_NPU_ADDRESS_MIN as u64 - 4096,
    ACCEL_NPU_ADDRESS_MIN as u64,
    ACCEL_NPU_ADDRESS_MIN as u64 + 64,
    ACCEL_NPU_ADDRESS_MIN as u64 + 4096,
    2 * ACCEL_NPU_ADDRESS_MIN as u64,
    3 * ACCEL_NPU_ADDRESS_MIN as u64,
    1 << 32,
    ACCEL_NPU_ADDRESS_END - 4096,
    ACCEL_NPU_ADDRESS_END,
];
const ANY: &[u64] = &[0, 1, u32::MAX as u64, u64::MAX];

/// What the field of this struct means; none for one that nobody has described.
fn kind(of: &str, field: &str) -> Option<Kind> {
    use Kind::*;
    Some(match (of, field) {
        ("accel_info", "query") => Number(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 0x40, 0xffff_ffff]),
        ("accel_info", "index") => Number(&[0, 1, 2, 4, 5, 0xffff_ffff]),
        ("accel_info", "size") => Number(&[0, 1, 24, 32, 40, 64, 192, 4096, 65536, 65537]),
        ("accel_info", "ptr") => Pointer(Element::U8, "size"),

        ("accel_buffer_create", "size") => Number(SIZES),
        ("accel_buffer_create", "handle") => Gives(Pool::Buffer),
        ("accel_buffer_mmap", "handle") => Wants(Pool::Buffer),
        ("accel_buffer_mmap", "offset") => Gives(Pool::Offset),
        ("accel_buffer_mmap", "size") => Out,
        // BUFFER_DESTROY and TIMELINE_DESTROY share it: either handle is tried.
        ("accel_handle", "handle") => Wants(Pool::Buffer),

        ("accel_timeline_create", "handle") => Gives(Pool::Timeline),
        ("accel_timeline_wait" | "accel_timeline_eventfd", "handle") => Wants(Pool::Timeline),
        ("accel_timeline_wait" | "accel_timeline_eventfd", "point") => Wants(Pool::Point),
        ("accel_timeline_wait", "deadline_ns") => Deadline,
        ("accel_timeline_wait", "value" | "status") => Out,
        ("accel_timeline_eventfd", "eventfd") => Eventfd,

        ("accel_events", "types") => Flags(
            (1 << ACCEL_EVENT_LOST)
                | (1 << ACCEL_EVENT_STATE)
                | (1 << ACCEL_EVENT_CONTEXT_LOST)
                | (1 << ACCEL_EVENT_FAULT),
        ),

        ("accel_edu_factorial", "numbers") => Pointer(Element::U32, "count"),
        ("accel_edu_factorial", "count") => Number(&[0, 1, 2, 16, ACCEL_EDU_BATCH_MAX as u64]),
        ("accel_edu_factorial" | "accel_edu_copy", "timeline") => Wants(Pool::Timeline),
        ("accel_edu_factorial" | "accel_edu_copy", "dst" | "src") => Wants(Pool::Buffer),
        ("accel_edu_factorial" | "accel_edu_copy", "dst_offset" | "src_offset") => Number(OFFSETS),
        ("accel_edu_factorial" | "accel_edu_copy", "point") => Gives(Pool::Point),
        ("accel_edu_copy", "size") => Number(SIZES),

        ("accel_mock_add" | "accel_null_add", "a" | "b") => Number(ANY),
        ("accel_mock_sum", "values" | "partial") => Pointer(Element::U64, "count"),
        ("accel_mock_sum", "count") => Number(&[0, 1, 2, 512, ACCEL_MOCK_SUM_MAX as u64]),
        ("accel_mock_sum", "sum") => Out,
        ("accel_mock_submit" | "accel_mock_later", "timeline") => Wants(Pool::Timeline),
        ("accel_mock_submit" | "accel_mock_later", "point") => Gives(Pool::Point),
        ("accel_mock_submit", "flags") => Flags(ACCEL_MOCK_SUBMIT_HOLD as u64),
        ("accel_mock_stall", "milliseconds") => Milliseconds {
            most: ACCEL_MOCK_STALL_MAX as u64,
        },
        ("accel_mock_later", "milliseconds") => Milliseconds {
            most: ACCEL_MOCK_LATER_MS_MAX as u64,
        },
        ("accel_mock_later", "flags") => {
            Flags((ACCEL_MOCK_LATER_POLL | ACCEL_MOCK_LATER_STALL | ACCEL_MOCK_LATER_FAULT) as u64)
        }
        ("accel_mock_reset", "ask") => Number(&[0, 1, 2, 3, 4, 5, 6]),
        ("accel_mock_reset", "flags") => {
            Flags((ACCEL_MOCK_RESET_LOSE | ACCEL_MOCK_RESET_FAIL) as u64)
        }
        ("accel_mock_reset", "milliseconds" | "delay_ms") => Milliseconds {
            most: ACCEL_MOCK_RESET_MS_MAX as u64,
        },
        ("accel_mock_sleep", "flags") => {
            Flags((ACCEL_MOCK_SLEEP_REFUSE | ACCEL_MOCK_SLEEP_LOSE | ACCEL_MOCK_SLEEP_FAIL) as u64)
        }
        ("accel_mock_sleep", "asked" | "slept" | "woken") => Out,
        ("accel_mock_fault", "address" | "code") => Number(ANY),
        ("accel_mock_fault", "access") => Number(&[0, 1, 2]),

        ("accel_npu_map", "buffer") => Wants(Pool::Buffer),
        ("accel_npu_map", "flags") => {
            Flags((ACCEL_NPU_MAP_READ | ACCEL_NPU_MAP_WRITE | ACCEL_NPU_MAP_DEVICE) as u64)
        }
        ("accel_npu_map", "offset") => Number(OFFSETS),
        ("accel_npu_map" | "accel_npu_unmap", "size") => Number(SIZES),
        ("accel_npu_map" | "accel_npu_unmap" | "accel_npu_job", "address") => Number(ADDRESSES),
        ("accel_npu_job", "count") => Number(&[0, 1, 2, 64, ACCEL_NPU_COMMANDS_MAX as u64]),
        ("accel_npu_submit", "jobs") => Pointer(Element::Struct("accel_npu_job"), "count"),
        ("accel_npu_submit", "count") => Number(&[0, 1, 2, ACCEL_NPU_BATCH_MAX as u64]),
        ("accel_npu_submit", "timeline") => Wants(Pool::Timeline),
        ("accel_npu_submit", "flags") => Flags(ACCEL_NPU_SUBMIT_DEFER as u64),
        ("accel_npu_submit", "deadline_ms") => Milliseconds {
            most: ACCEL_NPU_DEADLINE_MAX as u64,
        },
        ("accel_npu_submit", "point") => Gives(Pool::Point),
        (
            "accel_npu_error",
            "kind" | "timeline" | "command" | "point" | "address" | "access" | "count",
        ) => Out,
        (
            "accel_npu_device",
            "memory_total" | "memory_free" | "serial" | "revision" | "compute_engines"
            | "copy_engines",
        ) => Out,

        // These have none so far.
        (
            "accel_info"
            | "accel_buffer_create"
            | "accel_buffer_mmap"
            | "accel_handle"
            | "accel_timeline_create"
            | "accel_timeline_wait"
            | "accel_timeline_eventfd"
            | "accel_events"
            | "accel_edu_factorial"
            | "accel_edu_copy"
            | "accel_mock_sum"
            | "accel_mock_stall"
            | "accel_npu_error"
            | "accel_npu_device",
            "flags",
        )
        | (_, "reserved") => Reserved,
        _ => return None,
    })
}

/// A struct of the headers.
pub fn of_struct(name: &str) -> Option<StructTable> {
    let all = STRUCTS.iter().find(|all| all.name == name)?;
    Some(StructTable {
        size: all.size,
        fields: all
            .fields
            .iter()
            .map(|field| FieldTable {
                name: field.name,
                offset: field.offset,
                size: field.size,
                kind: kind(all.name, field.name).unwrap_or(Kind::Number(ANY)),
            })
            .collect(),
    })
}

/// Which interface an ioctl of this name belongs to.
fn interface(name: &str) -> Option<&'static str> {
    let interfaces = [
        ("ACCEL_MOCK_", libaccel::mock::NAME),
        ("ACCEL_NULL_", libaccel::null::NAME),
        ("ACCEL_EDU_", libaccel::edu::NAME),
        ("ACCEL_NPU_", libaccel::npu::NAME),
    ];
    interfaces
        .iter()
        .find(|(start, _)| name.starts_with(start))
        .map(|(_, interface)| *interface)
}

/// All ioctls, in the order of the headers.
pub fn calls() -> &'static [CallTable] {
    static CALLS_OF_HEADERS: OnceLock<Vec<CallTable>> = OnceLock::new();
    CALLS_OF_HEADERS.get_or_init(|| {
        CALLS
            .iter()
            .filter_map(|call| {
                let mut argument = of_struct(call.argument)?;
                if call.name == "ACCEL_IOCTL_TIMELINE_DESTROY" {
                    for field in &mut argument.fields {
                        if field.name == "handle" {
                            field.kind = Kind::Wants(Pool::Timeline);
                        }
                    }
                }
                Some(CallTable {
                    name: call.name,
                    number: call.number,
                    argument,
                    interface: interface(call.name),
                    on_control: ["ACCEL_IOCTL_INFO", "ACCEL_IOCTL_EVENTS"].contains(&call.name),
                })
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The arguments of calls and what their pointers lead to.
    fn structs() -> Vec<&'static str> {
        let mut names: Vec<_> = CALLS.iter().map(|call| call.argument).collect();
        for call in calls() {
            for field in &call.argument.fields {
                if let Kind::Pointer(Element::Struct(name), _) = field.kind {
                    names.push(name);
                }
            }
        }
        names
    }

    #[test]
    fn every_field_of_every_ioctl_is_described() {
        let mut forgotten = Vec::new();
        for name in structs() {
            let all = STRUCTS.iter().find(|all| all.name == name);
            let all = all.unwrap_or_else(|| panic!("no header has struct {name}"));
            for field in all.fields {
                if kind(name, field.name).is_none() {
                    forgotten.push(format!("{name}.{}", field.name));
                }
            }
        }
        assert_eq!(forgotten, [""; 0], "say in table.rs what these mean");
    }

    #[test]
    fn every_ioctl_of_the_headers_is_in_the_table() {
        let names: Vec<_> = calls().iter().map(|call| call.name).collect();
        let wanted: Vec<_> = CALLS.iter().map(|call| call.name).collect();
        assert_eq!(names, wanted);
    }

    #[test]
    fn ioctls_of_drivers_belong_to_an_interface() {
        for call in calls() {
            let number = call.number & 0xff;
            assert_eq!(
                call.interface.is_some(),
                number >= ACCEL_NR_DRIVER,
                "{}: which device has it?",
                call.name
            );
        }
    }

    #[test]
    fn counts_of_arrays_are_fields() {
        for call in calls() {
            for field in &call.argument.fields {
                if let Kind::Pointer(_, count) = field.kind {
                    assert!(call.field(count).is_some(), "{}.{count}", call.name);
                    assert_eq!(field.size, 8, "{}.{}", call.name, field.name);
                }
            }
        }
    }
}
