//! Apache Kafka's own programs, from its Maven artifacts.

use std::path::{Path, PathBuf};

use anyhow::Result;
use muster_integration_tests::process::finished;

use super::tools::Tool;

const TOOL: Tool = Tool { name: "kafka", pins: &["pom.xml"] };

/// The plugin that copies jars; pinned, as Maven would take the newest.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// The folder of its jars, fetched where they are missing.
///
/// # Errors
/// An artifact can't be fetched.
pub async fn jars() -> Result<PathBuf> {
    TOOL.made(fetch).await
}

async fn fetch(into: &Path) -> Result<()> {
    let mut command = tokio::process::Command::new("mvn");
    command
        .args(["--batch-mode", "--quiet", "--file"])
        .arg(TOOL.source().join("pom.xml"))
        .arg(COPY)
        .arg(format!("-DoutputDirectory={}", into.display()));
    finished(command, "mvn dependency:copy-dependencies").await
}
