//! A real Prometheus that scrapes one cluster.

use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::Part;
use crate::eventually_within;
use crate::patience::{STARTS_WITHIN, look};
use crate::process::{Leash, Program, free_port};

/// A server, and what it keeps. Dropping it ends it.
#[derive(Debug)]
pub struct Prometheus {
    url: String,
    // Dropped in this order: the process, then its folder.
    _process: Part,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes `target`, the URL of an exporter, twice a second, with the labels as they are exported.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(program: &Path, name: &str, target: &str, leash: &Leash) -> Result<Self> {
        let folder = TempDir::with_prefix(format!("muster-prometheus-{name}-"))?;
        let target: reqwest::Url = target.parse().context("the exporter's URL")?;
        let host = format!("{}:{}", target.host_str().context("a host")?, target.port().context("a port")?);
        let settings = serde_json::json!({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
            "scrape_configs": [{
                "job_name": name, "honor_labels": true, "metrics_path": target.path(), "static_configs": [{"targets": [host]}],
            }],
        });
        // JSON is YAML.
        std::fs::write(folder.path().join("prometheus.yml"), settings.to_string())?;
        let at = |file: &str| folder.path().join(file).display().to_string();
        let address = format!("127.0.0.1:{}", free_port()?);
        let program = Program::new(format!("prometheus of {name}"), program)
            .argument(format!("--config.file={}", at("prometheus.yml")))
            .argument(format!("--storage.tsdb.path={}", at("data")))
            .argument(format!("--web.listen-address={address}"))
            .log(folder.path().join("prometheus.log"));
        let mut process = Part::start(program, leash)?;
        let url = format!("http://{address}");
        let ready = format!("{url}/-/ready");
        eventually_within(STARTS_WITHIN, &format!("the Prometheus of {name} is ready"), async || {
            process.process().expect_running()?;
            let status = reqwest::get(&ready).await?.status();
            Ok(look(status.is_success(), (), || status.to_string()))
        })
        .await?;
        Ok(Self { url, _process: process, _folder: folder })
    }

    /// Where it answers.
    pub fn url(&self) -> &str {
        &self.url
    }
}
