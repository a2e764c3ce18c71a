//! A reconciler's pass, as its loop plays it: contention is no failure, the pass is repeated.

use muster_kit::reconcile::Reconciler;
use muster_kit::{Error, Result};

/// Beyond that something contends that does not go away.
const TIMES: u32 = 5;

/// Plays a pass, again where another change came between.
pub async fn repeated(reconciler: &dyn Reconciler) -> Result<()> {
    let mut outcome = Ok(());
    for _ in 0..TIMES {
        outcome = reconciler.tick().await;
        if outcome.as_ref().err().map(Error::reason) != Some("CONTENTION") {
            break;
        }
    }
    outcome
}
