//! Observations on their way: in batches, a few under way at once, forgotten on disk only when the hub has stored them.

use super::{LinkError, convert};
use crate::ledger::Ledger;
use muster_proto::agent::v1::ObservationBatch;
use std::collections::BTreeMap;

/// Observations of a batch, at most: what the wire takes.
const BATCH: usize = 200;
/// Batches under way, at most: enough to fill a slow line, few enough to send again.
const UNDER_WAY: usize = 4;

/// What of the ledger's queue is on its way in this connection.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    next_batch: u64,
    sent_up_to: u64,
    under_way: BTreeMap<u64, Vec<u64>>,
}

impl Outbox {
    /// The next batch, if there is something to send and room for it.
    pub fn next(&mut self, ledger: &Ledger) -> Option<ObservationBatch> {
        if self.under_way.len() >= UNDER_WAY {
            return None;
        }
        let queued = ledger.unacknowledged(self.sent_up_to, BATCH);
        self.sent_up_to = queued.last()?.sequence;
        self.next_batch += 1;
        self.under_way.insert(self.next_batch, queued.iter().map(|queued| queued.sequence).collect());
        let observations = queued.into_iter().map(|queued| convert::observation(queued.observation)).collect();
        Some(ObservationBatch { sequence: self.next_batch, observations })
    }

    /// The hub has stored a batch; what it held may be forgotten.
    pub async fn acknowledged(&mut self, ledger: &Ledger, batch: u64) -> Result<(), LinkError> {
        if let Some(sequences) = self.under_way.remove(&batch) {
            ledger.acknowledge(sequences).await?;
        }
        Ok(())
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }
}
