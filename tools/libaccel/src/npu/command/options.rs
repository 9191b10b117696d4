// SPDX-License-Identifier: MIT OR Apache-2.0
//! What commands are told beside their operands.

use super::refused;
use crate::Result;
use crate::npu::tensor::{Bf16, Type};

/// How a MATMUL computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Matmul {
    /// Subtracted from each element of A; 0 unless that is I8.
    pub zero_a: i8,
    /// Subtracted from each element of B; 0 unless that is I8.
    pub zero_b: i8,
    /// Add to what D has.
    pub accumulate: bool,
}

/// How a CONV2D computes. Pairs are rows, columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2d {
    /// Subtracted from each element of A; 0 unless that is I8.
    pub zero_a: i8,
    /// Subtracted from each element of B; 0 unless that is I8.
    pub zero_b: i8,
    /// From one window to the next, 1 to 65,535.
    pub strides: [u32; 2],
    /// From one element of the kernel to the next, 1 to 65,535.
    pub dilations: [u32; 2],
    /// Before the first row and column, 0 to 65,535.
    pub padding: [u32; 2],
    /// Groups of channels, a divisor of those of A and of D.
    pub groups: u32,
    /// Add to what D has.
    pub accumulate: bool,
}

impl Default for Conv2d {
    fn default() -> Self {
        Self {
            zero_a: 0,
            zero_b: 0,
            strides: [1, 1],
            dilations: [1, 1],
            padding: [0, 0],
            groups: 1,
            accumulate: false,
        }
    }
}

impl Conv2d {
    /// The shape of D for A `[n, h, w, c]` and B `[o, kh, kw, c / g]` with
    /// `after` rows and columns of padding at the end; `None` when no window fits.
    pub fn output(&self, a: [u32; 4], b: [u32; 4], after: [u32; 2]) -> Option<[u32; 4]> {
        let rows = windows(
            a[1],
            b[1],
            self.strides[0],
            self.dilations[0],
            self.padding[0],
            after[0],
        )?;
        let columns = windows(
            a[2],
            b[2],
            self.strides[1],
            self.dilations[1],
            self.padding[1],
            after[1],
        )?;
        Some([a[0], rows, columns, b[0]])
    }
}

/// What a REQUANTIZE adds and how it limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requantize {
    /// Zero point of D.
    pub zero: i8,
    /// Least element of D.
    pub min: i8,
    /// Greatest element of D, at least `min`.
    pub max: i8,
}

impl Default for Requantize {
    fn default() -> Self {
        Self {
            zero: 0,
            min: i8::MIN,
            max: i8::MAX,
        }
    }
}

/// A factor in whole numbers: `multiplier / 2^shift`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    multiplier: u32,
    shift: u32,
}

impl Scale {
    /// The greatest multiplier.
    pub const MULTIPLIER_MAX: u32 = i32::MAX as u32;

    /// The greatest shift.
    pub const SHIFT_MAX: u32 = 62;

    /// A multiplier of at most [`MULTIPLIER_MAX`](Self::MULTIPLIER_MAX) and a shift of at
    /// most [`SHIFT_MAX`](Self::SHIFT_MAX).
    ///
    /// # Errors
    ///
    /// [`Error::Refused`](crate::Error::Refused) above them.
    pub fn new(multiplier: u32, shift: u32) -> Result<Self> {
        if multiplier > Self::MULTIPLIER_MAX || shift > Self::SHIFT_MAX {
            return Err(refused(
                "scale",
                format!("{multiplier} / 2^{shift} is above 2^31 - 1, or 2^62"),
            ));
        }
        Ok(Self { multiplier, shift })
    }

    /// The nearest to `factor`, with a multiplier of 31 bits where that is possible.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`](crate::Error::Refused) for what is below 0, no number, or 2^31 - ½ and above.
    pub fn nearest(factor: f64) -> Result<Self> {
        let wrong = || {
            let why = format!("{factor} is not between 0 and 2^31");
            refused("scale", why)
        };
        if !(0.0..2_147_483_647.5).contains(&factor) {
            return Err(wrong());
        }
        // The greatest shift that leaves the multiplier below 2^31.
        for shift in (0..=Self::SHIFT_MAX).rev() {
            // Exact but for the rounding: a power of two.
            let multiplier = (factor * 2_f64.powi(shift as i32)).round();
            if multiplier <= f64::from(Self::MULTIPLIER_MAX) {
                return Self::new(multiplier as u32, shift);
            }
        }
        Err(wrong())
    }

    /// The multiplier.
    pub fn multiplier(self) -> u32 {
        self.multiplier
    }

    /// The shift.
    pub fn shift(self) -> u32 {
        self.shift
    }

    /// The elements of operand C of a REQUANTIZE, I32 [1, 1, 2, c]: first all
    /// multipliers, then all shifts, one for each channel.
    pub fn table(channels: &[Self]) -> Vec<i32> {
        // Neither is above 2^31 - 1.
        let multipliers = channels.iter().map(|scale| scale.multiplier as i32);
        let shifts = channels.iter().map(|scale| scale.shift as i32);
        multipliers.chain(shifts).collect()
    }
}

/// What an ACTIVATE applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Function {
    /// x.
    #[default]
    None,
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
    /// The logistic function.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// x Φ(x).
    Gelu,
    /// x times the logistic function.
    Silu,
}

impl Function {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Relu => 1,
            Self::Relu6 => 2,
            Self::Sigmoid => 3,
            Self::Tanh => 4,
            Self::Gelu => 5,
            Self::Silu => 6,
        }
    }
}

/// How an ADD of I8 scales: the sum of (A - zero_a) m_a and (B - zero_b) m_b, over 2^shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddScaled {
    /// Zero point of A.
    pub zero_a: i8,
    /// Zero point of B.
    pub zero_b: i8,
    /// m_a, at most 2^31 - 1.
    pub multiplier_a: u32,
    /// m_b, at most 2^31 - 1.
    pub multiplier_b: u32,
    /// 0 to 62.
    pub shift: u32,
    /// Zero point of D and its limits.
    pub to: Requantize,
}

/// What a POOL takes of each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The greatest.
    Max,
    /// The mean of those that exist.
    Mean,
}

/// How a POOL goes over the input. Pairs are rows, columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// What it takes.
    pub pooling: Pooling,
    /// Size of a window, 1 to 65,535.
    pub kernel: [u32; 2],
    /// From one window to the next, 1 to 65,535.
    pub strides: [u32; 2],
    /// Before the first row and column, 0 to 65,535.
    pub padding: [u32; 2],
}

impl Pool {
    /// Windows that lie side by side.
    pub fn new(pooling: Pooling, kernel: [u32; 2]) -> Self {
        Self {
            pooling,
            kernel,
            strides: kernel,
            padding: [0, 0],
        }
    }

    /// The shape of D for A `[n, h, w, c]` with `after` rows and columns of
    /// padding at the end; `None` when no window fits.
    pub fn output(&self, a: [u32; 4], after: [u32; 2]) -> Option<[u32; 4]> {
        let along = |axis: usize| {
            windows(
                a[1 + axis],
                self.kernel[axis],
                self.strides[axis],
                1,
                self.padding[axis],
                after[axis],
            )
        };
        Some([a[0], along(0)?, along(1)?, a[3]])
    }
}

/// How many windows of `kernel` fit.
fn windows(
    size: u32,
    kernel: u32,
    stride: u32,
    dilation: u32,
    before: u32,
    after: u32,
) -> Option<u32> {
    let size = u64::from(size) + u64::from(before) + u64::from(after);
    let kernel = u64::from(kernel.checked_sub(1)?) * u64::from(dilation) + 1;
    let steps = size.checked_sub(kernel)?.checked_div(u64::from(stride))?;
    u32::try_from(steps + 1).ok()
}

/// A number to fill with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Of a tensor of I8.
    I8(i8),
    /// Of a tensor of U8.
    U8(u8),
    /// Of a tensor of I32.
    I32(i32),
    /// Of a tensor of BF16.
    Bf16(Bf16),
    /// Of a tensor of F32.
    F32(f32),
}

impl Value {
    pub(super) fn element(self) -> Type {
        match self {
            Self::I8(_) => Type::I8,
            Self::U8(_) => Type::U8,
            Self::I32(_) => Type::I32,
            Self::Bf16(_) => Type::Bf16,
            Self::F32(_) => Type::F32,
        }
    }

    pub(super) fn bits(self) -> u32 {
        match self {
            Self::I8(value) => u32::from(value as u8),
            Self::U8(value) => u32::from(value),
            Self::I32(value) => value as u32,
            Self::Bf16(value) => u32::from(value.0),
            Self::F32(value) => value.to_bits(),
        }
    }
}
