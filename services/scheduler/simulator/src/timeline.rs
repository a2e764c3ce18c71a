//! What was going on while a workload was played, by the hour: the means that are drawn.

/// An hour; what is drawn has no finer step.
const HOUR_MS: i64 = 3_600_000;

/// What there was at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment<'a> {
    /// Jobs that wait.
    pub(crate) waiting: usize,
    /// GPUs in use on the dear cluster.
    pub(crate) dear_gpus: u32,
    /// GPUs in use by each queue, wherever.
    pub(crate) queue_gpus: &'a [u32],
}

/// Sums over one hour, each amount times the milliseconds it lasted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hour {
    /// Of jobs that wait.
    pub waiting: i64,
    /// Of GPUs in use on the dear cluster.
    pub dear_gpus: i64,
    /// Of GPUs in use by each queue, wherever.
    pub queue_gpus: Vec<i64>,
}

/// Hours from the first submission to the last end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// When the first one began.
    pub began_ms: i64,
    /// When the last job ended.
    pub ended_ms: i64,
    /// One after the other.
    pub hours: Vec<Hour>,
}

impl Timeline {
    pub(crate) fn new(began_ms: i64) -> Self {
        Self { began_ms, ended_ms: began_ms, hours: Vec::new() }
    }

    /// It has been like this since the last call.
    pub(crate) fn until(&mut self, now: i64, moment: &Moment<'_>) {
        while self.ended_ms < now {
            let at = ((self.ended_ms - self.began_ms) / HOUR_MS) as usize;
            let until = now.min(self.began_ms + (at as i64 + 1) * HOUR_MS);
            if self.hours.len() <= at {
                self.hours.resize_with(at + 1, || Hour { queue_gpus: vec![0; moment.queue_gpus.len()], ..Hour::default() });
            }
            let (hour, lasted) = (&mut self.hours[at], until - self.ended_ms);
            hour.waiting += moment.waiting as i64 * lasted;
            hour.dear_gpus += i64::from(moment.dear_gpus) * lasted;
            for (sum, gpus) in hour.queue_gpus.iter_mut().zip(moment.queue_gpus) {
                *sum += i64::from(*gpus) * lasted;
            }
            self.ended_ms = until;
        }
    }

    /// The mean of an amount over each of at most so many equal parts, with the part's middle in days.
    #[must_use]
    pub fn means(&self, most: usize, of: impl Fn(&Hour) -> i64) -> Vec<(f64, f64)> {
        let width = self.hours.len().div_ceil(most.max(1)).max(1);
        let mut means = Vec::new();
        for (part, hours) in self.hours.chunks(width).enumerate() {
            let began = (part * width) as i64 * HOUR_MS;
            let ended = (began + hours.len() as i64 * HOUR_MS).min(self.ended_ms - self.began_ms);
            let sum: i64 = hours.iter().map(&of).sum();
            means.push((began.midpoint(ended) as f64 / 8.64e7, sum as f64 / (ended - began).max(1) as f64));
        }
        means
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_over_hours_counts_in_each() {
        let mut timeline = Timeline::new(500);
        let moment = |waiting| Moment { waiting, dear_gpus: 0, queue_gpus: &[1, 2] };
        timeline.until(500, &moment(9));
        timeline.until(500 + HOUR_MS / 2, &moment(4));
        timeline.until(500 + 3 * HOUR_MS, &moment(2));
        assert_eq!(timeline.means(10, |hour| hour.waiting), [(0.5 / 24.0, 3.0), (1.5 / 24.0, 2.0), (2.5 / 24.0, 2.0)]);
        assert_eq!(timeline.means(2, |hour| hour.queue_gpus[1]), [(1.0 / 24.0, 2.0), (2.5 / 24.0, 2.0)]);
    }
}
