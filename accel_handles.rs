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

struct Named<T, C> {
    last: u32,
    objects: RBTree<u32, (Arc<T>, C)>,
}

/// Objects by handle, from 1, never 0; each with what its handle is charged to.
#[pin_data]
pub(crate) struct Handles<T, C = Charge> {
    #[pin]
    named: SpinLock<Named<T, C>>,
}

impl<T, C: Unpin> Handles<T, C> {
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
    pub(crate) fn insert(&self, object: Arc<T>, charge: C) -> Result<u32> {
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

#[kunit_tests(accel_handles)]
mod handles_tests {
    use super::*;

    fn handles() -> Result<Pin<KBox<Handles<u32, Arc<u32>>>>> {
        KBox::pin_init(Handles::new(), GFP_KERNEL)
    }

    fn object(value: u32) -> Result<Arc<u32>> {
        Ok(Arc::new(value, GFP_KERNEL)?)
    }

    /// All handles, in the order in which they are told.
    fn told(handles: &Handles<u32, Arc<u32>>) -> Result<KVec<u32>> {
        let mut values = KVec::new();
        let mut result = Ok(());

        handles.for_each(|value| {
            if let Err(error) = values.push(*value, GFP_KERNEL) {
                result = Err(error);
            }
        });
        result?;
        Ok(values)
    }

    #[test]
    fn from_one_on_and_never_back() -> Result {
        let handles = handles()?;

        for expected in 1..=3 {
            assert_eq!(handles.insert(object(0)?, object(0)?)?, expected);
        }
        assert!(handles.remove(2).is_some());
        assert!(handles.remove(3).is_some());
        assert_eq!(handles.insert(object(0)?, object(0)?)?, 4);
        Ok(())
    }

    #[test]
    fn what_is_named_is_found_until_removed() -> Result {
        let handles = handles()?;
        let first = handles.insert(object(11)?, object(0)?)?;
        let second = handles.insert(object(22)?, object(0)?)?;

        assert!(handles.get(0).is_none());
        assert!(handles.get(second + 1).is_none());
        assert!(handles.get(first).is_some_and(|value| *value == 11));
        assert!(handles.remove(first).is_some_and(|value| *value == 11));
        assert!(handles.get(first).is_none());
        assert!(handles.remove(first).is_none());
        assert!(handles.get(second).is_some_and(|value| *value == 22));
        Ok(())
    }

    #[test]
    fn after_the_last_from_one_again_past_what_is_taken() -> Result {
        let handles = handles()?;

        assert_eq!(handles.insert(object(0)?, object(0)?)?, 1);
        assert_eq!(handles.insert(object(0)?, object(0)?)?, 2);
        handles.named.lock().last = i32::MAX as u32 - 1;
        assert_eq!(handles.insert(object(0)?, object(0)?)?, i32::MAX as u32);
        assert!(handles.remove(1).is_some());
        assert_eq!(handles.insert(object(0)?, object(0)?)?, 1);
        assert_eq!(handles.insert(object(0)?, object(0)?)?, 3);
        Ok(())
    }

    #[test]
    fn all_are_told_in_order_whatever_is_removed_meanwhile() -> Result {
        let handles = handles()?;

        assert_eq!(told(&handles)?.len(), 0);
        for value in 1..=4 {
            handles.insert(object(value)?, object(0)?)?;
        }
        assert!(handles.remove(2).is_some());
        assert!(told(&handles)?[..] == [1, 3, 4]);
        handles.for_each(|value| drop(handles.remove(*value)));
        assert_eq!(told(&handles)?.len(), 0);
        Ok(())
    }

    #[test]
    fn nothing_is_kept_of_what_is_removed() -> Result {
        let handles = handles()?;
        let (mine, charge) = (object(7)?, object(8)?);
        let handle = handles.insert(mine.clone(), charge.clone())?;

        drop(handles.remove(handle));
        // Only a sole owner gets the value out.
        assert!(Arc::into_unique_or_drop(mine).is_some());
        assert!(Arc::into_unique_or_drop(charge).is_some());
        Ok(())
    }

    #[test]
    fn what_is_named_goes_with_its_names() -> Result {
        let handles = handles()?;
        let (mine, charge) = (object(7)?, object(8)?);

        handles.insert(mine.clone(), charge.clone())?;
        handles.insert(mine.clone(), charge.clone())?;
        drop(handles);
        assert!(Arc::into_unique_or_drop(mine).is_some());
        assert!(Arc::into_unique_or_drop(charge).is_some());
        Ok(())
    }
}

#[kunit_tests(accel_ranges)]
mod ranges_tests {
    use super::*;

    fn ranges(start: usize, end: usize) -> Result<Pin<KBox<Ranges<u32>>>> {
        KBox::pin_init(Ranges::new(start, end), GFP_KERNEL)
    }

    fn object(value: u32) -> Result<Arc<u32>> {
        Ok(Arc::new(value, GFP_KERNEL)?)
    }

    #[test]
    fn each_number_of_a_range_leads_to_its_object() -> Result {
        let ranges = ranges(100, 200)?;
        let first = ranges.insert(object(1)?, 10)?;
        let second = ranges.insert(object(2)?, 5)?;

        assert_eq!(first, 100);
        assert_eq!(second, 110);
        for (number, from, value) in [(100, 100, 1), (109, 100, 1), (110, 110, 2), (114, 110, 2)] {
            assert!(ranges
                .get(number)
                .is_some_and(|(found, object)| found == from && *object == value));
        }
        for number in [0, 99, 115, 199, 200, usize::MAX] {
            assert!(ranges.get(number).is_none());
        }
        Ok(())
    }

    #[test]
    fn a_length_that_cannot_be_is_refused() -> Result {
        let ranges = ranges(100, 200)?;

        for len in [0, 101, usize::MAX] {
            assert_eq!(ranges.insert(object(0)?, len), Err(ENOSPC));
        }
        assert_eq!(ranges.insert(object(0)?, 100), Ok(100));
        assert_eq!(ranges.insert(object(0)?, 1), Err(ENOSPC));
        Ok(())
    }

    #[test]
    fn what_was_freed_is_used_when_the_end_is_reached() -> Result {
        let ranges = ranges(0, 30)?;

        for expected in [0, 10, 20] {
            assert_eq!(ranges.insert(object(0)?, 10)?, expected);
        }
        ranges.remove(10);
        assert!(ranges.get(15).is_none());
        assert_eq!(ranges.insert(object(0)?, 11), Err(ENOSPC));
        assert_eq!(ranges.insert(object(0)?, 10)?, 10);
        Ok(())
    }

    #[test]
    fn what_was_freed_is_not_used_at_once() -> Result {
        let ranges = ranges(0, 30)?;

        assert_eq!(ranges.insert(object(0)?, 10)?, 0);
        ranges.remove(0);
        assert_eq!(ranges.insert(object(0)?, 10)?, 10);
        Ok(())
    }

    #[test]
    fn removing_what_does_not_begin_a_range_does_nothing() -> Result {
        let ranges = ranges(0, 30)?;

        assert_eq!(ranges.insert(object(9)?, 10)?, 0);
        ranges.remove(5);
        ranges.remove(10);
        assert!(ranges.get(9).is_some_and(|(_, object)| *object == 9));
        Ok(())
    }

    /// Against a plain table of who has which number.
    #[test]
    fn thousands_of_random_steps() -> Result {
        const NUMBERS: usize = 64;
        const START: usize = 1000;
        let ranges = ranges(START, START + NUMBERS)?;
        let mut owners = [0u32; NUMBERS];
        let mut random = 1u32;

        for step in 1..4000u32 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let len = 1 + (random >> 16) as usize % 9;
            let at = (random >> 24) as usize % NUMBERS;

            if random & 0x1000 != 0 {
                let room = owners
                    .windows(len)
                    .any(|some| some.iter().all(|who| *who == 0));

                match ranges.insert(object(step)?, len) {
                    Ok(first) => {
                        let taken = &mut owners[first - START..first - START + len];

                        assert!(taken.iter().all(|who| *who == 0));
                        taken.fill(step);
                    }
                    Err(error) => assert!(error == ENOSPC && !room),
                }
            } else if let Some((first, object)) = ranges.get(START + at) {
                assert_eq!(owners[at], *object);
                ranges.remove(first);
                for who in owners.iter_mut().filter(|who| **who == *object) {
                    *who = 0;
                }
            } else {
                assert_eq!(owners[at], 0);
            }
        }
        for (at, who) in owners.iter().enumerate() {
            let found = ranges.get(START + at).map_or(0, |(_, object)| *object);

            assert_eq!(found, *who);
        }
        Ok(())
    }
}
