//! Step 7: a version that is bad only under the serving cluster's traffic is found out at 10 % and turned back everywhere.

use anyhow::{Result, ensure};

use super::Checked;
use super::canary::reverted;
use super::releases::{self, routings, sound};
use super::scene::Scene;
use super::simulation::{EDGES, SERVE_ONLINE};

/// Plays the step.
///
/// # Errors
/// A check was not true.
pub async fn play(scene: &mut Scene) -> Result<Checked> {
    let (version, good) = (scene.name("v5"), scene.serving.clone());
    // Sabotage: the bad version is a good one there too. serve-online is the second wave.
    releases::is_turned_back(scene, &version, 2, &good).await?;
    releases::never_reached(scene, EDGES[2], &version)?;
    let routings = routings(scene, SERVE_ONLINE)?;
    sound(&routings)?;
    let shares = routings.iter().flat_map(|routing| &routing.weights).filter(|(other, _)| *other == version);
    let highest = shares.map(|(_, weight)| *weight).max().unwrap_or(0);
    ensure!(highest == 10, "{version} had {highest} % of the traffic at most, not 10");
    reverted(scene, &version).await?;
    Ok(vec!["found out at 10 %, turned back on edges and serve-online; edge-03 never told".to_owned()])
}
