//! How long Muster and a cluster did not agree: a job's end that Muster had not said yet, a weight that did not stand yet.
//!
//! Both ends of each span are somebody else's record: the API server's audit log, and the time in the published event.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use crate::eventually;
use crate::kafka::Event;
use crate::main_job::releases::{Routing, routings};
use crate::main_job::scene::Scene;
use crate::main_job::simulation::{SERVE_ONLINE, TRAIN_IDC};
use crate::patience::look;

/// From a job's end in its cluster until Muster said so; the longest one of these jobs.
///
/// # Errors
/// One has not ended in its cluster, or its end is not published.
pub async fn end_unknown_for(scene: &Scene, jobs: &[&str]) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    for name in jobs {
        let writes = scene.platform.cluster(TRAIN_IDC)?.audit.writes()?;
        let ended = writes
            .iter()
            .filter(|write| write.resource == "jobs.batch.volcano.sh" && write.name == *name)
            .find(|write| write.object.as_ref().is_some_and(|job| job["status"]["state"]["phase"] == "Completed"))
            .with_context(|| format!("{name} never ended in its cluster"))?
            .time;
        let subject = format!("namespaces/ml/jobs/{name}");
        let said = eventually(&format!("the end of {name} is on its topic"), async || {
            let events = scene.topics.of("muster.jobs");
            let said = events
                .iter()
                .find(|event| header(event, "ce_subject") == subject && header(event, "ce_type").contains("job.succeeded"));
            let time = said.map(time).transpose()?;
            Ok(look(time.is_some(), time, || format!("{} events", events.len())))
        })
        .await?;
        longest = longest.max(between(ended, said.context("it was just found")?));
    }
    Ok(longest)
}

/// From the decision of a candidate's weight until the cluster's routes had it, or a newer decision took its place; the longest
/// one of the releases of these versions.
///
/// # Errors
/// No weight was ever decided for the last of them, which has completed, or one that no other replaced never stood.
pub async fn weights_stale_for(scene: &Scene, versions: &[&str]) -> Result<Duration> {
    let newest = versions.last().context("versions")?;
    // What was decided while the broker was away is published when it is back.
    eventually(&format!("the end of the release of {newest} is on its topic"), async || {
        let count = told(scene, newest).iter().filter(|event| header(event, "ce_type").contains("release.completed")).count();
        Ok(look(count > 0, (), || format!("{} events of it", told(scene, newest).len())))
    })
    .await?;
    let mut decisions = Vec::new();
    for version in versions {
        decisions.extend(decided(scene, version)?);
    }
    decisions.sort_by_key(|decision| decision.time);
    ensure!(decisions.iter().any(|decision| decision.version == *newest), "no weight was decided for {newest}");
    let routings = routings(scene, SERVE_ONLINE)?;
    let mut longest = Duration::ZERO;
    for (index, decision) in decisions.iter().enumerate() {
        let replaced = decisions.get(index + 1).map(|next| next.time);
        let stood = decision.stood(&routings);
        let until = match (stood, replaced) {
            (Some(stood), Some(replaced)) => stood.min(replaced),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => anyhow::bail!("{} % for {} never stood", decision.weight, decision.version),
        };
        longest = longest.max(between(decision.time, until));
    }
    Ok(longest)
}

/// A weight that Muster committed for a candidate.
struct Decision {
    time: Timestamp,
    version: String,
    /// Percent.
    weight: i64,
}

impl Decision {
    /// When the routes had it: the time of the decision where they had it before.
    fn stood(&self, routings: &[Routing]) -> Option<Timestamp> {
        let has = |routing: &Routing| {
            let weight = routing.weights.iter().find(|(version, _)| *version == self.version).map_or(0, |(_, weight)| *weight);
            weight == self.weight
        };
        let standing = routings.iter().rfind(|routing| routing.time <= self.time);
        if standing.is_some_and(has) {
            return Some(self.time);
        }
        routings.iter().find(|routing| routing.time > self.time && has(routing)).map(|routing| routing.time)
    }
}

/// The weights that were decided for a version in the cluster with the routes, oldest first.
fn decided(scene: &Scene, version: &str) -> Result<Vec<Decision>> {
    let cluster = format!("clusters/{SERVE_ONLINE}");
    let mut decisions: Vec<Decision> = Vec::new();
    for event in &told(scene, version) {
        let targets = event.data["targets"].as_array().into_iter().flatten();
        let weight = targets.filter(|target| target["cluster"] == cluster.as_str()).find_map(|target| target["weight"].as_i64());
        let Some(weight) = weight else { continue };
        if decisions.last().is_none_or(|last| last.weight != weight) {
            decisions.push(Decision { time: time(event)?, version: version.to_owned(), weight });
        }
    }
    Ok(decisions)
}

/// What was published of the releases of a version.
fn told(scene: &Scene, version: &str) -> Vec<Event> {
    let model = format!("models/resnet50/versions/{version}");
    let mut events = scene.topics.of("muster.releases");
    events.retain(|event| event.data["modelVersion"] == model.as_str());
    events
}

fn header<'a>(event: &'a Event, name: &str) -> &'a str {
    event.headers.get(name).map_or("", String::as_str)
}

/// When what it tells was committed.
fn time(event: &Event) -> Result<Timestamp> {
    header(event, "ce_time").parse().with_context(|| format!("ce_time of {}", header(event, "ce_id")))
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
