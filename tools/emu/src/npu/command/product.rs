// SPDX-License-Identifier: GPL-2.0
//! Sums of products, which MATMUL and CONV2D share: the types that have them, and the product of
//! two matrices in blocks that stay in the caches.
//!
//! A block of each factor is packed so that the innermost loop, over a tile of [`ROWS`] by
//! [`Factor::COLUMNS`] sums, reads both from one end to the other; its arithmetic is on arrays of
//! fixed size, which the compiler turns into vectors. I8 is widened to 16 bits and summed in 32,
//! floats to F64: all products are exact, nothing overflows on the way, and rounding to F32 comes
//! last, once.

use std::ops::Range;

use bytemuck::Pod;

use super::Failure;
use super::buffer::Buffer;
use super::context::Context;
use super::decode::Command;
use super::tensor::{Bf16, Type, bf16_to_f32};

/// Rows of a tile.
const ROWS: usize = 4;
/// The most rows, columns and depth of a block.
const BLOCK_ROWS: usize = 64;
const BLOCK_COLUMNS: usize = 128;
const BLOCK_DEPTH: usize = 256;

/// An element that is multiplied.
pub(super) trait Factor: Pod {
    /// What it is widened to, with its zero point subtracted.
    type Wide: Copy + Default;
    /// Sums of products.
    type Sum: Copy + Default;
    /// Elements of the result.
    type Result: Pod;

    /// Columns of a tile: as many sums as there are registers for.
    const COLUMNS: usize;

    /// A zero point, which was checked.
    fn zero(number: i32) -> Self::Wide;

    fn widen(self, zero: Self::Wide) -> Self::Wide;

    /// Whether it times 0 is 0.
    fn finite(self) -> bool;

    /// `sum` + `a` × `b`.
    fn add_product(sum: Self::Sum, a: Self::Wide, b: Self::Wide) -> Self::Sum;

    fn add(sum: Self::Sum, other: Self::Sum) -> Self::Sum;

    /// Adds to a tile of `sums`, row by row, the product of the packed factors.
    fn tile(a: &[Self::Wide], b: &[Self::Wide], sums: &mut [Self::Sum]);

    /// Adds a complete sum to an element of the result.
    fn finish(result: &mut Self::Result, sum: Self::Sum);
}

impl Factor for i8 {
    type Wide = i16;
    type Sum = i32;
    type Result = i32;

    const COLUMNS: usize = 8;

    fn zero(number: i32) -> i16 {
        number as i16
    }

    #[inline(always)]
    fn widen(self, zero: i16) -> i16 {
        i16::from(self) - zero
    }

    fn finite(self) -> bool {
        true
    }

    #[inline(always)]
    fn add_product(sum: i32, a: i16, b: i16) -> i32 {
        sum.wrapping_add(i32::from(a) * i32::from(b))
    }

    #[inline(always)]
    fn add(sum: i32, other: i32) -> i32 {
        sum.wrapping_add(other)
    }

    fn tile(a: &[i16], b: &[i16], sums: &mut [i32]) {
        tile::<Self, { Self::COLUMNS }>(a, b, sums);
    }

    fn finish(result: &mut i32, sum: i32) {
        *result = result.wrapping_add(sum);
    }
}

/// What F32 and BF16 have in common.
macro_rules! float_factor {
    ($type:ty, $to_f32:path) => {
        impl Factor for $type {
            type Wide = f64;
            type Sum = f64;
            type Result = f32;

            const COLUMNS: usize = 4;

            fn zero(_: i32) -> f64 {
                0.0
            }

            #[inline(always)]
            fn widen(self, _: f64) -> f64 {
                f64::from($to_f32(self))
            }

            fn finite(self) -> bool {
                $to_f32(self).is_finite()
            }

            #[inline(always)]
            fn add_product(sum: f64, a: f64, b: f64) -> f64 {
                sum + a * b
            }

            #[inline(always)]
            fn add(sum: f64, other: f64) -> f64 {
                sum + other
            }

            fn tile(a: &[f64], b: &[f64], sums: &mut [f64]) {
                tile::<Self, { Self::COLUMNS }>(a, b, sums);
            }

            fn finish(result: &mut f32, sum: f64) {
                *result = (f64::from(*result) + sum) as f32;
            }
        }
    };
}

float_factor!(f32, f32::from);
float_factor!(Bf16, bf16_to_f32);

#[inline(always)]
fn tile<F: Factor, const COLUMNS: usize>(a: &[F::Wide], b: &[F::Wide], sums: &mut [F::Sum]) {
    let mut tile = [[F::Sum::default(); COLUMNS]; ROWS];
    for (a, b) in a.chunks_exact(ROWS).zip(b.chunks_exact(COLUMNS)) {
        for (row, a) in tile.iter_mut().zip(a) {
            for (sum, b) in row.iter_mut().zip(b) {
                *sum = F::add_product(*sum, *a, *b);
            }
        }
    }
    for (sum, other) in sums.iter_mut().zip(tile.as_flattened()) {
        *sum = F::add(*sum, *other);
    }
}

/// A matrix in memory: `elements` from `offset` on, `row` of them from one row to the next.
pub(super) struct Matrix<'a, F> {
    pub(super) elements: &'a [F],
    pub(super) offset: usize,
    pub(super) row: usize,
}

/// Products of matrices of one size, with the buffers that they need.
pub(super) struct Multiplier<F: Factor> {
    rows: usize,
    columns: usize,
    depth: usize,
    /// The zero point of the right factor.
    zero: F::Wide,
    packed_a: Vec<F::Wide>,
    packed_b: Vec<F::Wide>,
    sums: Vec<F::Sum>,
}

impl<F: Factor> Multiplier<F> {
    /// For `rows` × `depth` times `depth` × `columns`; all are at least 1.
    pub(super) fn new(rows: usize, columns: usize, depth: usize, zero: F::Wide) -> Self {
        let a = BLOCK_ROWS.min(rows.next_multiple_of(ROWS));
        let b = BLOCK_COLUMNS.min(columns.next_multiple_of(F::COLUMNS));
        let deep = BLOCK_DEPTH.min(depth);
        Self {
            rows,
            columns,
            depth,
            zero,
            packed_a: vec![F::Wide::default(); a * deep],
            packed_b: vec![F::Wide::default(); b * deep],
            sums: vec![F::Sum::default(); a * b],
        }
    }

    /// Adds the product of two matrices to the one that has a first element at `offset` in
    /// `result`, and `row` elements from one row to the next.
    ///
    /// `left` gives elements of the left factor: it is called with a row, a range of columns, and
    /// where to put those.
    pub(super) fn multiply(
        &mut self,
        left: impl Fn(usize, Range<usize>, &mut [F::Wide]),
        right: &Matrix<'_, F>,
        result: &mut [F::Result],
        offset: usize,
        row: usize,
        context: &Context<'_>,
    ) -> Result<(), Failure> {
        let blocks = |whole: usize, block: usize| {
            (0..whole)
                .step_by(block)
                .map(move |start| start..whole.min(start + block))
        };
        for rows in blocks(self.rows, BLOCK_ROWS) {
            for columns in blocks(self.columns, BLOCK_COLUMNS) {
                self.sums.fill(F::Sum::default());
                for depth in blocks(self.depth, BLOCK_DEPTH) {
                    context.spend(((rows.len() * 2 + columns.len()) * depth.len()) as u64)?;
                    self.pack_left(&left, rows.clone(), depth.clone());
                    self.pack_right(right, columns.clone(), depth.clone());
                    self.add_block(rows.len(), columns.len(), depth.len(), context)?;
                }
                let tiles = columns.len().div_ceil(F::COLUMNS);
                context.spend(100 + 2 * (rows.len() * columns.len()) as u64)?;
                for (i, r) in rows.clone().enumerate() {
                    let to = &mut result[offset + r * row + columns.start..][..columns.len()];
                    for (j, to) in to.iter_mut().enumerate() {
                        let tile = i / ROWS * tiles + j / F::COLUMNS;
                        let at = (tile * ROWS + i % ROWS) * F::COLUMNS + j % F::COLUMNS;
                        F::finish(to, self.sums[at]);
                    }
                }
            }
        }
        Ok(())
    }

    /// Packs panels of [`ROWS`] rows, in each of which a column lies together.
    fn pack_left(
        &mut self,
        left: &impl Fn(usize, Range<usize>, &mut [F::Wide]),
        rows: Range<usize>,
        depth: Range<usize>,
    ) {
        let mut line = [F::Wide::default(); BLOCK_DEPTH];
        let line = &mut line[..depth.len()];
        for (p, panel) in self
            .packed_a
            .chunks_exact_mut(ROWS * depth.len())
            .take(rows.len().div_ceil(ROWS))
            .enumerate()
        {
            for i in 0..ROWS {
                let row = rows.start + p * ROWS + i;
                match row < rows.end {
                    true => left(row, depth.clone(), line),
                    // Sums of no row: nobody looks at them.
                    false => line.fill(F::Wide::default()),
                }
                for (to, from) in panel.chunks_exact_mut(ROWS).zip(line.iter()) {
                    to[i] = *from;
                }
            }
        }
    }

    /// Packs panels of [`Factor::COLUMNS`] columns, in each of which a row lies together.
    fn pack_right(&mut self, right: &Matrix<'_, F>, columns: Range<usize>, depth: Range<usize>) {
        for (p, panel) in self
            .packed_b
            .chunks_exact_mut(F::COLUMNS * depth.len())
            .take(columns.len().div_ceil(F::COLUMNS))
            .enumerate()
        {
            let first = columns.start + p * F::COLUMNS;
            let count = F::COLUMNS.min(columns.end - first);
            for (k, to) in depth.clone().zip(panel.chunks_exact_mut(F::COLUMNS)) {
                let from = &right.elements[right.offset + k * right.row + first..][..count];
                for (to, from) in to.iter_mut().zip(from) {
                    *to = from.widen(self.zero);
                }
            }
        }
    }

    /// Adds the product of what is packed to the sums.
    fn add_block(
        &mut self,
        rows: usize,
        columns: usize,
        depth: usize,
        context: &Context<'_>,
    ) -> Result<(), Failure> {
        let tiles = columns.div_ceil(F::COLUMNS);
        let panels = self.packed_a.chunks_exact(ROWS * depth);
        for (a, sums) in panels
            .zip(self.sums.chunks_exact_mut(ROWS * F::COLUMNS * tiles))
            .take(rows.div_ceil(ROWS))
        {
            context.spend((ROWS * F::COLUMNS * tiles * depth) as u64 / 4)?;
            for (b, sums) in self
                .packed_b
                .chunks_exact(F::COLUMNS * depth)
                .zip(sums.chunks_exact_mut(ROWS * F::COLUMNS))
            {
                F::tile(a, b, sums);
            }
        }
        Ok(())
    }
}

/// Checks that factors and result have types that go together.
pub(super) fn check_types(command: &Command) -> Result<(), Failure> {
    let (d, a) = (command.d()?, command.a()?);
    let b = command.b().ok_or(Failure::Operand)?;
    match (a.kind, b.kind, d.kind) {
        (Type::I8, Type::I8, Type::I32)
        | (Type::Bf16, Type::Bf16, Type::F32)
        | (Type::F32, Type::F32, Type::F32) => Ok(()),
        _ => Err(Failure::Operand),
    }
}

/// The zero points of A and B, p0 and p1.
pub(super) fn zero_points(command: &Command) -> Result<[i32; 2], Failure> {
    let (lowest, highest) = match command.a()?.kind {
        Type::I8 => (-128, 127),
        _ => (0, 0),
    };
    Ok([
        command.number(0, lowest, highest)?,
        command.number(1, lowest, highest)?,
    ])
}

/// What D begins with: its elements, if the command adds to them, else zeros.
pub(super) fn begin<T: Pod>(
    command: &Command,
    context: &Context<'_>,
) -> Result<Buffer<T>, Failure> {
    let d = command.d()?;
    match command.accumulate() {
        true => d.read(context),
        false => Buffer::zeroed(d.elements(), context),
    }
}
