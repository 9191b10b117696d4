// SPDX-License-Identifier: GPL-2.0
//! POOL, SOFTMAX and ARGMAX.

use super::*;

fn dims() -> impl Strategy<Value = [u32; 4]> {
    [1_u32..3, 1_u32..4, 1_u32..6, 1_u32..12]
}

/// A pooling: parameters p1 to p3 as pairs, and dimensions of A and D.
#[derive(Clone, Debug)]
struct Pooling {
    kernel: [u32; 2],
    strides: [u32; 2],
    padding: [u32; 2],
    input: [u32; 4],
    output: [u32; 4],
}

fn pooling() -> impl Strategy<Value = Pooling> {
    let pair = || [1_u32..5, 1_u32..5];
    (
        pair(),
        pair(),
        [0_u32..4, 0_u32..4],
        [1_u32..3, 1_u32..9, 1_u32..9, 1_u32..7],
        [1_u32..7, 1_u32..7],
    )
        .prop_map(|(kernel, strides, padding, input, [oh, ow])| Pooling {
            kernel,
            strides,
            padding,
            input,
            output: [input[0], oh, ow, input[3]],
        })
}

impl Pooling {
    /// The elements of A in the window of an element of D.
    fn window(&self, [n, y, x, c]: [u32; 4]) -> Vec<[u32; 4]> {
        let mut window = Vec::new();
        for row in 0..self.input[1] {
            for column in 0..self.input[2] {
                let inside = |axis: usize, position: u32, at: u32| {
                    let first = position * self.strides[axis];
                    (first..first + self.kernel[axis]).contains(&(at + self.padding[axis]))
                };
                if inside(0, y, row) && inside(1, x, column) {
                    window.push([n, row, column, c]);
                }
            }
        }
        window
    }

    fn spec(&self, d: Op, a: Op, mean: bool) -> Spec {
        let mut spec = Spec {
            opcode: 0x20,
            d: Some(d),
            a: Some(a),
            ..Spec::default()
        };
        spec.p[..4].copy_from_slice(&[
            mean.into(),
            pair(self.kernel),
            pair(self.strides),
            pair(self.padding),
        ]);
        spec
    }

    fn check(&self, d: Op, a: Op, mean: bool, memory: &Fake) {
        let spec = self.spec(d, a, mean);
        if d.indices().any(|index| self.window(index).is_empty()) {
            assert_eq!(spec.run(memory), Err(Failure::Operand), "{spec:?}");
            return;
        }
        check(&spec, memory, |image, index| {
            let window = self.window(index);
            let count = window.len();
            if a.kind == I8 {
                let values = window.iter().map(|i| a.int(image, *i));
                if !mean {
                    return Expect::Int(values.max().unwrap());
                }
                // Ties away from 0 are what `round` does; such quotients are exact enough.
                let sum: i128 = values.sum();
                return Expect::Int((sum as f64 / count as f64).round() as i128);
            }
            let values: Vec<f64> = window.iter().map(|i| a.float(image, *i)).collect();
            if !mean {
                return Expect::Near(values.into_iter().reduce(f64::max).unwrap(), 0.0);
            }
            let [sum, magnitude] = [|x: f64| x, f64::abs]
                .map(|f| values.iter().map(|x| f(*x)).sum::<f64>() / count as f64);
            let elements = f64::from(self.kernel[0] * self.kernel[1]);
            Expect::Near(sum, elements * 2_f64.powi(-23) * magnitude)
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn pool_of_i8(
        (pooling, d, a) in pooling().prop_flat_map(|p| (Just(p.clone()), layout(I8, p.output), layout(I8, p.input))),
        mean in any::<bool>(),
        bytes in bytes(),
    ) {
        pooling.check(d, a, mean, &Fake::new(bytes));
    }

    #[test]
    fn pool_of_f32(
        (pooling, d, a) in pooling().prop_flat_map(|p| (Just(p.clone()), layout(F32, p.output), layout(F32, p.input))),
        mean in any::<bool>(),
        bytes in floats(F32, 20),
    ) {
        pooling.check(d, a, mean, &Fake::new(bytes));
    }

    #[test]
    fn softmax_is_near(
        (a, d) in (prop_oneof![Just(I8), Just(F32)], prop_oneof![Just(I8), Just(F32)], dims())
            .prop_flat_map(|(a, d, dims)| (layout(a, dims), layout(d, dims))),
        scale in prop_oneof![Just(1.0), Just(1e-3), 0.01_f32..2.0],
        bytes in floats(F32, 4),
    ) {
        let mut spec = Spec { opcode: 0x21, d: Some(d), a: Some(a), ..Spec::default() };
        spec.p[0] = scale.to_bits();
        check(&spec, &Fake::new(bytes), |image, [i, j, k, l]| {
            let power = |l: u32| (f64::from(scale) * a.float(image, [i, j, k, l])).exp();
            let y = power(l) / (0..a.dims[3]).map(power).sum::<f64>();
            match d.kind {
                F32 => Expect::Near(y, 2_f64.powi(-18)),
                _ => Expect::Near((256.0 * y + 0.5).floor().min(255.0) - 128.0, 1.0),
            }
        });
    }

    #[test]
    fn argmax_is_the_first_greatest(
        (a, d) in (prop_oneof![Just(I8), Just(I32), Just(F32)], dims())
            .prop_flat_map(|(a, dims)| (layout(a, dims), layout(I32, [dims[0], dims[1], dims[2], 1]))),
        bytes in bytes(),
    ) {
        let spec = Spec { opcode: 0x22, d: Some(d), a: Some(a), ..Spec::default() };
        check(&spec, &Fake::new(bytes), |image, [i, j, k, _]| {
            // From the end, so that the first of equal ones is the last that is taken.
            let mut best = (a.dims[3] - 1, f64::NAN);
            for l in (0..a.dims[3]).rev() {
                let value = a.float(image, [i, j, k, l]);
                if value >= best.1 || best.1.is_nan() {
                    best = (l, value);
                }
            }
            Expect::Int(best.0.into())
        });
    }
}

/// One row of F32, and what an opcode makes of it in an output with as many elements.
fn row(opcode: u16, kind: u32, row: &[f32], p: [u32; 4], count: u32) -> (Op, Vec<u8>) {
    let mut bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
    bytes.resize(2 * bytes.len() + 64, 0);
    let memory = Fake::new(bytes);
    let d = Op::dense(4 * row.len() as u64, kind, [1, 1, 1, count]);
    let mut dims = [1, 1, 1, row.len() as u32];
    if opcode == 0x20 {
        dims = [1, 1, row.len() as u32, 1];
    }
    let mut spec = Spec {
        opcode,
        d: Some(d),
        a: Some(Op::dense(0, F32, dims)),
        ..Spec::default()
    };
    spec.p[..4].copy_from_slice(&p);
    assert_eq!(spec.run(&memory), Ok(()));
    (d, memory.image())
}

#[test]
fn argmax_of_nans_and_infinities() {
    let nan = f32::NAN;
    let inf = f32::INFINITY;
    for (values, want) in [
        (&[nan, nan][..], 0),
        (&[nan, -inf, nan, -inf], 1),
        (&[1.0, nan, 2.0, 2.0], 2),
        (&[-0.0, 0.0], 0),
        (&[nan, inf, inf], 1),
        (&[-inf, -inf], 0),
    ] {
        let (d, image) = row(0x22, I32, values, [0; 4], 1);
        assert_eq!(d.int(&image, [0; 4]), want, "{values:?}");
    }
}

#[test]
fn softmax_at_the_edges() {
    let one = 1_f32.to_bits();
    let values = |values: &[f32], scale: u32, kind: u32| -> Vec<f64> {
        let count = values.len() as u32;
        let (d, image) = row(0x21, kind, values, [scale, 0, 0, 0], count);
        d.indices().map(|index| d.float(&image, index)).collect()
    };
    // Far beyond what exp can do alone.
    assert_eq!(values(&[1e30, 1e30, -1e30], one, F32), [0.5, 0.5, 0.0]);
    assert_eq!(
        values(&[f32::MAX, f32::MIN], f32::MAX.to_bits(), F32),
        [1.0, 0.0]
    );
    assert_eq!(values(&[7.0], one, I8), [127.0]);
    assert_eq!(values(&[7.0, 7.0], one, I8), [0.0, 0.0]);
    assert_eq!(values(&[0.0, -100.0], one, I8), [127.0, -128.0]);
    assert!(
        values(&[f32::NAN, 1.0], one, F32)
            .iter()
            .all(|y| y.is_nan())
    );
    assert_eq!(values(&[f32::NEG_INFINITY, 1.0], one, F32), [0.0, 1.0]);
    // Longer than what is computed at a time.
    let uniform = values(&[3.0; 10_000], one, F32);
    assert!(uniform.iter().all(|y| (y - 1e-4).abs() < 1e-9));
}

#[test]
fn pool_of_nans_and_many_elements() {
    let p = |mean, columns| [mean, pair([1, columns]), pair([1, 1]), 0];
    let (d, image) = row(0x20, F32, &[1.0, f32::NAN, 3.0], p(0, 3), 1);
    assert!(d.float(&image, [0; 4]).is_nan());
    let (d, image) = row(0x20, F32, &[f32::NEG_INFINITY; 3], p(0, 3), 1);
    assert_eq!(d.float(&image, [0; 4]), f64::NEG_INFINITY);
    // A sum that F32 could not hold.
    let (d, image) = row(0x20, F32, &[3e38; 1000], p(1, 1000), 1);
    assert_eq!(d.float(&image, [0; 4]), f64::from(3e38_f32));
}

#[test]
fn pool_with_many_channels() {
    let pooling = Pooling {
        kernel: [2, 3],
        strides: [1, 2],
        padding: [1, 1],
        input: [1, 3, 4, 2100],
        output: [1, 3, 2, 2100],
    };
    let mut next = random(3);
    let bytes: Vec<u8> = (0..96 << 10).map(|_| next() as u8).collect();
    for mean in [false, true] {
        let (d, a) = (
            Op::dense(50_000, I8, pooling.output),
            Op::dense(0, I8, pooling.input),
        );
        pooling.check(d, a, mean, &Fake::new(bytes.clone()));
    }
}
