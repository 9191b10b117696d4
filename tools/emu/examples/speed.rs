// SPDX-License-Identifier: GPL-2.0
//! Prints how fast commands are executed on this machine, one engine, in memory without an MMU:
//! `cargo run --release --example speed`.

use std::sync::Mutex;
use std::time::Duration;

use accel_emu::npu::command::{Failure, Memory, SIZE, execute};

const I8: u32 = 1;
const I32: u32 = 3;
const BF16: u32 = 4;
const F32: u32 = 5;

/// Flat memory from address 0 on.
struct Flat(Mutex<Vec<u8>>);

impl Memory for Flat {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Failure> {
        let bytes = self.0.lock().unwrap();
        to.copy_from_slice(&bytes[address as usize..][..to.len()]);
        Ok(())
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), Failure> {
        let mut bytes = self.0.lock().unwrap();
        bytes[address as usize..][..from.len()].copy_from_slice(from);
        Ok(())
    }
}

/// An operand: address, type and dimensions.
type Operand = (u64, u32, [u32; 4]);

/// A command with dense operands.
fn command(opcode: u16, parameters: &[u32], operands: &[Operand]) -> [u8; SIZE] {
    let mut command = [0; SIZE];
    command[..2].copy_from_slice(&opcode.to_le_bytes());
    let mut put = |at: usize, word: u32| command[at..at + 4].copy_from_slice(&word.to_le_bytes());
    for (i, parameter) in parameters.iter().enumerate() {
        put(8 + 4 * i, *parameter);
    }
    for (i, (address, kind, dims)) in operands.iter().enumerate() {
        let at = 64 + 48 * i;
        put(at, *address as u32);
        put(at + 8, *kind);
        let mut stride = match *kind {
            I8 => 1,
            BF16 => 2,
            _ => 4,
        };
        for j in (0..4).rev() {
            put(at + 16 + 4 * j, dims[j]);
            put(at + 32 + 4 * j, stride);
            stride *= dims[j];
        }
    }
    command
}

/// The time that this thread has worked: others on the machine do not count.
fn busy() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Executes it some times, and returns the shortest time and the longest between two looks at
/// whether to give up.
fn measure(memory: &Flat, command: &[u8; SIZE]) -> (f64, Duration) {
    let (mut best, mut longest) = (Duration::MAX, Duration::MAX);
    for _ in 0..7 {
        let start = busy();
        let last = std::cell::Cell::new(start);
        let gap = std::cell::Cell::new(Duration::ZERO);
        execute(command, memory, &|| {
            let now = busy();
            gap.set(gap.get().max(now - last.replace(now)));
            false
        })
        .expect("a right command");
        let end = busy();
        best = best.min(end - start);
        longest = longest.min(gap.get().max(end - last.get()));
    }
    (best.as_secs_f64(), longest)
}

fn main() {
    let memory = Flat(Mutex::new(
        (0..64 << 20).map(|i: u32| (i % 63) as u8).collect(),
    ));
    let [d, a, b, c] = [0, 16 << 20, 32 << 20, 48 << 20];
    println!("{:42} {:>12} {:>9}", "", "per second", "look, µs");
    let line = |name: &str, work: f64, unit: &str, command: &[u8; SIZE]| {
        let (seconds, gap) = measure(&memory, command);
        let rate = work / seconds / 1e9;
        println!("{name:42} {rate:7.2} {unit:4} {:9}", gap.as_micros());
    };

    for (name, from, to) in [("I8", I8, I32), ("BF16", BF16, F32), ("F32", F32, F32)] {
        let product = |[m, k, n]: [u32; 3]| {
            let operands = [
                (d, to, [1, 1, m, n]),
                (a, from, [1, 1, m, k]),
                (b, from, [1, 1, k, n]),
            ];
            let work = f64::from(m) * f64::from(k) * f64::from(n);
            let name = format!("MATMUL {name} {m} x {k} x {n}");
            line(&name, work, "GMAC", &command(0x10, &[], &operands));
        };
        product([512, 512, 512]);
        product([1, 1024, 1024]);
        product([64, 64, 10]);
        let convolution = |[size, c_in, c_out, kernel, groups]: [u32; 5]| {
            let operands = [
                (d, to, [1, size, size, c_out]),
                (a, from, [1, size, size, c_in]),
                (b, from, [c_out, kernel, kernel, c_in / groups]),
            ];
            let pad = kernel / 2;
            let p = [0, 0, 0x1_0001, 0x1_0001, pad | (pad << 16), groups];
            let work: f64 = [size, size, c_out, kernel, kernel, c_in / groups]
                .into_iter()
                .map(f64::from)
                .product();
            let kind = if groups == 1 { "" } else { "depthwise " };
            let name = format!("CONV2D {name} {kind}{kernel} x {kernel}, {c_in} to {c_out}");
            line(&name, work, "GMAC", &command(0x11, &p, &operands));
        };
        convolution([56, 64, 64, 3, 1]);
        convolution([56, 64, 128, 1, 1]);
        convolution([112, 3, 32, 3, 1]);
        convolution([56, 128, 128, 3, 128]);
    }
    let dims = [1, 128, 128, 64];
    let elements = f64::from(dims.iter().product::<u32>());
    let one = 1_f32.to_bits();
    let limits = |first: &[u32]| [first, &[0, (-128_i32) as u32, 127]].concat();
    let (bytes, words) = ((a, I8, dims), (a, F32, dims));
    for (name, opcode, parameters, operands) in [
        ("COPY I8", 0x01, vec![], vec![(d, I8, dims), bytes]),
        ("FILL F32", 0x02, vec![], vec![(d, F32, dims)]),
        (
            "REQUANTIZE",
            0x12,
            limits(&[]),
            vec![
                (d, I8, dims),
                (a, I32, dims),
                (b, I32, [1, 1, 1, 64]),
                (c, I32, [1, 1, 2, 64]),
            ],
        ),
        (
            "ACTIVATE max(x, 0)",
            0x13,
            vec![1, one],
            vec![(d, F32, dims), words],
        ),
        (
            "ACTIVATE GELU",
            0x13,
            vec![5, one],
            vec![(d, F32, dims), words],
        ),
        (
            "ADD I8",
            0x14,
            limits(&[0, 0, 1 << 20, 1 << 20, 21]),
            vec![(d, I8, dims), bytes, (b, I8, dims)],
        ),
        (
            "POOL I8, maximum of 2 x 2",
            0x20,
            vec![0, 0x2_0002, 0x2_0002],
            vec![(d, I8, [1, 64, 64, 64]), bytes],
        ),
        ("SOFTMAX F32", 0x21, vec![one], vec![(d, F32, dims), words]),
        (
            "ARGMAX I8",
            0x22,
            vec![],
            vec![(d, I32, [1, 128, 128, 1]), bytes],
        ),
    ] {
        // Multipliers and shifts that are in range.
        memory.write(c, &[1, 0, 0, 0].repeat(128)).expect("memory");
        line(
            name,
            elements,
            "G",
            &command(opcode, &parameters, &operands),
        );
    }
}
