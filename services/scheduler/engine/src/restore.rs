//! The fold over rows: an engine that knows what the tables say, and decides as the one that wrote them would have.

use std::collections::BTreeSet;

use crate::class::ClassId;
use crate::cluster::ClusterIndex;
use crate::engine::{Engine, Run, State, Timer};
use crate::event::{JobId, Refused, Slot, Time};
use crate::mix::Shape;
use crate::nodes::Place;
use crate::parts::RunPart;
use crate::promise::Promise;
use crate::rows::{JobRow, JobState, MixRow, Promised, Rows};
use crate::size::less;
use crate::span::{PartRow, Span};
use crate::spec::{Elastic, QueueSpec};

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
        engine.misplaced.stale();
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
            JobState::Placed { cluster, slots, bound, elsewhere, started_at, stopping, remaining, leaving, sized, promised } => {
                let seen = elsewhere.iter().filter_map(|part| part.bound.as_ref()).chain(&bound).flatten();
                for name in seen.flat_map(|node| node.used.iter()).map(|(name, _)| name) {
                    self.resources.index_of(name);
                }
                let cluster = self.site(&cluster);
                let places = self.places(id, cluster, &slots)?;
                let leaving = self.places(id, cluster, &leaving)?;
                let class = self.class_placed(id, &places)?;
                self.check_leaving(id, &places, &leaving)?;
                let elsewhere = self.parts(id, cluster, elsewhere)?;
                let job = self.jobs.held(id);
                let flavor = self.model_of(self.classes.get(job.class), cluster, &places);
                let speed = self.speed_at(job, class, flavor);
                self.jobs.held_mut(id).state = State::Placed(Box::new(Run {
                    cluster,
                    class,
                    places,
                    leaving,
                    bound,
                    elsewhere,
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
                if let Some(promised) = promised {
                    self.restore_promise(id, promised)?;
                }
            }
        }
        Ok(())
    }

    /// What a run has on further clusters, each of which it has something on only once.
    fn parts(&mut self, id: JobId, first: ClusterIndex, rows: Vec<PartRow>) -> Result<Vec<RunPart>, Refused> {
        if !rows.is_empty() && self.classes.get(self.jobs.held(id).class).gang.span == Span::Cluster {
            return Err(Refused::new("elsewhere", "is of a gang on one cluster"));
        }
        let mut parts: Vec<RunPart> = Vec::new();
        for PartRow { cluster: name, slots, bound } in rows {
            let cluster = self.site(&name);
            if cluster == first || parts.iter().any(|part| part.cluster == cluster) {
                return Err(Refused::new("elsewhere", format!("cluster {name:?} is there twice")));
            }
            let places = self.places(id, cluster, &slots)?;
            parts.push(RunPart { cluster, places, bound });
        }
        Ok(parts)
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

    /// Workers that leave are in the plan, are not all of them, and leave as many as there must be.
    fn check_leaving(&self, id: JobId, places: &[Place], leaving: &[Place]) -> Result<(), Refused> {
        if leaving.is_empty() {
            return Ok(());
        }
        let Some(Elastic { group, least }) = self.elastic(self.jobs.held(id)) else {
            return Err(Refused::new("leaving", "is of a gang of one size"));
        };
        let workers = |places: &[Place]| places.iter().map(|place| u64::from(place.workers)).sum::<u64>();
        let rest = less(places, leaving);
        if workers(&rest) + workers(leaving) != workers(places) || leaving.iter().any(|place| place.group as usize != group) {
            return Err(Refused::new("leaving", "names workers that are not in the plan, or may not leave"));
        }
        let of_group: Vec<Place> = rest.into_iter().filter(|place| place.group as usize == group).collect();
        if workers(&of_group) < u64::from(least) {
            return Err(Refused::new("leaving", format!("leaves fewer than {least} workers of group {group}")));
        }
        Ok(())
    }

    fn restore_promise(&mut self, id: JobId, promised: Promised) -> Result<(), Refused> {
        let Promised { cluster, flavor, tier, slots, further, left, expected_at, elsewhere } = promised;
        let cluster = self.site(&cluster);
        let flavor = flavor.map(|name| self.flavors.intern(&name));
        let places = self.places(id, cluster, &slots)?;
        let further = further.into_iter().map(|(name, slots)| PartRow { cluster: name, slots, bound: None });
        let further = self.parts(id, cluster, further.collect())?.into_iter().map(|part| (part.cluster, part.places));
        let promise = Promise { cluster, flavor, tier, places, further: further.collect(), left, expected_at, elsewhere };
        self.take_promised(self.jobs.held(id).class, &promise);
        for (cluster, _) in promise.parts() {
            self.sites[cluster].taken += 1;
        }
        if let Some(at) = expected_at {
            self.timers.insert((at, Timer::Promised(id)));
        }
        self.promised.insert(id, promise);
        Ok(())
    }
}

fn within(path: &str, refused: Refused) -> Refused {
    Refused { field: format!("{path}.{}", refused.field), why: refused.why }
}
