// SPDX-License-Identifier: MIT OR Apache-2.0
//! Images as text.

/// Rows and columns of an image.
pub const SIDE: usize = 8;

/// Bytes of an image: grey levels from 0 to 16.
pub const IMAGE: usize = SIDE * SIDE;

/// From paper to ink. A level has two of them, since characters are high and narrow.
const LEVELS: &[u8] = b" .:-=+*#%@";

/// The greatest grey level.
const BLACK: usize = 16;

/// Between two images.
const GAP: &str = "   ";

/// Images side by side, each with its caption below.
pub fn draw(images: &[(&[u8], String)]) -> String {
    let width = 2 * SIDE;
    let mut lines: Vec<String> = (0..SIDE)
        .map(|row| {
            let parts = images.iter().map(|(image, _)| {
                let pixels = image.iter().skip(row * SIDE).take(SIDE);
                pixels.map(|level| ink(*level)).collect::<String>()
            });
            parts.collect::<Vec<_>>().join(GAP)
        })
        .collect();
    let captions = images
        .iter()
        .map(|(_, caption)| format!("{caption:<width$}"));
    lines.push(captions.collect::<Vec<_>>().join(GAP));
    lines
        .iter()
        .map(|line| format!("  {line}").trim_end().to_owned() + "\n")
        .collect()
}

fn ink(level: u8) -> String {
    let index = usize::from(level).min(BLACK) * (LEVELS.len() - 1) / BLACK;
    char::from(LEVELS[index]).to_string().repeat(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_from_paper_to_ink() {
        assert_eq!(ink(0), "  ");
        assert_eq!(ink(8), "==");
        assert_eq!(ink(16), "@@");
        assert_eq!(ink(255), "@@");
    }

    #[test]
    fn images_stand_side_by_side() {
        let mut one = [0; IMAGE];
        one[0] = 16;
        one[63] = 16;
        let text = draw(&[(&one, "1".into()), (&one, "is 7, says 1".into())]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 9);
        assert_eq!(lines[0], format!("  @@{}@@", " ".repeat(17)));
        assert_eq!(lines[1], "");
        assert_eq!(lines[7].len(), 2 + 16 + 3 + 16);
        assert_eq!(lines[8], format!("  1{}is 7, says 1", " ".repeat(18)));
    }
}
