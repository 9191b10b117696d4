// SPDX-License-Identifier: GPL-2.0
//! What a running program has: files, handles, mappings. Its threads share them.

use crate::program::{Device, Node, Which};
use crate::table::Pool;

/// Where mappings of programs go: far below everything that the kernel places by itself, so that a
/// stale address never leads to memory of ours.
const MAPS: u64 = 0x1000_0000_0000;

/// Bytes from one mapping to the next; none is larger.
pub const MAP_STRIDE: u64 = 1 << 28;

/// Most mappings, before addresses are used again.
const MAPS_MAX: u64 = 4096;

/// Where all mappings are: an address, and bytes.
pub const ALL_MAPS: (u64, usize) = (MAPS, (MAPS_MAX * MAP_STRIDE) as usize);

/// An open file. Several descriptors may lead to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    pub fd: i32,
    /// The same for all descriptors of it.
    pub id: u32,
    pub device: Device,
    pub node: Node,
}

/// A handle, an offset or a point.
#[derive(Debug, Clone, Copy)]
struct Thing {
    pool: Pool,
    value: u64,
    /// `File::id` of the file that it belongs to.
    owner: u32,
}

/// A mapping; its address is one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Map {
    pub address: u64,
    pub size: usize,
}

#[derive(Debug, Default)]
pub struct Things {
    files: Vec<File>,
    things: Vec<Thing>,
    maps: Vec<Map>,
    /// Descriptors that are no device's.
    pub eventfds: Vec<i32>,
    /// Sockets that files are in flight in.
    pub sockets: Vec<i32>,
    next_id: u32,
    next_map: u64,
}

/// The latest of `all`, or the one so many before it, around and around.
fn latest<T: Copy>(all: impl DoubleEndedIterator<Item = T> + Clone, before: u8) -> Option<T> {
    let count = all.clone().count();
    if count == 0 {
        return None;
    }
    all.rev().nth(usize::from(before) % count)
}

impl Things {
    pub fn add_file(&mut self, fd: i32, device: Device, node: Node) {
        let id = self.next_id;
        self.next_id += 1;
        self.files.push(File {
            fd,
            id,
            device,
            node,
        });
    }

    /// Another descriptor of the same file.
    pub fn add_descriptor(&mut self, fd: i32, of: File) {
        self.files.push(File { fd, ..of });
    }

    /// Takes a file out of the list, so that only one thread closes it.
    pub fn remove_file(&mut self, which: Which) -> Option<File> {
        let file = self.file(which, |_| true)?;
        self.files.retain(|other| other.fd != file.fd);
        Some(file)
    }

    pub fn file(&self, which: Which, fits: impl Fn(&File) -> bool) -> Option<File> {
        let all = self.files.iter().copied();
        match which {
            Which::Any(before) => latest(all, before),
            Which::Fitting(before) => {
                latest(all.clone().filter(&fits), before).or_else(|| latest(all, before))
            }
        }
    }

    /// All descriptors.
    pub fn descriptors(&self) -> impl Iterator<Item = i32> {
        let files = self.files.iter().map(|file| file.fd);
        files.chain(self.eventfds.iter().chain(&self.sockets).copied())
    }

    pub fn add(&mut self, pool: Pool, value: u64, owner: u32) {
        self.things.push(Thing { pool, value, owner });
    }

    /// The latest thing of the pool that belongs to this file, or to any.
    pub fn value(&self, pool: Pool, owner: Option<u32>, before: u8) -> Option<u64> {
        let all =
            self.things.iter().copied().filter(|thing| {
                thing.pool == pool && owner.is_none_or(|owner| thing.owner == owner)
            });
        latest(all, before).map(|thing| thing.value)
    }

    pub fn eventfd(&self, before: u8) -> Option<i32> {
        latest(self.eventfds.iter().copied(), before)
    }

    /// An address where nothing is mapped yet.
    pub fn place(&mut self) -> u64 {
        let place = MAPS + (self.next_map % MAPS_MAX) * MAP_STRIDE;
        self.next_map += 1;
        place
    }

    pub fn add_map(&mut self, map: Map) {
        self.maps.push(map);
    }

    pub fn map(&self, before: u8) -> Option<Map> {
        latest(self.maps.iter().copied(), before)
    }

    /// Says that the mapping is elsewhere now, or gone.
    pub fn change_map(&mut self, old: Map, new: Option<Map>) {
        self.maps.retain(|map| *map != old);
        self.maps.extend(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_comes_first_and_the_list_is_round() {
        let all = [1, 2, 3];
        let of = |before| latest(all.iter().copied(), before);
        assert_eq!(
            [of(0), of(1), of(2), of(3)],
            [Some(3), Some(2), Some(1), Some(3)]
        );
        assert_eq!(latest(std::iter::empty::<u8>(), 0), None);
    }

    #[test]
    fn a_fitting_file_is_preferred() {
        let mut things = Things::default();
        things.add_file(10, Device::Mock, Node::Compute);
        things.add_file(11, Device::Edu, Node::Compute);
        let is_mock = |file: &File| file.device == Device::Mock;
        let fd = |which| things.file(which, is_mock).map(|file| file.fd);
        assert_eq!(fd(Which::Fitting(0)), Some(10));
        assert_eq!(fd(Which::Any(0)), Some(11));
        let none = things.file(Which::Fitting(0), |file| file.device == Device::Npu);
        assert_eq!(none.map(|file| file.fd), Some(11));
    }

    #[test]
    fn handles_belong_to_files() {
        let mut things = Things::default();
        things.add(Pool::Buffer, 1, 7);
        things.add(Pool::Buffer, 2, 8);
        things.add(Pool::Timeline, 3, 7);
        assert_eq!(things.value(Pool::Buffer, Some(7), 0), Some(1));
        assert_eq!(things.value(Pool::Buffer, None, 0), Some(2));
        assert_eq!(things.value(Pool::Buffer, Some(9), 0), None);
    }

    #[test]
    fn a_file_is_removed_once() {
        let mut things = Things::default();
        things.add_file(10, Device::Mock, Node::Compute);
        assert!(things.remove_file(Which::default()).is_some());
        assert!(things.remove_file(Which::default()).is_none());
    }
}
