//! Prometheus. (thin)
use crate::cluster::Inner;
use std::sync::Arc;
/// The router.
pub fn router(_cluster: Arc<Inner>) -> axum::Router {
    axum::Router::new()
}
