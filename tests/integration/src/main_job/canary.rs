//! Step 6: a version that is bad everywhere is found out by the canary and goes nowhere else.

use crate::eventually;
use crate::patience::look;
use anyhow::{Result, ensure};
use muster_proto::rollout::v1 as rollout;
use rollout::release::{Revert, State};

use super::Checked;
use super::releases;
use super::scene::{APPLICATION, Scene, request_id};
use super::simulation::EDGES;

/// Plays the step.
///
/// # Errors
/// A check was not true.
pub async fn play(scene: &mut Scene) -> Result<Checked> {
    let (version, good) = (scene.name("v4"), scene.serving.clone());
    // Sabotage: the bad version is a good one. The canaries are the first wave.
    let release = releases::is_turned_back(scene, &version, 1, &good).await?;
    for cluster in scene.serving().into_iter().filter(|cluster| !EDGES[..2].contains(cluster)) {
        releases::never_reached(scene, cluster, &version)?;
    }
    reverted(scene, &version).await?;
    blocked(scene, &release).await?;
    Ok(vec![
        format!("the gate failed on the canary, which is back on {good}"),
        "no other cluster was ever told; the digest is blocked; the revert is in git".to_owned(),
    ])
}

/// The revert is in git, pushed by Muster, and the files are as they were.
///
/// # Errors
/// They are not.
pub async fn reverted(scene: &Scene, version: &str) -> Result<()> {
    let release = eventually(&format!("the revert of {version} is in git"), async || {
        let release = releases::of_version(scene, version).await?.into_iter().next();
        let pushed = release.as_ref().is_some_and(|release| release.revert() == Revert::Pushed);
        Ok(look(pushed, release.clone(), || format!("{:?}", release.map(|release| release.revert()))))
    })
    .await?;
    let commit = release.map(|release| release.revert_commit).unwrap_or_default();
    let log = scene.repository.log().await?;
    ensure!(log.iter().any(|entry| entry.hash == commit), "the revert {commit} is not on the branch");
    let file = scene.repository.read("models/resnet50/version.yaml").await?;
    ensure!(file.contains(&format!("version: {}\n", scene.serving)), "after the revert the model is {file:?}");
    Ok(())
}

/// The same commit again does not roll: what it renders is blocked until a person retries it.
async fn blocked(scene: &Scene, failed: &rollout::Release) -> Result<()> {
    let request = rollout::CreateReleaseRequest {
        parent: APPLICATION.to_owned(),
        release: Some(rollout::Release { commit: failed.commit.clone(), ..Default::default() }),
        request_id: request_id(),
    };
    let again = scene.clients()?.releases().create_release(request).await;
    match again {
        Err(status) => ensure!(
            status.code() == tonic::Code::FailedPrecondition,
            "releasing the blocked commit again is refused with {status}"
        ),
        Ok(release) => {
            let name = release.into_inner().name;
            eventually("the blocked commit is not deployed again by itself", async || {
                let request = rollout::GetReleaseRequest { name: name.clone() };
                let release = scene.clients()?.releases().get_release(request).await?.into_inner();
                Ok(look(matches!(release.state(), State::Failed | State::Refused), (), || releases::describe(&release)))
            })
            .await?;
        }
    }
    for cluster in scene.edges() {
        releases::serves_only(scene, cluster, &scene.serving).await?;
    }
    Ok(())
}
