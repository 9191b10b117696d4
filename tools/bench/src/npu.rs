// SPDX-License-Identifier: MIT OR Apache-2.0
//! What jobs and mappings of the NPU cost.
//!
//! Meant for a guest with one CPU whose instructions the plugin counts
//! (`plugin/`): a job is waited for, and an idle CPU counts nothing. Exits are
//! accesses to registers, each of which leaves the guest, and interrupts, as the
//! model counts them; its control socket is the port `accel.npu0`.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::time::Instant;

use libaccel::uapi::*;
use libaccel::{Buffer, Compute, Device, Timeline};

use crate::figures::{Figure, Figures, time_by};
use crate::gates::{Goal, Limit};
use crate::sys;

/// Submitting a job and waiting for it.
const SINGLE: &str = "NPU submit to wake, 1 job";
/// The same for 32 jobs at once, for one of them.
const OF_32: &str = "NPU submit to wake, one of 32 jobs";
const MAP_1: &str = "NPU map+unmap, 1 page";
const MAP_512: &str = "NPU map+unmap, 512 pages of 4 KiB";
const MAP_LARGE: &str = "NPU map+unmap, one page of 2 MiB";

/// Goals for medians.
pub const GOALS: [Goal; 2] = [
    Goal {
        what: "one of 32 jobs / a single one",
        figure: OF_32,
        limit: Limit::Of(SINGLE, 200),
    },
    Goal {
        // 0.1 times 512.
        what: "map 512 pages / map 1 page",
        figure: MAP_512,
        limit: Limit::Of(MAP_1, 51_200),
    },
];

/// Jobs of a batch.
const BATCH: u32 = 32;
const LARGE: u64 = 2 << 20;
/// Device addresses: of commands, of data, and where mapping is measured.
const COMMANDS: u64 = 0x1000_0000;
const DATA: u64 = 0x4000_0000;
const ON_DEVICE: u64 = 0x8000_0000;
const MEASURED: u64 = 0x10_0000_0000;
/// What is copied, and the size of the matrices, for information.
const COPIED: u64 = 16 << 20;
const MATRIX: u32 = 768;

/// Measures all, each `n` times, and prints what is for information.
pub fn measure(n: usize) -> Figures {
    let mut figures = Figures::default();
    let all = [SINGLE, OF_32, MAP_1, MAP_512, MAP_LARGE];
    if sys::instructions() == 0 {
        for name in all {
            figures.add(name, Err("nobody counts this CPU's instructions".into()));
        }
        return figures;
    }
    match Npu::open() {
        Ok(npu) => {
            let mut exits = String::new();
            npu.jobs(&mut figures, &mut exits, n);
            npu.mappings(&mut figures, &mut exits, n);
            print!("{exits}");
            match npu.throughput() {
                Ok(text) => print!("{text}"),
                Err(why) => println!("throughput: not measured: {why}"),
            }
        }
        Err(why) => {
            for name in all {
                figures.add(name, Err(why.clone()));
            }
        }
    }
    figures
}

/// The device.
pub fn device() -> Result<Device, String> {
    libaccel::find("accel_npu").map_err(|e| e.to_string())
}

/// Maps a buffer for a context.
pub fn map(
    compute: &Compute,
    buffer: u32,
    flags: u32,
    size: u64,
    address: u64,
) -> Result<(), String> {
    match sys::npu_map(compute.as_fd(), buffer, flags, size, address) {
        0 => Ok(()),
        _ => Err(format!("MAP: {}", std::io::Error::last_os_error())),
    }
}

/// One context, with commands and data in place.
struct Npu {
    compute: Compute,
    timeline: Timeline,
    /// Pages that are mapped at [`MEASURED`], a multiple of 2 MiB.
    pages: Buffer,
    model: Model,
}

impl Npu {
    fn open() -> Result<Self, String> {
        let text = |error: libaccel::Error| error.to_string();
        let compute = device()?.open().map_err(text)?;
        let timeline = compute.timeline().map_err(text)?;
        let pages = compute.buffer(2 * LARGE).map_err(text)?;
        let npu = Self {
            compute,
            timeline,
            pages,
            model: Model::open()?,
        };

        let commands = npu.compute.buffer(4096).map_err(text)?;
        let mut memory = commands.map().map_err(text)?;
        for (index, command) in commands_for_information().iter().enumerate() {
            memory
                .write_at(256 * index, &sys::bytes_of(command))
                .map_err(text)?;
        }
        let data = npu.compute.buffer(COPIED).map_err(text)?;
        let read_write = ACCEL_NPU_MAP_READ | ACCEL_NPU_MAP_WRITE;
        npu.map(commands.handle(), read_write, 4096, COMMANDS)?;
        npu.map(data.handle(), read_write, COPIED, DATA)?;
        npu.map(0, read_write | ACCEL_NPU_MAP_DEVICE, COPIED, ON_DEVICE)?;
        Ok(npu)
    }

    fn map(&self, buffer: u32, flags: u32, size: u64, address: u64) -> Result<(), String> {
        map(&self.compute, buffer, flags, size, address)
    }

    /// Submits `jobs` at once and waits for the last; 0 when all that worked.
    #[inline(always)]
    fn run(&self, jobs: &[accel_npu_job], submit: &mut accel_npu_submit) -> i32 {
        let fd = self.compute.as_fd();
        let failed = sys::npu_submit(fd, submit, jobs);
        let mut wait = accel_timeline_wait {
            handle: submit.timeline,
            point: submit.point,
            deadline_ns: i64::MAX,
            ..Default::default()
        };
        failed | sys::plain(fd, ACCEL_IOCTL_TIMELINE_WAIT, &mut wait) | wait.status
    }

    fn jobs(&self, figures: &mut Figures, exits: &mut String, n: usize) {
        for (name, count) in [(SINGLE, 1), (OF_32, BATCH)] {
            let jobs = vec![job(NOP); count as usize];
            let mut submit = accel_npu_submit {
                timeline: self.timeline.handle(),
                ..Default::default()
            };
            let before = self.model.exits();
            let figure = time_by(sys::instructions, n, 0, || self.run(&jobs, &mut submit));
            let after = self.model.exits();
            figures.add(name, figure.map(|figure| figure.divided_by(count.into())));
            exits.push_str(&exits_line(name, before, after, n, count));
        }
    }

    fn mappings(&self, figures: &mut Figures, exits: &mut String, n: usize) {
        let cases = [
            (MAP_1, 4096, MEASURED + 4096),
            // Not aligned to 2 MiB, so that it takes 512 entries.
            (MAP_512, LARGE, MEASURED + 4096),
            (MAP_LARGE, LARGE, MEASURED),
        ];
        for (name, size, address) in cases {
            let fd = self.compute.as_fd();
            let buffer = self.pages.handle();
            let before = self.model.exits();
            let figure = time_by(sys::instructions, n, 0, || {
                sys::npu_map(fd, buffer, ACCEL_NPU_MAP_READ, size, address)
                    | sys::npu_unmap(fd, address, size)
            });
            let after = self.model.exits();
            figures.add(name, figure);
            exits.push_str(&exits_line(name, before, after, n, 1));
        }
    }

    /// Bytes and operations a second, by the wall: for information.
    fn throughput(&self) -> Result<String, String> {
        let mut text = String::new();
        let operations = 2 * u64::from(MATRIX).pow(3);
        let cases = [
            (TO_DEVICE, "DMA, host to device", COPIED, "GB/s"),
            (TO_HOST, "DMA, device to host", COPIED, "GB/s"),
            (
                PRODUCT,
                "int8 matrix product of the model",
                operations,
                "GOP/s",
            ),
        ];
        for (index, what, amount, unit) in cases {
            let mut best = f64::INFINITY;
            for _ in 0..5 {
                let mut submit = accel_npu_submit {
                    timeline: self.timeline.handle(),
                    ..Default::default()
                };
                let began = Instant::now();
                let failed = self.run(&[job(index)], &mut submit);
                if failed != 0 {
                    return Err(format!("{what}: {failed}"));
                }
                best = best.min(began.elapsed().as_secs_f64());
            }
            let rate = amount as f64 / best / 1e9;
            text.push_str(&format!("{what:<36} {rate:>9.2} {unit}\n"));
        }
        Ok(text)
    }
}

/// Indices of [`commands_for_information`].
const NOP: u64 = 0;
const TO_DEVICE: u64 = 1;
const TO_HOST: u64 = 2;
const PRODUCT: u64 = 3;

fn job(index: u64) -> accel_npu_job {
    accel_npu_job {
        address: COMMANDS + 256 * index,
        count: 1,
        reserved: 0,
    }
}

fn commands_for_information() -> [accel_npu_command; 4] {
    let bytes = |address| operand(address, ACCEL_NPU_TYPE_I32, 4, 1, (COPIED / 4) as u32);
    let matrix = |address, kind, size| operand(address, kind, size, MATRIX, MATRIX);
    let command = |opcode, operands: &[accel_npu_operand]| {
        let mut command = accel_npu_command {
            opcode,
            ..Default::default()
        };
        command.operands[..operands.len()].copy_from_slice(operands);
        command
    };
    [
        accel_npu_command::default(),
        command(ACCEL_NPU_OP_COPY as u16, &[bytes(ON_DEVICE), bytes(DATA)]),
        command(ACCEL_NPU_OP_COPY as u16, &[bytes(DATA), bytes(ON_DEVICE)]),
        command(
            ACCEL_NPU_OP_MATMUL as u16,
            &[
                matrix(ON_DEVICE + COPIED / 2, ACCEL_NPU_TYPE_I32, 4),
                matrix(ON_DEVICE, ACCEL_NPU_TYPE_I8, 1),
                matrix(ON_DEVICE, ACCEL_NPU_TYPE_I8, 1),
            ],
        ),
    ]
}

/// A matrix without gaps.
fn operand(address: u64, kind: u32, size: u32, rows: u32, columns: u32) -> accel_npu_operand {
    accel_npu_operand {
        address,
        type_: kind,
        dims: [1, 1, rows, columns],
        strides: [0, 0, columns * size, size],
        ..Default::default()
    }
}

/// The model's own counts.
struct Model(File);

impl Model {
    fn open() -> Result<Self, String> {
        let path = "/dev/virtio-ports/accel.npu0";
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map(Self)
            .map_err(|e| format!("{path}: {e}"))
    }

    /// Accesses to registers and interrupts so far.
    fn exits(&self) -> Result<(u64, u64), String> {
        let mut port = &self.0;
        port.write_all(b"stats\n").map_err(|e| e.to_string())?;
        let mut answer = String::new();
        BufReader::new(port)
            .read_line(&mut answer)
            .map_err(|e| e.to_string())?;
        let count = |name: &str| {
            answer
                .split_whitespace()
                .filter_map(|word| word.split_once('='))
                .find(|(key, _)| *key == name)
                .and_then(|(_, value)| value.parse::<u64>().ok())
                .ok_or_else(|| format!("the model does not say {name}: {}", answer.trim()))
        };
        let accesses = count("mmio_reads")? + count("mmio_writes")?;
        Ok((accesses, count("interrupts")?))
    }
}

type Exits = Result<(u64, u64), String>;

fn exits_line(name: &str, before: Exits, after: Exits, n: usize, jobs: u32) -> String {
    match (before, after) {
        (Ok(before), Ok(after)) => {
            let each = (n + crate::figures::WARM_UP) as f64 * f64::from(jobs);
            let accesses = (after.0 - before.0) as f64 / each;
            let interrupts = (after.1 - before.1) as f64 / each;
            format!("{name:<36} {accesses:>9.2} register accesses, {interrupts:.2} interrupts\n")
        }
        (Err(why), _) | (_, Err(why)) => format!("{name:<36} exits not measured: {why}\n"),
    }
}

impl Figure {
    /// Of one of `count` that were measured together.
    fn divided_by(self, count: u64) -> Self {
        Self {
            min: self.min / count,
            median: self.median / count,
            p99: self.p99 / count,
            n: self.n,
        }
    }
}
