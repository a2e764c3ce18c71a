//! The objects of a bundle within a pass: written in order, judged, and what follows from that.

use super::{
    Memory, Next, Reconciler, SOON,
    desired::Wanted,
    routed::{admitted, note_written},
    runs::{is_job, run_label, stopped},
    verdict::{Findings, refuse},
    write::{Leave, Outcome},
};
use crate::{
    crash,
    domain::{
        item::{Applied, ItemKey, Record, Run},
        object::{api_version, text},
        observation::{Health, RunPhase, State},
        order::Stage,
        routes::{World, is_route, starved},
        workload::labels,
    },
    health::judge,
    ledger::LedgerError,
};
use muster_core::{labels::RUN, selector::Labels};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

/// More heals than this within [`HEAL_WINDOW`] and somebody is fighting the agent: it reports and pauses.
const MAX_HEALS: usize = 6;
/// See [`MAX_HEALS`].
const HEAL_WINDOW: Duration = Duration::from_secs(60);

/// How often what is on its way is looked at without being woken.
const WHILE_PROGRESSING: Duration = Duration::from_secs(5);

/// How far a pass has come with the objects.
struct Progress {
    leave: Leave,
    applied: Vec<Applied>,
    /// Loaded with the first object that has to do with routes.
    world: Option<World>,
    routed: BTreeSet<String>,
    /// Something in this stage did not come about; later stages wait for it.
    blocked_below: Option<Stage>,
    /// Every route stands as the bundle has it.
    routes_settled: bool,
}

impl Reconciler {
    pub(super) async fn write_all(
        &self,
        key: &ItemKey,
        record: &Record,
        memory: &mut Memory,
        mut wanted: Vec<Wanted>,
        on_hold: bool,
        findings: &mut Findings,
    ) -> Result<Next, LedgerError> {
        memory.heals.retain(|at| at.elapsed() < HEAL_WINDOW);
        let adopted = if on_hold { record.clone() } else { self.adopt(key, record, &wanted).await? };
        let record = &self.note_intent(key, &adopted, &wanted, on_hold).await?;
        let mut progress = Progress {
            leave: Leave { on_hold, may_heal: record.options.self_heal && !on_hold && memory.heals.len() < MAX_HEALS },
            applied: record.applied.clone(),
            world: None,
            routed: BTreeSet::new(),
            blocked_below: None,
            routes_settled: true,
        };
        for index in 0..wanted.len() {
            self.write_one(key, record, memory, &mut wanted, index, &mut progress, findings).await?;
        }
        self.watches.set_routed(key, &progress.routed);
        let healed = u32::try_from(findings.healed.len()).unwrap_or(u32::MAX);
        if progress.applied != record.applied || healed > 0 {
            let (changed, generation, now) = (key.clone(), record.generation, progress.applied.clone());
            self.ledger
                .update(move |state| {
                    if let Some(record) = state.item_mut(&changed).filter(|record| record.generation == generation) {
                        record.applied = now;
                        record.heal_count = record.heal_count.saturating_add(healed);
                    }
                })
                .await?;
            crash::NOTED.reached();
        }
        if let Some(run) = &findings.run {
            self.note_end(key, record, run).await?;
        }
        let mut next = if findings.waits.is_empty() { Next::Resync } else { Next::After(SOON) };
        if !progress.routes_settled {
            next = Next::After(SOON);
        }
        // Why a workload does not come up stands in its pods, which are not watched.
        if next == Next::Resync && findings.health.iter().any(|(_, _, health)| health.state == State::Progressing) {
            next = Next::After(WHILE_PROGRESSING);
        }
        if findings.refused.is_empty() && progress.blocked_below.is_none() && !on_hold {
            let record = Record { applied: progress.applied, ..record.clone() };
            let pruned = self.prune_leftovers(key, &record, &wanted, progress.routes_settled, memory, findings).await?;
            if next == Next::Resync {
                next = pruned;
            }
        }
        if findings.refused.is_empty()
            && findings.waits.is_empty()
            && findings.health.iter().all(|(_, _, h)| h.state <= State::Suspended)
        {
            self.note_good(key, record).await?;
        }
        Ok(next)
    }

    #[expect(clippy::too_many_arguments, reason = "the state of a pass, whose parts have three owners")]
    async fn write_one(
        &self,
        key: &ItemKey,
        record: &Record,
        memory: &mut Memory,
        all: &mut [Wanted],
        index: usize,
        progress: &mut Progress,
        findings: &mut Findings,
    ) -> Result<(), LedgerError> {
        let stage = all[index].stage;
        // What a later stage needs did not come about: try again in the next pass.
        if progress.blocked_below.is_some_and(|blocked| stage > blocked) {
            progress.routes_settled &= stage < Stage::Subset;
            return Ok(());
        }
        if all[index].info.is_none() {
            let served_as = api_version(&all[index].object.group, &all[index].version);
            match self.cluster.kind(&served_as, &all[index].object.kind).await {
                Ok(info) => all[index].info = Some(info),
                Err(error) => {
                    findings.waits.push(error.to_string());
                    progress.blocked_below.get_or_insert(stage);
                    return Ok(());
                }
            }
        }
        if !progress.leave.on_hold
            && let Err(error) = self.ensure_namespace(&all[index].object.namespace).await
        {
            refuse(findings, Some(all[index].object.clone()), &error);
            progress.blocked_below.get_or_insert(stage);
            return Ok(());
        }
        let full = all[index].manifest.clone();
        if stage >= Stage::Subset || is_job(&all[index]) {
            let live = match self.live(&all[index]).await {
                Ok(live) => live,
                Err(error) => {
                    refuse(findings, Some(all[index].object.clone()), &error);
                    progress.routes_settled = false;
                    return Ok(());
                }
            };
            if is_job(&all[index]) {
                if self.run_is_gone(key, record, &all[index], live.as_deref(), findings).await? {
                    return Ok(());
                }
                self.fence(record, &mut all[index], live.as_deref());
            } else {
                let world = match &mut progress.world {
                    Some(world) => world,
                    None => match self.world(all).await {
                        Ok((loaded, namespaces)) => {
                            progress.routed = namespaces;
                            progress.world.insert(loaded)
                        }
                        Err(error) => {
                            refuse(findings, Some(all[index].object.clone()), &error);
                            progress.routes_settled = false;
                            return Ok(());
                        }
                    },
                };
                if !admitted(&mut all[index], live.as_deref(), world, &mut findings.waits) {
                    progress.routes_settled = false;
                    if let Some(live) = live {
                        findings.health.push((all[index].object.clone(), all[index].version.clone(), judge(&live)));
                    }
                    return Ok(());
                }
                progress.routes_settled &= all[index].manifest == full;
            }
        }
        match self.settle(key, record, &all[index], progress.leave).await {
            Outcome::Stands { live, applied: now, healed, written } => {
                if let Some(what) = healed {
                    memory.heals.push_back(Instant::now());
                    findings.healed.push(what);
                }
                if stage >= Stage::Subset
                    && let Some(world) = &mut progress.world
                {
                    note_written(world, &live);
                    if written && stage == Stage::Route {
                        memory.route_moved = Some(Instant::now());
                    }
                }
                if let Some(place) = progress.applied.iter_mut().find(|a| a.object == now.object) {
                    *place = now;
                }
                self.judge_into(findings, record, &all[index], &full, &live, progress.world.as_ref()).await;
            }
            Outcome::Drifted { live, what } => {
                findings.drifted.push(what);
                if let Some(live) = live {
                    self.judge_into(findings, record, &all[index], &full, &live, progress.world.as_ref()).await;
                }
            }
            Outcome::Waits(what) => {
                findings.waits.push(what);
                progress.blocked_below.get_or_insert(stage);
            }
            Outcome::Refused(error) => {
                refuse(findings, Some(all[index].object.clone()), &error);
                progress.blocked_below.get_or_insert(stage);
            }
        }
        Ok(())
    }

    /// Writes down what is about to be made, so that a crash between the write and its answer leaves nothing behind that
    /// nobody knows of.
    async fn note_intent(&self, key: &ItemKey, record: &Record, wanted: &[Wanted], on_hold: bool) -> Result<Record, LedgerError> {
        let mut record = record.clone();
        if on_hold {
            return Ok(record);
        }
        let before = record.applied.len();
        for wanted in wanted {
            if record.applied_to(&wanted.object).is_none() {
                record.applied.push(Applied {
                    object: wanted.object.clone(),
                    version: wanted.version.clone(),
                    uid: String::new(),
                    created: false,
                    manifest_hash: String::new(),
                    live_hash: String::new(),
                });
            }
        }
        if record.applied.len() > before {
            let (key, generation, applied) = (key.clone(), record.generation, record.applied.clone());
            self.ledger.update(move |state| state.set_applied(&key, generation, applied)).await?;
        }
        Ok(record)
    }

    async fn note_good(&self, key: &ItemKey, record: &Record) -> Result<(), LedgerError> {
        if record.last_good == record.bundle {
            return Ok(());
        }
        let (key, generation) = (key.clone(), record.generation);
        self.ledger
            .update(move |state| {
                if let Some(record) = state.item_mut(&key).filter(|record| record.generation == generation) {
                    record.last_good = record.bundle.clone();
                }
            })
            .await
    }

    /// A job that was written before and is not there any more was taken away: it is not made a second time.
    async fn run_is_gone(
        &self,
        key: &ItemKey,
        record: &Record,
        wanted: &Wanted,
        live: Option<&Value>,
        findings: &mut Findings,
    ) -> Result<bool, LedgerError> {
        let Some(run) = &record.options.run else { return Ok(false) };
        let written = record.applied_to(&wanted.object).is_some_and(|applied| !applied.uid.is_empty());
        if live.is_some() || !written {
            return Ok(false);
        }
        let status = stopped(&run.name, "its object was deleted in the cluster", None);
        self.note_end(key, record, &status).await?;
        findings.run = Some(status);
        Ok(true)
    }

    /// Why a workload does not come up, by the first of its pods that does not help itself.
    async fn stuck_pod(&self, live: &Value, run: Option<&Run>) -> Option<(String, String)> {
        let mut selector = labels(live, "/spec/selector/matchLabels");
        if let Some(label) = run.and_then(|run| run_label(&run.name)) {
            selector = Labels::from([(RUN.to_owned(), label)]);
        }
        if selector.is_empty() {
            return None;
        }
        let selector: Vec<String> = selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let pods = self.cluster.list("v1", "Pod", text(live, "/metadata/namespace"), &selector.join(",")).await;
        // It only explains; where the pods cannot be read the workload's own words stand.
        let pods = pods.inspect_err(|error| tracing::debug!(error = %error, "a workload's pods cannot be read")).ok()?;
        let stuck = pods.iter().map(|pod| (pod, judge(pod))).find(|(_, health)| health.state == State::Degraded)?;
        let (pod, Health { reason, message, .. }) = stuck;
        let what = format!("pod {}: {reason}: {message}", text(pod, "/metadata/name"));
        Some((reason, what))
    }

    async fn judge_into(
        &self,
        findings: &mut Findings,
        record: &Record,
        wanted: &Wanted,
        full: &Value,
        live: &Arc<Value>,
        world: Option<&World>,
    ) {
        let mut health = judge(live);
        let mut stuck = None;
        if health.state == State::Progressing
            && let Some((reason, what)) = self.stuck_pod(live, record.options.run.as_ref()).await
        {
            health.reason = reason;
            health.message = format!("{}; {what}", health.message);
            stuck = Some(what);
        }
        if let (Some(run), true) = (&record.options.run, is_job(wanted)) {
            findings.run = self.status_of_run(&run.name, live).await;
            if let (Some(status), Some(stuck)) = (&mut findings.run, stuck)
                && status.phase == RunPhase::Pending
            {
                status.message = stuck;
            }
        }
        if let (true, Some(world)) = (is_route(live), world) {
            let starving = starved(full, world);
            if !starving.is_empty() {
                let coming = findings.health.iter().any(|(_, _, health)| health.state == State::Progressing);
                let message = starving.join("; ");
                health = if coming {
                    Health::progressing("WaitingForPods", message)
                } else {
                    Health::degraded("SubsetWithoutReadyPods", message)
                };
            }
        }
        findings.health.push((wanted.object.clone(), wanted.version.clone(), health));
    }
}

/// Whether the manifest that is written differs from the bundle's on purpose, as the cluster moves.
pub(super) fn is_paced(wanted: &Wanted) -> bool {
    wanted.stage >= Stage::Subset || is_job(wanted)
}
