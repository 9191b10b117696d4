// SPDX-License-Identifier: GPL-2.0

//! Numbers that one file knows its objects by: handles, and mmap offsets.
//!
//! Both are trees behind a spinlock. Nodes are allocated before the lock is taken and freed after
//! it, so that removing cannot fail and nothing is dropped under the lock.
//!
//! New numbers go on from the last one rather than fill the lowest gap: a number that was just
//! given back does not at once mean something else to a thread that still uses it.

use crate::limits::Charge;
use kernel::{
    new_spinlock,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::{
        Arc,
        SpinLock, //
    }, //
};

/// The greatest handle, after which they begin again.
const HANDLE_LAST: u32 = i32::MAX as u32;

struct Named<T> {
    last: u32,
    objects: RBTree<u32, (Arc<T>, Charge)>,
}

/// Objects by handle: from 1, never 0.
#[pin_data]
pub(crate) struct Handles<T> {
    #[pin]
    named: SpinLock<Named<T>>,
}

impl<T> Handles<T> {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            named <- new_spinlock!(
                Named {
                    last: 0,
                    objects: RBTree::new(),
                },
                "accel_handles"
            ),
        })
    }

    /// Names `object`, which others find from here on. `charge` is given back with the handle.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn insert(&self, object: Arc<T>, charge: Charge) -> Result<u32> {
        let reservation = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?;
        let mut named = self.named.lock();

        // Ends: what is charged is limited, to fewer objects than handles.
        let handle = loop {
            named.last = if named.last < HANDLE_LAST {
                named.last + 1
            } else {
                1
            };
            if named.objects.get(&named.last).is_none() {
                break named.last;
            }
        };
        let node = reservation.into_node(handle, (object, charge));
        let replaced = named.objects.insert(node);
        drop(named);
        debug_assert!(replaced.is_none());
        Ok(handle)
    }

    /// The object that `handle` names.
    pub(crate) fn get(&self, handle: u32) -> Option<Arc<T>> {
        let named = self.named.lock();
        let (object, _) = named.objects.get(&handle)?;

        Some(object.clone())
    }

    /// Forgets `handle`, and returns what it named.
    pub(crate) fn remove(&self, handle: u32) -> Option<Arc<T>> {
        let node = self.named.lock().objects.remove_node(&handle)?;
        let (_, (object, _charge)) = node.to_key_value();

        Some(object)
    }

    /// Calls `f` with each object, in the order of handles, without the lock.
    pub(crate) fn for_each(&self, mut f: impl FnMut(&T)) {
        let _ = self.try_for_each(|_, object| {
            f(object);
            Ok(())
        });
    }

    /// Calls `f` with each handle and object, in the order of handles, without the lock, until it
    /// fails.
    pub(crate) fn try_for_each(&self, mut f: impl FnMut(u32, &T) -> Result) -> Result {
        let mut from = 1;

        while let Some((handle, object)) = self.first(from) {
            f(handle, &object)?;
            from = handle + 1;
        }
        Ok(())
    }

    /// The object with the least handle that is not below `from`.
    fn first(&self, from: u32) -> Option<(u32, Arc<T>)> {
        let named = self.named.lock();
        let cursor = named.objects.cursor_lower_bound(&from)?;
        let (handle, (object, _)) = cursor.current();

        Some((*handle, object.clone()))
    }
}

struct Taken<T> {
    /// Where to look for room first.
    next: usize,
    /// By first number: how many, and what for.
    ranges: RBTree<usize, (usize, Arc<T>)>,
}

impl<T> Taken<T> {
    /// The range that has the greatest first number that is not above `number`.
    fn below(&self, number: usize) -> Option<(usize, &(usize, Arc<T>))> {
        let (first, range) = match self.ranges.cursor_lower_bound(&number) {
            Some(cursor) if *cursor.current().0 == number => {
                return self.ranges.get(&number).map(|range| (number, range));
            }
            Some(cursor) => {
                let (first, _) = cursor.peek_prev()?;
                let first = *first;

                (first, self.ranges.get(&first)?)
            }
            None => {
                let cursor = self.ranges.cursor_back()?;
                let (first, _) = cursor.current();
                let first = *first;

                (first, self.ranges.get(&first)?)
            }
        };

        Some((first, range))
    }

    /// The end of a range that `len` numbers from `at` would run into.
    fn in_the_way(&self, at: usize, len: usize) -> Option<usize> {
        let (first, (taken, _)) = self.below(at + len - 1)?;
        let end = first + taken;

        (end > at).then_some(end)
    }
}

/// Objects in ranges of numbers, between two bounds.
#[pin_data]
pub(crate) struct Ranges<T> {
    start: usize,
    end: usize,
    #[pin]
    taken: SpinLock<Taken<T>>,
}

impl<T> Ranges<T> {
    /// For numbers from `start` to below `end`.
    pub(crate) fn new(start: usize, end: usize) -> impl PinInit<Self> {
        pin_init!(Self {
            start,
            end,
            taken <- new_spinlock!(
                Taken {
                    next: *start,
                    ranges: RBTree::new(),
                },
                "accel_ranges"
            ),
        })
    }

    /// Gives `object` a range of `len` numbers, and returns its first. When all lengths are
    /// multiples of a number, and so is the start, then so is what it returns.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when there is no such range; `ENOMEM`.
    pub(crate) fn insert(&self, object: Arc<T>, len: usize) -> Result<usize> {
        if len == 0 || len > self.end - self.start {
            return Err(ENOSPC);
        }
        let reservation = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?;
        let mut taken = self.taken.lock();
        let mut at = taken.next;
        let mut wrapped = false;

        // Each step passes a range, and all are passed at most twice.
        loop {
            if at > self.end - len {
                if wrapped {
                    return Err(ENOSPC);
                }
                wrapped = true;
                at = self.start;
            }
            match taken.in_the_way(at, len) {
                Some(end) => at = end,
                None => break,
            }
        }
        taken.next = at + len;
        let replaced = taken
            .ranges
            .insert(reservation.into_node(at, (len, object)));
        drop(taken);
        debug_assert!(replaced.is_none());
        Ok(at)
    }

    /// The object that has `number`, and the first number that it has.
    pub(crate) fn get(&self, number: usize) -> Option<(usize, Arc<T>)> {
        let taken = self.taken.lock();
        let (first, (len, object)) = taken.below(number)?;

        (number - first < *len).then(|| (first, object.clone()))
    }

    /// Frees the range that begins at `first`.
    pub(crate) fn remove(&self, first: usize) {
        let node = self.taken.lock().ranges.remove_node(&first);

        drop(node);
    }
}
