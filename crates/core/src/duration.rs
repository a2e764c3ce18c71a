//! Durations as Go and Kubernetes write them: `300ms`, `1.5h`, `2h45m`, `-10s`, `0`.
//!
//! The grammar is that of Go's `time.ParseDuration`; the range is that of 64-bit nanoseconds (about 292 years).

use std::time::Duration;

/// The text is not a duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a duration such as 30s, 5m or 1h30m")]
pub struct ParseDurationError {
    text: String,
}

/// The signed length in nanoseconds.
pub fn parse_nanos(text: &str) -> Result<i64, ParseDurationError> {
    nanos(text).ok_or_else(|| ParseDurationError { text: text.to_owned() })
}

/// A duration of zero or more; a negative one is an error.
pub fn parse(text: &str) -> Result<Duration, ParseDurationError> {
    let nanos = parse_nanos(text)?;
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| ParseDurationError { text: text.to_owned() })
}

fn nanos(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number = &rest[..digits];
        rest = &rest[digits..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit: i128 = match &rest[..unit_end] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        rest = &rest[unit_end..];
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 30 {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?;
        let mut place = unit;
        for digit in fraction.bytes() {
            place /= 10;
            total = total.checked_add(i128::from(digit - b'0') * place)?;
        }
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// Writes a duration the way it would be typed: `1h30m`, `45s`, `250ms`.
pub fn format(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let millis = duration.subsec_millis();
    if seconds == 0 {
        return format!("{millis}ms");
    }
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = String::new();
    if hours > 0 {
        text.push_str(&format!("{hours}h"));
    }
    if minutes > 0 {
        text.push_str(&format!("{minutes}m"));
    }
    if millis > 0 {
        text.push_str(&format!("{rest}.{millis:03}s"));
    } else if rest > 0 {
        text.push_str(&format!("{rest}s"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_reads_them() {
        let cases = [
            ("0", Some(0)),
            ("5m", Some(300_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("2h45m", Some(9_900_000_000_000)),
            ("-10s", Some(-10_000_000_000)),
            (".5s", Some(500_000_000)),
            ("1us", Some(1_000)),
            ("5", None),
            ("", None),
            ("s", None),
            ("1d", None),
            ("1..5s", None),
            ("99999999999h", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_nanos(text).ok(), expected, "{text}");
        }
        assert!(parse("-1s").is_err());
    }

    #[test]
    fn durations_print_as_people_type_them() {
        assert_eq!(format(Duration::from_secs(5_400)), "1h30m");
        assert_eq!(format(Duration::from_millis(250)), "250ms");
        assert_eq!(format(Duration::from_millis(1_250)), "1.250s");
    }
}
