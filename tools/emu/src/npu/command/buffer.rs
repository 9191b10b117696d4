// SPDX-License-Identifier: GPL-2.0
//! What commands hold whole operands in.
//!
//! A command may need up to 4 × 256 MiB, and to give that much memory back to the system takes
//! longer than a command has for giving up. So each thread that executes commands keeps the
//! buffers and uses them again: nothing is freed before the thread ends. That also bounds what a
//! card takes beside its own memory, whatever is submitted: 1 GiB for each compute engine and
//! 256 MiB for the copy engine, of which the system sees what has been used at least once.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::mem;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;

use super::Failure;
use super::context::Context;
use super::tensor::ELEMENTS;

/// The most bytes of an element.
const WIDEST: usize = 4;
/// What a buffer is made of, and how many: any operand fits. Until it is written it takes no
/// memory but addresses.
type Word = u64;
const WORDS: usize = ELEMENTS as usize * WIDEST / size_of::<Word>();
/// Words that are zeroed between two looks at whether to give up.
const PART: usize = 8192;

thread_local! {
    /// Buffers of this thread that are not in use: as many as a command ever had at a time.
    static SPARE: RefCell<Vec<Vec<Word>>> = const { RefCell::new(Vec::new()) };
}

/// An array of the elements of an operand. When dropped it is kept for the next one.
pub(super) struct Buffer<T> {
    words: Vec<Word>,
    length: usize,
    element: PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    /// Of `length` zeros, which are at most as many as an operand may have.
    ///
    /// # Errors
    ///
    /// [`Failure::Aborted`].
    pub(super) fn zeroed(length: usize, context: &Context<'_>) -> Result<Self, Failure> {
        const { assert!(size_of::<T>() <= WIDEST) };
        let spare = SPARE.with_borrow_mut(Vec::pop);
        let mut buffer = Self {
            words: spare.unwrap_or_else(|| vec![0; WORDS]),
            length,
            element: PhantomData,
        };
        // Nothing of an earlier command, maybe of another user, is ever seen.
        let used = (length * size_of::<T>()).div_ceil(size_of::<Word>());
        for part in buffer.words[..used].chunks_mut(PART) {
            context.spend(part.len() as u64 * 4)?;
            part.fill(0);
        }
        Ok(buffer)
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.words)[..self.length]
    }
}

impl<T: Pod> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.length]
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        let words = mem::take(&mut self.words);
        SPARE.with_borrow_mut(|spare| spare.push(words));
    }
}

/// Where the buffers are that this thread keeps.
#[cfg(test)]
pub(super) fn spare() -> std::collections::BTreeSet<usize> {
    SPARE.with_borrow(|spare| spare.iter().map(|words| words.as_ptr().addr()).collect())
}
