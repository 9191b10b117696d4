// SPDX-License-Identifier: MIT OR Apache-2.0
//! NPU1 cards: accelerators for neural networks with memory and an MMU of their own.
//!
//! A [`Context`] is an open file: one address space and one queue of jobs. A
//! program gets memory there ([`Context::memory`] on the device,
//! [`Context::shared`] of the host), names tensors in it ([`Tensor`]), makes
//! [`Command`]s of them, and runs lists of those as a [`Program`].
//!
//! What the device would refuse is refused when a command is made, in words
//! ([`Error::Refused`](crate::Error::Refused)). What it alone can see it tells when a job has
//! failed: which command and why ([`Error::Npu`](crate::Error::Npu)).
//!
//! What each command computes, to the bit: `Documentation/npu-hardware.rst`.
//!
//! C header: `include/uapi/accel/accel_npu.h`
//!
//! # Examples
//!
//! A layer of an int8 network, with its weights in the device's memory:
//!
//! ```no_run
//! use libaccel::npu::{
//!     self, Access, Command, Context, Conv2d, Program, Requantize, Scale, Type,
//! };
//!
//! fn main() -> libaccel::Result<()> {
//!     let context = Context::new(libaccel::find(npu::NAME)?.open()?);
//!     let mut host = context.shared(64 << 10, Access::ReadWrite)?;
//!     let device = context.memory(64 << 10, Access::ReadWrite)?;
//!
//!     let (mut staged, mut own) = (host.mapped().arena(), device.arena());
//!     let image = staged.tensor(Type::I8, &[1, 8, 8, 1])?;
//!     let answer = staged.tensor(Type::I8, &[1, 8, 8, 16])?;
//!     let weights_here = staged.tensor(Type::I8, &[16, 3, 3, 1])?;
//!     let weights = own.tensor(Type::I8, &[16, 3, 3, 1])?;
//!     let sums = own.tensor(Type::I32, &[1, 8, 8, 16])?;
//!     let scales = staged.tensor(Type::I32, &[2, 16])?;
//!     host.store(&weights_here, &[1_i8; 16 * 9])?;
//!     host.store(&scales, &Scale::table(&[Scale::nearest(0.01)?; 16]))?;
//!
//!     let upload = vec![Command::copy(weights, weights_here)?];
//!     let same = Conv2d { padding: [1, 1], ..Conv2d::default() };
//!     let layer = vec![
//!         Command::conv2d(sums, image, weights, same)?,
//!         Command::requantize(answer, sums, None, scales, Requantize { min: 0, ..Requantize::default() })?,
//!     ];
//!     Program::new(&context, &[upload, layer])?.run()?;
//!     println!("{:?}", host.load::<i8>(&answer)?);
//!     Ok(())
//! }
//! ```

mod address;
mod command;
mod context;
mod failure;
mod job;
mod memory;
mod tensor;

pub use command::{
    AddScaled, Command, Conv2d, Function, Matmul, Pool, Pooling, Requantize, SIZE, Scale, Value,
};
pub use context::{Card, Context, Doorbell, Submit};
pub use failure::{Accessed, Failure, Kind};
pub use job::{Job, Program, Run};
pub use memory::{Access, Arena, Mapped, Shared};
pub use tensor::{Bf16, Element, Tensor, Type};

/// [`Identity::uapi_name`](crate::Identity::uapi_name) of devices with these calls.
pub const NAME: &str = "accel_npu";
