// SPDX-License-Identifier: GPL-2.0
//! Who executes what: queues that have work wait in line, and the workers, one thread for each
//! engine, take turns of one command from its front.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Card;
use super::command::Engine;
use super::queue::{self, Job, QUEUES, Queue, Setup};
use super::upkeep::Upkeep;

pub const COMPUTE_ENGINES: usize = 2;

/// The engines; each has a worker.
const ENGINES: [Engine; COMPUTE_ENGINES + 1] = [Engine::Compute, Engine::Compute, Engine::Copy];

/// Why the card is HALTED; the numbers are the manual's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fatal {
    Ecc = 1,
    Engine = 2,
    Thermal = 3,
}

/// What the card is doing as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Until it has booted.
    Resetting {
        since: Instant,
        /// By CONTROL, which tells when it is complete.
        by_control: bool,
        /// It was told never to complete.
        stuck: bool,
        /// No access that began before is in flight.
        quiet: bool,
    },
    Ready,
    Halted(Fatal),
    /// In D3hot, until a reset.
    Asleep,
}

/// The worker of an engine.
#[derive(Debug, Default)]
struct Slot {
    /// Which thread it is; another one takes the place of one that does not come back.
    generation: u64,
    /// Since when it executes something.
    since: Option<Instant>,
}

/// All that changes together.
#[derive(Debug)]
pub struct State {
    pub mode: Mode,
    /// Counts resets: what began before one does not change what is after it.
    pub epoch: u64,
    /// Tells what hangs that there was a reset.
    pub revoked: Arc<AtomicBool>,
    pub queues: Vec<Queue>,
    pub upkeep: Upkeep,
    pub scratch: u32,
    /// Queues that have work and that no worker has, the next first.
    ready: VecDeque<usize>,
    slots: [Slot; ENGINES.len()],
    /// Workers that sleep, by kind of engine; or have been woken and not yet noticed.
    waiting: [usize; 2],
    /// ns that compute engines were busy; without those that still are.
    busy: u64,
    ending: bool,
}

/// A queue in the hands of a worker, for one command at most.
#[derive(Debug)]
pub struct Turn {
    pub queue: usize,
    epoch: u64,
    pub setup: Setup,
    pub head: u32,
    pub tail: u32,
    pub rung: bool,
    pub job: Option<Job>,
    pub abort: Arc<AtomicBool>,
    pub revoked: Arc<AtomicBool>,
}

impl Turn {
    pub fn aborted(&self) -> bool {
        self.abort.load(Ordering::Acquire)
    }
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// To the back of the line, if there is more.
    Over,
    /// The command is for another kind of engine: it keeps its place.
    Handover,
}

impl State {
    pub fn new(now: Instant) -> Self {
        Self {
            mode: Mode::Resetting {
                since: now,
                by_control: false,
                stuck: false,
                quiet: false,
            },
            epoch: 0,
            revoked: Arc::default(),
            queues: (0..QUEUES).map(|_| Queue::default()).collect(),
            upkeep: Upkeep::default(),
            scratch: 0,
            ready: VecDeque::with_capacity(QUEUES),
            slots: Default::default(),
            waiting: [0; 2],
            busy: 0,
            ending: false,
        }
    }

    /// Begins again, with nothing but what the workers still have in hands.
    pub fn reset(&mut self, mode: Mode) {
        self.mode = mode;
        self.epoch += 1;
        self.abort_all();
        self.revoked.store(true, Ordering::Release);
        self.revoked = Arc::default();
        self.queues.fill_with(Queue::default);
        self.upkeep = Upkeep::default();
        self.scratch = 0;
        self.ready.clear();
    }

    pub fn forget_busy(&mut self) {
        self.busy = 0;
    }

    fn abort_all(&self) {
        for queue in &self.queues {
            queue.abort.store(true, Ordering::Release);
        }
    }

    /// A fatal error stops everything. Returns false if everything stands still already.
    #[must_use]
    pub fn halt(&mut self, why: Fatal) -> bool {
        if self.mode != Mode::Ready {
            return false;
        }
        self.mode = Mode::Halted(why);
        self.abort_all();
        true
    }

    /// A queue was rung.
    pub fn ring(&mut self, queue: usize) {
        if self.queues[queue].ring() {
            self.ready.push_back(queue);
        }
    }

    /// Disables a queue. Returns whether it is stopping, and not yet stopped.
    #[must_use]
    pub fn disable(&mut self, queue: usize) -> bool {
        let _ = self.queues[queue].enable(false);
        self.ready.retain(|&other| other != queue);
        self.queues[queue].stopping
    }

    /// Queues that stop as soon as no access for them is in flight, with what tells one start of
    /// a queue from the next.
    pub fn stopping(&self) -> Vec<(usize, Arc<AtomicBool>)> {
        let queues = self.queues.iter().enumerate();
        queues
            .filter(|(_, queue)| queue.stopping && !queue.hung)
            .map(|(number, queue)| (number, queue.abort.clone()))
            .collect()
    }

    /// No access for these queues is in flight.
    pub fn stopped(&mut self, queues: Vec<(usize, Arc<AtomicBool>)>) {
        for (number, abort) in queues {
            let queue = &mut self.queues[number];
            if queue.stopping && !queue.hung && Arc::ptr_eq(&queue.abort, &abort) {
                queue.stopped();
            }
        }
    }

    /// Whether an engine of this kind could do the next command of the queue.
    fn suits(&self, queue: usize, engine: Engine) -> bool {
        let fetched = self.queues[queue].job.as_ref().and_then(|job| job.fetched);
        fetched.is_none_or(|(wanted, _)| wanted == engine)
    }

    /// Gives a worker its next turn.
    pub fn pick(&mut self, slot: usize) -> Option<Turn> {
        if self.mode != Mode::Ready {
            return None;
        }
        let at = (self.ready.iter()).position(|&queue| self.suits(queue, ENGINES[slot]))?;
        let number = self.ready.remove(at)?;
        self.slots[slot].since = Some(Instant::now());
        let queue = &mut self.queues[number];
        queue.taken = true;
        Some(Turn {
            queue: number,
            epoch: self.epoch,
            setup: queue.setup,
            head: queue.head,
            tail: queue.tail,
            rung: std::mem::take(&mut queue.rung),
            job: queue.job.take(),
            abort: queue.abort.clone(),
            revoked: self.revoked.clone(),
        })
    }

    /// The queue of a turn, unless there was a reset meanwhile, or another start of the queue.
    pub fn queue_of(&mut self, turn: &Turn) -> Option<&mut Queue> {
        let queue = &mut self.queues[turn.queue];
        (turn.epoch == self.epoch && Arc::ptr_eq(&turn.abort, &queue.abort)).then_some(queue)
    }

    /// Takes a turn back.
    pub fn settle(&mut self, slot: usize, turn: Turn, end: End) {
        if let Some(since) = self.slots[slot].since.take() {
            if ENGINES[slot] == Engine::Compute {
                self.busy += nanoseconds(since.elapsed());
            }
        }
        let number = turn.queue;
        let Some(queue) = self.queue_of(&turn) else {
            return;
        };
        queue.taken = false;
        if queue.stopping {
            queue.stopped();
        } else if queue.state == queue::State::Running {
            queue.tail = turn.tail;
            queue.rung |= turn.rung;
            queue.job = turn.job;
            if !queue.has_work() {
                queue.state = queue::State::Idle;
            } else if end == End::Handover {
                self.ready.push_front(number);
            } else {
                self.ready.push_back(number);
            }
        }
    }

    /// As if a worker were executing something.
    #[cfg(test)]
    pub fn take_for_test(&mut self, slot: usize) {
        self.slots[slot].since = Some(Instant::now());
    }

    /// Whether workers have something in hands that began before the last reset.
    pub fn has_stragglers(&self) -> bool {
        self.slots.iter().any(|slot| slot.since.is_some())
    }

    /// ns that compute engines were busy since power-on, added up.
    pub fn busy(&self, now: Instant) -> u64 {
        let running = self.slots[..COMPUTE_ENGINES].iter();
        let running = running.filter_map(|slot| slot.since);
        running.fold(self.busy, |sum, since| {
            sum + nanoseconds(now.saturating_duration_since(since))
        })
    }

    /// All threads end.
    pub fn end(&mut self) {
        self.ending = true;
        self.abort_all();
        self.revoked.store(true, Ordering::Release);
    }

    pub fn is_ending(&self) -> bool {
        self.ending
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Card {
    /// Wakes a worker if there is something for one that sleeps. Each that is woken wakes the next.
    pub fn wake(&self, state: &State) {
        if state.mode != Mode::Ready {
            return;
        }
        for &queue in &state.ready {
            for engine in [Engine::Compute, Engine::Copy] {
                if state.waiting[engine as usize] > 0 && state.suits(queue, engine) {
                    self.work[engine as usize].notify_one();
                    return;
                }
            }
        }
    }

    /// Starts all workers.
    pub fn start_workers(self: &Arc<Self>) {
        for slot in 0..ENGINES.len() {
            self.start_worker(slot, 0);
        }
    }

    fn start_worker(self: &Arc<Self>, slot: usize, generation: u64) {
        let card = self.clone();
        let name = format!("{:?}-{slot}.{generation}", ENGINES[slot]).to_lowercase();
        let started = thread::Builder::new()
            .name(name)
            .spawn(move || card.work(slot, generation));
        if let Err(error) = started {
            log::error!("no thread for an engine: {error}");
        }
    }

    /// Gives workers that do not come back up: others take their places.
    pub fn replace_stragglers(self: &Arc<Self>, state: &mut State) {
        for (number, slot) in state.slots.iter_mut().enumerate() {
            if slot.since.take().is_some() {
                log::warn!("engine {number} hangs and is replaced");
                slot.generation += 1;
                self.start_worker(number, slot.generation);
            }
        }
    }

    /// What a worker does.
    fn work(&self, slot: usize, generation: u64) {
        let engine = ENGINES[slot];
        let mut state = self.state.lock();
        while !state.ending && state.slots[slot].generation == generation {
            let turn = state.pick(slot);
            self.wake(&state);
            let Some(mut turn) = turn else {
                state.waiting[engine as usize] += 1;
                self.work[engine as usize].wait(&mut state);
                state.waiting[engine as usize] -= 1;
                continue;
            };
            drop(state);
            let end = self.step(engine, &mut turn);
            state = self.state.lock();
            if state.slots[slot].generation == generation {
                state.settle(slot, turn, end);
            }
            if state.mode != Mode::Ready {
                // A reset may wait for this.
                self.upkeep.notify_one();
            }
        }
        // It may have been woken for something that another has to do now.
        self.wake(&state);
    }
}
