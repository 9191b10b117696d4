// SPDX-License-Identifier: GPL-2.0
//! Everything that is refused, and for which reason.

use super::hostile::Endless;
use super::*;
use crate::npu::command::{Engine, engine};

/// Commands that are right, with the least of operands: one of each opcode, and one that uses
/// each operand that can be left out.
pub fn right() -> Vec<Spec> {
    let op = |kind, dims| Some(Op::dense(0, kind, dims));
    let four = |kind| op(kind, [2, 3, 4, 5]);
    let one = |kind| op(kind, [1, 1, 1, 5]);
    let spec = |opcode, p: &[u32], [d, a, b, c]: [Option<Op>; 4]| {
        let mut spec = Spec {
            opcode,
            d,
            a,
            b,
            c,
            ..Spec::default()
        };
        spec.p[..p.len()].copy_from_slice(p);
        spec
    };
    let scale = 1_f32.to_bits();
    let c = Some(Op::dense(4096, I32, [1, 1, 2, 5]));
    let (m, n) = (op(F32, [2, 3, 4, 5]), op(F32, [2, 3, 5, 4]));
    vec![
        spec(0x00, &[], [None; 4]),
        spec(0x01, &[], [four(BF16), four(BF16), None, None]),
        spec(0x02, &[7], [four(U8), None, None, None]),
        spec(0x10, &[], [op(F32, [2, 3, 4, 4]), m, n, None]),
        spec(
            0x11,
            &[0, 0, 0x1_0001, 0x1_0001, 0, 1],
            [op(I32, [2, 3, 3, 7]), four(I8), op(I8, [7, 1, 2, 5]), None],
        ),
        spec(0x12, &[0, 0, 1], [four(I8), four(I32), None, c]),
        spec(0x12, &[0, 0, 1], [four(I8), four(I32), one(I32), c]),
        spec(0x13, &[0, scale], [four(BF16), four(F32), None, None]),
        spec(0x13, &[0, scale], [four(F32), four(F32), one(F32), None]),
        spec(0x14, &[], [four(F32), four(F32), four(F32), None]),
        spec(0x14, &[], [four(I8), four(I8), four(I8), None]),
        spec(
            0x20,
            &[0, 0x1_0001, 0x1_0001, 0],
            [op(I8, [2, 3, 4, 5]), four(I8), None, None],
        ),
        spec(0x21, &[scale], [four(I8), four(F32), None, None]),
        spec(0x22, &[], [op(I32, [2, 3, 4, 1]), four(I8), None, None]),
    ]
}

/// Memory of zeros.
pub fn zeros() -> Fake {
    Fake::new(vec![0; 2 * PAGE])
}

/// The right command of an opcode.
pub fn of(opcode: u16) -> Spec {
    right()
        .into_iter()
        .rev()
        .find(|spec| spec.opcode == opcode)
        .unwrap()
}

/// Changes the right command of an opcode, and says what comes of it.
fn changed(opcode: u16, change: impl Fn(&mut Spec)) -> Result<(), Failure> {
    let mut spec = of(opcode);
    change(&mut spec);
    let memory = zeros();
    let result = spec.run(&memory);
    if result.is_err() {
        assert_eq!(memory.image(), zeros().image(), "{spec:?}");
    }
    result
}

#[test]
fn right_commands_are_executed() {
    for spec in right() {
        assert_eq!(spec.run(&zeros()), Ok(()), "{spec:?}");
    }
}

#[test]
fn engines() {
    for opcode in 0..=u16::MAX {
        let mut command = [0; SIZE];
        command[..2].copy_from_slice(&opcode.to_le_bytes());
        let copies = opcode == 1 || opcode == 2;
        let want = if copies {
            Engine::Copy
        } else {
            Engine::Compute
        };
        assert_eq!(engine(&command), want);
    }
}

#[test]
fn unknown_opcodes_are_refused() {
    let known: Vec<u16> = right().iter().map(|spec| spec.opcode).collect();
    for opcode in (0..=u16::MAX).filter(|opcode| !known.contains(opcode)) {
        let spec = Spec {
            opcode,
            ..Spec::default()
        };
        assert_eq!(spec.run(&zeros()), Err(Failure::Opcode));
    }
}

/// How many parameters an opcode names, as the manual's table has it.
fn parameters(opcode: u16) -> usize {
    match opcode {
        0x02 | 0x21 => 1,
        0x10 | 0x13 => 2,
        0x11 => 6,
        0x12 => 3,
        0x14 => 8,
        0x20 => 4,
        _ => 0,
    }
}

#[test]
fn fields_that_must_be_zero_are_checked() {
    for right in right() {
        let refused = |change: &dyn Fn(&mut Spec)| {
            let mut spec = right.clone();
            change(&mut spec);
            assert_eq!(spec.run(&zeros()), Err(Failure::Opcode), "{spec:?}");
        };
        refused(&|spec| spec.zero = 1 << 31);
        let flag = u16::from(matches!(right.opcode, 0x10 | 0x11));
        for bit in (0..16).filter(|bit| *bit > 0 || flag == 0) {
            refused(&|spec| spec.flags = 1 << bit);
        }
        for i in parameters(right.opcode)..14 {
            refused(&|spec| spec.p[i] = 1);
        }
        // Every byte of operands that are not used, but for the type of those that may be; and
        // the word of those that are used.
        let operands = [right.d, right.a, right.b, right.c];
        for (i, operand) in operands.iter().enumerate() {
            for at in 0..48 {
                let checked = match operand {
                    None => {
                        let optional = matches!(right.opcode, 0x12 | 0x13) && i == 2;
                        !optional || !(8..12).contains(&at)
                    }
                    Some(_) => (12..16).contains(&at),
                };
                if checked {
                    let mut command = right.bytes();
                    command[64 + i * 48 + at] = 1;
                    let result = execute(&command, &zeros(), &|| false);
                    assert_eq!(result, Err(Failure::Opcode), "{i} {at} {right:?}");
                }
            }
        }
    }
}

#[test]
fn operands_are_checked_one_by_one() {
    for right in right() {
        for i in 0..4 {
            let refused = |change: &dyn Fn(&mut Op)| {
                let mut spec = right.clone();
                let operand = [&mut spec.d, &mut spec.a, &mut spec.b, &mut spec.c];
                let Some(op) = operand.into_iter().nth(i).unwrap() else {
                    return;
                };
                change(op);
                let result = spec.run(&zeros());
                assert_eq!(result, Err(Failure::Operand), "{spec:?}");
            };
            refused(&|op| op.kind = 6);
            refused(&|op| op.kind = u32::MAX);
            for j in 0..4 {
                refused(&|op| op.dims[j] = 0);
                refused(&|op| {
                    // What is of no size 1 is aligned.
                    match op.dims[j] > 1 && size_of(op.kind) > 1 {
                        true => op.strides[j] += 1,
                        false => op.kind = 0x100,
                    }
                });
            }
            refused(&|op| match size_of(op.kind) {
                1 => op.kind = 99,
                _ => op.address += 1,
            });
            if !(i == 2 && matches!(right.opcode, 0x12 | 0x13)) {
                refused(&|op| op.kind = 0);
            }
        }
    }
}

#[test]
fn operands_that_do_not_go_together_are_refused() {
    // Another number in any dimension of D, and of the others as far as that is wrong.
    for right in right() {
        for (i, operand) in [right.d, right.a, right.b, right.c].into_iter().enumerate() {
            for j in 0..4 {
                let free = match (right.opcode, i, j) {
                    // FILL has no other. A of ARGMAX has any last dimension.
                    (0x02, ..) | (0x22, 1, 3) => true,
                    // Height and width of a convolution's output and input, and its kernel.
                    (0x11, 0 | 1, 1 | 2) | (0x11, 2, 1 | 2) => true,
                    (0x20, 1, 1 | 2) => true,
                    _ => false,
                };
                let Some(op) = operand.filter(|_| !free) else {
                    continue;
                };
                let mut spec = right.clone();
                let wrong = Op::dense(0, op.kind, {
                    let mut dims = op.dims;
                    dims[j] += 1;
                    dims
                });
                *[&mut spec.d, &mut spec.a, &mut spec.b, &mut spec.c][i] = Some(wrong);
                assert_eq!(spec.run(&zeros()), Err(Failure::Operand), "{spec:?}");
            }
        }
    }
    // Types.
    let kinds = |spec: &mut Spec, kinds: [u32; 4]| {
        let operands = [&mut spec.d, &mut spec.a, &mut spec.b, &mut spec.c];
        for (op, kind) in operands.into_iter().zip(kinds) {
            if let Some(op) = op {
                *op = Op::dense(0, kind, op.dims);
            }
        }
    };
    let allowed: &[(u16, &[[u32; 3]])] = &[
        (0x10, &[[I32, I8, I8], [F32, BF16, BF16], [F32, F32, F32]]),
        (0x11, &[[I32, I8, I8], [F32, BF16, BF16], [F32, F32, F32]]),
        (0x12, &[[I8, I32, I32]]),
        (0x13, &[[F32, F32, F32], [BF16, F32, F32]]),
        (0x14, &[[I8, I8, I8], [F32, F32, F32]]),
    ];
    for (opcode, allowed) in allowed {
        for d in I8..=F32 {
            for a in I8..=F32 {
                for b in I8..=F32 {
                    let result = changed(*opcode, |spec| kinds(spec, [d, a, b, I32]));
                    let want = match allowed.contains(&[d, a, b]) {
                        true => Ok(()),
                        false => Err(Failure::Operand),
                    };
                    assert_eq!(result, want, "{opcode:#x} {d} {a} {b}");
                }
            }
        }
    }
    for d in I8..=F32 {
        for a in I8..=F32 {
            for (opcode, allowed) in [
                (0x01, d == a),
                (0x20, d == a && [I8, F32].contains(&d)),
                (0x21, [I8, F32].contains(&d) && [I8, F32].contains(&a)),
                (0x22, d == I32 && [I8, I32, F32].contains(&a)),
            ] {
                let result = changed(opcode, |spec| kinds(spec, [d, a, 0, 0]));
                let want = match allowed {
                    true => Ok(()),
                    false => Err(Failure::Operand),
                };
                assert_eq!(result, want, "{opcode:#x} {d} {a}");
            }
        }
        let c = changed(0x12, |spec| kinds(spec, [I8, I32, I32, d]));
        assert_eq!(c.is_ok(), d == I32);
    }
}

#[test]
fn parameters_are_checked() {
    let i8s = |spec: &mut Spec| {
        let operands = [&mut spec.d, &mut spec.a, &mut spec.b];
        for (op, kind) in operands.into_iter().zip([I32, I8, I8]) {
            op.as_mut().unwrap().kind = kind;
        }
    };
    let integer = |opcode: u16, index: usize, right: &[i32], wrong: &[i32]| {
        for (values, want) in [(right, Ok(())), (wrong, Err(Failure::Parameter))] {
            for value in values {
                let result = changed(opcode, |spec| {
                    if opcode == 0x10 {
                        i8s(spec);
                    }
                    spec.p[index] = *value as u32;
                });
                assert_eq!(result, want, "{opcode:#x} p{index} {value}");
            }
        }
    };
    let narrow = ([-128, 0, 127], [-129, 128, i32::MIN, i32::MAX]);
    for (opcode, index) in [
        (0x10, 0),
        (0x10, 1),
        (0x11, 0),
        (0x11, 1),
        (0x12, 0),
        (0x14, 0),
        (0x14, 1),
        (0x14, 5),
    ] {
        integer(opcode, index, &narrow.0, &narrow.1);
    }
    // Limits: the lower is 0, and the upper 1 or 0.
    integer(0x12, 1, &[-128, 1], &[-129, 2, i32::MIN]);
    integer(0x12, 2, &[0, 127], &[-1, 128]);
    integer(0x14, 6, &[-128, 0], &[-129, 1]);
    integer(0x14, 7, &[0, 127], &[-1, 128]);
    integer(0x14, 2, &[0, i32::MAX], &[-1, i32::MIN]);
    integer(0x14, 3, &[0, i32::MAX], &[-1, i32::MIN]);
    integer(0x14, 4, &[0, 62], &[-1, 63]);
    integer(0x13, 0, &[0, 1, 2, 3, 4, 5, 6], &[7, -1]);
    integer(0x20, 0, &[0, 1], &[2, -1]);
    // Pairs: strides and dilations of a convolution; kernel and strides of a pooling.
    for (opcode, index) in [(0x11, 2), (0x11, 3), (0x20, 1), (0x20, 2)] {
        integer(opcode, index, &[0x1_0001], &[0, 1, 0x1_0000]);
    }
    // Groups: 5 and 7 channels have no divisor in common but 1.
    integer(0x11, 5, &[1], &[0, 5, 7, 35, -1]);

    // Floats have none.
    for index in 0..2 {
        let result = changed(0x10, |spec| spec.p[index] = 1);
        assert_eq!(result, Err(Failure::Parameter));
    }
    for index in 0..8 {
        let result = changed(0x14, |spec| {
            for op in [&mut spec.d, &mut spec.a, &mut spec.b] {
                *op = Some(Op::dense(0, F32, op.unwrap().dims));
            }
            spec.p[index] = 1;
        });
        assert_eq!(result, Err(Failure::Parameter));
    }
    for (scale, right) in [
        (f32::MIN_POSITIVE, true),
        (1e-45, true),
        (f32::MAX, true),
        (0.0, false),
        (-0.0, false),
        (-1.0, false),
        (f32::INFINITY, false),
        (f32::NAN, false),
    ] {
        let result = changed(0x21, |spec| spec.p[0] = scale.to_bits());
        assert_eq!(result == Ok(()), right);
        assert!(right || result == Err(Failure::Parameter));
    }
    // Elements of C of REQUANTIZE.
    for (channel, value, right) in [
        ([0, 4], i32::MAX, true),
        ([0, 4], -1, false),
        ([1, 4], 62, true),
        ([1, 0], 63, false),
        ([1, 0], -1, false),
        ([1, 0], i32::MIN, false),
    ] {
        let spec = of(0x12);
        let at = (spec.c.unwrap().at([0, 0, channel[0], channel[1]]) - BASE) as usize;
        let mut image = zeros().image();
        image[at..at + 4].copy_from_slice(&i32::to_le_bytes(value));
        let result = spec.run(&Fake::new(image));
        let want = if right {
            Ok(())
        } else {
            Err(Failure::Parameter)
        };
        assert_eq!(result, want, "{channel:?} {value}");
    }
}

#[test]
fn checks_come_in_order() {
    // Everything is wrong; then one thing after the other is put right.
    let far = 1 << 48;
    let mut spec = of(0x20);
    spec.zero = 1;
    spec.p[0] = 2;
    let huge = [1 << 14, 1 << 14, 1, 5];
    spec.d = Some(Op::dense(0, I32, huge));
    spec.a = Some(Op::dense(0, F32, huge));
    spec.a.as_mut().unwrap().address = far;
    let run = |spec: &Spec| spec.run(&zeros());
    assert_eq!(run(&spec), Err(Failure::Opcode));
    spec.zero = 0;
    assert_eq!(run(&spec), Err(Failure::Operand));
    spec.d.as_mut().unwrap().kind = F32;
    assert_eq!(run(&spec), Err(Failure::Parameter));
    spec.p[0] = 1;
    assert_eq!(run(&spec), Err(Failure::TooLarge));
    for op in [&mut spec.d, &mut spec.a] {
        op.as_mut().unwrap().dims = [1; 4];
    }
    let address = far + 3;
    let access = Access::Read;
    let kind = 4;
    let fault = Failure::Fault {
        address,
        access,
        kind,
    };
    assert_eq!(run(&spec), Err(fault));
}

/// What comes of a command that is given up when it begins to work.
fn begun(spec: &Spec) -> Failure {
    execute(&spec.bytes(), &Endless, &|| true).unwrap_err()
}

#[test]
fn sizes_are_limited() {
    let fill = |dims| Spec {
        opcode: 2,
        d: Some(Op {
            strides: [0; 4],
            ..Op::dense(0, F32, [1; 4])
        })
        .map(|op| Op { dims, ..op }),
        ..Spec::default()
    };
    let most = u32::MAX;
    for dims in [[1 << 13, 1, 1 << 13, 1], [1, 1, 1, 1 << 26]] {
        assert_eq!(begun(&fill(dims)), Failure::Aborted);
    }
    for dims in [
        [1, 1, 1, (1 << 26) + 1],
        [1 << 13, 2, 1 << 13, 1],
        [most; 4],
        [1 << 16, 1 << 16, 1 << 16, 1 << 16],
        [most, 1, 1, 1],
    ] {
        assert_eq!(begun(&fill(dims)), Failure::TooLarge);
    }
    // One thing too large in any operand.
    let matmul = |[i, j, m, k, n]: [u32; 5]| {
        let op = |kind, dims| {
            Some(Op {
                dims,
                strides: [0; 4],
                ..Op::dense(0, kind, [1; 4])
            })
        };
        begun(&Spec {
            opcode: 0x10,
            d: op(I32, [i, j, m, n]),
            a: op(I8, [i, j, m, k]),
            b: op(I8, [i, j, k, n]),
            ..Spec::default()
        })
    };
    let large = 1 << 13;
    assert_eq!(matmul([1, 1, large, 64, large]), Failure::Aborted);
    assert_eq!(matmul([1, 1, large, 65, large]), Failure::TooLarge);
    assert_eq!(matmul([1, 1, large, 1, 1 << 14]), Failure::TooLarge);
    assert_eq!(matmul([1, 1, large, 1 << 14, 1]), Failure::TooLarge);
    assert_eq!(matmul([1, 1, 1, 1 << 14, large]), Failure::TooLarge);
    assert_eq!(matmul([1 << 10, 1 << 10, 1, 1, 64]), Failure::Aborted);
    assert_eq!(matmul([most; 5]), Failure::TooLarge);

    let windows = |opcode: u16, kernel: u32, output: u32, parameters: &[u32]| {
        let op = |kind, dims| {
            Some(Op {
                dims,
                strides: [0; 4],
                ..Op::dense(0, kind, [1; 4])
            })
        };
        let mut spec = Spec {
            opcode,
            a: op(I8, [1, 64, 64, 1]),
            ..Spec::default()
        };
        spec.p[..parameters.len()].copy_from_slice(parameters);
        if opcode == 0x11 {
            spec.d = op(I32, [1, output, 1, 1]);
            spec.b = op(I8, [1, kernel, 1, 1]);
        } else {
            spec.d = op(I8, [1, 1, output, 1]);
            spec.p[1] = pair([kernel, 1]);
        }
        begun(&spec)
    };
    let (ones, far) = (0x1_0001, 0xffff);
    let convolution = [0, 0, ones, ones, 0, 1];
    assert_eq!(
        windows(0x11, 1 << 16, 1 << 16, &convolution),
        Failure::Aborted
    );
    let result = windows(0x11, 1 << 16, (1 << 16) + 1, &convolution);
    assert_eq!(result, Failure::TooLarge);
    assert_eq!(windows(0x11, most, most, &convolution), Failure::TooLarge);
    let pooling = [0, 0, pair([1, 1]), far << 16];
    assert_eq!(windows(0x20, 1 << 15, 64, &pooling), Failure::Operand);
    let pooling = [0, 0, pair([1, 1]), 0];
    assert_eq!(windows(0x20, 1 << 15, 64, &pooling), Failure::Aborted);
    let mut spec = of(0x20);
    spec.p[1] = 0xffff_ffff;
    assert_eq!(begun(&spec), Failure::TooLarge);
}

#[test]
fn empty_windows_are_refused() {
    // 3 × 4 elements; a window for each row and column of the output.
    let pool = |rows: u32, columns: u32, strides: u32, padding: u32, output: [u32; 2]| {
        let mut spec = of(0x20);
        spec.a = Some(Op::dense(0, I8, [1, 3, 4, 1]));
        spec.d = Some(Op::dense(0, I8, [1, output[0], output[1], 1]));
        spec.p[..4].copy_from_slice(&[0, pair([rows, columns]), strides, padding]);
        spec.run(&zeros())
    };
    let ones = 0x1_0001;
    assert_eq!(pool(1, 1, ones, 0, [3, 4]), Ok(()));
    assert_eq!(pool(1, 1, ones, 0, [4, 4]), Err(Failure::Operand));
    assert_eq!(pool(1, 1, ones, 0, [3, 5]), Err(Failure::Operand));
    assert_eq!(pool(1, 1, ones, 1, [1, 1]), Err(Failure::Operand));
    assert_eq!(pool(2, 1, ones, 1, [4, 1]), Ok(()));
    assert_eq!(pool(2, 1, ones, 1, [5, 1]), Err(Failure::Operand));
    assert_eq!(pool(1, 1, 0x3_0001, 0, [1, 2]), Ok(()));
    assert_eq!(pool(1, 1, 0x4_0001, 0, [1, 2]), Err(Failure::Operand));
}

#[test]
fn addresses_have_48_bits() {
    let end = 1_u64 << 48;
    let address = |address: u64, strides: [u32; 4]| {
        let d = Op {
            address,
            kind: I32,
            zero: 0,
            dims: [1, 2, 3, 1],
            strides,
        };
        let mut command = Spec {
            opcode: 2,
            d: Some(d),
            ..Spec::default()
        };
        let fill = execute(&command.bytes(), &Endless, &|| false);
        command.opcode = 1;
        command.a = command.d;
        let copy = execute(&command.bytes(), &Endless, &|| false);
        (fill, copy)
    };
    let fault = |address, access| {
        Err(Failure::Fault {
            address,
            access,
            kind: 4,
        })
    };
    let both = |address| (fault(address, Access::Write), fault(address, Access::Read));
    let fine = (Ok(()), Ok(()));
    // 5 elements after the first one, or 1 of 2^32 - 4 bytes and 2 of 4.
    assert_eq!(address(end - 24, [0, 12, 4, 0]), fine);
    assert_eq!(address(end - 20, [0, 12, 4, 0]), both(end + 3));
    assert_eq!(address(end - 24, [u32::MAX, 12, 4, u32::MAX]), fine);
    let far = u32::MAX - 3;
    assert_eq!(address(end - (1 << 32) - 8, [0, far, 4, 0]), fine);
    assert_eq!(address(end - (1 << 32) - 4, [0, far, 4, 0]), both(end + 3));
    assert_eq!(address(end, [0; 4]), both(end + 3));
    let byte = |address| {
        let mut spec = Spec {
            opcode: 2,
            d: Some(Op::dense(0, U8, [1; 4])),
            ..Spec::default()
        };
        spec.d.as_mut().unwrap().address = address;
        execute(&spec.bytes(), &Endless, &|| false)
    };
    assert_eq!(byte(end - 1), Ok(()));
    assert_eq!(byte(end), fault(end, Access::Write));
    // No address is beyond what can be said.
    assert_eq!(address(u64::MAX - 3, [0; 4]), both(u64::MAX));
    assert_eq!(address(u64::MAX - 3, [0, 4, 4, 0]), both(u64::MAX));
}
