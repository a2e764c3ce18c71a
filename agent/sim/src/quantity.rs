//! Kubernetes quantities, exact in units of a billionth, with the canonical form the API server stores.
//! The rules are those of the Kubernetes API reference, "Quantity".

/// How a quantity was written, which decides how its canonical form is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

/// One billionth, the smallest amount a quantity can say.
const UNIT: i128 = 1_000_000_000;

/// The amount in billionths; `None` where the text is not a quantity.
pub fn parse_nanos(text: &str) -> Option<i128> {
    parse(text).map(|(nanos, _)| nanos)
}

/// The amount in whole units, rounded up as Kubernetes rounds; 0 where the text is not a quantity.
pub fn units(text: &str) -> i64 {
    let nanos = parse_nanos(text).unwrap_or(0);
    i64::try_from(nanos.div_euclid(UNIT) + i128::from(nanos.rem_euclid(UNIT) > 0)).unwrap_or(i64::MAX)
}

/// The canonical form of a quantity: the largest suffix that leaves no fraction.
pub fn canonical(text: &str) -> Option<String> {
    let (nanos, format) = parse(text)?;
    Some(match format {
        Format::Binary if nanos.abs() >= 1024 * UNIT && nanos % UNIT == 0 => write_binary(nanos / UNIT),
        Format::Binary | Format::Decimal => write_decimal(nanos),
        Format::Exponent => write_exponent(nanos),
    })
}

fn parse(text: &str) -> Option<(i128, Format)> {
    let digits_end = text
        .char_indices()
        .find(|(index, letter)| !(letter.is_ascii_digit() || *letter == '.' || (*index == 0 && "+-".contains(*letter))))
        .map_or(text.len(), |(index, _)| index);
    let (number, suffix) = text.split_at(digits_end);
    let negative = number.starts_with('-');
    let number = number.trim_start_matches(['+', '-']);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 18 || fraction.len() > 18 {
        return None;
    }
    let (multiplier, divisor, format) = scale(suffix)?;
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = mantissa.checked_mul(multiplier)?.checked_mul(UNIT)?;
    let divisor = divisor.checked_mul(10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    // Less than a billionth is rounded up, away from zero, as the API server does.
    let nanos = scaled / divisor + i128::from(scaled % divisor != 0);
    Some((if negative { -nanos } else { nanos }, format))
}

fn scale(suffix: &str) -> Option<(i128, i128, Format)> {
    const DECIMAL: [(&str, u32); 7] = [("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((10_i128.pow(*power), 1, Format::Decimal));
    }
    if let Some(power) = BINARY.iter().position(|name| *name == suffix) {
        return Some((1024_i128.pow(power as u32 + 1), 1, Format::Binary));
    }
    match suffix {
        "m" => return Some((1, 1_000, Format::Decimal)),
        "u" => return Some((1, 1_000_000, Format::Decimal)),
        "n" => return Some((1, 1_000_000_000, Format::Decimal)),
        _ => {}
    }
    let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    match power {
        0..=18 => Some((10_i128.pow(power.unsigned_abs()), 1, Format::Exponent)),
        -9..=-1 => Some((1, 10_i128.pow(power.unsigned_abs()), Format::Exponent)),
        _ => None,
    }
}

fn write_decimal(nanos: i128) -> String {
    const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    let (mut amount, mut index) = (nanos, 0);
    if amount == 0 {
        return "0".to_owned();
    }
    while amount % 1000 == 0 && index + 1 < SUFFIXES.len() {
        amount /= 1000;
        index += 1;
    }
    format!("{amount}{}", SUFFIXES[index])
}

fn write_binary(whole: i128) -> String {
    const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let (mut amount, mut index) = (whole, 0);
    while amount % 1024 == 0 && amount != 0 && index + 1 < SUFFIXES.len() {
        amount /= 1024;
        index += 1;
    }
    format!("{amount}{}", SUFFIXES[index])
}

fn write_exponent(nanos: i128) -> String {
    let (mut amount, mut power) = (nanos, -9);
    if amount == 0 {
        return "0".to_owned();
    }
    while amount % 1000 == 0 {
        amount /= 1000;
        power += 3;
    }
    if power == 0 { amount.to_string() } else { format!("{amount}e{power}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_take_their_canonical_form() {
        for (written, stored) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("100000", "100k"),
            ("1e3", "1e3"),
            ("16Gi", "16Gi"),
            ("0", "0"),
            ("-2", "-2"),
        ] {
            assert_eq!(canonical(written).as_deref(), Some(stored), "{written}");
        }
        for wrong in ["", "x", "1.2.3", "5 Gi", "1Q", "e3"] {
            assert_eq!(canonical(wrong), None, "{wrong}");
        }
    }
}
