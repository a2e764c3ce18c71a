//! A pass over one item, from the ledger's record to an observation.

use super::{
    Memory, Next, Reconciler, SOON,
    objects::is_paced,
    verdict::{Findings, observation, refuse},
};
use crate::{
    domain::{
        item::{ItemKey, Record},
        observation::Phase,
    },
    ledger::LedgerError,
};
use jiff::Timestamp;
use muster_core::bundle::Digest;
use muster_kit::telemetry::{continue_trace, traceparent_of};
use std::{collections::BTreeSet, time::Duration};
use tracing::Instrument;

/// How long a pass waits at most for an API server that was away: it costs one request to see that it is back.
const UNANSWERED_LIMIT: Duration = Duration::from_secs(5);

/// Whether a pass is to be done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// It is not.
    No,
    /// The cluster refused something: less and less often.
    Failed,
    /// The API server was away: soon.
    Unanswered,
}

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
        let again = self.finish(key, &record, findings, memory).await?;
        Ok(match again {
            Again::No => next,
            Again::Failed => Next::After(self.backoff(memory)),
            Again::Unanswered => Next::After(self.backoff(memory).min(UNANSWERED_LIMIT)),
        })
    }

    fn backoff(&self, memory: &mut Memory) -> Duration {
        memory.failures = memory.failures.saturating_add(1);
        (self.settings.retry * 2u32.saturating_pow(memory.failures.min(16) - 1)).min(self.settings.retry_limit)
    }

    /// Says what was found; answers whether it is to be tried again.
    async fn finish(
        &self,
        key: &ItemKey,
        record: &Record,
        findings: Findings,
        memory: &mut Memory,
    ) -> Result<Again, LedgerError> {
        for what in &findings.healed {
            tracing::warn!(item = %key, drift = %what, "drift was healed");
        }
        if !findings.healed.is_empty() && findings.drifted.is_empty() {
            let drifted = Findings { drifted: findings.healed.clone(), health: findings.health.clone(), ..Findings::default() };
            self.ledger.observe(observation(key, record, drifted, &memory.traceparent, Timestamp::now())).await?;
        }
        let cut_short = findings.is_cut_short();
        let said = observation(key, record, findings, &memory.traceparent, Timestamp::now());
        // What is there goes on, as far as anybody knows: silence of the API server is no news of it.
        let is_there = matches!(memory.phase, Some(Phase::Applied | Phase::Healthy | Phase::Degraded | Phase::Drifted));
        if cut_short && is_there {
            tracing::warn!(item = %key, reason = %said.reason, message = %said.message, "the cluster does not answer; the last word stands");
            return Ok(Again::Unanswered);
        }
        let phase = said.phase;
        if memory.phase != Some(phase) {
            tracing::info!(item = %key, generation = %record.generation, phase = ?phase, reason = %said.reason, message = %said.message, "an item moved");
        }
        let again = match (cut_short, phase) {
            (true, _) => Again::Unanswered,
            (false, Phase::Failed) => Again::Failed,
            (false, _) => Again::No,
        };
        if again == Again::No {
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
        Ok(again)
    }

    async fn say(&self, key: &ItemKey, record: &Record, phase: Phase, memory: &mut Memory) -> Result<(), LedgerError> {
        let mut said = observation(key, record, Findings::default(), &memory.traceparent, Timestamp::now());
        said.phase = phase;
        memory.phase = Some(phase);
        self.ledger.observe(said).await
    }

    async fn apply_item(
        &self,
        key: &ItemKey,
        record: &Record,
        memory: &mut Memory,
        digest: Digest,
        findings: &mut Findings,
    ) -> Result<Next, LedgerError> {
        let bundle = match self.ledger.bundle(digest.clone()).await {
            Ok(manifests) => manifests,
            Err(LedgerError::NoBundle(digest)) => {
                self.missing.add(digest);
                findings.pending = true;
                findings.waits.push("the bundle has not arrived yet".to_owned());
                return Ok(Next::After(self.settings.retry));
            }
            Err(error) => return Err(error),
        };
        let mut manifests = bundle.as_slice();
        if let Some(policy) = &record.options.policy {
            if !policy.install {
                // Policies that the cluster does not install are the evaluator's business alone; what it found is said there.
                return Ok(if record.applied.is_empty() { Next::Resync } else { self.prune(key, record, &[], findings).await? });
            }
            manifests = manifests.get(policy.only_evaluated as usize..).unwrap_or_default();
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
        let wanted = match self.wanted(key, manifests).await {
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
}
