//! One object: look at what is live, decide, write.
//!
//! Fields of other managers stay. Another manager's fields are taken only where the agent made the object itself, or
//! where it heals fields that were its own; every other conflict is reported in the API server's words.

use super::{Reconciler, desired::Wanted};
use crate::{
    cluster::{ClusterError, Write},
    crash,
    domain::{
        fields::{differences, owned_hash},
        item::{Applied, ItemKey, Record},
        manifest::{belongs_to, is_established, label, traced},
        object::{ObjectRef, text},
        order::Stage,
    },
    watch::item_of,
};
use muster_core::labels::OWNER;
use serde_json::Value;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a definition may take to be served before the pass goes on without it and comes again.
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(10);

/// What became of an object in a pass.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is as wanted, or was made so.
    Stands {
        live: Arc<Value>,
        applied: Applied,
        /// What was healed, for people.
        healed: Option<String>,
        written: bool,
    },
    /// It was changed and is not to be healed (now).
    Drifted { live: Option<Arc<Value>>, what: String },
    /// It has to wait.
    Waits(String),
    /// It may not or can not be written.
    Refused(ClusterError),
}

/// What a pass may do to an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leave {
    /// Nothing may be written at all.
    pub on_hold: bool,
    /// Drift may be repaired now.
    pub may_heal: bool,
}

impl Reconciler {
    /// The object as it is: from the watch where it knows it, else read.
    pub(super) async fn live(&self, wanted: &Wanted) -> Result<Option<Arc<Value>>, ClusterError> {
        if let Some(info) = &wanted.info
            && let Some(known) = self.watches.store(info).get(&wanted.object)
        {
            return Ok(Some(known));
        }
        self.fresh(wanted).await
    }

    async fn fresh(&self, wanted: &Wanted) -> Result<Option<Arc<Value>>, ClusterError> {
        let live = self.cluster.get(&wanted.version, &wanted.object).await?.map(Arc::new);
        if let Some(info) = &wanted.info {
            let store = self.watches.store(info);
            match &live {
                Some(live) => _ = store.put(wanted.object.clone(), live.clone()),
                None => _ = store.remove(&wanted.object),
            }
        }
        Ok(live)
    }

    pub(super) async fn settle(&self, key: &ItemKey, record: &Record, wanted: &Wanted, leave: Leave) -> Outcome {
        match self.try_settle(key, record, wanted, leave).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Refused(error),
        }
    }

    async fn try_settle(&self, key: &ItemKey, record: &Record, wanted: &Wanted, leave: Leave) -> Result<Outcome, ClusterError> {
        let known = record.applied_to(&wanted.object);
        let stands = |live: &Value| {
            known.is_some_and(|applied| {
                applied.uid == text(live, "/metadata/uid")
                    && owned_hash(live, &key.manager()).is_some_and(|hash| hash == applied.live_hash)
            })
        };
        let mut live = self.live(wanted).await?;
        // What the watch shows may be older than the agent's last write: read before acting on a difference.
        if live.as_deref().is_none_or(|live| !stands(live) || known.is_some_and(|k| k.manifest_hash != wanted.hash)) {
            live = self.fresh(wanted).await?;
        }
        let written_before = known.filter(|applied| !applied.uid.is_empty());
        let changed = known.is_none_or(|applied| applied.manifest_hash != wanted.hash);
        let Some(live) = live else {
            return match written_before {
                Some(_) if !changed && !leave.may_heal => {
                    Ok(Outcome::Drifted { live: None, what: format!("{} was deleted", wanted.object) })
                }
                _ if leave.on_hold => Ok(Outcome::Waits("the cluster is on hold from its own side".to_owned())),
                before => {
                    let healed = before.filter(|_| !changed).map(|_| format!("{} was deleted", wanted.object));
                    self.write(key, record, wanted, None, healed).await
                }
            };
        };
        if live.pointer("/metadata/deletionTimestamp").is_some() {
            return Ok(Outcome::Waits(format!("{} is being deleted", wanted.object)));
        }
        if let Some(message) = self.held_by_another(key, wanted, &live) {
            return Err(ClusterError::Refused { code: 409, reason: "HeldByAnother".to_owned(), message });
        }
        if !changed && stands(&live) {
            let applied = known.cloned().expect("what stands was applied");
            return Ok(Outcome::Stands { live, applied, healed: None, written: false });
        }
        let drift =
            written_before.filter(|_| !changed).map(|_| format!("{}: {}", wanted.object, differences(&wanted.manifest, &live)));
        match drift {
            Some(what) if !leave.may_heal => Ok(Outcome::Drifted { live: Some(live), what }),
            _ if leave.on_hold => Ok(Outcome::Waits("the cluster is on hold from its own side".to_owned())),
            healed => self.write(key, record, wanted, Some(live), healed).await,
        }
    }

    fn held_by_another(&self, key: &ItemKey, wanted: &Wanted, live: &Value) -> Option<String> {
        let owner = label(live, OWNER);
        if owner.is_empty() || belongs_to(live, key) {
            return None;
        }
        let other = item_of(live);
        if owner == key.owner {
            // An item that has let the object go, or is not known here any more, does not hold it.
            let state = self.ledger.state();
            let holds = other
                .as_ref()
                .and_then(|other| state.item(other))
                .is_some_and(|record| record.bundle.is_some() && record.applied_to(&wanted.object).is_some());
            if !holds {
                return None;
            }
        }
        let held_by = other.map_or_else(|| owner.to_owned(), |other| other.to_string());
        Some(format!("{} is held by {held_by}", wanted.object))
    }

    async fn write(
        &self,
        key: &ItemKey,
        record: &Record,
        wanted: &Wanted,
        live: Option<Arc<Value>>,
        healed: Option<String>,
    ) -> Result<Outcome, ClusterError> {
        let known = record.applied_to(&wanted.object);
        // Written by an agent that died before it could note so: it bears the marks of the item.
        let ours = live.as_deref().is_some_and(|live| known.is_some_and(|k| k.uid.is_empty()) && belongs_to(live, key));
        let created = live.is_none() || ours || known.is_some_and(|applied| applied.created);
        let force = (created && live.is_some()) || healed.is_some();
        let manifest = traced(wanted.manifest.clone(), &record.options.traceparent);
        let manager = key.manager();
        let written = self.cluster.apply(&manifest, Write { manager: &manager, force, dry_run: false }).await;
        let live = match written {
            Ok(live) => Arc::new(live),
            Err(error) => {
                if matches!(&error, ClusterError::Refused { code: 404, .. }) {
                    self.forget_namespace(&wanted.object.namespace);
                }
                return Err(error);
            }
        };
        crash::APPLIED.reached();
        if let Some(info) = &wanted.info {
            self.watches.store(info).put(wanted.object.clone(), live.clone());
        }
        if wanted.stage == Stage::Definition {
            self.wait_until_served(wanted).await?;
        }
        let applied = Applied {
            object: wanted.object.clone(),
            version: wanted.version.clone(),
            uid: text(&live, "/metadata/uid").to_owned(),
            created,
            manifest_hash: wanted.hash.clone(),
            live_hash: owned_hash(&live, &manager).unwrap_or_default(),
        };
        Ok(Outcome::Stands { live, applied, healed, written: true })
    }

    async fn wait_until_served(&self, wanted: &Wanted) -> Result<(), ClusterError> {
        let begun = Instant::now();
        loop {
            let live = self.cluster.get(&wanted.version, &wanted.object).await?;
            if live.as_ref().is_some_and(is_established) || begun.elapsed() > ESTABLISHED_WITHIN {
                self.cluster.forget_kinds();
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the API server says of objects without writing them; empty where it takes them all.
    pub(super) async fn try_out(&self, key: &ItemKey, record: &Record, all: &[Wanted]) -> Vec<(ObjectRef, ClusterError)> {
        let manager = key.manager();
        let mut refusals = Vec::new();
        for wanted in all.iter().filter(|wanted| wanted.info.is_some()) {
            if !matches!(self.namespace_exists(&wanted.object.namespace).await, Ok(true)) {
                continue;
            }
            let force = record.applied_to(&wanted.object).is_some_and(|applied| applied.created);
            let tried = self.cluster.apply(&wanted.manifest, Write { manager: &manager, force, dry_run: true }).await;
            if let Err(error) = tried {
                refusals.push((wanted.object.clone(), error));
            }
        }
        refusals
    }
}
