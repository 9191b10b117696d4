// SPDX-License-Identifier: MIT OR Apache-2.0
//! What it costs to take a device away, to bring it back, and to reset it.
//!
//! Of the NPU, with instructions that the plugin counts: devices are waited for.

use std::fs;
use std::path::{Path, PathBuf};

use libaccel::uapi::*;
use libaccel::{Compute, Device, Events, Info, Status, Wanted, What};

use crate::figures::{Figures, time_prepared};
use crate::{npu, sys};

const REBIND: &str = "NPU unbind+bind";
const RESET: &str = "NPU reset, 8 contexts open";
const NOTHING: &str = "NPU reset, none open";

/// Contexts that are open while the device is reset.
const CONTEXTS: usize = 8;
/// Each of them maps a page there.
const ADDRESS: u64 = 0x1000_0000;

/// Measures all, each `n` times.
pub fn measure(n: usize) -> Figures {
    let mut figures = Figures::default();

    for (name, contexts) in [(NOTHING, 0), (RESET, CONTEXTS)] {
        let figure = npu::device().and_then(|device| {
            let watched = || Watched::of(&device, contexts);
            time_prepared(sys::instructions, n, Ok(()), watched, Watched::reset)
        });
        figures.add(name, figure);
    }
    let figure = npu::device().and_then(|device| {
        let rebind = Rebind::of(&device)?;
        // What is open would be waited for in the bind that finds its number taken.
        drop(device);
        time_prepared(sys::instructions, n, Ok(()), || Ok(()), |()| rebind.run())
    });
    figures.add(REBIND, figure);
    figures
}

/// Contexts that have something on the device.
fn open(device: &Device, count: usize) -> Result<Vec<Compute>, String> {
    (0..count)
        .map(|_| {
            let compute = device.open().map_err(|e| e.to_string())?;
            let buffer = compute.buffer(4096).map_err(|e| e.to_string())?;
            npu::map(&compute, buffer.handle(), ACCEL_NPU_MAP_READ, 4096, ADDRESS)?;
            drop(buffer);
            Ok(compute)
        })
        .collect()
}

/// A device whose next reset is seen to end.
struct Watched<'a> {
    device: &'a Device,
    /// Resets before.
    resets: u64,
    events: Events<'a>,
    _open: Vec<Compute>,
}

impl<'a> Watched<'a> {
    /// With so many contexts open.
    fn of(device: &'a Device, contexts: usize) -> Result<Self, String> {
        let control = device.control();

        Ok(Self {
            device,
            _open: open(device, contexts)?,
            resets: control.state().map_err(|e| e.to_string())?.resets,
            events: control.events(Wanted::STATE).map_err(|e| e.to_string())?,
        })
    }

    /// From the request to the end, as the device's events tell it.
    fn reset(&mut self) -> Result<(), String> {
        write(&self.device.sysfs().join("reset"), "1")?;
        for event in &mut self.events {
            if let What::State { status, resets, .. } = event.map_err(|e| e.to_string())?.what {
                match status {
                    Status::Operational if resets > self.resets => return Ok(()),
                    Status::Operational | Status::Resetting => {}
                    other => return Err(format!("it is {other:?} after a reset")),
                }
            }
        }
        Err("the device went away".into())
    }
}

/// A device on a bus, and its driver.
struct Rebind {
    driver: PathBuf,
    name: String,
}

impl Rebind {
    fn of(device: &Device) -> Result<Self, String> {
        let parent = device.sysfs().join("device");
        let real =
            |path: &Path| fs::canonicalize(path).map_err(|e| format!("{}: {e}", path.display()));
        let name = real(&parent)?;

        Ok(Self {
            driver: real(&parent.join("driver"))?,
            name: name
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .ok_or("a device without a name")?,
        })
    }

    fn run(&self) -> Result<(), String> {
        write(&self.driver.join("unbind"), &self.name)?;
        write(&self.driver.join("bind"), &self.name)
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}
