//! Step 5: canaries, then 10 % of the traffic, then all of it, then every edge; each wave healthy, soaked, passed by its
//! gate. No data holds the wave.

use anyhow::{Context, Result, ensure};
use muster_integration_tests::eventually;
use muster_integration_tests::patience::look;
use muster_proto::rollout::v1 as rollout;
use rollout::measurement::Verdict;
use rollout::release::State;
use serde_json::json;

use super::Checked;
use super::releases::{self, routings};
use super::scene::Scene;
use super::simulation::{self, EDGES, SERVE_ONLINE, SERVER};

pub async fn play(scene: &mut Scene) -> Result<Checked> {
    let held = held_without_data(scene).await?;
    // Sabotage: v2 answers every second request with an error.
    if scene.is_sabotaged(5) {
        let images = simulation::images(&[json!({"match": format!("{SERVER}:v2"), "errorRate": 0.5})]);
        scene.platform.simulator().set_images(&images).await?;
    }
    scene.platform.simulator().set_traffic(EDGES[0], 100.0).await?;
    let release = releases::reaches(scene, "v2", State::Completed).await?;
    for cluster in [SERVE_ONLINE, EDGES[0], EDGES[1], EDGES[2]] {
        releases::serves_only(scene, cluster, "v2").await?;
    }
    let waves = waves_in_order(scene)?;
    let gates = gates(&release)?;
    let traffic = traffic(scene)?;
    Ok(vec![held, waves, gates, traffic])
}

/// The canary has no requests: the gate has nothing to judge by, and that is no pass.
async fn held_without_data(scene: &Scene) -> Result<String> {
    let release = eventually("the gate was asked three times without data", async || {
        let release = releases::of_version(scene, "v2").await?.into_iter().next().context("the release of v2")?;
        let inconclusive = release
            .measurements
            .iter()
            .filter(|measurement| measurement.verdict() == Verdict::Inconclusive && measurement.cluster == "clusters/edge-01")
            .count();
        Ok(look(inconclusive >= 3, release.clone(), || releases::describe(&release)))
    })
    .await?;
    ensure!(
        release.state() == State::Progressing && release.wave == 1,
        "without data the wave went on: {}",
        releases::describe(&release)
    );
    for cluster in [SERVE_ONLINE, EDGES[2]] {
        releases::never_reached(scene, cluster, "v2")?;
    }
    Ok("no data held the first wave".to_owned())
}

fn waves_in_order(scene: &Scene) -> Result<String> {
    let told = |cluster: &str| -> Result<jiff::Timestamp> {
        releases::first_told(scene, cluster, "v2")?.with_context(|| format!("{cluster} was never told of v2"))
    };
    let canary = told(EDGES[0])?.max(told(EDGES[1])?);
    let (online, rest) = (told(SERVE_ONLINE)?, told(EDGES[2])?);
    ensure!(canary < online && online < rest, "the waves went out of order: {canary}, {online}, {rest}");
    Ok("canaries, then serve-online, then every edge".to_owned())
}

fn gates(release: &rollout::Release) -> Result<String> {
    for wave in 1..=release.wave_count {
        let passed = release
            .measurements
            .iter()
            .filter(|measurement| measurement.wave == wave && measurement.verdict() == Verdict::Pass)
            .count();
        ensure!(passed >= 2, "wave {wave} was passed by {passed} measurements: {:?}", release.measurements);
    }
    Ok(format!("{} waves, each passed by its gate", release.wave_count))
}

/// Weights always total 100, never name a version without ready pods, and went 10, then 100.
fn traffic(scene: &Scene) -> Result<String> {
    let routings = routings(scene, SERVE_ONLINE)?;
    for routing in &routings {
        let total: i64 = routing.weights.iter().map(|(_, weight)| weight).sum();
        ensure!(total == 100, "at {} the weights total {total}: {:?}", routing.time, routing.weights);
        for (version, weight) in &routing.weights {
            ensure!(
                routing.ready.contains(version),
                "at {} {version} had {weight} % of the traffic and no ready pod",
                routing.time
            );
        }
    }
    let of_v2: Vec<i64> = routings
        .iter()
        .map(|routing| routing.weights.iter().find(|(version, _)| version == "v2").map_or(0, |(_, weight)| *weight))
        .collect();
    let split = routings.iter().any(|routing| routing.weights == [("v1".to_owned(), 90), ("v2".to_owned(), 10)]);
    ensure!(split, "v1 and v2 never stood side by side at 90 and 10: {of_v2:?}");
    let mut rising: Vec<i64> = of_v2.clone();
    rising.dedup();
    ensure!(rising.ends_with(&[10, 100]), "the share of v2 went {rising:?}, not 10, then 100");
    Ok("two versions side by side with ready pods, 10 % then 100 %".to_owned())
}
