//! Functions.

use super::{Evaluation, QueryError, Range, Sample, Value, aggregate, histogram, unsupported, without_name};
use crate::traffic::series::Labels;
use promql_parser::{
    label::MatchOp,
    parser::{Call, Expr, MatrixSelector},
};

/// The value of a call.
pub fn value(evaluation: &Evaluation<'_>, call: &Call) -> Result<Value, QueryError> {
    let arguments: Vec<&Expr> = call.args.args.iter().map(AsRef::as_ref).collect();
    let first = || arguments.first().copied().ok_or_else(|| QueryError::Execution(format!("{} has no argument", call.func.name)));
    let number = |index: usize| arguments.get(index).map(|argument| evaluation.scalar(argument)).transpose();
    let map = |change: &dyn Fn(f64) -> f64| -> Result<Value, QueryError> {
        let samples = evaluation.vector(first()?)?.into_iter();
        Ok(Value::Vector(
            samples.map(|sample| Sample { labels: without_name(sample.labels), value: change(sample.value) }).collect(),
        ))
    };
    match call.func.name {
        "rate" => over(evaluation, first()?, &|range, start, end| extrapolated(range, start, end, true, true)),
        "increase" => over(evaluation, first()?, &|range, start, end| extrapolated(range, start, end, true, false)),
        "delta" => over(evaluation, first()?, &|range, start, end| extrapolated(range, start, end, false, false)),
        "irate" => over(evaluation, first()?, &|range, _, _| newest_step(range, true)),
        "idelta" => over(evaluation, first()?, &|range, _, _| newest_step(range, false)),
        "changes" => {
            over(evaluation, first()?, &|range, _, _| Some(steps(range).filter(|(one, other)| one != other).count() as f64))
        }
        "resets" => {
            over(evaluation, first()?, &|range, _, _| Some(steps(range).filter(|(one, other)| other < one).count() as f64))
        }
        "avg_over_time" => over(evaluation, first()?, &|range, _, _| Some(sum(range) / range.len() as f64)),
        "sum_over_time" => over(evaluation, first()?, &|range, _, _| Some(sum(range))),
        "count_over_time" => over(evaluation, first()?, &|range, _, _| Some(range.len() as f64)),
        "present_over_time" => over(evaluation, first()?, &|_, _, _| Some(1.0)),
        "last_over_time" => over(evaluation, first()?, &|range, _, _| range.last().map(|(_, value)| *value)),
        "min_over_time" => over(evaluation, first()?, &|range, _, _| range.iter().map(|(_, value)| *value).reduce(f64::min)),
        "max_over_time" => over(evaluation, first()?, &|range, _, _| range.iter().map(|(_, value)| *value).reduce(f64::max)),
        "quantile_over_time" => {
            let share = evaluation.scalar(first()?)?;
            let range =
                arguments.get(1).copied().ok_or_else(|| QueryError::Execution("quantile_over_time has no range".to_owned()))?;
            over(evaluation, range, &|range, _, _| {
                Some(aggregate::quantile(share, &range.iter().map(|(_, value)| *value).collect::<Vec<_>>()))
            })
        }
        "absent" => absent(evaluation, first()?),
        "absent_over_time" => {
            let Value::Matrix(ranges) = evaluation.value(first()?)? else { return Err(wrong_range()) };
            let nothing = Vec::new();
            Ok(Value::Vector(if ranges.is_empty() {
                vec![Sample { labels: equal_labels(first()?), value: 1.0 }]
            } else {
                nothing
            }))
        }
        "vector" => Ok(Value::Vector(vec![Sample { labels: Labels::new(), value: evaluation.scalar(first()?)? }])),
        "scalar" => {
            let samples = evaluation.vector(first()?)?;
            Ok(Value::Scalar(if let [one] = samples.as_slice() { one.value } else { f64::NAN }))
        }
        "time" => Ok(Value::Scalar(evaluation.time as f64 / 1000.0)),
        "histogram_quantile" => {
            let share = evaluation.scalar(first()?)?;
            let buckets =
                arguments.get(1).copied().ok_or_else(|| QueryError::Execution("histogram_quantile has no buckets".to_owned()))?;
            Ok(Value::Vector(histogram::quantiles(share, evaluation.vector(buckets)?)))
        }
        "abs" => map(&f64::abs),
        "ceil" => map(&f64::ceil),
        "floor" => map(&f64::floor),
        "sqrt" => map(&f64::sqrt),
        "exp" => map(&f64::exp),
        "ln" => map(&f64::ln),
        "log2" => map(&f64::log2),
        "log10" => map(&f64::log10),
        "round" => {
            let to = number(1)?.unwrap_or(1.0);
            // Halves go up, as in Prometheus.
            map(&|value| (value / to + 0.5).floor() * to)
        }
        "clamp" => {
            let (least, most) = (number(1)?.unwrap_or(f64::NEG_INFINITY), number(2)?.unwrap_or(f64::INFINITY));
            if least > most {
                return Ok(Value::Vector(Vec::new()));
            }
            map(&|value| value.max(least).min(most))
        }
        "clamp_min" => {
            let least = number(1)?.unwrap_or(f64::NEG_INFINITY);
            map(&|value| value.max(least))
        }
        "clamp_max" => {
            let most = number(1)?.unwrap_or(f64::INFINITY);
            map(&|value| value.min(most))
        }
        "sort" | "sort_desc" => {
            let mut samples = evaluation.vector(first()?)?;
            samples.sort_by(|one, other| one.value.total_cmp(&other.value));
            if call.func.name == "sort_desc" {
                samples.reverse();
            }
            Ok(Value::Vector(samples))
        }
        other => Err(unsupported(format_args!("the function {other:?}"))),
    }
}

fn wrong_range() -> QueryError {
    QueryError::Execution("expected a range vector".to_owned())
}

/// Samples of a range, its start and its end, to one value.
type OverRange<'a> = dyn Fn(&[(i64, f64)], i64, i64) -> Option<f64> + 'a;

/// A function over the samples of a range, with the range's bounds in milliseconds.
fn over(evaluation: &Evaluation<'_>, argument: &Expr, function: &OverRange<'_>) -> Result<Value, QueryError> {
    let Value::Matrix(ranges) = evaluation.value(argument)? else { return Err(wrong_range()) };
    let selector = matrix(argument).ok_or_else(wrong_range)?;
    let end = evaluation.shifted(selector.vs.offset.as_ref(), selector.vs.at.as_ref());
    let start = end.saturating_sub(i64::try_from(selector.range.as_millis()).unwrap_or(i64::MAX));
    let sample = |Range { labels, samples }: Range| {
        function(&samples, start, end).map(|value| Sample { labels: without_name(labels), value })
    };
    Ok(Value::Vector(ranges.into_iter().filter_map(sample).collect()))
}

fn matrix(expression: &Expr) -> Option<&MatrixSelector> {
    match expression {
        Expr::MatrixSelector(selector) => Some(selector),
        Expr::Paren(inner) => matrix(&inner.expr),
        _ => None,
    }
}

fn sum(range: &[(i64, f64)]) -> f64 {
    range.iter().map(|(_, value)| *value).sum()
}

fn steps(range: &[(i64, f64)]) -> impl Iterator<Item = (f64, f64)> + '_ {
    range.windows(2).map(|pair| (pair[0].1, pair[1].1))
}

/// The difference over a range, extended to its bounds where the samples come close to them, as `extrapolatedRate` of
/// Prometheus does; a fall of a counter is a restart from zero.
fn extrapolated(range: &[(i64, f64)], start: i64, end: i64, counter: bool, per_second: bool) -> Option<f64> {
    let (first, last) = (range.first()?, range.last()?);
    if range.len() < 2 {
        return None;
    }
    let mut difference = last.1 - first.1;
    if counter {
        difference += steps(range).filter(|(one, other)| other < one).map(|(one, _)| one).sum::<f64>();
    }
    let seconds = |millis: i64| millis as f64 / 1000.0;
    let mut to_start = seconds(first.0 - start);
    let mut to_end = seconds(end - last.0);
    let sampled = seconds(last.0 - first.0);
    let average = sampled / (range.len() - 1) as f64;
    let threshold = average * 1.1;
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    if counter && difference > 0.0 && first.1 >= 0.0 {
        // A counter cannot have been below zero.
        to_start = to_start.min(sampled * (first.1 / difference));
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    let mut factor = (sampled + to_start + to_end) / sampled;
    if per_second {
        factor /= seconds(end - start);
    }
    Some(difference * factor)
}

fn newest_step(range: &[(i64, f64)], per_second: bool) -> Option<f64> {
    let [.., before, last] = range else { return None };
    let restarted = per_second && last.1 < before.1;
    let difference = if restarted { last.1 } else { last.1 - before.1 };
    Some(if per_second { difference / ((last.0 - before.0) as f64 / 1000.0) } else { difference })
}

fn absent(evaluation: &Evaluation<'_>, argument: &Expr) -> Result<Value, QueryError> {
    if evaluation.vector(argument)?.is_empty() {
        return Ok(Value::Vector(vec![Sample { labels: equal_labels(argument), value: 1.0 }]));
    }
    Ok(Value::Vector(Vec::new()))
}

/// The labels that a selector fixes: what is known of what is absent.
fn equal_labels(expression: &Expr) -> Labels {
    let selector = match expression {
        Expr::VectorSelector(selector) => selector,
        Expr::MatrixSelector(selector) => &selector.vs,
        Expr::Paren(inner) => return equal_labels(&inner.expr),
        _ => return Labels::new(),
    };
    let fixed = selector.matchers.matchers.iter().filter(|matcher| matcher.op == MatchOp::Equal && matcher.name != "__name__");
    fixed.filter(|matcher| !matcher.value.is_empty()).map(|matcher| (matcher.name.clone(), matcher.value.clone())).collect()
}
