// SPDX-License-Identifier: GPL-2.0
//! Makes up steps and values.

use std::collections::BTreeMap;

use libafl_bolts::rands::Rand;

use crate::program::{Call, Device, Node, Other, Remap, Resize, Step, Value, Which};
use crate::table::{self, CallTable, Element, FieldTable, Kind, StructTable};

/// Most elements of a list that is made up.
const LIST_MAX: usize = 8;

/// What is written to files of sysfs.
const TEXTS: &[&str] = &[
    "0",
    "1",
    "2",
    "-1",
    "on",
    "off",
    "auto",
    "add",
    "reset",
    "fast",
    "5000",
    "nonsense",
    "",
    "\n",
    "4294967296",
    "18446744073709551616",
];

/// What the model of the NPU is told: everything but to die.
const INJECTIONS: &[&str] = &[
    "hang compute",
    "hang copy",
    "stall 20 2",
    "fatal ecc",
    "fatal engine",
    "fatal thermal",
    "ecc 1",
    "interrupts drop 1",
    "interrupts repeat 2",
    "interrupts spurious 1",
    "lie completion cookie 1",
    "lie completion status 1",
    "lie completion phase 1",
    "lie completion command 1",
    "lie event 1",
    "slow 20 2",
    "tlb-stuck 1",
    "reset-stuck 1",
    "scrub-stuck 1",
    "clear",
];

/// A source of decisions.
pub struct Dice<'a, R>(pub &'a mut R);

impl<R: Rand> Dice<'_, R> {
    pub fn below(&mut self, end: usize) -> usize {
        self.0.below_or_zero(end)
    }

    pub fn byte(&mut self) -> u8 {
        self.0.next() as u8
    }

    /// Yes, once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Mostly 0, now and then a little more.
    fn small(&mut self) -> u8 {
        if self.once_in(3) {
            self.below(4) as u8
        } else {
            0
        }
    }

    pub fn which(&mut self) -> Which {
        let before = self.small();
        if self.once_in(8) {
            Which::Any(before)
        } else {
            Which::Fitting(before)
        }
    }

    pub fn device(&mut self) -> Device {
        self.pick(&Device::ALL)
    }

    /// Any number; small ones and those with few bits as often as others.
    fn number(&mut self) -> u64 {
        let shift = self.below(64);
        match self.below(4) {
            0 => self.0.next() >> shift,
            1 => (1_u64 << shift).wrapping_sub(1),
            2 => 1 << shift,
            _ => self.below(16) as u64,
        }
    }

    fn near(&mut self, all: &[u64]) -> u64 {
        let number = self.pick(all);
        match self.below(10) {
            0 => number.wrapping_add(1),
            1 => number.wrapping_sub(1),
            2 => self.number(),
            _ => number,
        }
    }

    fn other(&mut self) -> Value {
        let before = self.small();
        Value::Other(if self.once_in(6) {
            Other::Foreign(before)
        } else {
            Other::Latest(before)
        })
    }

    /// A value for a field; none lets it be what follows from the rest.
    pub fn value(&mut self, field: &FieldTable) -> Option<Value> {
        let number = match field.kind {
            Kind::Reserved | Kind::Out | Kind::Gives(_) => {
                if !self.once_in(20) {
                    return None;
                }
                self.number()
            }
            Kind::Flags(mask) if !self.once_in(16) => self.0.next() & self.0.next() & mask,
            Kind::Flags(_) => self.number(),
            Kind::Number(all) => self.near(all),
            Kind::Wants(_) | Kind::Eventfd => {
                if self.once_in(2) {
                    return None;
                }
                if !self.once_in(6) {
                    return Some(self.other());
                }
                self.number()
            }
            Kind::Milliseconds { most } => self.near(&[0, 1, 5, 20, most]),
            Kind::Deadline => self.near(&[0, 1, 5, 20, i64::MAX as u64, 1 << 63]),
            Kind::Pointer(element, _) => return self.pointer(element),
        };
        Some(Value::Number(number))
    }

    fn pointer(&mut self, element: Element) -> Option<Value> {
        Some(match self.below(12) {
            0..4 => return None,
            4 => Value::Number(self.pick(&[0, 1, 4096, 1 << 47, u64::MAX - 4095])),
            5 => Value::Other(Other::Edge(self.below(64) as u16)),
            6 => Value::Other(Other::ReadOnly(self.below(4096) as u16)),
            7 => Value::Other(Other::Mapping(self.small())),
            _ => {
                let size = self.below(LIST_MAX);
                Value::List((0..size).map(|_| self.element(element)).collect())
            }
        })
    }

    fn element(&mut self, element: Element) -> Value {
        match element {
            Element::Struct(name) => {
                let fields = table::of_struct(name).map(|table| self.fields(&table));
                Value::Fields(fields.unwrap_or_default())
            }
            Element::U8 => Value::Number(self.byte().into()),
            Element::U32 | Element::U64 => Value::Number(self.number()),
        }
    }

    pub fn fields(&mut self, table: &StructTable) -> BTreeMap<String, Value> {
        let mut fields = BTreeMap::new();
        for field in &table.fields {
            if let Some(value) = self.value(field) {
                fields.insert(field.name.to_owned(), value);
            }
        }
        fields
    }

    pub fn resize(&mut self) -> Resize {
        Resize {
            by: self.pick(&[-1, -4, -8, 1, 4, 8, 64, -4096, 4096]),
            with: self.pick(&[0, 0, 1, 0xff]),
        }
    }

    /// A call, on the file that fits it.
    pub fn ioctl(&mut self) -> Step {
        let call = Call(self.below(table::calls().len()));
        let table: &CallTable = call.table();
        Step::Ioctl {
            call,
            file: self.which(),
            fields: self.fields(&table.argument),
            resize: self.once_in(20).then(|| self.resize()),
        }
    }

    pub fn open(&mut self) -> Step {
        Step::Open {
            device: self.device(),
            node: if self.once_in(5) {
                Node::Control
            } else {
                Node::Compute
            },
            read_only: self.once_in(10),
        }
    }

    fn memory(&mut self) -> Step {
        let map = self.small();
        let pages = self.pick(&[1, 1, 1, 2, 4, 16, 512, 1024, 0]);
        match self.below(9) {
            0 | 1 => Step::Mmap {
                file: self.which(),
                offset: if self.once_in(4) {
                    Value::Number(self.near(&[0, 4096, 1 << 40, 1 << 44]))
                } else {
                    self.other()
                },
                pages,
                protection: self.pick(&[3, 3, 3, 1, 2, 0, 5, 7]),
                private: self.once_in(16),
            },
            2 => Step::Munmap {
                map,
                from: self.small().into(),
                pages,
            },
            3 => Step::Mremap {
                map,
                pages,
                how: self.pick(&[Remap::InPlace, Remap::Move, Remap::Copy]),
            },
            4 => Step::Protect {
                map,
                protection: self.below(8) as u8,
            },
            5 => Step::Advise {
                map,
                advice: self.byte(),
            },
            6 => Step::Touch {
                map,
                offset: self.pick(&[0, 4096, 8192, 1 << 21, 4095]),
                write: self.once_in(2),
            },
            7 => Step::Peek {
                map,
                offset: self.pick(&[0, 4092, 8192, 1 << 21]),
                write: self.once_in(2),
            },
            _ => {
                let size = self.below(LIST_MAX);
                Step::Store {
                    map,
                    offset: self.pick(&[0, 64, 4088, 8192]),
                    words: (0..size).map(|_| self.number()).collect(),
                }
            }
        }
    }

    fn about_file(&mut self) -> Step {
        let file = self.which();
        match self.below(9) {
            0 => Step::Close { file },
            1 => Step::Dup { file },
            2 => Step::Pass {
                file,
                receive: self.once_in(2),
            },
            3 => Step::Fork { file },
            4 => Step::Strange {
                file,
                number: self.number() as u32,
                with: self.pick(&[0, 0, 1, 0xff]),
            },
            5 => Step::Read {
                file,
                bytes: self.pick(&[0, 1, 16, 64, 4096]),
            },
            6 => Step::Write {
                file,
                bytes: self.pick(&[0, 1, 16, 64, 4096]),
            },
            7 => Step::Poll {
                file,
                milliseconds: self.below(10) as u8,
            },
            _ => Step::Fdinfo { file },
        }
    }

    /// A device goes, comes or fails. The NPU takes its time for that.
    fn upheaval(&mut self) -> Step {
        use Device::*;
        let device = self.pick(&[Mock, Null, Edu, Edu, Edu, Edu2, Npu]);
        match self.below(13) {
            12 => Step::Suspend {},
            0 | 6 => Step::Unbind { device },
            1 | 7 => Step::Bind { device },
            2 | 8 => Step::Reset {
                device: self.pick(&[Mock, Mock, Npu, Npu, Null, Edu]),
                bus: self.once_in(3),
            },
            3 | 4 | 9 | 10 => Step::Set {
                device: self.pick(&[Mock, Mock, Npu, Null, Edu]),
                file: self.byte(),
                text: self.pick(TEXTS).to_owned(),
            },
            _ => Step::Inject {
                line: self.pick(INJECTIONS).to_owned(),
            },
        }
    }

    /// Any step.
    pub fn step(&mut self) -> Step {
        match self.below(100) {
            0..10 => self.open(),
            10..60 => self.ioctl(),
            60..76 => self.memory(),
            76..86 => self.about_file(),
            86..88 => Step::Eventfd {
                start: self.pick(&[0, 1, u32::MAX]),
            },
            88..90 => Step::Interrupt {
                thread: self.below(4) as u8,
            },
            90..93 => Step::Sleep {
                milliseconds: self.below(10) as u8,
            },
            93..98 => Step::Show {
                device: self.device(),
                file: self.byte(),
            },
            _ => self.upheaval(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Program;
    use libafl_bolts::rands::StdRand;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_of_step_and_every_ioctl_is_made() {
        let mut rand = StdRand::with_seed(1);
        let mut dice = Dice(&mut rand);
        let (mut kinds, mut calls) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..20_000 {
            let step = dice.step();
            kinds.insert(step.kind());
            if let Step::Ioctl { call, .. } = step {
                calls.insert(call.0);
            }
        }
        assert_eq!(kinds.len(), Step::KINDS);
        assert_eq!(calls.len(), table::calls().len());
    }

    #[test]
    fn what_is_made_can_be_written_and_read() {
        let mut rand = StdRand::with_seed(2);
        let mut dice = Dice(&mut rand);
        for _ in 0..2_000 {
            let program = Program {
                about: String::new(),
                threads: vec![vec![dice.step(), dice.step()]],
            };
            let text = program.to_json();
            assert_eq!(Program::from_json(&text), Ok(program), "{text}");
        }
    }
}
