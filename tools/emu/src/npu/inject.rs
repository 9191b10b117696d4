// SPDX-License-Identifier: GPL-2.0
//! What is to go wrong next. Everything here is asked at the one place where it happens, and
//! counts down.

use std::time::Duration;

use parking_lot::Mutex;

use super::command::Engine;
use super::queue::Completion;

/// What can be wrong with a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Cookie,
    Status,
    Phase,
    Command,
}

/// What can be made to take for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stuck {
    Tlb,
    Reset,
    Scrub,
}

/// What becomes of an interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Once,
    Never,
    Thrice,
}

/// A register that reads as something else.
#[derive(Debug, Clone, Copy)]
struct Lie {
    offset: u64,
    value: u64,
    /// None: until it is cleared.
    left: Option<u32>,
}

/// How often what is still to come.
#[derive(Debug, Default)]
struct Plan {
    hang: [u32; 2],
    stall: (Duration, u32),
    drop: u32,
    repeat: u32,
    completion: [u32; 4],
    registers: Vec<Lie>,
    slow: (Duration, u32),
    stuck: [u32; 3],
}

#[derive(Debug, Default)]
pub struct Inject(Mutex<Plan>);

/// Whether there is one left; it is taken.
fn take(left: &mut u32) -> bool {
    let any = *left > 0;
    *left = left.saturating_sub(1);
    any
}

impl Inject {
    pub fn clear(&self) {
        *self.0.lock() = Plan::default();
    }

    /// Hangs and stalls that were planned and have not begun.
    pub fn planned(&self) -> u64 {
        let plan = self.0.lock();
        plan.hang.iter().map(|&left| u64::from(left)).sum::<u64>() + u64::from(plan.stall.1)
    }

    pub fn hang(&self, engine: Engine) {
        self.0.lock().hang[engine as usize] += 1;
    }

    /// Whether this command is to hang.
    pub fn hangs(&self, engine: Engine) -> bool {
        take(&mut self.0.lock().hang[engine as usize])
    }

    pub fn stall(&self, time: Duration, times: u32) {
        self.0.lock().stall = (time, times);
    }

    /// How much longer this command takes.
    pub fn stalls(&self) -> Option<Duration> {
        let mut plan = self.0.lock();
        take(&mut plan.stall.1).then_some(plan.stall.0)
    }

    pub fn drop_interrupts(&self, times: u32) {
        self.0.lock().drop = times;
    }

    pub fn repeat_interrupts(&self, times: u32) {
        self.0.lock().repeat = times;
    }

    pub fn delivery(&self) -> Delivery {
        let mut plan = self.0.lock();
        if take(&mut plan.drop) {
            Delivery::Never
        } else if take(&mut plan.repeat) {
            Delivery::Thrice
        } else {
            Delivery::Once
        }
    }

    pub fn lie_in_completions(&self, field: Field, times: u32) {
        self.0.lock().completion[field as usize] = times;
    }

    /// Changes a completion, and its phase, as planned.
    pub fn change(&self, completion: &mut Completion, phase: &mut u32) {
        let mut plan = self.0.lock();
        let mut lies = |field| take(&mut plan.completion[field as usize]);
        if lies(Field::Cookie) {
            completion.cookie = !completion.cookie;
        }
        if lies(Field::Status) {
            completion.status = 0x5a5a;
        }
        if lies(Field::Phase) {
            *phase = 0x5a5a_5a5a;
        }
        if lies(Field::Command) {
            completion.commands = u32::MAX;
        }
    }

    /// `times` 0: until it is cleared.
    pub fn lie_in_register(&self, offset: u64, value: u64, times: u32) {
        let mut plan = self.0.lock();
        plan.registers.retain(|lie| lie.offset != offset);
        plan.registers.push(Lie {
            offset,
            value,
            left: (times > 0).then_some(times),
        });
    }

    /// What this read gives instead of the truth.
    pub fn register(&self, offset: u64) -> Option<u64> {
        let mut plan = self.0.lock();
        let at = plan.registers.iter().position(|lie| lie.offset == offset)?;
        let lie = &mut plan.registers[at];
        let value = lie.value;
        if let Some(left) = &mut lie.left {
            *left -= 1;
            if *left == 0 {
                plan.registers.swap_remove(at);
            }
        }
        Some(value)
    }

    pub fn slow(&self, time: Duration, times: u32) {
        self.0.lock().slow = (time, times);
    }

    /// How much longer this register access takes.
    pub fn slows(&self) -> Option<Duration> {
        let mut plan = self.0.lock();
        take(&mut plan.slow.1).then_some(plan.slow.0)
    }

    pub fn stick(&self, what: Stuck, times: u32) {
        self.0.lock().stuck[what as usize] = times;
    }

    /// Whether this one never completes.
    pub fn sticks(&self, what: Stuck) -> bool {
        take(&mut self.0.lock().stuck[what as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_counts_down() {
        let inject = Inject::default();
        assert!(!inject.hangs(Engine::Copy));
        inject.hang(Engine::Copy);
        assert!(!inject.hangs(Engine::Compute));
        assert!(inject.hangs(Engine::Copy) && !inject.hangs(Engine::Copy));

        let time = Duration::from_millis(5);
        inject.stall(time, 2);
        inject.slow(time, 1);
        assert_eq!(
            [(); 3].map(|()| inject.stalls()),
            [Some(time), Some(time), None]
        );
        assert_eq!([(); 2].map(|()| inject.slows()), [Some(time), None]);

        inject.drop_interrupts(1);
        inject.repeat_interrupts(2);
        assert_eq!(
            [(); 4].map(|()| inject.delivery()),
            [
                Delivery::Never,
                Delivery::Thrice,
                Delivery::Thrice,
                Delivery::Once
            ]
        );
        inject.stick(Stuck::Scrub, 1);
        assert!(!inject.sticks(Stuck::Tlb) && inject.sticks(Stuck::Scrub));
        assert!(!inject.sticks(Stuck::Scrub));
    }

    #[test]
    fn registers_lie_as_often_as_told() {
        let inject = Inject::default();
        inject.lie_in_register(0x18, 5, 2);
        inject.lie_in_register(0x1c, 6, 0);
        assert_eq!(
            [(); 3].map(|()| inject.register(0x18)),
            [Some(5), Some(5), None]
        );
        assert_eq!([(); 3].map(|()| inject.register(0x1c)), [Some(6); 3]);
        inject.lie_in_register(0x1c, 7, 1);
        assert_eq!([(); 2].map(|()| inject.register(0x1c)), [Some(7), None]);
        inject.lie_in_register(0, 1, 0);
        inject.clear();
        assert_eq!(inject.register(0), None);
    }

    #[test]
    fn completions_lie_in_the_field_that_was_named() {
        let truth = Completion {
            cookie: 5,
            address: 0,
            commands: 1,
            microseconds: 2,
            status: 0,
            access: 0,
            kind: 0,
        };
        let inject = Inject::default();
        for field in [Field::Cookie, Field::Status, Field::Phase, Field::Command] {
            inject.lie_in_completions(field, 1);
            let (mut completion, mut phase) = (truth, 1);
            inject.change(&mut completion, &mut phase);
            assert_eq!(completion.cookie != 5, field == Field::Cookie);
            assert_eq!(completion.status != 0, field == Field::Status);
            assert_eq!(completion.commands != 1, field == Field::Command);
            assert_eq!(phase != 1, field == Field::Phase);
            let (mut completion, mut phase) = (truth, 1);
            inject.change(&mut completion, &mut phase);
            assert_eq!((completion, phase), (truth, 1));
        }
    }
}
