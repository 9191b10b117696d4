// SPDX-License-Identifier: GPL-2.0
//! Threads that share items between them, and the machine.

use std::iter;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

/// What may run at a time, whoever starts it.
pub struct Slots {
    count: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

/// One that is taken, until it is dropped.
pub struct Slot<'a>(&'a Slots);

impl Slots {
    pub fn new(count: usize) -> Self {
        Self {
            count,
            free: Mutex::new(count),
            freed: Condvar::new(),
        }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Takes one, when there is one.
    pub fn take(&self) -> Slot<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self
            .freed
            .wait_while(free, |free| *free == 0)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

/// Runs `work` in `count` threads. It gets the thread's number, from 0, and the items, of which
/// each goes, in order, to the thread that asks for one first. Answers what they did, by number.
pub fn share<'a, T: Sync, R: Send>(
    count: usize,
    items: &'a [T],
    work: impl Fn(usize, &mut dyn Iterator<Item = &'a T>) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (next, work) = (&next, &work);
        let workers: Vec<_> = (0..count)
            .map(|number| {
                scope.spawn(move || {
                    let mut own = iter::from_fn(|| items.get(next.fetch_add(1, Relaxed)));
                    work(number, &mut own)
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_at_a_time_than_slots() {
        let slots = Slots::new(2);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        share(4, &[(); 100], |_, own| {
            for () in own {
                let _slot = slots.take();
                most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
                thread::yield_now();
                now.fetch_sub(1, Relaxed);
            }
        });
        assert!((1..=2).contains(&most.into_inner()));
    }

    #[test]
    fn each_item_is_taken_once() {
        let items: Vec<usize> = (0..1000).collect();
        let taken = share(3, &items, |number, own| (number, own.collect::<Vec<_>>()));
        assert!(taken.iter().map(|(number, _)| *number).eq(0..3));
        let mut all: Vec<usize> = taken.iter().flat_map(|(_, own)| own).map(|n| **n).collect();
        all.sort_unstable();
        assert_eq!(all, items);
    }
}
