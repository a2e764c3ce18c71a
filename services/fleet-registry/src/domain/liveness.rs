//! Whether a cluster is alive, decided from when it was heard, with hysteresis.
//!
//! - *Suspect* if and only if it has been silent for longer than `suspect_after`.
//! - *Lost* if and only if it has been silent for longer than `lost_after`, and the hub itself has been up that long.
//! - *Live* again from Suspect at the first sign, from Lost only once it has been heard for `steady_after` without a gap,
//!   so that a shaky edge network does not make a fleet's status flap.

use super::State;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// How much silence means what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Silent longer: Suspect.
    pub suspect_after: Duration,
    /// Silent longer: Lost.
    pub lost_after: Duration,
    /// Heard without a gap for so long: Live again after Lost.
    pub steady_after: Duration,
}

/// What is known of a cluster's signs of life.
#[derive(Debug, Clone, Copy)]
pub struct Signs {
    /// When it was last heard.
    pub last_seen: Timestamp,
    /// Since when it has been heard without a gap.
    pub steady_since: Timestamp,
    /// Whether it has sent inventory.
    pub has_inventory: bool,
    /// Since when the hub has been able to hear it.
    pub hub_up_since: Timestamp,
}

/// The state that follows from the signs; states outside the four of liveness stay.
pub fn liveness(state: State, signs: Signs, now: Timestamp, thresholds: Thresholds) -> State {
    let silent_for = now.duration_since(signs.last_seen);
    let longer_than =
        |length: SignedDuration, threshold: Duration| SignedDuration::try_from(threshold).is_ok_and(|limit| length > limit);
    let alive = if signs.has_inventory { State::Live } else { State::Joining };
    match state {
        State::NotEnrolled | State::Leaving | State::Left => state,
        State::Joining | State::Live | State::Suspect => {
            let hub_up_for = now.duration_since(signs.hub_up_since);
            if longer_than(silent_for, thresholds.lost_after) && longer_than(hub_up_for, thresholds.lost_after) {
                State::Lost
            } else if longer_than(silent_for, thresholds.suspect_after) {
                if state == State::Joining { State::Joining } else { State::Suspect }
            } else {
                alive
            }
        }
        State::Lost => {
            let steady_for = now.duration_since(signs.steady_since);
            let heard = !longer_than(silent_for, thresholds.suspect_after);
            if heard && SignedDuration::try_from(thresholds.steady_after).is_ok_and(|needed| steady_for >= needed) {
                alive
            } else {
                State::Lost
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds {
        suspect_after: Duration::from_secs(15),
        lost_after: Duration::from_secs(60),
        steady_after: Duration::from_secs(10),
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).expect("in range")
    }

    fn decide(state: State, last_seen: i64, steady_since: i64, now: i64) -> State {
        let signs =
            Signs { last_seen: at(last_seen), steady_since: at(steady_since), has_inventory: true, hub_up_since: at(-1_000) };
        liveness(state, signs, at(now), THRESHOLDS)
    }

    #[test]
    fn silence_leads_from_live_over_suspect_to_lost() {
        assert_eq!(decide(State::Live, 0, 0, 15), State::Live);
        assert_eq!(decide(State::Live, 0, 0, 16), State::Suspect);
        assert_eq!(decide(State::Suspect, 0, 0, 60), State::Suspect);
        assert_eq!(decide(State::Suspect, 0, 0, 61), State::Lost);
        assert_eq!(decide(State::Suspect, 20, 0, 21), State::Live);
    }

    #[test]
    fn a_lost_cluster_is_live_only_once_it_is_steady() {
        assert_eq!(decide(State::Lost, 100, 100, 101), State::Lost);
        assert_eq!(decide(State::Lost, 109, 100, 110), State::Live);
    }

    #[test]
    fn a_hub_that_just_started_calls_nobody_lost() {
        let signs = Signs { last_seen: at(0), steady_since: at(0), has_inventory: true, hub_up_since: at(90) };
        assert_eq!(liveness(State::Suspect, signs, at(100), THRESHOLDS), State::Suspect);
    }

    #[test]
    fn without_inventory_a_cluster_is_still_joining() {
        let signs = Signs { last_seen: at(0), steady_since: at(0), has_inventory: false, hub_up_since: at(-100) };
        assert_eq!(liveness(State::Joining, signs, at(1), THRESHOLDS), State::Joining);
    }
}
