// SPDX-License-Identifier: GPL-2.0
//! Resets of all kinds, in every state.

use super::*;

/// A state: what it is, and how to bring a card there.
type State = (&'static str, fn(&Rig));

/// States that a card can be in when it is reset.
const STATES: [State; 12] = [
    ("idle", |_| {}),
    ("queues are set up", |rig| {
        rig.start(0, 16);
        rig.start_events(16);
        rig.set(SCRATCH, 5);
    }),
    ("a command takes long", |rig| {
        rig.start(0, 16);
        rig.ok("stall 60000");
        rig.submit(0, &[nop()]);
        rig.wait_begun();
    }),
    ("all engines hang", |rig| {
        for (queue, engine) in [(0, "compute"), (1, "compute"), (2, "copy")] {
            rig.start(queue, 16);
            rig.ok(&format!("hang {engine}"));
        }
        rig.submit(0, &[nop()]);
        rig.submit(1, &[nop()]);
        rig.submit(2, &[fill(0, 8, 1)]);
        rig.wait_begun();
        rig.set(queue_register(0, Q_CONTROL), 0);
        thread::sleep(Duration::from_millis(10));
        assert_eq!(rig.status(0) & STOPPING, STOPPING);
    }),
    ("queues work", |rig| {
        rig.address_space(1);
        let list = rig.list(&[nop(), fill(0, 64, 1), nop()]);
        for queue in 0..8 {
            rig.start(queue, 64);
            for _ in 0..60 {
                rig.enqueue(queue, 1, INTERRUPT, list, 3, 0);
            }
            rig.doorbell(queue);
        }
    }),
    ("a queue is halted", |rig| {
        rig.start(0, 16);
        rig.bus.put(rig.tail(0), &100u32.to_le_bytes());
        rig.doorbell(0);
        rig.wait_status(0, HALTED | (0x80 << 8));
        rig.bus.put(rig.tail(0), &[0; 4]);
    }),
    ("the card is halted", |rig| rig.ok("fatal engine")),
    ("the TLB is stuck", |rig| {
        rig.ok("tlb-stuck 1");
        rig.set(TLB_INVALIDATE, 1);
        thread::sleep(Duration::from_millis(5));
        assert_eq!(rig.get(TLB_INVALIDATE), 1);
    }),
    ("the scrubber is stuck", |rig| {
        rig.ok("scrub-stuck 1");
        rig.set64(0x88, 4096);
        rig.set(SCRUB_CONTROL, 1);
        thread::sleep(Duration::from_millis(5));
        assert_eq!(rig.get(SCRUB_CONTROL), 1);
    }),
    ("the scrubber works", |rig| {
        rig.set64(0x88, MEMORY_SIZE);
        rig.set(SCRUB_CONTROL, 1);
    }),
    ("events were lost", |rig| {
        rig.start_events(16);
        rig.ok("lie event 20");
        assert_eq!(rig.get(STATUS), 1 | (1 << 3));
    }),
    ("a reset is under way", |rig| rig.set(CONTROL, 1)),
];

#[track_caller]
fn is_as_new(rig: &Rig, state: &str) {
    rig.wait_ready();
    assert_eq!(rig.get(STATUS), 1, "{state}");
    for queue in 0..64 {
        assert_eq!(rig.status(queue), DISABLED, "{state}");
        assert_eq!(rig.get64(queue_register(queue, 0)), 0, "{state}");
    }
    assert_eq!(rig.get64(0x2_0008), 0, "{state}");
    for offset in [
        CONTROL,
        SCRATCH,
        EVENT_SIZE,
        EVENT_HEAD,
        SCRUB_CONTROL,
        TLB_INVALIDATE,
    ] {
        assert_eq!(rig.get(offset), 0, "{state} {offset:#x}");
    }
    rig.works();
}

#[test]
fn by_control_in_every_state() {
    for (state, bring) in STATES {
        let rig = Rig::new();
        rig.address_space(1);
        bring(&rig);
        rig.set(CONTROL, 1);
        let began = Instant::now();
        eventually("the reset", || rig.get(CONTROL) == 0);
        assert!(began.elapsed() < Duration::from_millis(500), "{state}");
        // What began before does not go on.
        rig.bus.did();
        thread::sleep(Duration::from_millis(3));
        let did = rig.bus.did();
        assert!(
            did.iter().all(|one| matches!(one, Did::Interrupt(_))),
            "{state}: {did:?}"
        );
        is_as_new(&rig, state);
    }
}

#[test]
fn by_the_function_and_by_power_in_every_state() {
    for how in [Reset::Function, Reset::PowerOn] {
        for (state, bring) in STATES {
            let rig = Rig::new();
            rig.address_space(1);
            bring(&rig);
            rig.npu.reset(how);
            assert_eq!(rig.get(CONTROL), 0);
            is_as_new(&rig, state);
        }
    }
}

#[test]
fn after_sleep_in_every_state() {
    for (state, bring) in STATES {
        let rig = Rig::new();
        rig.address_space(1);
        bring(&rig);
        rig.npu.sleep();
        thread::sleep(Duration::from_millis(3));
        assert_eq!(rig.get(STATUS), 0, "{state}");
        rig.npu.reset(Reset::Function);
        is_as_new(&rig, state);
    }
}

#[test]
fn memory_keeps_its_content_and_time_goes_on() {
    let rig = Rig::new();
    rig.address_space(1);
    rig.put(0x1000, &[0x5a; 4096]);
    rig.start(0, 4);
    rig.submit(0, &[nop(), fill(0, 8, 1)]);
    rig.wait_head(0, 1);
    rig.ok("ecc 3 64");
    let (time, misses) = (rig.get64(0x20), rig.get64(0x128));
    rig.set(CONTROL, 1);
    assert_eq!(rig.get(CONTROL), 1);
    assert_eq!(rig.get(STATUS), 0);
    // Nothing but ID, REVISION and STATUS means anything.
    assert_eq!((rig.get(0), rig.get64(0x10)), (0x4e50_5531, 0));
    rig.set(SCRATCH, 1);
    rig.wait_ready();
    assert_eq!(rig.get(SCRATCH), 0);
    assert_eq!(rig.bytes(0x1000, 4096), [0x5a; 4096]);
    assert!(rig.get64(0x20) > time);
    assert!(misses > 0 && rig.get64(0x128) == misses);
    assert_eq!(rig.get(0x220), 3);
    rig.npu.reset(Reset::PowerOn);
    rig.wait_ready();
    assert_eq!((rig.get(0x220), rig.get64(0x128)), (0, 0));
    assert!(rig.get64(0x20) < 10_000_000_000);
}

#[test]
fn a_worker_that_does_not_come_back_is_replaced() {
    let rig = Rig::new();
    // As if an engine executed something for ever: nobody takes this turn back.
    rig.npu.0.state.lock().take_for_test(0);
    let began = Instant::now();
    rig.set(CONTROL, 1);
    eventually("the reset", || rig.get(CONTROL) == 0);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(25) && took < Duration::from_millis(500));
    rig.works();
}

#[test]
fn a_stuck_reset_is_ended_by_another() {
    let rig = Rig::new();
    rig.ok("reset-stuck 2");
    for _ in 0..2 {
        rig.set(CONTROL, 1);
        thread::sleep(Duration::from_millis(50));
        assert_eq!((rig.get(CONTROL), rig.get(STATUS)), (1, 0));
    }
    rig.set(CONTROL, 1);
    eventually("the reset", || rig.get(CONTROL) == 0);
    rig.ok("reset-stuck 1");
    rig.set(CONTROL, 1);
    rig.npu.reset(Reset::Function);
    is_as_new(&rig, "after FLR");
}

#[test]
fn the_tlb_is_empty_after_a_reset() {
    let rig = Rig::new();
    let pages = rig.address_space(1);
    rig.start(0, 4);
    rig.bus.put(HOST_DATA, &[1; 8]);
    rig.bus.put(HOST_DATA + 0x1000, &[2; 8]);
    rig.submit(0, &[copy(0, HOST_PAGE, 8)]);
    rig.wait_head(0, 1);
    let root = rig.get64(0x2_0008);
    rig.put(pages, &((HOST_DATA + 0x1000) | 0x1f).to_le_bytes());
    rig.set(CONTROL, 1);
    rig.wait_ready();
    rig.set64(0x2_0008, root);
    rig.start(0, 4);
    rig.bus.put(rig.tail(0), &[0; 4]);
    rig.submit(0, &[copy(8, HOST_PAGE, 8)]);
    rig.wait_head(0, 1);
    assert_eq!((rig.bytes(0, 8), rig.bytes(8, 8)), (vec![1; 8], vec![2; 8]));
}

/// Brings an access to host memory to where the bus does not answer.
fn in_flight(rig: &Rig) -> parking_lot::MutexGuard<'_, Vec<u8>> {
    rig.address_space(1);
    rig.start(0, 4);
    rig.submit(0, &[nop()]);
    rig.wait_head(0, 1);
    rig.bus.did();
    // The command waits until the bus is frozen.
    rig.ok("stall 20");
    rig.submit(0, &[fill(HOST_PAGE, 64, 9)]);
    rig.wait_begun();
    let frozen = rig.bus.freeze();
    let write = Did::Write {
        address: HOST_DATA,
        size: 64,
    };
    eventually("the access", || rig.bus.did().contains(&write));
    frozen
}

#[test]
fn nothing_completes_before_what_is_in_flight() {
    let rig = Rig::new();
    let frozen = in_flight(&rig);
    rig.set(TLB_INVALIDATE, 1);
    thread::sleep(Duration::from_millis(10));
    assert_eq!(rig.get(TLB_INVALIDATE), 1);
    // It does not nest, and the registers answer.
    rig.set(TLB_INVALIDATE, 77);
    assert_eq!(rig.get(TLB_INVALIDATE), 1);
    drop(frozen);
    eventually("the invalidation", || rig.get(TLB_INVALIDATE) == 0);
    rig.wait_head(0, 2);

    let rig = Rig::new();
    let frozen = in_flight(&rig);
    rig.set(queue_register(0, Q_CONTROL), 0);
    thread::sleep(Duration::from_millis(10));
    assert_eq!(rig.status(0) & STOPPING, STOPPING);
    drop(frozen);
    rig.wait_status(0, DISABLED);

    let rig = Rig::new();
    let frozen = in_flight(&rig);
    rig.set(CONTROL, 1);
    thread::sleep(Duration::from_millis(60));
    assert_eq!((rig.get(CONTROL), rig.get(STATUS)), (1, 0));
    drop(frozen);
    rig.wait_ready();
    rig.works();
}
