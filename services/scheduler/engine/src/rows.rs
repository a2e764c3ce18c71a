//! What survives a restart. [`Engine::rows`] is everything a service has to keep in tables, and [`Engine::restore`] is
//! the fold over them: an engine made from rows decides as the one that wrote them would have.

use std::collections::{BTreeMap, BTreeSet};

use crate::Amounts;
use crate::class::ClassId;
use crate::engine::{Engine, Run, State, Timer};
use crate::event::{BoundNode, Epoch, JobId, Refused, Slot, Time};
use crate::learned::ModelRuns;
use crate::mix::Shape;
use crate::nodes::Place;
use crate::promise::Promise;
use crate::size::less;
use crate::spec::{ClusterSpec, Elastic, JobSpec, QueueSpec};

/// The whole persisted state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Known clusters, by name.
    pub clusters: Vec<ClusterSpec>,
    /// Queues, by name; parents may stand behind their children.
    pub queues: Vec<QueueSpec>,
    /// What counts in the budgets of the queues that have some.
    pub counted: BTreeMap<String, Vec<i64>>,
    /// What queues have used lately, in thousandths of GPUs, where that counts.
    pub used_lately: BTreeMap<String, i64>,
    /// Unfinished jobs, by row.
    pub jobs: Vec<JobRow>,
    /// How long finished runs took.
    pub histories: Vec<HistoryRow>,
    /// What was asked for lately. Without it the unfinished jobs stand for that: an engine decides the same then, but may choose other
    /// nodes.
    pub mix: Vec<MixRow>,
}

/// How often a worker of a shape was asked for, older ones counted for less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MixRow {
    /// What it asks for.
    pub each: Amounts,
    /// GPU models that will do; empty: any.
    pub flavors: BTreeSet<String>,
    /// Workers.
    pub counted: u64,
    /// Workers when the mix was looked at last.
    pub published: u64,
}

/// Finished runs that were alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// Their queue.
    pub queue: String,
    /// Their kind.
    pub kind: String,
    /// GPUs of each.
    pub gpus: i64,
    /// Runs by level of duration: level 2n begins at 2ⁿ s, level 2n + 1 in the middle of the doubling.
    pub finished: BTreeMap<u8, u32>,
    /// Those of jobs that don't say how fast they are and were on one GPU model all the time, by model.
    pub models: BTreeMap<String, ModelRuns>,
}

/// One unfinished job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    /// As submitted.
    pub spec: JobSpec,
    /// Of its latest run; 0 before the first.
    pub epoch: Epoch,
    /// The work of its earlier runs: how long they lasted together, each times its speed ([`Gang::speeds`](crate::Gang::speeds)).
    pub attained_ms: i64,
    /// How fast its like was on GPU models, in thousandths, when it was taken in; `None`: to be looked up now.
    pub learned_speeds: Option<BTreeMap<String, u32>>,
    /// Where it stands.
    pub state: JobState,
}

/// Where an unfinished job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Waits for its turn, after a failed run not before the given instant.
    Waiting {
        /// End of the back-off.
        not_before: Option<Time>,
        /// Expected remaining time when it was put into its queue; `None`: to be estimated now.
        expected_ms: Option<i64>,
        /// Room that is kept for it.
        promised: Option<Promised>,
    },
    /// Kept aside.
    Suspended,
    /// In a cluster.
    Placed {
        /// Which.
        cluster: String,
        /// The plan.
        slots: Vec<Slot>,
        /// Where its pods are, once all are bound.
        bound: Option<Vec<BoundNode>>,
        /// Since when it runs.
        started_at: Option<Time>,
        /// True once it is to end early.
        stopping: bool,
        /// What it was expected to take still when that was last looked at; `None`: to be estimated now.
        remaining: Option<Remaining>,
        /// Workers of the plan that were told to leave and have not yet.
        leaving: Vec<Slot>,
        /// Its latest change of size; `None`: it has the size with which it began.
        sized: Option<Resized>,
    },
}

/// Room that is kept for a gang before it is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promised {
    /// In which cluster.
    pub cluster: String,
    /// On nodes with which GPU model.
    pub flavor: Option<String>,
    /// On which nodes.
    pub slots: Vec<Slot>,
    /// Runs that were told to end for it and have not yet.
    pub left: BTreeSet<JobId>,
    /// When the room should have come at the latest; `None` if only the runs in `left` are in its way.
    pub expected_at: Option<Time>,
    /// Whether workers that left for it stood elsewhere than was thought: it is given up unless its room is there all the same.
    pub elsewhere: bool,
}

/// When a run got its present size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resized {
    /// When.
    pub at: Time,
    /// The work that it had done by then: its times at each size, each times its speed and its part of the full size.
    pub done_ms: i64,
}

/// What a run was expected to take still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// Time × GPUs, in milliseconds.
    pub gpu_ms: i64,
    /// When more is to be expected.
    pub until: Time,
}

/// The derived state in a form that can be compared: what a fold must reproduce.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// Free amounts per cluster and node; negative where others took what was planned.
    pub free: BTreeMap<String, BTreeMap<String, Amounts>>,
    /// Charged per queue.
    pub usage: BTreeMap<String, Amounts>,
    /// Waiting jobs per queue in the queue's order.
    pub waiting: BTreeMap<String, Vec<JobId>>,
    /// Placed jobs with their clusters.
    pub placed: BTreeMap<JobId, String>,
}

impl Engine {
    /// The fold: an engine that knows what the rows say, at the instant `now`.
    ///
    /// # Errors
    /// The row and field that can't be folded, which means that the rows were not written by an engine.
    pub fn restore(rows: Rows, now: Time) -> Result<Self, Refused> {
        let mut engine = Self::new();
        engine.now = now;
        for cluster in rows.clusters {
            let name = cluster.name.clone();
            engine.upsert_cluster(cluster).map_err(|refused| within(&format!("clusters[{name}]"), refused))?;
        }
        engine.restore_queues(rows.queues)?;
        for (queue, counted) in rows.counted {
            engine.count_anew(&queue, counted).map_err(|refused| within("counted", refused))?;
        }
        for (queue, gpus) in rows.used_lately {
            engine.used_lately(&queue, gpus).map_err(|refused| within("used_lately", refused))?;
        }
        for history in rows.histories {
            engine.estimates.restore(history).map_err(|refused| within("histories", refused))?;
        }
        for row in rows.jobs {
            let id = row.spec.id;
            engine.restore_job(row).map_err(|refused| within(&format!("jobs[{}]", id.0), refused))?;
        }
        if !rows.mix.is_empty() {
            engine.restore_mix(rows.mix);
        }
        Ok(engine)
    }

    fn restore_mix(&mut self, rows: Vec<MixRow>) {
        let Self { mix, resources, flavors, .. } = self;
        let models: Vec<BTreeSet<_>> =
            rows.iter().map(|row| row.flavors.iter().map(|name| flavors.intern(name)).collect()).collect();
        let shapes = rows.into_iter().zip(models).map(|(row, models)| (Shape::new(&row.each, models, resources), row));
        mix.restore(shapes, flavors);
    }

    fn restore_queues(&mut self, mut queues: Vec<QueueSpec>) -> Result<(), Refused> {
        // Parents first; each pass places one level of the tree.
        while !queues.is_empty() {
            let (now, later): (Vec<_>, Vec<_>) = queues
                .into_iter()
                .partition(|queue| queue.parent.as_deref().is_none_or(|parent| self.queues.find(parent).is_some()));
            if now.is_empty() {
                return Err(Refused::new("queues", format!("no parent of {:?} is there", later[0].name)));
            }
            for queue in now {
                let name = queue.name.clone();
                self.apply(crate::Event::Queue(queue)).map_err(|refused| within(&format!("queues[{name}]"), refused))?;
            }
            queues = later;
        }
        Ok(())
    }

    fn restore_job(&mut self, row: JobRow) -> Result<(), Refused> {
        let id = self.insert_job(row.spec, row.learned_speeds)?;
        let job = self.jobs.held_mut(id);
        job.epoch = row.epoch;
        job.attained_ms = row.attained_ms;
        match row.state {
            JobState::Suspended => {}
            JobState::Waiting { not_before: Some(until), .. } if until > self.now => self.back_off(id, until),
            JobState::Waiting { not_before: _, expected_ms, promised } => {
                match expected_ms {
                    Some(expected_ms) => {
                        job.expected_ms = expected_ms;
                        self.line_up(id);
                    }
                    None => self.enqueue(id),
                }
                if let Some(promised) = promised {
                    self.restore_promise(id, promised)?;
                }
            }
            JobState::Placed { cluster, slots, bound, started_at, stopping, remaining, leaving, sized } => {
                for name in bound.iter().flatten().flat_map(|node| node.used.iter()).map(|(name, _)| name) {
                    self.resources.index_of(name);
                }
                let cluster = self.site(&cluster);
                let places = self.places(id, cluster, &slots)?;
                let leaving = self.places(id, cluster, &leaving)?;
                let class = self.class_placed(id, &places)?;
                if less(&places, &leaving).iter().map(|place| place.workers).sum::<u32>()
                    + leaving.iter().map(|place| place.workers).sum::<u32>()
                    != places.iter().map(|place| place.workers).sum::<u32>()
                {
                    return Err(Refused::new("leaving", "names workers that are not in the plan"));
                }
                let job = self.jobs.held(id);
                let flavor = self.model_of(self.classes.get(job.class), cluster, &places);
                let speed = self.speed_at(job, class, flavor);
                self.jobs.held_mut(id).state = State::Placed(Box::new(Run {
                    cluster,
                    class,
                    places,
                    leaving,
                    bound,
                    started_at,
                    sized,
                    speed,
                    stopping,
                    remaining: None,
                    listed: None,
                }));
                self.charge_restored(id);
                match remaining {
                    Some(remaining) => self.list_as(id, remaining),
                    None => self.list(id),
                }
            }
        }
        Ok(())
    }

    fn places(&mut self, id: JobId, cluster: usize, slots: &[Slot]) -> Result<Vec<Place>, Refused> {
        let groups = self.classes.get(self.jobs.held(id).class).groups.len();
        if let Some(slot) = slots.iter().find(|slot| slot.group >= groups) {
            return Err(Refused::new("slots", format!("group {} does not exist", slot.group)));
        }
        let in_parts = |slot: &Slot| self.classes.get(self.jobs.held(id).class).groups[slot.group].part > 0;
        if let Some(slot) = slots.iter().find(|slot| in_parts(slot) != slot.gpu.is_some()) {
            return Err(Refused::new("slots", format!("group {} does not say of which GPU it gets a part", slot.group)));
        }
        let nodes = &mut self.sites[cluster].nodes;
        let place = |slot: &Slot| {
            let Slot { group, node, workers, gpu } = slot;
            Place { group: *group as u32, node: nodes.index_of(node), workers: *workers, gpu: *gpu }
        };
        Ok(slots.iter().map(place).collect())
    }

    /// The class of the size that a plan has.
    fn class_placed(&mut self, id: JobId, places: &[Place]) -> Result<ClassId, Refused> {
        let job = self.jobs.held(id);
        let Some(Elastic { group, least }) = self.elastic(job) else { return Ok(job.class) };
        let of_group = places.iter().filter(|place| place.group as usize == group);
        let workers: u64 = of_group.map(|place| u64::from(place.workers)).sum();
        let full = self.classes.get(job.class).groups[group].replicas;
        let sound = u32::try_from(workers).ok().filter(|workers| (least..=full).contains(workers));
        let Some(workers) = sound else {
            return Err(Refused::new("slots", format!("{workers} workers of group {group} are not from {least} to {full}")));
        };
        Ok(self.class_at(id, workers))
    }

    fn restore_promise(&mut self, id: JobId, promised: Promised) -> Result<(), Refused> {
        let Promised { cluster, flavor, slots, left, expected_at, elsewhere } = promised;
        let cluster = self.site(&cluster);
        let flavor = flavor.map(|name| self.flavors.intern(&name));
        let places = self.places(id, cluster, &slots)?;
        let class = self.classes.get(self.jobs.held(id).class);
        self.sites[cluster].nodes.take_places(class, &places, &self.resources);
        self.sites[cluster].taken += 1;
        if let Some(at) = expected_at {
            self.timers.insert((at, Timer::Promised(id)));
        }
        self.promised.insert(id, Promise { cluster, flavor, places, left, expected_at, elsewhere });
        Ok(())
    }

    /// Everything that has to be kept.
    #[must_use]
    pub fn rows(&self) -> Rows {
        let clusters: BTreeMap<&str, &ClusterSpec> =
            self.sites.iter().filter_map(|site| Some((site.name.as_str(), &site.cluster.as_ref()?.spec))).collect();
        Rows {
            clusters: clusters.into_values().cloned().collect(),
            queues: self.queues.iter().map(|(_, queue)| queue.spec.clone()).collect(),
            counted: self
                .queues
                .iter()
                .filter(|(_, queue)| !queue.counted.is_empty())
                .map(|(_, queue)| (queue.spec.name.clone(), queue.counted.clone()))
                .collect(),
            used_lately: self
                .queues
                .iter()
                .filter_map(|(_, queue)| Some((queue.spec.name.clone(), queue.lately.as_ref()?.gpus)))
                .collect(),
            jobs: self.jobs.by_row().into_iter().map(|job| self.row(job)).collect(),
            histories: self.estimates.rows(),
            mix: self.mix.rows(),
        }
    }

    /// One unfinished job.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<JobRow> {
        self.jobs.get(id).map(|job| self.row(job))
    }

    /// The derived state, for tests and for a check of the running engine against a fold of its tables.
    #[must_use]
    pub fn audit(&self) -> Audit {
        let mut waiting: BTreeMap<String, BTreeSet<(std::cmp::Reverse<i32>, Time, JobId)>> = BTreeMap::new();
        for lane in self.lanes.ids() {
            let lane = self.lanes.get(lane);
            let order = waiting.entry(self.queues.get(lane.queue).spec.name.clone()).or_default();
            order.extend(lane.jobs.iter().map(|(at, job)| (std::cmp::Reverse(lane.priority), lane.standing(*at), *job)));
        }
        let known = self.sites.iter().filter(|site| site.cluster.is_some());
        let placed = |site: &crate::cluster::Site| site.runs.iter().map(|job| (*job, site.name.clone())).collect::<Vec<_>>();
        Audit {
            free: known.map(|site| (site.name.clone(), site.nodes.free(&self.resources))).collect(),
            usage: self.queues.iter().map(|(_, queue)| (queue.spec.name.clone(), self.resources.amounts(&queue.usage))).collect(),
            waiting: waiting
                .into_iter()
                .map(|(queue, order)| (queue, order.into_iter().map(|(_, _, job)| job).collect()))
                .collect(),
            placed: self.sites.iter().flat_map(placed).collect(),
        }
    }

    pub(crate) fn slots(&self, cluster: usize, places: &[Place]) -> Vec<Slot> {
        let nodes = &self.sites[cluster].nodes;
        let slot = |place: &Place| {
            let Place { group, node, workers, gpu } = *place;
            Slot { group: group as usize, node: nodes.name(node).to_owned(), workers, gpu }
        };
        places.iter().map(slot).collect()
    }

    fn row(&self, job: &crate::engine::Job) -> JobRow {
        JobRow {
            spec: self.spec_of(job),
            epoch: job.epoch,
            attained_ms: job.attained_ms,
            learned_speeds: Some(self.classes.get(job.class).learned.clone()),
            state: match &job.state {
                State::Waiting(_) => JobState::Waiting {
                    not_before: None,
                    expected_ms: Some(job.expected_ms),
                    promised: self.promised.get(&job.id).map(|promise| Promised {
                        cluster: self.sites[promise.cluster].name.clone(),
                        flavor: promise.flavor.map(|flavor| self.flavors.name(flavor).to_owned()),
                        slots: self.slots(promise.cluster, &promise.places),
                        left: promise.left.clone(),
                        expected_at: promise.expected_at,
                        elsewhere: promise.elsewhere,
                    }),
                },
                State::BackOff(until) => JobState::Waiting { not_before: Some(*until), expected_ms: None, promised: None },
                State::Suspended => JobState::Suspended,
                State::Placed(run) => JobState::Placed {
                    cluster: self.sites[run.cluster].name.clone(),
                    slots: self.slots(run.cluster, &run.places),
                    bound: run.bound.clone(),
                    started_at: run.started_at,
                    stopping: run.stopping,
                    remaining: run.remaining,
                    leaving: self.slots(run.cluster, &run.leaving),
                    sized: run.sized,
                },
            },
        }
    }
}

fn within(path: &str, refused: Refused) -> Refused {
    Refused { field: format!("{path}.{}", refused.field), why: refused.why }
}
