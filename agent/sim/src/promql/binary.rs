//! Operators between two values, with Prometheus' rules of which sample meets which.

use super::{Evaluation, QueryError, Sample, Value, unsupported, without_name};
use crate::traffic::series::Labels;
use promql_parser::parser::{BinModifier, BinaryExpr, LabelModifier, VectorMatchCardinality};
use std::collections::BTreeMap;

/// The value of an operation.
pub fn value(evaluation: &Evaluation<'_>, operation: &BinaryExpr) -> Result<Value, QueryError> {
    let operator = operation.op.to_string();
    let as_number = operation.modifier.as_ref().is_some_and(|modifier| modifier.return_bool);
    let (left, right) = (evaluation.value(&operation.lhs)?, evaluation.value(&operation.rhs)?);
    match (left, right) {
        (Value::Scalar(left), Value::Scalar(right)) => {
            let (value, holds) = apply(&operator, left, right)?;
            Ok(Value::Scalar(holds.map_or(value, |holds| f64::from(u8::from(holds)))))
        }
        (Value::Vector(samples), Value::Scalar(number)) => {
            each(samples, &operator, as_number, |value| (value, number), |value| value)
        }
        (Value::Scalar(number), Value::Vector(samples)) => {
            each(samples, &operator, as_number, |value| (number, value), |value| value)
        }
        (Value::Vector(left), Value::Vector(right)) => {
            let modifier = operation.modifier.as_ref();
            match operator.as_str() {
                "and" | "or" | "unless" => Ok(Value::Vector(set(left, right, &operator, modifier))),
                _ => matched(left, right, &operator, modifier),
            }
        }
        _ => Err(QueryError::Execution("binary expression must contain only scalar and instant vector types".to_owned())),
    }
}

/// The result of an operator; of a comparison the left side and whether it holds.
fn apply(operator: &str, left: f64, right: f64) -> Result<(f64, Option<bool>), QueryError> {
    Ok(match operator {
        "+" => (left + right, None),
        "-" => (left - right, None),
        "*" => (left * right, None),
        "/" => (left / right, None),
        "%" => (left % right, None),
        "^" => (left.powf(right), None),
        "==" => (left, Some(left == right)),
        "!=" => (left, Some(left != right)),
        ">" => (left, Some(left > right)),
        "<" => (left, Some(left < right)),
        ">=" => (left, Some(left >= right)),
        "<=" => (left, Some(left <= right)),
        other => return Err(unsupported(format_args!("the operator {other:?}"))),
    })
}

/// An operator between every sample and a number; a comparison without `bool` filters.
fn each(
    samples: Vec<Sample>,
    operator: &str,
    as_number: bool,
    sides: impl Fn(f64) -> (f64, f64),
    kept: impl Fn(f64) -> f64,
) -> Result<Value, QueryError> {
    let mut results = Vec::new();
    for Sample { labels, value } in samples {
        let (left, right) = sides(value);
        match apply(operator, left, right)? {
            (value, None) => results.push(Sample { labels: without_name(labels), value }),
            (_, Some(holds)) if as_number => {
                results.push(Sample { labels: without_name(labels), value: f64::from(u8::from(holds)) })
            }
            (_, Some(true)) => results.push(Sample { labels, value: kept(value) }),
            (_, Some(false)) => {}
        }
    }
    Ok(Value::Vector(results))
}

/// The labels by which two samples meet.
fn meeting(labels: &Labels, modifier: Option<&BinModifier>) -> Labels {
    let pairs = labels.iter().filter(|(name, _)| match modifier.and_then(|modifier| modifier.matching.as_ref()) {
        Some(LabelModifier::Include(names)) => names.labels.contains(name),
        Some(LabelModifier::Exclude(names)) => !names.labels.contains(name) && *name != "__name__",
        None => *name != "__name__",
    });
    pairs.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn set(left: Vec<Sample>, right: Vec<Sample>, operator: &str, modifier: Option<&BinModifier>) -> Vec<Sample> {
    let keys = |samples: &[Sample]| -> std::collections::BTreeSet<Labels> {
        samples.iter().map(|sample| meeting(&sample.labels, modifier)).collect()
    };
    match operator {
        "and" => {
            let others = keys(&right);
            left.into_iter().filter(|sample| others.contains(&meeting(&sample.labels, modifier))).collect()
        }
        "unless" => {
            let others = keys(&right);
            left.into_iter().filter(|sample| !others.contains(&meeting(&sample.labels, modifier))).collect()
        }
        _ => {
            let own = keys(&left);
            let more = right.into_iter().filter(|sample| !own.contains(&meeting(&sample.labels, modifier)));
            left.into_iter().chain(more).collect()
        }
    }
}

fn matched(left: Vec<Sample>, right: Vec<Sample>, operator: &str, modifier: Option<&BinModifier>) -> Result<Value, QueryError> {
    let one_to_one = VectorMatchCardinality::OneToOne;
    let card = modifier.map_or(&one_to_one, |modifier| &modifier.card);
    let as_number = modifier.is_some_and(|modifier| modifier.return_bool);
    // The "one" side is looked up; the "many" side gives the labels.
    let (many, one, swapped) = match card {
        VectorMatchCardinality::OneToMany(_) => (right, left, true),
        VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToOne(_) | VectorMatchCardinality::ManyToMany => {
            (left, right, false)
        }
    };
    let mut by_key: BTreeMap<Labels, Sample> = BTreeMap::new();
    for sample in one {
        if by_key.insert(meeting(&sample.labels, modifier), sample).is_some() {
            let side = if swapped { "left" } else { "right" };
            return Err(QueryError::Execution(format!(
                "found duplicate series for the match group on the {side} hand-side of the operation; many-to-many matching not allowed: matching labels must be unique on one side"
            )));
        }
    }
    let single = matches!(card, VectorMatchCardinality::OneToOne);
    let mut seen = std::collections::BTreeSet::new();
    let mut results = Vec::new();
    for sample in many {
        let key = meeting(&sample.labels, modifier);
        let Some(other) = by_key.get(&key) else { continue };
        if single && !seen.insert(key.clone()) {
            return Err(QueryError::Execution(
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)".to_owned(),
            ));
        }
        let (left, right) = if swapped { (other.value, sample.value) } else { (sample.value, other.value) };
        let (value, holds) = apply(operator, left, right)?;
        if holds == Some(false) && !as_number {
            continue;
        }
        let keeps_name = holds.is_some() && !as_number;
        let mut labels = if keeps_name { sample.labels.clone() } else { without_name(sample.labels.clone()) };
        if single && modifier.is_some_and(|modifier| modifier.matching.is_some()) {
            labels = key;
        }
        for name in card.labels().into_iter().flat_map(|names| &names.labels) {
            match other.labels.get(name) {
                Some(value) => labels.insert(name.clone(), value.clone()),
                None => labels.remove(name),
            };
        }
        let value = if as_number { holds.map_or(value, |holds| f64::from(u8::from(holds))) } else { value };
        results.push(Sample { labels, value });
    }
    Ok(Value::Vector(results))
}
