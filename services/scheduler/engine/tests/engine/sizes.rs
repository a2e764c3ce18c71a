//! What stories of elastic gangs share: what happened, told in one line each.

use crate::world::{GPU, cluster, engine};
use muster_scheduler_engine::{
    BoundNode, Cause, Decision, Engine, Event, JobId, JobState, QueueSpec, Resize, RunEnd, SizeChange, SizeVerdict, Slot, Time,
};

pub const MINUTE_MS: i64 = 60_000;
pub const HOUR_MS: i64 = 60 * MINUTE_MS;

/// What happened, in the order of decision: jobs with the workers of their first group.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    Placed(u64, u32),
    Grown(u64, u32),
    ToShrink(u64, u32, Cause),
    Refused(u64, u32),
    Shrunk(u64, u32),
    Ended(u64, Cause),
}

pub fn workers(slots: &[Slot]) -> u32 {
    slots.iter().filter(|slot| slot.group == 0).map(|slot| slot.workers).sum()
}

pub fn what(decisions: &[Decision]) -> Vec<Told> {
    let one = |decision: &Decision| match decision {
        Decision::Place(placement) => Told::Placed(placement.job.0, workers(&placement.slots)),
        Decision::Interrupt(interruption) => Told::Ended(interruption.job.0, interruption.cause),
        Decision::Resize(Resize { job, workers: size, slots, change, .. }) => {
            assert_eq!(workers(slots), *size);
            match change {
                SizeChange::Grows => Told::Grown(job.0, *size),
                SizeChange::Shrinks { cause, .. } => Told::ToShrink(job.0, *size, *cause),
                SizeChange::Refused => Told::Refused(job.0, *size),
                SizeChange::HasShrunk => Told::Shrunk(job.0, *size),
            }
        }
    };
    decisions.iter().map(one).collect()
}

/// Plans once; what is placed starts at once.
pub fn step(engine: &mut Engine) -> Vec<Told> {
    let decisions = engine.plan();
    for decision in &decisions {
        if let Decision::Place(placement) = decision {
            let at = engine.now();
            engine.apply(Event::Started { job: placement.job, epoch: placement.epoch, at }).unwrap();
        }
    }
    what(&decisions)
}

/// Workers that were told to leave have left, from where the plan has them.
pub fn leave(engine: &mut Engine, id: u64) {
    let row = engine.job(JobId(id)).expect("a known job");
    let JobState::Placed { slots, leaving, .. } = row.state else { panic!("{id} does not run") };
    let stays = |slot: &Slot| {
        let gone = leaving.iter().filter(|gone| (gone.group, &gone.node) == (slot.group, &slot.node));
        slot.workers - gone.map(|gone| gone.workers).sum::<u32>()
    };
    let used = |slot: &Slot| row.spec.gang.groups[slot.group].each.checked_times(stays(slot)).unwrap();
    let nodes = slots.iter().map(|slot| BoundNode { node: slot.node.clone(), used: used(slot) }).collect();
    engine.apply(Event::Bound { job: JobId(id), epoch: row.epoch, nodes }).unwrap();
}

pub fn tell(engine: &mut Engine, at_ms: i64) {
    engine.apply(Event::Time(Time(at_ms))).unwrap();
}

pub fn end(engine: &mut Engine, id: u64) {
    let epoch = engine.job(JobId(id)).expect("a known job").epoch;
    engine.apply(Event::Ended { job: JobId(id), epoch, end: RunEnd::Finished }).unwrap();
}

pub fn gpus(engine: &Engine, queue: &str) -> i64 {
    engine.usage(queue).expect("a known queue").get(GPU)
}

pub fn size(engine: &Engine, id: u64) -> SizeVerdict {
    engine.explain(JobId(id)).expect("a known job").size.expect("an elastic gang")
}

/// One cluster of so many nodes of eight GPUs, and queues.
pub fn pool(nodes: u32, queues: Vec<QueueSpec>) -> Engine {
    engine(vec![cluster("idc", nodes, "V100", 1)], queues)
}
