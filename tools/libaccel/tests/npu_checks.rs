// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands are refused here if and only if the device refuses them; what is not
//! refused is encoded as the manual has it. The device is its model, which was
//! written from the manual by itself.

use accel_emu::npu::command::{Failure, Memory, SIZE, execute};
use libaccel::npu::{
    AddScaled, Bf16, Command, Conv2d, Function, Matmul, Pool, Pooling, Requantize, Tensor, Type,
    Value,
};

/// Commands of each opcode.
const TRIES: u32 = 4000;

/// Zeroes wherever the device looks.
struct Zeroes;

impl Memory for Zeroes {
    fn read(&self, _: u64, to: &mut [u8]) -> Result<(), Failure> {
        to.fill(0);
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}

/// Numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u32) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        ((self.0 >> 33) as u32) % below
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.next(count) == 0
    }

    fn of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.next(choice.len() as u32) as usize]
    }

    fn i8(&mut self) -> i8 {
        self.next(256) as u8 as i8
    }

    /// Mostly one that is right for `wanted`.
    fn element(&mut self, wanted: Type) -> Type {
        if self.one_in(12) {
            self.of(&[Type::I8, Type::U8, Type::I32, Type::Bf16, Type::F32])
        } else {
            wanted
        }
    }

    /// A tensor of about these dims, contiguous or not.
    fn tensor(&mut self, wanted: Type, mut dims: [u32; 4]) -> Tensor {
        if self.one_in(12) {
            let at = self.next(4) as usize;
            dims[at] = 1 + self.next(5);
        }
        let element = self.element(wanted);
        let address = 0x20_0000 + u64::from(4 * self.next(1000));
        let strides = match self.next(4) {
            0 => [0; 4].map(|_: u32| 4 * self.next(100)),
            1 => {
                let far = [0, 1 << 20, 1 << 30, 0xffff_fffc];
                [0; 4].map(|_: u32| self.of(&far))
            }
            _ => return Tensor::contiguous(address, element, &dims).unwrap(),
        };
        Tensor::strided(address, element, dims, strides).unwrap()
    }

    fn dims(&mut self) -> [u32; 4] {
        [0; 4].map(|_: u32| 1 + self.next(4))
    }

    /// A pair for rows and columns, seldom outside of what there may be.
    fn pair(&mut self, least: u32, most: u32) -> [u32; 2] {
        [0; 2].map(|_: u32| {
            if self.one_in(40) {
                self.of(&[0, 0xffff])
            } else {
                least + self.next(most - least + 1)
            }
        })
    }
}

/// A command as bytes, from offsets that the manual gives.
fn raw(opcode: u16, flags: u16, parameters: &[u32], operands: [Option<&Tensor>; 4]) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[0..2].copy_from_slice(&opcode.to_le_bytes());
    bytes[2..4].copy_from_slice(&flags.to_le_bytes());
    for (i, parameter) in parameters.iter().enumerate() {
        bytes[8 + 4 * i..12 + 4 * i].copy_from_slice(&parameter.to_le_bytes());
    }
    for (i, operand) in operands.into_iter().enumerate() {
        let Some(tensor) = operand else { continue };
        let to = &mut bytes[64 + 48 * i..112 + 48 * i];
        to[0..8].copy_from_slice(&tensor.address().to_le_bytes());
        let number: u32 = match tensor.element() {
            Type::I8 => 1,
            Type::U8 => 2,
            Type::I32 => 3,
            Type::Bf16 => 4,
            Type::F32 => 5,
        };
        to[8..12].copy_from_slice(&number.to_le_bytes());
        for j in 0..4 {
            to[16 + 4 * j..20 + 4 * j].copy_from_slice(&tensor.dims()[j].to_le_bytes());
            to[32 + 4 * j..36 + 4 * j].copy_from_slice(&tensor.strides()[j].to_le_bytes());
        }
    }
    bytes
}

/// Both say the same; counts how often they took it.
fn compare(made: libaccel::Result<Command>, raw: [u8; SIZE], taken: &mut u32) {
    let device = execute(&raw, &Zeroes, &|| false);
    match made {
        Ok(command) => {
            assert_eq!(device, Ok(()), "not refused here: {command}");
            assert_eq!(command.encode(), raw, "{command}");
            *taken += 1;
        }
        Err(error) => assert!(
            matches!(
                device,
                Err(Failure::Operand | Failure::Parameter | Failure::TooLarge)
            ),
            "{error}, and the device says {device:?}"
        ),
    }
}

/// Runs `try_one` often; a fair part is taken, and a fair part is not.
fn both_ways(seed: u64, mut try_one: impl FnMut(&mut Random, &mut u32)) {
    let mut random = Random(seed);
    let mut taken = 0;
    for _ in 0..TRIES {
        try_one(&mut random, &mut taken);
    }
    assert!(taken > TRIES / 20, "only {taken} of {TRIES} were taken");
    assert!(taken < TRIES * 19 / 20, "{taken} of {TRIES} were taken");
}

fn signed(value: i8) -> u32 {
    i32::from(value) as u32
}

fn packed([rows, columns]: [u32; 2]) -> u32 {
    (rows & 0xffff) | (columns << 16)
}

#[test]
fn copy() {
    both_ways(1, |random, taken| {
        let dims = random.dims();
        let element = random.of(&[Type::I8, Type::U8, Type::I32, Type::Bf16, Type::F32]);
        let (d, a) = (random.tensor(element, dims), random.tensor(element, dims));
        let bytes = raw(0x01, 0, &[], [Some(&d), Some(&a), None, None]);
        compare(Command::copy(d, a), bytes, taken);
    });
}

#[test]
fn fill() {
    let mut random = Random(2);
    let mut taken = 0;
    for (element, value, bits) in [
        (Type::I8, Value::I8(-3), 0xfd),
        (Type::U8, Value::U8(250), 250),
        (Type::I32, Value::I32(-3), 0xffff_fffd),
        (Type::Bf16, Value::Bf16(Bf16(0x8000)), 0x8000),
        (Type::F32, Value::F32(-0.0), 0x8000_0000),
    ] {
        let dims = random.dims();
        let d = Tensor::contiguous(0x20_0000, element, &dims).unwrap();
        let bytes = raw(0x02, 0, &[bits], [Some(&d), None, None, None]);
        compare(Command::fill(d, value), bytes, &mut taken);
    }
    assert_eq!(taken, 5);
}

/// Types of A and B, and of D.
const PRODUCTS: [(Type, Type); 3] = [
    (Type::I8, Type::I32),
    (Type::Bf16, Type::F32),
    (Type::F32, Type::F32),
];

#[test]
fn matmul() {
    both_ways(3, |random, taken| {
        let (inputs, output) = random.of(&PRODUCTS);
        let [outer, other, m, k] = random.dims();
        let n = 1 + random.next(4);
        let d = random.tensor(output, [outer, other, m, n]);
        let a = random.tensor(inputs, [outer, other, m, k]);
        let b = random.tensor(inputs, [outer, other, k, n]);
        let mut how = Matmul {
            accumulate: random.one_in(2),
            ..Matmul::default()
        };
        if inputs == Type::I8 || random.one_in(20) {
            (how.zero_a, how.zero_b) = (random.i8(), random.i8());
        }
        let bytes = raw(
            0x10,
            how.accumulate.into(),
            &[signed(how.zero_a), signed(how.zero_b)],
            [Some(&d), Some(&a), Some(&b), None],
        );
        compare(Command::matmul(d, a, b, how), bytes, taken);
    });
}

#[test]
fn conv2d() {
    both_ways(4, |random, taken| {
        let (inputs, output) = random.of(&PRODUCTS);
        let groups = 1 + random.next(3);
        let [n, h, w, depth] = random.dims();
        let [kh, kw, oh, ow] = random.dims();
        let (channels, outputs) = (groups * depth, groups * (1 + random.next(3)));
        let d = random.tensor(output, [n, oh, ow, outputs]);
        let a = random.tensor(inputs, [n, h, w, channels]);
        let b = random.tensor(inputs, [outputs, kh, kw, depth]);
        let mut how = Conv2d {
            strides: random.pair(1, 3),
            dilations: random.pair(1, 3),
            padding: random.pair(0, 3),
            groups: if random.one_in(20) { 0 } else { groups },
            accumulate: random.one_in(2),
            ..Conv2d::default()
        };
        if inputs == Type::I8 || random.one_in(20) {
            (how.zero_a, how.zero_b) = (random.i8(), random.i8());
        }
        let parameters = [
            signed(how.zero_a),
            signed(how.zero_b),
            packed(how.strides),
            packed(how.dilations),
            packed(how.padding),
            how.groups,
        ];
        let operands = [Some(&d), Some(&a), Some(&b), None];
        let bytes = raw(0x11, how.accumulate.into(), &parameters, operands);
        compare(Command::conv2d(d, a, b, how), bytes, taken);
    });
}

fn requantize_how(random: &mut Random) -> Requantize {
    let (x, y) = (random.i8(), random.i8());
    let crossed = random.one_in(20);
    Requantize {
        zero: random.i8(),
        min: if crossed { x.max(y) } else { x.min(y) },
        max: if crossed { x.min(y) } else { x.max(y) },
    }
}

#[test]
fn requantize() {
    both_ways(5, |random, taken| {
        let dims = random.dims();
        let d = random.tensor(Type::I8, dims);
        let a = random.tensor(Type::I32, dims);
        let b = random.tensor(Type::I32, [1, 1, 1, dims[3]]);
        let b = random.one_in(2).then_some(b);
        let c = random.tensor(Type::I32, [1, 1, 2, dims[3]]);
        let how = requantize_how(random);
        let bytes = raw(
            0x12,
            0,
            &[signed(how.zero), signed(how.min), signed(how.max)],
            [Some(&d), Some(&a), b.as_ref(), Some(&c)],
        );
        compare(Command::requantize(d, a, b, c, how), bytes, taken);
    });
}

#[test]
fn activate() {
    both_ways(6, |random, taken| {
        let dims = random.dims();
        let output = random.of(&[Type::F32, Type::Bf16]);
        let d = random.tensor(output, dims);
        let a = random.tensor(Type::F32, dims);
        let b = random.tensor(Type::F32, [1, 1, 1, dims[3]]);
        let b = random.one_in(2).then_some(b);
        let (function, number) = random.of(&[
            (Function::None, 0),
            (Function::Relu, 1),
            (Function::Relu6, 2),
            (Function::Sigmoid, 3),
            (Function::Tanh, 4),
            (Function::Gelu, 5),
            (Function::Silu, 6),
        ]);
        let scale = random.of(&[1.0, -0.5, 0.0, f32::INFINITY, f32::NAN]);
        let operands = [Some(&d), Some(&a), b.as_ref(), None];
        let bytes = raw(0x13, 0, &[number, scale.to_bits()], operands);
        compare(Command::activate(d, a, b, function, scale), bytes, taken);
    });
}

#[test]
fn add() {
    both_ways(7, |random, taken| {
        let dims = random.dims();
        let element = random.of(&[Type::F32, Type::I8]);
        let mut tensor = || random.tensor(element, dims);
        let (d, a, b) = (tensor(), tensor(), tensor());
        let operands = [Some(&d), Some(&a), Some(&b), None];
        if element == Type::F32 {
            // All of I8 with these parameters is another command, which there is.
            if [d, a, b].iter().any(|t| t.element() == Type::F32) {
                compare(Command::add(d, a, b), raw(0x14, 0, &[], operands), taken);
            }
            return;
        }
        let how = AddScaled {
            zero_a: random.i8(),
            zero_b: random.i8(),
            multiplier_a: random.of(&[0, 1, 0x7fff_ffff, 0x7fff_ffff, 0x8000_0000]),
            multiplier_b: random.of(&[0, 1, 0x7fff_ffff, 0x7fff_ffff, u32::MAX]),
            shift: random.next(65),
            to: requantize_how(random),
        };
        let parameters = [
            signed(how.zero_a),
            signed(how.zero_b),
            how.multiplier_a,
            how.multiplier_b,
            how.shift,
            signed(how.to.zero),
            signed(how.to.min),
            signed(how.to.max),
        ];
        let bytes = raw(0x14, 0, &parameters, operands);
        compare(Command::add_scaled(d, a, b, how), bytes, taken);
    });
}

#[test]
fn pool() {
    both_ways(8, |random, taken| {
        let [n, h, w, c] = random.dims();
        let element = random.of(&[Type::F32, Type::I8]);
        let [oh, ow, _, _] = random.dims();
        let d = random.tensor(element, [n, oh, ow, c]);
        let a = random.tensor(element, [n, h, w, c]);
        let how = Pool {
            pooling: random.of(&[Pooling::Max, Pooling::Mean]),
            kernel: random.pair(1, 3),
            strides: random.pair(1, 2),
            padding: random.pair(0, 2),
        };
        let parameters = [
            u32::from(how.pooling == Pooling::Mean),
            packed(how.kernel),
            packed(how.strides),
            packed(how.padding),
        ];
        let bytes = raw(0x20, 0, &parameters, [Some(&d), Some(&a), None, None]);
        compare(Command::pool(d, a, how), bytes, taken);
    });
}

#[test]
fn softmax() {
    both_ways(9, |random, taken| {
        let dims = random.dims();
        let (to, from) = (
            random.of(&[Type::F32, Type::I8]),
            random.of(&[Type::F32, Type::I8]),
        );
        let (d, a) = (random.tensor(to, dims), random.tensor(from, dims));
        let scale = random.of(&[1.0, 0.25, 1e-40, 0.0, -1.0, f32::INFINITY, f32::NAN]);
        let operands = [Some(&d), Some(&a), None, None];
        let bytes = raw(0x21, 0, &[scale.to_bits()], operands);
        compare(Command::softmax(d, a, scale), bytes, taken);
    });
}

#[test]
fn argmax() {
    both_ways(10, |random, taken| {
        let [d0, d1, d2, d3] = random.dims();
        let from = random.of(&[Type::I8, Type::I32, Type::F32]);
        let d = random.tensor(Type::I32, [d0, d1, d2, 1]);
        let a = random.tensor(from, [d0, d1, d2, d3]);
        let bytes = raw(0x22, 0, &[], [Some(&d), Some(&a), None, None]);
        compare(Command::argmax(d, a), bytes, taken);
    });
}

/// Sizes at and above what there may be, which takes the device no work when it refuses.
#[test]
fn sizes() {
    let row = |element, count| Tensor::contiguous(1 << 32, element, &[count]).unwrap();
    let mut taken = 0;
    let large = row(Type::U8, (1 << 26) + 1);
    let bytes = raw(0x02, 0, &[0], [Some(&large), None, None, None]);
    compare(Command::fill(large, Value::U8(0)), bytes, &mut taken);

    let a = Tensor::contiguous(1 << 32, Type::I8, &[2049, 1024]).unwrap();
    let b = Tensor::contiguous(1 << 32, Type::I8, &[1024, 2048]).unwrap();
    let d = Tensor::contiguous(1 << 32, Type::I32, &[2049, 2048]).unwrap();
    let bytes = raw(0x10, 0, &[0, 0], [Some(&d), Some(&a), Some(&b), None]);
    compare(
        Command::matmul(d, a, b, Matmul::default()),
        bytes,
        &mut taken,
    );

    let a = Tensor::contiguous(1 << 32, Type::I8, &[1, 511, 512, 1]).unwrap();
    let d = Tensor::contiguous(1 << 32, Type::I8, &[1, 256, 256, 1]).unwrap();
    let how = Pool {
        strides: [1, 1],
        ..Pool::new(Pooling::Max, [256, 257])
    };
    let parameters = [0, packed(how.kernel), packed(how.strides), 0];
    let bytes = raw(0x20, 0, &parameters, [Some(&d), Some(&a), None, None]);
    compare(Command::pool(d, a, how), bytes, &mut taken);
    assert_eq!(taken, 0);
}
