//! Items on their way out: withdrawn by their owner, or stopped because the session ended.

use super::{
    Next, Reconciler, SOON,
    runs::stopped,
    verdict::{Findings, refuse},
};
use crate::{
    domain::item::{Applied, ItemKey, Record},
    ledger::LedgerError,
};
use std::collections::BTreeSet;

impl Reconciler {
    pub(super) async fn remove_item(&self, key: &ItemKey, record: &Record, findings: &mut Findings) -> Result<Next, LedgerError> {
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
            refuse(findings, Some(applied.object), &error);
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

    pub(super) async fn stop_run(&self, key: &ItemKey, record: &Record, findings: &mut Findings) -> Result<Next, LedgerError> {
        let removal = self.remove(key, record.applied.clone()).await;
        for (applied, error) in &removal.refused {
            refuse(findings, Some(applied.object.clone()), error);
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

    pub(super) async fn keep_applied(&self, key: &ItemKey, record: &Record, applied: Vec<Applied>) -> Result<(), LedgerError> {
        if applied == record.applied {
            return Ok(());
        }
        let (key, generation) = (key.clone(), record.generation);
        self.ledger.update(move |state| state.set_applied(&key, generation, applied)).await
    }
}
