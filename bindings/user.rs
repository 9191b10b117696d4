// SPDX-License-Identifier: GPL-2.0

//! Copying between user space and the kernel.
//!
//! Every copy here may sleep for as long as user space likes (a page on FUSE or userfaultfd): none
//! is made with a [`super::slot::Guard`] held.

use super::{
    errno::check,
    raw, //
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit, //
};
use kernel::{
    bindings,
    prelude::*, //
};

/// An address in user space with the number of bytes that the user says are there.
#[derive(Clone, Copy)]
pub(crate) struct UserMemory {
    address: usize,
    size: usize,
}

impl UserMemory {
    pub(crate) fn new(address: usize, size: usize) -> Self {
        Self { address, size }
    }

    /// Fills `dst` as `copy_struct_from_user` does: what the user does not give is zero.
    ///
    /// `dst` is best aligned to 8 bytes; it need not be.
    ///
    /// # Errors
    ///
    /// `EFAULT`; `E2BIG` when what the user gives beyond `dst` is not zero.
    #[inline]
    pub(crate) fn read_struct(self, dst: &mut [u8]) -> Result {
        // SAFETY: `dst` is valid for writes of its length; the helper checks the user's range.
        check(unsafe {
            raw::accel_copy_in(dst.as_mut_ptr().cast(), dst.len(), self.address, self.size)
        })
    }

    /// Writes as much of `src` as the user has room for, and leaves the rest of that room alone.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    #[inline]
    pub(crate) fn write_struct(self, src: &[u8]) -> Result {
        // SAFETY: `src` is valid for reads of its length; the helper checks the user's range.
        check(unsafe {
            raw::accel_copy_out(self.address, self.size, src.as_ptr().cast(), src.len())
        })
    }

    /// Like [`Self::write_struct`], and zeroes the rest of the user's room.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    #[inline]
    pub(crate) fn write_struct_zeroed(self, src: &[u8]) -> Result {
        // SAFETY: As in `write_struct`.
        check(unsafe {
            raw::accel_copy_out_zeroed(self.address, self.size, src.as_ptr().cast(), src.len())
        })
    }
}

/// Where a `read(2)` in progress puts what it reads.
pub(crate) struct Destination<'a> {
    iter: *mut bindings::iov_iter,
    _read: PhantomData<&'a mut bindings::iov_iter>,
}

impl Destination<'_> {
    /// # Safety
    ///
    /// `iter` is that of a `read_iter` file operation that is running for the life of the result,
    /// which alone uses it.
    pub(super) unsafe fn from_raw(iter: *mut bindings::iov_iter) -> Self {
        Self {
            iter,
            _read: PhantomData,
        }
    }

    /// Bytes that there is room for.
    pub(crate) fn room(&self) -> usize {
        // SAFETY: `iter` is valid by the requirements of `from_raw`.
        unsafe { raw::accel_iter_count(self.iter) }
    }

    /// Writes all of `src` behind what was written before.
    ///
    /// # Errors
    ///
    /// `EFAULT`; part of it may have been written then, and nothing more should be.
    pub(crate) fn write(&mut self, src: &[u8]) -> Result {
        // SAFETY: `iter` is valid and ours by the requirements of `from_raw`; `src` is valid for
        // reads of its length.
        let written = unsafe { bindings::_copy_to_iter(src.as_ptr().cast(), src.len(), self.iter) };

        if written != src.len() {
            return Err(EFAULT);
        }
        Ok(())
    }
}

/// Room for a small structure, of which no more is written than is used.
pub(crate) struct Room {
    words: MaybeUninit<[u64; Self::SIZE / size_of::<u64>()]>,
}

impl Room {
    /// Bytes.
    pub(crate) const SIZE: usize = 128;

    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self {
            words: MaybeUninit::uninit(),
        }
    }

    /// The words that hold `size` bytes, zeroed, or read from the user.
    ///
    /// # Errors
    ///
    /// `EINVAL` when there is no room, or these are not whole words; those of
    /// [`UserMemory::read_struct`].
    #[inline(always)]
    pub(crate) fn fill(&mut self, size: usize, from: Option<UserMemory>) -> Result<&mut [u64]> {
        let start: *mut u64 = self.words.as_mut_ptr().cast();
        let len = size / size_of::<u64>();

        if size > Self::SIZE || size % size_of::<u64>() != 0 {
            return Err(EINVAL);
        }
        match from {
            Some(user) => {
                // SAFETY: There is room for `size` bytes, all of which the helper writes or fails;
                // it checks the user's range.
                let err =
                    unsafe { raw::accel_copy_in(start.cast(), size, user.address, user.size) };

                check(err)?
            }
            // SAFETY: There is room for `len` words.
            None => unsafe { start.write_bytes(0, len) },
        }
        // SAFETY: `len` words have been written, and we have borrowed the room.
        Ok(unsafe { core::slice::from_raw_parts_mut(start, len) })
    }
}

/// `array_index_nospec`: `index` if it is less than `size`, also in a mispredicted branch.
#[inline(always)]
pub(crate) fn index_nospec(index: usize, size: usize) -> usize {
    #[cfg(CONFIG_X86_64)]
    {
        let mask: usize;

        // As in `arch/x86/include/asm/barrier.h`: all-ones if the comparison borrows, else 0.
        // SAFETY: Changes a register and flags.
        unsafe {
            core::arch::asm!(
                "cmp {index}, {size}",
                "sbb {mask}, {mask}",
                index = in(reg) index,
                size = in(reg) size,
                mask = out(reg) mask,
                options(pure, nomem, nostack),
            );
        }
        index & mask
    }
    #[cfg(not(CONFIG_X86_64))]
    {
        // SAFETY: Plain arithmetic.
        unsafe { raw::accel_index_nospec(index, size) }
    }
}

#[kunit_tests(accel_struct)]
mod struct_tests {
    use super::*;
    use kernel::uaccess::{
        UserPtr,
        UserSlice, //
    };

    /// What is in memory that nothing should write.
    const OLD: u8 = 0x55;
    /// Bytes of a structure, a little more than is copied word by word.
    const LARGE: usize = 264;
    const MEMORY: usize = 4096;

    /// Memory of user space.
    struct User(usize);

    impl User {
        fn new(bytes: &[u8]) -> Result<Self> {
            // SAFETY: A test runs.
            let user = match unsafe { raw::accel_test_map(MEMORY) } {
                0 => return Err(ENOMEM),
                address => Self(address),
            };

            user.set(bytes)?;
            Ok(user)
        }

        fn set(&self, bytes: &[u8]) -> Result {
            UserSlice::new(UserPtr::from_addr(self.0), bytes.len())
                .writer()
                .write_slice(bytes)
        }

        fn get(&self, bytes: &mut [u8]) -> Result {
            UserSlice::new(UserPtr::from_addr(self.0), bytes.len())
                .reader()
                .read_slice(bytes)
        }

        fn memory(&self, size: usize) -> UserMemory {
            UserMemory::new(self.0, size)
        }
    }

    /// Bytes that differ from their neighbours, none of them 0 or [`OLD`].
    fn pattern<const N: usize>() -> [u8; N] {
        core::array::from_fn(|i| 0x80 | (i % 127) as u8)
    }

    #[test]
    fn an_older_user_gives_less() -> Result {
        let given: [u8; LARGE] = pattern();
        let user = User::new(&given)?;

        for newest in [8, 24, 25, LARGE] {
            for size in 0..=newest {
                let mut read = [OLD; LARGE];

                user.memory(size).read_struct(&mut read[..newest])?;
                assert!(read[..size] == given[..size]);
                assert!(read[size..newest].iter().all(|byte| *byte == 0));
                assert!(read[newest..].iter().all(|byte| *byte == OLD));
            }
        }
        Ok(())
    }

    #[test]
    fn a_newer_user_gives_more() -> Result {
        const KNOWN: usize = 24;
        const MORE: usize = 17;
        let mut given: [u8; KNOWN + MORE] = pattern();
        let mut read = [0; KNOWN];

        given[KNOWN..].fill(0);
        let user = User::new(&given)?;
        for more in 0..=MORE {
            user.memory(KNOWN + more).read_struct(&mut read)?;
            assert!(read == given[..KNOWN]);
        }
        for at in KNOWN..KNOWN + MORE {
            given[at] = 1;
            user.set(&given)?;
            // What is not given does not matter, and each byte that is does.
            assert_eq!(user.memory(at).read_struct(&mut read), Ok(()));
            assert_eq!(user.memory(at + 1).read_struct(&mut read), Err(E2BIG));
            given[at] = 0;
        }
        Ok(())
    }

    #[test]
    fn what_is_not_aligned() -> Result {
        let given: [u8; LARGE] = pattern();
        let user = User::new(&given)?;
        let mut read = [OLD; LARGE];

        user.memory(16).read_struct(&mut read[1..17])?;
        assert!(read[1..17] == given[..16]);
        assert!(read[0] == OLD && read[17] == OLD);
        UserMemory::new(user.0 + 3, 16).read_struct(&mut read[..16])?;
        assert!(read[..16] == given[3..19]);
        Ok(())
    }

    #[test]
    fn answers() -> Result {
        let answer: [u8; LARGE] = pattern();
        let user = User::new(&[])?;

        for known in [0, 8, 24, 25, LARGE] {
            for room in [0, 7, 8, 23, 24, 25, 40, LARGE, LARGE + 5] {
                for zeroed in [false, true] {
                    let mut found = [0; LARGE + 8];
                    let written = known.min(room);

                    user.set(&[OLD; LARGE + 8])?;
                    if zeroed {
                        user.memory(room).write_struct_zeroed(&answer[..known])?;
                    } else {
                        user.memory(room).write_struct(&answer[..known])?;
                    }
                    user.get(&mut found)?;
                    let rest = if zeroed { 0 } else { OLD };
                    assert!(found[..written] == answer[..written]);
                    assert!(found[written..room.max(written)].iter().all(|b| *b == rest));
                    assert!(found[room..].iter().all(|byte| *byte == OLD));
                }
            }
        }
        Ok(())
    }

    #[test]
    fn no_memory() -> Result {
        let mut read = [0; LARGE];

        User::new(&[])?;
        for size in [8, 25, LARGE] {
            // Nothing is there; the kernel's; over the end.
            for address in [0, usize::MAX - MEMORY + 1, usize::MAX - 7] {
                let memory = UserMemory::new(address, size);

                assert_eq!(memory.read_struct(&mut read[..size]), Err(EFAULT));
                assert_eq!(memory.write_struct(&read[..size]), Err(EFAULT));
                assert_eq!(memory.write_struct_zeroed(&read[..8]), Err(EFAULT));
            }
        }
        Ok(())
    }

    #[test]
    fn room() -> Result {
        let given: [u8; Room::SIZE] = pattern();
        let user = User::new(&given)?;
        let mut room = Room::new();

        assert!(room.fill(24, None)?.iter().all(|word| *word == 0));
        for (index, word) in room.fill(24, Some(user.memory(16)))?.iter().enumerate() {
            let whole = given.get(8 * index..8 * index + 8).ok_or(EINVAL)?;
            let known = index < 2;

            assert_eq!(known, word.to_ne_bytes() == whole);
            assert!(known || *word == 0);
        }
        assert_eq!(room.fill(Room::SIZE, None)?.len(), Room::SIZE / 8);
        for wrong in [1, 23, Room::SIZE + 8] {
            assert_eq!(room.fill(wrong, None).err(), Some(EINVAL));
        }
        Ok(())
    }
}
