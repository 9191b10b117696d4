// SPDX-License-Identifier: GPL-2.0
//! The MMU against the manual case by case, and against a map that knows nothing of tables.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::thread;

use proptest::prelude::*;

use super::*;

const MEMORY: u64 = 8 << 20;
/// Where tests put tables: one after the other from the second page on.
const TABLES: u64 = 0x1000;

/// Tables that are written as a driver would.
struct Tables {
    memory: Arc<Mapping>,
    mmu: Mmu,
    next: u64,
}

impl Tables {
    fn new() -> Self {
        let (memory, _) = Mapping::create("test", MEMORY).expect("memory can be made");
        let memory = Arc::new(memory);
        Self {
            mmu: Mmu::new(memory.clone()),
            memory,
            next: TABLES,
        }
    }

    fn table(&mut self) -> u64 {
        let at = self.next;
        self.next += PAGE;
        at
    }

    fn add_root(&mut self, id: usize) {
        let root = self.table();
        self.mmu.set_root(id, root | VALID);
    }

    fn set(&self, at: u64, entry: u64) {
        self.memory
            .write(at, &entry.to_le_bytes())
            .expect("tables are in memory");
    }

    /// Where the entry of `level` for an address is; makes the tables above it.
    fn entry(&mut self, id: usize, address: u64, level: u32) -> u64 {
        let mut table = self.mmu.root(id) & ADDRESS;
        for above in (level + 1..4).rev() {
            let at = table + 8 * ((address >> (12 + 9 * above)) & 0x1ff);
            let entry = self.memory.load_u64(at).expect("tables are in memory");
            table = if entry & VALID == 0 || entry & LEAF != 0 {
                let new = self.table();
                self.set(at, new | VALID);
                new
            } else {
                entry & ADDRESS
            };
        }
        table + 8 * ((address >> (12 + 9 * level)) & 0x1ff)
    }

    fn map(&mut self, id: usize, address: u64, level: u32, leaf: u64) {
        let at = self.entry(id, address, level);
        self.set(at, leaf);
    }

    fn translate(&self, id: u16, address: u64, access: Access) -> Result<(Place, u64), Kind> {
        self.mmu.begin().translate(id, address, access)
    }

    fn read(&self, address: u64) -> Result<(Place, u64), Kind> {
        self.translate(1, address, Access::Read)
    }
}

const LEAF_RW: u64 = VALID | READ | WRITE | LEAF;

#[test]
fn pages_of_both_sizes_and_memories() {
    let mut t = Tables::new();
    t.add_root(1);
    let far = 0xffff_ffff_f000;
    t.map(1, far, 0, 0x70_0000 | LEAF_RW);
    t.map(1, 0x4000_0000, 1, 0x60_0000 | LEAF_RW);
    t.map(1, 0x8000_0000, 1, 0x000f_ffff_ffe0_0000 | LEAF_RW | HOST);
    t.map(1, 0x1000, 0, 0x1234_5000 | LEAF_RW | HOST);
    // The second time the TLB has it.
    for _ in 0..2 {
        assert_eq!(t.read(far + 0xfff), Ok((Place::Device(0x70_0fff), 1)));
        assert_eq!(
            t.read(0x4012_3456),
            Ok((Place::Device(0x72_3456), 0x20_0000 - 0x12_3456))
        );
        assert_eq!(
            t.read(0x8000_0000),
            Ok((Place::Host(0x000f_ffff_ffe0_0000), 0x20_0000))
        );
        assert_eq!(t.read(0x1800), Ok((Place::Host(0x1234_5800), 0x800)));
    }
    assert_eq!(t.mmu.counts(), (4, 4));
}

#[test]
fn every_kind_of_fault() {
    let mut t = Tables::new();
    assert_eq!(t.read(0), Err(Kind::NoRoot));
    assert_eq!(t.read(1 << 48), Err(Kind::BadAddress));
    assert_eq!(t.read(u64::MAX), Err(Kind::BadAddress));
    t.add_root(1);
    assert_eq!(t.read(0), Err(Kind::NotValid));
    assert_eq!(t.read(1 << 48), Err(Kind::BadAddress));
    assert_eq!(t.translate(2, 0, Access::Read), Err(Kind::NoRoot));
    assert_eq!(t.translate(500, 0, Access::Read), Err(Kind::NoRoot));
    // A root outside memory.
    t.mmu.set_root(2, MEMORY | VALID);
    assert_eq!(t.translate(2, 0, Access::Read), Err(Kind::BadEntry));
    t.mmu.set_root(0, TABLES | VALID);
    assert_eq!(t.mmu.root(0), 0);

    // Permissions.
    for (flags, read, write) in [(0, false, false), (READ, true, false), (WRITE, false, true)] {
        t.map(1, 0x5000, 0, 0x1000 | VALID | LEAF | flags);
        t.mmu.invalidate(What::All);
        for _ in 0..2 {
            let may = |access| t.translate(1, 0x5000, access) != Err(Kind::NotAllowed);
            assert_eq!((may(Access::Read), may(Access::Write)), (read, write));
        }
    }
    t.mmu.invalidate(What::All);

    // Leaves.
    t.map(1, 0x6000, 0, LEAF_RW & !VALID);
    assert_eq!(t.read(0x6000), Err(Kind::NotValid));
    let bad_small = [
        LEAF_RW & !LEAF,
        LEAF_RW | (1 << 5),
        LEAF_RW | (1 << 11),
        LEAF_RW | (1 << 52),
        LEAF_RW | (1 << 63),
        LEAF_RW | MEMORY,
        LEAF_RW | ADDRESS,
    ];
    for entry in bad_small {
        t.map(1, 0x6000, 0, entry);
        assert_eq!(t.read(0x6000), Err(Kind::BadEntry), "{entry:#x}");
    }
    t.map(1, 0x6000, 0, LEAF_RW | (MEMORY - PAGE));
    assert!(t.read(0x6000).is_ok());
    let bad_large = [
        LEAF_RW | 0x1000,
        LEAF_RW | 0x10_0000,
        LEAF_RW | (1 << 5),
        LEAF_RW | HOST | (1 << 55),
        LEAF_RW | HOST | 0x1000,
        LEAF_RW | MEMORY,
    ];
    for entry in bad_large {
        t.map(1, 0x4000_0000, 1, entry);
        assert_eq!(t.read(0x4000_0000), Err(Kind::BadEntry), "{entry:#x}");
    }

    // Entries that lead to tables.
    for level in 1..4 {
        let address = 0x80_0000_0000 * u64::from(level);
        let at = t.entry(1, address, level);
        let table = t.table();
        let mut bad = vec![READ, WRITE, HOST, 1 << 5, 1 << 11, 1 << 52, 1 << 63, MEMORY];
        if level > 1 {
            bad.push(LEAF);
        }
        for bits in bad {
            t.set(at, table | VALID | bits);
            assert_eq!(t.read(address), Err(Kind::BadEntry), "{level} {bits:#x}");
        }
        t.set(at, table | VALID);
        assert_eq!(t.read(address), Err(Kind::NotValid));
        // What is not VALID may have any bits.
        t.set(at, !VALID);
        assert_eq!(t.read(address), Err(Kind::NotValid));
    }
    assert_eq!(t.mmu.counts().0, 9, "of refused permissions only");
}

#[test]
fn the_tlb_does_not_notice_changes_and_faults_are_not_kept() {
    let mut t = Tables::new();
    t.add_root(1);
    t.add_root(2);
    assert_eq!(t.read(0x5000), Err(Kind::NotValid));
    t.map(1, 0x5000, 0, 0x10_0000 | LEAF_RW);
    t.map(2, 0x5000, 0, 0x20_0000 | LEAF_RW);
    assert_eq!(t.read(0x5000), Ok((Place::Device(0x10_0000), PAGE)));
    let other = |t: &Tables| t.translate(2, 0x5000, Access::Read);
    assert_eq!(other(&t), Ok((Place::Device(0x20_0000), PAGE)));
    t.map(1, 0x5000, 0, 0);
    t.map(2, 0x5000, 0, 0);
    t.mmu.set_root(2, 0);
    assert_eq!(t.read(0x5000), Ok((Place::Device(0x10_0000), PAGE)));
    // The wrong ids and ranges.
    t.mmu.invalidate(What::Id(3));
    for (id, start, end) in [
        (1, 0x4000, 0x5000),
        (1, 0x6000, u64::MAX),
        (1, 0x5000, 0x5000),
        (1, 0x6000, 0x5000),
        (3, 0, u64::MAX),
        (0x1_0001, 0, u64::MAX),
    ] {
        t.mmu.invalidate(What::Range { id, start, end });
    }
    assert_eq!(t.read(0x5000), Ok((Place::Device(0x10_0000), PAGE)));
    let (id, start, end) = (1, 0x5fff, 0x6000);
    assert!(
        t.mmu
            .invalidate_within(What::Range { id, start, end }, Duration::ZERO)
    );
    assert_eq!(t.read(0x5000), Err(Kind::NotValid));
    assert_eq!(other(&t), Ok((Place::Device(0x20_0000), PAGE)));
    t.mmu.invalidate(What::Id(2));
    assert_eq!(other(&t), Err(Kind::NoRoot));
}

#[test]
fn a_range_drops_every_large_page_that_it_overlaps() {
    let mut t = Tables::new();
    t.add_root(1);
    for (start, end, dropped) in [
        (0x4000_0000, 0x4000_0001, true),
        (0x401f_ffff, 0x4020_0000, true),
        (0x3fff_f000, 0x4000_0001, true),
        (0x4020_0000, u64::MAX, false),
        (0, 0x4000_0000, false),
        (0, u64::MAX, true),
    ] {
        t.map(1, 0x4000_0000, 1, LEAF_RW);
        assert!(t.read(0x4010_0000).is_ok());
        t.map(1, 0x4000_0000, 1, 0);
        t.mmu.invalidate(What::Range { id: 1, start, end });
        assert_eq!(t.read(0x4010_0000).is_err(), dropped, "{start:#x}-{end:#x}");
    }
}

#[test]
fn the_tlb_has_about_a_thousand_entries() {
    let mut t = Tables::new();
    t.add_root(1);
    for page in 0..700 {
        t.map(1, page * PAGE, 0, (page * PAGE) | LEAF_RW);
    }
    for _ in 0..2 {
        for page in 0..700 {
            assert_eq!(t.read(page * PAGE), Ok((Place::Device(page * PAGE), PAGE)));
        }
    }
    assert_eq!(t.mmu.counts(), (700, 700));
    // More than it holds go round, and all are right.
    for page in 700..2000 {
        t.map(1, page * PAGE, 0, (page * PAGE) | LEAF_RW);
    }
    for page in 0..2000 {
        assert_eq!(t.read(page * PAGE), Ok((Place::Device(page * PAGE), PAGE)));
    }
    let (hits, _) = t.mmu.counts();
    assert!(hits < 1500, "{hits}");
}

#[test]
fn invalidation_waits_for_what_is_in_flight() {
    let mut t = Tables::new();
    t.add_root(1);
    t.map(1, 0x5000, 0, 0x10_0000 | LEAF_RW);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let access = t.mmu.begin();
        assert!(access.translate(1, 0x5000, Access::Read).is_ok());
        assert!(!t.mmu.invalidate_within(What::All, Duration::from_millis(1)));
        scope.spawn(|| {
            t.mmu.invalidate(What::All);
            done.store(true, Ordering::Release);
        });
        thread::sleep(Duration::from_millis(20));
        assert!(!done.load(Ordering::Acquire));
        drop(access);
    });
    assert!(done.load(Ordering::Acquire));
}

/// What the driver and the engines do to the MMU.
#[derive(Debug, Clone)]
enum Step {
    /// Maps a page of 4 KiB (else 2 MiB) to the page or large page `to`.
    Map {
        id: usize,
        small: bool,
        page: u64,
        to: u64,
        flags: u64,
    },
    Unmap {
        id: usize,
        page: u64,
    },
    Translate {
        id: usize,
        address: u64,
        write: bool,
    },
    Invalidate {
        id: usize,
        pages: (u64, u64),
    },
    InvalidateId(usize),
    InvalidateAll,
}

/// Pages that tests use, in 4 KiB: those of the first 4 large pages.
const PAGES: u64 = 4 * 512;

fn step() -> impl Strategy<Value = Step> {
    let id = 1usize..4;
    // Few small pages, so that they meet.
    let page = (0u64..4, 0u64..6).prop_map(|(large, small)| large * 512 + small * 100);
    let flags = prop::sample::select(vec![READ, WRITE, READ | WRITE, READ | WRITE | HOST]);
    prop_oneof![
        3 => (id.clone(), any::<bool>(), page.clone(), 0u64..4, flags)
            .prop_map(|(id, small, page, to, flags)| Step::Map { id, small, page, to, flags }),
        2 => (id.clone(), page.clone()).prop_map(|(id, page)| Step::Unmap { id, page }),
        12 => (id.clone(), page.clone(), 0u64..PAGE, any::<bool>())
            .prop_map(|(id, page, offset, write)| Step::Translate {
                id,
                address: page * PAGE + offset,
                write,
            }),
        1 => (id.clone(), page.clone(), 0u64..600)
            .prop_map(|(id, from, size)| Step::Invalidate { id, pages: (from, from + size) }),
        1 => id.prop_map(Step::InvalidateId),
        1 => Just(Step::InvalidateAll),
    ]
}

/// What a page of 4 KiB may lead to: the first byte and the flags.
type Leads = (u64, u64);

/// The reference: for each page what is mapped now, and what was while an old translation may
/// have been kept.
#[derive(Default)]
struct Reference {
    now: HashMap<(usize, u64), Leads>,
    /// Whether the page is part of a large one.
    large: HashSet<(usize, u64)>,
    before: HashMap<(usize, u64), HashSet<Leads>>,
}

impl Reference {
    fn set(&mut self, id: usize, page: u64, leads: Option<Leads>) {
        let old = match leads {
            Some(leads) => self.now.insert((id, page), leads),
            None => self.now.remove(&(id, page)),
        };
        self.before.entry((id, page)).or_default().extend(old);
    }

    fn map(&mut self, id: usize, small: bool, page: u64, to: u64, flags: u64) {
        let first = page / 512 * 512;
        if small {
            // The tables of the test replace a large page by an empty table.
            if self.large.remove(&(id, first)) {
                (first..first + 512).for_each(|page| self.set(id, page, None));
            }
            self.set(id, page, Some((to * PAGE, flags)));
        } else {
            self.large.insert((id, first));
            for number in 0..512 {
                let leads = (to * LARGE + number * PAGE, flags);
                self.set(id, first + number, Some(leads));
            }
        }
    }

    fn unmap(&mut self, id: usize, page: u64) {
        let first = page / 512 * 512;
        if self.large.remove(&(id, first)) {
            (first..first + 512).for_each(|page| self.set(id, page, None));
        } else {
            self.set(id, page, None);
        }
    }

    fn forget(&mut self, mut dropped: impl FnMut(usize, u64) -> bool) {
        self.before.retain(|&(id, page), _| !dropped(id, page));
    }

    fn allows(&self, id: usize, address: u64, write: bool, got: Result<Place, Kind>) -> bool {
        let key = (id, address / PAGE);
        let answer = |leads: Option<&Leads>| match leads {
            None => Err(Kind::NotValid),
            Some((_, flags)) if flags & if write { WRITE } else { READ } == 0 => {
                Err(Kind::NotAllowed)
            }
            Some((to, flags)) if flags & HOST != 0 => Ok(Place::Host(to + address % PAGE)),
            Some((to, _)) => Ok(Place::Device(to + address % PAGE)),
        };
        let old = self.before.get(&key).into_iter().flatten();
        got == answer(self.now.get(&key)) || old.into_iter().any(|leads| got == answer(Some(leads)))
    }
}

proptest! {
    #[test]
    fn translations_are_the_present_or_were_not_invalidated(
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut t = Tables::new();
        let mut reference = Reference::default();
        (1..4).for_each(|id| t.add_root(id));
        for step in steps {
            match step {
                Step::Map { id, small: true, page, to, flags } => {
                    t.map(id, page * PAGE, 0, (to * PAGE) | flags | VALID | LEAF);
                    reference.map(id, true, page, to, flags);
                }
                Step::Map { id, small: false, page, to, flags } => {
                    t.map(id, page * PAGE, 1, (to * LARGE) | flags | VALID | LEAF);
                    reference.map(id, false, page, to, flags);
                }
                Step::Unmap { id, page } => {
                    let large = reference.large.contains(&(id, page / 512 * 512));
                    t.map(id, page * PAGE, u32::from(large), 0);
                    reference.unmap(id, page);
                }
                Step::Translate { id, address, write } => {
                    let access = if write { Access::Write } else { Access::Read };
                    let got = t.translate(id as u16, address, access).map(|(place, _)| place);
                    prop_assert!(reference.allows(id, address, write, got), "{id} {address:#x} {got:?}");
                }
                Step::Invalidate { id, pages: (from, to) } => {
                    let what = What::Range { id: id as u32, start: from * PAGE, end: to * PAGE };
                    t.mmu.invalidate(what);
                    reference.forget(|other, page| other == id && (from..to).contains(&page));
                }
                Step::InvalidateId(id) => {
                    t.mmu.invalidate(What::Id(id as u32));
                    reference.forget(|other, _| other == id);
                }
                Step::InvalidateAll => {
                    t.mmu.invalidate(What::All);
                    reference.forget(|_, _| true);
                }
            }
        }
        // In the end, everything is as mapped.
        t.mmu.invalidate(What::All);
        reference.forget(|_, _| true);
        for id in 1..4 {
            for page in (0..PAGES).step_by(50) {
                let got = t.translate(id as u16, page * PAGE, Access::Read).map(|(place, _)| place);
                prop_assert!(reference.allows(id, page * PAGE, false, got));
            }
        }
    }

    /// Tables of nothing but noise: a place in memory or a fault, and nothing else.
    #[test]
    fn noise_leads_nowhere_else(
        seed in any::<u64>(),
        mask in any::<u64>(),
        addresses in prop::collection::vec(0u64..1 << 50, 50),
    ) {
        let t = Tables::new();
        let mut word = seed | 1;
        for at in (0..64 * PAGE).step_by(8) {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            // Most must be near what is right, or all end in the first table.
            let entry = match word % 4 {
                0 => word,
                1 => word & mask,
                _ => (((word >> 8) % 64) << 12) | VALID | if word & 256 != 0 { LEAF_RW } else { 0 },
            };
            t.set(at, entry);
        }
        t.mmu.set_root(1, ((seed % 80) << 12) | VALID);
        for address in addresses {
            for _ in 0..2 {
                if let Ok((Place::Device(offset), left)) = t.read(address) {
                    prop_assert!(offset + left <= MEMORY);
                    prop_assert!((1..=LARGE).contains(&left));
                }
            }
        }
    }
}
