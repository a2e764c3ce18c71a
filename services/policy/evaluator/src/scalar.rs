//! One value against one scalar of a pattern: operators, wildcards, ranges, quantities, durations.
//!
//! The order of comparison is Kyverno's: as durations if both are, else as quantities if both are, else as text with
//! wildcards. A missing value counts as `0` where numbers are compared, and equals no text.

use crate::wildcard;
use muster_core::{duration, quantity::Quantity};
use regex::Regex;
use serde_json::{Number, Value};
use std::{borrow::Cow, cmp::Ordering, sync::LazyLock};

/// How a condition of a string pattern compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    More,
    MoreEqual,
    Less,
    LessEqual,
}

/// One end of a range: a number with an optional unit.
const END: &str = r"([-+]?\d+(?:\.\d+)?[A-Za-z]*)";
static IN_RANGE: LazyLock<Regex> = LazyLock::new(|| Regex::new(&format!("^{END}-{END}$")).expect("a fixed expression"));
static NOT_IN_RANGE: LazyLock<Regex> = LazyLock::new(|| Regex::new(&format!("^{END}!-{END}$")).expect("a fixed expression"));

/// A scalar of a pattern, read once.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    written: Value,
    alternatives: Vec<Vec<Condition>>,
}

/// One comparison of a string pattern.
#[derive(Debug, Clone, PartialEq)]
enum Condition {
    Compare(Operator, Operand),
    Within(Operand, Operand),
    Without(Operand, Operand),
}

/// What is compared with.
#[derive(Debug, Clone, PartialEq)]
struct Operand {
    text: String,
    duration: Option<i64>,
    quantity: Option<Quantity>,
}

impl Operand {
    fn read(text: &str) -> Self {
        Self { text: text.to_owned(), duration: duration::parse_nanos(text).ok(), quantity: text.parse().ok() }
    }
}

impl Scalar {
    /// Reads a scalar.
    pub fn compile(pattern: &Value) -> Self {
        let alternatives = match pattern {
            Value::String(text) => text.split('|').map(alternative).collect(),
            _ => Vec::new(),
        };
        Self { written: pattern.clone(), alternatives }
    }

    /// As it is written.
    pub fn written(&self) -> &Value {
        &self.written
    }

    /// Whether the value (`Null` where the field is missing) satisfies it.
    pub fn matches(&self, value: &Value) -> bool {
        match &self.written {
            Value::Bool(wanted) => value == &Value::Bool(*wanted),
            Value::Number(wanted) => number_matches(value, wanted),
            Value::Null => is_zero(value),
            Value::String(text) => {
                value.as_str() == Some(text)
                    || self.alternatives.iter().any(|all| all.iter().all(|condition| condition.holds(value)))
            }
            Value::Object(_) => value.is_object(),
            Value::Array(_) => false,
        }
    }
}

/// Whether the value satisfies a pattern that is no list and is needed once.
pub fn matches(value: &Value, pattern: &Value) -> bool {
    Scalar::compile(pattern).matches(value)
}

/// Whether a text asks for a range, as `10-20`.
pub fn is_range(text: &str) -> bool {
    IN_RANGE.is_match(text)
}

fn number_matches(value: &Value, wanted: &Number) -> bool {
    match (value, wanted.as_i64()) {
        (Value::Number(number), Some(wanted)) => {
            number.as_i64().map_or_else(|| number.as_f64() == Some(wanted as f64), |number| number == wanted)
        }
        (Value::Number(number), None) => number.as_f64() == wanted.as_f64(),
        (Value::String(text), _) => text.parse::<f64>().ok().is_some_and(|number| Some(number) == wanted.as_f64()),
        _ => false,
    }
}

/// What a `null` pattern asks: the field is missing or holds its type's zero.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    }
}

fn alternative(text: &str) -> Vec<Condition> {
    text.trim_matches(' ').split('&').map(|each| Condition::read(each.trim_matches(' '))).collect()
}

impl Condition {
    fn read(condition: &str) -> Self {
        let (operator, operand) = split_operator(condition);
        if operator == Operator::Equal {
            if let Some(ends) = NOT_IN_RANGE.captures(condition) {
                return Self::Without(Operand::read(&ends[1]), Operand::read(&ends[2]));
            }
            if let Some(ends) = IN_RANGE.captures(condition) {
                return Self::Within(Operand::read(&ends[1]), Operand::read(&ends[2]));
            }
        }
        Self::Compare(operator, Operand::read(operand.trim()))
    }

    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Compare(operator, operand) => compare(value, operand, *operator),
            Self::Within(low, high) => compare(value, low, Operator::MoreEqual) && compare(value, high, Operator::LessEqual),
            Self::Without(low, high) => compare(value, low, Operator::Less) || compare(value, high, Operator::More),
        }
    }
}

fn split_operator(condition: &str) -> (Operator, &str) {
    // Kyverno reads no operator in fewer than two characters: "!" alone is the text "!".
    if condition.len() < 2 {
        return (Operator::Equal, condition);
    }
    let operators = [
        (">=", Operator::MoreEqual),
        ("<=", Operator::LessEqual),
        (">", Operator::More),
        ("<", Operator::Less),
        ("!", Operator::NotEqual),
    ];
    for (sign, operator) in operators {
        if let Some(rest) = condition.strip_prefix(sign) {
            return (operator, rest);
        }
    }
    (Operator::Equal, condition)
}

fn compare(value: &Value, operand: &Operand, operator: Operator) -> bool {
    let Operand { text, duration, quantity } = operand;
    if let (Some(wanted), Some(number)) = (quantity, whole_number(value)) {
        // As its text would be read: of whole numbers only 0 is a duration.
        return match duration.filter(|_| number == 0) {
            Some(wanted) => holds(operator, 0.cmp(&wanted)),
            None => holds(operator, Quantity::from_units(number).cmp(wanted)),
        };
    }
    if (duration.is_some() || quantity.is_some())
        && let Some(number) = as_number_text(value)
    {
        if let (Some(wanted), Ok(found)) = (duration, duration::parse_nanos(&number)) {
            return holds(operator, found.cmp(wanted));
        }
        if let (Some(wanted), Ok(found)) = (quantity, number.parse::<Quantity>()) {
            return holds(operator, found.cmp(wanted));
        }
    }
    match (operator, as_text(value)) {
        (Operator::Equal, Some(found)) => wildcard::matches(text, &found),
        (Operator::NotEqual, Some(found)) => !wildcard::matches(text, &found),
        _ => false,
    }
}

fn holds(operator: Operator, order: Ordering) -> bool {
    match operator {
        Operator::Equal => order.is_eq(),
        Operator::NotEqual => order.is_ne(),
        Operator::More => order.is_gt(),
        Operator::MoreEqual => order.is_ge(),
        Operator::Less => order.is_lt(),
        Operator::LessEqual => order.is_le(),
    }
}

/// A whole number that is a quantity as it stands.
fn whole_number(value: &Value) -> Option<i64> {
    value.as_i64().filter(|number| *number != i64::MIN)
}

/// The text that is read as a duration or quantity; a fraction has six digits, as Go's `%f` writes it.
fn as_number_text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Null => Some("0".into()),
        Value::String(text) => Some(text.into()),
        Value::Number(number) if number.is_f64() => number.as_f64().map(|number| format!("{number:.6}").into()),
        Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}

/// The text that wildcards see; a fraction is in Go's `E` form.
fn as_text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Bool(set) => Some(if *set { "true" } else { "false" }.into()),
        Value::Number(number) if number.is_f64() => number.as_f64().map(|number| exponent_form(number).into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn exponent_form(number: f64) -> String {
    let text = format!("{number:E}");
    let (digits, exponent) = text.split_once('E').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{digits}E{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table(cases: &[(Value, Value, bool)]) {
        for (value, pattern, expected) in cases {
            assert_eq!(matches(value, pattern), *expected, "{value} against {pattern}");
        }
    }

    #[test]
    fn booleans_numbers_and_nulls() {
        table(&[
            (json!(true), json!(true), true),
            (json!(false), json!(true), false),
            (json!("true"), json!(true), false),
            (json!(null), json!(false), false),
            (json!(7), json!(7), true),
            (json!(7.0), json!(7), true),
            (json!("7"), json!(7), true),
            (json!("7.5"), json!(7.5), true),
            (json!(7.000001), json!(7), false),
            (json!(true), json!(1), false),
            (json!(null), json!(0), false),
            (json!(null), json!(null), true),
            (json!(""), json!(null), true),
            (json!(0), json!(null), true),
            (json!(0.0), json!(null), true),
            (json!(0.1), json!(null), false),
            (json!(false), json!(null), true),
            (json!(true), json!(null), false),
            (json!("x"), json!(null), false),
            (json!({}), json!(null), false),
            (json!([]), json!(null), false),
            (json!({"a": 1}), json!({}), true),
            (json!("a"), json!({}), false),
            (json!("a"), json!(["a"]), false),
        ]);
    }

    #[test]
    fn text_with_operators_and_wildcards() {
        table(&[
            (json!("10.100.11.54"), json!("192.168.88.1 | 10.100.11.*"), true),
            (json!("10"), json!(">1 & <20 | >31 & <33"), true),
            (json!("32"), json!(">1 & <20 | >31 & <33"), true),
            (json!("21"), json!(">1 & <20 | >31 & <33"), false),
            (json!("a|b"), json!("a|b"), true),
            (json!("nginx:latest"), json!("!*:latest"), false),
            (json!("nginx:1"), json!("!*:latest"), true),
            (json!("nginx"), json!("!*:latest & *:*"), false),
            (json!("!"), json!("!"), true),
            (json!("5.16.5-arch1-1"), json!("!5.10.84-1 & !5.15.2-1"), true),
            (json!("5.15.2-1"), json!("!5.10.84-1 & !5.15.2-1"), false),
            (json!(true), json!("true"), true),
            (json!(8080), json!("80*"), true),
            (json!(8080.0), json!("80*"), false),
            (json!("b"), json!(">a"), false),
            (json!(null), json!("?*"), false),
            (json!(null), json!("!x"), false),
            (json!(null), json!("0"), true),
            (json!(null), json!("<1"), true),
            (json!(""), json!("*"), true),
            (json!({}), json!("*"), false),
        ]);
    }

    #[test]
    fn quantities_compare_by_amount() {
        table(&[
            (json!("1024Mi"), json!("1Gi"), true),
            (json!("0.2"), json!("200m"), true),
            (json!("2048"), json!("1024"), false),
            (json!("1Gi"), json!(">1000Mi"), true),
            (json!("1G"), json!("<1Gi"), true),
            (json!("500m"), json!(">=0.5"), true),
            (json!("499m"), json!(">=0.5"), false),
            (json!("0.5"), json!("<=.5"), true),
            (json!("0.51"), json!("<= .5"), false),
            (json!(4), json!(">= 3"), true),
            (json!("4Gi"), json!("!4096Mi"), false),
            (json!("gii"), json!("1024Gi"), false),
            (json!("1024Gi"), json!(""), false),
            (json!(7.0), json!("7"), true),
            (json!(3), json!("3"), true),
            (json!(1), json!("1000m"), true),
            (json!(i64::MIN), json!("<0"), false),
            (json!(u64::MAX), json!(">1"), false),
            (json!(6.000000001), json!("<6"), false),
        ]);
    }

    #[test]
    fn ranges_hold_both_ends_and_their_negation_neither() {
        table(&[
            (json!(0), json!("0-2"), true),
            (json!(2), json!("0-2"), true),
            (json!(3), json!("0-2"), false),
            (json!(-1), json!("-2-0"), true),
            (json!(-3), json!("-2-0"), false),
            (json!(0), json!("10!-20"), true),
            (json!(10), json!("10!-20"), false),
            (json!(15), json!("10!-20"), false),
            (json!(25), json!("10!-20"), true),
            (json!(2), json!("2!-2"), false),
            (json!(2.99999), json!("2.99998-3"), true),
            (json!(2.99997), json!("2.99998!-3"), true),
            (json!("256Mi"), json!("128Mi-512Mi"), true),
            (json!("512Mi"), json!("128Mi-512Mi"), true),
            (json!("1Gi"), json!("128Mi-512Mi"), false),
            (json!("64Mi"), json!("128Mi!-512Mi"), true),
            (json!("256Mi"), json!("128Mi!-512Mi"), false),
            (json!("15s"), json!("10s-1m"), true),
            (json!("2m"), json!("10s-1m"), false),
            (json!("1-2"), json!("1-2"), true),
        ]);
    }

    #[test]
    fn durations_come_before_quantities() {
        table(&[
            (json!("60s"), json!("1m"), true),
            (json!("61s"), json!(">1m"), true),
            (json!("1h30m"), json!("<=90m"), true),
            (json!("1h31m"), json!("<=90m"), false),
            (json!("90m"), json!("!1h30m"), false),
            (json!(0), json!("<1m"), true),
            (json!(0), json!("0m"), true),
            (json!(1), json!("<1h"), false),
            (json!(1), json!(">1m"), true),
            // No duration on both sides: "1" is a quantity, and so is 1m, a thousandth.
            (json!("1"), json!(">1m"), true),
        ]);
    }

    #[test]
    fn fractions_print_as_go_prints_them() {
        for (number, text) in [(8080.0, "8.08E+03"), (0.5, "5E-01"), (0.0, "0E+00"), (-1.5e-12, "-1.5E-12")] {
            assert_eq!(exponent_form(number), text);
        }
    }
}
