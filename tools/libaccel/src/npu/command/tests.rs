// SPDX-License-Identifier: MIT OR Apache-2.0
//! Offsets and numbers here are written out from the manual, not taken from the header.

use super::*;
use crate::npu::Bf16;

fn tensor(element: Type, dims: &[u32]) -> Tensor {
    Tensor::contiguous(0x20_0000, element, dims).unwrap()
}

fn i8s(dims: &[u32]) -> Tensor {
    tensor(Type::I8, dims)
}

fn i32s(dims: &[u32]) -> Tensor {
    tensor(Type::I32, dims)
}

fn f32s(dims: &[u32]) -> Tensor {
    tensor(Type::F32, dims)
}

/// A command's 32-bit words, of which there are 64.
fn words(command: &Command) -> Vec<u32> {
    let bytes = command.encode();
    assert_eq!(bytes.len(), 256);
    let words = bytes.chunks_exact(4);
    words
        .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}

/// Opcode and parameters; the operands from word 16 on are checked elsewhere.
fn head(command: &Command) -> (u32, Vec<u32>) {
    let words = words(command);
    assert_eq!(words[1], 0, "must be 0");
    let used = words[2..16].iter().rposition(|p| *p != 0);
    (words[0], words[2..3 + used.unwrap_or(0)].to_vec())
}

fn why(result: Result<Command>) -> String {
    match result {
        Err(error @ Error::Refused { .. }) => error.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn every_field_is_where_the_manual_has_it() {
    let d = Tensor::strided(0x1_2345_6780, Type::I32, [2, 3, 5, 7], [800, 160, 32, 4]).unwrap();
    let a = Tensor::contiguous(0x30_0001, Type::I8, &[2, 3, 5, 9]).unwrap();
    let b = Tensor::contiguous(0x40_0002, Type::I8, &[2, 3, 9, 7]).unwrap();
    let how = Matmul {
        zero_a: -3,
        zero_b: 4,
        accumulate: true,
    };
    let bytes = Command::matmul(d, a, b, how).unwrap().encode();
    let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let u32_at = |at: usize| u32::from(u16_at(at)) | (u32::from(u16_at(at + 2)) << 16);
    assert_eq!(u16_at(0), 0x10);
    assert_eq!(u16_at(2), 1);
    assert_eq!(u32_at(8), 0xffff_fffd);
    assert_eq!(u32_at(12), 4);
    // D at 64: address, type, 0, dims, strides.
    assert_eq!((u32_at(64), u32_at(68)), (0x2345_6780, 1));
    assert_eq!((u32_at(72), u32_at(76)), (3, 0));
    assert_eq!([80, 84, 88, 92].map(u32_at), [2, 3, 5, 7]);
    assert_eq!([96, 100, 104, 108].map(u32_at), [800, 160, 32, 4]);
    // A at 112, B at 160, and no C at 208.
    assert_eq!((u32_at(112), u32_at(120), u32_at(140)), (0x30_0001, 1, 9));
    assert_eq!((u32_at(160), u32_at(168), u32_at(184)), (0x40_0002, 1, 9));
    assert_eq!(bytes[208..], [0; 48]);
    assert_eq!(bytes[16..64], [0; 48]);
}

#[test]
fn opcodes_and_parameters() {
    assert_eq!(words(&Command::nop()), [0; 64]);

    let copy = Command::copy(i8s(&[4]), i8s(&[4])).unwrap();
    assert_eq!(head(&copy), (0x01, vec![0]));

    for (d, value, bits) in [
        (i8s(&[4]), Value::I8(-1), 0xff),
        (tensor(Type::U8, &[4]), Value::U8(200), 200),
        (i32s(&[4]), Value::I32(-1), 0xffff_ffff),
        (tensor(Type::Bf16, &[4]), Value::Bf16(Bf16(0x3f80)), 0x3f80),
        (f32s(&[4]), Value::F32(1.0), 0x3f80_0000),
    ] {
        let fill = Command::fill(d, value).unwrap();
        assert_eq!(head(&fill), (0x02, vec![bits]));
    }

    let conv = Conv2d {
        zero_a: -128,
        zero_b: 1,
        strides: [2, 3],
        dilations: [4, 5],
        padding: [6, 7],
        groups: 2,
        accumulate: true,
    };
    let conv = Command::conv2d(
        i32s(&[1, 4, 4, 6]),
        i8s(&[1, 8, 8, 4]),
        i8s(&[6, 3, 3, 2]),
        conv,
    );
    assert_eq!(
        head(&conv.unwrap()),
        (
            0x1_0011,
            vec![0xffff_ff80, 1, 0x3_0002, 0x5_0004, 0x7_0006, 2]
        )
    );

    let how = Requantize {
        zero: -5,
        min: -100,
        max: 100,
    };
    let command = Command::requantize(
        i8s(&[1, 2, 2, 3]),
        i32s(&[1, 2, 2, 3]),
        Some(i32s(&[3])),
        i32s(&[2, 3]),
        how,
    );
    let command = command.unwrap();
    assert_eq!(head(&command), (0x12, vec![0xffff_fffb, 0xffff_ff9c, 100]));
    // C at 208: I32 [1, 1, 2, 3].
    assert_eq!(words(&command)[54..60], [3, 0, 1, 1, 2, 3]);

    for (function, number) in [
        (Function::None, 0),
        (Function::Relu, 1),
        (Function::Relu6, 2),
        (Function::Sigmoid, 3),
        (Function::Tanh, 4),
        (Function::Gelu, 5),
        (Function::Silu, 6),
    ] {
        let command = Command::activate(f32s(&[4]), f32s(&[4]), None, function, 2.0);
        assert_eq!(head(&command.unwrap()), (0x13, vec![number, 0x4000_0000]));
    }

    let add = Command::add(f32s(&[4]), f32s(&[4]), f32s(&[4])).unwrap();
    assert_eq!(head(&add), (0x14, vec![0]));
    let how = AddScaled {
        zero_a: -1,
        zero_b: 2,
        multiplier_a: 3,
        multiplier_b: 0x7fff_ffff,
        shift: 62,
        to: how,
    };
    let add = Command::add_scaled(i8s(&[4]), i8s(&[4]), i8s(&[4]), how).unwrap();
    let parameters = vec![
        0xffff_ffff,
        2,
        3,
        0x7fff_ffff,
        62,
        0xffff_fffb,
        0xffff_ff9c,
        100,
    ];
    assert_eq!(head(&add), (0x14, parameters));

    let pool = Pool {
        pooling: Pooling::Mean,
        kernel: [3, 2],
        strides: [2, 1],
        padding: [1, 0],
    };
    let pool = Command::pool(i8s(&[1, 4, 7, 5]), i8s(&[1, 8, 8, 5]), pool).unwrap();
    assert_eq!(head(&pool), (0x20, vec![1, 0x2_0003, 0x1_0002, 1]));
    let pool = Pool::new(Pooling::Max, [2, 2]);
    let pool = Command::pool(f32s(&[1, 4, 4, 5]), f32s(&[1, 8, 8, 5]), pool).unwrap();
    assert_eq!(head(&pool), (0x20, vec![0, 0x2_0002, 0x2_0002]));

    let softmax = Command::softmax(i8s(&[4]), f32s(&[4]), 0.5).unwrap();
    assert_eq!(head(&softmax), (0x21, vec![0x3f00_0000]));
    let argmax = Command::argmax(i32s(&[5, 1]), i8s(&[5, 9])).unwrap();
    assert_eq!(head(&argmax), (0x22, vec![0]));
}

#[test]
fn types_are_numbered_as_the_manual_has_it() {
    let types = [Type::I8, Type::U8, Type::I32, Type::Bf16, Type::F32];
    assert_eq!(types.map(Type::number), [1, 2, 3, 4, 5]);
    assert_eq!(types.map(Type::size), [1, 1, 4, 2, 4]);
    for element in types {
        let copy = Command::copy(tensor(element, &[4]), tensor(element, &[4])).unwrap();
        assert_eq!(words(&copy)[18], element.number());
    }
}

#[test]
fn operands_that_no_command_takes() {
    let huge = i8s(&[1 << 13, 1 << 13]);
    assert_eq!(huge.elements(), 1 << 26);
    assert!(Command::fill(huge, Value::I8(0)).is_ok());
    let more = i8s(&[(1 << 26) + 1]);
    assert!(why(Command::fill(more, Value::I8(0))).contains("2^26"));
    assert!(why(Command::copy(i8s(&[4]), more)).contains("A is I8"));

    let row = i8s(&[1, 1, 1, 9]).broadcast(2, 4).unwrap();
    assert!(Command::copy(i8s(&[4, 9]), row).is_ok());
    // Elements of an output may overlap: the last is kept.
    assert!(Command::copy(row, i8s(&[4, 9])).is_ok());
    // Of a dimension of 1 the stride counts for nothing.
    let single = Tensor::strided(0, Type::I8, [1, 1, 1, 4], [0, 0, 0, 1]).unwrap();
    assert!(Command::copy(single, i8s(&[4])).is_ok());
}

#[test]
fn copies_and_fills_are_refused() {
    assert!(why(Command::copy(i8s(&[4]), tensor(Type::U8, &[4]))).contains("types"));
    assert!(why(Command::copy(i8s(&[4]), i8s(&[4, 1]))).contains("dims"));
    assert!(why(Command::fill(i32s(&[4]), Value::F32(0.0))).contains("the value is F32"));
}

#[test]
fn products_are_refused() {
    let plain = Matmul::default();
    let product = |d, a, b| Command::matmul(d, a, b, plain);
    let (a, b) = (i8s(&[4, 6]), i8s(&[6, 5]));
    assert!(product(i32s(&[4, 5]), a, b).is_ok());
    assert!(why(product(f32s(&[4, 5]), a, b)).contains("D is F32"));
    assert!(why(product(i32s(&[5, 5]), a, b)).contains("4 rows of A and 5 rows of D"));
    assert!(why(product(i32s(&[4, 4]), a, b)).contains("5 columns of B and 4"));
    assert!(why(product(i32s(&[4, 4]), a, a)).contains("6 columns of A and 4 rows of B"));
    assert!(why(product(i32s(&[2, 4, 5]), a, b)).contains("first two"));
    assert!(why(product(i32s(&[4, 5]), a, f32s(&[6, 5]))).contains("types"));
    assert!(why(product(i32s(&[4, 4]), i32s(&[4, 4]), i32s(&[4, 4]))).contains("I8 or BF16"));
    let half = |dims: &[u32]| tensor(Type::Bf16, dims);
    assert!(product(f32s(&[4, 5]), half(&[4, 6]), half(&[6, 5])).is_ok());
    assert!(why(product(half(&[4, 5]), half(&[4, 6]), half(&[6, 5]))).contains("must be F32"));
    let how = Matmul { zero_b: 1, ..plain };
    let zeroed = Command::matmul(f32s(&[4, 5]), f32s(&[4, 6]), f32s(&[6, 5]), how);
    assert!(why(zeroed).contains("zero points"));

    let square = i8s(&[2048, 1024]);
    let most = product(i32s(&[2048, 2048]), square, i8s(&[1024, 2048]));
    assert!(most.is_ok());
    let more = product(i32s(&[2049, 2048]), i8s(&[2049, 1024]), i8s(&[1024, 2048]));
    assert!(why(more).contains("2^32"));
}

#[test]
fn convolutions_are_refused() {
    let plain = Conv2d::default();
    let (d, a, b) = (i32s(&[2, 6, 6, 8]), i8s(&[2, 8, 8, 4]), i8s(&[8, 3, 3, 4]));
    assert_eq!(plain.output(a.dims(), b.dims(), [0, 0]), Some(d.dims()));
    let conv = |d, a, b, how| Command::conv2d(d, a, b, how);
    assert!(conv(d, a, b, plain).is_ok());
    // How much of it there is to compute is free.
    assert!(conv(i32s(&[2, 9, 1, 8]), a, b, plain).is_ok());
    assert!(why(conv(i32s(&[1, 6, 6, 8]), a, b, plain)).contains("2 images of A"));
    assert!(why(conv(i32s(&[2, 6, 6, 7]), a, b, plain)).contains("8 kernels of B"));
    assert!(why(conv(d, a, i8s(&[8, 3, 3, 3]), plain)).contains("3 channels of B"));
    let with = |change: fn(&mut Conv2d)| {
        let mut how = plain;
        change(&mut how);
        why(conv(d, a, b, how))
    };
    assert!(with(|how| how.groups = 0).contains("0 groups"));
    assert!(with(|how| how.groups = 3).contains("3 groups"));
    assert!(with(|how| how.groups = 2).contains("4 channels of B and 2"));
    assert!(with(|how| how.strides = [0, 1]).contains("strides are 0 and 1"));
    assert!(with(|how| how.dilations = [1, 0x1_0000]).contains("dilations"));
    assert!(with(|how| how.padding = [0x1_0000, 0]).contains("padding"));
    let depthwise = Conv2d { groups: 4, ..plain };
    assert!(conv(d, a, i8s(&[8, 3, 3, 1]), depthwise).is_ok());
    let work = conv(
        i32s(&[1, 1 << 12, 1 << 12, 1]),
        i8s(&[1, 1, 1, 1]),
        i8s(&[1, 16, 17, 1]),
        plain,
    );
    assert!(why(work).contains("4563402752 steps"));
}

#[test]
fn requantizations_are_refused() {
    let (d, a, scales) = (i8s(&[2, 3]), i32s(&[2, 3]), i32s(&[2, 3]));
    let how = Requantize::default();
    let make = |d, a, bias, scales, how| Command::requantize(d, a, bias, scales, how);
    assert!(make(d, a, None, scales, how).is_ok());
    assert!(why(make(a, a, None, scales, how)).contains("D is I32"));
    assert!(why(make(d, d, None, scales, how)).contains("A is I8"));
    assert!(why(make(d, i32s(&[3, 3]), None, scales, how)).contains("dims"));
    assert!(why(make(d, a, Some(i32s(&[4])), scales, how)).contains("B is I32 [1, 1, 1, 4]"));
    assert!(why(make(d, a, Some(i8s(&[3])), scales, how)).contains("B is I8"));
    assert!(why(make(d, a, None, i32s(&[3, 2]), how)).contains("[1, 1, 2, 3]"));
    let crossed = Requantize {
        min: 1,
        max: 0,
        ..how
    };
    assert!(why(make(d, a, None, scales, crossed)).contains("above the greatest"));
}

#[test]
fn element_wise_commands_are_refused() {
    let activate = |d, a, bias| Command::activate(d, a, bias, Function::Relu, 1.0);
    let half = tensor(Type::Bf16, &[2, 3]);
    assert!(activate(half, f32s(&[2, 3]), Some(f32s(&[3]))).is_ok());
    assert!(why(activate(f32s(&[2, 3]), half, None)).contains("A is BF16"));
    assert!(why(activate(i8s(&[2, 3]), f32s(&[2, 3]), None)).contains("F32 or BF16"));
    assert!(why(activate(half, f32s(&[2, 3]), Some(f32s(&[2])))).contains("[1, 1, 1, 3]"));

    assert!(why(Command::add(i8s(&[4]), i8s(&[4]), i8s(&[4]))).contains("must be F32"));
    assert!(why(Command::add(f32s(&[4]), f32s(&[4]), f32s(&[3]))).contains("B is F32"));
    let how = AddScaled {
        zero_a: 0,
        zero_b: 0,
        multiplier_a: 1,
        multiplier_b: 1,
        shift: 0,
        to: Requantize::default(),
    };
    let add = |how| Command::add_scaled(i8s(&[4]), i8s(&[4]), i8s(&[4]), how);
    assert!(add(how).is_ok());
    let shift = AddScaled { shift: 63, ..how };
    assert!(why(add(shift)).contains("63"));
    let multiplier = AddScaled {
        multiplier_b: 1 << 31,
        ..how
    };
    assert!(why(add(multiplier)).contains("m_b"));

    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(why(Command::softmax(f32s(&[4]), f32s(&[4]), scale)).contains("above 0"));
    }
    assert!(why(Command::softmax(i32s(&[4]), f32s(&[4]), 1.0)).contains("D is I32"));
    assert!(why(Command::argmax(i32s(&[5, 2]), i8s(&[5, 9]))).contains("[1, 1, 5, 1]"));
    assert!(why(Command::argmax(i32s(&[5, 1]), tensor(Type::U8, &[5, 9]))).contains("A is U8"));
}

/// The windows that the check calls empty are those that are, by counting.
#[test]
fn pools_without_elements_are_refused() {
    for kernel in 1..4 {
        for stride in 1..4 {
            for padding in 0..4 {
                for (rows, size) in (1..6_u32).flat_map(|r| (1..5_u32).map(move |s| (r, s))) {
                    let how = Pool {
                        pooling: Pooling::Max,
                        kernel: [kernel, 1],
                        strides: [stride, 1],
                        padding: [padding, 0],
                    };
                    let window = |y: u32| {
                        (0..kernel).any(|i| {
                            let at = i64::from(y * stride + i) - i64::from(padding);
                            (0..i64::from(size)).contains(&at)
                        })
                    };
                    let made = Command::pool(i8s(&[1, rows, 1, 1]), i8s(&[1, size, 1, 1]), how);
                    assert_eq!(made.is_ok(), (0..rows).all(window), "{how:?} {rows} {size}");
                }
            }
        }
    }
    let large = Pool {
        strides: [1, 1],
        ..Pool::new(Pooling::Max, [256, 257])
    };
    let made = Command::pool(i8s(&[1, 256, 256, 1]), i8s(&[1, 511, 512, 1]), large);
    assert!(why(made).contains("4311744512 steps"));
    let how = Pool::new(Pooling::Max, [1, 0]);
    assert!(why(Command::pool(i8s(&[1]), i8s(&[1]), how)).contains("kernel are 1 and 0"));
    let how = Pool::new(Pooling::Max, [1, 1]);
    assert!(why(Command::pool(i8s(&[1, 1, 1, 2]), i8s(&[1]), how)).contains("channels"));
    assert!(why(Command::pool(f32s(&[1]), i8s(&[1]), how)).contains("types"));
    assert!(why(Command::pool(i32s(&[1]), i32s(&[1]), how)).contains("I8 or F32"));
}

#[test]
fn shapes_of_windows() {
    let conv = Conv2d {
        strides: [2, 1],
        dilations: [1, 2],
        padding: [1, 0],
        ..Conv2d::default()
    };
    let shape = conv.output([1, 9, 8, 3], [7, 3, 3, 3], [1, 0]);
    assert_eq!(shape, Some([1, 5, 4, 7]));
    assert_eq!(conv.output([1, 9, 4, 3], [7, 3, 3, 3], [0, 0]), None);
    let pool = Pool::new(Pooling::Max, [2, 2]);
    assert_eq!(pool.output([3, 8, 9, 5], [0, 0]), Some([3, 4, 4, 5]));
    assert_eq!(pool.output([3, 8, 9, 5], [0, 1]), Some([3, 4, 5, 5]));
    assert_eq!(pool.output([3, 1, 1, 5], [0, 0]), None);
}

#[test]
fn scales_are_the_nearest() {
    let parts = |factor| {
        let scale = Scale::nearest(factor).unwrap();
        (scale.multiplier(), scale.shift())
    };
    assert_eq!(parts(1.0), (1 << 30, 30));
    assert_eq!(parts(0.5), (1 << 30, 31));
    assert_eq!(parts(2_147_483_647.0), (0x7fff_ffff, 0));
    assert_eq!(parts(0.0), (0, 62));
    assert_eq!(parts(2_f64.powi(-62)), (1, 62));
    for factor in [0.003_921_568_6, 0.75, 1.0 / 3.0, 1234.567, 1e-9] {
        let (multiplier, shift) = parts(factor);
        let back = f64::from(multiplier) / 2_f64.powi(shift as i32);
        let step = 0.5 / 2_f64.powi(shift as i32);
        assert!((back - factor).abs() <= step, "{factor}: {back}");
        assert!(multiplier >= 1 << 30 || shift == 62, "{factor}");
    }
    for wrong in [-1e-9, 2_147_483_648.0, f64::NAN, f64::INFINITY] {
        assert!(Scale::nearest(wrong).is_err(), "{wrong}");
    }
    assert!(Scale::new(1 << 31, 0).is_err());
    assert!(Scale::new(0, 63).is_err());
    let channels = [Scale::new(5, 6).unwrap(), Scale::new(7, 8).unwrap()];
    assert_eq!(Scale::table(&channels), [5, 7, 6, 8]);
}

#[test]
fn commands_can_be_read() {
    let copy = Command::copy(i8s(&[4]), i8s(&[4])).unwrap();
    assert_eq!(
        copy.to_string(),
        "COPY D I8 [1, 1, 1, 4] at 0x200000 A I8 [1, 1, 1, 4] at 0x200000"
    );
    for (opcode, expected) in [(0, Some("NOP")), (0x22, Some("ARGMAX")), (0x23, None)] {
        assert_eq!(name(opcode), expected);
    }
}
