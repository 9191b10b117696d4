// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one can do with an NPU, in five small steps that check themselves.
//!
//! Run it: `cargo run --manifest-path tools/Cargo.toml -p libaccel --example npu_tour`

use std::process::ExitCode;
use std::time::Duration;

use libaccel::npu::{
    self, Access, Bf16, Command, Context, Job, Kind, Matmul, Program, Requantize, Run, SIZE,
    Shared, Submit, Tensor, Type, Value,
};
use libaccel::{Deadline, Error, Result};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("npu_tour: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let context = Context::new(libaccel::find(npu::NAME)?.open()?);
    let card = context.device()?;
    println!("{} of {} bytes free", card.memory_free, card.memory_total);

    // Memory that both sides reach. It is unmapped when it is dropped.
    let mut shared = context.shared(64 << 10, Access::ReadWrite)?;
    product(&context, &mut shared)?;
    on_the_device(&context, &mut shared)?;
    doorbell(&context, &mut shared)?;
    mistakes(&context, &mut shared)?;

    // What was mapped is free again; tables of pages stay until the context is closed.
    drop(shared);
    let free = context.device()?.memory_free;
    println!(
        "{} bytes are in use by page tables",
        card.memory_free.saturating_sub(free)
    );
    Ok(())
}

/// A product of small matrices, with both inputs and the output in the host's memory.
fn product(context: &Context, shared: &mut Shared) -> Result<()> {
    let mut arena = shared.mapped().arena();
    let a = arena.tensor(Type::I8, &[2, 3])?;
    let b = arena.tensor(Type::I8, &[3, 2])?;
    let d = arena.tensor(Type::I32, &[2, 2])?;
    shared.store(&a, &[1_i8, 2, 3, 4, 5, 6])?;
    shared.store(&b, &[1_i8, 0, 0, 1, 1, 1])?;
    let list = vec![Command::matmul(d, a, b, Matmul::default())?];
    Program::new(context, &[list])?.run()?;
    assert_eq!(shared.load::<i32>(&d)?, [4, 5, 10, 11]);

    // The same of the transposed: only strides change.
    let (left, right) = (b.transpose(2, 3)?, a.transpose(2, 3)?);
    let list = vec![Command::matmul(d, left, right, Matmul::default())?];
    Program::new(context, &[list])?.run()?;
    assert_eq!(shared.load::<i32>(&d)?, [4, 10, 5, 11]);
    println!("product: as it should be");
    Ok(())
}

/// Several commands whose intermediate results stay on the device.
fn on_the_device(context: &Context, shared: &mut Shared) -> Result<()> {
    let device = context.memory(3 << 20, Access::ReadWrite)?;
    assert_eq!(device.address() % (2 << 20), 0, "so that large pages serve");
    let mut arena = device.arena();
    let vector = arena.tensor(Type::Bf16, &[1, 4])?;
    let ones = arena.tensor(Type::Bf16, &[4, 4])?;
    let sums = arena.tensor(Type::F32, &[1, 4])?;
    let mut arena = shared.mapped().arena();
    let input = arena.tensor(Type::Bf16, &[1, 4])?;
    let output = arena.tensor(Type::F32, &[1, 4])?;
    shared.store(&input, &[1.0, 2.0, 3.0, 4.0].map(Bf16::from_f32))?;

    let list = vec![
        Command::copy(vector, input)?,
        Command::fill(ones, Value::Bf16(Bf16::from_f32(1.0)))?,
        Command::matmul(sums, vector, ones, Matmul::default())?,
        Command::softmax(output, sums, 1.0)?,
    ];
    Program::new(context, &[list])?.run()?;
    for share in shared.load::<f32>(&output)? {
        assert!((share - 0.25).abs() < 1e-5, "{share}");
    }
    println!("four commands on the device: as they should be");
    Ok(())
}

/// A job that waits for the doorbell.
fn doorbell(context: &Context, shared: &mut Shared) -> Result<()> {
    let word = shared.mapped().tensor(4096, Type::I32, &[1])?;
    let program = Program::new(context, &[vec![Command::fill(word, Value::I32(7))?]])?;
    let timeline = context.compute().timeline()?;
    let later = Submit {
        defer: true,
        ..Submit::default()
    };
    let point = context.submit(program.jobs(), &timeline, later)?;
    let early = timeline.wait(point, Deadline::after(Duration::from_millis(20)));
    assert!(early.is_err_and(|error| error.is_timeout()));
    context.doorbell()?.ring();
    context.wait(&timeline, point, Deadline::after(Duration::from_secs(10)))?;
    assert_eq!(shared.load::<i32>(&word)?, [7]);
    println!("doorbell: rung, and heard");
    Ok(())
}

/// What mistakes look like. The context goes on after each.
fn mistakes(context: &Context, shared: &mut Shared) -> Result<()> {
    let mut arena = shared.mapped().arena();
    let d = arena.tensor(Type::I8, &[2, 4])?;
    let a = arena.tensor(Type::I32, &[2, 4])?;
    let table = arena.tensor(Type::I32, &[2, 4])?;
    let how = Requantize::default();

    // This one is found before there is a job.
    let error = Command::requantize(d, a, None, table.transpose(2, 3)?, how);
    println!(
        "refused: {}",
        error.expect_err("the table is of another shape")
    );

    // Shifts end at 62, and only the device looks into the table.
    shared.store(&table, &[1, 1, 1, 1, 0, 0, 63, 0])?;
    let list = vec![Command::nop(), Command::requantize(d, a, None, table, how)?];
    let error = Program::new(context, &[list])?.run();
    expect(error, Kind::Parameter, 1, "REQUANTIZE");

    // Nothing is mapped there.
    let nowhere = Tensor::contiguous(1 << 40, Type::I8, &[2, 4])?;
    let lists = [vec![Command::copy(nowhere, d)?], vec![Command::nop()]];
    expect(Program::new(context, &lists)?.run(), Kind::Fault, 0, "COPY");

    // Many jobs run in batches. A fault cancels what is behind it.
    let mut lists = vec![vec![Command::nop()]; 100];
    lists[40] = vec![Command::nop(), Command::copy(nowhere, d)?];
    let many = Program::new(context, &lists)?;
    let mut ended = 0;
    let error = many.run_with(Run::default(), |jobs| ended = jobs);
    assert!(ended <= 40, "{ended}");
    expect(error, Kind::Fault, 1, "COPY");

    // Jobs need not be made with a Program: this one's list is a part of our memory.
    let list = shared.mapped().tensor(8192, Type::U8, &[SIZE as u32])?;
    let command = Command::fill(d, Value::I8(-1))?;
    shared.store(&list, &command.encode())?;
    let timeline = context.compute().timeline()?;
    let job = Job::new(list.address(), 1)?;
    let point = context.submit(&[job], &timeline, Submit::default())?;
    context.wait(&timeline, point, Deadline::after(Duration::from_secs(10)))?;
    assert_eq!(shared.load::<i8>(&d)?, [-1; 8]);
    assert_eq!(context.error()?, None);
    println!("after the mistakes: all is well");
    Ok(())
}

fn expect(result: Result<()>, kind: Kind, command: u32, name: &str) {
    let error = result.expect_err("the device has to refuse it");
    println!("failed: {error}");
    let Error::Npu { failure, .. } = error else {
        panic!("the device did not tell why")
    };
    assert_eq!((failure.kind, failure.command), (kind, command));
    assert_eq!(failure.name, Some(name));
}
