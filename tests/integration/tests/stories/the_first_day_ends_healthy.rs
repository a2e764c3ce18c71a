//! The folder that people apply on their first day ends healthy, with nothing but the command line: on clusters as those of
//! `deploy/compose`, simulated, and with the repository that it brings.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use muster_integration_tests::main_job::scene::path;
use muster_integration_tests::repository::Repository;
use muster_integration_tests::{Platform, Setup};
use serde_json::{Value, json};

use crate::common;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_day_ends_healthy() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let node = |model: &str| json!([{"count": 1, "gpuModel": model, "gpus": 8, "cpu": "16", "memory": "64Gi"}]);
    let simulation = json!({"clusters": [
        {"name": "train", "nodes": node("V100")},
        {"name": "serve", "nodes": node("A10"), "crds": ["istio"]},
        {"name": "edge", "nodes": node("T4"), "crds": ["istio"]},
    ]});
    let mut platform = Platform::start(Setup::for_tests(env!("CARGO_BIN_EXE_leash"), simulation)?).await?;
    let muster = platform.muster();
    // As deploy/compose/setup/enrol.sh says of them.
    for arguments in [
        &["train", "--label", "tier=train", "--takes-jobs"][..],
        &["serve", "--label", "tier=serve"],
        &["edge", "--label", "tier=edge"],
    ] {
        muster.succeed(&[&["cluster", "join"], arguments].concat()).await?;
        platform.join(arguments[0]).await?;
        common::live(&platform, arguments[0]).await?;
    }
    let mut tree = Vec::new();
    read(&root.join("deploy/compose/gitops"), Path::new(""), &mut tree)?;
    let repository = Repository::create(&platform.folder().join("git"), &tree).await?;
    let mut documents = Vec::new();
    read(&root.join("examples/first-day"), Path::new(""), &mut documents)?;
    let folder = platform.folder().join("first-day");
    std::fs::create_dir(&folder)?;
    for (name, document) in documents {
        std::fs::write(folder.join(name), document.replace("file:///srv/git/gitops.git", &repository.url()))?;
    }

    muster.succeed(&["apply", "-f", path(&folder)?, "--dry-run"]).await.context("it would be refused")?;
    muster.succeed(&["apply", "-f", path(&folder)?, "--wait", "--wait-timeout", "5m"]).await?;

    let get = async |what: &str| -> Result<Value> {
        Ok(serde_json::from_str(&muster.succeed(&["get", what, "-n", "ml", "-o", "json"]).await?)?)
    };
    let application = get("app/classifier").await?;
    ensure!(application["state"] == "HEALTHY", "the application is {application}");
    let jobs = get("jobs").await?;
    ensure!(["SUCCEEDED", "RUNNING"].iter().any(|state| jobs["jobs"][0]["state"] == *state), "the jobs are {jobs}");
    for cluster in ["serve", "edge"] {
        let live = platform.cluster(cluster)?.api.list("/apis/apps/v1/namespaces/ml/deployments").await?;
        ensure!(live.iter().any(|deployment| deployment["status"]["readyReplicas"].as_u64() > Some(0)), "{cluster}: {live:?}");
    }
    let again = muster.succeed(&["apply", "-f", path(&folder)?]).await?;
    ensure!(!again.contains("configured"), "the same folder changed something: {again}");
    ensure!(again.contains("application ml/classifier unchanged"), "{again}");
    Ok(())
}

/// Every file below a folder, with its path from there.
fn read(folder: &Path, from: &Path, into: &mut Vec<(String, String)>) -> Result<()> {
    for entry in std::fs::read_dir(folder.join(from))? {
        let path: PathBuf = from.join(entry?.file_name());
        match folder.join(&path).is_dir() {
            true => read(folder, &path, into)?,
            false => into.push((path.display().to_string(), std::fs::read_to_string(folder.join(&path))?)),
        }
    }
    Ok(())
}
