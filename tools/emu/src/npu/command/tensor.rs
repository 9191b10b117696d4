// SPDX-License-Identifier: GPL-2.0
//! Operands: strided tensors in memory, which are read into and written from dense arrays in the
//! order of indices.

use bytemuck::Pod;

use super::Failure;
use super::buffer::Buffer;
use super::context::Context;

// Memory is little-endian, and elements are read in place.
const _: () = assert!(cfg!(target_endian = "little") && usize::BITS >= 64);

/// The most elements of an operand.
pub(super) const ELEMENTS: u64 = 1 << 26;

/// The most bytes of one access, so that no access takes long.
const SPAN: u64 = 64 << 10;
/// Gaps up to this many bytes may be read along with the elements around them: no page of 4 KiB
/// fits in one, so that no page is accessed that has no element.
const GAP: u64 = 4095;
/// Gaps are read if at least one in so many bytes is an element's.
const WASTE: u64 = 16;

/// The type of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    I8,
    U8,
    I32,
    Bf16,
    F32,
}

impl Type {
    pub(super) fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::I8,
            2 => Self::U8,
            3 => Self::I32,
            4 => Self::Bf16,
            5 => Self::F32,
            _ => return None,
        })
    }

    /// Bytes of an element.
    pub(super) fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::Bf16 => 2,
            Self::I32 | Self::F32 => 4,
        }
    }
}

/// The bits of a BF16: the upper half of an F32.
pub(super) type Bf16 = u16;

/// The nearest BF16, ties to even. A NaN stays one.
pub(super) fn bf16_from_f32(value: f32) -> Bf16 {
    let bits = value.to_bits();
    let rounded = if value.is_nan() {
        // Rounding could make an infinity of it; the highest bit of the fraction cannot.
        bits | 0x40_0000
    } else {
        // From the greatest finite numbers this carries over to infinity, as it should.
        bits + 0x7fff + ((bits >> 16) & 1)
    };
    (rounded >> 16) as Bf16
}

/// The value of a BF16.
#[inline(always)]
pub(super) fn bf16_to_f32(bits: Bf16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// A strided tensor. Dimensions are at least 1; address and strides are multiples of the size of
/// an element, and the stride of a dimension of size 1 is 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand {
    pub(super) address: u64,
    pub(super) kind: Type,
    pub(super) dims: [u32; 4],
    pub(super) strides: [u32; 4],
}

/// A dimension of more than one element: the step from one to the next in memory, in bytes, and
/// in the dense array, in elements.
#[derive(Clone, Copy)]
struct Axis {
    count: usize,
    stride: u64,
    step: usize,
}

/// How elements are accessed: in spans, each one access, of the first `inner` axes, of the last
/// of which `block` elements at a time.
struct Plan {
    address: u64,
    offset: usize,
    axes: Vec<Axis>,
    inner: usize,
    block: usize,
}

impl Operand {
    /// The dimensions, for indexing.
    pub(super) fn shape(&self) -> [usize; 4] {
        self.dims.map(|dim| dim as usize)
    }

    /// How many elements there are, whatever the dimensions.
    pub(super) fn elements_wide(&self) -> u128 {
        self.dims.iter().map(|dim| u128::from(*dim)).product()
    }

    /// How many elements there are; sizes were checked.
    pub(super) fn elements(&self) -> usize {
        self.shape().iter().product()
    }

    /// Address of the last byte, wherever that is.
    pub(super) fn last_byte(&self) -> u128 {
        let steps = self.dims.iter().zip(&self.strides);
        let to_last: u128 = steps
            .map(|(dim, stride)| u128::from(*dim - 1) * u128::from(*stride))
            .sum();
        u128::from(self.address) + to_last + self.kind.size() as u128 - 1
    }

    /// All elements in the order of indices; sizes were checked. `T` has the size of an element.
    pub(super) fn read<T: Pod>(&self, context: &Context<'_>) -> Result<Buffer<T>, Failure> {
        let size = size_of::<T>();
        let mut dense = Buffer::zeroed(self.elements(), context)?;
        let mut axes = self.axes();
        axes.retain(|axis| axis.stride != 0);
        axes.sort_by_key(|axis| axis.stride);
        let plan = Plan::new(self.address, 0, axes, size, GAP);

        let mut scratch = vec![T::zeroed(); plan.scratch(size)];
        plan.walk(|address, offset, last| {
            if let Some(count) = plan.run(size, last) {
                context.spend(100 + (count * size) as u64 / 2)?;
                let to = &mut dense[offset..offset + count];
                return context.memory.read(address, bytemuck::cast_slice_mut(to));
            }
            let scratch = &mut scratch[..plan.extent(size, last)];
            context.spend(100 + 8 * scratch.len() as u64)?;
            let bytes = bytemuck::cast_slice_mut(scratch);
            if context.memory.read(address, bytes).is_err() {
                // It may be about a gap: what counts is which element cannot be read.
                return plan.elements(size, last, |from, to| {
                    context.spend(100)?;
                    let element = &mut dense[offset + to..][..1];
                    let address = address + (from * size) as u64;
                    context
                        .memory
                        .read(address, bytemuck::cast_slice_mut(element))
                });
            }
            plan.elements(size, last, |from, to| {
                dense[offset + to] = scratch[from];
                Ok(())
            })
        })?;
        self.repeat(&mut dense, context)?;
        Ok(dense)
    }

    /// Fills the dimensions with a stride of 0, of which the first element is there.
    fn repeat<T: Pod>(&self, dense: &mut [T], context: &Context<'_>) -> Result<(), Failure> {
        let axes = self.axes();
        for axis in axes.iter().filter(|axis| axis.stride == 0) {
            for block in dense.chunks_exact_mut(axis.count * axis.step) {
                let (first, others) = block.split_at_mut(axis.step);
                if let [value] = first {
                    for part in others.chunks_mut(SPAN as usize) {
                        context.spend(part.len() as u64)?;
                        part.fill(*value);
                    }
                    continue;
                }
                for other in others.chunks_exact_mut(axis.step) {
                    for (to, from) in other
                        .chunks_mut(SPAN as usize)
                        .zip(first.chunks(SPAN as usize))
                    {
                        context.spend(from.len() as u64)?;
                        to.copy_from_slice(from);
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes all elements, of which `dense` has the values in the order of indices; sizes were
    /// checked. Where elements overlap, the last one stays.
    pub(super) fn write<T: Pod>(&self, dense: &[T], context: &Context<'_>) -> Result<(), Failure> {
        let size = size_of::<T>();
        let mut axes = self.axes();
        // All elements of such a dimension are at one place: the last one stays.
        let last: usize = axes
            .iter()
            .filter(|axis| axis.stride == 0)
            .map(|axis| (axis.count - 1) * axis.step)
            .sum();
        axes.retain(|axis| axis.stride != 0);
        let mut sorted = axes.clone();
        sorted.sort_by_key(|axis| axis.stride);
        if !overlap(&sorted, size) {
            axes = sorted;
        }
        let plan = Plan::new(self.address, last, axes, size, 0);

        let mut scratch = vec![T::zeroed(); plan.scratch(size)];
        plan.walk(|address, offset, last| {
            if let Some(count) = plan.run(size, last) {
                context.spend(100 + (count * size) as u64 / 2)?;
                let from = &dense[offset..offset + count];
                return context.memory.write(address, bytemuck::cast_slice(from));
            }
            let scratch = &mut scratch[..plan.extent(size, last)];
            context.spend(100 + 8 * scratch.len() as u64)?;
            plan.elements(size, last, |to, from| {
                scratch[to] = dense[offset + from];
                Ok(())
            })?;
            context.memory.write(address, bytemuck::cast_slice(scratch))
        })
    }

    /// Writes all elements, each with the bytes `value`; sizes were checked.
    pub(super) fn fill(&self, value: &[u8], context: &Context<'_>) -> Result<(), Failure> {
        let size = value.len();
        let mut axes = self.axes();
        axes.retain(|axis| axis.stride != 0);
        axes.sort_by_key(|axis| axis.stride);
        let plan = Plan::new(self.address, 0, axes, size, 0);

        let values = value.repeat(plan.extent(size, plan.block));
        plan.walk(|address, _, last| {
            let bytes = &values[..plan.extent(size, last) * size];
            context.spend(100 + bytes.len() as u64 / 2)?;
            context.memory.write(address, bytes)
        })
    }

    /// The dimensions of more than one element, the last first.
    fn axes(&self) -> Vec<Axis> {
        let mut axes = Vec::with_capacity(4);
        let mut step = 1;
        for (dim, stride) in self.dims.iter().zip(&self.strides).rev() {
            let count = *dim as usize;
            if count > 1 {
                axes.push(Axis {
                    count,
                    stride: u64::from(*stride),
                    step,
                });
            }
            step *= count;
        }
        axes
    }
}

/// Whether two elements may have bytes in common, with axes in the order of strides. It may say
/// so of some that have not.
fn overlap(axes: &[Axis], size: usize) -> bool {
    let mut extent = size as u64;
    for axis in axes {
        if axis.stride < extent {
            return true;
        }
        extent += (axis.count as u64 - 1) * axis.stride;
    }
    false
}

impl Plan {
    /// For elements at `address` and, in the dense array, at `offset`; axes are accessed in their
    /// order, the first one fastest. Spans have gaps of up to `gap` bytes.
    fn new(address: u64, offset: usize, axes: Vec<Axis>, size: usize, gap: u64) -> Self {
        let mut merged: Vec<Axis> = Vec::with_capacity(4);
        for axis in axes {
            match merged.last_mut() {
                Some(last)
                    if axis.stride == last.stride * last.count as u64
                        && axis.step == last.step * last.count =>
                {
                    last.count *= axis.count;
                }
                _ => merged.push(axis),
            }
        }

        let mut plan = Self {
            address,
            offset,
            axes: merged,
            inner: 0,
            block: 1,
        };
        let (mut extent, mut used) = (size as u64, size as u64);
        for axis in &plan.axes {
            let fits = match gap {
                0 => axis.stride == extent,
                _ => axis.stride <= extent + gap,
            };
            // The last axis of a span may be taken in parts.
            let block = (SPAN.saturating_sub(extent) / axis.stride + 1).min(axis.count as u64);
            let (whole, bytes) = (extent + (block - 1) * axis.stride, used * block);
            if !fits || block == 1 || bytes * WASTE < whole {
                break;
            }
            plan.inner += 1;
            plan.block = block as usize;
            (extent, used) = (whole, bytes);
            if plan.block < axis.count {
                break;
            }
        }
        plan
    }

    /// Elements from the begin of a span to its end, gaps included, with `last` elements of its
    /// last axis.
    fn extent(&self, size: usize, last: usize) -> usize {
        let Some((axis, others)) = self.axes[..self.inner].split_last() else {
            return 1;
        };
        let bytes: u64 = others
            .iter()
            .map(|axis| (axis.count as u64 - 1) * axis.stride)
            .sum();
        (bytes + (last as u64 - 1) * axis.stride) as usize / size + 1
    }

    /// If a span is also without gaps in the dense array: how many elements it has.
    fn run(&self, size: usize, last: usize) -> Option<usize> {
        match &self.axes[..self.inner] {
            [] => Some(1),
            [axis] if axis.stride == size as u64 && axis.step == 1 => Some(last),
            _ => None,
        }
    }

    /// The most elements that a span needs a scratch for.
    fn scratch(&self, size: usize) -> usize {
        match self.run(size, self.block) {
            Some(_) => 0,
            None => self.extent(size, self.block),
        }
    }

    /// Calls `access` with the address of each span, its place in the dense array, and how many
    /// elements of the last axis it has.
    fn walk(
        &self,
        mut access: impl FnMut(u64, usize, usize) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (inner, outer) = self.axes.split_at(self.inner);
        let part = inner.last();
        let mut indices = [0; 4];
        loop {
            let (mut address, mut offset) = (self.address, self.offset);
            for (axis, index) in outer.iter().zip(indices) {
                address += index as u64 * axis.stride;
                offset += index * axis.step;
            }
            match part {
                None => access(address, offset, 1)?,
                Some(axis) => {
                    for start in (0..axis.count).step_by(self.block) {
                        access(
                            address + start as u64 * axis.stride,
                            offset + start * axis.step,
                            self.block.min(axis.count - start),
                        )?;
                    }
                }
            }
            if !advance(&mut indices, outer) {
                return Ok(());
            }
        }
    }

    /// Calls `each` with the place of every element of a span, in elements: from the begin of the
    /// span, and from its place in the dense array.
    fn elements(
        &self,
        size: usize,
        last: usize,
        mut each: impl FnMut(usize, usize) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut inner = [Axis {
            count: 1,
            stride: 0,
            step: 0,
        }; 4];
        inner[..self.inner].copy_from_slice(&self.axes[..self.inner]);
        if let Some(axis) = inner[..self.inner].last_mut() {
            axis.count = last;
        }
        let [first, others @ ..] = inner;
        let mut indices = [0; 4];
        loop {
            let (mut at, mut to) = (0, 0);
            for (axis, index) in others.iter().zip(indices) {
                at += index * axis.stride as usize / size;
                to += index * axis.step;
            }
            for i in 0..first.count {
                each(at + i * first.stride as usize / size, to + i * first.step)?;
            }
            if !advance(&mut indices, &others) {
                return Ok(());
            }
        }
    }
}

/// The next indices, the first axis fastest; false when there are none.
fn advance(indices: &mut [usize; 4], axes: &[Axis]) -> bool {
    for (index, axis) in indices.iter_mut().zip(axes) {
        *index += 1;
        if *index < axis.count {
            return true;
        }
        *index = 0;
    }
    false
}
