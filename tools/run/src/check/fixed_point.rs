// SPDX-License-Identifier: MIT OR Apache-2.0
//! Multiplying integers by a real factor as TensorFlow Lite does.

/// A factor: `multiplier / 2^31 * 2^exponent`, the multiplier with 31 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor {
    multiplier: i32,
    exponent: i32,
}

impl Factor {
    /// The nearest to a factor that is a positive number.
    pub fn new(factor: f64) -> Self {
        let mut exponent = 0;
        let mut fraction = factor;
        while fraction >= 1.0 {
            fraction /= 2.0;
            exponent += 1;
        }
        while fraction < 0.5 && exponent > -32 {
            fraction *= 2.0;
            exponent -= 1;
        }
        let rounded = (fraction * 2_f64.powi(31)).round();
        if exponent < -31 {
            // Nothing that has 32 bits is left of such a factor.
            Self {
                multiplier: 0,
                exponent: 0,
            }
        } else if rounded >= 2_f64.powi(31) {
            Self {
                multiplier: 1 << 30,
                exponent: exponent + 1,
            }
        } else {
            Self {
                multiplier: rounded as i32,
                exponent,
            }
        }
    }

    /// The product with an integer, rounded twice: to an integer after the multiplication, and
    /// again after the division by a power of two.
    pub fn of(self, value: i32) -> i32 {
        let left = self.exponent.max(0) as u32;
        let right = (-self.exponent).max(0) as u32;
        divide(high(value.wrapping_shl(left), self.multiplier), right)
    }
}

/// The upper half of the doubled product, to nearest, ties upwards.
fn high(a: i32, b: i32) -> i32 {
    let product = i64::from(a) * i64::from(b);
    let half = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
    // Towards 0; b is not negative, so it fits.
    ((product + half) / (1 << 31)) as i32
}

/// `value / 2^by`, to nearest, ties away from 0.
fn divide(value: i32, by: u32) -> i32 {
    let (value, half) = (i64::from(value), (1_i64 << by) >> 1);
    let size = (value.abs() + half) >> by;
    (size * value.signum()) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_have_31_bits() {
        let factor = |multiplier, exponent| Factor {
            multiplier,
            exponent,
        };
        assert_eq!(Factor::new(0.5), factor(1 << 30, 0));
        assert_eq!(Factor::new(1.0), factor(1 << 30, 1));
        assert_eq!(Factor::new(3.0), factor(3 << 29, 2));
        assert_eq!(Factor::new(2_f64.powi(-31)), factor(1 << 30, -30));
        assert_eq!(Factor::new(1e-30), factor(0, 0));
        assert_eq!(Factor::new(1.0 - 2_f64.powi(-40)), factor(1 << 30, 1));
    }

    #[test]
    fn ties_go_away_from_zero() {
        let half = Factor::new(0.5);
        assert_eq!([1, 2, 3, 5].map(|it| half.of(it)), [1, 1, 2, 3]);
        // The first step rounds ties upwards, and it has done all the rounding.
        assert_eq!([-1, -2, -3, -5].map(|it| half.of(it)), [0, -1, -1, -2]);
        let quarter = Factor::new(0.25);
        assert_eq!([2, 6, -4, -12].map(|it| quarter.of(it)), [1, 2, -1, -3]);
        assert_eq!(divide(6, 2), 2);
        assert_eq!(divide(-6, 2), -2);
        assert_eq!(divide(-5, 2), -1);
        assert_eq!(divide(7, 0), 7);
    }
}
