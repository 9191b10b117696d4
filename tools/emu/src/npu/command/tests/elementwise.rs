// SPDX-License-Identifier: GPL-2.0
//! REQUANTIZE, ACTIVATE and ADD.

use super::*;

fn dims() -> impl Strategy<Value = [u32; 4]> {
    [1_u32..3, 1_u32..4, 1_u32..6, 1_u32..9]
}

/// An offset and limits, in the order of parameters.
fn limits() -> impl Strategy<Value = [i32; 3]> {
    (
        prop_oneof![Just(-128), Just(0), Just(127), -128..=127],
        prop_oneof![Just((-128, 127)), (-128..=127, -128..=127)],
    )
        .prop_map(|(offset, (x, y))| [offset, x.min(y), x.max(y)])
}

/// ((t + r) >> s) + offset within limits, from the formula.
fn narrow(t: i128, s: i128, [offset, lowest, highest]: [i32; 3]) -> i128 {
    let divisor = 1_i128 << s;
    let rounding = if s == 0 { 0 } else { divisor / 2 };
    let shifted = (t + rounding).div_euclid(divisor) + i128::from(offset);
    shifted.min(highest.into()).max(lowest.into())
}

fn words(parameters: &[i32]) -> [u32; 14] {
    let mut p = [0; 14];
    for (to, from) in p.iter_mut().zip(parameters) {
        *to = *from as u32;
    }
    p
}

/// Numbers at the edges, and any.
fn edges() -> impl Strategy<Value = i32> {
    prop_oneof![
        Just(i32::MIN),
        Just(i32::MAX),
        Just(0),
        -300..300,
        any::<i32>(),
    ]
}

fn multiplier() -> impl Strategy<Value = i32> {
    prop_oneof![Just(0), Just(1), Just(i32::MAX), 0..=i32::MAX]
}

fn put(memory: &mut [u8], op: &Op, values: &[i32]) {
    for (index, value) in op.indices().zip(values.iter().cycle()) {
        let offset = (op.at(index) - BASE) as usize;
        memory[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// An operand that overlaps no other: the `part`th quarter of memory has it alone.
fn apart(mut op: Op, part: u64) -> Op {
    op.address = BASE + part * (ARENA as u64 / 4);
    op
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn requantize_is_exact(
        (d, a, b, c, dims) in dims().prop_flat_map(|dims| (
            layout(I8, dims),
            layout(I32, dims),
            prop::option::of(layout(I32, [1, 1, 1, dims[3]])),
            layout(I32, [1, 1, 2, dims[3]]),
            Just(dims),
        )),
        bytes in bytes(),
        inputs in vec(edges(), 20),
        biases in vec(edges(), 8),
        scales in vec((multiplier(), prop_oneof![Just(0), Just(1), Just(62), 0..=62]), 8),
        limits in limits(),
    ) {
        let mut bytes = bytes;
        // Inputs where they are not disturbed by others; D is anywhere.
        let a = if d.strides[0] % 2 == 0 { apart(Op::dense(0, I32, dims), 1) } else { a };
        let b = b.map(|b| apart(Op::dense(0, I32, b.dims), 2));
        let c = apart(Op { strides: [0, 0, c.dims[3] * 4, 4], ..c }, 3);
        put(&mut bytes, &a, &inputs);
        if let Some(b) = &b {
            put(&mut bytes, b, &biases);
        }
        let channels = dims[3] as usize;
        let (m, s): (Vec<i32>, Vec<i32>) = scales.iter().copied().take(channels).unzip();
        put(&mut bytes, &c, &[m, s].concat());
        let spec = Spec { opcode: 0x12, p: words(&limits), d: Some(d), a: Some(a), b, c: Some(c), ..Spec::default() };
        check(&spec, &Fake::new(bytes), |image, index| {
            let x = index[3];
            let bias = b.map_or(0, |b| b.int(image, [0, 0, 0, x]));
            let t = (a.int(image, index) + bias) * c.int(image, [0, 0, 0, x]);
            Expect::Int(narrow(t, c.int(image, [0, 0, 1, x]), limits))
        });
    }

    #[test]
    fn requantize_in_any_layout(
        (d, a, b, c) in dims().prop_flat_map(|dims| (
            layout(I8, dims),
            layout(I32, dims),
            layout(I32, [1, 1, 1, dims[3]]),
            layout(I32, [1, 1, 2, dims[3]]),
        )),
        scale in 0..=62,
        bytes in bytes(),
    ) {
        // Multipliers and shifts are the same number: all of C may be in one place.
        let mut bytes = bytes;
        put(&mut bytes, &c, &[scale]);
        let spec = Spec { opcode: 0x12, p: words(&[3, -100, 99]), d: Some(d), a: Some(a), b: Some(b), c: Some(c), ..Spec::default() };
        check(&spec, &Fake::new(bytes), |image, index| {
            let t = (a.int(image, index) + b.int(image, [0, 0, 0, index[3]])) * i128::from(scale);
            Expect::Int(narrow(t, scale.into(), [3, -100, 99]))
        });
    }

    #[test]
    fn add_of_i8_is_exact(
        [d, a, b] in dims().prop_flat_map(|dims| [layout(I8, dims), layout(I8, dims), layout(I8, dims)]),
        bytes in bytes(),
        zeros in [-128..=127, -128..=127],
        scales in [multiplier(), multiplier()],
        shift in 0..=62,
        limits in limits(),
    ) {
        let p = words(&[zeros.as_slice(), &scales, &[shift], &limits].concat());
        let spec = Spec { opcode: 0x14, p, d: Some(d), a: Some(a), b: Some(b), ..Spec::default() };
        check(&spec, &Fake::new(bytes), |image, index| {
            let scaled = |op: &Op, i: usize| (op.int(image, index) - i128::from(zeros[i])) * i128::from(scales[i]);
            Expect::Int(narrow(scaled(&a, 0) + scaled(&b, 1), shift.into(), limits))
        });
    }

    #[test]
    fn add_of_f32_is_rounded_once(
        [d, a, b] in dims().prop_flat_map(|dims| [layout(F32, dims), layout(F32, dims), layout(F32, dims)]),
        bytes in floats(F32, 30),
    ) {
        let spec = Spec { opcode: 0x14, d: Some(d), a: Some(a), b: Some(b), ..Spec::default() };
        check(&spec, &Fake::new(bytes), |image, index| {
            // The sum of such numbers is exact in F64.
            let sum = a.float(image, index) + b.float(image, index);
            Expect::Bytes((sum as f32).to_le_bytes().to_vec())
        });
    }

    #[test]
    fn activate_is_near(
        (d, a, b) in (prop_oneof![Just(F32), Just(BF16)], dims()).prop_flat_map(|(kind, dims)| (
            layout(kind, dims),
            layout(F32, dims),
            prop::option::of(layout(F32, [1, 1, 1, dims[3]])),
        )),
        f in 0_u32..7,
        scale in prop_oneof![Just(1.0), Just(0.0), -4_f32..4.0],
        bytes in floats(F32, 4),
    ) {
        let mut spec = Spec { opcode: 0x13, d: Some(d), a: Some(a), b, ..Spec::default() };
        spec.p[..2].copy_from_slice(&[f, scale.to_bits()]);
        check(&spec, &Fake::new(bytes), |image, index| {
            let bias = b.map_or(0.0, |b| b.float(image, [0, 0, 0, index[3]]));
            near(f, f64::from(scale) * a.float(image, index) + bias, d.kind)
        });
    }
}

/// f(x) with the tolerance of a type.
fn near(f: u32, x: f64, kind: u32) -> Expect {
    let value = reference(f, x);
    let rounding = match kind {
        // Half the last of 8 bits, or of the smallest numbers.
        BF16 => (value.abs() * 2_f64.powi(-8)).max(2_f64.powi(-134)),
        _ => 0.0,
    };
    Expect::Near(value, 2_f64.powi(-18) * (1.0 + value.abs()) + rounding)
}

/// The functions, written with others.
fn reference(f: u32, x: f64) -> f64 {
    let logistic = |x: f64| 0.5 + 0.5 * (x / 2.0).tanh();
    match f {
        0 => x,
        1 => (x + x.abs()) / 2.0,
        2 => ((x + x.abs()) / 2.0).min(6.0),
        3 => logistic(x),
        4 => {
            let y = (-2.0 * x.abs()).exp_m1();
            (-y / (y + 2.0)).copysign(x)
        }
        5 => x * (0.5 + normal_integral(x)),
        _ => x * logistic(x),
    }
}

/// The integral of the normal distribution's density from 0 to x, by Simpson's rule.
fn normal_integral(x: f64) -> f64 {
    const STEPS: i32 = 400;
    let x = x.clamp(-12.0, 12.0);
    let step = x / f64::from(STEPS);
    let density = |i: i32| {
        let x = step * f64::from(i);
        (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
    };
    let inner: f64 = (1..STEPS)
        .map(|i| f64::from(2 + 2 * (i % 2)) * density(i))
        .sum();
    step / 3.0 * (density(0) + inner + density(STEPS))
}

/// What `f` gives for one number.
fn activated(f: u32, kind: u32, scale: f32, x: f32) -> f64 {
    let mut bytes = vec![0; 64];
    bytes[..4].copy_from_slice(&x.to_le_bytes());
    let memory = Fake::new(bytes);
    let d = Op::dense(32, kind, [1; 4]);
    let mut spec = Spec {
        opcode: 0x13,
        d: Some(d),
        a: Some(Op::dense(0, F32, [1; 4])),
        ..Spec::default()
    };
    spec.p[..2].copy_from_slice(&[f, scale.to_bits()]);
    assert_eq!(spec.run(&memory), Ok(()));
    d.float(&memory.image(), [0; 4])
}

#[test]
fn activate_at_the_edges() {
    let (inf, max) = (f32::INFINITY, f32::MAX);
    for kind in [F32, BF16] {
        for f in 0..7 {
            assert!(activated(f, kind, 1.0, f32::NAN).is_nan());
            assert!(activated(f, kind, f32::NAN, 1.0).is_nan());
            // Limits at the ends, of which the greatest numbers are as good as infinite.
            let (low, high) = match f {
                0 => (f64::NEG_INFINITY, f64::INFINITY),
                1 | 5 | 6 => (0.0, f64::INFINITY),
                2 => (0.0, 6.0),
                3 => (0.0, 1.0),
                _ => (-1.0, 1.0),
            };
            assert_eq!(activated(f, kind, 1.0, inf), high, "f {f}");
            assert_eq!(activated(f, kind, 1.0, -inf), low, "f {f}");
            assert_eq!(activated(f, kind, max, max), high, "f {f}");
            assert_eq!(activated(f, kind, max, -max), low, "f {f}");
            let zero = if f == 3 { 0.5 } else { 0.0 };
            assert_eq!(activated(f, kind, 1.0, 0.0), zero);
        }
    }
    assert_eq!(activated(0, F32, 1.0, 1e-45), 1.401_298_464_324_817e-45);
}
