//! Asks the cluster's Prometheus for the GPU utilisation every now and then, while a connection lasts.

use super::Link;
use std::time::Duration;
use tokio::sync::mpsc;

/// Between two questions.
const EVERY: Duration = Duration::from_secs(30);
/// What NVIDIA's exporter calls it, in percent.
const UTILISATION: &str = "avg(DCGM_FI_DEV_GPU_UTIL) / 100";

/// Measures until it is dropped.
pub(super) struct Measuring(tokio::task::AbortHandle);

impl Drop for Measuring {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Begins to measure; a cluster that does not measure it has none.
pub(super) fn start(link: Link) -> (mpsc::Receiver<Option<f64>>, Measuring) {
    let (found, measured) = mpsc::channel(1);
    let measuring = tokio::spawn(measure(link, found));
    (measured, Measuring(measuring.abort_handle()))
}

async fn measure(link: Link, found: mpsc::Sender<Option<f64>>) {
    loop {
        let samples = link.prometheus.query(UTILISATION, None).await.unwrap_or_default();
        let value = samples.first().map(|sample| sample.value).filter(|value| value.is_finite());
        if found.send(value).await.is_err() {
            return;
        }
        tokio::time::sleep(EVERY).await;
    }
}
