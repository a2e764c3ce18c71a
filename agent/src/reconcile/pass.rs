//! A pass over one item, from the ledger's record to an observation.

use super::{
    Memory, Next, Reconciler,
    desired::Wanted,
    runs::{is_job, stopped},
    verdict::{Findings, observation},
    write::{Leave, Outcome},
};
use crate::{
    cluster::ClusterError,
    domain::{
        item::{Applied, ItemKey, Record},
        observation::{Health, Phase, State},
        order::Stage,
        routes::{Admission, World, admit, admit_rule, destinations, is_route, starved},
    },
    health::judge,
    ledger::LedgerError,
};
use jiff::Timestamp;
use muster_core::bundle::Digest;
use muster_kit::telemetry::{continue_trace, traceparent_of};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::Instrument;

/// More heals than this within [`HEAL_WINDOW`] and somebody is fighting the agent: it reports and pauses.
const MAX_HEALS: usize = 6;
/// See [`MAX_HEALS`].
const HEAL_WINDOW: Duration = Duration::from_secs(60);
/// How soon to look again at what is on its way.
const SOON: Duration = Duration::from_millis(500);

impl Reconciler {
    /// One pass; everything it finds is in the ledger when it returns.
    pub async fn reconcile(&self, key: &ItemKey) -> Next {
        let Some(record) = self.ledger.state().item(key).cloned() else {
            self.watches.set_routed(key, &BTreeSet::new());
            return Next::Resync;
        };
        let mut memory = self.remembered(key, record.generation);
        let begins = memory.phase.is_none();
        let outcome = if begins {
            let span = tracing::info_span!("agent.apply", item.owner = %key.owner, item.name = %key.name, generation = %record.generation);
            continue_trace(&span, &record.options.traceparent);
            memory.traceparent = traceparent_of(&span);
            self.pass(key, &record, &mut memory).instrument(span).await
        } else {
            self.pass(key, &record, &mut memory).await
        };
        let next = match outcome {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(item = %key, error = %error, "the ledger failed during a pass");
                Next::After(self.settings.retry)
            }
        };
        self.remember(key, memory);
        next
    }

    async fn pass(&self, key: &ItemKey, record: &Record, memory: &mut Memory) -> Result<Next, LedgerError> {
        let mut findings = Findings::default();
        let lease_is_out = record.options.run.as_ref().is_some_and(|run| run.movable) && self.lease.remaining().is_zero();
        let began = record.applied.iter().any(|applied| !applied.uid.is_empty());
        if lease_is_out && record.ended.is_none() && !record.stopped && record.bundle.is_some() {
            if !began {
                findings.pending = true;
                findings.waits.push("a movable run begins only while the cluster session lasts".to_owned());
                self.finish(key, record, findings, memory).await?;
                return Ok(Next::After(SOON));
            }
            tracing::warn!(item = %key, "the session's lease has run out: the run is stopped so that it may go elsewhere");
            let (changed, generation) = (key.clone(), record.generation);
            self.ledger
                .update(move |state| {
                    if let Some(record) = state.item_mut(&changed).filter(|record| record.generation == generation) {
                        record.stopped = true;
                    }
                })
                .await?;
            return Ok(Next::After(Duration::ZERO));
        }
        let next = match &record.bundle {
            None => self.remove_item(key, record, &mut findings).await?,
            Some(_) if record.stopped => self.stop_run(key, record, &mut findings).await?,
            Some(digest) => match digest.parse::<Digest>() {
                Ok(digest) => self.apply_item(key, record, memory, digest, &mut findings).await?,
                Err(error) => {
                    findings.refused.push((None, "BadDigest".to_owned(), error.to_string()));
                    Next::Resync
                }
            },
        };
        // The pass may have changed the record (what ended, what was healed); what is said is about the newest.
        let state = self.ledger.state();
        let record = state.item(key).filter(|now| now.generation == record.generation).unwrap_or(record).clone();
        if record.deleted {
            self.say(key, &record, Phase::Deleted, memory).await?;
            return Ok(Next::Resync);
        }
        findings.verdicts = record.options.policy.as_ref().and_then(|_| self.verdicts(key));
        let failed = self.finish(key, &record, findings, memory).await?;
        Ok(if failed { Next::After(self.backoff(memory)) } else { next })
    }

    fn backoff(&self, memory: &mut Memory) -> Duration {
        memory.failures = memory.failures.saturating_add(1);
        (self.settings.retry * 2u32.saturating_pow(memory.failures.min(16) - 1)).min(self.settings.retry_limit)
    }

    /// Says what was found; whether the item failed.
    async fn finish(&self, key: &ItemKey, record: &Record, findings: Findings, memory: &mut Memory) -> Result<bool, LedgerError> {
        for what in &findings.healed {
            tracing::warn!(item = %key, drift = %what, "drift was healed");
        }
        if !findings.healed.is_empty() && findings.drifted.is_empty() {
            let drifted = Findings { drifted: findings.healed.clone(), health: findings.health.clone(), ..Findings::default() };
            self.ledger.observe(observation(key, record, drifted, &memory.traceparent, Timestamp::now())).await?;
        }
        let said = observation(key, record, findings, &memory.traceparent, Timestamp::now());
        let phase = said.phase;
        if memory.phase != Some(phase) {
            tracing::info!(item = %key, generation = %record.generation, phase = ?phase, reason = %said.reason, message = %said.message, "an item moved");
        }
        if phase != Phase::Failed {
            memory.failures = 0;
        }
        memory.phase = Some(phase);
        self.ledger.observe(said).await?;
        // Items that wait for this one are looked at again.
        if phase == Phase::Healthy {
            let state = self.ledger.state();
            for (name, other) in state.items_of(&key.owner) {
                if other.options.after.contains(&key.name) {
                    self.dirty.mark(ItemKey::new(&key.owner, name));
                }
            }
        }
        Ok(phase == Phase::Failed)
    }

    async fn say(&self, key: &ItemKey, record: &Record, phase: Phase, memory: &mut Memory) -> Result<(), LedgerError> {
        let mut said = observation(key, record, Findings::default(), &memory.traceparent, Timestamp::now());
        said.phase = phase;
        memory.phase = Some(phase);
        self.ledger.observe(said).await
    }

    async fn remove_item(&self, key: &ItemKey, record: &Record, findings: &mut Findings) -> Result<Next, LedgerError> {
        self.watches.set_routed(key, &BTreeSet::new());
        if record.deleted {
            return Ok(Next::Resync);
        }
        if self.ledger.state().on_hold {
            findings.waits.push("the cluster is on hold from its own side".to_owned());
            return Ok(Next::Resync);
        }
        let removal = self.remove(key, record.applied.clone()).await;
        let gone = removal.remaining.is_empty();
        for (applied, error) in removal.refused {
            findings.refused.push((Some(applied.object), error.reason().to_owned(), error.to_string()));
        }
        findings.waits.extend(removal.waits);
        let (changed, generation, remaining) = (key.clone(), record.generation, removal.remaining);
        self.ledger
            .update(move |state| {
                if let Some(record) = state.item_mut(&changed).filter(|record| record.generation == generation) {
                    record.applied = remaining;
                    record.deleted = gone;
                }
            })
            .await?;
        Ok(if gone { Next::Resync } else { Next::After(SOON) })
    }

    async fn stop_run(&self, key: &ItemKey, record: &Record, findings: &mut Findings) -> Result<Next, LedgerError> {
        let removal = self.remove(key, record.applied.clone()).await;
        for (applied, error) in &removal.refused {
            findings.refused.push((Some(applied.object.clone()), error.reason().to_owned(), error.to_string()));
        }
        let gone = removal.remaining.is_empty();
        findings.waits.extend(removal.waits);
        self.keep_applied(key, record, removal.remaining).await?;
        let run = record.options.run.as_ref().map_or("", |run| run.name.as_str());
        let status = stopped(run, "the cluster session's lease ran out", record.ended.as_ref());
        if gone {
            self.note_end(key, record, &status).await?;
            findings.run = record.ended.clone().or(Some(status));
            return Ok(Next::Resync);
        }
        Ok(Next::After(SOON))
    }

    async fn keep_applied(&self, key: &ItemKey, record: &Record, applied: Vec<Applied>) -> Result<(), LedgerError> {
        if applied == record.applied {
            return Ok(());
        }
        let (key, generation) = (key.clone(), record.generation);
        self.ledger.update(move |state| state.set_applied(&key, generation, applied)).await
    }

    async fn apply_item(
        &self,
        key: &ItemKey,
        record: &Record,
        memory: &mut Memory,
        digest: Digest,
        findings: &mut Findings,
    ) -> Result<Next, LedgerError> {
        let manifests = match self.ledger.bundle(digest.clone()).await {
            Ok(manifests) => manifests,
            Err(LedgerError::NoBundle(digest)) => {
                self.missing.add(digest);
                findings.pending = true;
                findings.waits.push("the bundle has not arrived yet".to_owned());
                return Ok(Next::After(self.settings.retry));
            }
            Err(error) => return Err(error),
        };
        if record.options.policy.as_ref().is_some_and(|policy| !policy.install) {
            // Policies that the cluster does not install are the evaluator's business alone; what it found is said there.
            return Ok(if record.applied.is_empty() {
                Next::Resync
            } else {
                self.prune(key, record, &[], memory, findings).await?
            });
        }
        for name in &record.options.after {
            let other = ItemKey::new(&key.owner, name);
            let generation = self.ledger.state().item(&other).map(|record| record.generation);
            let healthy = self.phase(&other).is_some_and(|(at, phase)| Some(at) == generation && phase == Phase::Healthy);
            if !healthy {
                findings.waits.push(format!("{name} is not healthy yet"));
            }
        }
        if !findings.waits.is_empty() && record.applied.is_empty() {
            findings.pending = true;
            return Ok(Next::After(self.settings.retry));
        }
        findings.waits.clear();
        if manifests.is_empty() && !record.applied.is_empty() && !record.options.allow_empty {
            let message =
                "the bundle is empty and would remove everything of the item; it is not pruned down to nothing".to_owned();
            findings.refused.push((None, "WouldEmpty".to_owned(), message));
            return Ok(Next::Resync);
        }
        let wanted = match self.wanted(key, &manifests).await {
            Ok(wanted) => wanted,
            Err(error) => {
                refuse(findings, None, &error);
                return Ok(Next::Resync);
            }
        };
        let on_hold = self.ledger.state().on_hold;
        if let Some(ended) = &record.ended {
            findings.run = Some(ended.clone());
            return Ok(Next::Resync);
        }
        let new = wanted.iter().any(|w| record.applied_to(&w.object).is_none_or(|a| a.manifest_hash != w.hash && !is_paced(w)));
        if new && !memory.tried && wanted.len() > 1 && !on_hold {
            let refusals = self.try_out(key, record, &wanted).await;
            memory.tried = refusals.is_empty();
            for (object, error) in refusals {
                refuse(findings, Some(object), &error);
            }
            if !findings.refused.is_empty() {
                return Ok(Next::Resync);
            }
        }
        self.write_all(key, record, memory, wanted, on_hold, findings).await
    }

    async fn write_all(
        &self,
        key: &ItemKey,
        record: &Record,
        memory: &mut Memory,
        mut wanted: Vec<Wanted>,
        on_hold: bool,
        findings: &mut Findings,
    ) -> Result<Next, LedgerError> {
        memory.heals.retain(|at| at.elapsed() < HEAL_WINDOW);
        let leave = Leave { on_hold, may_heal: record.options.self_heal && !on_hold && memory.heals.len() < MAX_HEALS };
        let record = &self.note_intent(key, record, &wanted, on_hold).await?;
        let mut applied = record.applied.clone();
        let mut world: Option<World> = None;
        let mut routed = BTreeSet::new();
        let mut blocked_below: Option<Stage> = None;
        let mut routes_settled = true;
        for index in 0..wanted.len() {
            let stage = wanted[index].stage;
            // What a later stage needs did not come about: try again in the next pass.
            if blocked_below.is_some_and(|blocked| stage > blocked) {
                routes_settled &= stage < Stage::Subset;
                continue;
            }
            if wanted[index].info.is_none() {
                let api_version = crate::domain::object::api_version(&wanted[index].object.group, &wanted[index].version);
                match self.cluster.kind(&api_version, &wanted[index].object.kind).await {
                    Ok(info) => wanted[index].info = Some(info),
                    Err(error) => {
                        findings.waits.push(error.to_string());
                        blocked_below.get_or_insert(stage);
                        continue;
                    }
                }
            }
            if !on_hold && let Err(error) = self.ensure_namespace(&wanted[index].object.namespace).await {
                refuse(findings, Some(wanted[index].object.clone()), &error);
                blocked_below.get_or_insert(stage);
                continue;
            }
            let full = wanted[index].manifest.clone();
            if stage >= Stage::Subset || is_job(&wanted[index]) {
                let live = match self.live(&wanted[index]).await {
                    Ok(live) => live,
                    Err(error) => {
                        refuse(findings, Some(wanted[index].object.clone()), &error);
                        routes_settled = false;
                        continue;
                    }
                };
                if is_job(&wanted[index]) {
                    if self.run_is_gone(key, record, &wanted[index], live.as_deref(), findings).await? {
                        continue;
                    }
                    self.fence(record, &mut wanted[index], live.as_deref());
                } else {
                    let world = match &mut world {
                        Some(world) => world,
                        None => match self.world(&wanted).await {
                            Ok((loaded, namespaces)) => {
                                routed = namespaces;
                                world.insert(loaded)
                            }
                            Err(error) => {
                                refuse(findings, Some(wanted[index].object.clone()), &error);
                                routes_settled = false;
                                continue;
                            }
                        },
                    };
                    if !admitted(&mut wanted[index], live.as_deref(), world, &mut findings.waits) {
                        routes_settled = false;
                        if let Some(live) = live {
                            findings.health.push((wanted[index].object.clone(), wanted[index].version.clone(), judge(&live)));
                        }
                        continue;
                    }
                    routes_settled &= wanted[index].manifest == full;
                }
            }
            match self.settle(key, record, &wanted[index], leave).await {
                Outcome::Stands { live, applied: now, healed, written } => {
                    if let Some(what) = healed {
                        memory.heals.push_back(Instant::now());
                        findings.healed.push(what);
                    }
                    if stage >= Stage::Subset
                        && let Some(world) = &mut world
                    {
                        note_written(world, &live);
                        if written && stage == Stage::Route {
                            memory.route_moved = Some(Instant::now());
                        }
                    }
                    if let Some(place) = applied.iter_mut().find(|a| a.object == now.object) {
                        *place = now;
                    }
                    self.judge_into(findings, record, &wanted[index], &full, &live, world.as_ref()).await;
                }
                Outcome::Drifted { live, what } => {
                    findings.drifted.push(what);
                    if let Some(live) = live {
                        self.judge_into(findings, record, &wanted[index], &full, &live, world.as_ref()).await;
                    }
                }
                Outcome::Waits(what) => {
                    findings.waits.push(what);
                    blocked_below.get_or_insert(stage);
                }
                Outcome::Refused(error) => {
                    refuse(findings, Some(wanted[index].object.clone()), &error);
                    blocked_below.get_or_insert(stage);
                }
            }
        }
        self.watches.set_routed(key, &routed);
        let healed = u32::try_from(findings.healed.len()).unwrap_or(u32::MAX);
        if applied != record.applied || healed > 0 {
            let (changed, generation, now) = (key.clone(), record.generation, applied.clone());
            self.ledger
                .update(move |state| {
                    if let Some(record) = state.item_mut(&changed).filter(|record| record.generation == generation) {
                        record.applied = now;
                        record.heal_count = record.heal_count.saturating_add(healed);
                    }
                })
                .await?;
        }
        if let Some(run) = &findings.run {
            self.note_end(key, record, run).await?;
        }
        let mut next = if findings.waits.is_empty() { Next::Resync } else { Next::After(SOON) };
        if !routes_settled {
            next = Next::After(SOON);
        }
        if findings.refused.is_empty() && blocked_below.is_none() && !on_hold {
            let record = Record { applied, ..record.clone() };
            let pruned = self.prune_leftovers(key, &record, &wanted, routes_settled, memory, findings).await?;
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
        if let (Some(run), true) = (&record.options.run, is_job(wanted)) {
            findings.run = self.status_of_run(&run.name, live).await;
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

    /// What routes are judged by, and the namespaces it was read from.
    async fn world(&self, wanted: &[Wanted]) -> Result<(World, BTreeSet<String>), ClusterError> {
        let mut namespaces: BTreeSet<String> =
            wanted.iter().filter(|wanted| wanted.stage >= Stage::Subset).map(|wanted| wanted.object.namespace.clone()).collect();
        namespaces.extend(wanted.iter().flat_map(|wanted| destinations(&wanted.manifest)).map(|to| to.namespace));
        let istio = wanted
            .iter()
            .find(|wanted| wanted.object.group == "networking.istio.io")
            .map_or_else(|| "networking.istio.io/v1".to_owned(), |wanted| format!("networking.istio.io/{}", wanted.version));
        let mut world = World::default();
        for namespace in &namespaces {
            world.services.extend(self.cluster.list("v1", "Service", namespace, "").await?);
            world.deployments.extend(self.cluster.list("apps/v1", "Deployment", namespace, "").await?);
            world.pods.extend(self.cluster.list("v1", "Pod", namespace, "").await?);
            world.rules.extend(self.cluster.list(&istio, "DestinationRule", namespace, "").await?);
            world.routes.extend(self.cluster.list(&istio, "VirtualService", namespace, "").await?);
        }
        Ok((world, namespaces))
    }

    async fn prune_leftovers(
        &self,
        key: &ItemKey,
        record: &Record,
        wanted: &[Wanted],
        routes_settled: bool,
        memory: &mut Memory,
        findings: &mut Findings,
    ) -> Result<Next, LedgerError> {
        let leftover = |applied: &&Applied| !wanted.iter().any(|wanted| wanted.object == applied.object);
        if !record.applied.iter().any(|applied| leftover(&applied)) {
            return Ok(Next::Resync);
        }
        let routed = wanted.iter().any(|wanted| wanted.stage >= Stage::Subset);
        let serves = |applied: &Applied| crate::domain::order::stage(&applied.object) < Stage::Subset;
        if routed && record.options.prune && record.applied.iter().filter(leftover).any(serves) {
            if !routes_settled {
                findings.waits.push("what the routes still need is removed after them".to_owned());
                return Ok(Next::After(SOON));
            }
            let moved = *memory.route_moved.get_or_insert_with(Instant::now);
            let left = self.settings.drain.saturating_sub(moved.elapsed());
            if !left.is_zero() {
                findings.waits.push("requests under way end before their pods go".to_owned());
                return Ok(Next::After(left));
            }
        }
        let names: Vec<_> = wanted.iter().map(|wanted| wanted.object.clone()).collect();
        self.prune(key, record, &names, memory, findings).await
    }

    /// Removes, or lets go, what is applied and not among `wanted`.
    async fn prune(
        &self,
        key: &ItemKey,
        record: &Record,
        wanted: &[crate::domain::object::ObjectRef],
        _memory: &mut Memory,
        findings: &mut Findings,
    ) -> Result<Next, LedgerError> {
        let (mut kept, leaving): (Vec<Applied>, Vec<Applied>) =
            record.applied.iter().cloned().partition(|applied| wanted.contains(&applied.object));
        if !record.options.prune {
            self.keep_applied(key, record, kept).await?;
            return Ok(Next::Resync);
        }
        let removal = self.remove(key, leaving).await;
        let done = removal.remaining.is_empty();
        for (applied, error) in removal.refused {
            refuse(findings, Some(applied.object), &error);
        }
        findings.waits.extend(removal.waits);
        kept.extend(removal.remaining);
        self.keep_applied(key, record, kept).await?;
        Ok(if done { Next::Resync } else { Next::After(SOON) })
    }
}

fn refuse(findings: &mut Findings, object: Option<crate::domain::object::ObjectRef>, error: &ClusterError) {
    findings.refused.push((object, error.reason().to_owned(), error.to_string()));
}

/// Whether the manifest that is written differs from the bundle's on purpose, as the cluster moves.
fn is_paced(wanted: &Wanted) -> bool {
    wanted.stage >= Stage::Subset || is_job(wanted)
}

/// Puts into `wanted` what may be written now; whether anything may.
fn admitted(wanted: &mut Wanted, live: Option<&Value>, world: &World, waits: &mut Vec<String>) -> bool {
    if wanted.stage == Stage::Subset {
        let (manifest, withheld) = admit_rule(&wanted.manifest, live, world);
        waits.extend(withheld);
        wanted.replace_manifest(manifest);
        return true;
    }
    if !is_route(&wanted.manifest) {
        return true;
    }
    match admit(&wanted.manifest, live, world) {
        Admission::Write { manifest, withheld } => {
            waits.extend(withheld);
            wanted.replace_manifest(manifest);
            true
        }
        Admission::Wait { withheld } => {
            waits.extend(withheld);
            false
        }
    }
}

/// What was just written is what the next decisions of the pass go by.
fn note_written(world: &mut World, live: &Arc<Value>) {
    let object = crate::domain::object::ObjectRef::of(live);
    for known in [&mut world.rules, &mut world.routes] {
        known.retain(|known| crate::domain::object::ObjectRef::of(known) != object);
    }
    let list = if is_route(live) { &mut world.routes } else { &mut world.rules };
    list.push(Value::clone(live));
}
