// SPDX-License-Identifier: GPL-2.0
//! The MMU between the engines and every memory that they reach: page tables, and a TLB that
//! does not notice that they change.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use crate::memory::Mapping;
use crate::npu::command::Access;

/// Address-space ids; 0 is never valid.
pub const IDS: usize = 128;

const ADDRESS_BITS: u32 = 48;
const PAGE: u64 = 1 << 12;
const LARGE: u64 = 1 << 21;

const VALID: u64 = 1 << 0;
const READ: u64 = 1 << 1;
const WRITE: u64 = 1 << 2;
const LEAF: u64 = 1 << 3;
const HOST: u64 = 1 << 4;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Why an access is refused; the numbers are the manual's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// An entry is not VALID.
    NotValid = 1,
    /// READ or WRITE does not allow it.
    NotAllowed = 2,
    /// An entry with bits that must be 0, or an address that is not in device memory.
    BadEntry = 3,
    /// A device address of more than 48 bits.
    BadAddress = 4,
    /// The address space has no VALID root.
    NoRoot = 5,
}

/// Where a device address leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// An offset in device memory.
    Device(u64),
    /// A host address.
    Host(u64),
}

/// What to drop from the TLB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    All,
    Id(u32),
    /// All pages of the id that overlap the device addresses from `start` to before `end`.
    Range {
        id: u32,
        start: u64,
        end: u64,
    },
}

/// A translation of one page. The default is none: id 0 is never valid.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    id: u16,
    /// The page's first device address.
    from: u64,
    /// The page's first host address or memory offset.
    to: u64,
    /// The bits of the leaf.
    flags: u64,
}

impl Entry {
    fn translate(&self, address: u64, access: Access) -> Result<Place, Kind> {
        let needed = match access {
            Access::Read => READ,
            Access::Write => WRITE,
        };
        if self.flags & needed == 0 {
            return Err(Kind::NotAllowed);
        }
        let to = self.to + (address - self.from);
        Ok(match self.flags & HOST {
            0 => Place::Device(to),
            _ => Place::Host(to),
        })
    }
}

/// Entries that have the same index; when they are all taken, the oldest goes.
#[derive(Debug, Default)]
struct Set<const WAYS: usize>([Entry; WAYS], usize)
where
    [Entry; WAYS]: Default;

/// The TLB's entries for pages of one size.
struct Bank<const SETS: usize, const WAYS: usize>
where
    [Entry; WAYS]: Default,
{
    page: u64,
    sets: [Mutex<Set<WAYS>>; SETS],
}

impl<const SETS: usize, const WAYS: usize> Bank<SETS, WAYS>
where
    [Entry; WAYS]: Default,
{
    fn new(page: u64) -> Self {
        Self {
            page,
            sets: array::from_fn(|_| Mutex::default()),
        }
    }

    fn set(&self, id: u16, from: u64) -> &Mutex<Set<WAYS>> {
        let mixed = (from / self.page) ^ (u64::from(id).wrapping_mul(0x9e5));
        &self.sets[mixed as usize % SETS]
    }

    fn find(&self, id: u16, address: u64) -> Option<Entry> {
        let from = address & !(self.page - 1);
        let set = self.set(id, from).lock();
        set.0
            .iter()
            .find(|entry| entry.id == id && entry.from == from)
            .copied()
    }

    fn keep(&self, entry: Entry) {
        let mut set = self.set(entry.id, entry.from).lock();
        // Two engines may have missed the same page.
        let same = set
            .0
            .iter()
            .position(|old| old.id == entry.id && old.from == entry.from);
        let way = same.unwrap_or(set.1);
        set.0[way] = entry;
        if same.is_none() {
            set.1 = (way + 1) % WAYS;
        }
    }

    fn drop_entries(&mut self, what: What) {
        let page = self.page;
        for set in &mut self.sets {
            for entry in &mut set.get_mut().0 {
                let dropped = match what {
                    What::All => true,
                    What::Id(id) => u32::from(entry.id) == id,
                    What::Range { id, start, end } => {
                        u32::from(entry.id) == id
                            && start < end
                            && entry.from < end
                            && entry.from + (page - 1) >= start
                    }
                };
                if dropped {
                    *entry = Entry::default();
                }
            }
        }
    }
}

struct Tlb {
    small: Bank<128, 6>,
    large: Bank<64, 4>,
}

pub struct Mmu {
    memory: Arc<Mapping>,
    roots: [AtomicU64; IDS],
    /// Held for reading by an access from before its translation until after its last byte. So
    /// whoever holds it for writing knows that none is in flight, and that none brings back what
    /// is dropped.
    tlb: RwLock<Tlb>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// An access in flight. Nothing is invalidated while it lives: it must be short.
pub struct InFlight<'a> {
    mmu: &'a Mmu,
    tlb: RwLockReadGuard<'a, Tlb>,
}

impl Mmu {
    /// For tables in `memory`.
    pub fn new(memory: Arc<Mapping>) -> Self {
        Self {
            memory,
            roots: array::from_fn(|_| AtomicU64::new(0)),
            tlb: RwLock::new(Tlb {
                small: Bank::new(PAGE),
                large: Bank::new(LARGE),
            }),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    pub fn root(&self, id: usize) -> u64 {
        self.roots
            .get(id)
            .map_or(0, |root| root.load(Ordering::Acquire))
    }

    /// Sets the root register of an id that is not 0.
    pub fn set_root(&self, id: usize, root: u64) {
        if let Some(register) = self.roots.get(id).filter(|_| id != 0) {
            register.store(root & (ADDRESS | VALID), Ordering::Release);
        }
    }

    pub fn forget_roots(&self) {
        for root in &self.roots {
            root.store(0, Ordering::Release);
        }
    }

    /// Translations that the TLB had, and those that the tables were read for.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.hits.load(Ordering::Relaxed),
            self.misses.load(Ordering::Relaxed),
        )
    }

    pub fn forget_counts(&self) {
        self.hits.store(0, Ordering::Relaxed);
        self.misses.store(0, Ordering::Relaxed);
    }

    pub fn begin(&self) -> InFlight<'_> {
        InFlight {
            mmu: self,
            tlb: self.tlb.read(),
        }
    }

    /// Drops `what` when no access is in flight. Gives up after `patience` and returns false.
    #[must_use]
    pub fn invalidate_within(&self, what: What, patience: Duration) -> bool {
        let Some(mut tlb) = self.tlb.try_write_for(patience) else {
            return false;
        };
        tlb.drop_entries(what);
        true
    }

    /// The same, however long it takes.
    pub fn invalidate(&self, what: What) {
        self.tlb.write().drop_entries(what);
    }

    /// Returns when every access that is in flight has ended.
    pub fn drain(&self) {
        drop(self.tlb.write());
    }

    /// What the tables say of an address of at most 48 bits.
    fn walk(&self, id: u16, address: u64) -> Result<(Entry, u64), Kind> {
        let root = self.root(usize::from(id));
        if root & VALID == 0 {
            return Err(Kind::NoRoot);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let mut table = root & ADDRESS;
        for level in (0..4u32).rev() {
            let index = (address >> (12 + 9 * level)) & 0x1ff;
            // A table that is not in device memory is an address that is not.
            let entry = self
                .memory
                .load_u64(table + 8 * index)
                .map_err(|_| Kind::BadEntry)?;
            if entry & VALID == 0 {
                return Err(Kind::NotValid);
            }
            let leaf = match (level, entry & LEAF != 0) {
                (0, true) | (1, true) => true,
                (0, false) | (2.., true) => return Err(Kind::BadEntry),
                (_, false) => false,
            };
            let mut allowed = VALID | ADDRESS;
            if leaf {
                allowed |= READ | WRITE | LEAF | HOST;
            }
            let page = if level == 1 { LARGE } else { PAGE };
            if entry & !allowed != 0 || leaf && entry & ADDRESS & (page - 1) != 0 {
                return Err(Kind::BadEntry);
            }
            let to = entry & ADDRESS;
            let size = if leaf { page } else { PAGE };
            let in_memory = to + size <= self.memory.size();
            if !in_memory && (!leaf || entry & HOST == 0) {
                return Err(Kind::BadEntry);
            }
            if leaf {
                let translation = Entry {
                    id,
                    from: address & !(page - 1),
                    to,
                    flags: entry & (READ | WRITE | HOST),
                };
                return Ok((translation, page));
            }
            table = to;
        }
        // Level 0 has returned.
        Err(Kind::BadEntry)
    }
}

impl Tlb {
    fn drop_entries(&mut self, what: What) {
        self.small.drop_entries(what);
        self.large.drop_entries(what);
    }
}

impl InFlight<'_> {
    /// Where `address` leads, and how many bytes of its page begin there.
    pub fn translate(&self, id: u16, address: u64, access: Access) -> Result<(Place, u64), Kind> {
        if address >> ADDRESS_BITS != 0 {
            return Err(Kind::BadAddress);
        }
        let known = (self.tlb.small.find(id, address).map(|entry| (entry, PAGE)))
            .or_else(|| self.tlb.large.find(id, address).map(|entry| (entry, LARGE)));
        let (entry, page) = match known {
            Some(known) => {
                self.mmu.hits.fetch_add(1, Ordering::Relaxed);
                known
            }
            None => {
                let (entry, page) = self.mmu.walk(id, address)?;
                match page {
                    LARGE => self.tlb.large.keep(entry),
                    _ => self.tlb.small.keep(entry),
                }
                (entry, page)
            }
        };
        let place = entry.translate(address, access)?;
        Ok((place, page - (address & (page - 1))))
    }
}

#[cfg(test)]
mod tests;
