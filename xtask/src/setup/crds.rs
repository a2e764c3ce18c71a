//! The definitions of Istio's and Kyverno's kinds, as their own modules hold them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use muster_integration_tests::process::printed;

use super::tools::Tool;

const TOOL: Tool = Tool { name: "crds", pins: &["go.mod", "go.sum"] };

/// Which folders or files of a module hold definitions, and whose they are.
const SOURCES: [(&str, &str, &[&str]); 2] = [
    ("istio", "istio.io/api", &["kubernetes/customresourcedefinitions.gen.yaml"]),
    (
        "kyverno",
        "github.com/kyverno/kyverno",
        &["config/crds/kyverno", "config/crds/policies.kyverno.io", "config/crds/policyreport"],
    ),
];

/// A folder with the folders `istio` and `kyverno`, which hold YAML files of definitions.
///
/// # Errors
/// Go is missing, or a module can't be fetched.
pub async fn folder() -> Result<PathBuf> {
    TOOL.made(async |into| {
        for (whose, module, places) in SOURCES {
            let mut command = tokio::process::Command::new("go");
            command.args(["mod", "download", "-json", module]).current_dir(TOOL.source()).env("GOFLAGS", "").env("GOWORK", "off");
            let said: Value = serde_json::from_str(&printed(command, "go mod download").await?)?;
            let module = Path::new(said["Dir"].as_str().context("go mod download names no folder")?);
            let to = into.join(whose);
            std::fs::create_dir(&to)?;
            for place in places {
                copy(&module.join(place), &to)?;
            }
        }
        Ok(())
    })
    .await
}

/// Copies a YAML file, or all of a folder.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let files = match from.is_dir() {
        true => std::fs::read_dir(from)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?,
        false => vec![from.to_path_buf()],
    };
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "yaml")) {
        let name = file.file_name().context("a file has a name")?;
        std::fs::copy(file, to.join(name)).with_context(|| format!("copy {}", file.display()))?;
    }
    Ok(())
}
