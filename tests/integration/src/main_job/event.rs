//! Step 4: the training's event arrives three times on two ways; one version, one commit, one release.

use std::collections::BTreeSet;

use crate::eventually;
use crate::patience::look;
use anyhow::{Result, ensure};
use muster_proto::rollout::v1 as rollout;
use serde_json::json;

use super::Checked;
use super::releases::{self, EVENTS, PIPELINE, TRAINING_COMPLETE};
use super::scene::{Scene, request_id};

/// Plays the step.
///
/// # Errors
/// A check was not true.
pub async fn play(scene: &mut Scene) -> Result<Checked> {
    // The canary's site has no requests for now, so that the release waits in its first wave until step 5 lets it go.
    scene.platform.simulator().set_traffic(scene.edges()[0], 0.0).await?;
    let before = scene.repository.log().await?;
    let mut event = releases::training("v2");
    event.job = "namespaces/ml/jobs/resnet50-train".to_owned();
    event.run_epoch = 1;
    event.metrics.insert("top1".to_owned(), 0.761);

    // Sabotage: the pipeline is one that the model does not trust.
    let source = if scene.is_broken() { "/pipelines/nobody" } else { PIPELINE };
    if !scene.is_broken() {
        releases::report(scene, event.clone()).await?;
    }
    let data = serde_json::to_value(&event)?;
    for _ in 0..2 {
        scene.topics.publish(EVENTS, "resnet50", "training-v2", source, TRAINING_COMPLETE, &data).await?;
    }
    // A key is read in order: when this one, which nobody can read, is among the dead letters, the others were consumed.
    let unreadable = json!({"model": "resnet50", "version": "v2"});
    let last = request_id();
    scene.topics.publish(EVENTS, "resnet50", &last, source, TRAINING_COMPLETE, &unreadable).await?;
    eventually("the event without a digest is a dead letter, with the reason", async || {
        let dead = scene.topics.of("mlops.events.dead");
        let found = dead.iter().any(|event| event.headers.get("ce_id") == Some(&last));
        Ok(look(found, (), || format!("{dead:?}")))
    })
    .await?;

    let versions = versions(scene).await?;
    ensure!(versions.len() == 1, "there are {} versions of the model, not one", versions.len());
    let release = eventually("one release brings v2", async || {
        let releases = releases::of_version(scene, "v2").await?;
        Ok(look(releases.len() == 1, releases.first().cloned(), || format!("{} releases", releases.len())))
    })
    .await?;
    let Some(release) = release else { unreachable!("there is one") };
    let versions = self::versions(scene).await?;
    ensure!(versions.len() == 1, "there are {} versions of the model by now, not one", versions.len());
    ensure!(versions[0].name.ends_with("/v2") && versions[0].commit == release.commit, "{:?}", versions[0]);

    let log = scene.repository.log().await?;
    let new = &log[..log.len() - before.len()];
    ensure!(new.len() == 1, "{} commits were written, not one: {new:?}", new.len());
    for trailer in ["Muster-Model: ", "Muster-Digest: ", "Muster-Event: "] {
        ensure!(new[0].message.contains(trailer), "the commit has no {trailer}trailer: {}", new[0].message);
    }
    ensure!(new[0].hash == release.commit, "the release is of {}, not of {}", release.commit, new[0].hash);
    let component = scene.repository.read("models/resnet50/kustomization.yaml").await?;
    ensure!(
        component.starts_with("# What every overlay") && component.contains("newTag: v2"),
        "the component was not rewritten in place:\n{component}"
    );

    eventually("the release is on its topic, once", async || {
        let subjects: BTreeSet<String> = scene
            .topics
            .of("muster.releases")
            .into_iter()
            .filter(|event| event.data["modelVersion"] == "models/resnet50/versions/v2")
            .map(|event| event.key)
            .collect();
        Ok(look(subjects.len() == 1, (), || format!("{subjects:?}")))
    })
    .await?;
    Ok(vec![
        "three deliveries consumed: one version, one commit, one release".to_owned(),
        "an event without a digest is a dead letter".to_owned(),
    ])
}

async fn versions(scene: &Scene) -> Result<Vec<rollout::ModelVersion>> {
    let request = rollout::ListModelVersionsRequest { parent: "models/resnet50".to_owned(), ..Default::default() };
    Ok(scene.clients()?.models().list_model_versions(request).await?.into_inner().model_versions)
}
