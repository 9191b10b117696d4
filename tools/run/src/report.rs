// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the program prints.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;

use crate::check;
use crate::graph::{Graph, Tensor};
use crate::lower::Plan;
use crate::run::{Difference, Outcome};

/// Elements of an output that are shown.
const MOST_SHOWN: usize = 5;

/// The layers as a table, with what the check found.
pub fn layers(
    graph: &Graph,
    plan: &Plan,
    outcome: &Outcome,
    differences: Option<&[Difference]>,
) -> String {
    let mut rows =
        vec![["#", "operator", "output", "commands", "products", "time"].map(String::from)];
    let mut checks = vec!["against the CPU".to_owned()];
    let mut products = 0;
    for (number, (operation, layer)) in graph.operations.iter().zip(&plan.layers).enumerate() {
        let to = &graph.tensors[operation.output];
        let shape: Vec<String> = to.shape.iter().map(usize::to_string).collect();
        rows.push([
            number.to_string(),
            operation.op.name().to_owned(),
            shape.join("x"),
            layer.commands.len().to_string(),
            grouped(layer.products),
            time(outcome.times.get(number).copied().unwrap_or_default()),
        ]);
        if let Some(difference) = differences.and_then(|it| it.get(number)) {
            checks.push(verdict(difference, to));
        }
        products += layer.products;
    }
    let commands: usize = plan.layers.iter().map(|layer| layer.commands.len()).sum();
    rows.push([
        String::new(),
        "all".to_owned(),
        String::new(),
        commands.to_string(),
        grouped(products),
        time(outcome.times.iter().sum()),
    ]);
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let [a, b, c, d, e, f] = row;
        let [wa, wb, wc, wd, we, wf] = widths;
        let mut line = format!("{a:>wa$}  {b:<wb$}  {c:<wc$}  {d:>wd$}  {e:>we$}  {f:>wf$}");
        if let (Some(check), true) = (checks.get(number), differences.is_some()) {
            line = format!("{line}  {check}");
        }
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn verdict(difference: &Difference, to: &Tensor) -> String {
    let Difference {
        greatest,
        count,
        tolerance,
    } = difference;
    match (count, greatest > tolerance) {
        (0, _) => "equal".to_owned(),
        (_, false) => format!("{count} of {} off by {greatest}", to.elements()),
        (_, true) => format!(
            "WRONG: {count} of {} off by up to {greatest}, {tolerance} is allowed",
            to.elements()
        ),
    }
}

/// The greatest elements of an output, as real numbers.
pub fn output(tensor: &Tensor, elements: &[i8], labels: &[&str]) -> Result<String> {
    let scale = tensor.scale()?;
    let mut order: Vec<usize> = (0..elements.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(elements[i]));
    let mut text = format!("{tensor}\n");
    for &i in order.iter().take(MOST_SHOWN) {
        let label = labels.get(i).map_or(i.to_string(), |it| (*it).to_owned());
        let real = scale * (f32::from(elements[i]) - tensor.zero_point as f32);
        let _ = writeln!(text, "  {label:<10}  {real:>8.4}  ({})", elements[i]);
    }
    if elements.len() > MOST_SHOWN {
        let _ = writeln!(text, "  and {} less", elements.len() - MOST_SHOWN);
    }
    Ok(text)
}

/// How an output of a run differs from that of a run on the CPU alone.
pub fn end_to_end(npu: &[i8], cpu: &[i8]) -> String {
    match check::difference(npu, cpu) {
        (_, 0) => "equal to a whole run on the CPU".to_owned(),
        (greatest, count) => format!(
            "a whole run on the CPU gives {count} of {} others, off by up to {greatest}",
            npu.len()
        ),
    }
}

fn time(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// A number with its digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i != 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let texts = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn differences_are_judged() {
        let to = Tensor {
            shape: vec![4],
            ..Tensor::default()
        };
        let said = |greatest, count| {
            let difference = Difference {
                greatest,
                count,
                tolerance: 1,
            };
            verdict(&difference, &to)
        };
        assert_eq!(said(0, 0), "equal");
        assert_eq!(said(1, 3), "3 of 4 off by 1");
        assert!(said(2, 1).starts_with("WRONG"));
    }
}
