//! Reconcilers: loops without input, woken by a signal and by a timer, one pass at a time.
//!
//! A reconciler reads what is, decides, writes. What it missed it finds at the next pass, so a lost wake-up costs time
//! and nothing else. Tests call [`Reconciler::tick`] by hand.

use crate::{Result, metrics};
use async_trait::async_trait;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// One pass over everything there is to do.
#[async_trait]
pub trait Reconciler: Send + Sync + 'static {
    /// The reconciler's name, a metric label.
    fn name(&self) -> &'static str;

    /// One pass.
    async fn tick(&self) -> Result<()>;
}

/// Wakes a reconciler; any number of calls before its next pass are one.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// There is something to do.
    pub fn now(&self) {
        self.0.notify_one();
    }

    /// Waits until there is.
    pub async fn wait(&self) {
        self.0.notified().await;
    }

    /// Rests after a pass for as long as that took, 20 ms at most, and waits then. What comes meanwhile is the next pass: one costs
    /// much the same for one thing as for a hundred. Who comes while nothing goes on waits for nobody.
    pub async fn wait_after(&self, took: Duration) {
        tokio::time::sleep(took.min(MAX_REST)).await;
        self.wait().await;
    }
}

/// The longest pause after failures in a row.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// The longest rest after a pass.
const MAX_REST: Duration = Duration::from_millis(20);

/// Runs passes until `shutdown`: at each wake ([`Wake::wait_after`]), and at the latest every `interval`; after failures with
/// growing pauses.
pub async fn run(reconciler: Arc<dyn Reconciler>, interval: Duration, wake: Wake, shutdown: CancellationToken) {
    let name = reconciler.name();
    let mut failures: u32 = 0;
    loop {
        let began = Instant::now();
        let span = tracing::debug_span!("reconcile", reconciler = name);
        match reconciler.tick().instrument(span).await {
            Ok(()) => {
                failures = 0;
                metrics::TICKS.with_label_values(&[name, "ok"]).inc();
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                metrics::TICKS.with_label_values(&[name, "failed"]).inc();
                tracing::warn!(reconciler = name, error = %error, failures, "a pass failed; it is repeated");
            }
        }
        let took = began.elapsed();
        let pause = if failures == 0 { interval } else { backoff(failures).max(interval.min(MAX_BACKOFF)) };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = wake.wait_after(took), if failures == 0 => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// 200 ms, doubled at each failure in a row, at most half a minute.
pub fn backoff(failures: u32) -> Duration {
    Duration::from_millis(100).saturating_mul(2_u32.saturating_pow(failures.min(16))).min(MAX_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const PASS: Duration = Duration::from_millis(5);

    /// Finds something to do for the next pass each time.
    struct Busy {
        wake: Wake,
        passes: AtomicU32,
    }

    #[async_trait]
    impl Reconciler for Busy {
        fn name(&self) -> &'static str {
            "busy"
        }

        async fn tick(&self) -> Result<()> {
            tokio::time::sleep(PASS).await;
            self.passes.fetch_add(1, Ordering::Relaxed);
            self.wake.now();
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_loop_rests_for_as_long_as_its_pass_took() {
        let (wake, shutdown, began) = (Wake::default(), CancellationToken::new(), Instant::now());
        let busy = Arc::new(Busy { wake: wake.clone(), passes: AtomicU32::new(0) });
        let running = tokio::spawn(run(Arc::clone(&busy) as _, Duration::from_secs(60), wake, shutdown.clone()));
        while busy.passes.load(Ordering::Relaxed) < 10 {
            tokio::time::sleep(PASS).await;
        }
        assert!(began.elapsed() >= 19 * PASS, "ten passes, nine rests: {:?}", began.elapsed());
        shutdown.cancel();
        running.await.expect("no panic");
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert_eq!(backoff(1), Duration::from_millis(200));
        assert_eq!(backoff(2), Duration::from_millis(400));
        assert_eq!(backoff(1_000), MAX_BACKOFF);
    }
}
