// SPDX-License-Identifier: GPL-2.0
//! LibAFL around what runs programs: those that reach something new are kept and changed further.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use libafl::corpus::{Corpus, InMemoryCorpus};
use libafl::events::SimpleEventManager;
use libafl::executors::{Executor, ExitKind, HasObservers};
use libafl::feedbacks::{ConstFeedback, MaxMapFeedback, TimeFeedback};
use libafl::monitors::NopMonitor;
use libafl::mutators::StdScheduledMutator;
use libafl::observers::{CanTrack, ExplicitTracking, StdMapObserver, TimeObserver};
use libafl::schedulers::{IndexesLenTimeMinimizerScheduler, QueueScheduler};
use libafl::stages::StdMutationalStage;
use libafl::state::{HasCorpus, HasExecutions, StdState};
use libafl::{Error, Evaluator, Fuzzer, StdFuzzer, feedback_or};
use libafl_bolts::rands::StdRand;
use libafl_bolts::tuples::{RefIndexable, tuple_list, tuple_list_type};

use crate::mutate;
use crate::program::Program;

/// The most changes of a program in a row before another one's turn.
const ROUND: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// Changes that are made at once are at most 2 to this power.
const CHANGES: usize = 4;

/// Seconds between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);

type Map = ExplicitTracking<StdMapObserver<'static, u8, false>, true, false>;
type Observers = tuple_list_type!(Map, TimeObserver);

/// What runs programs.
pub trait Subject {
    /// Bytes of the map that `run` fills.
    fn map_size(&self) -> usize;

    /// Runs a program, and says in `map` what it has reached.
    ///
    /// # Errors
    ///
    /// What was found, after which nothing is run any more.
    fn run(&mut self, program: &Program, map: &mut [u8]) -> Result<()>;

    /// A program has reached something new.
    fn keep(&mut self, program: &Program) -> Result<()>;

    /// How far it is.
    fn progress(&self) -> String;
}

/// A subject as LibAFL sees it.
struct Runner<T> {
    subject: T,
    observers: Observers,
    executions: usize,
    /// Nothing runs after that.
    end: Instant,
    /// What was found; nothing runs after it.
    found: Option<anyhow::Error>,
}

impl<T> Runner<T> {
    fn is_over(&self) -> bool {
        self.found.is_some() || Instant::now() >= self.end
    }
}

impl<T> HasObservers for Runner<T> {
    type Observers = Observers;

    fn observers(&self) -> RefIndexable<&Observers, Observers> {
        RefIndexable::from(&self.observers)
    }

    fn observers_mut(&mut self) -> RefIndexable<&mut Observers, Observers> {
        RefIndexable::from(&mut self.observers)
    }
}

impl<T: Subject, EM, S: HasExecutions, Z> Executor<EM, Program, S, Z> for Runner<T> {
    fn run_target(
        &mut self,
        _: &mut Z,
        state: &mut S,
        _: &mut EM,
        program: &Program,
    ) -> Result<ExitKind, Error> {
        if self.is_over() {
            // Ends whatever LibAFL is at.
            return Err(Error::shutting_down());
        }
        *state.executions_mut() += 1;
        self.executions += 1;
        let map = &mut *self.observers.0.as_mut();
        match self.subject.run(program, map) {
            Ok(()) => Ok(ExitKind::Ok),
            Err(found) => {
                self.found = Some(found);
                Err(Error::shutting_down())
            }
        }
    }
}

/// What a run has to show.
pub struct Done<T> {
    pub subject: T,
    pub executions: usize,
    pub kept: usize,
    pub took: Duration,
    pub found: Option<anyhow::Error>,
}

/// Fuzzes for a time, beginning with `seeds`.
pub fn fuzz<T: Subject>(
    subject: T,
    seeds: &[Program],
    seed: u64,
    time: Duration,
) -> Result<Done<T>> {
    let began = Instant::now();
    let map = StdMapObserver::owned("reached", vec![0_u8; subject.map_size()]).track_indices();
    let clock = TimeObserver::new("took");
    // Of those that reach the same, the quick ones are changed further.
    let mut feedback = feedback_or!(MaxMapFeedback::new(&map), TimeFeedback::new(&clock));
    let mut objective = ConstFeedback::new(false);
    let scheduler = IndexesLenTimeMinimizerScheduler::new(&map, QueueScheduler::new());
    let mut state = StdState::new(
        StdRand::with_seed(seed),
        InMemoryCorpus::<Program>::new(),
        InMemoryCorpus::new(),
        &mut feedback,
        &mut objective,
    )
    .map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut fuzzer = StdFuzzer::new(scheduler, feedback, objective);
    let mut manager = SimpleEventManager::new(NopMonitor::new());
    let mutator = StdScheduledMutator::with_max_stack_pow(mutate::all(), CHANGES);
    let mut stages = tuple_list!(StdMutationalStage::with_max_iterations(mutator, ROUND));
    let mut runner = Runner {
        subject,
        observers: tuple_list!(map, clock),
        executions: 0,
        end: began + time,
        found: None,
    };

    let step = |runner: &Runner<T>, what: Result<(), Error>| -> Result<bool> {
        match what {
            Ok(()) => Ok(true),
            Err(_) if runner.is_over() => Ok(false),
            Err(error) => bail!("LibAFL: {error}"),
        }
    };
    let mut going = true;
    let mut seeds = seeds.iter();
    let mut kept = 0;
    let mut told = Instant::now();
    while going {
        let done = match seeds.next() {
            Some(program) => fuzzer
                .evaluate_input(&mut state, &mut runner, &mut manager, program)
                .map(|_| ()),
            None if kept == 0 => bail!("not one program reached anything"),
            None => fuzzer
                .fuzz_one(&mut stages, &mut runner, &mut state, &mut manager)
                .map(|_| ()),
        };
        going = step(&runner, done)?;
        while kept < state.corpus().count() {
            let id = state.corpus().nth(kept);
            let case = state.corpus().get(id).context("a program that was kept")?;
            if let Some(program) = case.borrow().input() {
                runner.subject.keep(program)?;
            }
            kept += 1;
        }
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            println!("{}", progress(&runner, kept, began.elapsed()));
        }
    }
    Ok(Done {
        kept: state.corpus().count(),
        executions: runner.executions,
        subject: runner.subject,
        took: began.elapsed(),
        found: runner.found,
    })
}

fn progress<T: Subject>(runner: &Runner<T>, kept: usize, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    format!(
        "{seconds:>6.0} s  {:>8} executions ({:.1}/s)  {kept:>5} kept  {}",
        runner.executions,
        runner.executions as f64 / seconds,
        runner.subject.progress(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Step;

    /// Breaks when it has been told to bind, poll and sleep in this order; it shows how far a
    /// program has come.
    #[derive(Default)]
    struct Fake {
        kept: usize,
    }

    impl Subject for Fake {
        fn map_size(&self) -> usize {
            4
        }

        fn run(&mut self, program: &Program, map: &mut [u8]) -> Result<()> {
            let mut reached = 0;
            map[0] = 1;
            for step in program.threads.iter().flatten() {
                reached += usize::from(match reached {
                    0 => matches!(step, Step::Bind { .. }),
                    1 => matches!(step, Step::Poll { .. }),
                    _ => matches!(step, Step::Sleep { milliseconds: 7 }),
                });
                if reached == 3 {
                    bail!("broken");
                }
                map[reached] = 1;
            }
            Ok(())
        }

        fn keep(&mut self, _: &Program) -> Result<()> {
            self.kept += 1;
            Ok(())
        }

        fn progress(&self) -> String {
            String::new()
        }
    }

    #[test]
    fn what_leads_on_is_kept_until_it_breaks() {
        let seeds = [Program {
            about: String::new(),
            threads: vec![vec![Step::Sleep { milliseconds: 1 }]],
        }];
        let done = fuzz(Fake::default(), &seeds, 1, Duration::from_secs(60)).unwrap();
        assert_eq!(
            done.found.map(|found| found.to_string()).as_deref(),
            Some("broken")
        );
        assert!(
            (1..=3).contains(&done.subject.kept),
            "{}",
            done.subject.kept
        );
        assert_eq!(done.kept, done.subject.kept);
        assert!(done.executions > 3);
    }

    #[test]
    fn it_ends_in_time() {
        let seeds = [Program {
            about: String::new(),
            threads: vec![vec![]],
        }];
        let time = Duration::from_millis(1);
        let began = Instant::now();
        let done = fuzz(Fake::default(), &seeds, 1, time).unwrap();
        assert!(done.found.is_none());
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
