//! What served before Muster came: a Deployment that somebody made under the plain name of a workload that Muster runs as
//! copies. It serves on until the first copy is ready and has the routes, and is then removed as any other leftover.

use super::{Reconciler, desired::Wanted};
use crate::{
    cluster::{ClusterError, Write},
    domain::{
        item::{Applied, ItemKey, Record},
        manifest::{belongs_to, label},
        object::{ObjectRef, text},
    },
    ledger::LedgerError,
};
use muster_core::labels::{ITEM, OWNER, REVISION};
use serde_json::json;

impl Reconciler {
    /// The record with what is taken over before the first copy is written: marked as the item's in the cluster first, then
    /// in the ledger. Only an item that never stood takes anything over: what appears under a plain name later is foreign.
    pub(super) async fn adopt(&self, key: &ItemKey, record: &Record, wanted: &[Wanted]) -> Result<Record, LedgerError> {
        let mut record = record.clone();
        if record.last_good.is_some() {
            return Ok(record);
        }
        let before = record.applied.len();
        for plain in wanted.iter().filter_map(plain_of) {
            if record.applied_to(&plain).is_some() || wanted.iter().any(|wanted| wanted.object == plain) {
                continue;
            }
            match self.take_over(key, &plain).await {
                Ok(Some(taken)) => {
                    tracing::info!(object = %plain, item = %key, "it served before and is taken over, to go after the first copy");
                    record.applied.push(taken);
                }
                Ok(None) => {}
                // It can wait: the copy is made all the same, and the next pass looks again.
                Err(error) => {
                    tracing::warn!(object = %plain, item = %key, error = %error, "what served before is not taken over")
                }
            }
        }
        if record.applied.len() > before {
            let (key, generation, applied) = (key.clone(), record.generation, record.applied.clone());
            self.ledger.update(move |state| state.set_applied(&key, generation, applied)).await?;
        }
        Ok(record)
    }

    /// Marks an object as the item's, if it is there and nobody's.
    async fn take_over(&self, key: &ItemKey, plain: &ObjectRef) -> Result<Option<Applied>, ClusterError> {
        let Some(live) = self.cluster.get("v1", plain).await? else { return Ok(None) };
        let is_nobodys = label(&live, OWNER).is_empty() || belongs_to(&live, key);
        if !is_nobodys || live.pointer("/metadata/deletionTimestamp").is_some() {
            return Ok(None);
        }
        let mark = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {
            "namespace": plain.namespace, "name": plain.name, "uid": live["metadata"]["uid"],
            "labels": {OWNER: key.owner}, "annotations": {ITEM: key.to_string()},
        }});
        let manager = key.manager();
        let marked = self.cluster.apply(&mark, Write { manager: &manager, force: false, dry_run: false }).await?;
        Ok(Some(Applied {
            object: plain.clone(),
            version: "v1".to_owned(),
            uid: text(&marked, "/metadata/uid").to_owned(),
            created: false,
            manifest_hash: String::new(),
            live_hash: String::new(),
        }))
    }
}

/// The workload of which a Deployment is the copy: its name without the revision.
fn plain_of(wanted: &Wanted) -> Option<ObjectRef> {
    if wanted.object.group_kind() != ("apps", "Deployment") {
        return None;
    }
    let revision = label(&wanted.manifest, REVISION);
    let name = wanted.object.name.strip_suffix(revision)?.strip_suffix('-').filter(|_| !revision.is_empty())?;
    Some(ObjectRef { name: name.to_owned(), ..wanted.object.clone() })
}
