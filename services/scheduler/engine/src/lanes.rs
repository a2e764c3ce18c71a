//! Where jobs wait. A *lane* holds the waiting jobs of one (queue, class, priority, expectation, time run) in order of submission: if
//! its head can't be placed none behind it can, so that a lane is one entry, however many jobs it holds.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use crate::class::{Class, ClassId, time_of};
use crate::cluster::Candidate;
use crate::event::{JobId, Time};
use crate::groups::GroupId;
use crate::jobs::NumberHashing;
use crate::queues::{QueueIndex, Work};
use crate::spec::TierOpens;

/// Number of a lane.
pub(crate) type LaneId = usize;
/// The order inside a queue: priority (higher first), *standing*, row. The standing is the time of submission moved back by the
/// GPU-time that the job is expected to take, but by no more than [`MOST_HEAD_START_MS`]: a job passes one that came before it only
/// if it is smaller by more than it came later, so that nothing is passed for ever.
pub(crate) type LaneOrder = (Reverse<i32>, Time, JobId);

/// Nothing that comes later than this is put before a job of its priority, however large that is.
pub(crate) const MOST_HEAD_START_MS: i64 = 14 * 24 * 60 * 60 * 1_000;

#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) queue: QueueIndex,
    /// What its gangs ask for: their least size.
    pub(crate) class: ClassId,
    /// What they need at their full size.
    pub(crate) whole: ClassId,
    pub(crate) priority: i32,
    /// Expected remaining time of each of its jobs.
    pub(crate) expected_ms: i64,
    /// The same times the gang's GPUs.
    pub(crate) expected_gpu_ms: i64,
    /// How long each of them has run: see [`Job::ran_ms`](crate::engine::Job::ran_ms).
    pub(crate) ran_ms: i64,
    /// What each of its jobs waits for a multiple of: see [`work_ms`].
    pub(crate) work_ms: i64,
    /// When they should be done.
    pub(crate) deadline: Option<Time>,
    pub(crate) jobs: BTreeSet<(Time, JobId)>,
    /// What decides whether it has room, and its entry in the queue's list.
    pub(crate) listed: Option<(GroupId, LaneOrder)>,
    /// When the next tier opens for its head, if a timer rings for that.
    pub(crate) tier_opens: Option<Time>,
    /// Its head as it stands in [`Lanes::shortest`] and [`Lanes::oldest`].
    marked: Option<Mark>,
}

/// (time of submission, job, time of submission moved on by what its runs lasted).
type Mark = (Time, JobId, Time);

impl Lane {
    pub(crate) fn head(&self) -> Option<(Time, JobId)> {
        self.jobs.first().copied()
    }

    pub(crate) fn order(&self) -> Option<LaneOrder> {
        self.head().map(|(at, job)| (Reverse(self.priority), self.standing(at), job))
    }

    /// Where a job stands that was submitted then.
    pub(crate) fn standing(&self, submitted_at: Time) -> Time {
        Time(submitted_at.0.saturating_add(self.head_start_ms()))
    }

    /// What each of its jobs counts with in budgets at a place, by its speed and price there.
    pub(crate) fn work(&self, class: &Class, place: Option<&Candidate>) -> Work {
        let speed = class.speed(place.and_then(|place| place.flavor));
        let gpu_ms = if class.gpus == 0 { 0 } else { time_of(self.work_ms, speed) };
        Work::new(gpu_ms, place.and_then(|place| place.price)).with_egress(place.and_then(|place| place.egress))
    }

    /// What each of its jobs counts with in budgets where it is split over places with so many GPUs each.
    pub(crate) fn work_over<'a>(&self, class: &Class, parts: impl Iterator<Item = (&'a Candidate, i64)>) -> Work {
        work_over(self.expected_ms, class, parts)
    }

    pub(crate) fn head_start_ms(&self) -> i64 {
        self.expected_gpu_ms.min(MOST_HEAD_START_MS)
    }
}

/// The GPU-time that a gang is expected to take, with an assumption where nothing is known of it: what it waits for a multiple of
/// before a dearer tier opens ([`TierOpens::AfterWaitingForWork`]).
pub(crate) fn work_ms(expected_ms: i64, gpus: i64) -> i64 {
    TierOpens::lasts_ms(expected_ms).saturating_mul(gpus.max(1))
}

/// What a gang of which so much is expected counts with in budgets where it is split over places with so many GPUs each.
pub(crate) fn work_over<'a>(expected_ms: i64, class: &Class, parts: impl Iterator<Item = (&'a Candidate, i64)>) -> Work {
    let part = |(place, gpus): (&Candidate, i64)| {
        let lasts_ms = time_of(work_ms(expected_ms, 1), class.speed(place.flavor));
        Work::new(lasts_ms.saturating_mul(gpus), place.price).with_egress(place.egress)
    };
    parts.map(part).fold(Work::default(), Work::and)
}

/// What the jobs of a lane have in common: queue, class of the full size, priority, expected remaining time and how long they have run, in steps, in
/// milliseconds, and the deadline.
pub(crate) type LaneKey = (QueueIndex, ClassId, i32, i64, i64, Option<Time>);

/// What decides when a later tier opens for a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    pub(crate) submitted_at: Time,
    /// See [`Job::ran_ms`](crate::engine::Job::ran_ms).
    pub(crate) ran_ms: i64,
    /// See [`work_ms`].
    pub(crate) work_ms: i64,
    /// The latest moment to begin at and be done by its deadline.
    pub(crate) begin_by: Option<Time>,
}

impl Waits {
    /// Of a gang of so many GPUs.
    pub(crate) fn of(submitted_at: Time, ran_ms: i64, expected_ms: i64, gpus: i64, deadline: Option<Time>) -> Self {
        let begin_by = deadline.map(|deadline| Time(deadline.0.saturating_sub(TierOpens::lasts_ms(expected_ms))));
        Self { submitted_at, ran_ms, work_ms: work_ms(expected_ms, gpus), begin_by }
    }
}

/// All lanes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lanes {
    all: Vec<Option<Lane>>,
    unused: Vec<LaneId>,
    by_key: HashMap<LaneKey, LaneId, NumberHashing>,
    /// Lanes by expected GPU-time, then age of the head.
    shortest: BTreeSet<(i64, Time, JobId, LaneId)>,
    /// Lanes by how long their heads have waited, runs not counted.
    oldest: BTreeSet<(Time, JobId, LaneId)>,
    /// Lanes whose head has changed since they were put into these two orders, each once, and which those are.
    stale: Vec<LaneId>,
    is_stale: Vec<bool>,
}

impl Lanes {
    pub(crate) fn get(&self, id: LaneId) -> &Lane {
        self.all[id].as_ref().expect("sets of the engine name living lanes")
    }

    pub(crate) fn get_mut(&mut self, id: LaneId) -> &mut Lane {
        self.all[id].as_mut().expect("sets of the engine name living lanes")
    }

    /// A lane that may be gone by now.
    pub(crate) fn living(&self, id: LaneId) -> Option<&Lane> {
        self.all.get(id)?.as_ref()
    }

    pub(crate) fn find(&self, key: &LaneKey) -> Option<LaneId> {
        self.by_key.get(key).copied()
    }

    /// All of them, by key.
    pub(crate) fn ids(&self) -> Vec<LaneId> {
        let mut all: Vec<(LaneKey, LaneId)> = self.by_key.iter().map(|(key, id)| (*key, *id)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, id)| id).collect()
    }

    /// A lane for gangs that ask for this and have so many GPUs at their full size.
    pub(crate) fn create(&mut self, key: LaneKey, class: ClassId, gpus: i64) -> LaneId {
        let (queue, whole, priority, expected_ms, ran_ms, deadline) = key;
        let lane = Some(Lane {
            queue,
            class,
            whole,
            priority,
            expected_ms,
            expected_gpu_ms: expected_ms.saturating_mul(gpus.max(1)),
            ran_ms,
            work_ms: work_ms(expected_ms, gpus),
            deadline,
            jobs: BTreeSet::new(),
            listed: None,
            tier_opens: None,
            marked: None,
        });
        let id = match self.unused.pop() {
            Some(id) => {
                self.all[id] = lane;
                id
            }
            None => {
                self.all.push(lane);
                self.is_stale.push(false);
                self.all.len() - 1
            }
        };
        self.by_key.insert(key, id);
        id
    }

    pub(crate) fn remove(&mut self, id: LaneId) {
        self.unmark(id);
        if let Some(lane) = self.all[id].take() {
            self.by_key.remove(&(lane.queue, lane.whole, lane.priority, lane.expected_ms, lane.ran_ms, lane.deadline));
            self.unused.push(id);
        }
    }

    fn unmark(&mut self, id: LaneId) {
        let Some(lane) = self.all[id].as_mut() else { return };
        if let Some((at, job, since)) = lane.marked.take() {
            self.shortest.remove(&(lane.expected_gpu_ms, at, job, id));
            self.oldest.remove(&(since, job, id));
        }
    }

    /// Notes that a lane's head is another.
    pub(crate) fn head_changed(&mut self, id: LaneId) {
        if !self.is_stale[id] {
            self.is_stale[id] = true;
            self.stale.push(id);
        }
    }

    /// Brings the two orders up to date. `since` says of a job when it would have been submitted had it not run meanwhile.
    fn refresh(&mut self, since: &dyn Fn(JobId) -> Time) {
        while let Some(id) = self.stale.pop() {
            self.is_stale[id] = false;
            self.unmark(id);
            let Some(lane) = self.all[id].as_mut() else { continue };
            if let Some((at, job)) = lane.head() {
                let since = since(job);
                lane.marked = Some((at, job, since));
                let expected = lane.expected_gpu_ms;
                self.shortest.insert((expected, at, job, id));
                self.oldest.insert((since, job, id));
            }
        }
    }

    /// The lanes with the least expected GPU-time.
    pub(crate) fn shortest(&mut self, most: usize, since: &dyn Fn(JobId) -> Time) -> Vec<LaneId> {
        self.refresh(since);
        self.shortest.iter().take(most).map(|(_, _, _, lane)| *lane).collect()
    }

    /// The lanes whose heads have waited longest, with since when.
    pub(crate) fn oldest(&mut self, most: usize, since: &dyn Fn(JobId) -> Time) -> Vec<(Time, LaneId)> {
        self.refresh(since);
        self.oldest.iter().take(most).map(|(since, _, lane)| (*since, *lane)).collect()
    }
}
