// SPDX-License-Identifier: GPL-2.0
//! Runs a program.

pub mod argument;
mod steps;
pub mod things;

use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::devices::Devices;
use crate::program::{Program, Step, THREADS_MAX};
use crate::sys::{self, Answer, Arena, Kcov, Shared};
use crate::table;
use things::{ALL_MAPS, Things};

/// Numbers that an errno can have; 0 is success, the last stands for all that are too large.
pub const ERRNOS: usize = 134;

/// When no thread has got on for so long, all are interrupted.
const STUCK: Duration = Duration::from_millis(60);

/// What a running program and the fuzzer share.
pub struct Machine<'a> {
    pub devices: &'a Devices,
    /// A KCOV buffer for each thread, and one for the end of the program; none if there is no KCOV.
    pub kcov: &'a [Kcov],
    /// One byte for each pair of a kind of call and its outcome.
    pub outcomes: &'a Shared,
    things: Mutex<Things>,
    /// By thread, what signals reach it by.
    threads: [AtomicI32; THREADS_MAX],
    /// Steps that have been done.
    steps: AtomicUsize,
    ended: AtomicUsize,
}

/// How many pairs of a kind of call and an outcome there are.
pub fn outcomes() -> usize {
    (Step::KINDS + table::calls().len()) * ERRNOS
}

impl<'a> Machine<'a> {
    pub fn new(devices: &'a Devices, kcov: &'a [Kcov], outcomes: &'a Shared) -> Self {
        Self {
            devices,
            kcov,
            outcomes,
            things: Mutex::default(),
            threads: Default::default(),
            steps: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
        }
    }

    fn things(&self) -> MutexGuard<'_, Things> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs all threads to their ends. With `leave` all is left to the end of the process. False
    /// if the fuzzer itself is at fault.
    pub fn run(&self, program: &Program, leave: bool) -> bool {
        sys::be_interruptible();
        let barrier = Barrier::new(program.threads.len());
        let fine = thread::scope(|scope| {
            let main = thread::current();
            let threads: Vec<_> = program
                .threads
                .iter()
                .enumerate()
                .map(|(number, steps)| {
                    let (barrier, main) = (&barrier, main.clone());
                    scope.spawn(move || {
                        let done = self.run_thread(number, steps, barrier);
                        self.ended.fetch_add(1, Relaxed);
                        main.unpark();
                        done
                    })
                })
                .collect();
            self.watch(threads.len());
            threads
                .into_iter()
                .all(|thread| matches!(thread.join(), Ok(Ok(()))))
        });
        if !leave {
            self.end();
        }
        fine
    }

    fn run_thread(&self, number: usize, steps: &[Step], barrier: &Barrier) -> std::io::Result<()> {
        self.threads[number].store(sys::thread_id(), Relaxed);
        let arena = Arena::new()?;
        let pipe = sys::pipe().map_err(std::io::Error::from_raw_os_error)?;
        barrier.wait();
        self.traced(number, || {
            for step in steps {
                let outcome = self.step(step, &arena, pipe);
                self.note(step, outcome);
                self.steps.fetch_add(1, Relaxed);
            }
        });
        // A signal must not reach another thread that has been given the same number.
        self.threads[number].store(0, Relaxed);
        for fd in pipe {
            let _ = sys::close(fd);
        }
        Ok(())
    }

    /// Does something with coverage in the buffer of this number.
    fn traced(&self, number: usize, what: impl FnOnce()) {
        let kcov = self.kcov.get(number).filter(|kcov| kcov.enable().is_ok());
        what();
        if let Some(kcov) = kcov {
            let _ = kcov.disable();
        }
    }

    /// Waits for the threads, and interrupts those that wait for what does not come.
    fn watch(&self, threads: usize) {
        let mut seen = 0;
        let mut since = Instant::now();
        while self.ended.load(Relaxed) < threads {
            thread::park_timeout(STUCK);
            let steps = self.steps.load(Relaxed);
            if steps != seen {
                seen = steps;
                since = Instant::now();
            } else if since.elapsed() >= STUCK {
                for thread in 0..threads {
                    let _ = self.interrupt(thread);
                }
                since = Instant::now();
            }
        }
    }

    fn interrupt(&self, thread: usize) -> Answer {
        match self.threads[thread % THREADS_MAX].load(Relaxed) {
            0 => Err(libc::ESRCH),
            id => sys::interrupt(id),
        }
    }

    /// Closes and unmaps everything while coverage is still collected; the end of a process is too
    /// late for that.
    fn end(&self) {
        self.traced(THREADS_MAX, || {
            for fd in self.things().descriptors() {
                let _ = sys::close(fd);
            }
            let (address, size) = ALL_MAPS;
            let _ = sys::munmap(address, size);
        });
    }

    fn note(&self, step: &Step, outcome: Answer) {
        let kind = match step {
            Step::Ioctl { call, .. } => Step::KINDS + call.0,
            other => other.kind(),
        };
        let errno = match outcome {
            Ok(_) => 0,
            Err(errno) => usize::try_from(errno).unwrap_or(0).min(ERRNOS - 1),
        };
        if let Some(byte) = self.outcomes.bytes().get(kind * ERRNOS + errno) {
            byte.store(1, Relaxed);
        }
    }
}
