// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the figures have to be.

use std::fmt::Write as _;

use crate::figures::Figures;
use crate::{kernel, operations};

/// A goal.
pub struct Goal {
    pub what: &'static str,
    pub figure: &'static str,
    pub limit: Limit,
}

/// How a figure is judged.
pub enum Limit {
    /// At most this many thousandths of the peer's figure.
    Of(&'static str, u64),
    /// At most this.
    Absolute(u64),
}

/// Goals for medians of the core.
pub const GOALS: [Goal; 5] = [
    Goal {
        what: "driver's ioctl / DRM GET_CAP",
        figure: operations::ADD,
        limit: Limit::Of(operations::DRM_GET_CAP, 750),
    },
    Goal {
        what: "INFO identity / DRM VERSION",
        figure: operations::IDENTITY,
        limit: Limit::Of(operations::DRM_VERSION, 1000),
    },
    Goal {
        what: "open+close / DRM render",
        figure: operations::OPEN,
        limit: Limit::Of(operations::OPEN_DRM, 300),
    },
    Goal {
        what: "register+unregister, 1,024th / 16th",
        figure: kernel::REGISTER_1024,
        limit: Limit::Of(kernel::REGISTER_16, 1100),
    },
    Goal {
        what: "guard, instructions",
        figure: kernel::GUARD,
        limit: Limit::Absolute(40),
    },
];

/// One goal, judged.
struct Gate {
    what: &'static str,
    goal: String,
    /// Without one, the name of the figure that is missing.
    result: Result<Judged, &'static str>,
}

struct Judged {
    figure: u64,
    peer: Option<u64>,
    passed: bool,
}

/// All goals, judged.
pub struct Gates(Vec<Gate>);

/// Holds the figures against the goals.
pub fn judge(figures: &Figures, goals: &[Goal]) -> Gates {
    let judge = |goal: &Goal| -> Result<Judged, &'static str> {
        let figure = figures.median(goal.figure).ok_or(goal.figure)?;
        let (peer, passed) = match goal.limit {
            Limit::Of(peer, thousandths) => {
                let peer = figures.median(peer).ok_or(peer)?;
                // A peer that costs nothing was not measured.
                (Some(peer), peer != 0 && within(figure, peer, thousandths))
            }
            Limit::Absolute(limit) => (None, figure <= limit),
        };
        Ok(Judged {
            figure,
            peer,
            passed,
        })
    };
    Gates(
        goals
            .iter()
            .map(|goal| Gate {
                what: goal.what,
                goal: match goal.limit {
                    Limit::Of(_, thousandths) => {
                        format!("<= {}.{:02}", thousandths / 1000, thousandths % 1000 / 10)
                    }
                    Limit::Absolute(limit) => format!("<= {limit}"),
                },
                result: judge(goal),
            })
            .collect(),
    )
}

/// Whether `figure` is at most that part of `peer`; exact, where floats round.
fn within(figure: u64, peer: u64, thousandths: u64) -> bool {
    u128::from(figure) * 1000 <= u128::from(peer) * u128::from(thousandths)
}

impl Gates {
    /// Whether every goal was measured and met.
    pub fn all_passed(&self) -> bool {
        let passed = |gate: &Gate| gate.result.as_ref().is_ok_and(|judged| judged.passed);
        self.0.iter().all(passed)
    }

    /// The table of all.
    pub fn table(&self) -> String {
        let mut table = format!(
            "{:<36} {:>8} {:>7} {:>9} {:>9}  outcome\n",
            "gate", "goal", "is", "figure", "peer"
        );
        for Gate { what, goal, result } in &self.0 {
            // Writing to a string does not fail.
            let _ = match result {
                Ok(Judged {
                    figure,
                    peer,
                    passed,
                }) => {
                    let is = peer.map_or(figure.to_string(), |peer| {
                        format!("{:.3}", *figure as f64 / peer as f64)
                    });
                    let peer = peer.map_or("-".into(), |peer| peer.to_string());
                    let outcome = if *passed { "pass" } else { "MISS" };
                    writeln!(
                        table,
                        "{what:<36} {goal:>8} {is:>7} {figure:>9} {peer:>9}  {outcome}"
                    )
                }
                // The table of figures says why.
                Err(name) => writeln!(
                    table,
                    "{what:<36} {goal:>8} {:>7} {:>9} {:>9}  MISS: no figure for \"{name}\"",
                    "-", "-", "-"
                ),
            };
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figure;

    fn figures(values: &[(&str, u64)]) -> Figures {
        let mut figures = Figures::default();
        for (name, value) in values {
            figures.add(name, Ok(Figure::single(*value)));
        }
        figures
    }

    const GOOD: [(&str, u64); 9] = [
        (operations::ADD, 75),
        (operations::DRM_GET_CAP, 100),
        (operations::IDENTITY, 898),
        (operations::DRM_VERSION, 898),
        (operations::OPEN, 5740),
        (operations::OPEN_DRM, 19_135),
        (kernel::REGISTER_16, 1000),
        (kernel::REGISTER_1024, 1100),
        (kernel::GUARD, 40),
    ];

    #[test]
    fn limits_are_inclusive() {
        let gates = judge(&figures(&GOOD), &GOALS);
        assert!(gates.all_passed(), "{}", gates.table());
        assert_eq!(gates.table().matches("pass").count(), 5);
    }

    #[test]
    fn one_too_many_is_a_miss() {
        for name in [
            operations::ADD,
            operations::IDENTITY,
            operations::OPEN,
            kernel::REGISTER_1024,
            kernel::GUARD,
        ] {
            let mut values = GOOD;
            for value in &mut values {
                value.1 += u64::from(value.0 == name);
            }
            let gates = judge(&figures(&values), &GOALS);
            assert!(!gates.all_passed(), "{name}");
            assert_eq!(gates.table().matches("MISS").count(), 1, "{name}");
        }
    }

    #[test]
    fn what_was_not_measured_is_a_miss() {
        for missing in 0..GOOD.len() {
            let mut values = GOOD.to_vec();
            values.remove(missing);
            assert!(!judge(&figures(&values), &GOALS).all_passed());
        }
    }
}
