//! Runs make room by right. Inside a queue a gang of higher priority takes the place of runs of lower priority. Between queues a
//! gang that is within its queue's share takes the place of runs of a queue that has borrowed, i.e. has more than it is guaranteed:
//! at once, if the gang is within what its own queue is guaranteed; else once it has waited for [`SHARE_AFTER_MS`], and only as far
//! as the giver still has no less than the taker. Gangs end whole; the lowest priority first, of these the youngest, and
//! no more than are needed; none before the least run time of its queue. Victims return to their queue at their original time.
//!
//! The rule between queues can't go back and forth: after it the giver has at least the share of the taker.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::class::ClassId;
use crate::cluster::{Candidate, ClusterIndex};
use crate::engine::{Engine, Job, State, Timer};
use crate::event::{Cause, Decision, JobId, Time};
use crate::freeing::Going;
use crate::lanes::LaneId;
use crate::promise::Promise;
use crate::queues::{QueueIndex, ROOT};
use crate::ranking::{Share, Tournament};
use crate::vector::Vector;

/// Gangs that get room in one queue by one plan, lanes looked at for the next of them, clusters tried and runs looked at for one.
const MOST_GANGS: usize = 16;
const MOST_LANES: usize = 8;
const MOST_CANDIDATES: usize = 16;
const MOST_RUNS: usize = 8_192;

/// A gang that has waited so long, runs not counted, stands on its queue's share: it may take room back from queues that use more
/// than theirs, and for a gang of such a queue it is not interrupted. Before that, order by time goes before order by share: room
/// that a short gang borrows comes back by itself, sooner than runs could be stopped and started for it.
pub(crate) const SHARE_AFTER_MS: i64 = 4 * 60 * 60 * 1_000;
/// What runs beyond a queue's share is left alone for so long at least, so that queues of equal right don't trade places all day.
/// What runs on what is guaranteed to another has only its queue's least run time.
const BORROWED_RUNTIME_MS: i64 = 60 * 60 * 1_000;

/// Who wants room, and among whom.
struct Taker {
    lane: LaneId,
    /// The queue among whose children share is compared; for a priority the queue of both.
    among: QueueIndex,
    /// The child of it that the gang is in or below.
    side: QueueIndex,
    /// That child's share with the gang.
    share: Share,
}

/// A queue that gives, in the order of giving: the share of the child it is in or below, its own share, its name; then that child
/// and itself.
type Giver<'a> = (Reverse<Share>, Reverse<Share>, &'a str, QueueIndex, QueueIndex);

impl Engine {
    /// Lists a started run among those that may have to make room.
    pub(crate) fn list_started(&mut self, id: JobId) {
        let Some(Job { state: State::Placed(run), queue, priority, .. }) = self.jobs.get(id) else { return };
        let (Some(at), false, true) = (run.started_at, run.stopping, run.leaving.is_empty()) else { return };
        let (queue, priority, mut is_new) = (*queue, *priority, false);
        for cluster in run.clusters() {
            let started = self.sites[cluster].started.entry(queue).or_default();
            is_new |= started.insert((priority, Reverse(at), Reverse(id)));
        }
        if is_new {
            *self.queues.get_mut(queue).started.entry(priority).or_default() += 1;
            self.queues.touch(queue);
        }
    }

    /// Takes a run from that list.
    pub(crate) fn unlist_started(&mut self, id: JobId) {
        let Some(Job { state: State::Placed(run), queue, priority, .. }) = self.jobs.get(id) else { return };
        let Some(at) = run.started_at else { return };
        let (queue, priority, mut was_there) = (*queue, *priority, false);
        for cluster in run.clusters() {
            let site = &mut self.sites[cluster];
            let Some(runs) = site.started.get_mut(&queue) else { continue };
            was_there |= runs.remove(&(priority, Reverse(at), Reverse(id)));
            if runs.is_empty() {
                site.started.remove(&queue);
            }
        }
        if !was_there {
            return;
        }
        let started = &mut self.queues.get_mut(queue).started;
        if let Some(count) = started.get_mut(&priority) {
            *count -= 1;
            if *count == 0 {
                started.remove(&priority);
            }
        }
    }

    /// Makes room in and between the queues in which something changed since the last plan.
    pub(crate) fn reclaim(&mut self, decisions: &mut Vec<Decision>, limit: usize) {
        self.queues.mark_moved();
        self.queues.settle(&self.everything);
        for queue in self.queues.take_touched() {
            for _ in 0..MOST_GANGS {
                if decisions.len() >= limit {
                    self.queues.touch(queue);
                    break;
                }
                self.queues.settle(&self.everything);
                let made = if self.queues.get(queue).children.is_empty() {
                    self.preempt_in(queue, decisions)
                } else {
                    self.reclaim_among(queue, decisions)
                };
                if !made {
                    break;
                }
            }
        }
    }

    /// The first lanes of a queue, also those that a limit holds back.
    fn preempt_in(&mut self, queue: QueueIndex, decisions: &mut Vec<Decision>) -> bool {
        let entry = self.queues.get(queue);
        let Some(lowest) = entry.started.keys().next().copied() else { return false };
        for lane in entry.first_lanes(MOST_LANES) {
            if self.lanes.get(lane).priority <= lowest {
                return false;
            }
            let taker = Taker { lane, among: queue, side: queue, share: Share::ZERO };
            if self.take_for(&taker, Cause::Priority, decisions) {
                return true;
            }
        }
        false
    }

    fn reclaim_among(&mut self, among: QueueIndex, decisions: &mut Vec<Decision>) -> bool {
        let entry = self.queues.get(among);
        let greatest = entry.ranking.greatest();
        if entry.children.len() < 2 || greatest.borrowed == 0 || !entry.ranking.asks() {
            return false;
        }
        let Some(taker) = self.least_served(among) else { return false };
        if taker.share.borrowed > 0 && taker.share > greatest {
            return false;
        }
        self.take_for(&taker, Cause::Share, decisions)
    }

    /// The child with the least share including its next gang, with that gang.
    fn least_served(&mut self, among: QueueIndex) -> Option<Taker> {
        self.catch_up(among);
        let entry = self.queues.get(among);
        let tree = entry.blocked.tree.as_ref()?;
        let (place, share) = (tree.first()?, tree.least());
        Some(Taker { lane: entry.blocked.lanes[place]?, among, side: entry.children[place], share })
    }

    /// Finds the next lanes of those children anew that have changed.
    fn catch_up(&mut self, queue: QueueIndex) {
        let mut blocked = std::mem::take(&mut self.queues.get_mut(queue).blocked);
        let count = self.queues.get(queue).children.len();
        let mut tree = blocked.tree.take().unwrap_or_else(|| Tournament::new(count));
        blocked.lanes.resize(count, None);
        let mut anew: Vec<usize> = Vec::new();
        self.queues.get(queue).changes.since(blocked.seen, &mut |place| anew.push(place));
        for place in anew {
            self.stats.entries_visited += 1;
            let side = self.queues.get(queue).children[place];
            let lane = self.next_blocked(side);
            let share = lane.map_or(Share::NONE, |lane| self.queues.share(side, self.total_of(lane), &self.everything));
            blocked.lanes[place] = lane;
            tree.set(place, share);
        }
        blocked.seen = self.queues.get(queue).changes.count();
        blocked.tree = Some(tree);
        self.queues.get_mut(queue).blocked = blocked;
    }

    /// The next lane at or below a queue whose gang room could be made for by others: no limit from the lane's queue up to this one
    /// is in its way, since what others give up leaves those as full as they are. A limit above may be in its way: what others give up
    /// counts there.
    fn next_blocked(&mut self, queue: QueueIndex) -> Option<LaneId> {
        if !self.queues.get(queue).children.is_empty() {
            self.catch_up(queue);
        }
        let entry = self.queues.get(queue);
        let may_have = |lane: LaneId| {
            let of = self.lanes.get(lane).queue;
            self.queues.excess(of, queue, self.total_of(lane)).is_empty() && self.may_pay(queue, lane)
        };
        let Some(tree) = &entry.blocked.tree else {
            let may_take = |lane: LaneId| self.lanes.get(lane).head().is_some_and(|(_, job)| !self.has_runs_ending(job));
            return entry.first_lanes(MOST_LANES).into_iter().find(|lane| may_take(*lane) && may_have(*lane));
        };
        let first = entry.blocked.lanes[tree.first()?]?;
        if may_have(first) {
            return Some(first);
        }
        let everybody = vec![u64::MAX; entry.children.len().div_ceil(64)];
        tree.best(&everybody, &mut |place| {
            let lane = entry.blocked.lanes[place].filter(|lane| may_have(*lane))?;
            Some((self.queues.share(entry.children[place], self.total_of(lane), &self.everything), lane))
        })
    }

    /// Whether a queue's own budgets allow the gang of a lane at one of its places.
    fn may_pay(&self, queue: QueueIndex, lane: LaneId) -> bool {
        let entry = self.queues.get(queue);
        let lane = self.lanes.get(lane);
        let Some((group, _)) = lane.listed.filter(|_| !entry.spec.budgets.is_empty()) else { return true };
        let class = self.classes.get(lane.class);
        let candidates = self.groups.get(group).open_candidates().iter().take(MOST_CANDIDATES);
        candidates.map(|candidate| lane.work(class, Some(candidate))).any(|work| entry.unaffordable(work).next().is_none())
    }

    /// What a gang of a lane asks for.
    fn total_of(&self, lane: LaneId) -> &Vector {
        &self.classes.get(self.lanes.get(lane).class).total
    }

    fn take_for(&mut self, taker: &Taker, cause: Cause, decisions: &mut Vec<Decision>) -> bool {
        let lane = self.lanes.get(taker.lane);
        let (Some((_, job)), Some((group, _))) = (lane.head(), lane.listed) else { return false };
        let (queue, class_id) = (lane.queue, lane.class);
        if self.has_runs_ending(job) {
            return false;
        }
        if taker.share.borrowed > 0 && matches!(cause, Cause::Share) {
            let at = Time(self.jobs.held(job).waits_since().0.saturating_add(SHARE_AFTER_MS));
            if at > self.now {
                self.timers.insert((at, Timer::Ripe(taker.among)));
                return false;
            }
        }
        self.stats.entries_visited += 1;
        self.renew(group);
        let candidates = self.groups.get(group).open_candidates().iter().take(MOST_CANDIDATES);
        let candidates: Vec<Candidate> = candidates.filter(|candidate| self.affords(job, candidate)).cloned().collect();
        let mut ripe_at: Option<Time> = None;
        // A reservation gives way to room that can be had at once.
        let reservation = self.set_promise_aside(job);
        for candidate in &candidates {
            let eligible = match cause {
                Cause::Priority => self.of_lower_priority(taker, candidate.cluster, &mut ripe_at),
                Cause::Share | Cause::Sooner | Cause::Overdue | Cause::Surplus | Cause::Better => {
                    self.borrowed_by_others(taker, candidate.cluster, &mut ripe_at)
                }
            };
            if eligible.is_empty() {
                continue;
            }
            self.in_vain.insert(taker.among);
            let rights = self.queues.rights(queue, &self.classes.get(class_id).total, taker.among);
            let eligible = self.with_surplus(&eligible);
            let Some((places, going)) = self.free_up(class_id, candidate, &eligible, Some(rights)) else { continue };
            let promise = Promise::of(candidate, places, &going);
            if let Some(reservation) = reservation {
                self.freed.extend(reservation.parts().map(|(cluster, _)| cluster));
            }
            self.promise(job, promise, going, cause, decisions);
            return true;
        }
        if let Some(reservation) = reservation {
            self.take_promised(class_id, &reservation);
            self.promise(job, reservation, Going::default(), cause, decisions);
        }
        if let Some(at) = ripe_at {
            self.timers.insert((at, Timer::Ripe(taker.among)));
        }
        false
    }

    /// Whether a run has lasted for its queue's least run time; if not, when it will have.
    fn is_ripe(&self, queue: QueueIndex, started_at: Time, least_ms: i64, ripe_at: &mut Option<Time>) -> bool {
        let least_ms = self.queues.get(queue).spec.min_runtime_ms.max(least_ms);
        let at = Time(started_at.0.saturating_add(least_ms));
        if at > self.now {
            *ripe_at = Some(ripe_at.map_or(at, |known| known.min(at)));
        }
        at <= self.now
    }

    fn of_lower_priority(&mut self, taker: &Taker, cluster: ClusterIndex, ripe_at: &mut Option<Time>) -> Vec<JobId> {
        let priority = self.lanes.get(taker.lane).priority;
        let runs = self.sites[cluster].started.get(&taker.among).into_iter().flatten();
        let lower = runs.take_while(|(its_priority, ..)| *its_priority < priority).take(MOST_RUNS);
        lower.filter(|(_, Reverse(at), _)| self.is_ripe(taker.among, *at, 0, ripe_at)).map(|(.., Reverse(id))| *id).collect()
    }

    fn borrowed_by_others(&mut self, taker: &Taker, cluster: ClusterIndex, ripe_at: &mut Option<Time>) -> Vec<JobId> {
        let mut givers: Vec<Giver<'_>> = Vec::new();
        for queue in self.sites[cluster].started.keys() {
            if let Some(side) = self.giving_side(*queue, taker) {
                let share = |of| Reverse(self.queues.share(of, &Vector::default(), &self.everything));
                givers.push((share(side), share(*queue), &self.queues.get(*queue).spec.name, side, *queue));
            }
        }
        givers.sort_unstable();
        // What the giving sides would be left with.
        let mut left: BTreeMap<QueueIndex, Vector> = BTreeMap::new();
        let (mut eligible, mut looked_at) = (Vec::new(), 0);
        for (_, _, _, side, queue) in givers {
            let left = left.entry(side).or_insert_with(|| self.queues.get(side).usage.clone());
            // A shape that would be too much to give stays so: the side is never left with more.
            let mut too_much: Option<ClassId> = None;
            let mut borrows = self.queues.share_of(side, left, &self.everything).borrowed > 0;
            for (_, Reverse(at), Reverse(id)) in &self.sites[cluster].started[&queue] {
                looked_at += 1;
                if looked_at > MOST_RUNS {
                    return eligible;
                }
                let least_ms = if taker.share.borrowed > 0 { BORROWED_RUNTIME_MS } else { 0 };
                if !self.is_ripe(queue, *at, least_ms, ripe_at) {
                    continue;
                }
                if !borrows {
                    break;
                }
                let State::Placed(run) = &self.jobs.held(*id).state else { continue };
                let class = run.class;
                if too_much == Some(class) {
                    continue;
                }
                let mut less = left.clone();
                less.sub(&self.classes.get(class).total);
                let after = self.queues.share_of(side, &less, &self.everything);
                if taker.share.borrowed == 0 || taker.share <= after {
                    *left = less;
                    borrows = after.borrowed > 0;
                    eligible.push(*id);
                } else {
                    too_much = Some(class);
                }
            }
        }
        eligible
    }

    /// The child of the queue in which shares are compared that this queue is in or below, if that has borrowed and everything
    /// from there down may be reclaimed.
    fn giving_side(&self, queue: QueueIndex, taker: &Taker) -> Option<QueueIndex> {
        let mut at = queue;
        while at != ROOT {
            let entry = self.queues.get(at);
            if !entry.spec.reclaimable {
                return None;
            }
            if entry.parent == taker.among {
                let borrows = self.queues.share(at, &Vector::default(), &self.everything).borrowed > 0;
                return (at != taker.side && borrows).then_some(at);
            }
            at = entry.parent;
        }
        None
    }

    /// Whether a run of a queue has a better right to its place than a gang of another: it had waited for long when it began,
    /// and the gang's queue would have more than the run's is left with.
    pub(crate) fn stands_on_its_share(&self, run: JobId, began: Time, gang: JobId) -> bool {
        let (run, gang) = (self.jobs.held(run), self.jobs.held(gang));
        if began.0.saturating_sub(run.waits_since().0) < SHARE_AFTER_MS {
            return false;
        }
        let Some((of_gang, of_run)) = self.queues.sides(gang.queue, run.queue) else { return false };
        let with = self.queues.share(of_gang, &self.classes.get(gang.asks).total, &self.everything);
        with > self.queues.share_without(of_run, &self.class_of_run(run.id).total, &self.everything)
    }
}
