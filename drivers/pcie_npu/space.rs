// SPDX-License-Identifier: GPL-2.0

//! The address space of a context: what is mapped where.
//!
//! A [`Mapping`] is one piece of a buffer, or one piece of the card's memory, at one device address;
//! they lie in a tree by address. A buffer is mapped for DMA once, however many pieces of it a
//! context maps. A part of a mapping can be unmapped: what is left on either side is a mapping of
//! its own.
//!
//! What is unmapped is given back when the card has invalidated it, and not before; if the card
//! fails to, the mapping stays in the tree, and the tree is kept until the card has no DMA
//! ([`crate::device::Card::close`]).
//!
//! MAP and UNMAP of much take long, and the end of the device, its resets and its sleep wait for
//! them: they look at each large page whether they may go on. Who may not leaves in the [`Space`]
//! what is to be finished or undone, and is called again. For the same reason nothing in here is
//! charged to a cgroup: who is over his limit would be made to sleep. [`MAPPINGS_MAX`] bounds it.

use crate::{
    context::Context,
    device::{
        go_on,
        Card, //
    },
    memory::Extent,
    mmu::{
        Access,
        Room,
        Tables,
        Target,
        LARGE,
        PAGE, //
    },
    uapi,
    Call, //
};
use accel::{
    Buffer,
    DmaMapping, //
};
use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::Arc, //
};

/// Mappings that an address space may have. Unmapping all of them, or closing the file, takes a
/// moment for each, and the end of the device waits for it.
const MAPPINGS_MAX: usize = uapi::ACCEL_NPU_MAPPINGS_MAX as usize;

/// What a mapping shows.
enum Backing {
    Buffer { dma: Arc<DmaMapping>, offset: u64 },
    Device { offset: u64 },
}

impl Backing {
    /// The same, from `offset` bytes later on.
    fn after(&self, bytes: u64) -> Self {
        match self {
            Self::Buffer { dma, offset } => Self::Buffer {
                dma: dma.clone(),
                offset: offset + bytes,
            },
            Self::Device { offset } => Self::Device {
                offset: offset + bytes,
            },
        }
    }

    /// Which of the buffers it shows, if it shows one.
    fn key(&self) -> Option<usize> {
        match self {
            Self::Buffer { dma, .. } => Some(Arc::as_ptr(dma.buffer()) as usize),
            Self::Device { .. } => None,
        }
    }
}

impl Target for Backing {
    fn at(&self, bytes: u64) -> Option<(u64, u64)> {
        match self {
            Self::Buffer { dma, offset } => dma.at(offset + bytes),
            // As long as the mapping is, which is not looked beyond.
            Self::Device { offset } => Some((offset + bytes, u64::MAX)),
        }
    }
}

/// What lies at a device address.
struct Mapping {
    size: u64,
    access: Access,
    backing: Backing,
}

/// A buffer that is mapped for DMA.
struct Mapped {
    dma: Arc<DmaMapping>,
    /// Mappings that show a part of it.
    pieces: usize,
}

/// A range of device addresses.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
}

impl Range {
    /// # Errors
    ///
    /// `EINVAL` when misaligned or empty; `ERANGE` outside of what can be mapped.
    fn new(start: u64, size: u64) -> Result<Self> {
        if start % PAGE != 0 || size % PAGE != 0 || size == 0 {
            return Err(EINVAL);
        }
        match start.checked_add(size) {
            Some(end)
                if start >= uapi::ACCEL_NPU_ADDRESS_MIN.into()
                    && end <= uapi::ACCEL_NPU_ADDRESS_END =>
            {
                Ok(Self { start, end })
            }
            _ => Err(ERANGE),
        }
    }

    fn size(self) -> u64 {
        self.end - self.start
    }

    /// What is in both. They have something in common.
    fn intersect(self, other: Self) -> Self {
        Self {
            start: self.start.max(other.start),
            end: self.end.min(other.end),
        }
    }
}

/// What MAP has been asked for, checked.
pub(crate) struct MapRequest {
    range: Range,
    access: Access,
    /// The buffer and where in it; `None` for memory of the card.
    buffer: Option<(Arc<Buffer>, u64)>,
}

impl MapRequest {
    /// # Errors
    ///
    /// `EINVAL`, `ENOENT`, `ERANGE` as MAP.
    pub(crate) fn new(call: &Call<'_, '_>, args: &uapi::accel_npu_map) -> Result<Self> {
        const KNOWN: u32 =
            uapi::ACCEL_NPU_MAP_READ | uapi::ACCEL_NPU_MAP_WRITE | uapi::ACCEL_NPU_MAP_DEVICE;
        let device = args.flags & uapi::ACCEL_NPU_MAP_DEVICE != 0;
        let access = Access {
            read: args.flags & uapi::ACCEL_NPU_MAP_READ != 0,
            write: args.flags & uapi::ACCEL_NPU_MAP_WRITE != 0,
            host: !device,
        };

        if args.flags & !KNOWN != 0
            || !(access.read || access.write)
            || args.offset % PAGE != 0
            || (device && (args.buffer != 0 || args.offset != 0))
        {
            return Err(EINVAL);
        }
        let range = Range::new(args.address, args.size);
        if matches!(range, Err(err) if err == EINVAL) {
            return Err(EINVAL);
        }
        let buffer = if device {
            None
        } else {
            let buffer = call.buffer(args.buffer)?;

            buffer.check_range(args.offset, args.size)?;
            Some((buffer, args.offset))
        };

        Ok(Self {
            range: range?,
            access,
            buffer,
        })
    }
}

/// The address space of one context.
pub(crate) struct Space {
    id: u16,
    tables: Tables,
    /// By first address; they do not overlap.
    mappings: RBTree<u64, Mapping>,
    /// By the address of the buffer, which the mapping for DMA keeps alive.
    buffers: RBTree<usize, Mapped>,
    /// Mappings, and bytes that are mapped.
    count: usize,
    mapped: u64,
    /// What the tables do not have any more, but perhaps the TLB.
    unfinished: Option<Range>,
    /// What a MAP has begun with that could not go on.
    begun: Option<Range>,
}

impl Space {
    /// # Errors
    ///
    /// `ENOSPC` when there is no frame for the root.
    pub(crate) fn new(card: &Card<'_>, id: u16) -> Result<Self> {
        Ok(Self {
            id,
            tables: Tables::new(card.room())?,
            mappings: RBTree::new(),
            buffers: RBTree::new(),
            count: 0,
            mapped: 0,
            unfinished: None,
            begun: None,
        })
    }

    /// Its id.
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    /// Where its root table is.
    pub(crate) fn root(&self) -> u64 {
        self.tables.root()
    }

    /// The first mapping that has something in `range`: where it is, and what.
    fn first_in(&self, range: Range) -> Option<(Range, &Mapping)> {
        let place = |(start, mapping): (&u64, &Mapping)| Range {
            start: *start,
            end: *start + mapping.size,
        };
        let (before, after) = match self.mappings.cursor_lower_bound(&range.start) {
            Some(cursor) => (cursor.peek_prev().map(place), Some(place(cursor.current()))),
            None => (
                self.mappings
                    .cursor_back()
                    .map(|last| place(last.current())),
                None,
            ),
        };
        let found = before
            .filter(|before| before.end > range.start)
            .or(after.filter(|after| after.start < range.end))?;

        self.mappings
            .get(&found.start)
            .map(|mapping| (found, mapping))
    }

    /// The first part of `range` from `from` on that is mapped by one mapping.
    fn next_part(&self, from: u64, range: Range) -> Option<Range> {
        let left = Range {
            start: from,
            end: range.end,
        };

        if from >= range.end {
            return None;
        }
        let (place, _) = self.first_in(left)?;
        Some(place.intersect(left))
    }

    /// Maps what was asked for, all or nothing.
    ///
    /// # Errors
    ///
    /// `EEXIST`, `ENOSPC`, `ENOMEM`, `EIO` as MAP.
    pub(crate) fn map(&mut self, call: &Call<'_, '_>, request: &MapRequest) -> Result {
        let card = call.data();
        let range = request.range;

        self.finish(call, &mut Gone::new())?;
        if self.first_in(range).is_some() {
            return Err(EEXIST);
        }
        if self.mapped + range.size() > uapi::ACCEL_NPU_MAPPED_MAX || self.count >= MAPPINGS_MAX {
            return Err(ENOSPC);
        }
        let result = match &request.buffer {
            Some((buffer, offset)) => self.map_buffer(call, request, buffer, *offset),
            None => self.map_device(call, request),
        };

        // Tables may have become superfluous: under a large page, or by an error.
        self.tables.prune(card.room())?;
        // Else they stay retired until the card was reset.
        if self.tables.has_retired() && card.invalidate(call, self.id, None).is_ok() {
            self.tables.give_retired(&card.memory);
        }
        result
    }

    fn map_buffer(
        &mut self,
        call: &Call<'_, '_>,
        request: &MapRequest,
        buffer: &Arc<Buffer>,
        offset: u64,
    ) -> Result {
        let room = call.data().get_ref().room();
        let start = request.range.start;
        let key = Arc::as_ptr(buffer) as usize;
        let node = RBTreeNodeReservation::new(GFP_KERNEL)?;
        // Not counted in `pieces` before nothing can fail any more.
        let known = self.buffers.get(&key).map(|mapped| mapped.dma.clone());
        let (dma, new) = match known {
            Some(dma) => (dma, None),
            None => {
                let dma = Arc::new(call.map_dma(buffer.clone())?, GFP_KERNEL)?;
                let node = RBTreeNodeReservation::new(GFP_KERNEL)?;

                (dma, Some(node))
            }
        };
        let backing = Backing::Buffer {
            dma: dma.clone(),
            offset,
        };

        let size = request.range.size();
        let may = || call.go_on().is_ok();
        self.tables
            .prepare(room, start, size, &backing, || go_on(call))?;
        let done = self
            .tables
            .map(room, start, size, &backing, request.access, may)?;
        if done == 0 {
            return Err(given_up(call));
        }
        let range = Range {
            start,
            end: start.saturating_add(done),
        };
        if let Some(node) = new {
            self.buffers
                .insert(node.into_node(key, Mapped { dma, pieces: 0 }));
        }
        if let Some(mapped) = self.buffers.get_mut(&key) {
            mapped.pieces += 1;
        }
        self.insert(node, range, request.access, backing);
        call.context().host_changed(done as i64);
        if done < size {
            self.begun = Some(range);
            return Err(given_up(call));
        }
        Ok(())
    }

    fn map_device(&mut self, call: &Call<'_, '_>, request: &MapRequest) -> Result {
        let card = call.data().get_ref();
        let room = card.room();
        let range = request.range;
        let pieces = card.memory.take(range.start, range.size())?;
        let mut nodes = KVVec::with_capacity(pieces.len(), GFP_KERNEL)?;

        if self.count + pieces.len() > MAPPINGS_MAX {
            return Err(ENOSPC);
        }
        for _ in pieces.iter() {
            nodes.push(RBTreeNodeReservation::new(GFP_KERNEL)?, GFP_KERNEL)?;
        }
        let mut at = range.start;
        for piece in pieces.iter() {
            let backing = Backing::Device {
                offset: piece.offset,
            };

            self.tables
                .prepare(room, at, piece.size, &backing, || go_on(call))?;
            at += piece.size;
        }
        // What others left there.
        card.scrub(call, &pieces)?;

        let mut at = range.start;
        for (piece, node) in pieces.iter().zip(nodes.drain_all()) {
            let backing = Backing::Device {
                offset: piece.offset,
            };
            let part = Range {
                start: at,
                end: at + piece.size,
            };

            // Once begun it is soon done: it is no more than the card's memory.
            self.tables
                .map(room, at, piece.size, &backing, request.access, || true)?;
            self.insert(node, part, request.access, backing);
            at = part.end;
        }
        pieces.dismiss();
        call.context().device_changed(range.size() as i64);
        Ok(())
    }

    fn insert(
        &mut self,
        node: RBTreeNodeReservation<u64, Mapping>,
        range: Range,
        access: Access,
        backing: Backing,
    ) {
        self.count += 1;
        self.mapped += range.size();
        self.mappings.insert(node.into_node(
            range.start,
            Mapping {
                size: range.size(),
                access,
                backing,
            },
        ));
    }

    /// Unmaps what is mapped in a range. What is not used any more is given to `gone`, which is to
    /// be dropped without the address space's lock: the last reference to a large buffer may be
    /// among it.
    ///
    /// # Errors
    ///
    /// As UNMAP.
    pub(crate) fn unmap(
        &mut self,
        call: &Call<'_, '_>,
        args: &uapi::accel_npu_unmap,
        gone: &mut Gone,
    ) -> Result {
        let room = call.data().get_ref().room();
        let range = Range::new(args.address, args.size)?;
        let finished = self.finish(call, gone)?;
        let Some(mut covered) = self.next_part(range.start, range) else {
            // This may be the call that was not finished, made again.
            return match finished {
                Some(done) if range.start <= done.start && done.end <= range.end => Ok(()),
                _ => Err(ENOENT),
            };
        };

        while let Some(part) = self.next_part(covered.end, range) {
            covered.end = part.end;
        }
        let is_cut_in_two = self
            .first_in(covered)
            .is_some_and(|(place, _)| place.start < covered.start && covered.end < place.end);
        if is_cut_in_two && self.count >= MAPPINGS_MAX {
            return Err(ENOSPC);
        }
        // For what is left behind the end, if a mapping is cut in two.
        let rest = RBTreeNodeReservation::new(GFP_KERNEL)?;

        // All that can fail comes first: a large page that is split says what it said before.
        self.split_at(room, covered.start)?;
        self.split_at(room, covered.end)?;
        self.clear(call, covered, rest, gone)
    }

    /// Unmaps what is mapped in `covered`, up to borders of pages. `rest` is for what is left behind
    /// it.
    ///
    /// # Errors
    ///
    /// Those of [`Card::invalidate`] and of [`given_up`]: [`Self::finish`] is still to be called.
    fn clear(
        &mut self,
        call: &Call<'_, '_>,
        covered: Range,
        rest: RBTreeNodeReservation<u64, Mapping>,
        gone: &mut Gone,
    ) -> Result {
        let card = call.data().get_ref();
        let room = card.room();
        let mut from = covered.start;

        while let Some(part) = self.next_part(from, covered) {
            let may = || call.go_on().is_ok();
            let done = self.tables.unmap(room, part.start, part.size(), may)?;

            from = part.start.saturating_add(done);
            if done < part.size() {
                self.unfinished = (from > covered.start).then_some(Range {
                    start: covered.start,
                    end: from,
                });
                return Err(given_up(call));
            }
        }
        self.tables.prune(room)?;

        let whole = self.tables.has_retired();
        let range = (!whole).then_some((covered.start, covered.end));
        card.invalidate(call, self.id, range)
            .inspect_err(|_| self.unfinished = Some(covered))?;
        self.tables.give_retired(&card.memory);

        self.remove(card, call.context().get_ref(), covered, rest, gone);
        Ok(())
    }

    /// Finishes what an UNMAP has begun, and undoes what a MAP has, that could not go on. Returns what
    /// was unmapped.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; those of [`Self::clear`].
    fn finish(&mut self, call: &Call<'_, '_>, gone: &mut Gone) -> Result<Option<Range>> {
        let finished = self.finish_unmap(call, gone)?;

        if let Some(begun) = self.begun {
            let rest = RBTreeNodeReservation::new(GFP_KERNEL)?;

            self.clear(call, begun, rest, gone)?;
            self.begun = None;
        }
        Ok(finished)
    }

    /// The first half of [`Self::finish`].
    fn finish_unmap(&mut self, call: &Call<'_, '_>, gone: &mut Gone) -> Result<Option<Range>> {
        let Some(covered) = self.unfinished else {
            return Ok(None);
        };
        let card = call.data().get_ref();
        let rest = RBTreeNodeReservation::new(GFP_KERNEL)?;

        card.invalidate(call, self.id, None)?;
        self.tables.give_retired(&card.memory);
        self.unfinished = None;
        self.remove(card, call.context().get_ref(), covered, rest, gone);
        Ok(Some(covered))
    }

    /// Makes sure that a border between pages can be at `address`.
    fn split_at(&mut self, room: Room<'_, '_>, address: u64) -> Result {
        let page = address / LARGE * LARGE;
        let inside = Range {
            start: address,
            end: address + PAGE,
        };

        if page == address || !self.tables.is_large(address) {
            return Ok(());
        }
        // A large page lies in one mapping as a whole.
        let found = match self.first_in(inside) {
            Some((place, mapping)) if place.start <= page => mapping
                .backing
                .at(page - place.start)
                .map(|(to, _)| (to, mapping.access)),
            _ => None,
        };

        match found {
            Some((to, access)) => self.tables.split(room, address, to, access),
            // Nothing is mapped there.
            None => Ok(()),
        }
    }

    /// Forgets what was mapped in `range`, all of which the card has forgotten.
    fn remove(
        &mut self,
        card: &Card<'_>,
        context: &Context,
        range: Range,
        rest: RBTreeNodeReservation<u64, Mapping>,
        gone: &mut Gone,
    ) {
        let mut rest = Some(rest);
        let mut from = range.start;

        while let Some(part) = self.next_part(from, range) {
            from = part.end;
            self.mapped -= part.size();
            let Some(start) = self.first_in(part).map(|(place, _)| place.start) else {
                break;
            };
            let Some(mapping) = self.mappings.get_mut(&start) else {
                break;
            };
            let end = start + mapping.size;

            match &mapping.backing {
                Backing::Buffer { .. } => context.host_changed(-(part.size() as i64)),
                Backing::Device { offset } => {
                    context.device_changed(-(part.size() as i64));
                    card.memory.give(Extent {
                        offset: offset + (part.start - start),
                        size: part.size(),
                    });
                }
            }
            // What is left behind the part, then what is left before it.
            let behind = (part.end < end).then(|| Mapping {
                size: end - part.end,
                access: mapping.access,
                backing: mapping.backing.after(part.end - start),
            });
            let key = mapping.backing.key();
            let before = part.start - start;
            let mut pieces = 0;

            if before > 0 {
                mapping.size = before;
                pieces += 1;
            } else if let Some(node) = self.mappings.remove_node(&start) {
                gone.mappings.insert(node);
            }
            if let Some(behind) = behind {
                // There is one at most: the end of what is unmapped lies in one mapping.
                if let Some(rest) = rest.take() {
                    self.mappings.insert(rest.into_node(part.end, behind));
                    pieces += 1;
                }
            }
            // None, one or two are left of the one that there was.
            self.count = self.count.saturating_sub(1) + pieces;
            if let Some(key) = key {
                self.count_pieces(key, pieces, gone);
            }
        }
    }

    /// A mapping of the buffer `key` has become `now` mappings.
    fn count_pieces(&mut self, key: usize, now: usize, gone: &mut Gone) {
        if let Some(mapped) = self.buffers.get_mut(&key) {
            mapped.pieces = mapped.pieces.saturating_sub(1) + now;
            if mapped.pieces == 0 {
                if let Some(node) = self.buffers.remove_node(&key) {
                    gone.buffers.insert(node);
                }
            }
        }
    }

    /// Gives the card's memory back. The card must not use the address space any more.
    pub(crate) fn free(self, card: &Card<'_>) {
        for mapping in self.mappings.values() {
            if let Backing::Device { offset } = mapping.backing {
                // It is part of what was one extent, and so lies within a block.
                card.memory.give(Extent {
                    offset,
                    size: mapping.size,
                });
            }
        }
        self.tables.free(&card.memory);
    }
}

/// The error of a call that was not to go on.
fn given_up(call: &Call<'_, '_>) -> Error {
    match go_on(call) {
        Err(err) => err,
        // It may by now.
        Ok(()) => call.after_reset(),
    }
}

/// What was unmapped, to be dropped where nobody waits.
pub(crate) struct Gone {
    mappings: RBTree<u64, Mapping>,
    buffers: RBTree<usize, Mapped>,
}

impl Gone {
    pub(crate) fn new() -> Self {
        Self {
            mappings: RBTree::new(),
            buffers: RBTree::new(),
        }
    }
}
