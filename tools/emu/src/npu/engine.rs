// SPDX-License-Identifier: GPL-2.0
//! What a worker does in one turn: fetch what is next of a queue, execute it, complete the job
//! when it was the last.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use super::Card;
use super::command::{self, Access, Engine, Failure, Memory};
use super::events::{Event, Kind};
use super::mmu::{self, Place};
use super::queue::{self, Completion, ENTRY, Entry, Job, PHASE, Refused, Status, status_of};
use super::scheduler::{End, Fatal, Mode, Turn};
use crate::transport::{Bus, BusError};

/// The most bytes that an access moves before an invalidation gets its turn.
const PIECE: u64 = 1 << 16;

/// How often what waits on purpose looks whether it may go on.
const TICK: Duration = Duration::from_millis(1);

impl Card {
    /// One turn of a queue on an engine.
    pub fn step(&self, engine: Engine, turn: &mut Turn) -> End {
        if turn.job.is_none() && !self.begin_job(turn) {
            return End::Over;
        }
        let Some(mut job) = turn.job.take() else {
            return End::Over;
        };
        let port = Port {
            card: self,
            turn,
            id: job.entry.id,
        };
        let command = match job.fetched.take() {
            Some((_, command)) => Ok(command),
            None => port.fetch(&job),
        };
        let result = command.and_then(|command| {
            let wanted = command::engine(&command);
            if wanted != engine {
                job.fetched = Some((wanted, command));
                return Ok(());
            }
            self.misbehave(engine, turn)?;
            self.counters.commands.fetch_add(1, Relaxed);
            self.execute(&command, &port)
        });
        match result {
            Ok(()) if job.fetched.is_some() => {
                turn.job = Some(job);
                return End::Handover;
            }
            Ok(()) => {
                job.done += 1;
                if job.done == job.entry.count {
                    self.complete(turn, &job, Status::Ok, Refused::default());
                } else {
                    turn.job = Some(job);
                }
            }
            Err(failure) => match status_of(failure, job.entry.id) {
                Some((status, refused)) => self.complete(turn, &job, status, refused),
                // Whoever aborted it knows.
                None if turn.aborted() => {}
                None => drop(self.fatal(Fatal::Engine)),
            },
        }
        End::Over
    }

    /// Fetches the next entry into `turn.job`. Returns false if there is none, or it is wrong.
    fn begin_job(&self, turn: &mut Turn) -> bool {
        if turn.rung {
            match self.host(turn, |bus| bus.load(turn.setup.tail)) {
                Ok(Some(tail)) => (turn.tail, turn.rung) = (tail, false),
                Ok(None) => return false,
                Err(BusError { address }) => {
                    self.halt_queue(turn, Status::BusError, Some(address));
                    return false;
                }
            }
            if turn.tail.wrapping_sub(turn.head) > turn.setup.size {
                self.halt_queue(turn, Status::RingError, None);
                return false;
            }
        }
        if turn.tail == turn.head {
            return false;
        }
        let began = Instant::now();
        let mut bytes = [0; ENTRY];
        let from = turn.setup.entry(turn.head);
        match self.host(turn, |bus| bus.read(from, &mut bytes)) {
            Ok(Some(())) => {}
            Ok(None) => return false,
            Err(BusError { address }) => {
                self.halt_queue(turn, Status::BusError, Some(address));
                return false;
            }
        }
        self.counters.host_read.fetch_add(ENTRY as u64, Relaxed);
        let job = Job {
            entry: Entry::parse(&bytes),
            done: 0,
            began,
            fetched: None,
        };
        if !job.entry.valid {
            self.complete(turn, &job, Status::BadEntry, Refused::default());
            return false;
        }
        turn.job = Some(job);
        true
    }

    /// An access to host memory for a queue; none if the queue was stopped.
    fn host<T>(
        &self,
        turn: &Turn,
        access: impl FnOnce(&dyn Bus) -> Result<T, BusError>,
    ) -> Result<Option<T>, BusError> {
        // As accesses through the MMU: a reset waits until none is in flight.
        let _in_flight = self.mmu.begin();
        if turn.aborted() {
            return Ok(None);
        }
        access(&*self.bus).map(Some)
    }

    fn execute(&self, command: &[u8; command::SIZE], port: &Port<'_>) -> Result<(), Failure> {
        let aborted = || port.turn.aborted();
        // Were there a command that makes ours fail, it would be the guest's way to stop an
        // engine for good. As it is, the card says that the engine failed.
        let execute = AssertUnwindSafe(|| command::execute(command, port, &aborted));
        catch_unwind(execute).unwrap_or(Err(Failure::Aborted))
    }

    /// Whether this command is to hang. Then its queue does not stop.
    fn hangs(&self, engine: Engine, turn: &Turn) -> bool {
        let mut state = self.state.lock();
        if turn.aborted() || !self.inject.hangs(engine) {
            return false;
        }
        if let Some(queue) = state.queue_of(turn) {
            queue.hung = true;
        }
        true
    }

    /// Hangs or waits if that was injected.
    fn misbehave(&self, engine: Engine, turn: &Turn) -> Result<(), Failure> {
        if self.hangs(engine, turn) {
            log::info!("an engine hangs, as told");
            while !turn.revoked.load(std::sync::atomic::Ordering::Acquire) {
                thread::sleep(TICK);
            }
            return Err(Failure::Aborted);
        }
        if let Some(time) = self.inject.stalls() {
            let end = Instant::now() + time;
            while Instant::now() < end {
                if turn.aborted() {
                    return Err(Failure::Aborted);
                }
                thread::sleep(TICK);
            }
        }
        Ok(())
    }

    /// Writes the completion of the job that a queue is at, and raises its interrupt.
    fn complete(&self, turn: &mut Turn, job: &Job, status: Status, refused: Refused) {
        let mut completion = Completion {
            cookie: job.entry.cookie,
            address: refused.address,
            commands: job.done,
            microseconds: u32::try_from(job.began.elapsed().as_micros()).unwrap_or(u32::MAX),
            status: status as u16,
            access: refused.access,
            kind: refused.kind,
        };
        let at = turn.setup.completion(turn.head);
        let mut phase = turn.setup.phase(turn.head);
        let halts = matches!(status, Status::Fault | Status::BusError);

        // What registers say, what memory says, and whether the queue is stopped change together.
        let mut state = self.state.lock();
        let ready = state.mode == Mode::Ready;
        let Some(queue) = state.queue_of(turn) else {
            return;
        };
        if !ready || queue.stopping || queue.state != queue::State::Running {
            return;
        }
        self.inject.change(&mut completion, &mut phase);
        let written = (self.bus.write(at, &completion.bytes()))
            .and_then(|()| self.bus.store(at.wrapping_add(PHASE as u64), phase));
        if let Err(BusError { address }) = written {
            // The first access that failed is kept.
            let refused = if halts {
                refused
            } else {
                Refused::of(address, Access::Write, 0, 0)
            };
            queue.halt(Status::BusError, Some(refused));
            drop(state);
            self.tell_halted(turn.queue, Status::BusError);
            return;
        }
        queue.head = queue.head.wrapping_add(1);
        turn.head = queue.head;
        if halts {
            queue.halt(status, Some(refused));
        }
        drop(state);
        self.counters.host_written.fetch_add(ENTRY as u64, Relaxed);
        self.counters.jobs.fetch_add(1, Relaxed);
        if job.entry.interrupt || status != Status::Ok {
            self.interrupt(turn.setup.vector as u16);
        }
    }

    /// Halts a queue where there is no job to tell it of. `read` is the host address that could
    /// not be read.
    fn halt_queue(&self, turn: &Turn, why: Status, read: Option<u64>) {
        let mut state = self.state.lock();
        let ready = state.mode == Mode::Ready;
        let Some(queue) = state.queue_of(turn) else {
            return;
        };
        if !ready || queue.stopping || queue.state != queue::State::Running {
            return;
        }
        queue.halt(
            why,
            read.map(|address| Refused::of(address, Access::Read, 0, 0)),
        );
        drop(state);
        self.tell_halted(turn.queue, why);
    }

    pub fn tell_halted(&self, queue: usize, why: Status) {
        log::info!("queue {queue} halted: {why:?}");
        self.post(Event {
            kind: Kind::QueueHalted,
            queue: Some(queue as u32),
            address: 0,
            information: why as u32,
            count: 1,
        });
    }
}

/// Device memory as the job of a queue sees it.
struct Port<'a> {
    card: &'a Card,
    turn: &'a Turn,
    id: u16,
}

impl Port<'_> {
    fn fetch(&self, job: &Job) -> Result<[u8; command::SIZE], Failure> {
        let mut command = [0; command::SIZE];
        let offset = u64::from(job.done) * command::SIZE as u64;
        // Beyond 64 bits is beyond 48.
        let from = job.entry.list.checked_add(offset).ok_or(Failure::Fault {
            address: u64::MAX,
            access: Access::Read,
            kind: mmu::Kind::BadAddress as u8,
        })?;
        self.read(from, &mut command)?;
        Ok(command)
    }

    /// Calls `piece` with each part of the range: where it is, and which of its bytes it has.
    fn pieces(
        &self,
        address: u64,
        size: usize,
        access: Access,
        mut piece: impl FnMut(Place, Range<usize>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut done = 0;
        while done < size {
            let fault = |address, kind: mmu::Kind| Failure::Fault {
                address,
                access,
                kind: kind as u8,
            };
            let here = address
                .checked_add(done as u64)
                .ok_or(fault(u64::MAX, mmu::Kind::BadAddress))?;
            // Until the end of the piece: nothing is invalidated under it, and no reset completes.
            let in_flight = self.card.mmu.begin();
            if self.turn.aborted() {
                return Err(Failure::Aborted);
            }
            let (place, left) = in_flight
                .translate(self.id, here, access)
                .map_err(|kind| fault(here, kind))?;
            let left = usize::try_from(left.min(PIECE)).unwrap_or(usize::MAX);
            let end = size.min(done.saturating_add(left));
            piece(place, done..end)?;
            done = end;
        }
        Ok(())
    }
}

impl Memory for Port<'_> {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Failure> {
        let access = Access::Read;
        self.pieces(address, to.len(), access, |place, range| match place {
            Place::Device(offset) => self.card.memory.read(offset, &mut to[range]).map_err(|_| {
                // The MMU gives no such place.
                Failure::Bus {
                    address: offset,
                    access,
                }
            }),
            Place::Host(host) => {
                let counter = &self.card.counters.host_read;
                counter.fetch_add(range.len() as u64, Relaxed);
                (self.card.bus.read(host, &mut to[range]))
                    .map_err(|BusError { address }| Failure::Bus { address, access })
            }
        })
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), Failure> {
        let access = Access::Write;
        self.pieces(address, from.len(), access, |place, range| match place {
            Place::Device(offset) => self.card.memory.write(offset, &from[range]).map_err(|_| {
                // The MMU gives no such place.
                Failure::Bus {
                    address: offset,
                    access,
                }
            }),
            Place::Host(host) => {
                let counter = &self.card.counters.host_written;
                counter.fetch_add(range.len() as u64, Relaxed);
                (self.card.bus.write(host, &from[range]))
                    .map_err(|BusError { address }| Failure::Bus { address, access })
            }
        })
    }
}
