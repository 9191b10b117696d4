// SPDX-License-Identifier: GPL-2.0
//! Every operation against a reference that is written another way: element by element from the
//! formulas of the manual, in F64 and 128-bit integers, on what memory held before the command.
//! After a command all of memory is compared, so that also what must not be written is seen.

mod elementwise;
mod hostile;
mod product;
mod reduction;
mod refused;
mod tensor;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Access, Failure, Memory, SIZE, execute};

/// Memory begins here, at no multiple of 2 MiB.
pub const BASE: u64 = 0x7f12_3456_7000;
/// Bytes of memory in most tests.
pub const ARENA: usize = 32 << 10;
const PAGE: usize = 4096;

pub const I8: u32 = 1;
pub const U8: u32 = 2;
pub const I32: u32 = 3;
pub const BF16: u32 = 4;
pub const F32: u32 = 5;

pub fn size_of(kind: u32) -> usize {
    match kind {
        I8 | U8 => 1,
        BF16 => 2,
        _ => 4,
    }
}

/// Memory of a test: pages from [`BASE`] on, each of which is some page of `bytes`.
pub struct Fake {
    bytes: Mutex<Vec<u8>>,
    pub pages: Vec<usize>,
    /// Accesses that fail, and how.
    pub refused: Vec<(Range<u64>, Access, Failure)>,
    /// How many did.
    pub refusals: AtomicU32,
}

impl Fake {
    pub fn new(bytes: Vec<u8>) -> Self {
        let pages = (0..bytes.len().div_ceil(PAGE)).collect();
        Self {
            bytes: Mutex::new(bytes),
            pages,
            refused: Vec::new(),
            refusals: AtomicU32::new(0),
        }
    }

    /// All of it, by addresses.
    pub fn image(&self) -> Vec<u8> {
        let bytes = self.bytes.lock().unwrap();
        let pages = self.pages.iter();
        pages
            .flat_map(|page| bytes.iter().skip(page * PAGE).take(PAGE))
            .copied()
            .collect()
    }

    /// The pieces of an access: where in `bytes`, and where in the access.
    fn pieces(
        &self,
        address: u64,
        length: usize,
        access: Access,
        mut piece: impl FnMut(Range<usize>, Range<usize>),
    ) -> Result<(), Failure> {
        let mut done = 0;
        while done < length {
            let at = address + done as u64;
            let in_page = (at % PAGE as u64) as usize;
            let count = (PAGE - in_page).min(length - done);
            for (range, refused, failure) in &self.refused {
                if *refused == access && range.start < at + count as u64 && at < range.end {
                    let address = range.start.max(at);
                    self.refusals.fetch_add(1, Relaxed);
                    return Err(match *failure {
                        Failure::Fault { kind, .. } => Failure::Fault {
                            address,
                            access,
                            kind,
                        },
                        Failure::Bus { .. } => Failure::Bus { address, access },
                        other => other,
                    });
                }
            }
            let page = at
                .checked_sub(BASE)
                .and_then(|offset| self.pages.get((offset / PAGE as u64) as usize))
                .ok_or(Failure::Fault {
                    address: at,
                    access,
                    kind: 1,
                })?;
            let start = page * PAGE + in_page;
            piece(start..start + count, done..done + count);
            done += count;
        }
        Ok(())
    }
}

impl Memory for Fake {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Failure> {
        let bytes = self.bytes.lock().unwrap();
        self.pieces(address, to.len(), Access::Read, |at, part| {
            to[part].copy_from_slice(&bytes[at]);
        })
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), Failure> {
        let mut bytes = self.bytes.lock().unwrap();
        self.pieces(address, from.len(), Access::Write, |at, part| {
            bytes[at].copy_from_slice(&from[part]);
        })
    }
}

/// An operand, with any fields.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    pub address: u64,
    pub kind: u32,
    pub zero: u32,
    pub dims: [u32; 4],
    pub strides: [u32; 4],
}

impl Op {
    /// Without gaps, in the order of indices.
    pub fn dense(offset: u64, kind: u32, dims: [u32; 4]) -> Self {
        let mut strides = [0; 4];
        let mut stride = size_of(kind) as u32;
        for i in (0..4).rev() {
            strides[i] = stride;
            stride = stride.wrapping_mul(dims[i]);
        }
        Self {
            address: BASE + offset,
            kind,
            zero: 0,
            dims,
            strides,
        }
    }

    /// Address of an element.
    pub fn at(&self, index: [u32; 4]) -> u64 {
        let steps = index.iter().zip(&self.strides);
        let offsets = steps.map(|(index, stride)| u64::from(*index) * u64::from(*stride));
        self.address + offsets.sum::<u64>()
    }

    /// All indices, in their order.
    pub fn indices(&self) -> impl Iterator<Item = [u32; 4]> + use<> {
        let [a, b, c, d] = self.dims;
        (0..a).flat_map(move |i| {
            (0..b).flat_map(move |j| (0..c).flat_map(move |k| (0..d).map(move |l| [i, j, k, l])))
        })
    }

    fn bytes<'a>(&self, image: &'a [u8], index: [u32; 4]) -> &'a [u8] {
        &image[(self.at(index) - BASE) as usize..][..size_of(self.kind)]
    }

    /// An element of an integer type.
    pub fn int(&self, image: &[u8], index: [u32; 4]) -> i128 {
        let bytes = self.bytes(image, index);
        match self.kind {
            I8 => i8::from_le_bytes([bytes[0]]).into(),
            I32 => i32::from_le_bytes(bytes.try_into().unwrap()).into(),
            kind => panic!("no integer type: {kind}"),
        }
    }

    /// An element of any type of which results are computed.
    pub fn float(&self, image: &[u8], index: [u32; 4]) -> f64 {
        let bytes = self.bytes(image, index);
        match self.kind {
            BF16 => f32::from_le_bytes([0, 0, bytes[0], bytes[1]]).into(),
            F32 => f32::from_le_bytes(bytes.try_into().unwrap()).into(),
            _ => self.int(image, index) as f64,
        }
    }
}

/// A command, with any fields.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    pub opcode: u16,
    pub flags: u16,
    pub zero: u32,
    pub p: [u32; 14],
    pub d: Option<Op>,
    pub a: Option<Op>,
    pub b: Option<Op>,
    pub c: Option<Op>,
}

impl Spec {
    pub fn bytes(&self) -> [u8; SIZE] {
        let mut bytes = Vec::new();
        bytes.extend(self.opcode.to_le_bytes());
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend(self.zero.to_le_bytes());
        bytes.extend(self.p.iter().flat_map(|p| p.to_le_bytes()));
        for operand in [self.d, self.a, self.b, self.c] {
            match operand {
                None => bytes.extend([0; 48]),
                Some(op) => {
                    bytes.extend(op.address.to_le_bytes());
                    for word in [[op.kind, op.zero].as_slice(), &op.dims, &op.strides] {
                        bytes.extend(word.iter().flat_map(|word| word.to_le_bytes()));
                    }
                }
            }
        }
        bytes.try_into().unwrap()
    }

    pub fn run(&self, memory: &Fake) -> Result<(), Failure> {
        execute(&self.bytes(), memory, &|| false)
    }
}

/// A parameter that has numbers for rows and columns.
pub fn pair([rows, columns]: [u32; 2]) -> u32 {
    rows | (columns << 16)
}

/// What an element of the output must be.
pub enum Expect {
    /// In the type of the output; too large values wrap.
    Int(i128),
    /// With a tolerance.
    Near(f64, f64),
    Bytes(Vec<u8>),
}

/// Executes `spec` on `memory`, and compares all of it with what it must be: every element of D as
/// `expect` says, which gets the image from before and an index; where elements overlap the last.
pub fn check(spec: &Spec, memory: &Fake, expect: impl Fn(&[u8], [u32; 4]) -> Expect) {
    let before = memory.image();
    assert_eq!(spec.run(memory), Ok(()), "{spec:?}");
    let after = memory.image();

    let d = spec.d.unwrap();
    let size = size_of(d.kind);
    let mut last = std::collections::HashMap::new();
    for index in d.indices() {
        last.insert(d.at(index), index);
    }
    let mut wanted = before.clone();
    for (address, index) in last {
        let offset = (address - BASE) as usize;
        let bytes = match expect(&before, index) {
            Expect::Int(value) => value.to_le_bytes()[..size].to_vec(),
            Expect::Bytes(bytes) => bytes,
            Expect::Near(value, tolerance) => {
                let got = d.float(&after, index);
                assert!(
                    (got - value).abs() <= tolerance
                        || got == value
                        || got.is_nan() && value.is_nan(),
                    "{index:?}: {got} is not {value} within {tolerance}\n{spec:?}"
                );
                after[offset..offset + size].to_vec()
            }
        };
        assert_eq!(bytes.len(), size);
        wanted[offset..offset + size].copy_from_slice(&bytes);
    }
    if let Some(at) = (0..wanted.len()).find(|at| wanted[*at] != after[*at]) {
        panic!(
            "at {:#x}: {:#x}, not {:#x}\n{spec:?}",
            BASE + at as u64,
            after[at],
            wanted[at]
        );
    }
}

/// Any layout of an operand in memory: dimensions permuted, with gaps, strides of 0, elements that
/// overlap, and in dimensions of size 1 anything.
pub fn layout(kind: u32, dims: [u32; 4]) -> impl Strategy<Value = Op> {
    let size = size_of(kind) as u32;
    let order = Just([0, 1, 2, 3]).prop_shuffle();
    let gaps = vec(prop_oneof![3 => Just(0), 1 => 1_u32..4, 1 => 1_u32..40], 4);
    let zeros = vec(prop::bool::weighted(0.1), 4);
    let wild = prop::option::weighted(0.15, vec(0_u32..12, 4));
    let shuffled = any::<bool>();
    (
        order,
        shuffled,
        gaps,
        zeros,
        wild,
        any::<u32>(),
        any::<u32>(),
    )
        .prop_map(move |(order, shuffled, gaps, zeros, wild, place, any)| {
            let order = if shuffled { order } else { [3, 2, 1, 0] };
            let mut op = Op::dense(0, kind, dims);
            let mut strides = [0; 4];
            let mut next = size;
            for i in order {
                strides[i] = match &wild {
                    Some(wild) => wild[i] * size,
                    None if zeros[i] => 0,
                    None => next + gaps[i] * size,
                };
                next = next.max(strides[i].saturating_mul(dims[i]));
            }
            let extent = |strides: [u32; 4]| -> u64 {
                let to_last = (0..4).map(|i| u64::from(dims[i] - 1) * u64::from(strides[i]));
                to_last.sum::<u64>() + u64::from(size)
            };
            if extent(strides) <= ARENA as u64 {
                op.strides = strides;
            }
            let places = (ARENA as u64 - extent(op.strides)) / u64::from(size) + 1;
            // Often near the same place, so that operands overlap.
            let place = if any % 3 == 0 { place % 64 } else { place };
            op.address = BASE + u64::from(place) % places * u64::from(size);
            for i in (0..4).filter(|i| dims[*i] == 1) {
                op.strides[i] = if any % 2 == 0 { any } else { 0 };
            }
            op
        })
}

/// Random bytes.
pub fn bytes() -> impl Strategy<Value = Vec<u8>> {
    any::<u64>().prop_map(|seed| {
        let mut next = random(seed);
        (0..ARENA)
            .map(|_| match next() % 8 {
                0 => 0x80,
                1 => 0x7f,
                _ => next() as u8,
            })
            .collect()
    })
}

/// Random numbers of a floating type, of a magnitude up to 2^`magnitude`.
pub fn floats(kind: u32, magnitude: i32) -> impl Strategy<Value = Vec<u8>> {
    any::<u64>().prop_map(move |seed| {
        let mut next = random(seed);
        let size = size_of(kind);
        (0..ARENA / size)
            .flat_map(|_| {
                let fraction = next() as i32 as f32 / 2_f32.powi(31);
                let scale = magnitude - (next() % 12) as i32;
                let value = fraction * 2_f32.powi(scale);
                value.to_le_bytes()[4 - size..].to_vec()
            })
            .collect()
    })
}

/// A generator of random numbers.
pub fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed | 1;
    move || {
        // Knuth's linear congruential generator, of which the upper half is good enough.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    }
}
