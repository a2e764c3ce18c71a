//! Step 2: a folder of documents in any order is applied, and every part of it finds its others.

use anyhow::{Context, Result, ensure};
use muster_integration_tests::eventually;
use muster_integration_tests::patience::look;
use muster_proto::policy::v1 as policy;
use muster_proto::rollout::v1 as rollout;
use muster_proto::scheduler::v1 as scheduler;

use super::scene::{APPLICATION, Scene, path};
use super::{Checked, documents};

pub async fn play(scene: &mut Scene) -> Result<Checked> {
    let folder = scene.platform.folder().join("documents/team");
    // The names are in the worst order: what refers stands before what it refers to.
    scene.write("team/1-application.yaml", &documents::application(scene.soak()))?;
    // Sabotage: the policy's binding is not in the folder.
    if !scene.is_sabotaged(2) {
        scene.write("team/2-fleetpolicy.yaml", documents::FLEET_POLICY)?;
    }
    scene.write("team/3-model.yaml", documents::MODEL)?;
    scene.write("team/4-repository.yaml", &documents::repository(&scene.repository.url()))?;
    scene.write("team/5-clusterpolicy.yaml", documents::POLICY)?;
    scene.write("team/6-queues.yaml", &documents::queues())?;
    let muster = scene.muster();
    let first = muster.succeed(&["apply", "-f", path(&folder)?]).await?;
    for name in ["train-queue", "require-gpu-limits", "ml-baseline", "mlops-gitops", "resnet50-serving"] {
        // The sabotaged folder is found out below, by what holds in the clusters.
        let left_out = scene.is_sabotaged(2) && name == "ml-baseline";
        ensure!(left_out || first.contains(name), "muster apply says nothing of {name}: {first}");
    }
    muster.succeed(&["apply", "-f", path(&folder)?]).await.context("the same folder again")?;

    let queue = scheduler::GetQueueRequest { name: "queues/train-queue".to_owned() };
    let queue = scene.clients()?.queues().get_queue(queue).await?.into_inner();
    let gpus = queue.capability.get("nvidia.com/gpu").map(String::as_str);
    ensure!(gpus == Some(&documents::QUEUE_GPUS.to_string()), "the queue's capability is {gpus:?} GPUs");

    eventually("the policy from git holds in every cluster of the fleet", async || {
        let request = policy::GetFleetPolicyRequest { name: "fleetPolicies/ml-baseline".to_owned() };
        let binding = scene.clients()?.fleet_policies().get_fleet_policy(request).await?.into_inner();
        let problems: Vec<&str> = binding.policies.iter().map(|bound| bound.problem.as_str()).collect();
        let holds = binding.policies.len() == 1 && problems.iter().all(|problem| problem.is_empty());
        Ok(look(holds, (), || format!("{problems:?}")))
    })
    .await?;

    eventually("the repository is read and the first version is released everywhere", async || {
        let request = rollout::GetApplicationRequest { name: APPLICATION.to_owned() };
        let application = scene.clients()?.applications().get_application(request).await?.into_inner();
        let healthy = application.state() == rollout::application::State::Healthy && application.targets.len() == 4;
        Ok(look(healthy, (), || {
            let targets: Vec<String> = application
                .targets
                .iter()
                .map(|target| format!("{} {:?} {}", target.cluster, target.state(), target.reason))
                .collect();
            format!("{:?} {}; {}", application.state(), application.reason, targets.join(", "))
        }))
    })
    .await?;
    Ok(vec![
        "a folder in the worst order applied, and the same again".to_owned(),
        "the policy of git holds; v1 serves on four clusters".to_owned(),
    ])
}
