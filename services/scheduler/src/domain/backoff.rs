//! How long a failed run waits before the next one.

/// The wait in milliseconds before the retry number `retry` (from 1): `base` doubled with every retry, at most `most`.
/// The rule of the Kubernetes Job controller (10 s, 20 s, 40 s, … capped at six minutes), whose values are the defaults.
#[must_use]
pub fn wait_ms(retry: u32, base_ms: i64, most_ms: i64) -> i64 {
    let doublings = retry.saturating_sub(1).min(62);
    base_ms.checked_mul(1_i64 << doublings).unwrap_or(most_ms).min(most_ms)
}

#[cfg(test)]
mod tests {
    use super::wait_ms;

    #[test]
    fn the_wait_doubles_and_is_capped() {
        let waits: Vec<i64> = (1..=8).map(|retry| wait_ms(retry, 10_000, 360_000) / 1_000).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 360, 360]);
        assert_eq!(wait_ms(u32::MAX, 10_000, 360_000), 360_000);
    }
}
