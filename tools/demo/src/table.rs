// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text in columns, and numbers as people read them.

use std::fmt;

/// Rows under a heading; each column is as wide as its widest cell.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new(heading: &[&str]) -> Self {
        Self {
            rows: vec![heading.iter().map(|&cell| cell.to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub fn add(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        // A column of figures is easier to read from the right.
        let figures: Vec<bool> = (0..columns)
            .map(|column| {
                let mut cells = self.rows.iter().skip(1).filter_map(|row| row.get(column));
                cells.all(|cell| {
                    cell.chars()
                        .all(|c| c.is_ascii_digit() || ",.-".contains(c))
                })
            })
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), figure) in row.iter().zip(&widths).zip(&figures) {
                if *figure {
                    line += &format!("{cell:>width$}  ");
                } else {
                    line += &format!("{cell:<width$}  ");
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A number of bytes with a unit, exact where that is short.
pub fn bytes(count: u64) -> String {
    let mut unit = 0;
    let mut value = count;
    while unit < UNITS.len() - 1 && value >= 1024 && value % 1024 == 0 {
        value /= 1024;
        unit += 1;
    }
    format!("{} {}", grouped(value), UNITS[unit])
}

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// A number with a comma after every three digits.
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
    fn columns_line_up() {
        let mut table = Table::new(&["name", "n"]);
        table.add(vec!["a".into(), "1,000".into()]);
        table.add(vec!["longer".into(), "-".into()]);
        assert_eq!(
            table.to_string(),
            "name        n\na       1,000\nlonger      -\n"
        );
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(4096), "4 KiB");
        assert_eq!(bytes(4097), "4,097 B");
        assert_eq!(bytes(1 << 50), "1,024 TiB");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(123), "123");
    }
}
