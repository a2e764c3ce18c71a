//! Kubernetes resource quantities, exact: `500m`, `16Gi`, `1e3`, `0.5`.
//!
//! Grammar and canonical form: apimachinery `resource.Quantity`. The value is held as nano-units in 128 bits, so every
//! legal quantity is exact; what is finer than a nano-unit is rounded up (away from zero), as Kubernetes does.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    fmt,
    iter::Sum,
    ops::{Add, Sub},
    str::FromStr,
};

const NANOS_PER_UNIT: i128 = 1_000_000_000;
/// Kubernetes caps a quantity at 2^63 - 1 units.
const MAX_UNITS: i128 = i64::MAX as i128;

/// An amount of a resource in units (cores, bytes, devices).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Quantity {
    nanos: i128,
}

/// The text is not a quantity, or beyond 2^63 - 1.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseQuantityError {
    /// Not the grammar of `resource.Quantity`.
    #[error("{0:?} is not a quantity such as 500m, 2 or 16Gi")]
    Malformed(String),
    /// Larger than Kubernetes can hold.
    #[error("{0:?} is beyond 2^63-1")]
    Overflow(String),
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0 };

    /// A whole number of units.
    pub const fn from_units(units: i64) -> Self {
        Self { nanos: units as i128 * NANOS_PER_UNIT }
    }

    /// Thousandths of a unit, as CPU is usually counted.
    pub const fn from_millis(millis: i64) -> Self {
        Self { nanos: millis as i128 * 1_000_000 }
    }

    /// Whole units, rounded up: Kubernetes' `Value()`.
    pub fn units(self) -> i64 {
        clamp(div_ceil(self.nanos, NANOS_PER_UNIT))
    }

    /// Thousandths, rounded up: Kubernetes' `MilliValue()`.
    pub fn millis(self) -> i64 {
        clamp(div_ceil(self.nanos, 1_000_000))
    }

    /// The exact value in nano-units.
    pub const fn nanos(self) -> i128 {
        self.nanos
    }

    /// Whether the amount is below zero, which no request or limit may be.
    pub const fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// The amount times a count; `None` past what a quantity can hold.
    pub fn checked_mul(self, count: i64) -> Option<Self> {
        let nanos = self.nanos.checked_mul(i128::from(count))?;
        (nanos.abs() <= MAX_UNITS * NANOS_PER_UNIT).then_some(Self { nanos })
    }
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// Division rounded away from zero.
fn div_ceil(value: i128, by: i128) -> i128 {
    let quotient = value / by;
    if value % by == 0 { quotient } else { quotient + value.signum() }
}

impl Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_add(other.nanos) }
    }
}

impl Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_sub(other.nanos) }
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || ParseQuantityError::Malformed(text.to_owned());
        let overflow = || ParseQuantityError::Overflow(text.to_owned());
        let (sign, body) = match text.as_bytes().first() {
            Some(b'-') => (-1, &text[1..]),
            Some(b'+') => (1, &text[1..]),
            _ => (1, text),
        };
        let digits_end = body.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(body.len());
        let (number, suffix) = body.split_at(digits_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || text.len() > 64 {
            return Err(malformed());
        }
        let (base, exponent): (i128, i32) = match suffix {
            "" => (10, 0),
            "n" => (10, -9),
            "u" => (10, -6),
            "m" => (10, -3),
            "k" => (10, 3),
            "M" => (10, 6),
            "G" => (10, 9),
            "T" => (10, 12),
            "P" => (10, 15),
            "E" => (10, 18),
            "Ki" => (1024, 1),
            "Mi" => (1024, 2),
            "Gi" => (1024, 3),
            "Ti" => (1024, 4),
            "Pi" => (1024, 5),
            "Ei" => (1024, 6),
            _ => {
                let power = suffix.strip_prefix(['e', 'E']).ok_or_else(malformed)?;
                (10, power.parse().map_err(|_| malformed())?)
            }
        };
        if exponent.abs() > 40 {
            return Err(overflow());
        }
        // mantissa × base^exponent × 10^9, divided by 10^(digits after the point)
        let mantissa: i128 = format!("0{whole}{fraction}").parse().map_err(|_| overflow())?;
        let mut numerator = mantissa;
        let mut shift = 9 - i32::try_from(fraction.len()).map_err(|_| malformed())?;
        if base == 1024 {
            numerator = numerator.checked_mul(1024_i128.pow(exponent.unsigned_abs())).ok_or_else(overflow)?;
        } else {
            shift += exponent;
        }
        let magnitude = if shift >= 0 {
            10_i128
                .checked_pow(shift.unsigned_abs())
                .and_then(|scale| numerator.checked_mul(scale))
                .or_else(|| (numerator == 0).then_some(0))
                .ok_or_else(overflow)?
        } else {
            match 10_i128.checked_pow(shift.unsigned_abs()) {
                Some(scale) => div_ceil(numerator, scale),
                None => i128::from(numerator > 0),
            }
        };
        if magnitude > MAX_UNITS * NANOS_PER_UNIT {
            return Err(overflow());
        }
        Ok(Self { nanos: sign * magnitude })
    }
}

impl fmt::Display for Quantity {
    /// The shortest of the usual forms: binary suffixes for whole multiples of 1024, else decimal ones.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos % NANOS_PER_UNIT == 0 {
            let units = self.nanos / NANOS_PER_UNIT;
            let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
            let (mut value, mut suffix) = (units, "");
            for name in binary {
                if value == 0 || value % 1024 != 0 {
                    break;
                }
                value /= 1024;
                suffix = name;
            }
            return write!(f, "{value}{suffix}");
        }
        for (scale, suffix) in [(1_000_000, "m"), (1_000, "u"), (1, "n")] {
            if self.nanos % scale == 0 {
                return write!(f, "{}{suffix}", self.nanos / scale);
            }
        }
        unreachable!("every value is a whole number of nano-units")
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    /// Reads a string or a bare number, as the Kubernetes API does.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text.parse().map_err(serde::de::Error::custom),
            serde_json::Value::Number(number) => number.to_string().parse().map_err(serde::de::Error::custom),
            other => Err(serde::de::Error::custom(format!("{other} is not a quantity"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanos(text: &str) -> Option<i128> {
        text.parse::<Quantity>().ok().map(Quantity::nanos)
    }

    #[test]
    fn quantities_read_as_kubernetes_reads_them() {
        let cases = [
            ("0", Some(0)),
            ("1", Some(1_000_000_000)),
            ("500m", Some(500_000_000)),
            ("0.5", Some(500_000_000)),
            (".5", Some(500_000_000)),
            ("5.", Some(5_000_000_000)),
            ("-1", Some(-1_000_000_000)),
            ("1Ki", Some(1_024_000_000_000)),
            ("1.5Gi", Some(1_610_612_736_000_000_000)),
            ("1e3", Some(1_000_000_000_000)),
            ("1E3", Some(1_000_000_000_000)),
            ("1E", Some(1_000_000_000_000_000_000_000_000_000)),
            ("1n", Some(1)),
            ("0.1n", Some(1)),
            ("9223372036854775807", Some(9_223_372_036_854_775_807_000_000_000)),
            ("9223372036854775808", None),
            ("8Ei", None),
            ("1e99", None),
            ("", None),
            ("-", None),
            ("1 Gi", None),
            ("1gi", None),
            ("1.2.3", None),
            ("1e", None),
        ];
        for (text, expected) in cases {
            assert_eq!(nanos(text), expected, "{text}");
        }
    }

    #[test]
    fn a_quantity_prints_in_its_usual_form() {
        for (text, printed) in [("1024Mi", "1Gi"), ("0.5", "500m"), ("1000", "1000"), ("2", "2"), ("0", "0"), ("1500u", "1500u")]
        {
            assert_eq!(text.parse::<Quantity>().map(|quantity| quantity.to_string()), Ok(printed.to_owned()));
        }
    }

    #[test]
    fn rounding_goes_up_as_in_kubernetes() {
        let quantity: Quantity = "1500u".parse().expect("legal");
        assert_eq!((quantity.units(), quantity.millis()), (1, 2));
        let negative: Quantity = "-1500u".parse().expect("legal");
        assert_eq!((negative.units(), negative.millis()), (-1, -2));
    }

    #[test]
    fn a_product_past_the_range_is_none() {
        assert_eq!(Quantity::from_units(i64::MAX).checked_mul(2), None);
        assert_eq!(Quantity::from_millis(500).checked_mul(3), Some(Quantity::from_millis(1500)));
    }
}
