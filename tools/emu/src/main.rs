// SPDX-License-Identifier: GPL-2.0
//! The program: options, sockets, and the end.

mod logger;

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::{Arc, mpsc};
use std::thread;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use accel_emu::transport::Messages;
use accel_emu::vfio::{Host, Transport};
use accel_emu::{control, npu};

/// What the process exits with when it was told to die.
const DIED_AS_TOLD: i32 = 42;

/// Models of accelerators as devices for QEMU, over vfio-user.
#[derive(Parser)]
#[command(name = "accel-emu", version)]
struct Cli {
    #[command(subcommand)]
    model: Model,
}

#[derive(Subcommand)]
enum Model {
    /// The NPU1 card of Documentation/npu-hardware.rst. Says `ready` when QEMU can connect, and
    /// ends when its standard input does.
    Npu(Npu),
}

#[derive(Args)]
struct Npu {
    /// Socket for QEMU
    #[arg(long)]
    socket: PathBuf,
    /// Socket for commands: `help` lists them
    #[arg(long)]
    control: PathBuf,
    /// MSI is for QEMU, which cannot unplug a device with MSI-X
    #[arg(long, value_enum, default_value = "msix")]
    interrupts: Interrupts,
    /// Device memory, a power of two
    #[arg(long, default_value_t = 256)]
    memory_mib: u64,
    /// The card's serial number; by default it follows from the socket's name
    #[arg(long)]
    serial: Option<u64>,
    /// File for the log
    #[arg(long)]
    log: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Interrupts {
    Msix,
    Msi,
}

fn main() -> ExitCode {
    let Model::Npu(npu) = Cli::parse().model;
    match run(&npu) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("accel-emu: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(npu: &Npu) -> Result<()> {
    if !(16..=65536).contains(&npu.memory_mib) || !npu.memory_mib.is_power_of_two() {
        bail!("--memory-mib is a power of two from 16 to 65536");
    }
    if let Some(log) = &npu.log {
        logger::start(log)?;
    }
    let host = Arc::new(Host::new());
    let function = npu::function(
        host.clone(),
        npu::Options {
            messages: match npu.interrupts {
                Interrupts::Msix => Messages::Msix,
                Interrupts::Msi => Messages::Msi,
            },
            memory: npu.memory_mib << 20,
            serial: npu.serial.unwrap_or_else(|| serial(&npu.socket)),
        },
    )
    .context("making the card")?;
    let function = Arc::new(function);
    let (end, ended) = mpsc::channel();
    // From here on a signal ends it in order.
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("waiting for signals")?;
    let transport = Transport::listen(&npu.socket, host.clone(), function.clone())?;
    control::listen(&npu.control, function, move || {
        host.wait_until_quiet();
        process::exit(DIED_AS_TOLD);
    })?;

    let ends = end.clone();
    start("signals", move || {
        signals.forever().next();
        let _ = ends.send(Ok(()));
    })?;
    let ends = end.clone();
    start("stdin", move || {
        // What is said there does not matter, nor how it ends.
        let _ = io::copy(&mut io::stdin().lock().by_ref(), &mut io::sink());
        let _ = ends.send(Ok(()));
    })?;
    start("transport", move || {
        let error = transport.run();
        let _ = end.send(Err(error));
    })?;

    let mut stdout = io::stdout();
    // Nobody need listen.
    let _ = writeln!(stdout, "ready").and_then(|()| stdout.flush());
    log::info!("listening at {}", npu.socket.display());
    let why = ended.recv().context("waiting for the end")?;
    for socket in [&npu.socket, &npu.control] {
        let _ = fs::remove_file(socket);
    }
    log::info!("the end");
    why.context("serving QEMU")
}

fn start(name: &str, what: impl FnOnce() + Send + 'static) -> Result<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(what)
        .with_context(|| format!("starting the thread {name}"))?;
    Ok(())
}

/// A number for each socket (FNV-1a), so that two cards are told apart.
fn serial(socket: &Path) -> u64 {
    let bytes = socket.as_os_str().as_encoded_bytes();
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
