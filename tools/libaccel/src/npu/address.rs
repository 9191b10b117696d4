// SPDX-License-Identifier: MIT OR Apache-2.0
//! Device addresses that are free: first fit, with a gap behind each range.

use std::collections::BTreeMap;

use crate::uapi::*;

/// Bytes of a small page; ranges are multiples of it.
pub(super) const PAGE: u64 = 4096;

/// Bytes of a large page. Ranges of at least that begin at a multiple of it, so
/// that the kernel can use such pages.
pub(super) const LARGE_PAGE: u64 = 2 << 20;

/// Free addresses, as start and end.
///
/// Behind each range that is given out a page stays free: a command that goes
/// beyond what it was given faults, rather than to write to its neighbour.
#[derive(Debug)]
pub(super) struct Addresses(BTreeMap<u64, u64>);

impl Addresses {
    /// All that can be mapped.
    pub(super) fn new() -> Self {
        // The types of these constants depend on their values.
        #[allow(clippy::unnecessary_cast)]
        let all = (ACCEL_NPU_ADDRESS_MIN as u64, ACCEL_NPU_ADDRESS_END as u64);
        Self(BTreeMap::from([all]))
    }

    /// The address of `size` bytes, a multiple of [`PAGE`]; `None` when there is no room.
    pub(super) fn take(&mut self, size: u64) -> Option<u64> {
        let align = if size >= LARGE_PAGE { LARGE_PAGE } else { PAGE };
        let room = size.checked_add(PAGE)?;
        let (start, end, address) = self.0.iter().find_map(|(start, end)| {
            let address = start.checked_next_multiple_of(align)?;
            (address.checked_add(room)? <= *end).then_some((*start, *end, address))
        })?;
        self.0.remove(&start);
        self.put(start, address);
        self.put(address + room, end);
        Some(address)
    }

    /// Gives back what `take` returned for `size`.
    pub(super) fn give(&mut self, address: u64, size: u64) {
        let (mut start, mut end) = (address, address + size + PAGE);
        if let Some((before, until)) = self.0.range(..start).next_back() {
            if *until == start {
                start = *before;
            }
        }
        if let Some(after) = self.0.remove(&end) {
            end = after;
        }
        self.0.insert(start, end);
    }

    fn put(&mut self, start: u64, end: u64) {
        if start < end {
            self.0.insert(start, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_touch() {
        let mut free = Addresses::new();
        let a = free.take(PAGE).unwrap();
        let b = free.take(3 * PAGE).unwrap();
        assert_eq!(a, 0x20_0000);
        assert_eq!(b, a + 2 * PAGE);
        let large = free.take(LARGE_PAGE).unwrap();
        assert_eq!(large, 0x40_0000);
        // The hole before the large one is used first.
        assert_eq!(free.take(PAGE), Some(b + 4 * PAGE));
    }

    #[test]
    fn what_is_given_back_is_whole_again() {
        let mut free = Addresses::new();
        let sizes = [PAGE, LARGE_PAGE, 5 * PAGE, 3 * LARGE_PAGE, PAGE];
        for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]] {
            let taken = sizes.map(|size| free.take(size).unwrap());
            for i in order {
                free.give(taken[i], sizes[i]);
            }
            assert_eq!(free.0, Addresses::new().0, "{order:?}");
        }
    }

    #[test]
    fn there_is_an_end() {
        let mut free = Addresses::new();
        assert_eq!(free.take(1 << 48), None);
        assert_eq!(free.take(u64::MAX & !0xfff), None);
        let rest = (1 << 48) - (1 << 21) - PAGE;
        assert_eq!(free.take(rest), Some(1 << 21));
        assert_eq!(free.take(PAGE), None);
    }

    /// Ranges that are out never overlap, whatever the order is.
    #[test]
    fn any_order_is_sound() {
        let mut free = Addresses::new();
        let mut out: Vec<(u64, u64)> = Vec::new();
        let mut state = 12345_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            let random = state >> 33;
            if random % 3 != 0 || out.is_empty() {
                let size = match random % 7 {
                    0 => (1 + random % 3) * LARGE_PAGE,
                    _ => (1 + random % 40) * PAGE,
                };
                let address = free.take(size).unwrap();
                assert_eq!(address % PAGE, 0);
                assert!(size < LARGE_PAGE || address % LARGE_PAGE == 0);
                for (other, length) in &out {
                    assert!(address + size < *other || other + length < address);
                }
                out.push((address, size));
            } else {
                let (address, size) = out.swap_remove(random as usize % out.len());
                free.give(address, size);
            }
            if out.len() > 200 {
                let (address, size) = out.swap_remove(0);
                free.give(address, size);
            }
        }
        for (address, size) in out {
            free.give(address, size);
        }
        assert_eq!(free.0, Addresses::new().0);
    }
}
