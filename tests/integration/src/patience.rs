//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a condition may take to come true: generous, because a busy machine is no bug.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long a process of the harness may take until it answers: a machine that starts several at once is no bug either.
pub const STARTS_WITHIN: Duration = Duration::from_secs(180);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// What a look saw.
pub enum Look<T> {
    /// It is so.
    Is(T),
    /// Not yet; the text is what was seen instead, for the message when patience ends.
    NotYet(String),
    /// It can't come true any more: there is nothing to wait for. The text says why.
    Never(String),
}

/// Looks again and again until it is so. A look that fails (a service that is just coming up) counts as not yet.
///
/// # Errors
/// [`PATIENCE`] is over; the message holds what was seen last.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Result<Look<T>>) -> Result<T> {
    eventually_within(PATIENCE, what, look).await
}

/// As [`eventually`], with a deadline of its own.
///
/// # Errors
/// The deadline is over.
pub async fn eventually_within<T>(patience: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<Look<T>>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        let instead = match look().await {
            Ok(Look::Is(seen)) => return Ok(seen),
            Ok(Look::NotYet(instead)) => instead,
            Ok(Look::Never(why)) => bail!("it did not happen and can't any more: {what}; {why}"),
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() > deadline {
            bail!("within {patience:?} it did not happen: {what}; last seen: {instead}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// `Is` where the condition holds, else `NotYet` with what was seen.
pub fn look<T>(condition: bool, value: T, instead: impl FnOnce() -> String) -> Look<T> {
    if condition { Look::Is(value) } else { Look::NotYet(instead()) }
}
