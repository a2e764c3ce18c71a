//! Waiting for a condition, never for a time.

use std::time::Duration;

use tokio::time::Instant;

/// How long a condition may take to come true before the test fails: generous, because a busy machine is no bug.
pub const PATIENCE: Duration = Duration::from_secs(30);

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Looks again and again until `look` answers `Some`, and answers what it saw.
///
/// # Panics
/// When [`PATIENCE`] is over; `what` names what did not happen.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, look).await
}

/// As [`eventually`], with a deadline of its own.
///
/// # Panics
/// When the deadline is over.
pub async fn eventually_within<T>(patience: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "within {patience:?} it did not happen: {what}");
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}
