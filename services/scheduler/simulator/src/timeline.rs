//! What was going on while a workload was played: means over equal spans of time, which are what is drawn.

/// The first width of a span. It doubles whenever there are too many, so that seconds and months are drawn alike.
const FIRST_WIDTH_MS: i64 = 100;
/// Spans kept at most.
const MOST_SPANS: usize = 2_400;

/// What there was at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment<'a> {
    /// Jobs that wait.
    pub(crate) waiting: usize,
    /// GPUs in use on the dear cluster.
    pub(crate) dear_gpus: u32,
    /// What all runs cost in an hour, in millionths.
    pub(crate) micros_per_hour: i64,
    /// What each queue uses, wherever, in the workload's unit.
    pub(crate) queue_gpus: &'a [u32],
}

/// Sums over one span, each amount times the milliseconds it lasted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Of jobs that wait.
    pub waiting: i64,
    /// Of GPUs in use on the dear cluster.
    pub dear_gpus: i64,
    /// Of what all runs cost in an hour.
    pub micros_per_hour: i128,
    /// Of what each queue uses, wherever.
    pub queue_gpus: Vec<i64>,
}

impl Span {
    fn add(&mut self, other: &Self) {
        self.waiting += other.waiting;
        self.dear_gpus += other.dear_gpus;
        self.micros_per_hour += other.micros_per_hour;
        self.queue_gpus.iter_mut().zip(&other.queue_gpus).for_each(|(sum, more)| *sum += more);
    }
}

/// Spans from the first submission to the last end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// When the first one began.
    pub began_ms: i64,
    /// When the last job ended.
    pub ended_ms: i64,
    /// How long each lasts; the last one ends when the last job did.
    pub width_ms: i64,
    /// One after the other.
    pub spans: Vec<Span>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Timeline {
    pub(crate) fn new(began_ms: i64) -> Self {
        Self { began_ms, ended_ms: began_ms, width_ms: FIRST_WIDTH_MS, spans: Vec::new() }
    }

    /// It has been like this since the last call.
    pub(crate) fn until(&mut self, now: i64, moment: &Moment<'_>) {
        while now - self.began_ms > self.width_ms * MOST_SPANS as i64 {
            self.widen();
        }
        while self.ended_ms < now {
            let at = ((self.ended_ms - self.began_ms) / self.width_ms) as usize;
            let until = now.min(self.began_ms + (at as i64 + 1) * self.width_ms);
            if self.spans.len() <= at {
                self.spans.resize_with(at + 1, || Span { queue_gpus: vec![0; moment.queue_gpus.len()], ..Span::default() });
            }
            let (span, lasted) = (&mut self.spans[at], until - self.ended_ms);
            span.waiting += moment.waiting as i64 * lasted;
            span.dear_gpus += i64::from(moment.dear_gpus) * lasted;
            span.micros_per_hour += i128::from(moment.micros_per_hour) * i128::from(lasted);
            for (sum, gpus) in span.queue_gpus.iter_mut().zip(moment.queue_gpus) {
                *sum += i64::from(*gpus) * lasted;
            }
            self.ended_ms = until;
        }
    }

    /// Makes one span of each two.
    fn widen(&mut self) {
        self.width_ms *= 2;
        let spans = std::mem::take(&mut self.spans);
        for (at, span) in spans.into_iter().enumerate() {
            match self.spans.last_mut() {
                Some(last) if at % 2 == 1 => last.add(&span),
                Some(_) | None => self.spans.push(span),
            }
        }
    }

    /// The mean of an amount over each of at most so many equal parts, with the part's middle in milliseconds from the beginning.
    #[must_use]
    pub fn means(&self, most: usize, of: impl Fn(&Span) -> f64) -> Vec<(f64, f64)> {
        let width = self.spans.len().div_ceil(most.max(1)).max(1);
        let mut means = Vec::new();
        for (part, spans) in self.spans.chunks(width).enumerate() {
            let began = (part * width) as i64 * self.width_ms;
            let ended = (began + spans.len() as i64 * self.width_ms).min(self.ended_ms - self.began_ms);
            let sum: f64 = spans.iter().map(&of).sum();
            means.push((began.midpoint(ended) as f64, sum / (ended - began).max(1) as f64));
        }
        means
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_over_spans_counts_in_each() {
        let mut timeline = Timeline::new(500);
        let moment = |waiting| Moment { waiting, dear_gpus: 0, micros_per_hour: 7, queue_gpus: &[1, 2] };
        timeline.until(500, &moment(9));
        timeline.until(550, &moment(4));
        timeline.until(800, &moment(2));
        assert_eq!(timeline.means(10, |span| span.waiting as f64), [(50.0, 3.0), (150.0, 2.0), (250.0, 2.0)]);
        assert_eq!(timeline.means(2, |span| span.queue_gpus[1] as f64), [(100.0, 2.0), (250.0, 2.0)]);
    }

    #[test]
    fn months_are_kept_in_no_more_spans_than_seconds_and_nothing_is_lost() {
        let mut timeline = Timeline::new(0);
        let moment = Moment { waiting: 3, dear_gpus: 0, micros_per_hour: 7, queue_gpus: &[5] };
        let month_ms = 31 * 86_400_000;
        for step in 1..=1_000 {
            timeline.until(step * month_ms / 1_000, &moment);
        }
        assert!(timeline.spans.len() <= MOST_SPANS, "{}", timeline.spans.len());
        assert_eq!(timeline.spans.iter().map(|span| span.waiting).sum::<i64>(), 3 * month_ms);
        assert_eq!(timeline.spans.iter().map(|span| span.queue_gpus[0]).sum::<i64>(), 5 * month_ms);
    }
}
