// SPDX-License-Identifier: GPL-2.0
//! What is injected through the console happens, as often as told, and is over then.

use proptest::prelude::*;

use super::*;

#[test]
fn fatal_errors_stop_everything() {
    for (word, why, kind) in [("ecc", 1, 3), ("engine", 2, 4), ("thermal", 3, 5)] {
        let rig = Rig::new();
        rig.address_space(1);
        rig.start_events(16);
        rig.start(0, 16);
        rig.ok("stall 60000 1");
        rig.submit(0, &[nop()]);
        rig.wait_begun();
        rig.ok(&format!("fatal {word}"));
        assert_eq!(rig.get(STATUS), 3 | (why << 8));
        assert!(rig.bus.wait_interrupts(0, 1));
        let event = rig.event(0);
        assert_eq!((event.0, event.1, event.3), (kind, u32::MAX, 1));
        assert_eq!(rig.get(0x224), u32::from(word == "ecc"));
        assert!(rig.say(&format!("fatal {word}")).starts_with("error"));
        // Nothing is executed, and queues can be stopped.
        rig.start(1, 16);
        rig.submit(1, &[nop()]);
        thread::sleep(Duration::from_millis(10));
        assert_eq!((rig.head(0), rig.head(1)), (0, 0));
        rig.stop(0);
        rig.stop(1);
        rig.set(CONTROL, 1);
        rig.wait_ready();
        rig.works();
    }
}

#[test]
fn a_card_that_is_too_hot_halts() {
    let rig = Rig::new();
    rig.start_events(16);
    rig.ok("sensor temperature 95000");
    assert_eq!((rig.get(0x200), rig.get(STATUS)), (95_000, 1));
    rig.ok("sensor temperature 95001");
    assert_eq!(rig.get(STATUS), 0x303);
    assert_eq!(rig.event(0), (5, u32::MAX, 95_001, 1, 1));
    rig.set(CONTROL, 1);
    eventually("it is still too hot", || rig.get(STATUS) == 0x303);
    rig.ok("clear");
    rig.set(CONTROL, 1);
    rig.wait_ready();
    assert_eq!(rig.get(STATUS), 1);
    rig.ok("sensor temperature -5000");
    assert_eq!(rig.get(0x200), 0u32.wrapping_sub(5000));
    for (word, offset) in [
        ("power", 0x208),
        ("voltage", 0x210),
        ("core_clock", 0x214),
        ("memory_clock", 0x218),
    ] {
        rig.ok(&format!("sensor {word} 123456"));
        assert_eq!(rig.get(offset), 123_456);
    }
    rig.ok("clear");
    assert_ne!(rig.get(0x218), 123_456);
    rig.works();
}

#[test]
fn corrected_errors_are_told() {
    let rig = Rig::new();
    rig.start_events(16);
    rig.ok("ecc 3 0x1000");
    assert_eq!(rig.event(0), (2, u32::MAX, 0, 3, 1));
    assert_eq!(rig.bus.u64(EVENTS + 8), 0x1000);
    rig.ok("ecc 2");
    assert_eq!(rig.get(0x220), 5);
    assert_eq!(rig.bus.interrupts(0), 2);
    for line in ["ecc 0", "ecc 1 0x1000000", "ecc", "ecc 1 2 3", "ecc -1"] {
        assert!(rig.say(line).starts_with("error"), "{line}");
    }
    rig.ok("lie event 15");
    assert_eq!(rig.event(2).0, 0x7777_7777);
    assert_eq!(rig.get(STATUS), 1 | (1 << 3));
    rig.set(EVENT_HEAD, 16);
    assert_eq!(rig.get(STATUS), 1);
}

#[test]
fn one_engine_hangs_and_the_others_work() {
    let rig = Rig::new();
    rig.address_space(1);
    for queue in 0..3 {
        rig.start(queue, 16);
    }
    rig.ok("hang compute");
    rig.submit(0, &[nop()]);
    rig.wait_begun();
    rig.submit(1, &[nop()]);
    rig.submit(2, &[fill(0, 8, 1), nop()]);
    rig.wait_head(1, 1);
    rig.wait_head(2, 1);
    // It does not let go.
    rig.set(queue_register(0, Q_CONTROL), 0);
    thread::sleep(Duration::from_millis(30));
    assert_eq!(rig.status(0) & STOPPING, STOPPING);
    rig.set(queue_register(0, Q_CONTROL), 1);
    assert_eq!(rig.status(0) & STOPPING, STOPPING);
    rig.submit(1, &[nop()]);
    rig.wait_head(1, 2);
    rig.set(CONTROL, 1);
    rig.wait_ready();
    rig.works();
}

#[test]
fn interrupts_are_lost_and_repeated_and_made_up() {
    let rig = Rig::new();
    rig.address_space(1);
    rig.start(0, 16);
    rig.ok("interrupts drop 2");
    for job in 1..=3 {
        rig.submit(0, &[nop()]);
        rig.wait_head(0, job);
        rig.wait_status(0, IDLE);
    }
    assert_eq!(rig.bus.interrupts(1), 1);
    rig.ok("interrupts repeat 1");
    rig.submit(0, &[nop()]);
    assert!(rig.bus.wait_interrupts(1, 4));
    rig.submit(0, &[nop()]);
    rig.wait_head(0, 5);
    rig.wait_status(0, IDLE);
    assert_eq!(rig.bus.interrupts(1), 5);
    rig.ok("interrupts spurious 7");
    assert_eq!(rig.bus.interrupts(7), 1);
    assert!(rig.say("interrupts spurious 8").starts_with("error"));
    rig.ok("interrupts drop 100");
    rig.ok("clear");
    rig.works();
}

#[test]
fn completions_lie() {
    let rig = Rig::new();
    rig.address_space(1);
    rig.start(0, 16);
    let run = |number: u32| {
        rig.submit(0, &[nop()]);
        rig.wait_head(0, number + 1);
        rig.completed(0, u64::from(number))
    };
    let good = |number: u32| Completed {
        cookie: u64::from(number),
        address: 0,
        commands: 1,
        status: 0,
        access: 0,
        kind: 0,
        phase: 1,
    };
    assert_eq!(run(0), good(0));
    rig.ok("lie completion cookie 1");
    assert_ne!(run(1).cookie, 1);
    rig.ok("lie completion status 1");
    assert!(run(2).status > 7);
    rig.ok("lie completion phase 1");
    assert!(run(3).phase > 1);
    rig.ok("lie completion command 1");
    assert_eq!(run(4).commands, u32::MAX);
    assert_eq!(run(5), good(5));
}

#[test]
fn registers_lie_and_take_their_time() {
    let rig = Rig::new();
    rig.ok("lie register 0x18 0xffffffff 2");
    assert_eq!([(); 3].map(|()| rig.get(STATUS)), [u32::MAX, u32::MAX, 1]);
    rig.ok("lie register 16 0x123456789abcdef0");
    assert_eq!(rig.get64(0x10), 0x1234_5678_9abc_def0);
    assert_eq!(rig.get64(0x10), MEMORY_SIZE);
    rig.ok("lie register 0 7 0");
    assert_eq!([(); 3].map(|()| rig.get(0)), [7; 3]);
    rig.ok("clear");
    assert_eq!(rig.get(0), 0x4e50_5531);
    rig.ok("slow 30 1");
    let began = Instant::now();
    rig.get(0);
    assert!(began.elapsed() >= Duration::from_millis(30));
    let began = Instant::now();
    rig.get(0);
    assert!(began.elapsed() < Duration::from_millis(30));
}

#[test]
fn the_console_tells_and_refuses() {
    let rig = Rig::new();
    let help = rig.say("help");
    for command in ["stats", "hang", "reset-stuck", "peek", "die", "clear"] {
        assert!(help.starts_with("ok ") && help.contains(command));
    }
    rig.put(100, &[0xde, 0xad, 0xbe, 0xef]);
    assert_eq!(rig.say("peek 100 4"), "ok deadbeef");
    assert_eq!(rig.say(" peek  0x66\t1 "), "ok be");
    assert_eq!(rig.say("peek 0 0"), "ok");
    assert_eq!(rig.say("die"), "died");
    for line in [
        "",
        "nonsense",
        "peek 16777216 1",
        "peek 0xffffffffffffffff 2",
        "peek 0 65537",
        "hang",
        "hang both",
        "hang copy now",
        "stall",
        "stall x",
        "stall 99999999999",
        "slow 1",
        "lie register 0x100000 1",
        "lie register 0",
        "lie completion x 1",
        "sensor humidity 1",
        "sensor power 99999999999",
        "die now",
        "tlb-stuck",
        "interrupts",
    ] {
        assert!(rig.say(line).starts_with("error "), "{line}");
    }
    rig.works();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn any_line_is_answered(lines in prop::collection::vec("[ -~]{0,40}|(lie|peek|hang|ecc|sensor|tlb-stuck)( [a-z0-9x]{1,18}){0,4}", 100)) {
        let rig = Rig::new();
        for line in lines {
            let answer = rig.say(&line);
            prop_assert!(answer.starts_with("ok") || answer.starts_with("error ") || answer == "died");
            prop_assert!(!answer.contains('\n'));
        }
    }
}
