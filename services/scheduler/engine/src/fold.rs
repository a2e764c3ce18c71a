//! Folding facts into the state. A fact that can't be true is refused and changes nothing.

use std::collections::BTreeMap;

use crate::cluster::{Cluster, ClusterIndex};
use crate::engine::{Engine, Job, Run, State, Timer};
use crate::event::{Epoch, Event, JobId, Refused, RunEnd, Time};
use crate::nodes::Nodes;
use crate::queues::{Charge, QueueIndex};
use crate::spec::{ClusterSpec, Elastic, JobSpec, Prefers, QueueSpec};
use crate::vector::Vector;

impl Engine {
    /// Folds one fact.
    ///
    /// # Errors
    /// The field at fault and why; a fact about a run that names another epoch than the current one is refused too.
    pub fn apply(&mut self, event: Event) -> Result<(), Refused> {
        self.stats.events += 1;
        match event {
            Event::Cluster(spec) => self.upsert_cluster(spec),
            Event::ClusterGone(name) => self.remove_cluster(&name),
            Event::Queue(spec) => self.upsert_queue(spec),
            Event::QueueGone(name) => self.queues.remove(&name).inspect(|()| self.tiers_changed()),
            Event::Counted { queue, counted } => self.count_anew(&queue, counted),
            Event::UsedLately { queue, gpus } => self.used_lately(&queue, gpus),
            Event::Submitted { job, suspended } => {
                self.tell(job.submitted_at);
                let id = self.insert_job(job, None)?;
                if !suspended {
                    self.enqueue(id);
                }
                Ok(())
            }
            Event::Withdrawn(id) => self.withdraw(id),
            Event::Suspended(id) => {
                self.set_aside(id)?;
                self.job_mut(id)?.state = State::Suspended;
                Ok(())
            }
            Event::Resumed(id) => match self.job_mut(id)?.state {
                State::Suspended => {
                    self.enqueue(id);
                    Ok(())
                }
                State::Waiting(_) | State::BackOff(_) | State::Placed(_) => {
                    Err(Refused::new("job", format!("job {} is not suspended", id.0)))
                }
            },
            Event::Stopping { job, epoch } => {
                self.run_mut(job, epoch)?.stopping = true;
                self.unlist(job);
                self.unlist_started(job);
                self.unlist_size(job);
                Ok(())
            }
            Event::Started { job, epoch, at } => {
                self.tell(at);
                let run = self.run_mut(job, epoch)?;
                if run.started_at.is_none() {
                    run.started_at = Some(at);
                    self.list_started(job);
                    self.list(job);
                    self.list_size(job);
                }
                Ok(())
            }
            Event::Bound { job, epoch, nodes } => self.bind(job, epoch, nodes),
            Event::BoundOn { job, epoch, cluster, nodes } => self.bind_named(job, epoch, &cluster, nodes),
            Event::Ended { job, epoch, end } => self.end_run(job, epoch, end),
            Event::Time(at) => {
                self.tell(at);
                Ok(())
            }
        }
    }

    /// Time never goes back: a fact with an older instant leaves *now* alone.
    fn tell(&mut self, at: Time) {
        self.now = self.now.max(at);
    }

    pub(crate) fn upsert_cluster(&mut self, spec: ClusterSpec) -> Result<(), Refused> {
        if spec.name.is_empty() {
            return Err(Refused::new("name", "must not be empty"));
        }
        for (field, amounts) in [("prices", &spec.prices), ("emissions", &spec.emissions), ("egress", &spec.egress)] {
            if let Some((of, _)) = amounts.iter().find(|(_, amount)| **amount < 0) {
                return Err(Refused::new(format!("{field}[{of}]"), "must not be negative"));
            }
        }
        let mut names = std::collections::BTreeSet::new();
        for (index, node) in spec.nodes.iter().enumerate() {
            if !names.insert(&node.name) {
                return Err(Refused::new(format!("nodes[{index}].name"), format!("{:?} is there twice", node.name)));
            }
            for amounts in [&node.allocatable, &node.used_by_others] {
                if let Some((name, _)) = amounts.iter().find(|(_, amount)| *amount < 0) {
                    return Err(Refused::new(format!("nodes[{index}].{name}"), "must not be negative"));
                }
            }
        }
        let index = self.site(&spec.name);
        let old = self.sites[index].cluster.as_ref();
        if old.is_some_and(|old| old.spec == spec) {
            return Ok(());
        }
        let shape_changed = old.is_none_or(|old| old.differs_beyond_use(&spec));
        let mut nodes = Nodes::new(&spec.nodes, &mut self.resources, &mut self.flavors);
        if self.mix.lacks_models(&self.flavors) {
            self.mix.show(&self.flavors);
        }
        let allocatable = nodes.allocatable();
        self.move_to(index, &mut nodes);
        let site = &mut self.sites[index];
        site.cluster = Some(Cluster { allocatable, spec });
        site.taken += 1;
        self.freed.insert(index);
        if shape_changed {
            self.tiers_changed();
        }
        Ok(())
    }

    /// Puts what is on a site's nodes onto other nodes of the same names, which take their place.
    fn move_to(&mut self, index: ClusterIndex, nodes: &mut Nodes) {
        let runs: Vec<JobId> = self.sites[index].runs.iter().copied().collect();
        for id in &runs {
            if let Some(Job { state: State::Placed(run), .. }) = self.jobs.get_mut(*id) {
                for place in run.places_mut(index) {
                    place.node = nodes.index_of(self.sites[index].nodes.name(place.node));
                }
            }
        }
        for place in self.promised.values_mut().flat_map(|promise| promise.places_mut(index)) {
            place.node = nodes.index_of(self.sites[index].nodes.name(place.node));
        }
        self.sites[index].nodes = std::mem::take(nodes);
        for id in runs {
            for (node, amount) in self.reserved(id, index) {
                self.sites[index].nodes.take(node, &amount, &self.resources);
            }
            if self.jobs.held(id).is_elastic() {
                // Its nodes may be of another model now.
                self.list_size(id);
            }
        }
        for (id, places) in self.promised.iter().filter_map(|(id, promise)| Some((id, promise.on(index)?))) {
            let class = self.classes.get(self.jobs.held(*id).class);
            self.sites[index].nodes.take_places(class, places, &self.resources);
        }
    }

    fn remove_cluster(&mut self, name: &str) -> Result<(), Refused> {
        let index = self.site_by_name.get(name).copied().filter(|index| self.sites[*index].cluster.is_some());
        let index = index.ok_or_else(|| Refused::new("name", format!("cluster {name:?} does not exist")))?;
        self.sites[index].cluster = None;
        self.move_to(index, &mut Nodes::default());
        self.freed.insert(index);
        self.tiers_changed();
        Ok(())
    }

    fn upsert_queue(&mut self, spec: QueueSpec) -> Result<(), Refused> {
        let known = self.queues.find(&spec.name);
        if known.is_some_and(|index| self.queues.get(index).spec == spec) {
            return Ok(());
        }
        let index = self.queues.upsert(spec, &mut self.resources, &self.everything)?;
        self.tiers_changed();
        if known.is_some() {
            self.let_all_go(index);
            let subtree = self.queues.subtree(index);
            self.list_anew(&subtree);
            self.let_go_below(index);
        }
        Ok(())
    }

    /// Takes in what counts in a queue's budgets.
    pub(crate) fn count_anew(&mut self, queue: &str, counted: Vec<i64>) -> Result<(), Refused> {
        let index = self.queues.find(queue).ok_or_else(|| Refused::new("queue", format!("queue {queue:?} does not exist")))?;
        let entry = self.queues.get_mut(index);
        if entry.counted.len() != counted.len() {
            return Err(Refused::new("counted", format!("queue {queue:?} has {} budgets", entry.counted.len())));
        }
        if entry.counted != counted {
            entry.counted = counted;
            self.queues.mark(index);
            self.let_go_below(index);
            self.misplaced.look();
        }
        Ok(())
    }

    /// After a change of clusters or tiers: what may be used, and so what shares are parts of, is another.
    fn tiers_changed(&mut self) {
        self.groups.all_stale();
        self.misplaced.stale();
        self.let_unpaid_go(0..=usize::MAX);
        // Where nobody could go before, runs may have to make room now.
        let all: Vec<QueueIndex> = self.queues.iter().map(|(index, _)| index).collect();
        for queue in all {
            self.queues.touch(queue);
        }
        let mut everything = Vector::default();
        for cluster in self.sites.iter().filter_map(|site| site.cluster.as_ref()) {
            let used = cluster.spec.takes_jobs
                || self.queues.iter().any(|(_, queue)| {
                    !queue.spec.tiers.is_empty() && crate::cluster::tier_of(&queue.spec.tiers, &cluster.spec).is_some()
                });
            if used {
                everything.add(&cluster.allocatable);
            }
        }
        if everything != self.everything {
            self.everything = everything;
            self.queues.mark_all(&self.everything);
        }
        if self.queues.count_kept(&self.everything) {
            self.let_everybody_go();
        }
    }

    /// Typical speeds have changed, and with them which places come first for jobs that prefer the fastest.
    fn speeds_changed(&mut self) {
        // Also for those whose speeds nobody knows: they are taken to be normal, and compared like all others.
        let (groups, queues) = (&mut self.groups, &self.queues);
        groups.stale_of(|key| queues.prefers(key.owner) == Prefers::Fastest);
        self.misplaced.stale();
        self.let_unpaid_go(0..=usize::MAX);
    }

    /// Adds a job that is kept aside; it waits once it is enqueued. What was learned of its speeds is looked up, unless it is told.
    pub(crate) fn insert_job(&mut self, spec: JobSpec, learned: Option<BTreeMap<String, u32>>) -> Result<JobId, Refused> {
        let id = spec.id;
        if self.jobs.contains(id) {
            return Err(Refused::new("id", format!("job {} is known already", id.0)));
        }
        let queue = self
            .queues
            .find(&spec.queue)
            .ok_or_else(|| Refused::new("queue", format!("queue {:?} does not exist", spec.queue)))?;
        if !self.queues.get(queue).children.is_empty() {
            return Err(Refused::new("queue", format!("queue {:?} has queues below it; jobs go to those", spec.queue)));
        }
        let (class, likeness) = self.class_of(&spec, learned)?;
        let asks = match spec.gang.elastic {
            Some(Elastic { least, .. }) => {
                let learned = self.classes.get(class).learned.clone();
                self.intern(&spec.gang.at(least), &learned)
            }
            None => class,
        };
        for group in &self.classes.get(class).groups {
            self.mix.count(group.shape, group.replicas);
        }
        self.mix.publish_if_due(&self.flavors);
        if self.typical.add(self.classes.get(class)) {
            self.speeds_changed();
        }
        self.queues.get_mut(queue).jobs += 1;
        self.jobs.insert(Job {
            id,
            queue,
            class,
            asks,
            likeness,
            priority: spec.priority,
            submitted_at: spec.submitted_at,
            deadline: spec.deadline,
            epoch: Epoch(0),
            attained_ms: 0,
            expected_ms: 0,
            state: State::Suspended,
        });
        Ok(id)
    }

    fn forget_job(&mut self, id: JobId) {
        if let Some(job) = self.jobs.remove(id) {
            self.queues.get_mut(job.queue).jobs -= 1;
            self.estimates.release(job.likeness);
            if self.typical.sub(self.classes.get(job.class)) {
                self.speeds_changed();
            }
            for class in [job.class, job.asks].into_iter().take(if job.is_elastic() { 2 } else { 1 }) {
                if self.classes.release(class, &mut self.mix) {
                    self.groups.forget(class);
                }
            }
        }
    }

    fn job_mut(&mut self, id: JobId) -> Result<&mut Job, Refused> {
        self.jobs.get_mut(id).ok_or_else(|| Refused::new("job", format!("job {} is not known", id.0)))
    }

    pub(crate) fn run_mut(&mut self, id: JobId, epoch: Epoch) -> Result<&mut Run, Refused> {
        let job = self.job_mut(id)?;
        if job.epoch != epoch {
            return Err(Refused::new("epoch", format!("job {} is at epoch {}, not {}", id.0, job.epoch.0, epoch.0)));
        }
        match &mut job.state {
            State::Placed(run) => Ok(run),
            State::Waiting(_) | State::BackOff(_) | State::Suspended => {
                Err(Refused::new("job", format!("job {} is not placed", id.0)))
            }
        }
    }

    /// Takes a job that is not placed out of its lane or its back-off.
    fn set_aside(&mut self, id: JobId) -> Result<(), Refused> {
        match self.job_mut(id)?.state {
            State::Waiting(_) => self.dequeue(id),
            State::BackOff(until) => {
                self.timers.remove(&(until, Timer::Retry(id)));
            }
            State::Suspended => {}
            State::Placed(_) => return Err(Refused::new("job", format!("job {} is placed; its run has to end first", id.0))),
        }
        Ok(())
    }

    fn withdraw(&mut self, id: JobId) -> Result<(), Refused> {
        self.set_aside(id)?;
        self.forget_job(id);
        Ok(())
    }

    fn end_run(&mut self, id: JobId, epoch: Epoch, end: RunEnd) -> Result<(), Refused> {
        let now = self.now;
        let run = self.run_mut(id, epoch)?;
        let (done_ms, of_size, is_listed) = (run.done_ms(now), run.class, run.listed.is_some());
        let (cluster, further) = (run.cluster, run.further());
        let model = self.learns_of(id);
        self.unlist(id);
        self.unlist_started(id);
        if is_listed {
            self.unlist_size(id);
        }
        self.leaving.remove(&id);
        for promise in self.promised.values_mut() {
            promise.left.remove(&id);
        }
        self.hold(id, Charge::Back);
        for cluster in std::iter::once(cluster).chain(further) {
            self.sites[cluster].runs.remove(&id);
        }
        let job = self.jobs.held_mut(id);
        let (queue, full, asks, likeness) = (job.queue, job.class, job.asks, job.likeness);
        let attained_ms = job.attained_ms.saturating_add(done_ms);
        let class = self.classes.get(of_size);
        // What does not go on from a checkpoint begins from nothing again.
        job.attained_ms = if class.gang.restart_ms.is_some() { attained_ms } else { 0 };
        self.queues.charge(queue, &class.total, Charge::Back);
        self.let_class_go(full, asks, of_size);
        self.let_go_below(queue);
        // A better place that is kept for it is of use only if it goes on at once.
        if !matches!(end, RunEnd::Retry { not_before } if not_before <= now) {
            self.break_promise(id);
        }
        match end {
            RunEnd::Finished => {
                // A run that never started teaches nothing.
                if attained_ms > 0 {
                    let model = model.map(|model| self.flavors.name(model));
                    self.estimates.finished(likeness, attained_ms, model);
                }
                self.forget_job(id);
            }
            RunEnd::Suspended => self.job_mut(id)?.state = State::Suspended,
            RunEnd::Retry { not_before } if not_before > self.now => self.back_off(id, not_before),
            RunEnd::Retry { .. } => self.enqueue(id),
        }
        Ok(())
    }

    pub(crate) fn back_off(&mut self, id: JobId, until: Time) {
        if let Some(job) = self.jobs.get_mut(id) {
            job.state = State::BackOff(until);
            self.timers.insert((until, Timer::Retry(id)));
        }
    }
}
