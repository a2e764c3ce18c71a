//! Aggregations: `sum by (app) (…)` and its kin.

use super::{Evaluation, QueryError, Sample, Value, unsupported};
use crate::traffic::series::Labels;
use promql_parser::parser::{AggregateExpr, LabelModifier};
use std::collections::BTreeMap;

/// The value of an aggregation.
pub fn value(evaluation: &Evaluation<'_>, aggregation: &AggregateExpr) -> Result<Value, QueryError> {
    let samples = evaluation.vector(&aggregation.expr)?;
    let operator = aggregation.op.to_string();
    let parameter = aggregation.param.as_ref().map(|parameter| evaluation.scalar(parameter)).transpose();
    let mut groups: BTreeMap<Labels, Vec<Sample>> = BTreeMap::new();
    for sample in samples {
        groups.entry(group_of(&sample.labels, aggregation.modifier.as_ref())).or_default().push(sample);
    }
    let mut results = Vec::new();
    for (labels, members) in groups {
        let values: Vec<f64> = members.iter().map(|sample| sample.value).collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = || values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        let single = match operator.as_str() {
            "sum" => values.iter().sum(),
            "avg" => mean,
            // A number beats NaN on both ends.
            "min" => values.iter().copied().fold(f64::NAN, f64::min),
            "max" => values.iter().copied().fold(f64::NAN, f64::max),
            "count" => count,
            "group" => 1.0,
            "stddev" => variance().sqrt(),
            "stdvar" => variance(),
            "quantile" => quantile(parameter.clone()?.unwrap_or(f64::NAN), &values),
            "topk" | "bottomk" => {
                let limit = parameter.clone()?.unwrap_or(0.0).max(0.0) as usize;
                let mut ordered = members;
                ordered.sort_by(|one, other| one.value.total_cmp(&other.value));
                if operator == "topk" {
                    ordered.reverse();
                }
                results.extend(ordered.into_iter().take(limit));
                continue;
            }
            other => return Err(unsupported(format_args!("the aggregation {other:?}"))),
        };
        results.push(Sample { labels, value: single });
    }
    Ok(Value::Vector(results))
}

fn group_of(labels: &Labels, modifier: Option<&LabelModifier>) -> Labels {
    match modifier {
        None => Labels::new(),
        Some(LabelModifier::Include(names)) => labels
            .iter()
            .filter(|(name, _)| names.labels.contains(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        Some(LabelModifier::Exclude(names)) => labels
            .iter()
            .filter(|(name, _)| !names.labels.contains(name) && *name != "__name__")
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    }
}

/// The value below which a share of all values lies, between two of them in proportion.
pub fn quantile(share: f64, values: &[f64]) -> f64 {
    if values.is_empty() || share.is_nan() {
        return f64::NAN;
    }
    if share < 0.0 {
        return f64::NEG_INFINITY;
    }
    if share > 1.0 {
        return f64::INFINITY;
    }
    let mut ordered = values.to_vec();
    ordered.sort_by(f64::total_cmp);
    let rank = share * (ordered.len() - 1) as f64;
    let (below, above) = (rank.floor() as usize, rank.ceil() as usize);
    ordered[below] + (ordered[above] - ordered[below]) * rank.fract()
}
