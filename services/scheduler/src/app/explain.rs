//! Why a job is where it is. The leader asks its own engine; any other replica folds one from the tables.

use std::collections::BTreeMap;

use jiff::Timestamp;
use muster_core::name::JobName;
use muster_kit::{Error, Result};
use muster_scheduler_engine::{
    ClusterVerdict, Engine, Explanation, Hold, JobId, ModelVerdict, QueueShare, Reason, SizeVerdict, Smaller, Standing, Time,
    show, show_budget,
};

use super::App;
use super::forecast::{ForeseenStart, expected_start, may_be_copied};
use super::lately::half_life_ms;
use super::mind::Mind;
use crate::domain::job::JobState;
use crate::domain::parts::listed;
use crate::domain::queue::Window;
use crate::domain::record::{Job, engine_id};
use crate::store;

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobExplanation {
    /// One sentence.
    pub summary: String,
    /// Place in its queue's order, from 1; 0 when it does not wait.
    pub position: u32,
    /// Jobs waiting in its queue.
    pub waiting: u32,
    /// What holds it in its queue, one line a resource.
    pub queue_limits: Vec<String>,
    /// Every cluster's answer, in the order in which they are tried.
    pub candidates: Vec<Candidate>,
    /// What would unblock it.
    pub unblocked_by: Vec<String>,
    /// Where its queue stands among its siblings, and those above it, one line each.
    pub queue_shares: Vec<String>,
    /// Why its first place comes before the next one with another GPU model; empty where there is none.
    pub preference: String,
    /// How large it is and may be; `None` for a job of one size.
    pub size: Option<SizeVerdict>,
    /// Why it is not larger; empty where it is as large as it may be, or does not run.
    pub not_larger_because: String,
    /// In which clusters of a region its workers would be, or what these lack; empty where it stays in one, or has room in one.
    pub span: String,
    /// When it is expected to start.
    pub expected_start: Option<ForeseenStart>,
    /// When it starts if every run lasts long.
    pub late_start: Option<ForeseenStart>,
}

/// A cluster's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub cluster: String,
    /// Whether the job fits there now, or is there.
    pub fits: bool,
    /// The reason.
    pub reason: String,
    /// The model it would use; empty if none suits.
    pub flavor: String,
    /// Price of a GPU-hour of it; 0 without one.
    pub micros_per_gpu_hour: i64,
    /// The tier that names it, from 1; 0 if none does.
    pub tier: u32,
    /// Its models that would do, in the order in which they are tried.
    pub models: Vec<ModelVerdict>,
}

impl App {
    /// Explains a job.
    ///
    /// # Errors
    /// A job that isn't there.
    pub async fn explain(&self, name: &JobName) -> Result<JobExplanation> {
        let job = store::job::get(&self.pool, name.namespace(), name.job()).await?.ok_or_else(|| Error::not_found(name))?;
        let (waiting, _) = store::queue::load(&self.pool, &job.queue).await?;
        let known = {
            let mind = self.mind.lock().expect("no holder of this lock panics");
            mind.as_ref()
                .filter(|mind| self.leadership.epoch() == Some(mind.epoch))
                .and_then(|mind| Known::by(mind, engine_id(job.id)))
        };
        let known = match known {
            Some(known) => Some(known),
            None => Known::by(&self.load_mind().await?, engine_id(job.id)),
        };
        Ok(match known {
            Some(known) => {
                let mut told = tell(&job, &known, waiting, self.now());
                if let Some(engine) = known.plays_on {
                    (told.expected_start, told.late_start) = expected_start(engine, engine_id(job.id)).await?;
                }
                told
            }
            None => unknown(&job, waiting, store::queue::get(&self.pool, &job.queue).await?.is_some()),
        })
    }
}

/// What is known of a job that is not over.
struct Known {
    explanation: Explanation,
    /// Windows of budgets, by queue and number.
    windows: BTreeMap<(String, usize), Window>,
    /// Half-lives of usage, by queue, in milliseconds.
    half_lives: BTreeMap<String, i64>,
    /// A copy that says when the job starts, where it waits and the engine is not too large for it.
    plays_on: Option<Engine>,
}

impl Known {
    fn by(mind: &Mind, job: JobId) -> Option<Self> {
        let explanation = mind.engine.explain(job)?;
        let windows = mind.definitions.values().flat_map(|queue| {
            queue.budgets.iter().enumerate().map(|(number, budget)| ((queue.name.clone(), number), budget.window.clone()))
        });
        let waits = matches!(explanation.standing, Standing::Waiting | Standing::BackOff { .. });
        let plays_on = (waits && may_be_copied(mind)).then(|| mind.engine.clone());
        let names = explanation.shares.iter().map(|share| share.queue.clone());
        let half_lives = names.filter_map(|name| half_life_ms(&name, &mind.definitions).map(|half_life| (name, half_life)));
        let half_lives = half_lives.collect();
        Some(Self { explanation, windows: windows.collect(), half_lives, plays_on })
    }
}

/// A job the engine does not know: it is over, or its queue isn't there.
fn unknown(job: &Job, waiting: u32, queue_exists: bool) -> JobExplanation {
    let (summary, unblocked_by) = if job.state.is_finished() {
        (format!("{}: {}", job.state, job.reason), Vec::new())
    } else if queue_exists {
        let why = format!("queue {:?} can't take jobs: its parent is missing, or there are queues below it", job.queue);
        (why.clone(), vec![why])
    } else {
        (format!("queue {:?} does not exist", job.queue), vec![format!("queue {:?} is made", job.queue)])
    };
    JobExplanation {
        summary,
        position: 0,
        waiting,
        queue_limits: Vec::new(),
        candidates: Vec::new(),
        unblocked_by,
        queue_shares: Vec::new(),
        preference: String::new(),
        size: None,
        not_larger_because: String::new(),
        span: String::new(),
        expected_start: None,
        late_start: None,
    }
}

fn tell(job: &Job, known: &Known, waiting: u32, now: Timestamp) -> JobExplanation {
    let explanation = &known.explanation;
    let mut verdicts: Vec<&ClusterVerdict> = explanation.clusters.iter().collect();
    let last = |place: Option<usize>| place.unwrap_or(usize::MAX);
    verdicts.sort_by_key(|verdict| (last(verdict.tier), last(verdict.place), &verdict.cluster));
    let candidates: Vec<Candidate> = verdicts
        .into_iter()
        .map(|verdict| {
            let first = verdict.models.first();
            Candidate {
                cluster: verdict.cluster.clone(),
                fits: matches!(verdict.reason, Reason::Here | Reason::Room),
                reason: match &verdict.moving {
                    Some(moving) => format!("{}; {moving}", reason(&verdict.reason)),
                    None => reason(&verdict.reason),
                },
                flavor: first.map_or_else(String::new, |model| model.flavor.clone()),
                micros_per_gpu_hour: first.and_then(|model| model.price_micros).unwrap_or(0),
                models: verdict.models.clone(),
                tier: verdict.tier.map_or(0, |tier| u32::try_from(tier + 1).unwrap_or(u32::MAX)),
            }
        })
        .collect();
    let queue_limits: Vec<String> = explanation
        .holds
        .iter()
        .filter(|hold| {
            matches!(hold, Hold::Capability { .. } | Hold::Borrowing { .. } | Hold::Lending { .. } | Hold::Budget { .. })
        })
        .map(ToString::to_string)
        .collect();
    let unblocked_by: Vec<String> = explanation.holds.iter().map(|hold| unblock(hold, &known.windows, now)).collect();
    let position =
        if explanation.standing == Standing::Waiting { u32::try_from(explanation.ahead + 1).unwrap_or(u32::MAX) } else { 0 };
    let summary = match &explanation.standing {
        Standing::Placed { cluster, .. } => match (job.state, place(cluster, &explanation.clusters)) {
            (JobState::Cancelled | JobState::Suspended | JobState::Refused, place) => {
                format!("{}: its run on {place} is being stopped", job.state)
            }
            (
                state @ (JobState::Queued
                | JobState::Placed
                | JobState::Running
                | JobState::Succeeded
                | JobState::Failed
                | JobState::Lost),
                place,
            ) => {
                let why = if job.reason.is_empty() { String::new() } else { format!(": {}", job.reason) };
                format!("{state} on {place}{why}")
            }
        },
        Standing::Suspended => format!("suspended: {}", job.reason),
        Standing::BackOff { until } => format!("waits for its retry until {}", instant(*until)),
        Standing::Waiting if unblocked_by.is_empty() => "is next: it has room and nothing holds it".to_owned(),
        Standing::Waiting => {
            let holds: Vec<String> = explanation.holds.iter().map(hold).collect();
            format!("waits in queue {:?}, number {position}: {}", explanation.queue, holds.join("; "))
        }
    };
    let preference = explanation.preference.as_ref().map_or_else(String::new, ToString::to_string);
    JobExplanation {
        summary,
        position,
        waiting,
        queue_limits,
        candidates,
        unblocked_by,
        queue_shares: explanation.shares.iter().map(|share| queue_share(share, &known.half_lives)).collect(),
        preference,
        not_larger_because: explanation.size.as_ref().and_then(|size| size.why.as_ref()).map_or_else(String::new, smaller),
        size: explanation.size.clone(),
        span: explanation.span.as_ref().map_or_else(String::new, ToString::to_string),
        expected_start: None,
        late_start: None,
    }
}

/// The cluster, or all clusters of a run that is in several.
fn place(first: &str, verdicts: &[ClusterVerdict]) -> String {
    let here = verdicts.iter().filter(|verdict| verdict.reason == Reason::Here);
    let here: Vec<String> = here.map(|verdict| verdict.cluster.clone()).collect();
    if here.len() > 1 { listed(&here) } else { first.to_owned() }
}

fn smaller(why: &Smaller) -> String {
    match why {
        Smaller::TooSoon { at } => format!("its size is left as it is until {}", instant(*at)),
        Smaller::Refused { until } => {
            format!("its cluster refused to have it larger; its size is left as it is until {}", instant(*until))
        }
        Smaller::NotRunning
        | Smaller::Leaving { .. }
        | Smaller::Limit(_)
        | Smaller::Elsewhere
        | Smaller::NotLive
        | Smaller::NoRoom => why.to_string(),
    }
}

fn queue_share(share: &QueueShare, half_lives: &BTreeMap<String, i64>) -> String {
    let QueueShare { queue, weight, share_ppm, used_lately } = share;
    let mut line = format!("queue {queue:?}: {:.2} % of everything, weight {weight}", *share_ppm as f64 / 1e4);
    if let Some(half_life_ms) = half_lives.get(queue) {
        let hours = *half_life_ms as f64 / 3_600_000.0;
        line += &format!(
            "; in this count {:.2} GPUs that it has used lately on the mean (half-life {hours} h)",
            *used_lately as f64 / 1e3
        );
    }
    line
}

fn instant(at: Time) -> String {
    Timestamp::from_millisecond(at.0).map_or_else(|_| format!("{} ms", at.0), |at| format!("{at:.0}"))
}

fn reason(reason: &Reason) -> String {
    match reason {
        Reason::TierClosed { opens: Some(at) } => format!("its tier opens for this job at {}", instant(*at)),
        Reason::TierClosed { opens: None }
        | Reason::TooFewWait(_)
        | Reason::Here
        | Reason::Room
        | Reason::NotInTiers
        | Reason::TakesNoJobs
        | Reason::Cordoned
        | Reason::Suspect
        | Reason::Lost
        | Reason::Absent
        | Reason::NoApi { .. }
        | Reason::NoFlavor { .. }
        | Reason::TooSmall(_)
        | Reason::Full(_)
        | Reason::NoLevel { .. }
        | Reason::NoDomain(_)
        | Reason::Apart(_) => reason.to_string(),
    }
}

fn hold(hold: &Hold) -> String {
    match hold {
        Hold::TierOpens { tier, at } => format!("tier {} opens at {}", tier + 1, instant(*at)),
        Hold::MoreWaiting { tier, threshold } => format!("tier {} {threshold}", tier + 1),
        Hold::BackOff { until } => format!("back-off until {}", instant(*until)),
        Hold::Room { .. } => {
            format!("no cluster it may use has {hold}").replace("has room on a cluster it may use;", "has room;")
        }
        Hold::Together { .. } => format!("no cluster it may use has {hold}").replace(" of a cluster it may use", ""),
        Hold::NoCluster => "no cluster it may use could hold it".to_owned(),
        Hold::Region(verdict) => format!("several clusters of one region have no room for it either: {verdict}"),
        Hold::Capability { .. } | Hold::Borrowing { .. } | Hold::Lending { .. } | Hold::Budget { .. } | Hold::Resume => {
            hold.to_string()
        }
    }
}

fn unblock(hold: &Hold, budget_windows: &BTreeMap<(String, usize), Window>, now: Timestamp) -> String {
    match hold {
        Hold::Capability { queue, resource, limit, used, asked } => {
            let beyond = show(resource, used.saturating_add(*asked).saturating_sub(*limit));
            format!("{beyond} {resource} of queue {queue:?} is freed, or its capability is raised by as much")
        }
        Hold::Borrowing { queue, resource, guaranteed, most, used, asked } => {
            let limit = guaranteed.saturating_add(*most);
            let beyond = show(resource, used.saturating_add(*asked).saturating_sub(limit));
            format!("{beyond} {resource} of queue {queue:?} is freed, or its borrowing limit is raised by as much")
        }
        Hold::Lending { queue: _, resource, keepers, limit, used, kept, asked } => {
            let beyond = show(resource, used.saturating_add(*kept).saturating_add(*asked).saturating_sub(*limit));
            let keepers = keepers.iter().map(|keeper| format!("{keeper:?}")).collect::<Vec<_>>().join(" and ");
            format!("{beyond} {resource} that others borrow is freed, or queue {keepers} lends as much more")
        }
        Hold::Budget { queue, number, budget, counted, asked } => {
            let beyond = show_budget(budget.unit, counted.saturating_add(*asked).saturating_sub(budget.amount));
            let anew = match budget_windows.get(&(queue.clone(), *number)).and_then(|window| window.next(now)) {
                Some(at) => format!("begins anew at {at:.0}"),
                None => "moves on, or runs take less than expected".to_owned(),
            };
            format!("the window of budget {} of queue {queue:?} {anew}, or the budget is raised by {beyond}", number + 1)
        }
        Hold::Room { short_of } => {
            format!("{} is freed on a cluster it may use", short_of.iter().cloned().collect::<Vec<_>>().join(" and "))
        }
        Hold::Together { .. } => format!("there is {hold}"),
        Hold::NoCluster => "a cluster that can hold it joins its queue's tiers".to_owned(),
        Hold::Region(verdict) => format!("more is freed on clusters of one region: {verdict}"),
        Hold::TierOpens { tier, at } => format!("tier {} opens at {}", tier + 1, instant(*at)),
        Hold::MoreWaiting { tier, threshold } => format!("tier {} {threshold}", tier + 1),
        Hold::BackOff { until } => format!("its back-off ends at {}", instant(*until)),
        Hold::Resume => "somebody resumes it".to_owned(),
    }
}
