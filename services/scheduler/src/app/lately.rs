//! What queues have used lately: summed up from the tables when budgets are, and told to the engine, for which it counts besides what
//! they use now.

use std::collections::BTreeMap;

use jiff::Timestamp;
use muster_kit::{Result, Tx};
use muster_scheduler_engine::Event;

use super::budgets::with_those_below;
use super::mind::{Mind, out_of_step};
use crate::domain::queue::{QueueDefinition, upwards};
use crate::store;
use crate::store::cost::Lately;

/// The half-life that counts for a queue: its own, or that of the nearest queue above that says one.
#[must_use]
pub(super) fn half_life_ms(name: &str, definitions: &BTreeMap<String, QueueDefinition>) -> Option<i64> {
    upwards(name, definitions).find_map(|queue| queue.usage_half_life_ms)
}

impl Mind {
    /// Tells the engine what queues with a half-life have used, and of the others that nothing counts.
    pub(super) async fn tell_used_lately(&mut self, tx: &mut Tx, now: Timestamp) -> Result<()> {
        let mut asked = Vec::new();
        for name in self.definitions.keys() {
            let Some(half_life_ms) = half_life_ms(name, &self.definitions) else { continue };
            let below = with_those_below(name, &self.definitions).into_iter();
            asked.extend(below.map(|below| Lately { queue: name.clone(), below, half_life_s: half_life_ms as f64 / 1_000.0 }));
        }
        let mut used = if asked.is_empty() { BTreeMap::new() } else { store::cost::used_lately(&mut **tx, &asked, now).await? };
        let known: Vec<String> = self.counting.lately.keys().filter(|queue| !used.contains_key(*queue)).cloned().collect();
        used.extend(known.into_iter().map(|queue| (queue, 0)));
        for (queue, gpus) in &used {
            // A queue that the engine holds out is none of its concern.
            if self.engine.usage(queue).is_some() && self.counting.lately.get(queue) != Some(gpus) {
                self.engine.apply(Event::UsedLately { queue: queue.clone(), gpus: *gpus }).map_err(out_of_step)?;
            }
        }
        used.retain(|_, gpus| *gpus > 0);
        self.counting.lately = used;
        Ok(())
    }
}
