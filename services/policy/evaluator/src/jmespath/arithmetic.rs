//! Kyverno's arithmetic: numbers with numbers, quantities with quantities, durations with durations; the latter two also
//! times or divided by a number.

use super::functions::{Answer, fail, ok};
use super::number::number;
use muster_core::{duration, quantity::Quantity};
use serde_json::Value;

pub const NAMES: &[&str] = &["add", "divide", "modulo", "multiply", "round", "subtract", "sum"];

#[derive(Clone, Copy)]
enum Operand {
    Scalar(f64),
    Quantity(Quantity),
    /// Nanoseconds.
    Duration(i64),
}

const NANOS: f64 = 1e9;

pub fn call(name: &str, args: &[&Value]) -> Answer {
    match (name, args) {
        ("add" | "subtract" | "multiply" | "divide" | "modulo", [a, b]) => {
            let (Some(a), Some(b)) = (operand(a), operand(b)) else { return fail(format!("{name}: invalid operands")) };
            Some(combined(name, a, b).map(written).map_err(super::JmesError::failed))
        }
        ("sum", [Value::Array(items)]) => {
            let Some((first, rest)) = items.split_first() else { return fail("sum: there is nothing to sum up") };
            let Some(mut total) = operand(first) else { return fail("sum: invalid operands") };
            if rest.is_empty() {
                return ok(first.clone());
            }
            for item in rest {
                let Some(item) = operand(item) else { return fail("sum: invalid operands") };
                match combined("add", total, item) {
                    Ok(sum) => total = sum,
                    Err(error) => return fail(error),
                }
            }
            ok(written(total))
        }
        ("round", [value, places]) => {
            let (value, places) = (value.as_f64()?, places.as_f64()?);
            if places.fract() != 0.0 || !(0.0..=300.0).contains(&places) {
                return fail("round: the places are a whole number from 0 on");
            }
            let shift = 10_f64.powi(places as i32);
            ok(number((value * shift).round() / shift))
        }
        _ => None,
    }
}

fn operand(value: &Value) -> Option<Operand> {
    match value {
        Value::Number(found) => found.as_f64().map(Operand::Scalar),
        Value::String(text) => {
            text.parse().map(Operand::Quantity).ok().or_else(|| duration::parse_nanos(text).ok().map(Operand::Duration))
        }
        _ => None,
    }
}

fn written(operand: Operand) -> Value {
    match operand {
        Operand::Scalar(value) => number(value),
        Operand::Quantity(quantity) => quantity.to_string().into(),
        Operand::Duration(nanos) => go_duration(nanos).into(),
    }
}

fn combined(name: &str, a: Operand, b: Operand) -> Result<Operand, String> {
    use Operand::{Duration, Quantity as Amount, Scalar};
    let zero = || Err(format!("{name}: the divisor is zero"));
    match (name, a, b) {
        ("divide", _, Scalar(0.0)) => zero(),
        ("divide", Amount(_), Amount(Quantity::ZERO)) | ("divide" | "modulo", Duration(_), Duration(0)) => zero(),
        ("add", Scalar(a), Scalar(b)) => Ok(Scalar(a + b)),
        ("subtract", Scalar(a), Scalar(b)) => Ok(Scalar(a - b)),
        ("multiply", Scalar(a), Scalar(b)) => Ok(Scalar(a * b)),
        ("divide", Scalar(a), Scalar(b)) => Ok(Scalar(a / b)),
        ("modulo", Scalar(a), Scalar(b)) => remainder(name, a, b).map(Scalar),
        ("add", Amount(a), Amount(b)) => Ok(Amount(a + b)),
        ("subtract", Amount(a), Amount(b)) => Ok(Amount(a - b)),
        ("divide", Amount(a), Amount(b)) => Ok(Scalar(a.nanos() as f64 / b.nanos() as f64)),
        ("modulo", Amount(a), Amount(b)) => {
            let rest = remainder(name, a.nanos() as f64 / NANOS, b.nanos() as f64 / NANOS)?;
            Ok(Amount(Quantity::from_units(rest as i64)))
        }
        ("multiply", Amount(amount), Scalar(by)) | ("multiply", Scalar(by), Amount(amount)) => {
            scaled(name, amount, by).map(Amount)
        }
        ("divide", Amount(amount), Scalar(by)) => scaled(name, amount, 1.0 / by).map(Amount),
        ("add", Duration(a), Duration(b)) => Ok(Duration(a.saturating_add(b))),
        ("subtract", Duration(a), Duration(b)) => Ok(Duration(a.saturating_sub(b))),
        ("divide", Duration(a), Duration(b)) => Ok(Scalar(a as f64 / b as f64)),
        ("modulo", Duration(a), Duration(b)) => Ok(Duration(a.wrapping_rem(b))),
        ("multiply", Duration(nanos), Scalar(by)) | ("multiply", Scalar(by), Duration(nanos)) => {
            Ok(Duration((nanos as f64 * by) as i64))
        }
        ("divide", Duration(nanos), Scalar(by)) => Ok(Duration((nanos as f64 / by) as i64)),
        _ => Err(format!("{name}: types mismatch")),
    }
}

fn remainder(name: &str, a: f64, b: f64) -> Result<f64, String> {
    if a.fract() != 0.0 || b.fract() != 0.0 {
        return Err(format!("{name}: a number is not whole"));
    }
    if b == 0.0 { Err(format!("{name}: the divisor is zero")) } else { Ok(a % b) }
}

fn scaled(name: &str, amount: Quantity, by: f64) -> Result<Quantity, String> {
    let nanos = amount.nanos() as f64 * by;
    let text = if (nanos % NANOS).abs() < 0.5 { format!("{:.0}", nanos / NANOS) } else { format!("{nanos:.0}n") };
    text.parse().map_err(|error| format!("{name}: {error}"))
}

/// A duration as Go prints it: `1h0m0s`, `1.5s`, `250ms`.
pub fn go_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let trimmed = |value: f64, unit: &str| format!("{sign}{value}{unit}");
    match nanos {
        0 => "0s".to_owned(),
        1..=999 => format!("{sign}{nanos}ns"),
        1_000..=999_999 => trimmed(nanos as f64 / 1e3, "µs"),
        1_000_000..=999_999_999 => trimmed(nanos as f64 / 1e6, "ms"),
        _ => {
            let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
            let (hours, minutes) = (minutes / 60, minutes % 60);
            let fraction = format!("{:09}", rest % 1_000_000_000);
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() { "" } else { "." };
            let seconds = format!("{}{point}{fraction}s", rest / 1_000_000_000);
            match (hours, minutes) {
                (0, 0) => format!("{sign}{seconds}"),
                (0, _) => format!("{sign}{minutes}m{seconds}"),
                _ => format!("{sign}{hours}h{minutes}m{seconds}"),
            }
        }
    }
}
