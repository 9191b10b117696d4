// SPDX-License-Identifier: GPL-2.0

//! What a device can do now, why, and what it could do before: states, and the changes between
//! them that there are.
//!
//! ```text
//!      ┌──────────────────────────── idle, system ──────────────────────► Suspended
//!      │ ◄────────────────────────── idle, system ─────────────────────────── │
//!      │                                                                      │ any
//!  Operational ── any ──► Resetting ◄─────────────────────────────────────────┘
//!      │  ▲                │  │  ▲ ▲
//!      │  └─── it helped ──┘  │  │ └─────── any ──────┐
//!      │                      │  └─ the user ─┐       │
//!      ├── the driver ────────┴─ failed ─► Malfunction│
//!      └── no reset(), the driver ──────────────► NeedsReset ── the driver ─► Malfunction
//!
//!  all ── unplug ──► Unplugged
//! ```
//!
//! "any" is any [`Cause`] that a reset can have. [`EDGES`] has them all; what it does not have is
//! refused. Everything here is plain data: the device applies it ([`crate::device::Device`]).

use crate::bindings::uapi;
use kernel::prelude::*;

/// What a device can do now, `enum accel_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// Compute.
    Operational = uapi::ACCEL_STATE_OPERATIONAL,
    /// Nothing, for a moment.
    Resetting = uapi::ACCEL_STATE_RESETTING,
    /// Nothing until it is reset.
    NeedsReset = uapi::ACCEL_STATE_NEEDS_RESET,
    /// Nothing: a reset did not help.
    Malfunction = uapi::ACCEL_STATE_MALFUNCTION,
    /// Nothing: it is asleep.
    Suspended = uapi::ACCEL_STATE_SUSPENDED,
    /// Nothing, for ever: it is gone.
    Unplugged = uapi::ACCEL_STATE_UNPLUGGED,
}

impl State {
    /// Whether nothing but a reset, if anything, can make it compute again.
    pub(crate) fn is_broken(self) -> bool {
        matches!(self, Self::NeedsReset | Self::Malfunction)
    }

    /// Whether it computes, or will not for now: not on its way to either.
    pub(crate) fn is_decided(self) -> bool {
        self == Self::Operational || self.is_broken()
    }
}

/// Why a state changed, or why a device is reset, `enum accel_cause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Cause {
    /// It has been so since registration.
    None = uapi::ACCEL_CAUSE_NONE,
    /// Root asked for it.
    User = uapi::ACCEL_CAUSE_USER,
    /// The driver found an error, or its end.
    Driver = uapi::ACCEL_CAUSE_DRIVER,
    /// A job lost its deadline and could not be stopped.
    Deadline = uapi::ACCEL_CAUSE_DEADLINE,
    /// It did not pass [`crate::Driver::check`].
    Watchdog = uapi::ACCEL_CAUSE_WATCHDOG,
    /// The bus reported an error.
    Bus = uapi::ACCEL_CAUSE_BUS,
    /// It lost its state while it was asleep.
    Resume = uapi::ACCEL_CAUSE_RESUME,
    /// The system slept, woke or went down.
    System = uapi::ACCEL_CAUSE_SYSTEM,
    /// Nobody needed it, or somebody does again.
    Idle = uapi::ACCEL_CAUSE_IDLE,
    /// Its driver was unbound, or it was taken away.
    Unplug = uapi::ACCEL_CAUSE_UNPLUG,
}

/// What a reset can be for, in the order of their numbers: when there are several reasons, it is
/// for the first.
pub(crate) const RESET_CAUSES: [Cause; 6] = [
    Cause::User,
    Cause::Driver,
    Cause::Deadline,
    Cause::Watchdog,
    Cause::Bus,
    Cause::Resume,
];

const DRIVER: &[Cause] = &[Cause::Driver];
const USER: &[Cause] = &[Cause::User];
const SLEEP: &[Cause] = &[Cause::System, Cause::Idle];
const UNPLUG: &[Cause] = &[Cause::Unplug];
const ANY: &[Cause] = &RESET_CAUSES;

/// A change that there is, and its causes.
struct Edge(State, State, &'static [Cause]);

/// All changes that there are.
const EDGES: &[Edge] = &[
    Edge(State::Operational, State::Resetting, ANY),
    Edge(State::Operational, State::NeedsReset, ANY),
    Edge(State::Operational, State::Malfunction, DRIVER),
    Edge(State::Operational, State::Suspended, SLEEP),
    Edge(State::Resetting, State::Operational, ANY),
    Edge(State::Resetting, State::NeedsReset, DRIVER),
    Edge(State::Resetting, State::Malfunction, ANY),
    Edge(State::NeedsReset, State::Resetting, ANY),
    Edge(State::NeedsReset, State::Malfunction, DRIVER),
    Edge(State::Malfunction, State::Resetting, USER),
    Edge(State::Suspended, State::Operational, SLEEP),
    Edge(State::Suspended, State::Resetting, ANY),
    Edge(State::Suspended, State::NeedsReset, ANY),
    Edge(State::Suspended, State::Malfunction, DRIVER),
    Edge(State::Operational, State::Unplugged, UNPLUG),
    Edge(State::Resetting, State::Unplugged, UNPLUG),
    Edge(State::NeedsReset, State::Unplugged, UNPLUG),
    Edge(State::Malfunction, State::Unplugged, UNPLUG),
    Edge(State::Suspended, State::Unplugged, UNPLUG),
];

/// There is no such change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused;

/// A change that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub(crate) at_ns: i64,
    pub(crate) from: State,
    pub(crate) to: State,
    pub(crate) cause: Cause,
}

/// Resets of one cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resets {
    /// Whether or not they helped.
    pub(crate) count: u64,
    /// Those that did not.
    pub(crate) failed: u64,
    /// When the last began: `CLOCK_MONOTONIC` in nanoseconds, 0 when there was none.
    pub(crate) last_ns: i64,
}

/// The causes of resets that were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests(u32);

impl Requests {
    fn bit(cause: Cause) -> u32 {
        match RESET_CAUSES.contains(&cause) {
            true => 1 << cause as u32,
            false => 0,
        }
    }

    /// The causes, in their order.
    pub(crate) fn iter(self) -> impl Iterator<Item = Cause> {
        RESET_CAUSES
            .into_iter()
            .filter(move |&cause| self.0 & Self::bit(cause) != 0)
    }
}

/// How many changes are remembered.
pub(crate) const HISTORY: usize = 32;

/// The state of a device, how it came to be, and what is asked of it.
pub(crate) struct StateMachine {
    /// How it came to be; the first is the registration.
    last: Change,
    /// Changes so far.
    changes: u64,
    /// Of those, how many were told.
    told: u64,
    /// The last of those; at first the registration.
    last_told: Change,
    /// The latest, the one with number `n` at index `(n - 1) % HISTORY`.
    history: KVec<Change>,
    resets: [Resets; RESET_CAUSES.len()],
    requests: Requests,
}

impl StateMachine {
    /// Of a device that is operational from `at_ns` on.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(at_ns: i64) -> Result<Self> {
        let last = Change {
            at_ns,
            from: State::Operational,
            to: State::Operational,
            cause: Cause::None,
        };

        Ok(Self {
            last,
            changes: 0,
            told: 0,
            last_told: last,
            history: KVec::with_capacity(HISTORY, GFP_KERNEL)?,
            resets: [Resets::default(); RESET_CAUSES.len()],
            requests: Requests::default(),
        })
    }

    /// The change that led to the present state.
    pub(crate) fn last(&self) -> Change {
        self.last
    }

    /// The present state.
    pub(crate) fn state(&self) -> State {
        self.last.to
    }

    /// Changes the state. A reset begins with the change to [`State::Resetting`], which counts it,
    /// and has failed with the one from there to [`State::Malfunction`].
    pub(crate) fn change(
        &mut self,
        to: State,
        cause: Cause,
        at_ns: i64,
    ) -> Result<Change, Refused> {
        let from = self.state();
        let is_edge = |edge: &Edge| edge.0 == from && edge.1 == to && edge.2.contains(&cause);

        if !EDGES.iter().any(is_edge) {
            return Err(Refused);
        }
        let change = Change {
            at_ns,
            from,
            to,
            cause,
        };

        match (from, to) {
            (_, State::Resetting) => {
                if let Some(resets) = self.resets_mut(cause) {
                    resets.count += 1;
                    resets.last_ns = at_ns;
                }
            }
            // Whoever gives it up, it is this reset that has not helped.
            (State::Resetting, State::Malfunction) => {
                if let Some(resets) = self.resets_mut(self.last.cause) {
                    resets.failed += 1;
                }
            }
            _ => (),
        }
        self.last = change;
        self.remember(change);
        Ok(change)
    }

    fn remember(&mut self, change: Change) {
        let index = (self.changes % HISTORY as u64) as usize;

        self.changes += 1;
        match self.history.get_mut(index) {
            Some(oldest) => *oldest = change,
            // There is room until it has gone round.
            None => drop(self.history.push_within_capacity(change)),
        }
    }

    /// How many changes there were.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// The `number`-th change, from 1; nothing when it is forgotten, or is still to come.
    pub(crate) fn change_of(&self, number: u64) -> Option<Change> {
        let first = self.changes.saturating_sub(HISTORY as u64) + 1;

        if number < first || number > self.changes {
            return None;
        }
        self.history
            .get(((number - 1) % HISTORY as u64) as usize)
            .copied()
    }

    /// The oldest change that is remembered and that this has not returned yet.
    pub(crate) fn next_untold(&mut self) -> Option<Change> {
        let first = self.changes.saturating_sub(HISTORY as u64) + 1;
        let number = first.max(self.told + 1);
        let change = self.change_of(number)?;

        self.told = number;
        self.last_told = change;
        Some(change)
    }

    /// The change that [`Self::next_untold`] has returned last.
    pub(crate) fn last_told(&self) -> Change {
        self.last_told
    }

    /// Resets for `cause`.
    pub(crate) fn resets(&self, cause: Cause) -> Resets {
        RESET_CAUSES
            .iter()
            .position(|&known| known == cause)
            .and_then(|index| self.resets.get(index))
            .copied()
            .unwrap_or_default()
    }

    fn resets_mut(&mut self, cause: Cause) -> Option<&mut Resets> {
        let index = RESET_CAUSES.iter().position(|&known| known == cause)?;

        self.resets.get_mut(index)
    }

    /// Resets for any cause.
    pub(crate) fn resets_total(&self) -> u64 {
        self.resets.iter().map(|resets| resets.count).sum()
    }

    /// Asks for a reset. A cause that none can have is none.
    pub(crate) fn request(&mut self, cause: Cause) {
        self.requests.0 |= Requests::bit(cause);
    }

    /// Whether a reset is in progress or was asked for.
    pub(crate) fn is_resetting(&self) -> bool {
        self.state() == State::Resetting || self.requests != Requests::default()
    }

    /// What was asked for and not taken yet.
    pub(crate) fn requests(&self) -> Requests {
        self.requests
    }

    /// Takes what was asked for.
    pub(crate) fn take_requests(&mut self) -> Requests {
        core::mem::take(&mut self.requests)
    }
}

#[kunit_tests(accel_state)]
mod tests {
    use super::*;

    const STATES: [State; 6] = [
        State::Operational,
        State::Resetting,
        State::NeedsReset,
        State::Malfunction,
        State::Suspended,
        State::Unplugged,
    ];

    const CAUSES: [Cause; 10] = [
        Cause::None,
        Cause::User,
        Cause::Driver,
        Cause::Deadline,
        Cause::Watchdog,
        Cause::Bus,
        Cause::Resume,
        Cause::System,
        Cause::Idle,
        Cause::Unplug,
    ];

    /// What `change` is to do, said in another way than by the table.
    fn expected(from: State, to: State, cause: Cause) -> bool {
        let is_reset = (cause as u32) >= 1 && (cause as u32) <= 6;
        let is_sleep = cause as u32 == 7 || cause as u32 == 8;
        let is_driver = cause as u32 == 2;

        match (from as u32, to as u32) {
            (5, _) => false,
            (_, 5) => cause as u32 == 9,
            (3, 1) => cause as u32 == 1,
            (3, _) => false,
            (1, 1) => false,
            (_, 1) => is_reset,
            (1, 0) | (1, 3) => is_reset,
            (0, 2) | (4, 2) => is_reset,
            (1, 2) => is_driver,
            (0, 3) | (2, 3) | (4, 3) => is_driver,
            (0, 4) | (4, 0) => is_sleep,
            _ => false,
        }
    }

    /// A machine in a state, by the shortest way there.
    fn in_state(state: State) -> Result<StateMachine> {
        let mut machine = StateMachine::new(1)?;
        let cause = match state {
            State::Operational => return Ok(machine),
            State::Suspended => Cause::Idle,
            State::Unplugged => Cause::Unplug,
            _ => Cause::Driver,
        };

        machine.change(state, cause, 2).map_err(|Refused| EINVAL)?;
        Ok(machine)
    }

    #[test]
    fn every_edge_and_no_other() -> Result {
        for from in STATES {
            for to in STATES {
                for cause in CAUSES {
                    let mut machine = in_state(from)?;
                    let before = machine.last();
                    let changed = machine.change(to, cause, 7);

                    assert_eq!(expected(from, to, cause), changed.is_ok());
                    match changed {
                        Ok(change) => {
                            assert_eq!(
                                Change {
                                    at_ns: 7,
                                    from,
                                    to,
                                    cause
                                },
                                change
                            );
                            assert_eq!(change, machine.last());
                        }
                        Err(Refused) => assert_eq!(before, machine.last()),
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn resets_are_counted_by_cause() -> Result {
        let mut machine = StateMachine::new(1)?;

        for (index, cause) in RESET_CAUSES.into_iter().enumerate() {
            for time in 0..=index as i64 {
                assert!(machine.change(State::Resetting, cause, 10 + time).is_ok());
                assert!(machine.change(State::Operational, cause, 20).is_ok());
            }
        }
        assert_eq!(1 + 2 + 3 + 4 + 5 + 6, machine.resets_total());
        for (index, cause) in RESET_CAUSES.into_iter().enumerate() {
            let expected = Resets {
                count: 1 + index as u64,
                failed: 0,
                last_ns: 10 + index as i64,
            };
            assert_eq!(expected, machine.resets(cause));
        }
        // Given up by the driver, but it was the watchdog's reset that failed.
        assert!(machine
            .change(State::Resetting, Cause::Watchdog, 30)
            .is_ok());
        assert!(machine
            .change(State::Malfunction, Cause::Driver, 31)
            .is_ok());
        assert_eq!(1, machine.resets(Cause::Watchdog).failed);
        assert_eq!(0, machine.resets(Cause::Driver).failed);
        // To be broken without a reset is no failed one.
        let mut machine = StateMachine::new(1)?;
        assert!(machine.change(State::Malfunction, Cause::Driver, 2).is_ok());
        assert_eq!(0, machine.resets_total());
        assert_eq!(Resets::default(), machine.resets(Cause::Driver));
        assert_eq!(Resets::default(), machine.resets(Cause::Idle));
        Ok(())
    }

    #[test]
    fn history_has_the_latest() -> Result {
        let mut machine = StateMachine::new(1)?;
        let changes = 3 * HISTORY as i64 + 5;

        assert_eq!(None, machine.change_of(0));
        assert_eq!(None, machine.change_of(1));
        for number in 1..=changes {
            let to = match number % 2 {
                1 => State::Suspended,
                _ => State::Operational,
            };
            assert!(machine.change(to, Cause::Idle, 100 + number).is_ok());
            assert_eq!(None, machine.change_of(number as u64 + 1));
            let oldest = (number - HISTORY as i64 + 1).max(1);
            assert_eq!(None, machine.change_of(oldest as u64 - 1));
            for kept in oldest..=number {
                let found = machine.change_of(kept as u64);

                assert_eq!(Some(100 + kept), found.map(|change| change.at_ns));
            }
        }
        Ok(())
    }

    #[test]
    fn changes_are_told_once_in_order() -> Result {
        let mut machine = StateMachine::new(1)?;

        assert_eq!(None, machine.next_untold());
        assert!(machine.change(State::Resetting, Cause::User, 2).is_ok());
        assert!(machine.change(State::Operational, Cause::User, 3).is_ok());
        assert_eq!(Some(2), machine.next_untold().map(|change| change.at_ns));
        assert_eq!(Some(3), machine.next_untold().map(|change| change.at_ns));
        assert_eq!(None, machine.next_untold());
        // Of more than are remembered the latest are told.
        for number in 0..2 * HISTORY as i64 {
            let to = match number % 2 {
                0 => State::Suspended,
                _ => State::Operational,
            };
            assert!(machine.change(to, Cause::System, 10 + number).is_ok());
        }
        for number in HISTORY as i64..2 * HISTORY as i64 {
            let told = machine.next_untold();

            assert_eq!(Some(10 + number), told.map(|change| change.at_ns));
        }
        assert_eq!(None, machine.next_untold());
        Ok(())
    }

    #[test]
    fn requests_are_merged() -> Result {
        let mut machine = StateMachine::new(1)?;

        assert!(machine.requests().iter().next().is_none());
        machine.request(Cause::Bus);
        machine.request(Cause::Driver);
        machine.request(Cause::Driver);
        machine.request(Cause::Idle);
        machine.request(Cause::None);
        assert!(machine.requests().iter().eq([Cause::Driver, Cause::Bus]));
        assert!(machine
            .take_requests()
            .iter()
            .eq([Cause::Driver, Cause::Bus]));
        assert!(machine.take_requests().iter().next().is_none());
        Ok(())
    }
}
