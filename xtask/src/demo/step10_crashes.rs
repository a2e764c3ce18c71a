//! Step 10: a shorter round in which every service and every agent is killed, at seeded points; it completes all the
//! same, and no pod is made twice.
//!
//! The points are moments of the round, seen from outside (a verdict given, a job decided, a commit pushed, a weight
//! shifted), and a seeded delay of some milliseconds after each, so that the kill falls before, in and after what follows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_integration_tests::patience::look;
use muster_integration_tests::platform::Service;
use muster_integration_tests::{eventually, eventually_within};
use muster_proto::rollout::v1 as rollout;
use muster_proto::scheduler::v1 as scheduler;

use super::Checked;
use super::documents;
use super::releases::{self, RELEASE_WITHIN, routings};
use super::scene::{Scene, path};
use super::simulation::{CLUSTERS, EDGES, SERVE_ONLINE, TRAIN_CLOUD, TRAIN_IDC};

/// Jobs of the round, and pods of each.
const JOBS: u32 = 3;
const PODS: u32 = 2;

/// The seed of all delays: a round that failed can be played again.
const SEED: u64 = 20_26;

pub async fn play(scene: &mut Scene) -> Result<Checked> {
    let mut delays = Delays(SEED);
    let mut kills = 0;
    for number in 1..=JOBS {
        let name = format!("round-{number}");
        submit(scene, &name).await?;
        // The verdict was given inside the submit; what follows is the decision and its ApplyDesired.
        let victims = match number {
            1 => vec![Service::Policy, Service::Scheduler],
            2 => vec![Service::Scheduler, Service::Registry],
            _ => vec![Service::Registry, Service::Policy],
        };
        for victim in victims {
            kill(scene, victim, &mut delays).await?;
            kills += 1;
        }
    }
    for cluster in [TRAIN_IDC, TRAIN_CLOUD] {
        kill_agent(scene, cluster, &mut delays).await?;
        kills += 1;
    }
    for number in 1..=JOBS {
        ends_well(scene, &format!("round-{number}")).await?;
    }

    // Between the push of the commit and its record.
    let before = scene.repository.head().await?;
    releases::report(scene, releases::training("v8")).await?;
    eventually("the commit of v8 is pushed", async || {
        let head = scene.repository.head().await?;
        Ok(look(head != before, (), || format!("the branch is at {head}")))
    })
    .await?;
    kill(scene, Service::Rollout, &mut delays).await?;
    for edge in [EDGES[0], EDGES[1]] {
        kill_agent(scene, edge, &mut delays).await?;
    }
    // During the promotion.
    eventually_within(RELEASE_WITHIN, "v8 has a share of the traffic", async || {
        let routings = routings(scene, SERVE_ONLINE)?;
        let share = routings.last().is_some_and(|routing| routing.weights.iter().any(|(version, _)| version == "v8"));
        Ok(look(share, (), || "not yet".to_owned()))
    })
    .await?;
    kill_agent(scene, SERVE_ONLINE, &mut delays).await?;
    // Sabotage: the rollout service is killed during the promotion and does not come back.
    if scene.is_sabotaged(10) {
        scene.platform.crash(Service::Rollout)?;
    } else {
        kill(scene, Service::Rollout, &mut delays).await?;
        kill(scene, Service::Registry, &mut delays).await?;
    }
    kill_agent(scene, EDGES[2], &mut delays).await?;
    kills += 7;
    releases::reaches(scene, "v8", rollout::release::State::Completed).await?;
    for cluster in [SERVE_ONLINE, EDGES[0], EDGES[1], EDGES[2]] {
        releases::serves_only(scene, cluster, "v8").await?;
    }
    let commits = scene.repository.log().await?;
    let digest = super::layout::digest("v8");
    let of_v8 = commits.iter().filter(|commit| commit.message.contains(&digest)).count();
    ensure!(of_v8 == 1, "{of_v8} commits bring v8");
    let runs = none_twice(scene)?;
    Ok(vec![
        format!("{kills} SIGKILLs; three jobs and a release completed"),
        format!("pods per run, from the audit logs: {runs} runs, none twice"),
    ])
}

async fn submit(scene: &Scene, name: &str) -> Result<()> {
    let file = scene.write("round.yaml", &documents::job(name, "train-queue", "v3", PODS, 8))?;
    scene.muster().succeed(&["submit", "-f", path(&file)?]).await?;
    Ok(())
}

async fn ends_well(scene: &Scene, name: &str) -> Result<()> {
    eventually_within(Duration::from_secs(120), &format!("{name} ends well"), async || {
        let request = scheduler::GetJobRequest { name: format!("namespaces/ml/jobs/{name}") };
        let job = scene.clients()?.jobs().get_job(request).await?.into_inner();
        let ended = job.state() == scheduler::job::State::Succeeded;
        Ok(look(ended, (), || format!("{:?}: {}", job.state(), job.reason)))
    })
    .await
}

async fn kill(scene: &mut Scene, service: Service, delays: &mut Delays) -> Result<()> {
    tokio::time::sleep(delays.next()).await;
    scene.platform.crash(service)?;
    scene.platform.start_again(service).await
}

async fn kill_agent(scene: &mut Scene, cluster: &str, delays: &mut Delays) -> Result<()> {
    tokio::time::sleep(delays.next()).await;
    let agent = scene.platform.agent(cluster)?;
    agent.process().crash()?;
    agent.start_again()
}

/// Pods that were created for each run, by the clusters' own record: as many as the job has, in one cluster.
fn none_twice(scene: &Scene) -> Result<usize> {
    let mut pods: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    let mut created: BTreeMap<String, u32> = BTreeMap::new();
    for cluster in CLUSTERS {
        for write in scene.platform.cluster(cluster)?.audit.writes()? {
            if write.resource != "pods" || write.verb != "create" || !write.subresource.is_empty() {
                continue;
            }
            if let Some(run) = write.label("muster.dev/run") {
                *created.entry(run.to_owned()).or_default() += 1;
                pods.entry(run.to_owned()).or_default().insert((cluster.to_owned(), write.name.clone()));
            }
        }
    }
    for number in 1..=JOBS {
        let run = format!("ml.round-{number}.1");
        let count = created.get(&run).copied().with_context(|| format!("no pod was made for {run}"))?;
        ensure!(count == PODS, "{count} pods were made for {run}, not {PODS}: {:?}", pods[&run]);
    }
    for (run, count) in &created {
        let clusters: BTreeSet<&String> = pods[run].iter().map(|(cluster, _)| cluster).collect();
        ensure!(clusters.len() == 1, "{run} was started in {clusters:?}");
        ensure!(*count as usize == pods[run].len(), "{run} made a pod twice: {:?}", pods[run]);
    }
    Ok(created.len())
}

/// Seeded delays of up to 400 ms (xorshift, Marsaglia 2003).
struct Delays(u64);

impl Delays {
    fn next(&mut self) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(self.0 % 400)
    }
}
