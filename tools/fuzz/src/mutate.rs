// SPDX-License-Identifier: GPL-2.0
//! Ways to change a program.

use std::borrow::Cow;

use libafl::Error;
use libafl::corpus::Corpus;
use libafl::mutators::{MutationResult, Mutator};
use libafl::state::{HasCorpus, HasRand};
use libafl_bolts::Named;
use libafl_bolts::rands::{Rand, StdRand};
use libafl_bolts::tuples::tuple_list;

use crate::generate::Dice;
use crate::program::{Program, STEPS_MAX, Step, THREADS_MAX, Value};
use crate::table::Kind;

/// Changes a program, perhaps with the help of another; whether it did.
type Change = fn(&mut Program, &Program, &mut Dice<StdRand>) -> bool;

/// A way to change a program, as LibAFL wants it.
pub struct Way {
    name: Cow<'static, str>,
    change: Change,
}

impl Named for Way {
    fn name(&self) -> &Cow<'static, str> {
        &self.name
    }
}

impl<S> Mutator<Program, S> for Way
where
    S: HasRand<Rand = StdRand> + HasCorpus<Program>,
{
    fn mutate(&mut self, state: &mut S, program: &mut Program) -> Result<MutationResult, Error> {
        let count = state.corpus().count();
        let number = state.rand_mut().below_or_zero(count);
        let mut other = None;
        if count > 0 {
            let id = state.corpus().nth(number);
            let case = state.corpus().get(id)?.borrow();
            other = case.input().clone();
        }
        // It is its own other as long as there is none.
        let other = other.unwrap_or_else(|| program.clone());
        let mut dice = Dice(state.rand_mut());
        Ok(if (self.change)(program, &other, &mut dice) {
            // What somebody said of the original is not true of this.
            program.about.clear();
            MutationResult::Mutated
        } else {
            MutationResult::Skipped
        })
    }
}

/// Gives all ways to another macro. Those that are there twice are taken twice as often.
macro_rules! with_ways {
    ($taker:ident) => {
        $taker!(
            insert,
            insert,
            delete,
            repeat,
            shift,
            splice,
            join,
            change_field,
            change_field,
            change_field,
            resize,
            redirect,
            anew
        )
    };
}

macro_rules! tuple_of {
    ($($change:ident),*) => {
        tuple_list!($(Way { name: Cow::Borrowed(stringify!($change)), change: $change }),*)
    };
}

/// All ways.
pub fn all<S>()
-> impl libafl::mutators::MutatorsTuple<Program, S> + libafl_bolts::tuples::NamedTuple
where
    S: HasRand<Rand = StdRand> + HasCorpus<Program>,
{
    with_ways!(tuple_of)
}

/// A thread with at least one step, and a step of its.
fn place(program: &Program, dice: &mut Dice<StdRand>) -> Option<(usize, usize)> {
    let thread = dice.below(program.threads.len());
    let steps = program.threads.get(thread)?.len();
    (steps > 0).then(|| (thread, dice.below(steps)))
}

fn insert(program: &mut Program, _: &Program, dice: &mut Dice<StdRand>) -> bool {
    let thread = dice.below(program.threads.len());
    let Some(steps) = program.threads.get_mut(thread) else {
        return false;
    };
    if steps.len() >= STEPS_MAX {
        return false;
    }
    let at = dice.below(steps.len() + 1);
    steps.insert(at, dice.step());
    true
}

fn delete(program: &mut Program, _: &Program, dice: &mut Dice<StdRand>) -> bool {
    let Some((thread, step)) = place(program, dice) else {
        return false;
    };
    program.threads[thread].remove(step);
    if program.threads[thread].is_empty() && program.threads.len() > 1 {
        program.threads.remove(thread);
    }
    true
}

/// The same step once more.
fn repeat(program: &mut Program, _: &Program, dice: &mut Dice<StdRand>) -> bool {
    let Some((thread, step)) = place(program, dice) else {
        return false;
    };
    let steps = &mut program.threads[thread];
    if steps.len() >= STEPS_MAX {
        return false;
    }
    steps.insert(step, steps[step].clone());
    true
}

/// A step goes to another place, perhaps in another thread.
fn shift(program: &mut Program, _: &Program, dice: &mut Dice<StdRand>) -> bool {
    let Some((thread, step)) = place(program, dice) else {
        return false;
    };
    let moved = program.threads[thread].remove(step);
    let to = dice.below(program.threads.len());
    let at = dice.below(program.threads[to].len() + 1);
    program.threads[to].insert(at, moved);
    program.threads[to].truncate(STEPS_MAX);
    true
}

/// Steps of another program go into a thread.
fn splice(program: &mut Program, other: &Program, dice: &mut Dice<StdRand>) -> bool {
    let Some((from, first)) = place(other, dice) else {
        return false;
    };
    let end = first + 1 + dice.below(other.threads[from].len() - first);
    let steps = other.threads[from][first..end].to_vec();
    let thread = dice.below(program.threads.len());
    let Some(into) = program.threads.get_mut(thread) else {
        return false;
    };
    let at = dice.below(into.len() + 1);
    into.splice(at..at, steps);
    into.truncate(STEPS_MAX);
    true
}

/// A thread of another program runs beside those that there are.
fn join(program: &mut Program, other: &Program, dice: &mut Dice<StdRand>) -> bool {
    if program.threads.len() >= THREADS_MAX {
        return false;
    }
    let Some((thread, _)) = place(other, dice) else {
        return false;
    };
    program.threads.push(other.threads[thread].clone());
    true
}

/// An ioctl of the program.
fn ioctl<'a>(program: &'a mut Program, dice: &mut Dice<StdRand>) -> Option<&'a mut Step> {
    let all = program.threads.iter_mut().flatten();
    let mut all: Vec<_> = all
        .filter(|step| matches!(step, Step::Ioctl { .. }))
        .collect();
    let number = dice.below(all.len());
    (number < all.len()).then(|| all.swap_remove(number))
}

/// Another value for a field of an ioctl, or of an element of its lists.
fn change_field(program: &mut Program, _: &Program, dice: &mut Dice<StdRand>) -> bool {
    let Some(Step::Ioctl { call, fields, .. }) = ioctl(program, dice) else {
        return false;
    };
    let all = &call.table().argument.fields;
    let field = &all[dice.below(all.len())];
    if let (Kind::Pointer(..), Some(Value::List(elements))) =
        (field.kind, fields.get_mut(field.name))
    {
        if !elements.is_empty() && !dice.once_in(3) {
            let at = dice.below(elements.len());
            match dice.below(3) {
                0 => drop(elements.remove(at)),
                1 => elements.insert(at, elements[at].clone()),
                _ => {
                    if let Some(Value::List(new)) = dice.value(field) {
                        elements.splice(at..=at, new);
                    }
                }
            }
            return true;
        }
    }
    match dice.value(field) {
        Some(value) => fields.insert(field.name.to_owned(), value),
        None => fields.remove(field.name),
    };
    true
}

/// An ioctl has another size, or its own again.
fn resize(program: &mut Program, _: &Program, dice: &mut Dice<StdRand>) -> bool {
    let Some(Step::Ioctl { resize, .. }) = ioctl(program, dice) else {
        return false;
    };
    *resize = match resize {
        Some(_) => None,
        None => Some(dice.resize()),
    };
    true
}

/// An ioctl goes to another file.
fn redirect(program: &mut Program, _: &Program, dice: &mut Dice<StdRand>) -> bool {
    let Some(Step::Ioctl { file, .. }) = ioctl(program, dice) else {
        return false;
    };
    *file = dice.which();
    true
}

/// Another step in the place of one.
fn anew(program: &mut Program, _: &Program, dice: &mut Dice<StdRand>) -> bool {
    let Some((thread, step)) = place(program, dice) else {
        return false;
    };
    program.threads[thread][step] = dice.step();
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Device;

    macro_rules! names_and_changes {
        ($($change:ident),*) => {
            &[$((stringify!($change), $change)),*]
        };
    }

    const WAYS: &[(&str, Change)] = with_ways!(names_and_changes);

    fn program(dice: &mut Dice<StdRand>, threads: usize, steps: usize) -> Program {
        let thread = |dice: &mut Dice<StdRand>| (0..steps).map(|_| dice.step()).collect();
        Program {
            about: String::new(),
            threads: (0..threads).map(|_| thread(dice)).collect(),
        }
    }

    #[test]
    fn each_way_changes_something_and_keeps_to_the_limits() {
        let mut rand = StdRand::with_seed(3);
        let mut dice = Dice(&mut rand);
        for (name, way) in WAYS {
            let mut changed = 0;
            for _ in 0..200 {
                let threads = 1 + dice.below(THREADS_MAX);
                let steps = dice.below(STEPS_MAX + 1);
                let old = program(&mut dice, threads, steps);
                let other = program(&mut dice, 2, 10);
                let mut new = old.clone();
                way(&mut new, &other, &mut dice);
                changed += usize::from(new != old);
                assert!((1..=THREADS_MAX).contains(&new.threads.len()));
                assert!(new.threads.iter().all(|steps| steps.len() <= STEPS_MAX));
                assert_eq!(Program::from_json(&new.to_json()), Ok(new));
            }
            assert!(changed > 50, "{name} changed {changed} of 200");
        }
    }

    #[test]
    fn an_empty_program_can_only_grow() {
        let mut rand = StdRand::with_seed(4);
        let mut dice = Dice(&mut rand);
        for (_, way) in WAYS {
            let mut new = program(&mut dice, 1, 0);
            way(&mut new, &program(&mut dice, 1, 0), &mut dice);
            assert!(new.threads.len() == 1);
        }
    }

    #[test]
    fn steps_are_inserted_and_deleted_one_at_a_time() {
        let mut rand = StdRand::with_seed(5);
        let mut dice = Dice(&mut rand);
        let old = Program {
            about: String::new(),
            threads: vec![vec![Step::Bind {
                device: Device::Npu,
            }]],
        };
        let mut new = old.clone();
        assert!(insert(&mut new, &old, &mut dice));
        assert_eq!(new.threads[0].len(), 2);
        assert!(new.threads[0].contains(&old.threads[0][0]));
        assert!(delete(&mut new, &old, &mut dice) && delete(&mut new, &old, &mut dice));
        assert!(new.threads[0].is_empty());
    }
}
