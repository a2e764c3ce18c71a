//! Clients that others wrote, which tests let speak with Muster: grpcurl, and Python with gRPC's and Kafka's libraries.

use std::path::PathBuf;

use anyhow::Result;

use muster_integration_tests::process::finished;

use super::tools::{Tool, go_build};

const GRPCURL: Tool = Tool { name: "grpcurl", pins: &["go.mod", "go.sum"] };
const PYTHON: Tool = Tool { name: "python", pins: &["requirements.txt"] };

/// The grpcurl program; built where it is missing.
///
/// # Errors
/// Go is missing, or it can't be fetched or built.
pub async fn grpcurl() -> Result<PathBuf> {
    let package = "github.com/fullstorydev/grpcurl/cmd/grpcurl";
    let folder = GRPCURL.made(async |into| go_build(&GRPCURL, &[package], &[], &into.join("grpcurl")).await).await?;
    Ok(folder.join("grpcurl"))
}

/// The folder with the libraries, for `PYTHONPATH`; fetched where they are missing.
///
/// # Errors
/// Python or pip is missing, or a library can't be fetched.
pub async fn python() -> Result<PathBuf> {
    PYTHON
        .made(async |into| {
            let mut command = tokio::process::Command::new("python3");
            command
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-warn-script-location"])
                .arg("--target")
                .arg(into)
                .arg("--requirement")
                .arg(PYTHON.source().join("requirements.txt"));
            finished(command, "pip install").await
        })
        .await
}
