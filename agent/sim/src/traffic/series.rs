//! Time series in memory: a bounded tail of samples for each, with an end where a target has gone, as Prometheus' staleness
//! markers have it.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// A series' labels, `__name__` apart.
pub type Labels = BTreeMap<String, String>;

/// Samples kept of one series: five minutes at the usual scrape interval.
const SAMPLES: usize = 600;

/// A series that has ended is forgotten after this, milliseconds.
const FORGET_AFTER: i64 = 300_000;

/// One series.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// Time in milliseconds since the epoch, and value; ordered.
    pub samples: VecDeque<(i64, f64)>,
    /// From here on it has no value.
    pub ended: Option<i64>,
}

/// Every series by name.
#[derive(Debug, Default)]
pub struct Metrics {
    by_name: HashMap<String, HashMap<Labels, Series>>,
}

impl Metrics {
    /// Adds a sample. Empty labels are the same as absent ones.
    pub fn add(&mut self, name: &str, labels: &[(String, String)], extra: Option<(&str, &str)>, time: i64, value: f64) {
        let extra = extra.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let labels: Labels = labels.iter().cloned().chain(extra).filter(|(_, value)| !value.is_empty()).collect();
        if !self.by_name.contains_key(name) {
            self.by_name.insert(name.to_owned(), HashMap::new());
        }
        let Some(all) = self.by_name.get_mut(name) else { return };
        let series = all.entry(labels.clone()).or_insert_with(|| Series { labels, samples: VecDeque::new(), ended: None });
        series.ended = None;
        series.samples.push_back((time, value));
        if series.samples.len() > SAMPLES {
            series.samples.pop_front();
        }
    }

    /// Ends the series of these names that have no sample of this round, and forgets those that ended long ago.
    pub fn end_round(&mut self, time: i64, names: &[&str]) {
        for name in names {
            let Some(all) = self.by_name.get_mut(*name) else { continue };
            for series in all.values_mut() {
                if series.ended.is_none() && series.samples.back().is_none_or(|(last, _)| *last < time) {
                    series.ended = Some(time);
                }
            }
            all.retain(|_, series| series.ended.is_none_or(|ended| time - ended < FORGET_AFTER));
        }
    }

    /// The series of a name.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Series> {
        self.by_name.get(name).into_iter().flat_map(HashMap::values)
    }

    /// Every name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}
