// SPDX-License-Identifier: GPL-2.0
//! Faults in the middle, giving up, and commands of random fields.

use std::cell::Cell;
use std::time::Duration;

use super::super::buffer::spare;
use super::refused::{of, right, zeros};
use super::*;

/// Memory that has everything, all zeros, and keeps nothing.
pub struct Endless;

impl Memory for Endless {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Failure> {
        assert!(!to.is_empty() && address + to.len() as u64 <= 1 << 48);
        to.fill(0);
        Ok(())
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), Failure> {
        assert!(!from.is_empty() && address + from.len() as u64 <= 1 << 48);
        Ok(())
    }
}

#[test]
fn faults_are_told_as_they_are() {
    for right in right() {
        let mut operands = vec![(right.a, Access::Read), (right.b, Access::Read)];
        operands.extend([(right.c, Access::Read), (right.d, Access::Write)]);
        if matches!(right.opcode, 0x10 | 0x11) {
            operands.push((right.d, Access::Read));
        }
        for (i, (operand, access)) in operands.iter().enumerate() {
            let Some(op) = operand else { continue };
            // Alone in two pages, its elements in every third place from one to the other.
            let far = 16 * PAGE as u64;
            let mut moved = *op;
            moved.address = BASE + far;
            for stride in &mut moved.strides {
                *stride *= 3;
            }
            let mut spec = right.clone();
            match i {
                0 => spec.a = Some(moved),
                1 => spec.b = Some(moved),
                2 => spec.c = Some(moved),
                _ => spec.d = Some(moved),
            }
            spec.flags = u16::from(i == 4);
            // The last element, and one in the middle.
            let last = moved.indices().last().unwrap();
            let middle = last.map(|i| i / 2);
            for index in [last, middle] {
                let at = moved.at(index);
                for failure in [
                    Failure::Fault {
                        address: at,
                        access: *access,
                        kind: 2,
                    },
                    Failure::Bus {
                        address: at,
                        access: *access,
                    },
                ] {
                    let mut memory = Fake::new(vec![0; 20 * PAGE]);
                    memory.refused = vec![(at..at + 1, *access, failure)];
                    assert_eq!(spec.run(&memory), Err(failure), "{spec:?}");
                    // With the other access it is nothing, unless both are made.
                    if i < 3 {
                        memory.refused[0].1 = Access::Write;
                        assert_eq!(spec.run(&memory), Ok(()));
                    }
                }
            }
        }
    }
}

#[test]
fn a_fault_in_a_gap_is_none() {
    let memory = Fake {
        refused: vec![(
            BASE + 4..BASE + 8,
            Access::Read,
            Failure::Bus {
                address: 0,
                access: Access::Read,
            },
        )],
        ..zeros()
    };
    let mut a = Op::dense(0, I32, [1, 1, 1, 2]);
    a.strides[3] = 8;
    let spec = Spec {
        opcode: 1,
        d: Some(Op::dense(64, I32, a.dims)),
        a: Some(a),
        ..Spec::default()
    };
    assert_eq!(spec.run(&memory), Ok(()));
}

/// Dimensions of commands with much work.
fn large(opcode: u16) -> Spec {
    let mut spec = of(opcode);
    let op = |kind, dims| Some(Op::dense(0, kind, dims));
    let dims = [2, 128, 128, 64];
    match opcode {
        0x10 => {
            spec.d = op(I32, [1, 1, 600, 700]);
            spec.a = op(I8, [1, 1, 600, 500]);
            spec.b = op(I8, [1, 1, 500, 700]);
        }
        0x11 => {
            spec.d = op(I32, [1, 40, 40, 128]);
            spec.a = op(I8, [1, 40, 40, 128]);
            spec.b = op(I8, [128, 3, 3, 128]);
        }
        0x12 => {
            spec.d = op(I8, dims);
            spec.a = op(I32, dims);
            spec.b = None;
            spec.c = op(I32, [1, 1, 2, 64]);
        }
        0x14 => {
            spec.d = op(I8, dims);
            spec.a = op(I8, dims);
            spec.b = op(I8, dims);
        }
        0x20 => {
            spec.d = op(F32, [2, 64, 64, 64]);
            spec.a = op(F32, dims);
            spec.p[..4].copy_from_slice(&[1, pair([8, 8]), pair([2, 2]), 0]);
        }
        0x22 => {
            spec.d = op(I32, [2, 128, 128, 1]);
            spec.a = op(F32, dims);
        }
        _ => {
            spec.d = op(F32, dims);
            spec.a = spec.a.and(op(F32, dims));
            spec.b = None;
        }
    }
    spec
}

/// The time that this thread has worked.
fn busy() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Executes a command on endless memory, gives it up after some time, and checks that it ends
/// soon. Returns how many times it looked.
fn hurry(command: &[u8; SIZE], patience: Duration) -> (u32, Result<(), Failure>) {
    let start = busy();
    let (last, longest, looks) = (
        Cell::new(start),
        Cell::new(Duration::ZERO),
        Cell::new(0_u32),
    );
    let look = || {
        let now = busy();
        longest.set(longest.get().max(now - last.replace(now)));
        looks.set(looks.get() + 1);
        now - start > patience
    };
    let result = execute(command, &Endless, &look);
    let looked = looks.get();
    look();
    // A millisecond is promised; tests are not built to be fast.
    let longest = longest.get();
    assert!(
        longest < Duration::from_millis(50),
        "{longest:?} {command:?}"
    );
    (looked, result)
}

#[test]
fn commands_are_given_up() {
    for opcode in [0x01, 0x02, 0x10, 0x11, 0x12, 0x13, 0x14, 0x20, 0x21, 0x22] {
        let command = large(opcode).bytes();
        let (all, result) = hurry(&command, Duration::from_secs(60));
        assert_eq!(result, Ok(()), "{opcode:#x}");
        // At any time: in the reading, in the work, in the writing.
        assert!(all > 20, "{opcode:#x}: {all}");
        for after in (0..all).step_by(all as usize / 5) {
            let looks = Cell::new(0);
            let aborted = || {
                looks.set(looks.get() + 1);
                looks.get() > after
            };
            let result = execute(&command, &Endless, &aborted);
            assert_eq!(result, Err(Failure::Aborted), "{opcode:#x}");
            assert_eq!(looks.get(), after + 1, "{opcode:#x}");
        }
    }
}

/// Commands that hold as much as a command may, each operand made of one element. With how many
/// buffers, and after how many looks they have them all and work.
fn largest() -> [(Spec, usize, u32); 4] {
    let most = 1 << 26;
    let op = |kind, dims| {
        Some(Op {
            strides: [0; 4],
            ..Op::dense(0, kind, dims)
        })
    };
    let spec = |opcode, flags, d, a, b| Spec {
        flags,
        d,
        a,
        b,
        ..of(opcode)
    };
    let (many, row) = (op(F32, [most, 1, 1, 1]), op(F32, [1, 1, 1, most]));
    let tall = op(F32, [1, most, 1, 1]);
    [
        (spec(0x01, 0, row, row, None), 1, 1_500),
        (spec(0x21, 0, row, row, None), 2, 3_000),
        (spec(0x10, 1, many, many, many), 3, 8_000),
        (spec(0x11, 1, row, tall, many), 4, 20_000),
    ]
}

#[test]
fn giving_up_frees_nothing() {
    for (spec, buffers, looks) in largest() {
        let kept = spare();
        let (looked, gave_up) = (Cell::new(0), Cell::new(Duration::ZERO));
        let aborted = || {
            looked.set(looked.get() + 1);
            gave_up.set(busy());
            looked.get() > looks
        };
        let result = execute(&spec.bytes(), &Endless, &aborted);
        let took = busy() - gave_up.get();
        assert_eq!(result, Err(Failure::Aborted), "{spec:?}");
        // To give back to the system what they hold takes several times as long.
        assert!(took < Duration::from_millis(5), "{took:?} {spec:?}");
        assert!(spare().is_superset(&kept), "{spec:?}");
        assert_eq!(spare().len(), buffers, "{spec:?}");
    }
    // Whatever comes, there are no more, and they are all there.
    let kept = spare();
    for spec in right() {
        assert_eq!(spec.run(&zeros()), Ok(()), "{spec:?}");
    }
    let mut nowhere = of(0x10);
    nowhere.b.as_mut().unwrap().address = 0;
    assert!(nowhere.run(&zeros()).is_err());
    assert_eq!(spare(), kept);
}

#[test]
fn windows_of_padding_only_are_work() {
    let op = |kind, height| Some(Op::dense(0, kind, [1, height, 1, 1]));
    let mut spec = of(0x11);
    (spec.d, spec.a, spec.b) = (op(I32, 64), op(I8, 1 << 26), op(I8, 1 << 26));
    spec.p[4] = pair([0, 1]);
    let (_, result) = hurry(&spec.bytes(), Duration::from_secs(1));
    assert_eq!(result, Err(Failure::Aborted));
}

/// A number of any magnitude below 2^`bits`.
fn magnitude(next: &mut impl FnMut() -> u64, bits: u64) -> u32 {
    let shift = next() % (bits + 1);
    (((next() << 20) ^ next()) & ((1 << shift) - 1)) as u32 + u32::from(next() % 4 != 0)
}

/// A command of which most fields are right and sizes are often near the limits.
fn any_command(seed: u64) -> [u8; SIZE] {
    let mut next = random(seed);
    let next = &mut next;
    let choice = right();
    let mut spec = choice[next() as usize % choice.len()].clone();

    // New sizes that fit together.
    let mut left = 27_u64;
    let mut dim = |next: &mut _, most: u64| {
        let dim = magnitude(next, most.min(left)).max(1);
        left -= u64::from(dim.ilog2()).min(left);
        dim
    };
    let [n, h, w, c] = std::array::from_fn(|_| dim(next, 26));
    let [o, kh, kw] = std::array::from_fn(|_| dim(next, 12));
    let group = if next() % 4 == 0 { c } else { 1 };
    let set = |op: &mut Option<Op>, dims: [u32; 4]| {
        if let Some(op) = op {
            op.dims = dims;
        }
    };
    match spec.opcode {
        0x10 => {
            set(&mut spec.d, [n, kh, h, c]);
            set(&mut spec.a, [n, kh, h, w]);
            set(&mut spec.b, [n, kh, w, c]);
        }
        0x11 => {
            let o = o.saturating_mul(group);
            set(&mut spec.d, [n, h, w, o]);
            set(&mut spec.a, [n, w, h, c]);
            set(&mut spec.b, [o, kh, kw, c / group]);
            for p in &mut spec.p[2..4] {
                *p = pair([magnitude(next, 3).max(1), magnitude(next, 3).max(1)]);
            }
            spec.p[4] = pair([magnitude(next, 8), magnitude(next, 8)]);
            spec.p[5] = group;
        }
        0x20 => {
            set(&mut spec.d, [n, w, h, c]);
            set(&mut spec.a, [n, h, w, c]);
            spec.p[1] = pair([kh, kw]);
            spec.p[3] = pair([magnitude(next, 3), magnitude(next, 3)]);
        }
        0x22 => {
            set(&mut spec.d, [n, h, w, 1]);
            set(&mut spec.a, [n, h, w, c]);
        }
        _ => {
            for op in [&mut spec.d, &mut spec.a] {
                set(op, [n, h, w, c]);
            }
            if let Some(b) = &mut spec.b {
                let row = [1, 1, 1, c];
                b.dims = if spec.opcode == 0x14 {
                    [n, h, w, c]
                } else {
                    row
                };
            }
            set(&mut spec.c, [1, 1, 2, c]);
        }
    }
    for op in [&mut spec.d, &mut spec.a, &mut spec.b, &mut spec.c] {
        let Some(op) = op else { continue };
        let size = size_of(op.kind) as u32;
        match next() % 3 {
            0 => {
                *op = Op {
                    strides: op.strides.map(|_| magnitude(next, 24).wrapping_mul(size)),
                    ..*op
                }
            }
            1 => op.strides = [0, 0, 0, size],
            _ => {
                let mut stride = size;
                for i in (0..4).rev() {
                    op.strides[i] = stride;
                    stride = stride.wrapping_mul(op.dims[i]);
                }
            }
        }
        op.address = (next() << 17) & !3;
        if next() % 16 == 0 {
            op.address = (1 << 48) - u64::from(magnitude(next, 26)) * 4;
        }
    }
    let mut command = spec.bytes();
    // Then some that are wrong.
    for _ in 0..(next() % 8).saturating_sub(4) {
        let at = match next() % 4 {
            0 => next() as usize % SIZE,
            1 => 8 + next() as usize % 32,
            _ => 64 + next() as usize % 192,
        };
        command[at] = next() as u8;
    }
    command
}

#[test]
fn any_command_ends_soon() {
    let mut results = std::collections::BTreeMap::new();
    for seed in 0..1500 {
        let command = any_command(seed);
        let (_, result) = hurry(&command, Duration::from_millis(4));
        let name = match result {
            Ok(()) => "done".into(),
            Err(Failure::Fault { .. }) => "fault".into(),
            Err(failure) => format!("{failure:?}"),
        };
        *results.entry(name).or_insert(0) += 1;
    }
    // The test is worth something only if all of these come about.
    for name in [
        "done",
        "Aborted",
        "Operand",
        "Parameter",
        "TooLarge",
        "fault",
    ] {
        assert!(
            results.get(name).is_some_and(|count| *count > 5),
            "{results:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn random_bytes_are_refused(
        opcode in prop_oneof![0_u8..0x30, any::<u8>()],
        bytes in vec(any::<u8>(), SIZE),
    ) {
        let mut command: [u8; SIZE] = bytes.try_into().unwrap();
        prop_assert_eq!(execute(&command, &zeros(), &|| false), Err(Failure::Opcode));
        // Also those that look like one.
        command[..8].copy_from_slice(&[opcode, 0, 0, 0, 0, 0, 0, 0]);
        prop_assert!(execute(&command, &zeros(), &|| false).is_err());
        for operand in 0..4 {
            command[64 + operand * 48 + 8..][..8].copy_from_slice(&[opcode % 7, 0, 0, 0, 0, 0, 0, 0]);
        }
        command[8..64].fill(0);
        let _ = execute(&command, &zeros(), &|| false);
    }
}
