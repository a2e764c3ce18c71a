//! Why a job is where it is. The leader asks its own engine; any other replica folds one from the tables.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use muster_core::name::JobName;
use muster_kit::{Error, Result};
use muster_scheduler_engine::{Engine, Explanation, Hold, JobId, Reason, Standing, Time, show, show_budget};

use super::App;
use super::forecast::{ForeseenStart, expected_start, may_be_copied};
use super::mind::Mind;
use crate::domain::cluster::ClusterFacts;
use crate::domain::job::JobState;
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
                    (told.expected_start, told.late_start) = expected_start(engine, engine_id(job.id), job.gpus).await?;
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
    clusters: Vec<ClusterFacts>,
    /// Windows of budgets, by queue and number.
    windows: BTreeMap<(String, usize), Window>,
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
        Some(Self { explanation, clusters: mind.clusters.values().cloned().collect(), windows: windows.collect(), plays_on })
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
        expected_start: None,
        late_start: None,
    }
}

fn tell(job: &Job, known: &Known, waiting: u32, now: Timestamp) -> JobExplanation {
    let explanation = &known.explanation;
    let mut candidates: Vec<Candidate> = explanation
        .clusters
        .iter()
        .map(|verdict| {
            let facts = known.clusters.iter().find(|facts| facts.name == verdict.cluster);
            let (flavor, price) = facts.map_or((String::new(), 0), |facts| cheapest(job, facts));
            Candidate {
                cluster: verdict.cluster.clone(),
                fits: matches!(verdict.reason, Reason::Here | Reason::Room),
                reason: reason(&verdict.reason),
                flavor,
                micros_per_gpu_hour: price,
                tier: verdict.tier.map_or(0, |tier| u32::try_from(tier + 1).unwrap_or(u32::MAX)),
            }
        })
        .collect();
    let order = |candidate: &Candidate| {
        let tier = if candidate.tier == 0 { u32::MAX } else { candidate.tier };
        let price = if candidate.micros_per_gpu_hour == 0 { i64::MAX } else { candidate.micros_per_gpu_hour };
        (tier, price, candidate.cluster.clone())
    };
    candidates.sort_by_key(order);
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
        Standing::Placed { cluster, .. } => match job.state {
            JobState::Cancelled | JobState::Suspended | JobState::Refused => {
                format!("{}: its run on {cluster} is being stopped", job.state)
            }
            JobState::Queued | JobState::Placed | JobState::Running | JobState::Succeeded | JobState::Failed | JobState::Lost => {
                let why = if job.reason.is_empty() { String::new() } else { format!(": {}", job.reason) };
                format!("{} on {cluster}{why}", job.state)
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
    JobExplanation { summary, position, waiting, queue_limits, candidates, unblocked_by, expected_start: None, late_start: None }
}

/// The cheapest model that would do, and its price; nothing without GPUs.
fn cheapest(job: &Job, facts: &ClusterFacts) -> (String, i64) {
    if job.gpus == 0 {
        return (String::new(), 0);
    }
    let suits = |flavor: &str| job.gang.flavors.is_empty() || job.gang.flavors.contains(flavor);
    let flavors: BTreeSet<&str> =
        facts.nodes.iter().map(|node| node.flavor.as_str()).filter(|flavor| !flavor.is_empty() && suits(flavor)).collect();
    let price = |flavor: &str| facts.prices.get(flavor).map(|price| price.micros_per_gpu_hour);
    let best = flavors.into_iter().min_by_key(|flavor| (price(flavor).unwrap_or(i64::MAX), *flavor));
    best.map_or((String::new(), 0), |flavor| (flavor.to_owned(), price(flavor).unwrap_or(0)))
}

fn instant(at: Time) -> String {
    Timestamp::from_millisecond(at.0).map_or_else(|_| format!("{} ms", at.0), |at| format!("{at:.0}"))
}

fn reason(reason: &Reason) -> String {
    match reason {
        Reason::TierClosed { opens: Some(at) } => format!("its tier opens for this job at {}", instant(*at)),
        Reason::TierClosed { opens: None }
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
        | Reason::Full(_) => reason.to_string(),
    }
}

fn hold(hold: &Hold) -> String {
    match hold {
        Hold::TierOpens { tier, at } => format!("tier {} opens at {}", tier + 1, instant(*at)),
        Hold::BackOff { until } => format!("back-off until {}", instant(*until)),
        Hold::Room { .. } => {
            format!("no cluster it may use has {hold}").replace("has room on a cluster it may use;", "has room;")
        }
        Hold::NoCluster => "no cluster it may use could hold it".to_owned(),
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
        Hold::NoCluster => "a cluster that can hold it joins its queue's tiers".to_owned(),
        Hold::TierOpens { tier, at } => format!("tier {} opens at {}", tier + 1, instant(*at)),
        Hold::BackOff { until } => format!("its back-off ends at {}", instant(*until)),
        Hold::Resume => "somebody resumes it".to_owned(),
    }
}
