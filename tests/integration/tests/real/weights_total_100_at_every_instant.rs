//! Somebody watches the route in a real cluster through a promotion, a person's edit that is healed, and an aborted release:
//! at no instant is there a share of the requests that goes nowhere.

use anyhow::{Result, ensure};
use muster_integration_tests::eventually_within;
use muster_integration_tests::main_job::simulation::TRAIN_CLOUD;
use muster_integration_tests::patience::look;
use muster_proto::rollout::v1::release::State;
use serde_json::json;

use crate::jobs::WITHIN;
use crate::web::{self, Watcher};
use crate::{release, world};

const NAME: &str = "watched-web";

#[test]
fn weights_total_100_at_every_instant() -> Result<()> {
    world::play(async |world| {
        let scene = &world.scene;
        web::first(scene, NAME).await?;
        let cluster = scene.platform.cluster(TRAIN_CLOUD)?;
        let watcher = Watcher::of(cluster, NAME).await?;

        // A promotion: a tenth, then all.
        let commit = release::commit(scene, NAME, &web::manifests(NAME, "v2")).await?;
        release::healthy_at(scene, NAME, &commit).await?;
        let shares: Vec<i64> = watcher.weights()?.iter().filter_map(|weights| share(weights, "v2")).collect();
        ensure!(shares.contains(&10) && shares.last() == Some(&100), "v2 had {shares:?}");

        // A person's edit is put right.
        let edit = json!({"spec": {"http": [{"route": [{"destination": {"host": NAME, "subset": "v2"}, "weight": 70}]}]}});
        let edited = cluster.api.merge(&web::route(NAME), &edit).await?;
        let foreign = [web::weights(&edited)];
        eventually_within(WITHIN, "the edited route is healed", async || {
            let last = watcher.weights()?.pop().unwrap_or_default();
            Ok(look(share(&last, "v2") == Some(100), (), || format!("{last:?}")))
        })
        .await?;

        // An aborted release goes back the way it came.
        release::commit(scene, NAME, &web::manifests(NAME, "v3")).await?;
        eventually_within(WITHIN, "v3 has a tenth", async || {
            let last = watcher.weights()?.pop().unwrap_or_default();
            Ok(look(share(&last, "v3") == Some(10), (), || format!("{last:?}")))
        })
        .await?;
        scene.muster().succeed(&["rollout", "abort", NAME, "-n", "kurator-system"]).await?;
        release::until(scene, NAME, "is back on v2", |_, release| {
            release.is_some_and(|release| release.state() == State::Failed)
        })
        .await?;
        let last = watcher.weights()?.pop().unwrap_or_default();
        ensure!(share(&last, "v2") == Some(100), "after the abort the weights are {last:?}");
        web::all_total_100(&watcher.weights()?, &foreign)
    })
}

fn share(weights: &web::Weights, subset: &str) -> Option<i64> {
    weights.iter().find(|(name, _)| name == subset).map(|(_, weight)| *weight)
}
