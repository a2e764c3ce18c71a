//! The cluster session's lease: until when the hub will not start this cluster's movable runs elsewhere.
//!
//! Counted from the moment a heartbeat was *sent*, on a clock that counts sleep (`CLOCK_BOOTTIME`), and only once the
//! hub has acknowledged that heartbeat. It is kept over restarts of the agent together with the boot it belongs to: after
//! a reboot the clock starts anew and the lease counts as run out.

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A moment on the machine's boot clock, with the boot it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// The kernel's id of this boot.
    pub boot: String,
    /// Milliseconds since then, sleep included.
    pub at_ms: u64,
}

/// Reads the machine's boot clock; tests bring their own.
pub trait BootClock: Send + Sync + 'static {
    /// Time since boot, sleep included.
    fn since_boot(&self) -> Duration;
    /// Which boot.
    fn boot(&self) -> String;
}

/// The real clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemBootClock;

impl BootClock for SystemBootClock {
    fn since_boot(&self) -> Duration {
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("every Linux since 2.6.39 has this clock");
        Duration::from(now)
    }

    fn boot(&self) -> String {
        // Where it cannot be read every restart counts as a new boot, which only stops runs too early.
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(|_| uuid(), |id| id.trim().to_owned())
    }
}

fn uuid() -> String {
    format!("process-{}-{:?}", std::process::id(), std::time::SystemTime::now())
}

/// The lease as the agent knows it. Cheap to clone.
#[derive(Clone)]
pub struct Lease {
    clock: Arc<dyn BootClock>,
    boot: String,
    until: Arc<Mutex<Option<Duration>>>,
}

impl Lease {
    /// The lease as the ledger remembers it.
    pub fn new(clock: Arc<dyn BootClock>, remembered: Option<&Deadline>) -> Self {
        let boot = clock.boot();
        let until = remembered.filter(|deadline| deadline.boot == boot).map(|deadline| Duration::from_millis(deadline.at_ms));
        Self { clock, boot, until: Arc::new(Mutex::new(until)) }
    }

    /// The present moment, to be kept when a heartbeat is sent.
    pub fn now(&self) -> Duration {
        self.clock.since_boot()
    }

    /// A heartbeat sent at `sent` was acknowledged: the session lasts `lease` from then. Never shortens it.
    pub fn renew(&self, sent: Duration, lease: Duration) -> Deadline {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let renewed = until.map_or(sent + lease, |until| until.max(sent + lease));
        *until = Some(renewed);
        Deadline { boot: self.boot.clone(), at_ms: u64::try_from(renewed.as_millis()).unwrap_or(u64::MAX) }
    }

    /// How long it lasts yet; zero where it has run out or was never held.
    pub fn remaining(&self) -> Duration {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.map_or(Duration::ZERO, |until| until.saturating_sub(self.clock.since_boot()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Hand(Mutex<Duration>);

    impl BootClock for Hand {
        fn since_boot(&self) -> Duration {
            *self.0.lock().expect("no holder panics")
        }
        fn boot(&self) -> String {
            "boot".to_owned()
        }
    }

    #[test]
    fn the_lease_counts_from_the_sending_of_the_heartbeat() {
        let clock = Arc::new(Hand(Mutex::new(Duration::from_secs(100))));
        let lease = Lease::new(clock.clone(), None);
        assert_eq!(lease.remaining(), Duration::ZERO);
        let sent = lease.now();
        *clock.0.lock().expect("no holder panics") = Duration::from_secs(104);
        let deadline = lease.renew(sent, Duration::from_secs(30));
        assert_eq!(lease.remaining(), Duration::from_secs(26));
        assert_eq!(Lease::new(clock.clone(), Some(&deadline)).remaining(), Duration::from_secs(26));
        let other = Deadline { boot: "another".into(), ..deadline };
        assert_eq!(Lease::new(clock.clone(), Some(&other)).remaining(), Duration::ZERO);
        // An answer to an earlier heartbeat that comes late takes nothing back.
        lease.renew(Duration::from_secs(90), Duration::from_secs(30));
        assert_eq!(lease.remaining(), Duration::from_secs(26));
    }
}
