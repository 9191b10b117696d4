// SPDX-License-Identifier: GPL-2.0
//! MATMUL and CONV2D.

use super::*;

/// The types that go together: of A and B, of D, and the greatest magnitude in tests as power of
/// two.
#[derive(Clone, Copy, Debug)]
struct Types(u32, u32);

fn types() -> impl Strategy<Value = Types> {
    prop_oneof![
        Just(Types(I8, I32)),
        Just(Types(BF16, F32)),
        Just(Types(F32, F32)),
    ]
}

/// What memory holds, so that elements of such a type are numbers that are neither too large nor
/// too small.
fn contents(types: Types) -> BoxedStrategy<Vec<u8>> {
    match types.0 {
        I8 => bytes().boxed(),
        kind => floats(kind, 20).boxed(),
    }
}

/// Zero points for a type, as parameters.
fn zeros(types: Types) -> BoxedStrategy<[i32; 2]> {
    match types.0 {
        I8 => prop_oneof![
            Just([-128, 127]),
            Just([0, 0]),
            [-128..=127_i32, -128..=127_i32],
        ]
        .boxed(),
        _ => Just([0, 0]).boxed(),
    }
}

/// Compares with sums of what `terms` gives for an index of D: pairs of elements of A and B.
fn check_sums(
    spec: &Spec,
    memory: &Fake,
    terms: impl Fn([u32; 4]) -> Vec<([u32; 4], [u32; 4])>,
    depth: u32,
) {
    let (d, a, b) = (spec.d.unwrap(), spec.a.unwrap(), spec.b.unwrap());
    let zeros = [spec.p[0], spec.p[1]].map(|zero| i128::from(zero as i32));
    let accumulate = spec.flags == 1;
    check(spec, memory, |image, index| {
        let terms = terms(index);
        if a.kind == I8 {
            let old = if accumulate { d.int(image, index) } else { 0 };
            let sum: i128 = terms
                .iter()
                .map(|(i, j)| (a.int(image, *i) - zeros[0]) * (b.int(image, *j) - zeros[1]))
                .sum();
            return Expect::Int(old + sum);
        }
        let old = if accumulate {
            d.float(image, index)
        } else {
            0.0
        };
        let (mut sum, mut magnitude) = (old, old.abs());
        for (i, j) in terms {
            let product = a.float(image, i) * b.float(image, j);
            sum += product;
            magnitude += product.abs();
        }
        let ulps = f64::from(depth + 1 + u32::from(accumulate));
        Expect::Near(sum, ulps * 2_f64.powi(-23) * magnitude)
    });
}

fn check_matmul(spec: &Spec, memory: &Fake) {
    let depth = spec.a.unwrap().dims[3];
    let terms = |[i, j, m, n]: [u32; 4]| (0..depth).map(|k| ([i, j, m, k], [i, j, k, n])).collect();
    check_sums(spec, memory, terms, depth);
}

fn matmul() -> impl Strategy<Value = (Spec, Vec<u8>)> {
    let dims = prop_oneof![
        [1_u32..4, 1_u32..4, 1_u32..6, 1_u32..6, 1_u32..12],
        [1_u32..2, 1_u32..2, 1_u32..20, 1_u32..70, 1_u32..20],
    ];
    (types(), dims, any::<bool>())
        .prop_flat_map(|(types, [i, j, m, k, n], accumulate)| {
            (
                layout(types.1, [i, j, m, n]),
                layout(types.0, [i, j, m, k]),
                layout(types.0, [i, j, k, n]),
                zeros(types),
                contents(types),
                Just(accumulate),
            )
        })
        .prop_map(|(d, a, b, zeros, bytes, accumulate)| {
            let mut spec = Spec {
                opcode: 0x10,
                flags: accumulate.into(),
                d: Some(d),
                a: Some(a),
                b: Some(b),
                ..Spec::default()
            };
            spec.p[..2].copy_from_slice(&zeros.map(|zero| zero as u32));
            (spec, bytes)
        })
}

/// The numbers of a convolution, for rows and columns.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    images: u32,
    input: [u32; 2],
    output: [u32; 2],
    kernel: [u32; 2],
    strides: [u32; 2],
    dilations: [u32; 2],
    padding: [u32; 2],
    groups: u32,
    /// Channels of a group of A and of D.
    each: [u32; 2],
}

fn numbers() -> impl Strategy<Value = Numbers> {
    let small = || [1_u32..4, 1_u32..4];
    (
        1_u32..3,
        [1_u32..9, 1_u32..9],
        [1_u32..6, 1_u32..6],
        small(),
        (small(), small()),
        [0_u32..6, 0_u32..6],
        1_u32..4,
        prop_oneof![Just([1, 1]), [1_u32..5, 1_u32..5]],
    )
        .prop_map(
            |(images, input, output, kernel, (strides, dilations), padding, groups, each)| {
                Numbers {
                    images,
                    input,
                    output,
                    kernel,
                    strides,
                    dilations,
                    padding,
                    groups,
                    each,
                }
            },
        )
}

impl Numbers {
    fn dims(&self) -> [[u32; 4]; 3] {
        let Self {
            images,
            input: [h, w],
            output: [oh, ow],
            kernel: [kh, kw],
            groups: g,
            each: [c, o],
            ..
        } = *self;
        [
            [images, oh, ow, o * g],
            [images, h, w, c * g],
            [o * g, kh, kw, c],
        ]
    }

    fn spec(&self, d: Op, a: Op, b: Op, zeros: [i32; 2], accumulate: bool) -> Spec {
        let mut spec = Spec {
            opcode: 0x11,
            flags: accumulate.into(),
            d: Some(d),
            a: Some(a),
            b: Some(b),
            ..Spec::default()
        };
        spec.p[..6].copy_from_slice(&[
            zeros[0] as u32,
            zeros[1] as u32,
            pair(self.strides),
            pair(self.dilations),
            pair(self.padding),
            self.groups,
        ]);
        spec
    }

    fn check(&self, spec: &Spec, memory: &Fake) {
        let [kh, kw] = self.kernel;
        // Where in the input an element of a window is, if there.
        let place = |axis: usize, position: u32, element: u32| {
            let at = i64::from(position) * i64::from(self.strides[axis])
                - i64::from(self.padding[axis])
                + i64::from(element) * i64::from(self.dilations[axis]);
            let inside = 0 <= at && at < i64::from(self.input[axis]);
            inside.then_some(at as u32)
        };
        let terms = |[n, y, x, o]: [u32; 4]| {
            let mut terms = Vec::new();
            for i in 0..kh {
                for j in 0..kw {
                    for channel in 0..self.each[0] {
                        if let (Some(y), Some(x)) = (place(0, y, i), place(1, x, j)) {
                            let group = o / self.each[1];
                            let seen = group * self.each[0] + channel;
                            terms.push(([n, y, x, seen], [o, i, j, channel]));
                        }
                    }
                }
            }
            terms
        };
        check_sums(spec, memory, terms, kh * kw * self.each[0]);
    }
}

fn conv2d() -> impl Strategy<Value = (Numbers, Spec, Vec<u8>)> {
    (types(), numbers(), any::<bool>())
        .prop_flat_map(|(types, numbers, accumulate)| {
            let [d, a, b] = numbers.dims();
            (
                Just(numbers),
                layout(types.1, d),
                layout(types.0, a),
                layout(types.0, b),
                zeros(types),
                contents(types),
                Just(accumulate),
            )
        })
        .prop_map(|(numbers, d, a, b, zeros, bytes, accumulate)| {
            (numbers, numbers.spec(d, a, b, zeros, accumulate), bytes)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn matmul_is_a_sum_of_products((spec, bytes) in matmul()) {
        check_matmul(&spec, &Fake::new(bytes));
    }

    #[test]
    fn conv2d_is_a_sum_of_products((numbers, spec, bytes) in conv2d()) {
        numbers.check(&spec, &Fake::new(bytes));
    }
}

/// Fills memory for elements of one type.
fn memory_of(types: Types, length: usize) -> Fake {
    let mut next = random(7);
    let mut bytes = Vec::new();
    while bytes.len() < length {
        match types.0 {
            I8 => bytes.push(next() as u8),
            BF16 => bytes.extend([next() as u8, 0x3f + 0x80 * (next() as u8 % 2)]),
            _ => bytes.extend((next() as i32 as f32 / 1e9).to_le_bytes()),
        }
    }
    Fake::new(bytes)
}

#[test]
fn matmul_in_more_than_one_block() {
    for types in [Types(I8, I32), Types(BF16, F32), Types(F32, F32)] {
        let size = size_of(types.0) as u64;
        for [m, k, n] in [[131, 517, 259], [1, 600, 300], [70, 1025, 1], [65, 1, 129]] {
            let memory = memory_of(types, 4 << 20);
            let offset = u64::from(m * k) * size;
            for flags in [0, 1] {
                let spec = Spec {
                    opcode: 0x10,
                    flags,
                    d: Some(Op::dense(3 << 20, types.1, [1, 1, m, n])),
                    a: Some(Op::dense(0, types.0, [1, 1, m, k])),
                    b: Some(Op::dense(offset, types.0, [1, 1, k, n])),
                    ..Spec::default()
                };
                check_matmul(&spec, &memory);
            }
        }
    }
}

#[test]
fn conv2d_in_more_than_one_block() {
    let numbers = Numbers {
        images: 2,
        input: [9, 11],
        output: [9, 6],
        kernel: [2, 5],
        strides: [1, 2],
        dilations: [1, 1],
        padding: [1, 1],
        groups: 1,
        each: [37, 133],
    };
    let depthwise = Numbers {
        groups: 1500,
        each: [1, 1],
        ..numbers
    };
    let grouped = Numbers {
        groups: 3,
        each: [70, 20],
        ..numbers
    };
    for types in [Types(I8, I32), Types(BF16, F32), Types(F32, F32)] {
        let memory = memory_of(types, 8 << 20);
        for numbers in [numbers, depthwise, grouped] {
            let [d, a, b] = numbers.dims();
            let (d, a) = (Op::dense(6 << 20, types.1, d), Op::dense(0, types.0, a));
            let b = Op::dense(3 << 20, types.0, b);
            let zeros = if types.0 == I8 { [-7, 19] } else { [0, 0] };
            numbers.check(&numbers.spec(d, a, b, zeros, false), &memory);
        }
    }
}

#[test]
fn sums_of_i8_are_modulo_2_to_the_32() {
    // 2^16 products of 2^14 are 2^30.
    let k = 1 << 16;
    let mut memory = Fake::new(vec![0x80; 64]);
    let image = memory.image();
    let mut a = Op::dense(0, I8, [1, 1, 1, k]);
    a.strides[3] = 0;
    let mut b = Op::dense(0, I8, [1, 1, k, 1]);
    b.strides[2] = 0;
    let mut spec = Spec {
        opcode: 0x10,
        d: Some(Op::dense(16, I32, [1, 1, 1, 1])),
        a: Some(a),
        b: Some(b),
        ..Spec::default()
    };
    // With zero points (-128 - 127)^2 × 2^16, which is between 2^31 and 2^32.
    for (zero, want) in [(0, 1_u32 << 30), (127, 65_025_u32.wrapping_mul(1 << 16))] {
        spec.p[..2].fill(zero);
        assert_eq!(spec.run(&memory), Ok(()));
        let got = memory.image()[16..20].to_vec();
        assert_eq!(got, want.to_le_bytes());
    }
    // ACCUMULATE: twice 2^30 and once more.
    memory = Fake::new(image);
    spec.p[..2].fill(0);
    for (flags, want) in [(0, 1_u32 << 30), (1, 1 << 31), (1, 3 << 30), (1, 0)] {
        spec.flags = flags;
        assert_eq!(spec.run(&memory), Ok(()));
        assert_eq!(memory.image()[16..20], want.to_le_bytes());
    }
}

#[test]
fn floats_are_neither_lost_nor_too_large_on_the_way() {
    let words = [3e38_f32, 3e38, -3e38, 1.0, 1.0, 1.0, 0.0, 0.0];
    let memory = Fake::new(words.iter().flat_map(|x| x.to_le_bytes()).collect());
    let spec = Spec {
        opcode: 0x10,
        d: Some(Op::dense(24, F32, [1, 1, 1, 1])),
        a: Some(Op::dense(0, F32, [1, 1, 1, 3])),
        b: Some(Op::dense(12, F32, [1, 1, 3, 1])),
        ..Spec::default()
    };
    assert_eq!(spec.run(&memory), Ok(()));
    assert_eq!(memory.image()[24..28], 3e38_f32.to_le_bytes());
}

#[test]
fn padding_times_infinity_adds_nothing() {
    let mut words = vec![1.0_f32; 256];
    words[64..64 + 9 * 4].fill(f32::INFINITY);
    words[64 + 16..64 + 20].fill(2.0);
    for groups in [1, 2, 4] {
        let memory = Fake::new(words.iter().flat_map(|x| x.to_le_bytes()).collect());
        let numbers = Numbers {
            images: 1,
            input: [1, 1],
            output: [1, 1],
            kernel: [3, 3],
            strides: [1, 1],
            dilations: [1, 1],
            padding: [1, 1],
            groups,
            each: [4 / groups, 4 / groups],
        };
        let [d, a, b] = numbers.dims();
        let mut b = Op::dense(256, F32, b);
        // All outputs share their weights, of [3, 3, 4].
        b.strides = [0, 48, 16, 4];
        let (d, a) = (Op::dense(1024 - 16, F32, d), Op::dense(0, F32, a));
        let spec = numbers.spec(d, a, b, [0, 0], false);
        assert_eq!(spec.run(&memory), Ok(()));
        let want = (2.0 * numbers.each[0] as f32).to_le_bytes();
        for got in memory.image()[1024 - 16..].chunks(4).take(4) {
            assert_eq!(got, want, "{groups} groups");
        }
    }
}
