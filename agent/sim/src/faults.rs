//! What tests do to a cluster from outside: pause its API, slow it, cut its connections, turn its clock.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// The faults of one cluster.
#[derive(Debug, Default)]
pub struct Faults {
    paused: AtomicBool,
    latency_ms: AtomicU64,
    clock_offset_ms: AtomicI64,
    connections: Mutex<CancellationToken>,
}

impl Faults {
    /// With `true` every request is answered with 503.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::SeqCst);
    }

    /// Whether every request is answered with 503.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// Every request waits this long before it is looked at.
    pub fn set_latency(&self, latency: Duration) {
        let millis = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        self.latency_ms.store(millis, Ordering::SeqCst);
    }

    /// The wait of each request, milliseconds.
    pub fn latency_ms(&self) -> u64 {
        self.latency_ms.load(Ordering::SeqCst)
    }

    /// The wait of one request.
    pub async fn wait_latency(&self) {
        let millis = self.latency_ms.load(Ordering::SeqCst);
        if millis > 0 {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }

    /// The `Date` header runs ahead by this much, milliseconds. Objects keep the true time, so that nothing else shifts.
    pub fn set_clock_offset_ms(&self, offset: i64) {
        self.clock_offset_ms.store(offset, Ordering::SeqCst);
    }

    /// The offset of the `Date` header, milliseconds.
    pub fn clock_offset_ms(&self) -> i64 {
        self.clock_offset_ms.load(Ordering::SeqCst)
    }

    /// Ends every open connection and watch; new ones are taken.
    pub fn cut_connections(&self) {
        let mut current = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        current.cancel();
        *current = CancellationToken::new();
    }

    /// Cancelled when the connections of now are cut.
    pub fn connection(&self) -> CancellationToken {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
