//! Step 7: a version that is bad only under the serving cluster's traffic is found out at 10 % and turned back everywhere.

use anyhow::{Result, ensure};
use muster_proto::rollout::v1 as rollout;
use rollout::release::State;
use serde_json::json;

use super::Checked;
use super::releases::{self, routings};
use super::scene::Scene;
use super::simulation::{self, EDGES, SERVE_ONLINE, SERVER};
use super::step06_bad::reverted;

pub async fn play(scene: &mut Scene) -> Result<Checked> {
    // Sabotage: the bad version is a good one there too.
    if scene.is_sabotaged(7) {
        let images = simulation::images(&[json!({"match": format!("{SERVER}:v5"), "errorRate": 0.0})]);
        scene.platform.simulator().set_images(&images).await?;
    }
    releases::report(scene, releases::training("v5")).await?;
    let release = releases::reaches(scene, "v5", State::Failed).await?;
    ensure!(release.wave == 2, "it failed in wave {}, not in serve-online", release.wave);
    for cluster in [EDGES[0], EDGES[1], EDGES[2], SERVE_ONLINE] {
        releases::serves_only(scene, cluster, "v2").await?;
    }
    releases::never_reached(scene, EDGES[2], "v5")?;
    let mut highest = 0;
    for routing in routings(scene, SERVE_ONLINE)? {
        let total: i64 = routing.weights.iter().map(|(_, weight)| weight).sum();
        ensure!(total == 100, "at {} the weights total {total}", routing.time);
        for (version, weight) in &routing.weights {
            ensure!(routing.ready.contains(version), "at {} {version} had traffic and no ready pod", routing.time);
            if version == "v5" {
                highest = highest.max(*weight);
            }
        }
    }
    ensure!(highest == 10, "v5 had {highest} % of the traffic at most, not 10");
    reverted(scene, "v5").await?;
    Ok(vec!["found out at 10 %, turned back on edges and serve-online; edge-03 never told".to_owned()])
}
