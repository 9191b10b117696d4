// SPDX-License-Identifier: MIT OR Apache-2.0
//! The smallest program that uses an accelerator: `accel_hello.c`, in Rust.
//!
//! Run it: `cargo run --manifest-path tools/Cargo.toml -p libaccel --example accel_hello`

use std::process::ExitCode;
use std::time::Duration;

use libaccel::{Compute, Deadline, Info, Result, edu, null};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // The error says which device, which call, and what to do about it.
        Err(error) => {
            eprintln!("accel_hello: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    // 1. Open the compute node: the one that was named, or the first there is.
    //    Closing it, when it is dropped, gives back all that was made with it.
    let device = match std::env::args_os().nth(1) {
        Some(path) => Compute::open(path)?,
        None => libaccel::devices()?[0].open()?,
    };

    // 2. Ask who it is. Every device answers that, whatever its driver.
    let who = device.identity()?;
    println!(
        "{}: driver {}, on {} {}, speaks {} {}.{}",
        device.name(),
        who.driver,
        who.bus,
        who.parent,
        who.uapi_name,
        who.uapi_major,
        who.uapi_minor
    );

    // 3. Give it work. That is the driver's own part, so it depends on who it is.
    match who.uapi_name.as_str() {
        null::NAME => println!("2 + 3 = {}", null::add(&device, 2, 3)?),
        edu::NAME => {
            // The answer goes into a buffer; a timeline tells when it is there.
            let answer = device.buffer(4)?;
            let timeline = device.timeline()?;
            let point = edu::factorial(&device, &[10], &timeline, &answer, 0)?;
            timeline.wait(point, Deadline::after(Duration::from_secs(5)))?;
            println!("10! = {}", answer.map()?.read_u32s(0, 1)?[0]);
        }
        other => println!("this program has no work for {other}"),
    }
    Ok(())
}
