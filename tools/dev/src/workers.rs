// SPDX-License-Identifier: GPL-2.0
//! Threads that share items between them.

use std::iter;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

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
    fn each_item_is_taken_once() {
        let items: Vec<usize> = (0..1000).collect();
        let taken = share(3, &items, |number, own| (number, own.collect::<Vec<_>>()));
        assert!(taken.iter().map(|(number, _)| *number).eq(0..3));
        let mut all: Vec<usize> = taken.iter().flat_map(|(_, own)| own).map(|n| **n).collect();
        all.sort_unstable();
        assert_eq!(all, items);
    }
}
