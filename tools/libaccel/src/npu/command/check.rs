// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device's own checks, with words.

use super::{Requantize, refused};
use crate::Result;
use crate::npu::tensor::{Tensor, Type};

/// Most elements of an operand.
const ELEMENTS_MAX: u64 = 1 << 26;

/// Most multiplications of a MATMUL or CONV2D, and most that a POOL looks at.
const WORK_MAX: u128 = 1 << 32;

/// What is asked of a command, by its name.
pub(super) struct Check(pub(super) &'static str);

impl Check {
    pub(super) fn that(&self, holds: bool, why: impl FnOnce() -> String) -> Result<()> {
        if holds {
            Ok(())
        } else {
            Err(refused(self.0, why()))
        }
    }

    /// What is asked of every operand, beyond what a [`Tensor`] is.
    pub(super) fn operand(&self, name: &str, tensor: &Tensor) -> Result<()> {
        self.that(tensor.elements() <= ELEMENTS_MAX, || {
            format!("{name} is {tensor}, and has more than 2^26 elements: split it")
        })
    }

    pub(super) fn has_type(&self, name: &str, tensor: &Tensor, wanted: &[Type]) -> Result<()> {
        self.that(wanted.contains(&tensor.element()), || {
            let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            format!("{name} is {tensor}: it must be {}", wanted.join(" or "))
        })
    }

    pub(super) fn same_type(&self, name: &str, a: &Tensor, other: &str, b: &Tensor) -> Result<()> {
        self.that(a.element() == b.element(), || {
            format!("{name} is {a} and {other} is {b}: their types must be the same")
        })
    }

    pub(super) fn same_dims(&self, name: &str, tensor: &Tensor, d: &Tensor) -> Result<()> {
        self.that(tensor.dims() == d.dims(), || {
            format!("{name} is {tensor} and D is {d}: their dims must be the same")
        })
    }

    pub(super) fn has_dims(&self, name: &str, tensor: &Tensor, wanted: [u32; 4]) -> Result<()> {
        self.that(tensor.dims() == wanted, || {
            format!("{name} is {tensor}: its dims must be {wanted:?}")
        })
    }

    pub(super) fn equal(&self, left: &str, a: u32, right: &str, b: u32) -> Result<()> {
        self.that(a == b, || {
            format!("{a} {left} and {b} {right}: they must be the same")
        })
    }

    pub(super) fn product_types(
        &self,
        d: &Tensor,
        a: &Tensor,
        b: &Tensor,
        zero_a: i8,
        zero_b: i8,
    ) -> Result<()> {
        self.same_type("A", a, "B", b)?;
        self.has_type("A", a, &[Type::I8, Type::Bf16, Type::F32])?;
        if a.element() == Type::I8 {
            self.has_type("D", d, &[Type::I32])
        } else {
            self.that((zero_a, zero_b) == (0, 0), || {
                format!("A is {a}: only I8 has zero points other than 0")
            })?;
            self.has_type("D", d, &[Type::F32])
        }
    }

    /// Multiplications, or elements that windows look at.
    pub(super) fn work<const N: usize>(&self, factors: [u32; N]) -> Result<()> {
        let work = factors.iter().fold(1, |product: u128, factor| {
            product.saturating_mul(u128::from(*factor))
        });
        self.that(work <= WORK_MAX, || {
            format!("{work} steps are more than 2^32: split it")
        })
    }

    pub(super) fn limits(&self, how: Requantize) -> Result<()> {
        self.that(how.min <= how.max, || {
            format!(
                "the least result is {}, above the greatest, {}",
                how.min, how.max
            )
        })
    }

    /// Rows in the lower half, columns in the upper.
    pub(super) fn pair(&self, name: &str, [rows, columns]: [u32; 2], least: u32) -> Result<u32> {
        let range = least..=0xffff;
        self.that(range.contains(&rows) && range.contains(&columns), || {
            format!("{name} are {rows} and {columns}: they are {least} to 65,535")
        })?;
        Ok((columns << 16) | rows)
    }
}
