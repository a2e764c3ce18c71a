//! `histogram_quantile` over classic buckets.

use super::{Sample, without_name};
use crate::traffic::series::Labels;
use std::collections::BTreeMap;

/// The quantile of every histogram among the buckets.
pub fn quantiles(share: f64, buckets: Vec<Sample>) -> Vec<Sample> {
    let mut histograms: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    for Sample { labels, value } in buckets {
        let mut labels = without_name(labels);
        let bound = match labels.remove("le").as_deref() {
            Some("+Inf") => Some(f64::INFINITY),
            Some(text) => text.parse().ok(),
            None => None,
        };
        if let Some(bound) = bound {
            histograms.entry(labels).or_default().push((bound, value));
        }
    }
    histograms.into_iter().map(|(labels, buckets)| Sample { labels, value: quantile(share, buckets) }).collect()
}

fn quantile(share: f64, mut buckets: Vec<(f64, f64)>) -> f64 {
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    let Some((last, total)) = buckets.last().copied() else { return f64::NAN };
    if share.is_nan() || last != f64::INFINITY || buckets.len() < 2 || total == 0.0 {
        return f64::NAN;
    }
    if share < 0.0 {
        return f64::NEG_INFINITY;
    }
    if share > 1.0 {
        return f64::INFINITY;
    }
    // Rates of buckets scraped apart may dip; a bucket holds at least what the one before it holds.
    let mut highest = 0.0_f64;
    for bucket in &mut buckets {
        highest = highest.max(bucket.1);
        bucket.1 = highest;
    }
    let rank = share * total;
    let at = buckets.iter().position(|(_, count)| *count >= rank).unwrap_or(buckets.len() - 1);
    if at == buckets.len() - 1 {
        return buckets[buckets.len() - 2].0;
    }
    let (bound, count) = buckets[at];
    if at == 0 && bound <= 0.0 {
        return bound;
    }
    let (lower, before) = if at == 0 { (0.0, 0.0) } else { buckets[at - 1] };
    lower + (bound - lower) * ((rank - before) / (count - before))
}
