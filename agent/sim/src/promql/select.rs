//! Selectors: which series, and which of their samples.

use super::{LOOKBACK, Range, Sample};
use crate::traffic::series::{Labels, Metrics, Series};
use promql_parser::{label::Matcher, parser::VectorSelector};

/// The series a selector names, with their name.
fn series<'a>(metrics: &'a Metrics, selector: &'a VectorSelector) -> Vec<(&'a str, &'a Series)> {
    let names = metrics.names().filter(move |name| selector.name.as_deref().is_none_or(|wanted| wanted == *name));
    names
        .flat_map(|name| metrics.named(name).map(move |series| (name, series)))
        .filter(|(name, series)| matches(selector, name, &series.labels))
        .collect()
}

fn matches(selector: &VectorSelector, name: &str, labels: &Labels) -> bool {
    let value = |matcher: &Matcher| match matcher.name.as_str() {
        "__name__" => name.to_owned(),
        label => labels.get(label).cloned().unwrap_or_default(),
    };
    let all = |list: &[Matcher]| list.iter().all(|matcher| matcher.is_match(&value(matcher)));
    let alternatives = &selector.matchers.or_matchers;
    all(&selector.matchers.matchers) && (alternatives.is_empty() || alternatives.iter().any(|list| all(list)))
}

fn named(name: &str, labels: &Labels) -> Labels {
    let mut labels = labels.clone();
    labels.insert("__name__".to_owned(), name.to_owned());
    labels
}

/// The newest sample of each series at a time.
pub fn instant(metrics: &Metrics, selector: &VectorSelector, time: i64) -> Vec<Sample> {
    let mut found: Vec<Sample> = series(metrics, selector)
        .into_iter()
        .filter(|(_, series)| series.ended.is_none_or(|ended| ended > time))
        .filter_map(|(name, series)| {
            let (at, value) = series.samples.iter().rev().find(|(at, _)| *at <= time)?;
            (time - at < LOOKBACK).then(|| Sample { labels: named(name, &series.labels), value: *value })
        })
        .collect();
    found.sort_by(|one, other| one.labels.cmp(&other.labels));
    found
}

/// The samples of each series in a range, open at its start.
pub fn range(metrics: &Metrics, selector: &VectorSelector, time: i64, length: i64) -> Vec<Range> {
    let mut found: Vec<Range> = series(metrics, selector)
        .into_iter()
        .map(|(name, series)| Range {
            labels: named(name, &series.labels),
            samples: series.samples.iter().filter(|(at, _)| *at > time - length && *at <= time).copied().collect(),
        })
        .filter(|range| !range.samples.is_empty())
        .collect();
    found.sort_by(|one, other| one.labels.cmp(&other.labels));
    found
}
