//! How long users wait when one of a service's two processes is killed: what was asked right after it is done, beside the same
//! with nothing killed.
//!
//! The one thing to know: everyone reaches a service through a balancer that takes the first process that accepts, so that one
//! process does a service's work and the other stands by; the kills alternate between the two, always at the one that works.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use muster_integration_tests::patience::look;
use muster_integration_tests::platform::Service;
use muster_integration_tests::repository::Repository;
use muster_integration_tests::{Platform, Setup, eventually_within};
use muster_proto::scheduler::v1 as scheduler;
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection};

use super::figure::{Figure, millis};
use super::{jobs, join, machine, percentile, releases};
use crate::demo::layout;

const WITHIN: Duration = Duration::from_secs(120);

/// The cluster that serves.
const EDGE: &str = "edge-000";

/// One cluster that trains, with a GPU for each job, and one that serves.
pub fn simulation(times: u32) -> Value {
    let mut simulation = jobs::simulation(times * (Service::ALL.len() as u32 + 1));
    if let (Some(clusters), Some(more)) = (simulation["clusters"].as_array_mut(), releases::simulation(1)["clusters"].as_array())
    {
        clusters.extend(more.iter().cloned());
    }
    simulation
}

pub async fn measure(setup: Setup, times: u32) -> Result<Vec<Figure>> {
    let mut ground = Ground::start(setup).await?;
    let mut figures = vec![machine::round_trip(&ground.platform, jobs::CLUSTER).await?];
    for (duty, killed) in [
        (Duty::Job, None),
        (Duty::Job, Some(Service::Registry)),
        (Duty::Job, Some(Service::Scheduler)),
        (Duty::Job, Some(Service::Policy)),
        (Duty::Release, None),
        (Duty::Release, Some(Service::Rollout)),
    ] {
        let mut took = Vec::new();
        for number in 0..times {
            took.push(ground.once(duty, killed, number as usize % 2).await?);
        }
        took.sort_by(f64::total_cmp);
        let name = killed.map_or("nothing", Service::name);
        eprintln!("{name} killed: {took:.2?} s");
        let what = format!("{}, {name} killed", duty.name());
        figures.push(millis(format!("{what}, p50 of {times}"), percentile(&took, 0.5)));
        figures.push(millis(format!("{what}, longest"), percentile(&took, 1.0)));
    }
    Ok(figures)
}

/// What a user waits for.
#[derive(Clone, Copy)]
enum Duty {
    /// A job's object in its cluster, from the first attempt to submit it.
    Job,
    /// A commit's image in a cluster, from the push.
    Release,
}

impl Duty {
    fn name(self) -> &'static str {
        match self {
            Self::Job => "job submitted → object created in the member cluster",
            Self::Release => "commit pushed → image in the member cluster",
        }
    }
}

/// The platform, with two processes of every service.
struct Ground {
    platform: Platform,
    repository: Repository,
    asked: u32,
}

impl Ground {
    async fn start(setup: Setup) -> Result<Self> {
        let mut platform = Platform::start(setup).await?;
        for service in Service::ALL {
            platform.add_replica(service).await?;
        }
        join(&mut platform, &[jobs::CLUSTER.to_owned()], "train").await?;
        join(&mut platform, &[EDGE.to_owned()], "edge").await?;
        jobs::queue(&platform).await?;
        let repository = Repository::create(&platform.folder().join("git"), &releases::tree("v1")).await?;
        releases::apply(&platform, &repository, "").await?;
        releases::serve(&platform, &[EDGE.to_owned()], "v1").await?;
        Ok(Self { platform, repository, asked: 1 })
    }

    /// Kills the process that does a service's work, and answers after how many seconds a duty was done; then starts it again.
    async fn once(&mut self, duty: Duty, killed: Option<Service>, working: usize) -> Result<f64> {
        self.asked += 1;
        releases::settled(&self.platform).await?;
        let led = self.epoch(killed).await?;
        let began = Instant::now();
        if let Some(service) = killed {
            self.platform.crash_one(service, working)?;
        }
        match duty {
            Duty::Job => self.job().await?,
            Duty::Release => self.release().await?,
        }
        let took = began.elapsed().as_secs_f64();
        if let Some(service) = killed {
            ensure!(led.is_none() || self.epoch(killed).await? > led, "the {} that was killed did not lead", service.name());
            self.platform.start_one_again(service, working).await?;
        }
        Ok(took)
    }

    async fn job(&self) -> Result<()> {
        let name = format!("job-{}", self.asked);
        let request = scheduler::CreateJobRequest {
            job: Some(scheduler::Job { manifest: jobs::job(&name).to_string(), ..Default::default() }),
            request_id: uuid::Uuid::new_v4().to_string(),
            ..Default::default()
        };
        let mut client = self.platform.clients()?.jobs();
        // As the API says: asked again with the same request id until it is answered.
        eventually_within(WITHIN, "the job is taken", async || {
            client.create_job(request.clone()).await?;
            Ok(look(true, (), String::new))
        })
        .await?;
        let api = &self.platform.cluster(jobs::CLUSTER)?.api;
        eventually_within(WITHIN, "the job is in its cluster", async || {
            let list = api.list("/apis/batch.volcano.sh/v1alpha1/namespaces/ml/jobs").await?;
            let mut names = list.iter().filter_map(|item| item["metadata"]["name"].as_str());
            Ok(look(names.any(|known| known.starts_with(&name)), (), || format!("{} others are", list.len())))
        })
        .await
    }

    async fn release(&self) -> Result<()> {
        let version = format!("v{}", self.asked);
        self.repository.commit(&version, &layout::model_of(releases::IMAGE, &version)).await?;
        let api = &self.platform.cluster(EDGE)?.api;
        let image = json!(format!("{}:{version}", releases::IMAGE));
        eventually_within(WITHIN, "the commit is in the cluster", async || {
            let found = api.find(releases::DEPLOYMENT).await?.unwrap_or_default();
            let there = found.pointer("/spec/template/spec/containers/0/image");
            Ok(look(there == Some(&image), (), || format!("{there:?}")))
        })
        .await
    }

    /// How often the leader of a service has changed; none where nobody leads.
    async fn epoch(&self, service: Option<Service>) -> Result<Option<i64>> {
        let Some(service @ (Service::Scheduler | Service::Rollout)) = service else { return Ok(None) };
        let options: sqlx::postgres::PgConnectOptions = self.platform.databases().url(service).parse()?;
        let mut connection = options.connect().await?;
        let query = sqlx::query_scalar("select epoch from lease where name = $1");
        let epoch = query.bind(service.name()).fetch_one(&mut connection).await.context("who leads")?;
        connection.close().await?;
        Ok(Some(epoch))
    }
}
