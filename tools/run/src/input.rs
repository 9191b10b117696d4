// SPDX-License-Identifier: MIT OR Apache-2.0
//! What goes into a model: raw elements, an image, or an array of NumPy.

use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::builtin;
use crate::graph::Tensor;

/// The elements for the input tensor `to`, from a built-in sample or a file.
///
/// # Errors
///
/// The file cannot be read, is none of the formats, or has another size than the tensor.
pub fn read(name: &str, to: &Tensor) -> Result<Vec<i8>> {
    let named = || format!("the input {name}");
    let bytes = match builtin::sample(name, to) {
        Some(bytes) => bytes,
        None => fs::read(name).with_context(named)?,
    };
    elements(&bytes, to).with_context(named)
}

fn elements(bytes: &[u8], to: &Tensor) -> Result<Vec<i8>> {
    if bytes.starts_with(b"P5") || bytes.starts_with(b"P6") {
        return pixmap(bytes, to);
    }
    if bytes.starts_with(b"\x93NUMPY") {
        return numpy(bytes, to);
    }
    ensure!(
        bytes.len() == to.elements(),
        "it has {} bytes, and {to} takes {}",
        bytes.len(),
        to.elements()
    );
    Ok(bytes.iter().map(|&byte| byte as i8).collect())
}

/// Levels of grey or colour, 0 to 255, become -128 to 127: that is how image models of int8 take
/// them.
fn level(level: u8) -> i8 {
    (level ^ 0x80) as i8
}

/// A binary PGM or PPM of the size that the tensor has.
fn pixmap(bytes: &[u8], to: &Tensor) -> Result<Vec<i8>> {
    let channels = if bytes.starts_with(b"P5") { 1 } else { 3 };
    let mut rest = &bytes[2..];
    let mut head = [0; 3];
    for number in &mut head {
        *number = word(&mut rest).context("the head of a PGM or PPM is damaged")?;
    }
    let [width, height, most] = head;
    ensure!(most == 255, "levels to {most}; 255 is supported");
    // One byte of white space ends the head.
    let pixels = rest.get(1..).unwrap_or_default();
    let [_, rows, columns, depth] = to.dims();
    ensure!(
        (height, width, channels) == (rows, columns, depth) && to.elements() == pixels.len(),
        "an image of {width} by {height} with {channels} channels and {} bytes; {to} takes \
         {columns} by {rows} with {depth}",
        pixels.len()
    );
    Ok(pixels.iter().map(|&it| level(it)).collect())
}

/// The next number of a head, behind white space and comments.
fn word(rest: &mut &[u8]) -> Option<usize> {
    loop {
        let (first, after) = rest.split_first()?;
        if *first == b'#' {
            let end = rest.iter().position(|&byte| byte == b'\n')?;
            *rest = &rest[end..];
        } else if first.is_ascii_whitespace() {
            *rest = after;
        } else {
            break;
        }
    }
    let end = (rest.iter().position(|byte| !byte.is_ascii_digit())).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    *rest = after;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// An array of int8, which is taken as it is, uint8, which are levels, or float32, which is
/// quantised.
fn numpy(bytes: &[u8], to: &Tensor) -> Result<Vec<i8>> {
    let damaged = "the head of a .npy file is damaged";
    let (start, size): (usize, usize) = match bytes.get(6..12).context(damaged)? {
        [1, _, a, b, ..] => (10, usize::from(u16::from_le_bytes([*a, *b]))),
        [2 | 3, _, a, b, c, d] => (12, u32::from_le_bytes([*a, *b, *c, *d]) as usize),
        _ => bail!("a .npy file of an unknown version"),
    };
    let head = bytes
        .get(start..start.saturating_add(size))
        .context(damaged)?;
    let head = std::str::from_utf8(head).context(damaged)?;
    let data = &bytes[start + size..];
    let element = (head.split_once("'descr':"))
        .and_then(|(_, rest)| rest.split('\'').nth(1))
        .context(damaged)?;
    ensure!(
        head.contains("'fortran_order': False"),
        "an array in Fortran's order, which is not supported"
    );
    let width = match element {
        "|i1" | "|u1" => 1,
        "<f4" => 4,
        _ => bail!("an array of '{element}'; '|i1', '|u1' and '<f4' are supported"),
    };
    ensure!(
        data.len() == to.elements() * width,
        "an array with {} elements; {to} takes {}",
        data.len() / width,
        to.elements()
    );
    Ok(match element {
        "|i1" => data.iter().map(|&byte| byte as i8).collect(),
        "|u1" => data.iter().map(|&it| level(it)).collect(),
        _ => {
            let scale = to.scale()?;
            (data.chunks_exact(4))
                .map(|it| f32::from_le_bytes([it[0], it[1], it[2], it[3]]))
                // Saturates.
                .map(|real| ((real / scale).round() + to.zero_point as f32) as i8)
                .collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize]) -> Tensor {
        Tensor {
            shape: shape.to_vec(),
            scales: vec![0.5],
            zero_point: -3,
            ..Tensor::default()
        }
    }

    fn array(element: &str, data: &[u8]) -> Vec<u8> {
        let head = format!("{{'descr': '{element}', 'fortran_order': False, 'shape': (2,), }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((head.len() as u16).to_le_bytes());
        bytes.extend(head.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn raw_elements_are_taken_as_they_are() {
        assert_eq!(
            elements(&[0, 127, 255], &tensor(&[3])).unwrap(),
            [0, 127, -1]
        );
        let error = elements(&[0; 4], &tensor(&[3])).unwrap_err().to_string();
        assert!(
            error.contains("has 4 bytes") && error.contains("takes 3"),
            "{error}"
        );
    }

    #[test]
    fn pixels_are_centred() {
        let grey = b"P5\n# made by hand\n3 2 255\n\x00\x7f\x80\xff\x01\x02";
        let to = tensor(&[1, 2, 3, 1]);
        assert_eq!(elements(grey, &to).unwrap(), [-128, -1, 0, 127, -127, -126]);
        let colour = b"P6 1 2 255\n\x00\x7f\x80\xff\x01\x02";
        assert!(elements(colour, &to).is_err());
        let to = tensor(&[1, 2, 1, 3]);
        assert_eq!(
            elements(colour, &to).unwrap(),
            [-128, -1, 0, 127, -127, -126]
        );
        for damaged in [
            &b"P5"[..],
            b"P5 1 2",
            b"P5 1 x 255\n",
            b"P5 2 1 65535\n\0\0",
        ] {
            assert!(elements(damaged, &tensor(&[1, 1, 2, 1])).is_err());
        }
    }

    #[test]
    fn arrays_go_by_their_type() {
        let to = tensor(&[2]);
        assert_eq!(elements(&array("|i1", &[5, 0xff]), &to).unwrap(), [5, -1]);
        assert_eq!(
            elements(&array("|u1", &[5, 0xff]), &to).unwrap(),
            [-123, 127]
        );
        let reals: Vec<u8> = [1.0_f32, 1e9]
            .iter()
            .flat_map(|it| it.to_le_bytes())
            .collect();
        assert_eq!(elements(&array("<f4", &reals), &to).unwrap(), [-1, 127]);
        assert!(elements(&array("<f8", &reals), &to).is_err());
        assert!(elements(&array("|i1", &[5]), &to).is_err());
        for end in 6..array("|i1", &[]).len() {
            assert!(elements(&array("|i1", &[])[..end], &tensor(&[2])).is_err());
        }
    }
}
