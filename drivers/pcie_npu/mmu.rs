// SPDX-License-Identifier: GPL-2.0

//! Page tables of one address space, in the card's memory.
//!
//! ```text
//!     root (level 3) ─► level 2 ─► level 1 ─┬─► level 0 ─► page of 4 KiB
//!                                           └─► page of 2 MiB
//! ```
//!
//! The tables are written through the BAR and never read. What the driver needs to know of them it
//! knows itself: which tables there are, where, and how many entries of each are in use
//! ([`Tables::tables`]; the root is not among them). A page of 2 MiB is mapped where something is
//! mapped and there is no table of level 0.
//!
//! # Order
//!
//! An entry is one write of 8 bytes, which the card sees as a whole. A table is complete before
//! something points to it, and a large page is split by pointing to a table that says the same: a
//! job that uses the page meanwhile notices nothing. A table that nothing points to any more is
//! kept as `retired` until the TLB is invalidated, since the card may be reading it.
//!
//! # How much
//!
//! Tables that have become empty stay, for the next mapping there; but no more than
//! [`EMPTY_MAX`] of them in an address space: then all are freed. All tables of an address space
//! take at most a quarter of the card's memory ([`Tables::limit`]).

use crate::memory::{
    Memory,
    Window,
    BLOCK,
    FRAME, //
};
use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    }, //
};

/// Bytes of a page, and of a large one.
pub(crate) const PAGE: u64 = FRAME;
pub(crate) const LARGE: u64 = BLOCK;

const VALID: u64 = 1 << 0;
const READ: u64 = 1 << 1;
const WRITE: u64 = 1 << 2;
const LEAF: u64 = 1 << 3;
const HOST: u64 = 1 << 4;

/// Bits 51:12: the addresses that an entry can have.
const ADDRESS: u64 = ((1 << 52) - 1) & !(PAGE - 1);

/// Entries of a table.
const ENTRIES: u64 = 512;
/// The level of the root.
const ROOT: u32 = 3;
/// Empty tables that are kept.
const EMPTY_MAX: usize = 16;

/// What a page may be used for, and where it is.
#[derive(Clone, Copy)]
pub(crate) struct Access {
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// Host addresses, else offsets in the card's memory.
    pub(crate) host: bool,
}

impl Access {
    fn leaf(self) -> u64 {
        let bit = |set: bool, bit: u64| if set { bit } else { 0 };

        VALID | LEAF | bit(self.read, READ) | bit(self.write, WRITE) | bit(self.host, HOST)
    }
}

/// What is behind a range of device addresses: where byte `offset` of it is, and how many bytes
/// follow there in one piece. `None` when it ends before.
pub(crate) trait Target {
    fn at(&self, offset: u64) -> Option<(u64, u64)>;
}

/// Names a table, but the root: its level, and which of that level. In order: level by level.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    level: u32,
    index: u64,
}

impl Key {
    /// The table of `level` that `address` is translated by.
    fn of(level: u32, address: u64) -> Self {
        Self {
            level,
            index: address >> (shift(level) + 9),
        }
    }

    /// The table that points to this one; `None` for the root.
    fn parent(self) -> Option<Self> {
        (self.level + 1 < ROOT).then_some(Self {
            level: self.level + 1,
            index: self.index >> 9,
        })
    }

    /// Which entry of its parent points to it.
    fn entry_in_parent(self) -> u64 {
        self.index % ENTRIES
    }
}

/// Bits of an address below those that choose an entry of a table of `level`.
fn shift(level: u32) -> u32 {
    12 + 9 * level
}

/// The entry of a table of `level` that `address` is translated by.
fn entry(level: u32, address: u64) -> u64 {
    (address >> shift(level)) % ENTRIES
}

/// A table.
#[derive(Clone, Copy)]
struct Table {
    frame: u64,
    /// Entries that are valid.
    used: u32,
}

/// Where tables come from.
#[derive(Clone, Copy)]
pub(crate) struct Room<'a, 'bound> {
    pub(crate) memory: &'a Memory,
    pub(crate) window: &'a Window<'bound>,
}

/// The page tables of one address space.
///
/// They are given back by [`Tables::free`].
pub(crate) struct Tables {
    root: u64,
    tables: RBTree<Key, Table>,
    /// Not pointed to any more.
    retired: RBTree<Key, Table>,
    count: usize,
    /// Of those in `tables`, how many are empty.
    empty: usize,
    /// Most tables.
    limit: usize,
}

impl Tables {
    /// An empty root.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when there is no frame.
    pub(crate) fn new(room: Room<'_, '_>) -> Result<Self> {
        let root = room.memory.take_frame()?;

        if let Err(err) = room.window.zero_frame(root) {
            room.memory.give_frame(root);
            return Err(err);
        }
        Ok(Self {
            root,
            tables: RBTree::new(),
            retired: RBTree::new(),
            count: 0,
            empty: 0,
            limit: (room.memory.size() / FRAME / 4) as usize,
        })
    }

    /// Where the root is.
    pub(crate) fn root(&self) -> u64 {
        self.root
    }

    /// Makes the tables that `size` bytes from `address` need to be mapped to `target`, as long as it
    /// may `go_on`. Nothing is mapped by that; tables that were made stay, also after an error.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when there is no frame for a table, or the address space has as many as it may;
    /// `ENOMEM`; `ERANGE` when `target` ends before; those of `go_on`.
    pub(crate) fn prepare(
        &mut self,
        room: Room<'_, '_>,
        address: u64,
        size: u64,
        target: &impl Target,
        go_on: impl Fn() -> Result,
    ) -> Result {
        let end = address + size;
        let mut at = address;

        while at < end {
            go_on()?;
            let (to, len) = target.at(at - address).ok_or(ERANGE)?;

            if is_large(at, to, len.min(end - at)) {
                self.ensure(room, 1, at)?;
            } else {
                self.ensure(room, 0, at)?;
            }
            at = end.min(large_end(at));
        }
        Ok(())
    }

    /// Maps `size` bytes from `address`, where nothing is mapped, to `target`, as long as it may
    /// `go_on`. [`Self::prepare`] has made the tables. Returns the bytes that were mapped.
    ///
    /// # Errors
    ///
    /// None that can be: `EIO`.
    pub(crate) fn map(
        &mut self,
        room: Room<'_, '_>,
        address: u64,
        size: u64,
        target: &impl Target,
        access: Access,
        go_on: impl Fn() -> bool,
    ) -> Result<u64> {
        let end = address + size;
        let mut at = address;

        while at < end && go_on() {
            let (to, len) = target.at(at - address).ok_or(EIO)?;

            if is_large(at, to, len.min(end - at)) {
                self.map_large(room, at, to, access)?;
                at += LARGE;
            } else {
                let border = end.min(large_end(at));

                self.map_small(room, at, border, access, |at| target.at(at - address))?;
                at = border;
            }
        }
        Ok(at.saturating_sub(address))
    }

    fn map_large(&mut self, room: Room<'_, '_>, at: u64, to: u64, access: Access) -> Result {
        // An empty table may be in the way. It has translated nothing, so there is nothing that
        // had to be invalidated first; only its frame has to wait.
        let replaces = match self.tables.remove_node(&Key::of(0, at)) {
            Some(node) => {
                self.count = self.count.saturating_sub(1);
                self.empty = self.empty.saturating_sub(1);
                self.retired.insert(node);
                true
            }
            None => false,
        };
        let table = self.tables.get_mut(&Key::of(1, at)).ok_or(EIO)?;

        write(
            room,
            table.frame,
            entry(1, at),
            to & ADDRESS | access.leaf(),
        )?;
        if !replaces {
            if table.used == 0 {
                self.empty = self.empty.saturating_sub(1);
            }
            table.used += 1;
        }
        Ok(())
    }

    /// Maps pages of one table.
    fn map_small(
        &mut self,
        room: Room<'_, '_>,
        from: u64,
        end: u64,
        access: Access,
        target: impl Fn(u64) -> Option<(u64, u64)>,
    ) -> Result {
        let table = self.tables.get_mut(&Key::of(0, from)).ok_or(EIO)?;
        let leaf = access.leaf();
        let mut at = from;

        while at < end {
            let (to, len) = target(at).ok_or(EIO)?;
            let len = len.min(end - at);

            for offset in (0..len).step_by(PAGE as usize) {
                let page = entry(0, at + offset);

                write(room, table.frame, page, (to + offset) & ADDRESS | leaf)?;
            }
            at += len;
        }
        if table.used == 0 {
            self.empty = self.empty.saturating_sub(1);
        }
        table.used += ((end - from) / PAGE) as u32;
        Ok(())
    }

    /// Makes sure that a border between pages can be at `address`, where something is mapped: splits
    /// a large page that it is in. `to` is what the large page's beginning is mapped to.
    ///
    /// # Errors
    ///
    /// `ENOSPC`, `ENOMEM` as in [`Self::prepare`].
    pub(crate) fn split(
        &mut self,
        room: Room<'_, '_>,
        address: u64,
        to: u64,
        access: Access,
    ) -> Result {
        let key = Key::of(0, address);
        let parent = match self.tables.get(&Key::of(1, address)) {
            Some(table) => table.frame,
            None => return Err(EIO),
        };
        let (frame, node) = self.new_table(room, false)?;

        // What it says is what the large page said: the card may use either.
        for page in 0..ENTRIES {
            write(
                room,
                frame,
                page,
                (to + page * PAGE) & ADDRESS | access.leaf(),
            )?;
        }
        write(room, parent, key.entry_in_parent(), frame | VALID)?;
        self.count += 1;
        self.tables.insert(node.into_node(
            key,
            Table {
                frame,
                used: ENTRIES as u32,
            },
        ));
        Ok(())
    }

    /// Whether what is mapped at `address` is a large page.
    pub(crate) fn is_large(&self, address: u64) -> bool {
        self.tables.get(&Key::of(0, address)).is_none()
    }

    /// Unmaps `size` bytes from `address`, all of which are mapped, up to borders of pages, as long
    /// as it may `go_on`. Returns the bytes that were unmapped.
    ///
    /// The card may go on using what was mapped until the TLB is invalidated.
    ///
    /// # Errors
    ///
    /// None that can be: `EIO`.
    pub(crate) fn unmap(
        &mut self,
        room: Room<'_, '_>,
        address: u64,
        size: u64,
        go_on: impl Fn() -> bool,
    ) -> Result<u64> {
        let end = address + size;
        let mut at = address;

        while at < end && go_on() {
            let border = end.min(large_end(at));
            let (key, pages, step) = if self.is_large(at) {
                (Key::of(1, at), 1, LARGE)
            } else {
                (Key::of(0, at), (border - at) / PAGE, PAGE)
            };
            let table = self.tables.get_mut(&key).ok_or(EIO)?;

            for page in 0..pages {
                write(room, table.frame, entry(key.level, at + page * step), 0)?;
            }
            table.used = table.used.saturating_sub(pages as u32);
            if table.used == 0 {
                self.empty += 1;
            }
            at = border;
        }
        Ok(at.saturating_sub(address))
    }

    /// Retires empty tables, if there are many.
    pub(crate) fn prune(&mut self, room: Room<'_, '_>) -> Result {
        if self.empty > EMPTY_MAX {
            self.prune_all(room)?;
        }
        Ok(())
    }

    /// Retires all empty tables. Those of lower levels come first, so that those above are empty
    /// when it is their turn.
    fn prune_all(&mut self, room: Room<'_, '_>) -> Result {
        let mut next = Key { level: 0, index: 0 };

        while let Some(key) = self.first_empty(next) {
            let parent = match key.parent() {
                Some(parent) => {
                    let table = self.tables.get_mut(&parent).ok_or(EIO)?;

                    table.used = table.used.saturating_sub(1);
                    if table.used == 0 {
                        self.empty += 1;
                    }
                    table.frame
                }
                None => self.root,
            };

            write(room, parent, key.entry_in_parent(), 0)?;
            if let Some(node) = self.tables.remove_node(&key) {
                self.count = self.count.saturating_sub(1);
                self.empty = self.empty.saturating_sub(1);
                self.retired.insert(node);
            }
            next = key;
        }
        Ok(())
    }

    /// The first empty table from `key` on.
    fn first_empty(&mut self, key: Key) -> Option<Key> {
        let mut cursor = self.tables.cursor_lower_bound_mut(&key)?;

        loop {
            let (key, table) = cursor.current();
            if table.used == 0 {
                return Some(*key);
            }
            cursor = cursor.move_next()?;
        }
    }

    /// Whether there are tables that wait for an invalidation of the whole address space.
    pub(crate) fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    /// Gives retired tables back: the address space has been invalidated since.
    pub(crate) fn give_retired(&mut self, memory: &Memory) {
        let retired = core::mem::take(&mut self.retired);

        for table in retired.values() {
            memory.give_frame(table.frame);
        }
    }

    /// Gives all tables back. The card must not use the address space any more.
    pub(crate) fn free(mut self, memory: &Memory) {
        self.give_retired(memory);
        for table in self.tables.values() {
            memory.give_frame(table.frame);
        }
        memory.give_frame(self.root);
    }

    /// Makes sure that there is a table of `level`, 0 to 2, for `address`.
    fn ensure(&mut self, room: Room<'_, '_>, level: u32, address: u64) -> Result {
        if self.tables.get(&Key::of(level, address)).is_some() {
            return Ok(());
        }
        // From the root down: a table is linked to one that is there.
        for level in (level..ROOT).rev() {
            let key = Key::of(level, address);

            if self.tables.get(&key).is_some() {
                continue;
            }
            let (frame, node) = self.new_table(room, true)?;
            let parent = match key.parent() {
                Some(parent) => {
                    let table = self.tables.get_mut(&parent).ok_or(EIO)?;

                    if table.used == 0 {
                        self.empty = self.empty.saturating_sub(1);
                    }
                    table.used += 1;
                    table.frame
                }
                None => self.root,
            };

            write(room, parent, key.entry_in_parent(), frame | VALID)?;
            self.count += 1;
            self.empty += 1;
            self.tables
                .insert(node.into_node(key, Table { frame, used: 0 }));
        }
        Ok(())
    }

    /// A frame and a node for a table; zeroed if nobody is going to write all of it.
    fn new_table(
        &self,
        room: Room<'_, '_>,
        zeroed: bool,
    ) -> Result<(u64, RBTreeNodeReservation<Key, Table>)> {
        if self.count >= self.limit {
            return Err(ENOSPC);
        }
        let node = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let frame = room.memory.take_frame()?;

        if zeroed {
            if let Err(err) = room.window.zero_frame(frame) {
                room.memory.give_frame(frame);
                return Err(err);
            }
        }
        Ok((frame, node))
    }
}

/// Writes entry `index` of the table at `frame`.
#[inline]
fn write(room: Room<'_, '_>, frame: u64, index: u64, value: u64) -> Result {
    room.window.write(frame + index * 8, value)
}

/// The first address after `address` that begins a large page.
fn large_end(address: u64) -> u64 {
    (address / LARGE + 1) * LARGE
}

/// Whether a large page at `address` can show `len` bytes at `to`.
fn is_large(address: u64, to: u64, len: u64) -> bool {
    address % LARGE == 0 && to % LARGE == 0 && len >= LARGE
}
