//! Step 10: a shorter round in which every service and every agent is killed, at named points and at seeded moments; it
//! completes all the same, and no pod is made twice.
//!
//! The named points are those of the processes themselves, between one thing and the next: they are reached exactly, and
//! each is seen to have been. The moments are of the round, seen from outside (a job decided, a weight shifted), and a
//! seeded delay of some milliseconds after each, so that the kill falls before, in and after what follows.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_proto::rollout::v1 as rollout;
use muster_proto::scheduler::v1 as scheduler;

use super::points::{agent_dies_at, service_dies_at, start_agent_to_die};
use super::releases::{self, RELEASE_WITHIN, routings, sound};
use super::runs::pods_made;
use super::scene::{Scene, path};
use super::simulation::{EDGES, SERVE_ONLINE, TRAIN_IDC};
use super::{Checked, documents, layout, train};
use crate::draw::Draw;
use crate::eventually_within;
use crate::patience::look;
use crate::platform::Service;

/// Jobs of the round, and pods of each.
const JOBS: u32 = 3;
const PODS: u32 = 2;

/// What brings the release of the round.
const VERSION: &str = "v8";

/// Plays the step.
///
/// # Errors
/// A check was not true.
pub async fn play(scene: &mut Scene) -> Result<Checked> {
    let mut checked = jobs(scene).await?;
    checked.extend(release(scene).await?);
    Ok(checked)
}

/// The jobs of the round.
///
/// # Errors
/// A check was not true.
pub async fn jobs(scene: &mut Scene) -> Result<Checked> {
    let mut round = Round::new(scene.seed);
    kill_on_the_way_of_jobs(scene, &mut round).await?;
    // Sabotage: a service that was killed does not come back.
    if scene.is_broken() {
        scene.platform.crash(Service::Registry)?;
    }
    all_are_back(scene)?;
    for name in names(scene) {
        ends_well(scene, &name).await?;
    }
    let runs = none_twice(scene)?;
    Ok(vec![
        format!("three jobs completed: {}", round.tally()),
        format!("pods per run, from the audit logs: {runs} runs, none twice"),
    ])
}

/// The release of the round.
///
/// # Errors
/// A check was not true.
pub async fn release(scene: &mut Scene) -> Result<Checked> {
    let mut round = Round::new(scene.seed);
    kill_on_the_way_of_a_release(scene, &mut round).await?;
    all_are_back(scene)?;
    releases::reaches(scene, VERSION, rollout::release::State::Completed).await?;
    for cluster in scene.serving() {
        releases::serves_only(scene, cluster, VERSION).await?;
    }
    scene.serving = VERSION.to_owned();
    sound(&routings(scene, SERVE_ONLINE)?)?;
    let digest = layout::digest(VERSION);
    let commits = scene.repository.log().await?;
    let commits = commits.iter().filter(|commit| commit.message.contains(&digest)).count();
    ensure!(commits == 1, "{commits} commits bring {VERSION}");
    Ok(vec![format!("a release completed, with one commit: {}", round.tally())])
}

/// Starts what the broken round left dead.
///
/// # Errors
/// It does not come up.
pub async fn mend(scene: &mut Scene) -> Result<()> {
    scene.platform.start_again(Service::Registry).await
}

/// Three jobs. On the way of the first the scheduler dies between any two things it does, on the way of the second the
/// agent; on the way of the third every service is killed at some moment.
async fn kill_on_the_way_of_jobs(scene: &mut Scene, round: &mut Round) -> Result<()> {
    let [first, second, third] = names(scene);
    for point in ["scheduler.judged", "scheduler.decided", "scheduler.telling", "scheduler.applied"] {
        service_dies_at(scene, Service::Scheduler, point, async |scene| submit(scene, &first).await).await?;
        round.points += 1;
    }
    scene.platform.start_again(Service::Scheduler).await?;
    // The job is known by its name and manifest, however often it is sent.
    submit(scene, &first).await?;

    start_agent_to_die(scene, TRAIN_IDC, "agent.applied")?;
    submit(scene, &second).await?;
    for point in ["agent.applied", "agent.noted"] {
        agent_dies_at(scene, TRAIN_IDC, point).await?;
        round.points += 1;
        let agent = scene.platform.agent(TRAIN_IDC)?;
        if point == "agent.applied" {
            agent.start_again_to_die("agent.noted")?;
        } else {
            agent.start_again()?;
        }
    }

    submit(scene, &third).await?;
    for victim in round.shuffled(Service::ALL) {
        round.kill(scene, victim).await?;
    }
    for cluster in scene.training() {
        round.kill_agent(scene, cluster).await?;
    }
    Ok(())
}

/// A release. The rollout service dies between any two things it does for it, a canary's agent between a write and its
/// note; every other agent and the registry are killed at some moment of the promotion.
async fn kill_on_the_way_of_a_release(scene: &mut Scene, round: &mut Round) -> Result<()> {
    let canaries: Vec<&str> = scene.edges().into_iter().filter(|edge| EDGES[..2].contains(edge)).collect();
    let canary = canaries[round.draw.below(canaries.len())];
    start_agent_to_die(scene, canary, "agent.applied")?;
    // The same event every time: it is known by model, version and digest.
    let event = releases::training(VERSION);
    service_dies_at(scene, Service::Rollout, "rollout.pushed", async |scene| {
        releases::report(scene, event.clone()).await.map(|_| ())
    })
    .await?;
    for point in ["rollout.judged", "rollout.decided", "rollout.telling", "rollout.applied"] {
        service_dies_at(scene, Service::Rollout, point, async |_| Ok(())).await?;
    }
    agent_dies_at(scene, canary, "agent.applied").await?;
    scene.platform.agent(canary)?.start_again()?;
    for other in canaries.into_iter().filter(|other| *other != canary) {
        round.kill_agent(scene, other).await?;
    }
    // Between 10 % and 100 % of the traffic.
    service_dies_at(scene, Service::Rollout, "rollout.promoted", async |_| Ok(())).await?;
    round.points += 7;
    round.kill_agent(scene, SERVE_ONLINE).await?;
    scene.platform.start_again(Service::Rollout).await?;
    eventually_within(RELEASE_WITHIN, &format!("{VERSION} has all of the traffic"), async || {
        let routings = routings(scene, SERVE_ONLINE)?;
        let all = routings.last().is_some_and(|routing| routing.weights == [(VERSION.to_owned(), 100)]);
        Ok(look(all, (), || format!("{:?}", routings.last().map(|routing| routing.weights.clone()))))
    })
    .await?;
    for victim in round.shuffled([Service::Rollout, Service::Registry, Service::Policy]) {
        round.kill(scene, victim).await?;
    }
    round.kill_agent(scene, EDGES[2]).await
}

/// The names of the round's jobs.
fn names(scene: &Scene) -> [String; JOBS as usize] {
    ["round-1", "round-2", "round-3"].map(|name| scene.name(name))
}

/// Every process that was killed runs again.
fn all_are_back(scene: &mut Scene) -> Result<()> {
    for service in Service::ALL {
        scene.platform.replica(service).process().expect_running()?;
    }
    for cluster in scene.clusters().to_vec() {
        scene.platform.agent(cluster)?.process().expect_running()?;
    }
    Ok(())
}

async fn submit(scene: &Scene, name: &str) -> Result<()> {
    let file = scene.write("round.yaml", &documents::job(name, "train-queue", "v3", PODS, 8))?;
    scene.muster().succeed(&["submit", "-f", path(&file)?]).await?;
    Ok(())
}

async fn ends_well(scene: &Scene, name: &str) -> Result<()> {
    eventually_within(Duration::from_secs(120), &format!("{name} ends well"), async || {
        let job = train::get(scene, name).await?;
        let ended = job.state() == scheduler::job::State::Succeeded;
        Ok(look(ended, (), || format!("{:?}: {}", job.state(), job.reason)))
    })
    .await
}

/// Pods that were created for each run, by the clusters' own record: as many as the job has, in one cluster.
fn none_twice(scene: &Scene) -> Result<usize> {
    let made = pods_made(scene)?;
    for name in names(scene) {
        let run = format!("ml.{name}.1");
        let count = made.get(&run).copied().with_context(|| format!("no pod was made for {run}"))?;
        ensure!(count == PODS, "{count} pods were made for {run}, not {PODS}");
    }
    Ok(made.len())
}

/// How the round goes, and what has died in it.
struct Round {
    seed: u64,
    draw: Draw,
    points: u32,
    kills: u32,
}

impl Round {
    fn new(seed: u64) -> Self {
        Self { seed, draw: Draw(seed), points: 0, kills: 0 }
    }

    fn tally(&self) -> String {
        format!("killed at {} named points and {} moments of seed {}", self.points, self.kills, self.seed)
    }

    /// Up to 400 ms.
    fn delay(&mut self) -> Duration {
        Duration::from_millis(self.draw.number() % 400)
    }

    /// Kills a service at some moment, and starts it again.
    async fn kill(&mut self, scene: &mut Scene, service: Service) -> Result<()> {
        tokio::time::sleep(self.delay()).await;
        self.kills += 1;
        scene.platform.crash(service)?;
        scene.platform.start_again(service).await
    }

    /// Kills an agent at some moment, and starts it again.
    async fn kill_agent(&mut self, scene: &mut Scene, cluster: &str) -> Result<()> {
        tokio::time::sleep(self.delay()).await;
        self.kills += 1;
        let agent = scene.platform.agent(cluster)?;
        agent.process().crash()?;
        agent.start_again()
    }

    /// In some order.
    fn shuffled<const N: usize>(&mut self, mut services: [Service; N]) -> [Service; N] {
        for last in (1..N).rev() {
            services.swap(last, self.draw.below(last + 1));
        }
        services
    }
}
