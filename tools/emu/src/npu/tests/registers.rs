// SPDX-License-Identifier: GPL-2.0
//! Registers one by one, and all of them at random.

use proptest::prelude::*;

use super::*;

#[test]
fn a_card_boots_and_tells_what_it_is() {
    let rig = Rig::cold();
    assert_eq!(rig.get(0), 0x4e50_5531);
    assert_eq!(rig.get(4), 0x1_0000);
    rig.wait_ready();
    assert_eq!(rig.get(STATUS), 1);
    assert_eq!(rig.get(8), 0x1208_0a40);
    assert_eq!(rig.get(0xc), 128);
    assert_eq!(rig.get64(0x10), MEMORY_SIZE);
    assert_eq!((rig.get(0x10), rig.get(0x14)), (MEMORY_SIZE as u32, 0));
    assert_eq!(rig.get64(0x28), 0x1122_3344_5566_7788);
    assert_eq!((rig.get(0x28), rig.get(0x2c)), (0x5566_7788, 0x1122_3344));
    let time = rig.get64(0x20);
    thread::sleep(Duration::from_millis(2));
    assert!(rig.get64(0x20) - time >= 2_000_000);
    rig.set(SCRATCH, 0xdead_beef);
    assert_eq!(rig.get(SCRATCH), 0xdead_beef);
    for offset in [0, 4, 8, 0xc, 0x10, 0x18, 0x28, 0x3c, 0x204, 0x1_0024] {
        let before = rig.get(offset);
        rig.set(offset, !before);
        assert_eq!(rig.get(offset), before, "{offset:#x}");
    }
    rig.works();
}

#[test]
fn wide_registers_in_halves() {
    let rig = Rig::new();
    let wide = 0x0123_4567_89ab_cdefu64;
    for (offset, bits) in [
        (0x40, !63),
        (0x80, u64::MAX),
        (0x88, u64::MAX),
        (0x100, u64::MAX),
        (0x108, u64::MAX),
        (0x1_0000, !0xfff),
        (0x1_3f08, !0xfff),
        (0x1_0510, !63),
        (0x2_0008, 0x000f_ffff_ffff_f001),
        (0x2_03f8, 0x000f_ffff_ffff_f001),
    ] {
        rig.set64(offset, wide);
        assert_eq!(rig.get64(offset), wide & bits, "{offset:#x}");
        assert_eq!(rig.get(offset), (wide & bits) as u32);
        assert_eq!(rig.get(offset + 4), ((wide & bits) >> 32) as u32);
        rig.set(offset + 4, 0x5555_5555);
        assert_eq!(
            rig.get64(offset),
            ((wide & 0xffff_ffff) | (0x5555_5555 << 32)) & bits
        );
        rig.set(offset, 0x3333_3333);
        assert_eq!(rig.get64(offset), 0x5555_5555_3333_3333 & bits);
    }
}

#[test]
fn other_accesses_read_ones_and_write_nothing() {
    let rig = Rig::new();
    rig.set(SCRATCH, 0x1111_1111);
    for (offset, size) in [(SCRATCH, 1), (SCRATCH, 2), (SCRATCH, 8), (SCRATCH + 2, 4)] {
        let mut bytes = [0; 8];
        rig.npu.read(REGISTERS, offset, &mut bytes[..size]);
        assert!(bytes[..size].iter().all(|&byte| byte == 0xff));
        rig.npu.write(REGISTERS, offset, &[0; 8][..size]);
        assert_eq!(rig.get(SCRATCH), 0x1111_1111);
    }
    for offset in [0x34, 0x1000, 0x8_0000, 0xf_fffc, 0x10_0000, !3] {
        assert_eq!(rig.get(offset), 0, "{offset:#x}");
    }
    let mut bytes = [0; 4];
    rig.npu.read(MEMORY, MEMORY_SIZE - 2, &mut bytes);
    assert_eq!(bytes, [0xff; 4]);
    rig.npu.write(MEMORY, u64::MAX - 1, &bytes);
    rig.npu.read(5, 0, &mut bytes);
    assert_eq!(bytes, [0xff; 4]);
    rig.npu.write(5, 0, &bytes);
}

#[test]
fn the_scrubber_zeroes_its_range() {
    let rig = Rig::new();
    let scrub = |offset: u64, size: u64| {
        rig.set64(0x80, offset);
        rig.set64(0x88, size);
        rig.set(SCRUB_CONTROL, 1);
    };
    rig.put(0x1000, &[1; 0x3000]);
    scrub(0x2000, 0x1000);
    assert_eq!(rig.get(SCRUB_CONTROL), 0, "at once");
    assert_eq!(rig.bytes(0x1000, 0x1000), [1; 0x1000]);
    assert_eq!(rig.bytes(0x2000, 0x1000), [0; 0x1000]);
    assert_eq!(rig.bytes(0x3000, 0x1000), [1; 0x1000]);

    for (offset, size) in [
        (0x1001, 0x1000),
        (0x1000, 0x800),
        (MEMORY_SIZE, 0x1000),
        (0x1000, MEMORY_SIZE),
        (!0xfff, 0x1000),
        (0x1000, !0xfff),
    ] {
        scrub(offset, size);
        assert_eq!(rig.get(SCRUB_CONTROL), 2, "{offset:#x} {size:#x}");
    }
    assert_eq!(rig.bytes(0x1000, 0x1000), [1; 0x1000]);
    scrub(0, MEMORY_SIZE);
    eventually("the scrub", || rig.get(SCRUB_CONTROL) == 0);
    let all = rig.bytes(0, MEMORY_SIZE as usize);
    assert!(all.iter().all(|&byte| byte == 0));
    // Other values start nothing.
    rig.put(0, &[1; 8]);
    rig.set(SCRUB_CONTROL, 2);
    assert_eq!((rig.get(SCRUB_CONTROL), rig.bytes(0, 8)), (0, vec![1; 8]));
}

#[test]
fn the_tlb_is_invalidated_by_registers() {
    let rig = Rig::new();
    let pages = rig.address_space(1);
    rig.start(0, 64);
    // The host page by what it reads.
    let other = HOST_DATA + 0x1000;
    let runs = |expected: u8| {
        rig.submit(0, &[copy(0x100, HOST_PAGE, 8)]);
        rig.wait_head(0, rig.bus.u32(rig.tail(0)));
        assert_eq!(rig.bytes(0x100, 8), [expected; 8]);
    };
    rig.bus.put(HOST_DATA, &[1; 8]);
    rig.bus.put(other, &[2; 8]);
    runs(1);
    rig.put(pages, &(other | 0x1f).to_le_bytes());
    runs(1);
    let range = |id: u32, start: u64, end: u64| {
        rig.set(0x110, id);
        rig.set64(0x100, start);
        rig.set64(0x108, end);
        rig.set(TLB_INVALIDATE, 3);
        assert_eq!(rig.get(TLB_INVALIDATE), 0, "at once");
    };
    range(1, 0, HOST_PAGE);
    range(2, 0, u64::MAX);
    rig.set(0x110, 2);
    rig.set(TLB_INVALIDATE, 2);
    runs(1);
    for wrong in [0, 4, u32::MAX] {
        rig.set(TLB_INVALIDATE, wrong);
        assert_eq!(rig.get(TLB_INVALIDATE), 2);
    }
    runs(1);
    range(1, HOST_PAGE, HOST_PAGE + 1);
    runs(2);
    rig.put(pages, &(HOST_DATA | 0x1f).to_le_bytes());
    rig.set(0x110, 1);
    rig.set(TLB_INVALIDATE, 2);
    runs(1);
    rig.put(pages, &(other | 0x1f).to_le_bytes());
    rig.set(TLB_INVALIDATE, 1);
    runs(2);
    assert_eq!(rig.stat("invalidations"), 6);
    assert_eq!(rig.get64(0x120), rig.stat("tlb_hits"));
    assert_eq!(rig.get64(0x128), rig.stat("tlb_misses"));
    assert!(rig.get64(0x120) > 10 && rig.get64(0x128) >= 8);
}

#[test]
fn sensors_tell_of_work() {
    let rig = Rig::new();
    rig.address_space(1);
    rig.start(0, 4);
    assert_eq!(rig.get(0x204), 95_000);
    let (idle_power, busy) = (rig.get(0x208), rig.get64(0x230));
    rig.ok("stall 60000 3");
    rig.submit(0, &[nop()]);
    eventually("power rises", || rig.get(0x208) > idle_power + 5_000);
    assert!(rig.get64(0x230) > busy);
    assert!(rig.get(0x208) <= rig.get(0x20c));
    rig.stop(0);
    eventually("energy was used", || rig.get64(0x228) > 0);
    for offset in [0x200, 0x210, 0x214, 0x218] {
        assert!(rig.get(offset) > 0, "{offset:#x}");
    }
}

/// An access to BAR0: where, how many bytes, what is written if it is a write.
fn access() -> impl Strategy<Value = (u64, usize, Option<u64>)> {
    let offset = prop_oneof![
        4 => (0u64..0xa0).prop_map(|word| 4 * word),
        4 => (0u64..8, 0u64..16).prop_map(|(queue, word)| queue_register(queue, 4 * word)),
        1 => (0u64..130).prop_map(|id| 0x2_0000 + 8 * id),
        2 => (0u64..66).prop_map(|queue| 0x8_0000 + 0x1000 * queue),
        1 => 0u64..0x10_0010,
        1 => any::<u64>(),
    ];
    let size = prop_oneof![6 => Just(4usize), 3 => Just(8), 1 => 1usize..=8];
    let value = prop_oneof![
        any::<u64>(),
        0u64..16,
        (0u32..64).prop_map(|bit| 1 << bit),
        Just(BASE),
        Just(BASE + 0x8000),
        Just(TABLES | 1),
    ];
    (offset, size, prop::option::weighted(0.7, value))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_accesses_leave_a_card_that_works(
        accesses in prop::collection::vec(access(), 1..400),
        host in prop::collection::vec(any::<u8>(), 4096),
    ) {
        let rig = Rig::new();
        rig.bus.put(BASE, &host);
        rig.put(TABLES, &host);
        for (offset, size, value) in accesses {
            match value {
                Some(value) => rig.npu.write(REGISTERS, offset, &value.to_le_bytes()[..size]),
                None => rig.npu.read(REGISTERS, offset, &mut [0; 8][..size]),
            }
        }
        rig.set(CONTROL, 1);
        eventually("the reset", || rig.get(CONTROL) == 0);
        rig.wait_ready();
        rig.works();
    }
}
