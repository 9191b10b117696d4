// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tensors: where elements are in the device's address space, and how to go from one to the next.

use std::fmt;
use std::ops::Range;

use crate::uapi::*;
use crate::{Error, Result};

/// First device address that no operand may reach (48 bits).
const END: u64 = ACCEL_NPU_ADDRESS_END;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// Signed byte.
    I8,
    /// Byte.
    U8,
    /// Signed 32-bit integer.
    I32,
    /// The upper half of an [`F32`](Self::F32).
    Bf16,
    /// IEEE 754 binary32.
    F32,
}

impl Type {
    /// Bytes of one element.
    pub const fn size(self) -> u32 {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::Bf16 => 2,
            Self::I32 | Self::F32 => 4,
        }
    }

    /// The number that commands call it by.
    pub const fn number(self) -> u32 {
        match self {
            Self::I8 => ACCEL_NPU_TYPE_I8,
            Self::U8 => ACCEL_NPU_TYPE_U8,
            Self::I32 => ACCEL_NPU_TYPE_I32,
            Self::Bf16 => ACCEL_NPU_TYPE_BF16,
            Self::F32 => ACCEL_NPU_TYPE_F32,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::I8 => "I8",
            Self::U8 => "U8",
            Self::I32 => "I32",
            Self::Bf16 => "BF16",
            Self::F32 => "F32",
        })
    }
}

/// A BF16 number: the upper half of an `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bf16(pub u16);

impl Bf16 {
    /// Rounds to nearest, ties to even, as the device does. A NaN stays one.
    pub fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        if value.is_nan() {
            // What is cut off may be all that made it a NaN.
            return Self((bits >> 16) as u16 | 0x40);
        }
        let half = 0x7fff + ((bits >> 16) & 1);
        // Not above the infinity, whose lower half is 0.
        Self((bits.wrapping_add(half) >> 16) as u16)
    }

    /// The same number.
    pub fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

mod sealed {
    pub trait Sealed {}
}

/// Numbers that tensors consist of: `i8`, `u8`, `i32`, [`Bf16`] and `f32`.
pub trait Element: Copy + sealed::Sealed {
    /// What the device calls it.
    const TYPE: Type;

    /// Appends it as the device stores it.
    fn push(self, bytes: &mut Vec<u8>);

    /// From the [`Type::size`] bytes that the device stores.
    #[doc(hidden)]
    fn from_bytes(bytes: &[u8]) -> Self;
}

/// Implements [`Element`] by way of bits.
macro_rules! element {
    ($($name:ty, $type:ident, $bits:ty, $to:expr, $from:expr;)*) => {$(
        impl sealed::Sealed for $name {}

        impl Element for $name {
            const TYPE: Type = Type::$type;

            fn push(self, bytes: &mut Vec<u8>) {
                let to: fn($name) -> $bits = $to;
                bytes.extend(to(self).to_le_bytes());
            }

            fn from_bytes(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<$bits>()];
                for (to, from) in array.iter_mut().zip(bytes) {
                    *to = *from;
                }
                let from: fn($bits) -> $name = $from;
                from(<$bits>::from_le_bytes(array))
            }
        }
    )*};
}

element! {
    i8, I8, i8, |x| x, |x| x;
    u8, U8, u8, |x| x, |x| x;
    i32, I32, i32, |x| x, |x| x;
    f32, F32, u32, f32::to_bits, f32::from_bits;
    Bf16, Bf16, u16, |x| x.0, Bf16;
}

/// A strided tensor of four dimensions at a device address.
///
/// Element `[i, j, k, l]` is at `address + i s0 + j s1 + k s2 + l s3`. Shapes
/// of fewer dimensions begin with dimensions of 1; images are `[n, h, w, c]`.
/// It names memory and holds none: what is there when a command runs counts.
///
/// # Examples
///
/// ```
/// use libaccel::npu::{Tensor, Type};
///
/// # fn main() -> libaccel::Result<()> {
/// let images = Tensor::contiguous(0x20_0000, Type::I8, &[16, 8, 8, 4])?;
/// let third = images.slice(0, 2..3)?;
/// assert_eq!(third.address(), 0x20_0000 + 2 * 8 * 8 * 4);
/// let matrix = Tensor::contiguous(0x30_0000, Type::F32, &[10, 20])?;
/// assert_eq!(matrix.transpose(2, 3)?.dims(), [1, 1, 20, 10]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tensor {
    address: u64,
    element: Type,
    dims: [u32; 4],
    strides: [u32; 4],
}

impl Tensor {
    /// A tensor without gaps, the last dimension closest, of at most four dimensions.
    ///
    /// # Errors
    ///
    /// As [`strided`](Self::strided), and for more dimensions, or more than 4 GiB
    /// between elements.
    pub fn contiguous(address: u64, element: Type, dims: &[u32]) -> Result<Self> {
        let dims = four(dims)?;
        let mut strides = [0; 4];
        let mut step = u64::from(element.size());
        for (stride, dim) in strides.iter_mut().zip(dims).rev() {
            *stride = match u32::try_from(step) {
                Ok(step) => step,
                // Of one row there is no next.
                Err(_) if dim == 1 => 0,
                Err(_) => {
                    return Err(refused(format!(
                        "{dims:?} {element} has strides of over 4 GiB"
                    )));
                }
            };
            step = step.saturating_mul(u64::from(dim));
        }
        Self::strided(address, element, dims, strides)
    }

    /// A tensor with strides in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for a dimension of 0, for an address or a stride that is
    /// no multiple of the element's size (but that of a dimension of 1), and for
    /// elements at or above 2^48.
    pub fn strided(address: u64, element: Type, dims: [u32; 4], strides: [u32; 4]) -> Result<Self> {
        let size = element.size();
        if let Some(at) = dims.iter().position(|dim| *dim == 0) {
            return Err(refused(format!(
                "dimension {at} of {dims:?} is 0: each is at least 1"
            )));
        }
        if address % u64::from(size) != 0 {
            return Err(refused(format!(
                "address {address:#x} is no multiple of {size}, the size of {element}"
            )));
        }
        for (at, (stride, dim)) in strides.iter().zip(dims).enumerate() {
            if dim != 1 && stride % size != 0 {
                return Err(refused(format!(
                    "stride {at} is {stride}, no multiple of {size}, the size of {element}"
                )));
            }
        }
        let tensor = Self {
            address,
            element,
            dims,
            strides,
        };
        // Four products of 32 bits each, an address and a size fit 128 bits.
        let end = u128::from(address) + tensor.span();
        if end > u128::from(END) {
            return Err(refused(format!(
                "its last byte is at {:#x}, and device addresses have 48 bits",
                end - 1
            )));
        }
        Ok(tensor)
    }

    /// Device address of the first element.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// The type of its elements.
    pub fn element(&self) -> Type {
        self.element
    }

    /// Elements in each dimension.
    pub fn dims(&self) -> [u32; 4] {
        self.dims
    }

    /// Bytes from one element to the next in each dimension.
    pub fn strides(&self) -> [u32; 4] {
        self.strides
    }

    /// Elements in all.
    pub fn elements(&self) -> u64 {
        // Saturates where no command takes it.
        self.dims.iter().fold(1, |product: u64, dim| {
            product.saturating_mul(u64::from(*dim))
        })
    }

    /// Device address behind its last byte.
    pub fn end(&self) -> u64 {
        // At most 2^48: checked when it was made, and views only make it less.
        self.address + self.span() as u64
    }

    /// Bytes from the first to behind the last.
    fn span(&self) -> u128 {
        let last = self.dims.iter().zip(self.strides);
        let last: u128 = last
            .map(|(dim, stride)| u128::from(dim - 1) * u128::from(stride))
            .sum();
        last + u128::from(self.element.size())
    }

    /// Whether its elements follow each other without gaps, in the order of indices.
    pub fn is_contiguous(&self) -> bool {
        let mut step = u64::from(self.element.size());
        for (dim, stride) in self.dims.iter().zip(self.strides).rev() {
            if *dim != 1 && u64::from(stride) != step {
                return false;
            }
            step = step.saturating_mul(u64::from(*dim));
        }
        true
    }

    /// The part of it with these indices in dimension `dim`.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for an empty range or one that is not inside, and for no such
    /// dimension.
    pub fn slice(&self, dim: usize, range: Range<u32>) -> Result<Self> {
        let size = *self.dim(dim)?;
        if range.is_empty() || range.end > size {
            return Err(refused(format!(
                "{range:?} is not a part of dimension {dim}, which has {size}"
            )));
        }
        let mut part = *self;
        part.address += u64::from(range.start) * u64::from(self.strides[dim]);
        part.dims[dim] = range.end - range.start;
        Ok(part)
    }

    /// Every `step`th element in dimension `dim`, from the first on.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for a step of 0, for one of over 4 GiB, and for no such dimension.
    pub fn step(&self, dim: usize, step: u32) -> Result<Self> {
        let size = *self.dim(dim)?;
        if step == 0 {
            return Err(refused("a step is at least 1".into()));
        }
        let mut part = *self;
        part.dims[dim] = size.div_ceil(step);
        part.strides[dim] = match self.strides[dim].checked_mul(step) {
            Some(stride) => stride,
            None if part.dims[dim] == 1 => 0,
            None => return Err(refused(format!("a step of {step} is over 4 GiB"))),
        };
        Ok(part)
    }

    /// The same with two dimensions exchanged.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for no such dimension.
    pub fn transpose(&self, a: usize, b: usize) -> Result<Self> {
        self.dim(a)?;
        self.dim(b)?;
        let mut other = *self;
        other.dims.swap(a, b);
        other.strides.swap(a, b);
        Ok(other)
    }

    /// The same with dimension `order[i]` as dimension `i`.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when `order` does not name each dimension once.
    pub fn permute(&self, order: [usize; 4]) -> Result<Self> {
        let mut sorted = order;
        sorted.sort_unstable();
        if sorted != [0, 1, 2, 3] {
            return Err(refused(format!(
                "{order:?} is no order of the dimensions 0 to 3"
            )));
        }
        Ok(Self {
            dims: order.map(|from| self.dims[from]),
            strides: order.map(|from| self.strides[from]),
            ..*self
        })
    }

    /// An input that has its one row of dimension `dim` `count` times, by a stride of 0.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the dimension is not 1, or `count` is 0.
    pub fn broadcast(&self, dim: usize, count: u32) -> Result<Self> {
        let size = *self.dim(dim)?;
        if size != 1 || count == 0 {
            return Err(refused(format!(
                "dimension {dim} of {size} cannot be had {count} times: it must be 1"
            )));
        }
        let mut other = *self;
        other.dims[dim] = count;
        other.strides[dim] = 0;
        Ok(other)
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when it is not contiguous, or the shape has another number of
    /// elements.
    pub fn reshape(&self, dims: &[u32]) -> Result<Self> {
        if !self.is_contiguous() {
            return Err(refused(format!(
                "{self} has gaps and no other shape: copy it first"
            )));
        }
        let other = Self::contiguous(self.address, self.element, dims)?;
        if other.elements() != self.elements() {
            return Err(refused(format!(
                "{self} has {} elements, and {dims:?} has {}",
                self.elements(),
                other.elements()
            )));
        }
        Ok(other)
    }

    fn dim(&self, dim: usize) -> Result<&u32> {
        self.dims
            .get(dim)
            .ok_or_else(|| refused(format!("there is no dimension {dim}: they are 0 to 3")))
    }

    /// Device addresses of its elements, in the order of indices.
    pub(super) fn addresses(&self) -> impl Iterator<Item = u64> + use<> {
        let Self {
            address,
            dims,
            strides,
            ..
        } = *self;
        let at = move |dim: usize, i: u32| u64::from(i) * u64::from(strides[dim]);
        (0..dims[0]).flat_map(move |i| {
            (0..dims[1]).flat_map(move |j| {
                (0..dims[2]).flat_map(move |k| {
                    (0..dims[3]).map(move |l| address + at(0, i) + at(1, j) + at(2, k) + at(3, l))
                })
            })
        })
    }
}

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} at {:#x}", self.element, self.dims, self.address)
    }
}

/// Shapes of fewer dimensions begin with 1.
fn four(dims: &[u32]) -> Result<[u32; 4]> {
    let first = 4_usize
        .checked_sub(dims.len())
        .ok_or_else(|| refused(format!("{dims:?} has more than four dimensions")))?;
    let mut all = [1; 4];
    all[first..].copy_from_slice(dims);
    Ok(all)
}

fn refused(why: String) -> Error {
    Error::Refused {
        what: "tensor",
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(result: Result<Tensor>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn strides_follow_from_dims() {
        let t = Tensor::contiguous(0x1000, Type::I32, &[2, 3, 5, 7]).unwrap();
        assert_eq!(t.strides(), [3 * 5 * 7 * 4, 5 * 7 * 4, 7 * 4, 4]);
        assert_eq!(t.elements(), 210);
        assert_eq!(t.end(), 0x1000 + 840);
        assert!(t.is_contiguous());
        let bias = Tensor::contiguous(0x1000, Type::F32, &[7]).unwrap();
        assert_eq!(bias.dims(), [1, 1, 1, 7]);
        let one = Tensor::contiguous(0x1000, Type::F32, &[]).unwrap();
        assert_eq!((one.elements(), one.end()), (1, 0x1004));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let make = |address, element, dims: &[u32]| why(Tensor::contiguous(address, element, dims));
        assert!(make(2, Type::I32, &[1]).contains("0x2 is no multiple of 4, the size of I32"));
        assert!(make(0, Type::I8, &[2, 0, 1]).contains("dimension 2 of [1, 2, 0, 1] is 0"));
        assert!(make(0, Type::I8, &[1; 5]).contains("more than four"));
        assert!(make(0, Type::I8, &[2, 1 << 16, 1 << 16, 1]).contains("over 4 GiB"));
        let last = make((1 << 48) - 4, Type::I8, &[5]);
        assert!(last.contains("0x1000000000000"), "{last}");
        assert!(Tensor::contiguous((1 << 48) - 4, Type::I8, &[4]).is_ok());
        let odd = Tensor::strided(0, Type::Bf16, [1, 1, 2, 2], [0, 0, 3, 2]);
        assert!(why(odd).contains("stride 2 is 3"));
        assert!(Tensor::strided(0, Type::Bf16, [1, 1, 1, 2], [0, 0, 3, 2]).is_ok());
        let far = Tensor::strided(0, Type::I8, [u32::MAX; 4], [u32::MAX; 4]);
        assert!(why(far).contains("48 bits"));
    }

    #[test]
    fn views_are_of_the_same_memory() {
        let t = Tensor::contiguous(0x1000, Type::I8, &[2, 3, 5, 7]).unwrap();
        let part = t.slice(1, 1..3).unwrap().slice(3, 2..6).unwrap();
        assert_eq!(part.address(), 0x1000 + 35 + 2);
        assert_eq!(part.dims(), [2, 2, 5, 4]);
        assert!(!part.is_contiguous());
        assert_eq!(part.end(), 0x1000 + (105 + 2 * 35 + 4 * 7 + 5) + 1);
        let even = t.step(3, 2).unwrap();
        assert_eq!((even.dims()[3], even.strides()[3]), (4, 2));
        let turned = t.permute([0, 3, 1, 2]).unwrap();
        assert_eq!(turned.dims(), [2, 7, 3, 5]);
        assert_eq!(turned.strides(), [105, 1, 35, 7]);
        let column = t.slice(3, 0..1).unwrap().broadcast(3, 9).unwrap();
        assert_eq!((column.dims()[3], column.strides()[3]), (9, 0));
        assert_eq!(t.reshape(&[30, 7]).unwrap().dims(), [1, 1, 30, 7]);

        assert!(why(t.slice(1, 2..4)).contains("which has 3"));
        assert!(why(t.slice(4, 0..1)).contains("no dimension 4"));
        assert!(why(t.step(0, 0)).contains("at least 1"));
        assert!(why(t.permute([0, 1, 1, 2])).contains("no order"));
        assert!(why(t.broadcast(0, 2)).contains("must be 1"));
        assert!(why(part.reshape(&[80])).contains("has gaps"));
        assert!(why(t.reshape(&[211])).contains("210 elements"));
    }

    #[test]
    fn addresses_go_by_strides() {
        let t = Tensor::contiguous(0x100, Type::I32, &[1, 2, 3]).unwrap();
        let turned: Vec<u64> = t.transpose(2, 3).unwrap().addresses().collect();
        assert_eq!(turned, [0x100, 0x10c, 0x104, 0x110, 0x108, 0x114]);
    }

    #[test]
    fn bf16_rounds_ties_to_even() {
        for (bits, rounded) in [
            (0x3f80_0000, 0x3f80),
            (0x3f80_8000, 0x3f80),
            (0x3f80_8001, 0x3f81),
            (0x3f81_8000, 0x3f82),
            (0x7f7f_ffff, 0x7f80),
            (0xff80_0000, 0xff80),
            (0x7f80_0001, 0x7fc0),
            (0x8000_0000, 0x8000),
        ] {
            assert_eq!(Bf16::from_f32(f32::from_bits(bits)).0, rounded, "{bits:#x}");
        }
        assert_eq!(Bf16(0x4049).to_f32(), 3.140625);
    }

    #[test]
    fn elements_are_little_endian() {
        let mut bytes = Vec::new();
        (-2_i32).push(&mut bytes);
        1.5_f32.push(&mut bytes);
        Bf16(0x1234).push(&mut bytes);
        (-1_i8).push(&mut bytes);
        assert_eq!(
            bytes,
            [0xfe, 0xff, 0xff, 0xff, 0, 0, 0xc0, 0x3f, 0x34, 0x12, 0xff]
        );
        assert_eq!(i32::from_bytes(&bytes[..4]), -2);
        assert_eq!(f32::from_bytes(&bytes[4..8]), 1.5);
        assert_eq!(Bf16::from_bytes(&bytes[8..10]), Bf16(0x1234));
    }
}
