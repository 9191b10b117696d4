// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where in the NPU's memory everything of a model is.

use anyhow::{Context, Result};
use libaccel::npu::{self, Type};

use crate::graph::RANK;

/// Tensors begin at multiples of this.
pub const ALIGN: usize = 64;

/// A part of the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From the beginning of the memory, in bytes.
    pub offset: usize,
    /// In bytes.
    pub size: usize,
}

/// What is where. Memory is given out in order, and never given back.
#[derive(Debug)]
pub struct Layout {
    base: u64,
    size: usize,
    tensors: Vec<Option<Span>>,
    constants: Vec<(Span, Vec<u8>)>,
    /// The 32-bit sums, which are of no use after the layer that made them.
    sums: Option<Span>,
}

impl Layout {
    pub fn new(base: u64, tensors: usize) -> Self {
        Self {
            base,
            size: 0,
            tensors: vec![None; tensors],
            constants: Vec::new(),
            sums: None,
        }
    }

    /// Bytes of memory that the model needs.
    pub fn size(&self) -> usize {
        self.size
    }

    /// What has to be in the memory before the model is run.
    pub fn constants(&self) -> &[(Span, Vec<u8>)] {
        &self.constants
    }

    /// Where a tensor is, if it is anywhere.
    pub fn find(&self, tensor: usize) -> Option<Span> {
        self.tensors.get(tensor).copied().flatten()
    }

    /// Gives a tensor memory, and content.
    pub(super) fn place(
        &mut self,
        tensor: usize,
        size: usize,
        content: Option<&[u8]>,
    ) -> Result<Span> {
        let span = match content {
            Some(content) => self.constant(content)?,
            None => self.take(size)?,
        };
        if let Some(place) = self.tensors.get_mut(tensor) {
            *place = Some(span);
        }
        Ok(span)
    }

    /// Has a tensor be where another is.
    pub(super) fn alias(&mut self, tensor: usize, other: usize) {
        let span = self.find(other);
        if let Some(place) = self.tensors.get_mut(tensor) {
            *place = span;
        }
    }

    /// Memory with content.
    pub(super) fn constant(&mut self, content: &[u8]) -> Result<Span> {
        let span = self.take(content.len())?;
        self.constants.push((span, content.to_vec()));
        Ok(span)
    }

    /// The I32 sums of a layer.
    pub(super) fn sums(&mut self, dims: [u32; RANK]) -> Result<npu::Tensor> {
        let dims = dims.map(|dim| dim as usize);
        let size = dims.iter().product::<usize>() * 4;
        let span = match self.sums {
            Some(span) if span.size >= size => span,
            _ => self.take(size)?,
        };
        self.sums = Some(span);
        self.operand(span, Type::I32, dims)
    }

    /// Memory as an operand whose elements lie close together.
    pub(super) fn operand(
        &self,
        span: Span,
        element: Type,
        dims: [usize; RANK],
    ) -> Result<npu::Tensor> {
        let mut sizes = [0; RANK];
        for (size, dim) in sizes.iter_mut().zip(dims) {
            *size = u32::try_from(dim)?;
        }
        let address = self.base + span.offset as u64;
        Ok(npu::Tensor::contiguous(address, element, &sizes)?)
    }

    fn take(&mut self, size: usize) -> Result<Span> {
        let span = Span {
            offset: self.size,
            size,
        };
        self.size = (self.size.checked_add(size))
            .and_then(|end| end.checked_next_multiple_of(ALIGN))
            .context("the model is too large")?;
        Ok(span)
    }
}
