// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that the device reaches: its own, and buffers that the program reaches too.

use std::ops::Range;

use super::address::PAGE;
use super::context::Context;
use super::tensor::{Element, Tensor, Type};
use crate::uapi::*;
use crate::{Buffer, Errno, Error, Mapping, Result};

/// What the device may do with memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read it.
    Read,
    /// Write it.
    Write,
    /// Both.
    ReadWrite,
}

impl Access {
    fn flags(self) -> u32 {
        match self {
            Self::Read => ACCEL_NPU_MAP_READ,
            Self::Write => ACCEL_NPU_MAP_WRITE,
            Self::ReadWrite => ACCEL_NPU_MAP_READ | ACCEL_NPU_MAP_WRITE,
        }
    }
}

/// A range of device addresses with memory behind it, until this is dropped.
///
/// The memory of the device that it may be has no other way in than commands: COPY
/// from and to a [`Shared`].
#[derive(Debug)]
pub struct Mapped {
    context: Context,
    address: u64,
    size: u64,
}

impl Mapped {
    /// New memory of the device, zeroed, of at least `size` bytes.
    pub(super) fn device(context: &Context, size: u64, access: Access) -> Result<Self> {
        Self::new(context, access.flags() | ACCEL_NPU_MAP_DEVICE, 0, 0, size)
    }

    /// A part of a buffer.
    pub(super) fn buffer(
        context: &Context,
        buffer: &Buffer,
        range: Range<u64>,
        access: Access,
    ) -> Result<Self> {
        let size = range.end.saturating_sub(range.start);
        Self::new(context, access.flags(), buffer.handle(), range.start, size)
    }

    fn new(context: &Context, flags: u32, buffer: u32, offset: u64, size: u64) -> Result<Self> {
        let error = |errno| context.call_error(ACCEL_NPU_IOCTL_MAP.name(), errno);
        if size == 0 {
            return Err(error(Errno::INVAL));
        }
        let size = size
            .checked_next_multiple_of(PAGE)
            .ok_or_else(|| error(Errno::RANGE))?;
        let address = context
            .addresses()
            .take(size)
            .ok_or_else(|| error(Errno::RANGE))?;
        let mut argument = accel_npu_map {
            buffer,
            flags,
            offset,
            size,
            address,
        };
        if let Err(error) = context.compute().ioctl(ACCEL_NPU_IOCTL_MAP, &mut argument) {
            context.addresses().give(address, size);
            return Err(error);
        }
        Ok(Self {
            context: context.clone(),
            address,
            size,
        })
    }

    /// Its first device address.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Bytes; whole pages.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// A contiguous tensor at `offset` in it.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] as [`Tensor::contiguous`], and when it is not all inside.
    pub fn tensor(&self, offset: u64, element: Type, dims: &[u32]) -> Result<Tensor> {
        let place = self.address.checked_add(offset);
        let place = place.ok_or_else(|| outside(self.size, offset))?;
        let tensor = Tensor::contiguous(place, element, dims)?;
        if tensor.end() > self.address + self.size {
            return Err(outside(self.size, tensor.end() - self.address));
        }
        Ok(tensor)
    }

    /// Gives out the memory in pieces, from its beginning.
    pub fn arena(&self) -> Arena {
        Arena::new(self.address, self.size)
    }

    /// Where a tensor is in it.
    fn offset(&self, tensor: &Tensor) -> Result<u64> {
        if tensor.address() < self.address || tensor.end() > self.address + self.size {
            return Err(Error::Refused {
                what: "tensor",
                why: format!(
                    "{tensor} is not inside of the {} bytes at {:#x}",
                    self.size, self.address
                ),
            });
        }
        Ok(tensor.address() - self.address)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let mut argument = accel_npu_unmap {
            address: self.address,
            size: self.size,
        };
        let result = self
            .context
            .compute()
            .ioctl(ACCEL_NPU_IOCTL_UNMAP, &mut argument);
        // Addresses that are still mapped, since the device has failed, are not used again.
        if result.is_ok() {
            self.context.addresses().give(self.address, self.size);
        }
    }
}

/// Gives out device addresses one after the other, each at a multiple of 64 bytes.
#[derive(Debug, Clone)]
pub struct Arena {
    start: u64,
    next: u64,
    end: u64,
}

impl Arena {
    /// What tensors begin at a multiple of.
    pub const ALIGN: u64 = 64;

    /// An arena of the `size` bytes at `address`, which need not be mapped yet. Its
    /// first tensor begins at a multiple of [`ALIGN`](Self::ALIGN).
    pub fn new(address: u64, size: u64) -> Self {
        Self {
            start: address,
            next: address
                .checked_next_multiple_of(Self::ALIGN)
                .unwrap_or(u64::MAX),
            end: address.saturating_add(size),
        }
    }

    /// Bytes that a contiguous tensor takes of an arena, for planning.
    pub fn bytes(element: Type, dims: &[u32]) -> u64 {
        let elements = dims.iter().fold(1, |product: u64, dim| {
            product.saturating_mul(u64::from(*dim))
        });
        elements
            .saturating_mul(u64::from(element.size()))
            .checked_next_multiple_of(Self::ALIGN)
            .unwrap_or(u64::MAX)
    }

    /// The next contiguous tensor.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is no room for it, and as [`Tensor::contiguous`].
    pub fn tensor(&mut self, element: Type, dims: &[u32]) -> Result<Tensor> {
        let tensor = Tensor::contiguous(self.next, element, dims)?;
        if tensor.end() > self.end {
            return Err(outside(self.end - self.start, tensor.end() - self.start));
        }
        // Tensors end at 2^48 at most.
        self.next = tensor.end().next_multiple_of(Self::ALIGN);
        Ok(tensor)
    }

    /// Bytes that it has given out.
    pub fn used(&self) -> u64 {
        self.next - self.start
    }
}

fn outside(size: u64, end: u64) -> Error {
    Error::Refused {
        what: "tensor",
        why: format!("it ends at byte {end} of memory that has {size}: map more"),
    }
}

/// A buffer of the host's memory that both program and device have mapped.
#[derive(Debug)]
pub struct Shared {
    mapped: Mapped,
    mapping: Mapping,
}

impl Shared {
    pub(super) fn new(context: &Context, size: u64, access: Access) -> Result<Self> {
        let buffer = context.compute().buffer(size)?;
        let mapping = buffer.map()?;
        // Both mappings keep the memory; its handle is not needed.
        let mapped = Mapped::buffer(context, &buffer, 0..buffer.size(), access)?;
        Ok(Self { mapped, mapping })
    }

    /// Where the device has it.
    pub fn mapped(&self) -> &Mapped {
        &self.mapped
    }

    /// Its bytes as the program has them.
    pub fn bytes(&self) -> &Mapping {
        &self.mapping
    }

    /// Its bytes as the program has them, to write.
    pub fn bytes_mut(&mut self) -> &mut Mapping {
        &mut self.mapping
    }

    /// Writes the elements of a tensor that is in it, in the order of indices.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the type or the number of elements is another, or it is not
    /// all inside.
    pub fn store<T: Element>(&mut self, tensor: &Tensor, values: &[T]) -> Result<()> {
        let offset = self.check::<T>(tensor)?;
        if tensor.elements() != values.len() as u64 {
            return Err(Error::Refused {
                what: "tensor",
                why: format!("{tensor} is not {} elements", values.len()),
            });
        }
        let size = tensor.element().size() as usize;
        let mut bytes = Vec::with_capacity(values.len() * size);
        for value in values {
            value.push(&mut bytes);
        }
        if tensor.is_contiguous() {
            return self.mapping.write_at(offset, &bytes);
        }
        let start = self.mapped.address;
        for (address, element) in tensor.addresses().zip(bytes.chunks(size)) {
            // Inside, so it fits what the mapping counts with.
            self.mapping.write_at((address - start) as usize, element)?;
        }
        Ok(())
    }

    /// Reads the elements of a tensor that is in it, in the order of indices.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the type is another, or it is not all inside.
    pub fn load<T: Element>(&self, tensor: &Tensor) -> Result<Vec<T>> {
        let offset = self.check::<T>(tensor)?;
        let size = tensor.element().size() as usize;
        let mut bytes = vec![0; (tensor.end() - tensor.address()) as usize];
        self.mapping.read_at(offset, &mut bytes)?;
        let at = |address: u64| (address - tensor.address()) as usize;
        Ok(tensor
            .addresses()
            .map(|address| T::from_bytes(&bytes[at(address)..at(address) + size]))
            .collect())
    }

    fn check<T: Element>(&self, tensor: &Tensor) -> Result<usize> {
        if tensor.element() != T::TYPE {
            return Err(Error::Refused {
                what: "tensor",
                why: format!("{tensor} has no elements of {}", T::TYPE),
            });
        }
        // The program has all of it mapped, so it fits.
        Ok(self.mapped.offset(tensor)? as usize)
    }
}
