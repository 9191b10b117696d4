// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work for an NPU: handwritten digits, read by a small network, one job an image.
//!
//! Network, images and reference are those of `tools/digits`, which were computed
//! by other programs than the device's model and driver.

mod art;
mod network;

use std::time::{Duration, Instant};

use libaccel::npu::{Access, Arena, Card, Command, Context, Program, Run, Tensor, Type};
use libaccel::{Compute, Device};

use crate::progress::Bar;
use crate::table::{Table, bytes, grouped};
use crate::{Problem, interrupts, rate};
use network::{Network, Places};

const NETWORK: &str = include_str!("../../../digits/data/network.json");
const WEIGHTS: &[u8] = include_bytes!("../../../digits/data/weights.bin");
const IMAGES: &[u8] = include_bytes!("../../../digits/data/images.bin");
const LABELS: &[u8] = include_bytes!("../../../digits/data/labels.bin");
const LOGITS: &[u8] = include_bytes!("../../../digits/data/logits.bin");

/// Digits that an image may be of.
const CLASSES: usize = 10;

/// Jobs of one SUBMIT.
const BATCH: usize = 32;

/// No batch takes that long, also on a slow emulator that others use too.
const LIMIT: Duration = Duration::from_secs(30);

/// Fewer images that are read right, of a hundred, are a failure.
const PERCENT_RIGHT: usize = 95;

/// Images to show.
const SHOWN: usize = 4;

/// What the device made of the images.
struct Answers {
    card: Card,
    /// Numbers by image and class.
    logits: Vec<i32>,
    /// The digit that it takes each image for.
    digits: Vec<i32>,
    /// Jobs that ended well.
    jobs: u64,
    /// Time that the images took.
    time: Duration,
}

/// Has every image read by `device`, prints what came of it, and says what is wrong.
pub fn work(device: &Device, bar: &Bar, problems: &mut Vec<String>) {
    let identity = device.identity();
    let name = device.name();
    println!(
        "\n{} handwritten digits to {name}: {} {}.{} on {} {}, driver {}",
        LABELS.len(),
        identity.uapi_name,
        identity.uapi_major,
        identity.uapi_minor,
        identity.bus,
        identity.parent,
        identity.driver,
    );
    let before = interrupts::read();
    let result = device
        .open()
        .map_err(Problem::from)
        .and_then(|compute| read(compute, bar));
    let taken = interrupts::taken(&before, &interrupts::read(), &name);
    let answers = match result {
        Ok(answers) => answers,
        Err(problem) => return problems.push(problem.text(&name)),
    };
    println!(
        "interface {}.{}, serial {:#x}, {} of memory, {} and {}",
        answers.card.revision.0,
        answers.card.revision.1,
        answers.card.serial,
        bytes(answers.card.memory_total),
        engines(answers.card.compute_engines, "computes", "compute"),
        engines(answers.card.copy_engines, "copies", "copy"),
    );
    let found = check(&answers.logits, &answers.digits);
    show(&name, &answers, taken, found.is_empty());
    problems.extend(found.into_iter().map(|what| format!("{name}: {what}")));
}

fn engines(count: u32, one: &str, several: &str) -> String {
    match count {
        1 => format!("1 engine that {one}"),
        _ => format!("{count} engines that {several}"),
    }
}

/// Has the device read all images.
fn read(compute: Compute, bar: &Bar) -> Result<Answers, Problem> {
    let network = Network::new(NETWORK)?;
    let count = u32::try_from(LABELS.len()).unwrap_or(u32::MAX);
    let context = Context::new(compute);
    let card = context.device()?;

    // The program writes images and reads answers; all else stays on the device.
    let size = u32::try_from(WEIGHTS.len()).unwrap_or(u32::MAX);
    let outside = [&network.input, &network.logits, &network.output];
    let mut needed = Arena::bytes(Type::U8, &[size]);
    for name in outside {
        let (element, dims, _) = network.shape(name, count)?;
        needed += Arena::bytes(element, &dims);
    }
    let mut shared = context.shared(needed, Access::ReadWrite)?;
    let mut arena = shared.mapped().arena();
    let staged = arena.tensor(Type::U8, &[size])?;
    let mut all = Vec::new();
    for name in outside {
        let (element, dims, images) = network.shape(name, count)?;
        all.push((name.as_str(), arena.tensor(element, &dims)?, images));
    }
    let (input, logits, digits) = (all[0].1, all[1].1, all[2].1);
    shared.store(&staged, WEIGHTS)?;
    shared.store(&input, &pixels())?;
    // No answer is right before it is computed.
    let wrong: Vec<i32> = reference().iter().map(|logit| !logit).collect();
    shared.store(&logits, &wrong)?;
    shared.store(&digits, &vec![-1_i32; LABELS.len()])?;

    let own = Arena::bytes(Type::U8, &[size]) + network.scratch();
    let memory = context.memory(own, Access::ReadWrite)?;
    let mut arena = memory.arena();
    let weights = arena.tensor(Type::U8, &[size])?;
    Program::new(&context, &[vec![Command::copy(weights, staged)?]])?.run()?;

    let places = network.place(weights.address(), &mut arena)?;
    let lists = (0..count)
        .map(|image| list(&network, &places, &all, image))
        .collect::<Result<Vec<_>, _>>()?;
    let program = Program::new(&context, &lists)?;
    let how = Run {
        batch: BATCH,
        limit: LIMIT,
    };
    let started = Instant::now();
    let result = program.run_with(how, |done| {
        bar.show(done as u64, u64::from(count), "images")
    });
    let time = started.elapsed();
    bar.end();
    result?;
    Ok(Answers {
        card,
        logits: shared.load(&logits)?,
        digits: shared.load(&digits)?,
        jobs: 1 + program.jobs().len() as u64,
        time,
    })
}

/// The commands for one of the images, with its parts of the tensors for `all` of them.
fn list<'a>(
    network: &'a Network,
    places: &Places<'a>,
    all: &[(&'a str, Tensor, usize)],
    image: u32,
) -> Result<Vec<Command>, Problem> {
    let mut places = places.clone();
    for (name, tensor, images) in all {
        places.insert(name, tensor.slice(*images, image..image + 1)?);
    }
    network.commands(places)
}

/// The images as the network's input has them: grey levels are below 128.
fn pixels() -> Vec<i8> {
    IMAGES.iter().map(|level| *level as i8).collect()
}

/// What the logits have to be.
fn reference() -> Vec<i32> {
    LOGITS
        .chunks_exact(4)
        .map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}

/// How many images were read right.
fn right(digits: &[i32]) -> usize {
    let pairs = digits.iter().zip(LABELS);
    pairs
        .filter(|(digit, label)| **digit == i32::from(**label))
        .count()
}

/// Says what is wrong with the answers.
fn check(logits: &[i32], digits: &[i32]) -> Vec<String> {
    let mut problems = Vec::new();
    let reference = reference();
    let mut differ = reference
        .iter()
        .zip(logits)
        .enumerate()
        .filter(|(_, (wanted, found))| wanted != found);
    if let Some((at, (wanted, found))) = differ.next() {
        problems.push(format!(
            "digits: {} of {} logits are not those of the reference, the first for image {} \
             and digit {}: it is {wanted}, and the device says {found}",
            1 + differ.count(),
            reference.len(),
            at / CLASSES,
            at % CLASSES,
        ));
    }
    let right = right(digits);
    if right * 100 < LABELS.len() * PERCENT_RIGHT {
        problems.push(format!(
            "digits: {right} of {} images were read right, fewer than {PERCENT_RIGHT} %",
            LABELS.len()
        ));
    }
    problems
}

/// Prints the figures and some of the images.
fn show(name: &str, answers: &Answers, taken: Option<u64>, equal: bool) {
    let count = LABELS.len();
    let right = right(&answers.digits);
    let mut table = Table::new(&[
        "device",
        "images",
        "right",
        "accuracy",
        "per image",
        "images/s",
        "jobs",
        "interrupts",
        "outcome",
    ]);
    table.add(vec![
        name.to_owned(),
        count.to_string(),
        right.to_string(),
        format!("{:.1} %", right as f64 * 100.0 / count as f64),
        format!(
            "{} µs",
            grouped((answers.time.as_micros() / count.max(1) as u128) as u64)
        ),
        rate(count as u64, answers.time),
        answers.jobs.to_string(),
        taken.map_or("-".into(), |taken| taken.to_string()),
        if equal { "right" } else { "WRONG" }.into(),
    ]);
    print!("\n{table}");

    let shown: Vec<(&[u8], String)> = choose(&answers.digits)
        .into_iter()
        .map(|image| {
            let pixels = &IMAGES[image * art::IMAGE..(image + 1) * art::IMAGE];
            let (digit, label) = (answers.digits[image], LABELS[image]);
            let caption = if digit == i32::from(label) {
                format!("reads {digit}")
            } else {
                format!("reads {digit}, is {label}")
            };
            (pixels, caption)
        })
        .collect();
    print!("\n{}", art::draw(&shown));
    if equal {
        println!("\nall {count}×{CLASSES} logits equal to the reference, bit for bit");
    }
}

/// Images of different digits, and at the end one that was read wrong, if there is any.
fn choose(digits: &[i32]) -> Vec<usize> {
    let mut chosen: Vec<usize> = Vec::new();
    let mut wrong = None;
    for (image, (digit, label)) in digits.iter().zip(LABELS).enumerate() {
        let seen = chosen.iter().any(|other| LABELS[*other] == *label);
        if *digit != i32::from(*label) {
            wrong = wrong.or(Some(image));
        } else if chosen.len() < SHOWN && !seen {
            chosen.push(image);
        }
    }
    if let Some(wrong) = wrong {
        chosen.truncate(SHOWN - 1);
        chosen.push(wrong);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use accel_emu::npu::command::{Failure, Memory, execute};
    use std::sync::Mutex;

    #[test]
    fn files_go_together() {
        let count = LABELS.len();
        assert!(count >= 360);
        assert_eq!(IMAGES.len(), count * art::IMAGE);
        assert_eq!(LOGITS.len(), count * CLASSES * 4);
        assert!(IMAGES.iter().all(|level| *level <= 16));
        assert!(LABELS.iter().all(|label| usize::from(*label) < CLASSES));
    }

    /// The digits that the reference's logits are for: the first of the greatest.
    fn expected() -> Vec<i32> {
        let greatest = |logits: &[i32]| {
            let most = logits.iter().max().unwrap();
            logits.iter().position(|logit| logit == most).unwrap() as i32
        };
        reference().chunks(CLASSES).map(greatest).collect()
    }

    #[test]
    fn the_reference_is_right() {
        assert_eq!(check(&reference(), &expected()), [""; 0]);
    }

    #[test]
    fn differences_and_wrong_answers_are_found() {
        let mut logits = reference();
        logits[123] = logits[123].wrapping_add(1);
        logits[200] = 0;
        let problems = check(&logits, &expected());
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("2 of 3600 logits"), "{problems:?}");
        assert!(problems[0].contains("image 12 and digit 3"), "{problems:?}");

        let mut digits = expected();
        digits.iter_mut().take(20).for_each(|digit| *digit = -1);
        let problems = check(&reference(), &digits);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("fewer than 95 %"), "{problems:?}");
    }

    /// Memory of the device, from address 0 on.
    struct Flat(Mutex<Vec<u8>>);

    impl Memory for Flat {
        fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Failure> {
            let memory = self.0.lock().unwrap();
            to.copy_from_slice(&memory[address as usize..][..to.len()]);
            Ok(())
        }

        fn write(&self, address: u64, from: &[u8]) -> Result<(), Failure> {
            let mut memory = self.0.lock().unwrap();
            memory[address as usize..][..from.len()].copy_from_slice(from);
            Ok(())
        }
    }

    /// What the device's memory is for here.
    const WEIGHTS_AT: u64 = 1 << 20;
    const SCRATCH_AT: u64 = 2 << 20;
    const OUTSIDE_AT: [u64; 3] = [3 << 20, 4 << 20, 5 << 20];

    /// All lists, executed by the model of the card, without driver and guest.
    #[test]
    fn lists_compute_what_the_reference_says() {
        let network = Network::new(NETWORK).unwrap();
        let outside = [&network.input, &network.logits, &network.output];
        let all: Vec<(&str, Tensor, usize)> = outside
            .into_iter()
            .zip(OUTSIDE_AT)
            .map(|(name, address)| {
                let (element, dims, images) = network.shape(name, LABELS.len() as u32).unwrap();
                let tensor = Tensor::contiguous(address, element, &dims).unwrap();
                (name.as_str(), tensor, images)
            })
            .collect();
        let mut arena = Arena::new(SCRATCH_AT, network.scratch());
        let places = network.place(WEIGHTS_AT, &mut arena).unwrap();
        assert_eq!(arena.used(), network.scratch());

        let memory = Flat(Mutex::new(vec![0xa5; 6 << 20]));
        memory.write(WEIGHTS_AT, WEIGHTS).unwrap();
        memory.write(OUTSIDE_AT[0], IMAGES).unwrap();
        for image in 0..LABELS.len() as u32 {
            let commands = list(&network, &places, &all, image).unwrap();
            assert_eq!(commands.len(), 8);
            for command in commands {
                execute(&command.encode(), &memory, &|| false).unwrap();
            }
        }
        let numbers = |address, count: usize| -> Vec<i32> {
            let mut bytes = vec![0; count * 4];
            memory.read(address, &mut bytes).unwrap();
            let words = bytes.chunks_exact(4);
            words
                .map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect()
        };
        let logits = numbers(OUTSIDE_AT[1], LABELS.len() * CLASSES);
        let digits = numbers(OUTSIDE_AT[2], LABELS.len());
        assert_eq!(check(&logits, &digits), [""; 0]);
        assert_eq!(digits, expected());
    }

    #[test]
    fn a_wrong_answer_is_shown_last() {
        let mut digits = expected();
        digits[300] = -1;
        let first = digits
            .iter()
            .zip(LABELS)
            .position(|(digit, label)| *digit != i32::from(*label))
            .unwrap();
        let chosen = choose(&digits);
        assert_eq!(chosen.len(), SHOWN);
        assert_eq!(chosen[SHOWN - 1], first);
        let labels: Vec<u8> = chosen[..SHOWN - 1].iter().map(|i| LABELS[*i]).collect();
        assert!(labels[0] != labels[1] && labels[1] != labels[2] && labels[0] != labels[2]);
    }
}
