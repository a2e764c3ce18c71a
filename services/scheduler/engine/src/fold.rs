//! Folding facts into the state. A fact that can't be true is refused and changes nothing.

use crate::amounts::Vector;
use crate::class::check;
use crate::cluster::Cluster;
use crate::engine::{Engine, Job, State, Timer};
use crate::event::{BoundNode, ClusterSpec, Epoch, Event, JobId, JobSpec, QueueSpec, Refused, RunEnd, Time};
use crate::nodes::Nodes;
use crate::queues::Charge;

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
            Event::Submitted { job, suspended } => {
                self.tell(job.submitted_at);
                let id = self.insert_job(job)?;
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
                State::Waiting | State::BackOff(_) | State::Placed(_) => {
                    Err(Refused::new("job", format!("job {} is not suspended", id.0)))
                }
            },
            Event::Stopping { job, epoch } => {
                self.run_mut(job, epoch)?.stopping = true;
                self.unlist(job);
                Ok(())
            }
            Event::Started { job, epoch, at } => {
                self.tell(at);
                let run = self.run_mut(job, epoch)?;
                run.started_at = Some(run.started_at.unwrap_or(at));
                self.list(job);
                Ok(())
            }
            Event::Bound { job, epoch, nodes } => self.bind(job, epoch, nodes),
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
        if let Some((flavor, _)) = spec.prices.iter().find(|(_, price)| **price < 0) {
            return Err(Refused::new(format!("prices[{flavor}]"), "must not be negative"));
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
        let known = self.cluster_by_name.get(&spec.name).copied();
        let old = known.and_then(|index| self.clusters[index].as_ref());
        if old.is_some_and(|old| old.spec == spec) {
            return Ok(());
        }
        let shape_changed = old.is_none_or(|old| old.differs_beyond_use(&spec));
        let mut nodes = Nodes::new(&spec.nodes, &mut self.resources, &mut self.flavors);
        for job in self.runs_at.get(&spec.name).into_iter().flatten() {
            for (node, amount) in self.reserved(*job) {
                nodes.take(&node, &amount, &self.resources);
            }
        }
        let name = spec.name.clone();
        let cluster = Cluster { allocatable: nodes.allocatable(), nodes, spec };
        let index = match known {
            Some(index) => {
                self.clusters[index] = Some(cluster);
                index
            }
            None => {
                self.clusters.push(Some(cluster));
                self.cluster_by_name.insert(name, self.clusters.len() - 1);
                self.clusters.len() - 1
            }
        };
        self.freed.insert(index);
        if shape_changed {
            self.tiers_changed();
            self.wake_all_waiting();
        }
        Ok(())
    }

    fn remove_cluster(&mut self, name: &str) -> Result<(), Refused> {
        let index =
            self.cluster_by_name.remove(name).ok_or_else(|| Refused::new("name", format!("cluster {name:?} does not exist")))?;
        self.clusters[index] = None;
        self.freed.remove(&index);
        self.tiers_changed();
        Ok(())
    }

    fn upsert_queue(&mut self, spec: QueueSpec) -> Result<(), Refused> {
        let known = self.queues.find(&spec.name);
        if known.is_some_and(|index| self.queues.get(index).spec == spec) {
            return Ok(());
        }
        let old_parent = known.map(|index| self.queues.get(index).parent);
        let index = self.queues.upsert(spec, &mut self.resources)?;
        self.tiers_changed();
        self.refresh(index);
        if let Some(old_parent) = old_parent {
            let subtree = self.queues.subtree(index);
            self.wake_queues(&subtree);
            self.refresh(old_parent);
            self.wake_limited(old_parent);
        }
        Ok(())
    }

    /// After a change of clusters or tiers: what may be used, and so what shares are parts of, is another.
    fn tiers_changed(&mut self) {
        self.candidates.clear();
        self.no_room.clear();
        let mut everything = Vector::default();
        for cluster in self.clusters.iter().flatten() {
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
            self.refresh_all();
        }
    }

    /// Adds a job that is kept aside; it waits once it is enqueued.
    pub(crate) fn insert_job(&mut self, spec: JobSpec) -> Result<JobId, Refused> {
        let id = spec.id;
        if self.jobs.contains_key(&id) {
            return Err(Refused::new("id", format!("job {} is known already", id.0)));
        }
        let queue = self
            .queues
            .find(&spec.queue)
            .ok_or_else(|| Refused::new("queue", format!("queue {:?} does not exist", spec.queue)))?;
        if !self.queues.get(queue).children.is_empty() {
            return Err(Refused::new("queue", format!("queue {:?} has queues below it; jobs go to those", spec.queue)));
        }
        check(&spec.gang)?;
        let class = self.classes.acquire(&spec.gang, &mut self.resources, &mut self.flavors);
        self.queues.get_mut(queue).jobs += 1;
        self.jobs
            .insert(id, Job { spec, queue, class, epoch: Epoch(0), attained_ms: 0, expected_ms: 0, state: State::Suspended });
        Ok(id)
    }

    fn forget_job(&mut self, id: JobId) {
        if let Some(job) = self.jobs.remove(&id) {
            self.queues.get_mut(job.queue).jobs -= 1;
            if self.classes.release(job.class) {
                self.candidates.remove(&job.class);
            }
        }
    }

    fn job_mut(&mut self, id: JobId) -> Result<&mut Job, Refused> {
        self.jobs.get_mut(&id).ok_or_else(|| Refused::new("job", format!("job {} is not known", id.0)))
    }

    pub(crate) fn run_mut(&mut self, id: JobId, epoch: Epoch) -> Result<&mut crate::engine::Run, Refused> {
        let job = self.job_mut(id)?;
        if job.epoch != epoch {
            return Err(Refused::new("epoch", format!("job {} is at epoch {}, not {}", id.0, job.epoch.0, epoch.0)));
        }
        match &mut job.state {
            State::Placed(run) => Ok(run),
            State::Waiting | State::BackOff(_) | State::Suspended => {
                Err(Refused::new("job", format!("job {} is not placed", id.0)))
            }
        }
    }

    /// Takes a job that is not placed out of its lane or its back-off.
    fn set_aside(&mut self, id: JobId) -> Result<(), Refused> {
        match self.job_mut(id)?.state {
            State::Waiting => self.dequeue(id),
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

    /// What a placed job holds, node by node: what is bound where that is known, else what is planned.
    pub(crate) fn reserved(&self, id: JobId) -> Vec<(String, Vector)> {
        let Some(Job { class, state: State::Placed(run), .. }) = self.jobs.get(&id) else { return Vec::new() };
        match &run.bound {
            Some(nodes) => nodes
                .iter()
                .map(|bound| {
                    let mut amount = Vector::default();
                    for (name, units) in bound.used.iter() {
                        if let Some(index) = self.resources.find(name) {
                            amount.put(index, units);
                        }
                    }
                    (bound.node.clone(), amount)
                })
                .collect(),
            None => {
                let groups = &self.classes.get(*class).groups;
                run.slots.iter().map(|slot| (slot.node.clone(), groups[slot.group].each.times(slot.workers))).collect()
            }
        }
    }

    fn hold(&mut self, id: JobId, charge: Charge) {
        let Some(Job { state: State::Placed(run), .. }) = self.jobs.get(&id) else { return };
        let Some(index) = self.cluster_by_name.get(&run.cluster).copied() else { return };
        let reserved = self.reserved(id);
        let Some(cluster) = self.clusters[index].as_mut() else { return };
        for (node, amount) in reserved {
            match charge {
                Charge::Add => cluster.nodes.take(&node, &amount, &self.resources),
                Charge::Back => cluster.nodes.give(&node, &amount, &self.resources),
            }
        }
        if matches!(charge, Charge::Back) {
            self.freed.insert(index);
        }
    }

    pub(crate) fn bind(&mut self, id: JobId, epoch: Epoch, nodes: Vec<BoundNode>) -> Result<(), Refused> {
        let run = self.run_mut(id, epoch)?;
        if run.bound.as_ref() == Some(&nodes) {
            return Ok(());
        }
        let mut sum = Vector::default();
        for bound in &nodes {
            sum.add(&self.resources.intern(&bound.used));
        }
        let class = self.jobs[&id].class;
        // Fewer pods than planned: the others are still to come, and their places are kept.
        if !sum.covers(&self.classes.get(class).total) {
            return Ok(());
        }
        self.hold(id, Charge::Back);
        self.run_mut(id, epoch)?.bound = Some(nodes);
        self.hold(id, Charge::Add);
        Ok(())
    }

    fn end_run(&mut self, id: JobId, epoch: Epoch, end: RunEnd) -> Result<(), Refused> {
        let now = self.now;
        let run = self.run_mut(id, epoch)?;
        let cluster = run.cluster.clone();
        let lasted_ms = run.started_at.map_or(0, |at| now.0.saturating_sub(at.0).max(0));
        self.unlist(id);
        for left in self.promised.values_mut() {
            left.remove(&id);
        }
        let attained_ms = self.jobs[&id].attained_ms.saturating_add(lasted_ms);
        let likeness = self.likeness(id);
        // What does not go on from a checkpoint begins from nothing again.
        let goes_on = self.classes.get(self.jobs[&id].class).gang.restart_ms.is_some();
        self.job_mut(id)?.attained_ms = if goes_on { attained_ms } else { 0 };
        self.hold(id, Charge::Back);
        if let Some(runs) = self.runs_at.get_mut(&cluster) {
            runs.remove(&id);
            if runs.is_empty() {
                self.runs_at.remove(&cluster);
            }
        }
        let (queue, class) = (self.jobs[&id].queue, self.jobs[&id].class);
        let total = self.classes.get(class).total.clone();
        self.queues.charge(queue, &total, Charge::Back);
        self.refresh(queue);
        self.wake_limited(queue);
        match end {
            RunEnd::Finished => {
                // A run that never started teaches nothing.
                if attained_ms > 0 {
                    self.estimates.finished(likeness, attained_ms);
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
        if let Some(job) = self.jobs.get_mut(&id) {
            job.state = State::BackOff(until);
            self.timers.insert((until, Timer::Retry(id)));
        }
    }

    /// Charges a placed job that was read from its row.
    pub(crate) fn charge_restored(&mut self, id: JobId) {
        let Some(Job { queue, class, state: State::Placed(run), .. }) = self.jobs.get(&id) else { return };
        let (queue, class, cluster) = (*queue, *class, run.cluster.clone());
        self.runs_at.entry(cluster).or_default().insert(id);
        let total = self.classes.get(class).total.clone();
        self.queues.charge(queue, &total, Charge::Add);
        self.hold(id, Charge::Add);
        self.refresh(queue);
    }
}
