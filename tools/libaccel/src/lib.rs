// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compute accelerators on Linux: find them, ask them, give them work.
//!
//! A device has two nodes: `/dev/accel/accelN` computes ([`Compute`]) and
//! `/dev/accel/accel_controlN` tells how the device is ([`Control`]). A program
//! that computes makes [`Buffer`]s for its data and a [`Timeline`], submits jobs
//! with its driver's own calls, and waits for the points that they are given.
//!
//! Every error names the call, the device and, where there is something, what
//! can be done. Signals do not interrupt calls; waits have a [`Deadline`].
//!
//! # Examples
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use libaccel::{Deadline, edu};
//!
//! fn main() -> libaccel::Result<()> {
//!     let found = libaccel::find("accel_edu")?;
//!     let device = found.open()?;
//!     let timeline = device.timeline()?;
//!     let answers = device.buffer(4096)?;
//!     let point = edu::factorial(&device, &[5, 10], &timeline, &answers, 0)?;
//!     timeline.wait(point, Deadline::after(Duration::from_secs(5)))?;
//!     assert_eq!(answers.map()?.read_u32s(0, 2)?, [120, 3_628_800]);
//!     Ok(())
//! }
//! ```

mod buffer;
mod device;
mod discover;
pub mod edu;
mod error;
mod event;
mod info;
#[cfg(test)]
mod layout_test;
pub mod mock;
mod node;
pub mod npu;
pub mod null;
mod request;
mod sys;
mod timeline;
pub mod uapi;
mod usage;

pub use buffer::{Buffer, Mapping};
pub use device::{Compute, Control};
pub use discover::{Device, Scan, devices, find, scan};
pub use error::{Error, Result};
pub use event::{Event, Events, Wanted, What};
pub use info::{
    Cause, Class, Function, Identity, Info, Memory, MemoryKind, Opens, Pci, Query, Resets, State,
    Status,
};
pub use request::Request;
pub use rustix::io::Errno;
pub use sys::Plain;
pub use timeline::{Deadline, Timeline, now_ns};
pub use usage::{Client, Limits, Thing, Usage};
