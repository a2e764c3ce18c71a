//! Step 5: canaries, then 10 % of the traffic, then all of it, then every edge; each wave healthy, soaked, passed by its
//! gate. No data holds the wave.

use crate::eventually;
use crate::patience::look;
use anyhow::{Context, Result, ensure};
use muster_proto::rollout::v1 as rollout;
use rollout::measurement::Verdict;
use rollout::release::State;
use serde_json::json;

use super::Checked;
use super::canary::reverted;
use super::releases::{self, routings, sound};
use super::scene::{Cause, Scene};
use super::simulation::{EDGES, SERVE_ONLINE, SERVER};

/// A version's release begins, and waits in its first wave: the canary's site has no requests.
///
/// # Errors
/// The event is refused.
pub async fn begin(scene: &Scene, version: &str) -> Result<()> {
    scene.platform.simulator().set_traffic(scene.edges()[0], 0.0).await?;
    releases::report(scene, releases::training(version)).await?;
    Ok(())
}

/// Plays the step, of a release that has begun.
///
/// # Errors
/// A check was not true.
pub async fn play(scene: &mut Scene) -> Result<Checked> {
    let version = match scene.cause {
        Cause::Whole | Cause::Broken => "v2",
        // What was turned back is blocked: the next one comes.
        Cause::Mended => {
            begin(scene, "v3").await?;
            "v3"
        }
    };
    let held = held_without_data(scene, version).await?;
    // Sabotage: v2 answers every second request with an error.
    if scene.is_broken() {
        scene.behaves(json!({"match": format!("{SERVER}:{version}"), "errorRate": 0.5})).await?;
    }
    scene.platform.simulator().set_traffic(scene.edges()[0], 100.0).await?;
    let release = releases::reaches(scene, version, State::Completed).await?;
    for cluster in scene.serving() {
        releases::serves_only(scene, cluster, version).await?;
    }
    let waves = waves_in_order(scene, version)?;
    let gates = gates(&release)?;
    let traffic = traffic(scene, version)?;
    scene.serving = version.to_owned();
    Ok(vec![held, waves, gates, traffic])
}

/// The broken release has been turned back, in git too.
///
/// # Errors
/// It is not.
pub async fn mend(scene: &Scene) -> Result<()> {
    reverted(scene, "v2").await
}

/// The canary has no requests: the gate has nothing to judge by, and that is no pass.
async fn held_without_data(scene: &Scene, version: &str) -> Result<String> {
    let canary = format!("clusters/{}", scene.edges()[0]);
    let release = eventually("the gate was asked three times without data", async || {
        let release = releases::of_version(scene, version).await?.into_iter().next().context("its release")?;
        let inconclusive = release
            .measurements
            .iter()
            .filter(|measurement| measurement.verdict() == Verdict::Inconclusive && measurement.cluster == canary)
            .count();
        Ok(look(inconclusive >= 3, release.clone(), || releases::describe(&release)))
    })
    .await?;
    ensure!(
        release.state() == State::Progressing && release.wave == 1,
        "without data the wave went on: {}",
        releases::describe(&release)
    );
    for cluster in not_canaries(scene) {
        releases::never_reached(scene, cluster, version)?;
    }
    Ok("no data held the first wave".to_owned())
}

/// The serving clusters that are in no first wave.
fn not_canaries(scene: &Scene) -> Vec<&'static str> {
    scene.serving().into_iter().filter(|cluster| !EDGES[..2].contains(cluster)).collect()
}

fn waves_in_order(scene: &Scene, version: &str) -> Result<String> {
    let told = |cluster: &str| -> Result<jiff::Timestamp> {
        releases::first_told(scene, cluster, version)?.with_context(|| format!("{cluster} was never told of {version}"))
    };
    let mut canaries = None;
    for canary in scene.edges().into_iter().filter(|edge| EDGES[..2].contains(edge)) {
        canaries = canaries.max(Some(told(canary)?));
    }
    let (online, rest) = (told(SERVE_ONLINE)?, told(EDGES[2])?);
    ensure!(canaries < Some(online) && online < rest, "the waves went out of order: {canaries:?}, {online}, {rest}");
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
fn traffic(scene: &Scene, version: &str) -> Result<String> {
    let routings = routings(scene, SERVE_ONLINE)?;
    sound(&routings)?;
    let shares: Vec<i64> = routings
        .iter()
        .map(|routing| routing.weights.iter().find(|(other, _)| other == version).map_or(0, |(_, weight)| *weight))
        .collect();
    let beside = [("v1".to_owned(), 90), (version.to_owned(), 10)];
    let split = routings.iter().any(|routing| routing.weights == beside);
    ensure!(split, "v1 and {version} never stood side by side at 90 and 10: {shares:?}");
    let mut rising = shares;
    rising.dedup();
    ensure!(rising.ends_with(&[10, 100]), "the share of {version} went {rising:?}, not 10, then 100");
    Ok("two versions side by side with ready pods, 10 % then 100 %".to_owned())
}
