// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands, one function for each opcode, which refuse what the device would refuse.
//!
//! What cannot be seen here (what is mapped, what a tensor of shifts holds) the
//! device checks when it executes them.

mod check;
mod options;
#[cfg(test)]
mod tests;

use std::fmt;
use std::mem::offset_of;

use super::tensor::{Tensor, Type};
use crate::uapi::*;
use crate::{Error, Result};
use check::Check;

pub use options::{AddScaled, Conv2d, Function, Matmul, Pool, Pooling, Requantize, Scale, Value};

/// Bytes of a command.
pub const SIZE: usize = size_of::<accel_npu_command>();

/// One command.
///
/// Its functions take the output first, as the manual does, and tell in
/// [`Error::Refused`] what about which operand is wrong. Inputs may overlap the
/// output: a command behaves as if it read all before it writes.
///
/// # Examples
///
/// ```
/// use libaccel::npu::{Command, Matmul, Tensor, Type};
///
/// # fn main() -> libaccel::Result<()> {
/// let a = Tensor::contiguous(0x20_0000, Type::I8, &[16, 64])?;
/// let b = Tensor::contiguous(0x20_1000, Type::I8, &[64, 10])?;
/// let d = Tensor::contiguous(0x20_2000, Type::I32, &[16, 10])?;
/// let command = Command::matmul(d, a, b, Matmul { zero_a: -128, ..Matmul::default() })?;
/// assert_eq!(command.name(), "MATMUL");
/// let error = Command::matmul(d, b, a, Matmul::default()).unwrap_err();
/// assert!(error.to_string().contains("rows of B"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    opcode: u32,
    accumulate: bool,
    parameters: [u32; 14],
    /// D, A, B, C.
    operands: [Option<Tensor>; 4],
}

impl Command {
    /// Does nothing.
    pub fn nop() -> Self {
        Self::new(ACCEL_NPU_OP_NOP)
    }

    /// D = A. Same type, same dims.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], as of all of these functions.
    pub fn copy(d: Tensor, a: Tensor) -> Result<Self> {
        let check = Check("COPY");
        check.operand("D", &d)?;
        check.operand("A", &a)?;
        check.same_type("A", &a, "D", &d)?;
        check.same_dims("A", &a, &d)?;
        Ok(Self::new(ACCEL_NPU_OP_COPY).d(d).a(a))
    }

    /// Every element of D is `value`.
    ///
    /// # Errors
    ///
    /// When that is of another type.
    pub fn fill(d: Tensor, value: Value) -> Result<Self> {
        let check = Check("FILL");
        check.operand("D", &d)?;
        check.that(value.element() == d.element(), || {
            format!("D is {d}, and the value is {}", value.element())
        })?;
        Ok(Self::new(ACCEL_NPU_OP_FILL).d(d).parameter(0, value.bits()))
    }

    /// D [a, b, m, n] = Σ A [a, b, m, k] B [a, b, k, n]. I8 and I8 give I32; BF16 and
    /// BF16, or F32 and F32, give F32.
    ///
    /// # Errors
    ///
    /// Also above 2^32 multiplications.
    pub fn matmul(d: Tensor, a: Tensor, b: Tensor, how: Matmul) -> Result<Self> {
        let check = Check("MATMUL");
        check.operand("D", &d)?;
        check.operand("A", &a)?;
        check.operand("B", &b)?;
        check.product_types(&d, &a, &b, how.zero_a, how.zero_b)?;
        let ([d0, d1, m, n], [a0, a1, rows, k], [b0, b1, depth, columns]) =
            (d.dims(), a.dims(), b.dims());
        check.equal("columns of A", k, "rows of B", depth)?;
        check.equal("rows of A", rows, "rows of D", m)?;
        check.equal("columns of B", columns, "columns of D", n)?;
        check.that([a0, a1] == [d0, d1] && [b0, b1] == [d0, d1], || {
            format!("A is {a}, B is {b} and D is {d}: their first two dimensions must be the same")
        })?;
        check.work([d0, d1, m, n, k])?;
        Ok(Self::new(ACCEL_NPU_OP_MATMUL)
            .d(d)
            .a(a)
            .b(b)
            .parameter(0, sign_extended(how.zero_a))
            .parameter(1, sign_extended(how.zero_b))
            .accumulate(how.accumulate))
    }

    /// D [n, oh, ow, o] = the convolution of A [n, h, w, c] and B [o, kh, kw, c / g]. Types
    /// as in [`matmul`](Self::matmul). How many rows and columns D has is the
    /// caller's choice ([`Conv2d::output`]).
    ///
    /// # Errors
    ///
    /// Also above 2^32 multiplications.
    pub fn conv2d(d: Tensor, a: Tensor, b: Tensor, how: Conv2d) -> Result<Self> {
        let check = Check("CONV2D");
        check.operand("D", &d)?;
        check.operand("A", &a)?;
        check.operand("B", &b)?;
        check.product_types(&d, &a, &b, how.zero_a, how.zero_b)?;
        let ([dn, oh, ow, d_channels], [n, _, _, c], [o, kh, kw, depth]) =
            (d.dims(), a.dims(), b.dims());
        let groups = how.groups;
        check.that(groups != 0 && c % groups == 0 && o % groups == 0, || {
            format!("{groups} groups do not divide {c} channels of A and {o} of D")
        })?;
        check.equal("images of A", n, "images of D", dn)?;
        check.equal("kernels of B", o, "channels of D", d_channels)?;
        check.equal(
            "channels of B",
            depth,
            "channels of a group of A",
            c / groups,
        )?;
        check.work([n, oh, ow, o, kh, kw, depth])?;
        Ok(Self::new(ACCEL_NPU_OP_CONV2D)
            .d(d)
            .a(a)
            .b(b)
            .parameter(0, sign_extended(how.zero_a))
            .parameter(1, sign_extended(how.zero_b))
            .parameter(2, check.pair("strides", how.strides, 1)?)
            .parameter(3, check.pair("dilations", how.dilations, 1)?)
            .parameter(4, check.pair("padding", how.padding, 0)?)
            .parameter(5, groups)
            .accumulate(how.accumulate))
    }

    /// D I8 = A I32, plus the bias B I32 [1, 1, 1, c], times the factors C I32
    /// [1, 1, 2, c] of each channel ([`Scale::table`]), rounded, plus the zero point, limited.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]; what C holds the device checks.
    pub fn requantize(
        d: Tensor,
        a: Tensor,
        bias: Option<Tensor>,
        scales: Tensor,
        how: Requantize,
    ) -> Result<Self> {
        let check = Check("REQUANTIZE");
        check.operand("D", &d)?;
        check.operand("A", &a)?;
        check.has_type("D", &d, &[Type::I8])?;
        check.has_type("A", &a, &[Type::I32])?;
        check.same_dims("A", &a, &d)?;
        let channels = d.dims()[3];
        if let Some(bias) = &bias {
            check.operand("B", bias)?;
            check.has_type("B", bias, &[Type::I32])?;
            check.has_dims("B", bias, [1, 1, 1, channels])?;
        }
        check.operand("C", &scales)?;
        check.has_type("C", &scales, &[Type::I32])?;
        check.has_dims("C", &scales, [1, 1, 2, channels])?;
        check.limits(how)?;
        let command = Self::new(ACCEL_NPU_OP_REQUANTIZE).d(d).a(a);
        Ok(Self {
            operands: [Some(d), Some(a), bias, Some(scales)],
            ..command
        }
        .parameter(0, sign_extended(how.zero))
        .parameter(1, sign_extended(how.min))
        .parameter(2, sign_extended(how.max)))
    }

    /// D F32 or BF16 = f(scale A + B), A F32 and the bias B F32 [1, 1, 1, d3].
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub fn activate(
        d: Tensor,
        a: Tensor,
        bias: Option<Tensor>,
        function: Function,
        scale: f32,
    ) -> Result<Self> {
        let check = Check("ACTIVATE");
        check.operand("D", &d)?;
        check.operand("A", &a)?;
        check.has_type("D", &d, &[Type::F32, Type::Bf16])?;
        check.has_type("A", &a, &[Type::F32])?;
        check.same_dims("A", &a, &d)?;
        if let Some(bias) = &bias {
            check.operand("B", bias)?;
            check.has_type("B", bias, &[Type::F32])?;
            check.has_dims("B", bias, [1, 1, 1, d.dims()[3]])?;
        }
        let command = Self::new(ACCEL_NPU_OP_ACTIVATE).d(d).a(a);
        Ok(Self {
            operands: [Some(d), Some(a), bias, None],
            ..command
        }
        .parameter(0, function.number())
        .parameter(1, scale.to_bits()))
    }

    /// D = A + B, all F32 with the same dims.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub fn add(d: Tensor, a: Tensor, b: Tensor) -> Result<Self> {
        Self::sum(d, a, b, Type::F32)
    }

    /// D = A + B, all I8 with the same dims, each with a zero point and a scale.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub fn add_scaled(d: Tensor, a: Tensor, b: Tensor, how: AddScaled) -> Result<Self> {
        let check = Check("ADD");
        let command = Self::sum(d, a, b, Type::I8)?;
        for (name, multiplier) in [("m_a", how.multiplier_a), ("m_b", how.multiplier_b)] {
            check.that(multiplier <= Scale::MULTIPLIER_MAX, || {
                format!("{name} is {multiplier}, above 2^31 - 1")
            })?;
        }
        check.that(how.shift <= Scale::SHIFT_MAX, || {
            format!("the shift is {}, above {}", how.shift, Scale::SHIFT_MAX)
        })?;
        check.limits(how.to)?;
        Ok(command
            .parameter(0, sign_extended(how.zero_a))
            .parameter(1, sign_extended(how.zero_b))
            .parameter(2, how.multiplier_a)
            .parameter(3, how.multiplier_b)
            .parameter(4, how.shift)
            .parameter(5, sign_extended(how.to.zero))
            .parameter(6, sign_extended(how.to.min))
            .parameter(7, sign_extended(how.to.max)))
    }

    fn sum(d: Tensor, a: Tensor, b: Tensor, element: Type) -> Result<Self> {
        let check = Check("ADD");
        check.operand("D", &d)?;
        check.has_type("D", &d, &[element])?;
        for (name, input) in [("A", &a), ("B", &b)] {
            check.operand(name, input)?;
            check.has_type(name, input, &[element])?;
            check.same_dims(name, input, &d)?;
        }
        Ok(Self::new(ACCEL_NPU_OP_ADD).d(d).a(a).b(b))
    }

    /// D [n, oh, ow, c] = the greatest or the mean of each window of A [n, h, w, c],
    /// both I8 or both F32.
    ///
    /// # Errors
    ///
    /// Also when a window has no element of A, and when windows look at more than 2^32.
    pub fn pool(d: Tensor, a: Tensor, how: Pool) -> Result<Self> {
        let check = Check("POOL");
        check.operand("D", &d)?;
        check.operand("A", &a)?;
        check.has_type("D", &d, &[Type::I8, Type::F32])?;
        check.same_type("A", &a, "D", &d)?;
        let (to, from) = (d.dims(), a.dims());
        check.equal("images of A", from[0], "images of D", to[0])?;
        check.equal("channels of A", from[3], "channels of D", to[3])?;
        check.work([to[0], to[1], to[2], to[3], how.kernel[0], how.kernel[1]])?;
        let command = Self::new(ACCEL_NPU_OP_POOL)
            .d(d)
            .a(a)
            .parameter(0, u32::from(how.pooling == Pooling::Mean))
            .parameter(1, check.pair("kernel", how.kernel, 1)?)
            .parameter(2, check.pair("strides", how.strides, 1)?)
            .parameter(3, check.pair("padding", how.padding, 0)?);
        for (axis, name) in ["rows", "columns"].into_iter().enumerate() {
            // Those in between see what these two see, or more.
            let first = how.kernel[axis] > how.padding[axis];
            let last = u64::from(to[1 + axis] - 1) * u64::from(how.strides[axis]);
            let end = u64::from(how.padding[axis]) + u64::from(from[1 + axis]);
            check.that(first && last < end, || {
                format!(
                    "the first or last of {} windows has none of {} {name} of A",
                    to[1 + axis],
                    from[1 + axis]
                )
            })?;
        }
        Ok(command)
    }

    /// D F32 or I8 = exp(scale A) / Σ exp(scale A) along the last dimension; A F32 or I8.
    ///
    /// # Errors
    ///
    /// Also for a scale that is not above 0, or infinite.
    pub fn softmax(d: Tensor, a: Tensor, scale: f32) -> Result<Self> {
        let check = Check("SOFTMAX");
        check.operand("D", &d)?;
        check.operand("A", &a)?;
        check.has_type("D", &d, &[Type::F32, Type::I8])?;
        check.has_type("A", &a, &[Type::F32, Type::I8])?;
        check.same_dims("A", &a, &d)?;
        check.that(scale > 0.0 && scale.is_finite(), || {
            format!("the scale is {scale}: it must be a number above 0")
        })?;
        Ok(Self::new(ACCEL_NPU_OP_SOFTMAX)
            .d(d)
            .a(a)
            .parameter(0, scale.to_bits()))
    }

    /// D I32 [d0, d1, d2, 1] = the lowest index of the greatest element of A along the last
    /// dimension; A I8, I32 or F32.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub fn argmax(d: Tensor, a: Tensor) -> Result<Self> {
        let check = Check("ARGMAX");
        check.operand("D", &d)?;
        check.operand("A", &a)?;
        check.has_type("D", &d, &[Type::I32])?;
        check.has_type("A", &a, &[Type::I8, Type::I32, Type::F32])?;
        let [d0, d1, d2, _] = a.dims();
        check.has_dims("D", &d, [d0, d1, d2, 1])?;
        Ok(Self::new(ACCEL_NPU_OP_ARGMAX).d(d).a(a))
    }

    /// Its name in the manual.
    pub fn name(&self) -> &'static str {
        name(self.opcode).unwrap_or("unknown")
    }

    /// Its operands D, A, B, C.
    pub fn operands(&self) -> [Option<Tensor>; 4] {
        self.operands
    }

    /// As the device reads it.
    pub fn encode(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        let mut put = |at: usize, value: &[u8]| {
            for (to, from) in bytes.iter_mut().skip(at).zip(value) {
                *to = *from;
            }
        };
        put(
            offset_of!(accel_npu_command, opcode),
            // Opcodes have 16 bits.
            &(self.opcode as u16).to_le_bytes(),
        );
        let flags = if self.accumulate {
            ACCEL_NPU_ACCUMULATE
        } else {
            0
        };
        put(
            offset_of!(accel_npu_command, flags),
            &(flags as u16).to_le_bytes(),
        );
        for (i, parameter) in self.parameters.iter().enumerate() {
            let at = offset_of!(accel_npu_command, parameters) + i * 4;
            put(at, &parameter.to_le_bytes());
        }
        for (i, operand) in self.operands.iter().enumerate() {
            let Some(tensor) = operand else { continue };
            let start =
                offset_of!(accel_npu_command, operands) + i * size_of::<accel_npu_operand>();
            put(
                start + offset_of!(accel_npu_operand, address),
                &tensor.address().to_le_bytes(),
            );
            put(
                start + offset_of!(accel_npu_operand, type_),
                &tensor.element().number().to_le_bytes(),
            );
            let (dims, strides) = (tensor.dims(), tensor.strides());
            for i in 0..4 {
                let dim = start + offset_of!(accel_npu_operand, dims) + i * 4;
                put(dim, &dims[i].to_le_bytes());
                let stride = start + offset_of!(accel_npu_operand, strides) + i * 4;
                put(stride, &strides[i].to_le_bytes());
            }
        }
        bytes
    }

    fn new(opcode: u32) -> Self {
        Self {
            opcode,
            accumulate: false,
            parameters: [0; 14],
            operands: [None; 4],
        }
    }

    fn d(mut self, tensor: Tensor) -> Self {
        self.operands[0] = Some(tensor);
        self
    }

    fn a(mut self, tensor: Tensor) -> Self {
        self.operands[1] = Some(tensor);
        self
    }

    fn b(mut self, tensor: Tensor) -> Self {
        self.operands[2] = Some(tensor);
        self
    }

    fn parameter(mut self, index: usize, value: u32) -> Self {
        self.parameters[index] = value;
        self
    }

    fn accumulate(mut self, accumulate: bool) -> Self {
        self.accumulate = accumulate;
        self
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        for (name, operand) in ["D", "A", "B", "C"].into_iter().zip(&self.operands) {
            if let Some(tensor) = operand {
                write!(f, " {name} {tensor}")?;
            }
        }
        Ok(())
    }
}

/// The name of an opcode.
pub(super) fn name(opcode: u32) -> Option<&'static str> {
    Some(match opcode {
        ACCEL_NPU_OP_NOP => "NOP",
        ACCEL_NPU_OP_COPY => "COPY",
        ACCEL_NPU_OP_FILL => "FILL",
        ACCEL_NPU_OP_MATMUL => "MATMUL",
        ACCEL_NPU_OP_CONV2D => "CONV2D",
        ACCEL_NPU_OP_REQUANTIZE => "REQUANTIZE",
        ACCEL_NPU_OP_ACTIVATE => "ACTIVATE",
        ACCEL_NPU_OP_ADD => "ADD",
        ACCEL_NPU_OP_POOL => "POOL",
        ACCEL_NPU_OP_SOFTMAX => "SOFTMAX",
        ACCEL_NPU_OP_ARGMAX => "ARGMAX",
        _ => return None,
    })
}

fn sign_extended(value: i8) -> u32 {
    i32::from(value) as u32
}

fn refused(what: &'static str, why: String) -> Error {
    Error::Refused { what, why }
}
