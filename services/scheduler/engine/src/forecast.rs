//! What would happen if nothing else were submitted: an engine plays on from its state, with runs that last as long as runs of their like
//! have lasted. It is used up by that; whoever wants to keep it gives a copy.

use std::collections::{BTreeMap, BTreeSet};

use crate::class::time_of;
use crate::engine::{Engine, State};
use crate::event::{Decision, Epoch, Event, JobId, Placement, RunEnd, SizeChange, Time};

/// How far and how gloomily to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Until so long from now, in milliseconds.
    pub horizon_ms: i64,
    /// At most so many ends of runs and other moments at which something may be decided.
    pub most_steps: u32,
    /// Runs last as long as so many in a thousand of their like do at most: 500 is the median.
    pub permille: u16,
}

/// A start that is foreseen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// When.
    pub at: Time,
    /// Where.
    pub placement: Placement,
    /// How long the run is taken to last.
    pub lasts_ms: i64,
    /// Whether something like it has finished, so that this is more than an assumption.
    pub learned: bool,
    /// Runs that had ended by then, and of how many of them it was known how long their like lasts.
    pub ends: (u32, u32),
}

/// What is foreseen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// The first start of each job that starts.
    pub starts: BTreeMap<JobId, Start>,
    /// Jobs that are interrupted at least once.
    pub interrupted: BTreeSet<JobId>,
    /// How far it looked: the horizon, or where there had been [`Outlook::most_steps`].
    pub until: Time,
}

/// When a run ends: (time, job, epoch, whether that was learned, whether its job comes back).
type End = (Time, JobId, Epoch, bool, bool);

impl Engine {
    /// Plays on. A run that is told to end already is taken to be over for good.
    #[must_use]
    pub fn forecast(mut self, outlook: Outlook) -> Forecast {
        let horizon = Time(self.now.0.saturating_add(outlook.horizon_ms));
        let mut forecast = Forecast::default();
        let mut ends: BTreeSet<End> = BTreeSet::new();
        let running: Vec<JobId> = self.sites.iter().flat_map(|site| site.runs.iter().copied()).collect();
        for job in running {
            let (lasts_ms, learned) = self.lasts(job, outlook.permille);
            let (at, epoch) = (self.now, self.jobs.held(job).epoch);
            ends.insert((Time(at.0.saturating_add(lasts_ms)), job, epoch, learned, false));
            // What was told to start does so now; what runs already stays as it is.
            self.apply(Event::Started { job, epoch, at }).expect("it is placed");
        }
        for job in self.leaving.clone() {
            self.let_leave(job);
        }
        let (mut ended, mut known) = (0, 0);
        for _ in 0..outlook.most_steps {
            while self.play(outlook.permille, (ended, known), &mut ends, &mut forecast) {}
            let next = ends.first().map(|(at, ..)| *at).into_iter().chain(self.next_timer()).min();
            let Some(next) = next.filter(|next| *next <= horizon) else {
                forecast.until = horizon;
                return forecast;
            };
            self.apply(Event::Time(next)).expect("time can be told");
            while let Some((_, job, epoch, learned, comes_back)) = ends.first().copied().filter(|(at, ..)| *at <= self.now) {
                ends.pop_first();
                let end = if comes_back { RunEnd::Retry { not_before: self.now } } else { RunEnd::Finished };
                self.apply(Event::Ended { job, epoch, end }).expect("it runs");
                ended += 1;
                known += u32::from(learned);
            }
        }
        forecast.until = self.now;
        forecast
    }

    /// Plans once and does what is decided; whether there is more to decide now.
    fn play(&mut self, permille: u16, before: (u32, u32), ends: &mut BTreeSet<End>, forecast: &mut Forecast) -> bool {
        let mut more = false;
        for decision in self.plan() {
            match decision {
                Decision::Place(placement) => {
                    let (job, epoch, at) = (placement.job, placement.epoch, self.now);
                    self.apply(Event::Started { job, epoch, at }).expect("it was just placed");
                    let (lasts_ms, learned) = self.lasts(job, permille);
                    ends.insert((Time(at.0.saturating_add(lasts_ms)), job, epoch, learned, false));
                    let start = Start { at, placement, lasts_ms, learned, ends: before };
                    forecast.starts.entry(job).or_insert(start);
                }
                Decision::Interrupt(interruption) => {
                    forecast.interrupted.insert(interruption.job);
                    ends.retain(|(_, job, ..)| *job != interruption.job);
                    ends.insert((self.now, interruption.job, interruption.epoch, true, true));
                }
                Decision::Resize(resize) => {
                    if let SizeChange::Shrinks { .. } = resize.change {
                        self.let_leave(resize.job);
                        more = true;
                    }
                    let ending = ends.iter().find(|(_, job, ..)| *job == resize.job).copied();
                    if let Some(end @ (_, job, epoch, _, false)) = ending {
                        ends.remove(&end);
                        let (lasts_ms, learned) = self.lasts(job, permille);
                        ends.insert((Time(self.now.0.saturating_add(lasts_ms)), job, epoch, learned, false));
                    }
                }
            }
        }
        more
    }

    /// Workers of a run that are told to leave do so now.
    fn let_leave(&mut self, job: JobId) {
        let resize = self.resize_of(job, SizeChange::HasShrunk);
        let nodes = resize.bound(&self.classes.get(self.jobs.held(job).class).gang);
        self.apply(Event::Bound { job, epoch: resize.epoch, nodes }).expect("it runs");
    }

    /// How long a placed job's run lasts from now on, and whether that was learned.
    fn lasts(&self, job: JobId, permille: u16) -> (i64, bool) {
        let job = self.jobs.held(job);
        let State::Placed(run) = &job.state else { return (0, true) };
        if run.stopping {
            return (0, true);
        }
        let attained_ms = job.attained_ms.saturating_add(run.done_ms(self.now));
        let (work_ms, learned) = self.estimates.remaining_quantile_ms(job.likeness, attained_ms, permille);
        (time_of(work_ms, run.speed), learned)
    }
}
