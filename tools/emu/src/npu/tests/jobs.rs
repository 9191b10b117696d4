// SPDX-License-Identifier: GPL-2.0
//! Queues and jobs: order, wrapping, errors, faults, stopping.

use super::*;

#[test]
fn a_job_is_executed_and_told_in_order() {
    let rig = Rig::new();
    rig.address_space(1);
    rig.start(3, 16);
    rig.put(0x2000, &[0x77; 300]);
    rig.bus.did();
    rig.submit(3, &[copy(HOST_PAGE + 100, 0x2000, 300)]);
    assert!(rig.bus.wait_interrupts(4, 1));
    // Registers, memory and the interrupt agree.
    assert_eq!(rig.head(3), 1);
    rig.wait_status(3, IDLE);
    assert_eq!(rig.completed(3, 0).phase, 1);
    assert_eq!(rig.bus.bytes(HOST_DATA + 100), [0x77; 300]);
    let did = rig.bus.did();
    let at = BASE + 0x6_0000 + 0x8000;
    let end = [
        Did::Write {
            address: at,
            size: 28,
        },
        Did::Store { address: at + 28 },
        Did::Interrupt(4),
    ];
    let (data, told) = did.split_at(did.len() - 3);
    assert_eq!(told, end);
    assert!(!data.is_empty());
    for one in data {
        assert!(
            matches!(one, Did::Write { address, .. } if (HOST_DATA..HOST_DATA + 4096).contains(address))
        );
    }
    assert!(rig.stat("host_written") >= 332);
    assert_eq!((rig.stat("jobs"), rig.stat("commands")), (1, 1));

    // Without the flag nothing is raised; the doorbell is what starts it.
    let list = rig.list(&[nop()]);
    rig.enqueue(3, 1, 0, list, 1, 0x1234);
    thread::sleep(Duration::from_millis(20));
    assert_eq!(rig.head(3), 1);
    rig.doorbell(3);
    rig.wait_head(3, 2);
    assert_eq!(rig.completed(3, 1).cookie, 0x1234);
    assert_eq!(rig.bus.interrupts(4), 1);
    rig.doorbell(3);
    rig.wait_status(3, IDLE);
    assert_eq!(rig.head(3), 2);
}

#[test]
fn rings_of_every_size_wrap_at_every_place() {
    let rig = Rig::new();
    rig.address_space(1);
    let list = rig.list(&[nop()]);
    for log in 2..=10 {
        let size = 1u32 << log;
        rig.start(0, size);
        // As if 2^32 - 2 size jobs had gone before.
        let begin = 0u32.wrapping_sub(2 * size);
        {
            let mut state = rig.npu.0.state.lock();
            (state.queues[0].head, state.queues[0].tail) = (begin, begin);
        }
        rig.bus.put(rig.tail(0), &begin.to_le_bytes());
        let mut number = begin;
        while number != 2 * size {
            // Full, and all but full.
            let batch = size - number % 3 % 2;
            let batch = batch.min((2 * size).wrapping_sub(number));
            for job in 0..batch {
                rig.enqueue(0, 1, 0, list, 1, u64::from(number.wrapping_add(job)));
            }
            rig.doorbell(0);
            rig.wait_head(0, number.wrapping_add(batch));
            for job in 0..batch {
                let job = number.wrapping_add(job);
                let done = rig.completed(0, u64::from(job % size));
                assert_eq!(done.cookie, u64::from(job), "{size}");
                assert_eq!(done.phase, 1 - job / size % 2, "{size}");
            }
            number = number.wrapping_add(batch);
        }
        rig.stop(0);
    }
}

#[test]
fn a_tail_too_far_ahead_is_a_ring_error() {
    let rig = Rig::new();
    rig.address_space(1);
    rig.start_events(16);
    for (number, tail) in [5u32, 100, u32::MAX, 1 << 31].into_iter().enumerate() {
        let queue = 60 + number as u64;
        rig.start(queue, 4);
        rig.bus.put(rig.tail(queue), &tail.to_le_bytes());
        rig.doorbell(queue);
        rig.wait_status(queue, HALTED | (0x80 << 8));
        assert!(rig.bus.wait_interrupts(0, number as u32 + 1));
        let event = rig.event(number as u64);
        assert_eq!(event, (1, queue as u32, 0x80, 1, 1));
        // It stays so, until it is started again.
        rig.doorbell(queue);
        assert_eq!(rig.status(queue), HALTED | (0x80 << 8));
        rig.stop(queue);
        rig.start(queue, 4);
        rig.bus.put(rig.tail(queue), &[0; 4]);
        rig.submit(queue, &[nop()]);
        rig.wait_head(queue, 1);
    }
}

#[test]
fn wrong_jobs_end_alone() {
    let rig = Rig::new();
    rig.address_space(1);
    rig.start(0, 16);
    let mut unknown = nop();
    unknown[0] = 0xee;
    let mut wrong = nop();
    wrong[4] = 1;
    let list = rig.list(&[fill(0, 8, 1), unknown, fill(0, 8, 2)]);
    rig.enqueue(0, 1, 0, list, 3, 10);
    rig.enqueue(0, 1, 0, list + 32, 3, 11);
    rig.enqueue(0, 0, 0, list, 3, 12);
    let second = rig.list(&[wrong]);
    rig.enqueue(0, 1, 0, second, 1, 13);
    rig.enqueue(0, 1, 0, list, 1, 14);
    rig.put(0, &[0; 8]);
    rig.doorbell(0);
    rig.wait_head(0, 5);
    rig.wait_status(0, IDLE);
    let all: Vec<_> = (0..5)
        .map(|index| {
            let done = rig.completed(0, index);
            (done.cookie, done.commands, done.status)
        })
        .collect();
    assert_eq!(
        all,
        [(10, 1, 2), (11, 0, 1), (12, 0, 1), (13, 0, 2), (14, 1, 0)]
    );
    // All but the last raised it, without having asked.
    assert_eq!(rig.bus.interrupts(1), 4);
    assert_eq!(rig.bytes(0, 8), [1; 8]);
}

#[test]
fn a_fault_halts_its_queue_and_no_other() {
    let rig = Rig::new();
    rig.address_space(1);
    let pages = rig.address_space(5);
    rig.start(0, 16);
    rig.start(1, 16);
    let list = rig.list(&[fill(0, 8, 3), fill(0x7000_0000, 8, 4), fill(0, 8, 5)]);
    rig.put(0, &[0; 8]);
    rig.enqueue(0, 5, 0, list, 3, 70);
    rig.enqueue(0, 5, 0, list, 1, 71);
    rig.doorbell(0);
    rig.wait_status(0, HALTED | (6 << 8));
    let done = rig.completed(0, 0);
    let expected = Completed {
        cookie: 70,
        address: 0x7000_0000,
        commands: 1,
        status: 6,
        access: 2,
        kind: 1,
        phase: 1,
    };
    assert_eq!(done, expected);
    assert_eq!(rig.head(0), 1);
    assert_eq!(rig.get64(queue_register(0, Q_FAULT_ADDRESS)), 0x7000_0000);
    assert_eq!(
        rig.get(queue_register(0, Q_FAULT)),
        (5 << 16) | (1 << 8) | 0x82
    );
    assert!(rig.bus.wait_interrupts(1, 1));
    assert_eq!(rig.bytes(0, 8), [3; 8]);
    rig.submit(1, &[nop()]);
    rig.wait_head(1, 1);
    assert_eq!(rig.completed(0, 1).phase, 0);

    // The fault is kept by a stop, and gone after a start.
    rig.stop(0);
    assert_ne!(rig.get(queue_register(0, Q_FAULT)), 0);
    rig.start(0, 16);
    assert_eq!(rig.get(queue_register(0, Q_FAULT)), 0);

    // Reading where only writing is allowed; the list itself; an id without a root.
    rig.put(pages, &(HOST_DATA | 0x1d).to_le_bytes());
    rig.set(TLB_INVALIDATE, 1);
    for (round, (id, list, address, access, kind)) in [
        (5, rig.list(&[copy(0, HOST_PAGE, 8)]), HOST_PAGE, 1, 2),
        (5, 0x5000_0000, 0x5000_0000, 1, 1),
        (5, 1 << 48, 1 << 48, 1, 4),
        (9, list, list, 1, 5),
    ]
    .into_iter()
    .enumerate()
    {
        rig.bus.put(rig.tail(0), &[0; 4]);
        rig.enqueue(0, id, 0, list, 1, 1);
        rig.doorbell(0);
        rig.wait_status(0, HALTED | (6 << 8));
        let done = rig.completed(0, 0);
        let got = (done.address, done.access, done.kind, done.commands);
        assert_eq!(got, (address, access, kind, 0), "{round}");
        let fault = rig.get(queue_register(0, Q_FAULT));
        let expected = (u32::from(id) << 16) | (u32::from(kind) << 8) | 0x80 | u32::from(access);
        assert_eq!(fault, expected, "{round}");
        rig.stop(0);
        rig.start(0, 16);
    }
}

#[test]
fn host_memory_that_does_not_answer() {
    let rig = Rig::new();
    let pages = rig.address_space(1);
    rig.start_events(16);
    let nowhere = 0x7777_0000_0000u64;
    rig.put(pages, &(nowhere | 0x1f).to_le_bytes());

    // What a command accesses.
    rig.start(0, 16);
    rig.submit(0, &[nop(), copy(HOST_PAGE + 8, 0, 8)]);
    rig.wait_status(0, HALTED | (7 << 8));
    let done = rig.completed(0, 0);
    assert_eq!((done.address, done.access), (nowhere + 8, 2));
    assert_eq!((done.commands, done.kind, done.status), (1, 0, 7));
    assert_eq!(rig.get64(queue_register(0, Q_FAULT_ADDRESS)), nowhere + 8);

    // Tail, ring and completions: there is no completion, so it is an event.
    for (number, (register, access)) in [(0x10, 1), (0x00, 1), (0x08, 2)].into_iter().enumerate() {
        let queue = 1 + number as u64;
        rig.start(queue, 16);
        rig.stop(queue);
        rig.set64(queue_register(queue, register), nowhere);
        rig.set(queue_register(queue, Q_CONTROL), 1);
        rig.submit(queue, &[nop()]);
        rig.wait_status(queue, HALTED | (7 << 8));
        assert!(rig.bus.wait_interrupts(0, number as u32 + 1));
        assert_eq!(rig.event(number as u64), (1, queue as u32, 7, 1, 1));
        let fault = queue_register(queue, Q_FAULT_ADDRESS);
        assert_eq!(rig.get64(fault), nowhere);
        assert_eq!(rig.get(queue_register(queue, Q_FAULT)), 0x80 | access);
        assert_eq!(rig.head(queue), 0);
    }
    rig.works();
}

#[test]
fn stopping_gives_the_command_up() {
    let rig = Rig::new();
    rig.address_space(1);
    rig.start(0, 16);
    rig.ok("stall 60000");
    rig.submit(0, &[nop(), nop()]);
    rig.submit(0, &[nop()]);
    rig.wait_begun();
    let began = Instant::now();
    rig.stop(0);
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(rig.completed(0, 0).phase, 0);
    assert_eq!((rig.head(0), rig.bus.interrupts(1)), (0, 0));
    rig.doorbell(0);
    thread::sleep(Duration::from_millis(5));
    assert_eq!((rig.head(0), rig.status(0)), (0, DISABLED));
    rig.works();
}

#[test]
fn stopping_gives_the_largest_command_up() {
    let rig = Rig::new();
    rig.address_space(1);
    // MATMUL of F32 that adds: 2^26 products of one by one, all at one place.
    let mut product = nop();
    (product[0], product[2]) = (0x10, 1);
    for operand in 0..3 {
        let at = 64 + 48 * operand;
        product[at + 8] = 5;
        for (dim, value) in [1 << 26, 1, 1, 1u32].into_iter().enumerate() {
            product[at + 16 + 4 * dim..][..4].copy_from_slice(&value.to_le_bytes());
        }
    }
    let list = rig.list(&[product; 100]);
    // The machine may be busy, but not always.
    let best = (0..4).map(|_| {
        rig.bus.put(rig.tail(0), &[0; 4]);
        rig.start(0, 4);
        rig.enqueue(0, 1, INTERRUPT, list, 100, 0);
        rig.doorbell(0);
        // It has gathered operands by then.
        thread::sleep(Duration::from_millis(700));
        let began = Instant::now();
        rig.stop(0);
        began.elapsed()
    });
    let best = best.min().expect("there are rounds");
    assert!(best < Duration::from_millis(50), "{best:?}");
    assert_eq!((rig.head(0), rig.completed(0, 0).phase), (0, 0));
    rig.works();
}

#[test]
fn stopping_needs_no_engine() {
    let rig = Rig::new();
    rig.address_space(1);
    rig.start(0, 4);
    let list = rig.list(&[nop()]);
    rig.enqueue(0, 1, 0, list, 1, 0);
    // As if an engine had begun and then not been given a processor.
    let mut state = rig.npu.0.state.lock();
    state.ring(0);
    let mut turn = state.pick(0).expect("there is work");
    drop(state);
    rig.stop(0);

    // What it does later changes nothing, neither of the stopped queue nor of the next start.
    for again in [false, true] {
        if again {
            rig.bus.put(rig.tail(0), &[0; 4]);
            rig.start(0, 4);
            rig.ok("stall 100");
            rig.submit(0, &[nop()]);
            rig.wait_begun();
        }
        let status = rig.status(0);
        rig.bus.did();
        rig.npu.0.step(command::Engine::Compute, &mut turn);
        assert_eq!((rig.status(0), rig.head(0)), (status, 0));
        assert_eq!(rig.bus.did(), []);
    }
    // It had seen that there is no more.
    turn.rung = false;
    rig.npu.0.state.lock().settle(0, turn, scheduler::End::Over);
    assert_ne!(rig.status(0), IDLE);
    rig.wait_head(0, 1);
    rig.wait_status(0, IDLE);
    rig.works();
}

#[test]
fn stopping_at_any_moment() {
    let rig = Rig::new();
    rig.address_space(1);
    let list = rig.list(&[fill(0, 64, 1), nop(), copy(HOST_PAGE, 0, 64)]);
    for round in 0..300u64 {
        rig.bus.put(rig.tail(0), &[0; 4]);
        rig.start(0, 64);
        for job in 0..50 {
            rig.enqueue(0, 1, 0, list, 3, job);
        }
        rig.doorbell(0);
        let mut spin = round * 37 % 5000;
        while spin > 0 {
            spin -= 1;
            std::hint::black_box(spin);
        }
        rig.set(queue_register(0, Q_CONTROL), 0);
        rig.wait_status(0, DISABLED);
        // Nothing comes any more, and head and completions agree.
        let head = rig.head(0);
        rig.bus.did();
        for index in 0..50 {
            let expected = u32::from(index < head);
            assert_eq!(rig.completed(0, u64::from(index)).phase, expected);
        }
        assert_eq!(rig.head(0), head);
        assert_eq!(rig.bus.did(), []);
    }
}

#[test]
fn queues_take_turns_by_command() {
    let rig = Rig::new();
    rig.address_space(1);
    rig.start(0, 4);
    rig.start(1, 4);
    // One copy engine, so one line.
    rig.ok("stall 3 1000");
    rig.submit(0, &[fill(0, 8, 1); 60]);
    eventually("it runs", || rig.stat("commands") > 2);
    rig.submit(1, &[fill(8, 8, 1); 2]);
    rig.wait_head(1, 1);
    assert_eq!(rig.head(0), 0);
    rig.stop(0);
}

#[test]
fn all_queues_at_once() {
    let rig = Rig::new();
    rig.address_space(1);
    let list = rig.list(&[nop(), fill(0x100, 32, 7), nop()]);
    for queue in 0..64 {
        rig.start(queue, 8);
    }
    for round in 0..20u32 {
        for queue in 0..64 {
            for _ in 0..8 {
                rig.enqueue(queue, 1, 0, list, 3, queue);
            }
            rig.doorbell(queue);
        }
        for queue in 0..64 {
            rig.wait_head(queue, 8 * (round + 1));
        }
    }
    assert_eq!(rig.stat("jobs"), 20 * 64 * 8);
    assert_eq!(rig.stat("commands"), 3 * 20 * 64 * 8);
    for queue in 0..64 {
        rig.wait_status(queue, IDLE);
    }
}
