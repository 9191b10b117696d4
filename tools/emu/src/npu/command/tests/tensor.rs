// SPDX-License-Identifier: GPL-2.0
//! COPY and FILL, and with them all that layouts of operands can be.

use super::*;
use crate::npu::command::context::Context;
use crate::npu::command::tensor::{bf16_from_f32, bf16_to_f32};

fn copy(d: Op, a: Op) -> Spec {
    Spec {
        opcode: 1,
        d: Some(d),
        a: Some(a),
        ..Spec::default()
    }
}

fn check_copy(memory: &Fake, d: Op, a: Op) {
    check(&copy(d, a), memory, |image, index| {
        Expect::Bytes(a.bytes(image, index).to_vec())
    });
}

/// Dimensions of up to a few hundred elements.
fn dims() -> impl Strategy<Value = [u32; 4]> {
    prop_oneof![
        [1_u32..5, 1_u32..5, 1_u32..6, 1_u32..8],
        [1_u32..2, 1_u32..3, 1_u32..40, 1_u32..40],
        [1_u32..200, 1_u32..2, 1_u32..3, 1_u32..2],
    ]
}

fn kind() -> impl Strategy<Value = u32> {
    I8..=F32
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn copy_in_any_layout(
        (d, a) in (kind(), dims()).prop_flat_map(|(k, dims)| (layout(k, dims), layout(k, dims))),
        bytes in bytes(),
    ) {
        check_copy(&Fake::new(bytes), d, a);
    }

    #[test]
    fn fill_in_any_layout(
        d in (kind(), dims()).prop_flat_map(|(k, dims)| layout(k, dims)),
        value in any::<u32>(),
        bytes in bytes(),
    ) {
        let mut spec = Spec { opcode: 2, d: Some(d), ..Spec::default() };
        spec.p[0] = value;
        check(&spec, &Fake::new(bytes), |_, _| Expect::Int(value.into()));
    }

    #[test]
    fn bf16_is_rounded_to_nearest(bits in any::<u32>()) {
        check_rounding(bits);
    }
}

/// Against both neighbours.
fn check_rounding(bits: u32) {
    let value = f32::from_bits(bits);
    let got = bf16_to_f32(bf16_from_f32(value));
    if value.is_nan() {
        assert!(got.is_nan());
        return;
    }
    // As if the exponent went on: what is beyond the largest finite number counts as 2^128.
    let wide = |bits: u32| match f32::from_bits(bits) {
        x if x.is_infinite() => 2_f64.powi(128).copysign(x.into()),
        x => f64::from(x),
    };
    let below = bits & 0xffff_0000;
    let above = below.wrapping_add(0x1_0000);
    let (to_below, to_above) = (
        (wide(bits) - wide(below)).abs(),
        (wide(above) - wide(bits)).abs(),
    );
    let want = if value.is_infinite() || to_below < to_above {
        below
    } else if to_above < to_below {
        above
    } else {
        [below, above][usize::from(below & 0x1_0000 != 0)]
    };
    assert_eq!(got.to_bits(), want, "{bits:#x}");
}

#[test]
fn bf16_edges() {
    for high in [
        0, 1, 0x7f, 0x80, 0x3f80, 0x3f81, 0x7f7e, 0x7f7f, 0x7f80, 0x7f81, 0x7fff,
    ] {
        for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
            check_rounding((high << 16) | low);
            check_rounding(0x8000_0000 | (high << 16) | low);
        }
    }
}

/// Numbered bytes.
fn numbered(length: usize) -> Fake {
    Fake::new(
        (0..length as u32)
            .map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8)
            .collect(),
    )
}

#[test]
fn copy_in_more_than_one_span() {
    let memory = numbered(3 << 20);
    // One long run at odd addresses, moved by less than its length.
    let dims = [1, 3, 1, 300_001];
    check_copy(
        &memory,
        Op::dense(12_345, U8, dims),
        Op::dense(12_346, U8, dims),
    );
    // Transposed, both ways.
    let dims = [1, 1, 700, 400];
    let mut transposed = Op::dense(1 << 20, I32, dims);
    transposed.strides = [0, 0, 4, 2800];
    check_copy(&memory, Op::dense(1_500_000, I32, dims), transposed);
    check_copy(&memory, transposed, Op::dense(12, I32, dims));
    // Every third byte; and pixels of 3 of 4 channels.
    let dims = [1, 1, 1, 300_000];
    let mut third = Op::dense(7, I8, dims);
    third.strides[3] = 3;
    check_copy(&memory, Op::dense(1 << 20, I8, dims), third);
    check_copy(&memory, third, Op::dense(1 << 20, I8, dims));
    let dims = [1, 300, 500, 3];
    let mut pixels = Op::dense(100, U8, dims);
    pixels.strides = [0, 2000, 4, 1];
    check_copy(&memory, Op::dense(1 << 21, U8, dims), pixels);
    check_copy(&memory, pixels, Op::dense(1 << 21, U8, dims));
    // One element for all, and one row for all.
    let dims = [2, 300, 10, 100];
    let mut one = Op::dense(5, I8, dims);
    one.strides = [0; 4];
    check_copy(&memory, Op::dense(1 << 20, I8, dims), one);
    one.strides = [0, 0, 0, 1];
    check_copy(&memory, Op::dense(1 << 20, I8, dims), one);
}

#[test]
fn fill_in_more_than_one_span() {
    let memory = numbered(3 << 20);
    let mut spec = Spec {
        opcode: 2,
        d: Some(Op::dense(4098, BF16, [5, 1, 70_001, 2])),
        ..Spec::default()
    };
    spec.p[0] = 0xdead_beef;
    check(&spec, &memory, |_, _| Expect::Int(0xbeef));
}

#[test]
fn copy_between_two_addresses_of_the_same_memory() {
    // Pages 4 to 7 are pages 0 to 3 once more: only who reads everything first gets it right.
    let mut memory = numbered(8 * PAGE);
    memory.pages = vec![0, 1, 2, 3, 0, 1, 2, 3];
    let before = memory.image();
    let dims = [1, 1, 1, 3 * PAGE as u32];
    let spec = copy(
        Op::dense(4 * PAGE as u64 + 100, U8, dims),
        Op::dense(0, U8, dims),
    );
    assert_eq!(spec.run(&memory), Ok(()));
    let after = memory.image();
    assert_eq!(after[100..100 + 3 * PAGE], before[..3 * PAGE]);
}

#[test]
fn a_gap_is_not_accessed_beyond_the_pages_of_elements() {
    // Elements in pages 0 and 2: page 1 may be forbidden.
    let mut memory = numbered(4 * PAGE);
    let page = BASE + PAGE as u64..BASE + 2 * PAGE as u64;
    memory.refused = [Access::Read, Access::Write]
        .map(|access| {
            let fault = Failure::Fault {
                address: 0,
                access,
                kind: 2,
            };
            (page.clone(), access, fault)
        })
        .to_vec();
    for last in [2 * PAGE as u64, 2 * PAGE as u64 + 16, 3 * PAGE as u64] {
        let dims = [1, 1, 2, 1000];
        let mut a = Op::dense(PAGE as u64 - 1000, U8, dims);
        a.strides[2] = (last - (PAGE as u64 - 1000)) as u32;
        check_copy(&memory, Op::dense(16, U8, dims), a);
        check_copy(&memory, a, Op::dense(16, U8, dims));
    }
    assert_eq!(memory.refusals.load(Relaxed), 0);
}

#[test]
fn looks_at_aborted_first_and_then_now_and_then() {
    let memory = numbered(PAGE);
    let looks = std::cell::Cell::new(0);
    let aborted = || {
        looks.set(looks.get() + 1);
        looks.get() == 3
    };
    let context = Context::new(&memory, &aborted);
    assert_eq!(context.spend(1), Ok(()));
    assert_eq!(looks.get(), 1);
    for _ in 0..10 {
        assert_eq!(context.spend(9_000), Ok(()));
    }
    assert_eq!(looks.get(), 1);
    assert_eq!(context.spend(11_000), Ok(()));
    assert_eq!(looks.get(), 2);
    assert_eq!(context.spend(u64::MAX), Err(Failure::Aborted));
}
