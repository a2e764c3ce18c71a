//! Parking and waking of lanes. A lane leaves its wait list only when what it waits for may have come: room on a cluster
//! it may use, headroom under the capability that held it, or the opening of a tier.

use std::collections::{BTreeMap, BTreeSet};

use crate::class::ClassId;
use crate::cluster::ClusterIndex;
use crate::engine::{Engine, Job, State, Timer};
use crate::event::{JobId, Time};
use crate::lanes::{LaneId, LaneKey, Parked, WaitKey, WaitsFor};
use crate::queues::QueueIndex;

impl Engine {
    /// Puts a waiting job into its lane.
    pub(crate) fn enqueue(&mut self, id: JobId) {
        let likeness = self.likeness(id);
        let job = self.jobs.get_mut(&id).expect("callers hold a known job");
        job.state = State::Waiting;
        job.expected_ms = self.estimates.remaining_ms(&likeness, job.attained_ms);
        self.line_up(id);
    }

    /// Puts a waiting job, whose expectation is set, into its lane.
    pub(crate) fn line_up(&mut self, id: JobId) {
        let (key, at) = self.lane_key(id);
        let (queue, class, _, _) = key;
        let lane = match self.lanes.find(&key) {
            Some(lane) => lane,
            None => {
                let lane = self.lanes.create(key, self.classes.get(class).gpus);
                self.queues.get_mut(queue).lanes.insert(lane);
                lane
            }
        };
        self.stats.entries_visited += 1;
        let old_head = self.lanes.get(lane).head();
        self.lanes.get_mut(lane).jobs.insert((at, id));
        self.head_may_have_changed(lane, old_head);
    }

    /// The lane of a waiting job, and its time of submission.
    fn lane_key(&self, id: JobId) -> (LaneKey, Time) {
        let Job { queue, class, spec, expected_ms, .. } = self.jobs.get(&id).expect("callers hold a known job");
        ((*queue, *class, spec.priority, *expected_ms), spec.submitted_at)
    }

    /// Takes a waiting job out of its lane.
    pub(crate) fn dequeue(&mut self, id: JobId) {
        self.promised.remove(&id);
        let (key, at) = self.lane_key(id);
        let (queue, ..) = key;
        let lane = self.lanes.find(&key).expect("a waiting job is in a lane");
        self.stats.entries_visited += 1;
        let old_head = self.lanes.get(lane).head();
        self.lanes.get_mut(lane).jobs.remove(&(at, id));
        if self.lanes.get(lane).jobs.is_empty() {
            self.unpark(lane);
            self.unlist_ready(lane);
            self.queues.get_mut(queue).lanes.remove(&lane);
            self.lanes.remove(lane);
            self.refresh(queue);
        } else {
            self.head_may_have_changed(lane, old_head);
        }
    }

    fn head_may_have_changed(&mut self, lane: LaneId, old_head: Option<(Time, JobId)>) {
        let entry = self.lanes.get(lane);
        if entry.head() == old_head {
            return;
        }
        match entry.parked {
            Parked::Ready => self.ready(lane),
            // The new head may have waited longer or shorter for the next tier than the old one.
            Parked::Room { .. } if self.queues.tiers(entry.queue).len() > 1 => self.wake(lane),
            Parked::Room { .. } | Parked::Capability(_) => {}
        }
    }

    /// Lists a lane that is not parked with its queue.
    fn ready(&mut self, id: LaneId) {
        self.unlist_ready(id);
        let lane = self.lanes.get_mut(id);
        lane.ready_as = lane.order();
        let queue = lane.queue;
        if let Some(order) = lane.ready_as {
            self.fresh.insert(id);
            self.queues.get_mut(queue).ready.insert((order, id));
        }
        self.refresh(queue);
    }

    fn unlist_ready(&mut self, id: LaneId) {
        let lane = self.lanes.get_mut(id);
        let queue = lane.queue;
        if let Some(order) = lane.ready_as.take() {
            self.queues.get_mut(queue).ready.remove(&(order, id));
        }
    }

    /// Takes a lane from whatever list it waits on.
    fn unpark(&mut self, id: LaneId) {
        match std::mem::replace(&mut self.lanes.get_mut(id).parked, Parked::Ready) {
            Parked::Ready => {}
            Parked::Capability(queue) => {
                self.queues.get_mut(queue).limited.remove(&id);
            }
            Parked::Room { keys, tier_opens } => {
                self.lanes.unlist(id, &keys);
                self.lanes.shortest.remove(&(self.lanes.get(id).expected_gpu_ms, id));
                if let Some(at) = tier_opens {
                    self.timers.remove(&(at, Timer::Tier(id)));
                }
            }
        }
    }

    pub(crate) fn wake(&mut self, id: LaneId) {
        self.unpark(id);
        self.ready(id);
    }

    /// Parks a lane until the capability of `queue` has room for it.
    pub(crate) fn park_for_capability(&mut self, id: LaneId, queue: QueueIndex) {
        self.unlist_ready(id);
        self.lanes.get_mut(id).parked = Parked::Capability(queue);
        self.queues.get_mut(queue).limited.insert(id);
        let own = self.lanes.get(id).queue;
        self.refresh(own);
    }

    /// Parks a lane until a cluster has room for it.
    pub(crate) fn park_for_room(&mut self, id: LaneId, tier_opens: Option<Time>) {
        self.unlist_ready(id);
        let class = self.classes.get(self.lanes.get(id).class);
        let gpus = class.gpus;
        let keys: Vec<WaitKey> = if gpus == 0 {
            vec![WaitKey { what: WaitsFor::NoGpu, gpus }]
        } else if class.flavors.is_empty() {
            vec![WaitKey { what: WaitsFor::AnyGpu, gpus }]
        } else {
            class.flavors.iter().map(|flavor| WaitKey { what: WaitsFor::Gpu(*flavor), gpus }).collect()
        };
        for key in &keys {
            self.lanes.waiting.entry(*key).or_default().insert(id);
        }
        if let Some(at) = tier_opens {
            self.timers.insert((at, Timer::Tier(id)));
        }
        self.lanes.shortest.insert((self.lanes.get(id).expected_gpu_ms, id));
        let lane = self.lanes.get_mut(id);
        lane.parked = Parked::Room { keys, tier_opens };
        let queue = lane.queue;
        self.refresh(queue);
    }

    /// Wakes the lanes held by the capability of a queue or its ancestors that would pass it now.
    pub(crate) fn wake_limited(&mut self, queue: QueueIndex) {
        let chain: Vec<QueueIndex> = self.queues.chain(queue).collect();
        for index in chain {
            let held: Vec<LaneId> = self.queues.get(index).limited.iter().copied().collect();
            for lane in held {
                self.stats.entries_visited += 1;
                let total = &self.classes.get(self.lanes.get(lane).class).total;
                if self.queues.excess(index, total).next().is_none() {
                    self.wake(lane);
                }
            }
        }
    }

    /// Wakes every lane of the queues.
    pub(crate) fn wake_queues(&mut self, queues: &[QueueIndex]) {
        for queue in queues {
            let lanes: Vec<LaneId> = self.queues.get(*queue).lanes.iter().copied().collect();
            for lane in lanes {
                self.stats.entries_visited += 1;
                self.wake(lane);
            }
        }
    }

    /// Wakes every lane that waits for room. For changes of clusters, prices and labels: rare, and any lane may gain.
    pub(crate) fn wake_all_waiting(&mut self) {
        let lanes: BTreeSet<LaneId> = self.lanes.waiting.values().flatten().copied().collect();
        for lane in lanes {
            self.stats.entries_visited += 1;
            self.wake(lane);
        }
    }

    /// Wakes the lanes for which a cluster on which something became free may now have room: those that wait for a model
    /// it has and for no more GPUs than are free there.
    pub(crate) fn wake_for_freed(&mut self) {
        let freed = std::mem::take(&mut self.freed);
        if !freed.is_empty() {
            self.no_room.clear();
        }
        for index in freed {
            let Some(cluster) = self.clusters[index].as_ref() else { continue };
            let mut ranges = vec![(WaitsFor::NoGpu, 0)];
            let mut most = 0;
            for flavor in cluster.nodes.flavors() {
                let gpus = cluster.nodes.gpus_free(flavor);
                most = most.max(gpus);
                ranges.push((WaitsFor::Gpu(flavor), gpus));
            }
            ranges.push((WaitsFor::AnyGpu, most));
            let mut lanes = BTreeSet::new();
            for (what, gpus) in ranges {
                let range = WaitKey { what, gpus: 0 }..=WaitKey { what, gpus };
                lanes.extend(self.lanes.waiting.range(range).flat_map(|(_, lanes)| lanes.iter().copied()));
            }
            let mut answers: BTreeMap<(ClassId, QueueIndex), bool> = BTreeMap::new();
            for lane in lanes {
                self.stats.entries_visited += 1;
                let (queue, class) = (self.lanes.get(lane).queue, self.lanes.get(lane).class);
                let key = (class, self.queues.tier_owner(queue));
                let fits = match answers.get(&key) {
                    Some(fits) => *fits,
                    None => {
                        let fits = self.could_fit(index, queue, class);
                        answers.insert(key, fits);
                        fits
                    }
                };
                if fits {
                    self.wake(lane);
                }
            }
        }
    }

    fn could_fit(&mut self, cluster: ClusterIndex, queue: QueueIndex, class: ClassId) -> bool {
        let (_, candidates) = self.candidates(queue, class);
        let class = self.classes.get(class);
        let Some(nodes) = self.clusters[cluster].as_ref().map(|cluster| &cluster.nodes) else { return false };
        let mut tried = 0;
        let fits = candidates.iter().filter(|candidate| candidate.cluster == cluster).any(|candidate| {
            tried += 1;
            nodes.could_fit(class, candidate.flavor)
        });
        self.stats.fits_tried += tried;
        fits
    }

    /// Ends back-offs and tier waits that are over.
    pub(crate) fn ring_timers(&mut self) {
        while let Some((at, timer)) = self.timers.first().copied() {
            if at > self.now {
                return;
            }
            self.timers.pop_first();
            self.stats.entries_visited += 1;
            match timer {
                Timer::Retry(job) => self.enqueue(job),
                Timer::Tier(lane) => self.wake(lane),
                Timer::Longer(job) => self.list(job),
            }
        }
    }
}
