//! A run in all its clusters. A gang that spans several is one run with a *part* in each; every other run is one part, which is all
//! of it. What a run is follows from its parts: it runs once all of them do, and is over once all of them are.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::job::{JobState, Others};
use super::record::Run;

/// The parts of one run, in their order; at least one, and at most one in a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts(Vec<Run>);

impl From<Run> for Parts {
    /// A run in one cluster.
    fn from(run: Run) -> Self {
        Self(vec![run])
    }
}

impl Parts {
    /// The parts of one run in any order; `None` where there are none.
    #[must_use]
    pub fn of(mut parts: Vec<Run>) -> Option<Self> {
        parts.sort_by_key(|part| part.part);
        (!parts.is_empty()).then_some(Self(parts))
    }

    /// Puts parts together by (job, epoch).
    #[must_use]
    pub fn by_run(parts: impl IntoIterator<Item = Run>) -> BTreeMap<(i64, u32), Self> {
        let mut runs: BTreeMap<(i64, u32), Vec<Run>> = BTreeMap::new();
        for part in parts {
            runs.entry((part.job_id, part.epoch)).or_default().push(part);
        }
        runs.into_iter().filter_map(|(key, parts)| Some((key, Self::of(parts)?))).collect()
    }

    /// The first one, which is the whole run where that is in one cluster.
    #[must_use]
    pub fn first(&self) -> &Run {
        self.0.first().expect("there is at least one")
    }

    /// As [`Parts::first`].
    pub fn first_mut(&mut self) -> &mut Run {
        self.0.first_mut().expect("there is at least one")
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Run> {
        self.0.iter()
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Run> {
        self.0.iter_mut()
    }

    /// Whether the run is in several clusters.
    #[must_use]
    pub fn spans(&self) -> bool {
        self.0.len() > 1
    }

    /// The number of the part in a cluster.
    #[must_use]
    pub fn number_in(&self, cluster: &str) -> Option<usize> {
        self.0.iter().position(|part| part.cluster == cluster)
    }

    /// A part by a number that [`Parts::number_in`] gave.
    #[must_use]
    pub fn part(&self, number: usize) -> &Run {
        &self.0[number]
    }

    /// As [`Parts::part`].
    pub fn part_mut(&mut self, number: usize) -> &mut Run {
        &mut self.0[number]
    }

    /// The numbers of those that go on.
    #[must_use]
    pub fn going_on(&self) -> Vec<usize> {
        (0..self.0.len()).filter(|number| self.0[*number].finished_at.is_none()).collect()
    }

    /// What all but one are at.
    #[must_use]
    pub fn others(&self, number: usize) -> Others {
        if !self.spans() {
            return Others::None;
        }
        let all = |is: fn(JobState) -> bool| self.0.iter().enumerate().all(|(at, part)| at == number || is(part.state));
        if all(|state| state == JobState::Succeeded) {
            Others::Succeeded
        } else if all(runs) {
            Others::Run
        } else {
            Others::Awaited
        }
    }

    /// Whether every part runs, or ran until it was done.
    #[must_use]
    pub fn all_run(&self) -> bool {
        self.0.iter().all(|part| runs(part.state))
    }

    /// Since when all of it runs; `None` as long as any part has not begun.
    #[must_use]
    pub fn started_at(&self) -> Option<Timestamp> {
        self.0.iter().map(|part| part.started_at).collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// When the last part ended; `None` as long as any goes on.
    #[must_use]
    pub fn finished_at(&self) -> Option<Timestamp> {
        self.0.iter().map(|part| part.finished_at).collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// Whether any part was told to end early, which means that all of them are to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.iter().any(|part| part.stopping.is_some())
    }

    /// How it stands or ended. What made a run end counts, and not what became of the parts that were stopped for it.
    #[must_use]
    pub fn state(&self) -> JobState {
        if !self.spans() {
            return self.first().state;
        }
        let any = |state: &JobState| self.0.iter().any(|part| part.state == *state);
        let ended = [JobState::Failed, JobState::Refused, JobState::Suspended, JobState::Cancelled].into_iter().find(any);
        ended.unwrap_or_else(|| match (self.finished_at(), self.all_run()) {
            (Some(_), true) => JobState::Succeeded,
            (None, true) => JobState::Running,
            (_, false) => JobState::Placed,
        })
    }

    /// GPUs of all of it.
    #[must_use]
    pub fn gpus(&self) -> u32 {
        self.0.iter().fold(0, |sum, part| sum.saturating_add(part.gpus))
    }

    /// Pods by phase, in all clusters.
    #[must_use]
    pub fn pods(&self) -> BTreeMap<String, u32> {
        let mut pods: BTreeMap<String, u32> = BTreeMap::new();
        for (phase, count) in self.0.iter().flat_map(|part| &part.pods) {
            let sum = pods.entry(phase.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
        pods
    }

    /// Why it is as it is: of a run in several clusters what each of them says, by name.
    #[must_use]
    pub fn reason(&self) -> String {
        let said = self.0.iter().filter(|part| !part.reason.is_empty());
        said.map(|part| self.said_by(part, &part.reason)).collect::<Vec<_>>().join("; ")
    }

    /// What a part's cluster says, with the cluster's name where the run is in several.
    #[must_use]
    pub fn said_by(&self, part: &Run, reason: &str) -> String {
        match (self.spans(), reason.is_empty()) {
            (false, _) => reason.to_owned(),
            (true, true) => format!("in {}", part.cluster),
            (true, false) => format!("{}: {reason}", part.cluster),
        }
    }

    /// Where it is: `idc`, `idc and cloud`, `idc, cloud and edge`.
    #[must_use]
    pub fn clusters(&self) -> String {
        let names: Vec<String> = self.0.iter().map(|part| part.cluster.clone()).collect();
        listed(&names)
    }
}

fn runs(state: JobState) -> bool {
    matches!(state, JobState::Running | JobState::Succeeded)
}

/// Names as people list them.
#[must_use]
pub fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
