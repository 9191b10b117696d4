// SPDX-License-Identifier: GPL-2.0

//! A driver's typed ioctl table and its erased form.
//!
//! The driver says for each ioctl its number (from its uAPI header), the structure, and the arrays
//! that the structure points to. The compiler checks that number, size and direction agree, and
//! that the table is in order without gaps, so that the core finds an entry by its index. The core
//! does all copying; a handler sees kernel memory only.

use super::{
    driver::Driver,
    lent::{
        Call,
        RawCall, //
    },
    uapi, //
};
use core::marker::PhantomData;
use kernel::{
    error::from_result,
    ffi::{
        c_char,
        c_int,
        c_void, //
    },
    prelude::*, //
};

/// Largest argument structure, in bytes.
pub(crate) const ARGS_MAX: usize = 4096;

/// Most arrays of one ioctl.
pub(crate) const ARRAYS_MAX: usize = 2;

/// Which way an argument or array travels.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Direction(u32);

impl Direction {
    /// From user space to the driver.
    pub(crate) const IN: Self = Self(1);
    /// From the driver to user space.
    pub(crate) const OUT: Self = Self(2);

    pub(crate) const fn is_in(self) -> bool {
        self.0 & Self::IN.0 != 0
    }

    pub(crate) const fn is_out(self) -> bool {
        self.0 & Self::OUT.0 != 0
    }
}

const NR_BITS: u32 = 8;
const TYPE_BITS: u32 = 8;
const SIZE_BITS: u32 = 14;

/// An ioctl number, taken apart as `include/uapi/asm-generic/ioctl.h` does.
///
/// # Examples
///
/// ```ignore
/// let cmd = Command(uapi::ACCEL_IOCTL_INFO);
/// assert_eq!((cmd.nr(), cmd.size()), (0, 24));
/// ```
#[derive(Clone, Copy)]
pub(crate) struct Command(pub(crate) u32);

impl Command {
    pub(crate) const fn nr(self) -> u32 {
        self.0 & ((1 << NR_BITS) - 1)
    }

    pub(crate) const fn kind(self) -> u32 {
        (self.0 >> NR_BITS) & ((1 << TYPE_BITS) - 1)
    }

    pub(crate) const fn size(self) -> usize {
        ((self.0 >> (NR_BITS + TYPE_BITS)) & ((1 << SIZE_BITS) - 1)) as usize
    }

    /// `_IOC_WRITE` is what the user writes, so goes in; `_IOC_READ` comes out.
    pub(crate) const fn direction(self) -> Direction {
        Direction(self.0 >> (NR_BITS + TYPE_BITS + SIZE_BITS))
    }

    /// Whether this is the same ioctl as `other`, be the structures of different versions.
    pub(crate) const fn is_version_of(self, other: Self) -> bool {
        const SIZE: u32 = ((1 << SIZE_BITS) - 1) << (NR_BITS + TYPE_BITS);

        (self.0 ^ other.0) & !SIZE == 0
    }
}

/// Where the structure says where an array is, and how large that may be.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct RawArrayDescriptor {
    /// Byte offset in the structure of the `__u64` that points to the array.
    pub(crate) pointer: u32,
    /// Byte offset in the structure of the `__u32` that counts elements.
    pub(crate) count: u32,
    /// Bytes of an element.
    pub(crate) element: u32,
    /// Most elements; more is `EINVAL`.
    pub(crate) max: u32,
    /// Which way it travels.
    pub(crate) direction: Direction,
}

/// An array in kernel memory, as handed to a handler.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RawArray {
    /// Aligned to 8 bytes, `count` elements; never NULL.
    pub(crate) start: *mut c_void,
    /// Elements.
    pub(crate) count: usize,
}

type RawHandler =
    unsafe extern "C" fn(call: *const RawCall, args: *mut c_void, arrays: *const RawArray) -> c_int;

/// One entry of the erased ioctl table.
#[repr(C)]
pub(crate) struct RawIoctl {
    /// The ioctl's number, with the size of the newest structure.
    pub(crate) command: u32,
    /// Entries of `arrays`.
    pub(crate) arrays_len: u32,
    pub(crate) arrays: *const RawArrayDescriptor,
    /// For the log, ends with NUL.
    pub(crate) name: *const c_char,
    pub(crate) handler: RawHandler,
}

// SAFETY: The table is constant.
unsafe impl Sync for RawIoctl {}
// SAFETY: As above.
unsafe impl Send for RawIoctl {}

impl RawIoctl {
    /// The number.
    pub(crate) fn command(&self) -> Command {
        Command(self.command)
    }

    /// Bytes of the structure.
    #[inline]
    pub(super) fn size(&self) -> usize {
        Command(self.command).size()
    }

    /// The arrays that the structure points to.
    pub(crate) fn arrays(&self) -> &[RawArrayDescriptor] {
        // SAFETY: The table is made by `ioctl`, whose arrays are constants of this length.
        unsafe { core::slice::from_raw_parts(self.arrays, self.arrays_len as usize) }
    }

    /// Checks that `buffers` are what the descriptors ask for, and erases them.
    #[inline]
    pub(super) fn bind(&self, buffers: &mut [ArrayBuffer]) -> Result<[RawArray; ARRAYS_MAX]> {
        let mut raw = [RawArray {
            start: core::ptr::null_mut(),
            count: 0,
        }; ARRAYS_MAX];

        if buffers.len() != self.arrays_len as usize {
            return Err(EINVAL);
        }
        for ((raw, buffer), descriptor) in raw.iter_mut().zip(buffers).zip(self.arrays()) {
            if buffer.element != descriptor.element || buffer.count > descriptor.max {
                return Err(EINVAL);
            }
            *raw = RawArray {
                // Aligned and not NULL, also when there is nothing.
                start: buffer.words.as_mut_ptr().cast(),
                count: buffer.count as usize,
            };
        }
        Ok(raw)
    }
}

/// An array in kernel memory, on its way to or from a handler.
///
/// # Invariants
///
/// `words` has room for `count` times `element` bytes.
pub(crate) struct ArrayBuffer {
    words: KVVec<u64>,
    element: u32,
    count: u32,
}

impl ArrayBuffer {
    /// Zeroed, with room for `count` elements.
    ///
    /// # Errors
    ///
    /// `EINVAL` when that is more than the descriptor allows; `ENOMEM`.
    pub(crate) fn new(descriptor: &RawArrayDescriptor, count: u32) -> Result<Self> {
        if count > descriptor.max {
            return Err(EINVAL);
        }
        let bytes = (count as usize)
            .checked_mul(descriptor.element as usize)
            .ok_or(EINVAL)?;
        let mut words = KVVec::new();

        words.resize(bytes.div_ceil(size_of::<u64>()), 0, GFP_KERNEL_ACCOUNT)?;
        // INVARIANT: By the computation above.
        Ok(Self {
            words,
            element: descriptor.element,
            count,
        })
    }

    /// The elements, as bytes.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        let len = self.count as usize * self.element as usize;
        let (bytes, _) = self
            .words
            .as_mut_slice()
            .as_mut_bytes()
            .split_at_mut_checked(len)
            .unwrap_or_default();

        bytes
    }
}

/// An array that an ioctl's structure points to: [`In`] or [`Out`].
///
/// Only this module implements it.
pub trait Array: private::Sealed {
    /// What the handler gets.
    type Slice<'a>;

    #[doc(hidden)]
    const DESCRIPTOR: RawArrayDescriptor;

    /// # Safety
    ///
    /// `raw` must describe memory as `DESCRIPTOR` asks for, that nobody else uses for `'a`.
    #[doc(hidden)]
    unsafe fn bind<'a>(raw: RawArray) -> Self::Slice<'a>;
}

mod private {
    pub trait Sealed {}
}

const fn descriptor<T>(
    pointer: usize,
    count: usize,
    max: usize,
    direction: Direction,
) -> RawArrayDescriptor {
    assert!(pointer % 8 == 0 && count % 4 == 0, "unaligned field");
    assert!(
        align_of::<T>() <= 8,
        "elements are aligned to 8 bytes at most"
    );
    assert!(size_of::<T>() > 0 && max > 0, "an array of nothing");
    // What one call may make the kernel allocate.
    assert!(
        max <= (16 << 20) / size_of::<T>(),
        "an array is at most 16 MiB"
    );
    RawArrayDescriptor {
        pointer: pointer as u32,
        count: count as u32,
        element: size_of::<T>() as u32,
        max: max as u32,
        direction,
    }
}

/// An array of at most `MAX` elements that the handler reads.
///
/// `POINTER` and `COUNT` are byte offsets in the argument structure: of the `__u64` that points to
/// the array and of the `__u32` that counts its elements, as [`crate::pointer_field`] and
/// [`crate::count_field`] give them.
pub struct In<T, const POINTER: usize, const COUNT: usize, const MAX: usize>(PhantomData<T>);

impl<T, const P: usize, const C: usize, const M: usize> private::Sealed for In<T, P, C, M> {}

impl<T: FromBytes + 'static, const P: usize, const C: usize, const M: usize> Array
    for In<T, P, C, M>
{
    type Slice<'a> = &'a [T];
    const DESCRIPTOR: RawArrayDescriptor = descriptor::<T>(P, C, M, Direction::IN);

    unsafe fn bind<'a>(raw: RawArray) -> &'a [T] {
        // SAFETY: By this function's requirements there are `count` elements of the size of `T`,
        // aligned to 8 and so to `T`, initialised bytes of which any pattern is a `T`.
        unsafe { core::slice::from_raw_parts(raw.start.cast(), raw.count) }
    }
}

/// An array of at most `MAX` elements, zeroed, that the handler fills. Parameters as in [`In`].
pub struct Out<T, const POINTER: usize, const COUNT: usize, const MAX: usize>(PhantomData<T>);

impl<T, const P: usize, const C: usize, const M: usize> private::Sealed for Out<T, P, C, M> {}

impl<T: FromBytes + IntoBytes + 'static, const P: usize, const C: usize, const M: usize> Array
    for Out<T, P, C, M>
{
    type Slice<'a> = &'a mut [T];
    const DESCRIPTOR: RawArrayDescriptor = descriptor::<T>(P, C, M, Direction::OUT);

    unsafe fn bind<'a>(raw: RawArray) -> &'a mut [T] {
        // SAFETY: As for `In`, and by this function's requirements the slice is unique.
        unsafe { core::slice::from_raw_parts_mut(raw.start.cast(), raw.count) }
    }
}

/// The arrays of one ioctl: a tuple of up to two [`Array`]s.
pub trait Arrays {
    /// What the handler gets.
    type Slices<'a>;

    #[doc(hidden)]
    const DESCRIPTORS: &'static [RawArrayDescriptor];

    /// # Safety
    ///
    /// `raw` must point to as many elements as there are descriptors, each as [`Array::bind`] asks
    /// for.
    #[doc(hidden)]
    unsafe fn bind<'a>(raw: *const RawArray) -> Self::Slices<'a>;
}

impl Arrays for () {
    type Slices<'a> = ();
    const DESCRIPTORS: &'static [RawArrayDescriptor] = &[];

    unsafe fn bind<'a>(_raw: *const RawArray) -> Self::Slices<'a> {}
}

impl<A: Array> Arrays for (A,) {
    type Slices<'a> = (A::Slice<'a>,);
    const DESCRIPTORS: &'static [RawArrayDescriptor] = &[A::DESCRIPTOR];

    unsafe fn bind<'a>(raw: *const RawArray) -> Self::Slices<'a> {
        // SAFETY: `raw` points to one element that fits `A`.
        unsafe { (A::bind(*raw),) }
    }
}

impl<A: Array, B: Array> Arrays for (A, B) {
    type Slices<'a> = (A::Slice<'a>, B::Slice<'a>);
    const DESCRIPTORS: &'static [RawArrayDescriptor] = &[A::DESCRIPTOR, B::DESCRIPTOR];

    unsafe fn bind<'a>(raw: *const RawArray) -> Self::Slices<'a> {
        // SAFETY: `raw` points to two elements that fit `A` and `B`.
        unsafe { (A::bind(*raw), B::bind(*raw.add(1))) }
    }
}

/// One ioctl of a driver.
///
/// # Examples
///
/// ```ignore
/// struct Add;
///
/// impl accel::Ioctl<Null> for Add {
///     const COMMAND: u32 = uapi::ACCEL_NULL_IOCTL_ADD;
///     const NAME: &'static CStr = c"add";
///     type Args = uapi::accel_null_add;
///     type Arrays = ();
///
///     fn call(_: &accel::Call<'_, '_, Null>, args: &mut Self::Args, (): ()) -> Result {
///         args.b = args.b.wrapping_add(args.a);
///         Ok(())
///     }
/// }
/// ```
pub trait Ioctl<D: Driver> {
    /// The number, as `_IO*()` of the driver's uAPI header makes it.
    const COMMAND: u32;

    /// Its name, for the log.
    const NAME: &'static CStr;

    /// The structure. Without padding, and valid whatever its bytes are.
    type Args: FromBytes + IntoBytes;

    /// The arrays that the structure points to; `()` for none.
    type Arrays: Arrays;

    /// Does it.
    ///
    /// What the user gave is in `args` and the slices, what the handler leaves there is given back.
    /// When it cannot be, the user sees `EFAULT` although the handler has run: an ioctl should not
    /// change what cannot be undone by closing the file.
    ///
    /// # Errors
    ///
    /// Become the errno that the user sees; nothing is copied out then.
    fn call(
        call: &Call<'_, '_, D>,
        args: &mut Self::Args,
        arrays: <Self::Arrays as Arrays>::Slices<'_>,
    ) -> Result;
}

/// An entry of [`Driver::IOCTLS`], made by [`ioctl`].
#[repr(transparent)]
pub struct IoctlEntry<D: Driver> {
    raw: RawIoctl,
    _driver: PhantomData<fn(D)>,
}

/// Makes the table entry of `I`.
///
/// Fails to build when the number does not fit the structure.
pub const fn ioctl<D: Driver, I: Ioctl<D>>() -> IoctlEntry<D> {
    let command = Command(I::COMMAND);
    let arrays = <I::Arrays as Arrays>::DESCRIPTORS;

    assert!(
        command.kind() == uapi::ACCEL_IOCTL_TYPE,
        "the ioctl is not of type ACCEL_IOCTL_TYPE"
    );
    assert!(
        command.size() == size_of::<I::Args>(),
        "the size in the number is not the structure's"
    );
    assert!(command.size() <= ARGS_MAX, "the structure is too large");
    assert!(
        align_of::<I::Args>() <= 8,
        "the structure is aligned to more than 8 bytes"
    );
    assert!(
        command.size() % 8 == 0,
        "the structure is to end with explicit padding to 8 bytes"
    );
    assert!(
        command.direction().is_in() || command.direction().is_out(),
        "an ioctl without a direction carries nothing"
    );
    assert!(arrays.len() <= ARRAYS_MAX, "too many arrays");
    let mut i = 0;
    while i < arrays.len() {
        assert!(
            command.direction().is_in(),
            "an ioctl with arrays is _IOW or _IOWR"
        );
        assert!(
            arrays[i].pointer as usize + 8 <= command.size(),
            "pointer out of bounds"
        );
        assert!(
            arrays[i].count as usize + 4 <= command.size(),
            "count out of bounds"
        );
        i += 1;
    }
    IoctlEntry {
        raw: RawIoctl {
            command: I::COMMAND,
            arrays_len: arrays.len() as u32,
            arrays: arrays.as_ptr(),
            name: I::NAME.to_bytes_with_nul().as_ptr().cast(),
            handler: handler::<D, I>,
        },
        _driver: PhantomData,
    }
}

/// Checks that a table begins at the driver's first number and has no gaps.
pub(super) const fn check_table<D: Driver>(table: &[IoctlEntry<D>]) -> u32 {
    let mut i = 0;
    while i < table.len() {
        assert!(
            Command(table[i].raw.command).nr() as usize == uapi::ACCEL_NR_DRIVER as usize + i,
            "the ioctl table must ascend from ACCEL_NR_DRIVER without gaps"
        );
        i += 1;
    }
    assert!(
        table.len() <= (uapi::ACCEL_NR_END - uapi::ACCEL_NR_DRIVER) as usize,
        "too many ioctls"
    );
    table.len() as u32
}

/// # Safety
///
/// `call` must be as [`Call::from_raw`] asks for, `args` a structure of `I::COMMAND`'s size,
/// aligned to 8, that nobody else uses, and `arrays` as `I`'s descriptors ask for.
unsafe extern "C" fn handler<D: Driver, I: Ioctl<D>>(
    call: *const RawCall,
    args: *mut c_void,
    arrays: *const RawArray,
) -> c_int {
    from_result(|| {
        // SAFETY: By this function's requirements.
        let call = unsafe { Call::from_raw(call) };
        // SAFETY: By this function's requirements there are as many bytes as `ioctl()` has checked,
        // which may have any pattern.
        let args = unsafe { &mut *args.cast::<I::Args>() };
        // SAFETY: By this function's requirements.
        let arrays = unsafe { <I::Arrays as Arrays>::bind(arrays) };

        I::call(&call, args, arrays).map(|()| 0)
    })
}
