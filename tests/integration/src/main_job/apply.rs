//! Step 2: a folder of documents in any order is applied, and every part of it finds its others.

use crate::patience::{Look, look};
use crate::{eventually, eventually_within};
use anyhow::{Context, Result, ensure};
use muster_proto::policy::v1 as policy;
use muster_proto::rollout::v1 as rollout;
use muster_proto::scheduler::v1 as scheduler;

use super::releases::RELEASE_WITHIN;
use super::scene::{APPLICATION, Scene, path};
use super::{Checked, documents};

/// Plays the step.
///
/// # Errors
/// A check was not true.
pub async fn play(scene: &mut Scene) -> Result<Checked> {
    let folder = scene.platform.folder().join("documents/team");
    // The names are in the worst order: what refers stands before what it refers to.
    scene.write("team/1-application.yaml", &scene.application())?;
    // Sabotage: the policy's binding is not in the folder.
    if !scene.is_broken() {
        scene.write("team/2-fleetpolicy.yaml", documents::FLEET_POLICY)?;
    }
    scene.write("team/3-model.yaml", documents::MODEL)?;
    scene.write("team/4-repository.yaml", &scene.git_repository())?;
    scene.write("team/5-clusterpolicy.yaml", documents::POLICY)?;
    scene.write("team/6-queues.yaml", &documents::queues())?;
    let muster = scene.muster();
    let first = muster.succeed(&["apply", "-f", path(&folder)?]).await?;
    for name in ["train-queue", "require-gpu-limits", "ml-baseline", "mlops-gitops", "resnet50-serving"] {
        // The sabotaged folder is found out below, by what holds in the clusters.
        let left_out = scene.is_broken() && name == "ml-baseline";
        ensure!(left_out || first.contains(name), "muster apply says nothing of {name}: {first}");
    }
    muster.succeed(&["apply", "-f", path(&folder)?]).await.context("the same folder again")?;

    let queue = scheduler::GetQueueRequest { name: "queues/train-queue".to_owned() };
    let queue = scene.clients()?.queues().get_queue(queue).await?.into_inner();
    let gpus = queue.capability.get("nvidia.com/gpu").map(String::as_str);
    ensure!(gpus == Some(&documents::QUEUE_GPUS.to_string()), "the queue's capability is {gpus:?} GPUs");

    policy_holds(scene).await?;
    serves(scene).await?;
    Ok(vec![
        "a folder in the worst order applied, and the same again".to_owned(),
        format!("the policy of git holds; v1 serves on {} clusters", scene.serving().len()),
    ])
}

/// What a story of training needs: queues, and the policy with its binding from git.
///
/// # Errors
/// Something is refused.
pub async fn for_training(scene: &Scene) -> Result<()> {
    let repository = scene.git_repository();
    let all = [documents::POLICY, documents::FLEET_POLICY, &repository, &documents::queues()].join("---\n");
    scene.apply("training.yaml", &all).await?;
    policy_holds(scene).await
}

/// What a story of releases needs: the application, and its first version everywhere.
///
/// # Errors
/// Something is refused, or does not become healthy.
pub async fn for_releases(scene: &Scene) -> Result<()> {
    let repository = scene.git_repository();
    let all = [documents::MODEL, &repository, &scene.application()].join("---\n");
    scene.apply("releases.yaml", &all).await?;
    serves(scene).await
}

/// The binding has found its policy in git.
async fn policy_holds(scene: &Scene) -> Result<()> {
    eventually("the policy from git holds in every cluster of the fleet", async || {
        let request = policy::GetFleetPolicyRequest { name: "fleetPolicies/ml-baseline".to_owned() };
        let binding = match scene.clients()?.fleet_policies().get_fleet_policy(request).await {
            // It was applied before: what is not there now does not come by itself.
            Err(status) if status.code() == tonic::Code::NotFound => return Ok(Look::Never(status.message().to_owned())),
            answer => answer?.into_inner(),
        };
        let problems: Vec<&str> = binding.policies.iter().map(|bound| bound.problem.as_str()).collect();
        let holds = binding.policies.len() == 1 && problems.iter().all(|problem| problem.is_empty());
        Ok(look(holds, (), || format!("{problems:?}")))
    })
    .await
}

/// The first version is released everywhere.
async fn serves(scene: &Scene) -> Result<()> {
    let targets = scene.serving().len();
    eventually_within(RELEASE_WITHIN, "the repository is read and the first version is released everywhere", async || {
        let request = rollout::GetApplicationRequest { name: APPLICATION.to_owned() };
        let application = scene.clients()?.applications().get_application(request).await?.into_inner();
        let healthy = application.state() == rollout::application::State::Healthy && application.targets.len() == targets;
        Ok(look(healthy, (), || {
            let targets: Vec<String> = application
                .targets
                .iter()
                .map(|target| format!("{} {:?} {}", target.cluster, target.state(), target.reason))
                .collect();
            format!("{:?} {}; {}", application.state(), application.reason, targets.join(", "))
        }))
    })
    .await
}
