//! Where the real parts are, as `cargo xtask test` says.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// The folders of the Kubernetes clusters, each with its `kubeconfig` and `audit.jsonl`.
pub fn clusters() -> Result<Vec<PathBuf>> {
    Ok(std::env::split_paths(&variable("MUSTER_TEST_KUBERNETES")?).collect())
}

/// The broker, `host:port`. It has no topics.
pub fn brokers() -> Result<String> {
    variable("MUSTER_TEST_KAFKA")
}

/// One of the variables that it sets.
pub fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: run the stories on real parts with `cargo xtask test`"))
}
