//! Two schedulers, two rollouts. The one that leads falls asleep for longer than its lease, between two things it does; the
//! other takes over, and nothing counts that the first one does when it wakes: it is refused, or finds its lease gone. That it
//! is elected anew later, when the machine is busy, is its good right.

use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use muster_integration_tests::clients::{Addresses, Clients};
use muster_integration_tests::patience::{Look, look};
use muster_integration_tests::platform::Service;
use muster_integration_tests::process::Crash;
use muster_integration_tests::repository::Repository;
use muster_integration_tests::{Platform, eventually};
use muster_proto::rollout::v1 as rollout;
use muster_proto::scheduler::v1 as scheduler;
use nix::sys::signal::Signal;
use serde_json::json;
use sqlx::{ConnectOptions, Connection};

use crate::common::release::{self, APPLICATION, server, tree};
use crate::{ALONE, common};

/// What the fence says to one that is late: the table's, and the registry's.
const REFUSALS: [&str; 2] = ["another replica leads by now", "which was seen before"];

#[tokio::test(flavor = "multi_thread")]
async fn leaders_that_slept_change_nothing() -> Result<()> {
    let _alone = ALONE.lock().await;
    let mut platform = common::training_platform().await?;
    let first = platform.clients()?;
    let second = Addresses {
        scheduler: platform.add_replica(Service::Scheduler).await?,
        rollout: platform.add_replica(Service::Rollout).await?,
        ..platform.addresses()
    };
    let token = std::fs::read_to_string(platform.token_file())?;
    let second = Clients::new(&second, &platform.pki().ca(), Some(token.trim()))?;

    for (number, point) in ["scheduler.decided", "scheduler.telling", "scheduler.applied"].into_iter().enumerate() {
        the_scheduler_sleeps(&mut platform, &first, &second, point, number).await?;
    }
    let repository = Repository::create(&platform.folder().join("git"), &tree("v0")).await?;
    release::apply(&first, &repository, &["train"], json!({"minSuccessTime": "1s"})).await?;
    release::runs(&platform, "train", "v0").await?;
    for (number, point) in ["rollout.decided", "rollout.telling", "rollout.applied"].into_iter().enumerate() {
        the_rollout_sleeps(&mut platform, &repository, &second, point, number + 1).await?;
    }
    Ok(())
}

async fn the_scheduler_sleeps(
    platform: &mut Platform,
    first: &Clients,
    second: &Clients,
    point: &str,
    number: usize,
) -> Result<()> {
    leads_until(platform, Service::Scheduler, point).await?;
    let [asleep, meanwhile, after] = ["asleep", "meanwhile", "after"].map(|name| format!("{name}-{number}"));
    let led = epoch(platform, Service::Scheduler).await?;
    common::submit(second, &common::job(&asleep, "short", 2, 4)).await?;
    let fell_asleep = falls_asleep(platform, Service::Scheduler, point).await?;
    common::submit(second, &common::job(&meanwhile, "short", 2, 4)).await?;
    started(second, &meanwhile).await?;
    say(point, fell_asleep);

    ensure!(epoch(platform, Service::Scheduler).await? > led, "{point}: nobody else has led");
    wakes(platform, Service::Scheduler, point).await?;
    common::submit(first, &common::job(&after, "short", 2, 4)).await?;
    for name in [&asleep, &meanwhile, &after] {
        let job = common::job_is(second, name, scheduler::job::State::Succeeded).await?;
        ensure!(job.run_epoch == 1, "{name} was run {} times", job.run_epoch);
    }
    let pods = common::pods_by_run(platform, "train")?;
    ensure!(pods.values().all(|count| *count == 2), "a run was started twice: {pods:?}");
    Ok(())
}

async fn the_rollout_sleeps(
    platform: &mut Platform,
    repository: &Repository,
    second: &Clients,
    point: &str,
    number: usize,
) -> Result<()> {
    leads_until(platform, Service::Rollout, point).await?;
    let version = format!("v{number}");
    let commit = repository.commit(&version, &[server(&version)]).await?;
    let led = epoch(platform, Service::Rollout).await?;
    let fell_asleep = falls_asleep(platform, Service::Rollout, point).await?;
    let complete = async || -> Result<Vec<rollout::Release>> {
        eventually(&format!("the release of {version} is complete"), async || {
            let request = rollout::ListReleasesRequest { parent: APPLICATION.to_owned(), ..Default::default() };
            let releases = second.releases().list_releases(request).await?.into_inner().releases;
            let newest = releases.first().context("a release")?;
            let complete = newest.commit == commit && newest.state() == rollout::release::State::Completed;
            Ok(look(complete, releases.clone(), || format!("{newest:?}")))
        })
        .await
    };
    complete().await?;
    say(point, fell_asleep);

    ensure!(epoch(platform, Service::Rollout).await? > led, "{point}: nobody else has led");
    wakes(platform, Service::Rollout, point).await?;
    let releases = complete().await?;
    ensure!(releases.len() == number + 1, "a commit was released twice: {releases:?}");
    release::runs(platform, "train", &version).await?;
    Ok(())
}

/// The service's first process is started anew, to sleep at the point, and leads: the other is started after that.
async fn leads_until(platform: &mut Platform, service: Service, point: &str) -> Result<()> {
    for replica in platform.replicas(service) {
        replica.process().stop()?;
    }
    let before = epoch(platform, service).await?;
    platform.start_again_to_fail(service, Crash::SleepsAt(point))?;
    platform.replica(service).wait_until_ready().await?;
    eventually(&format!("the first {} leads", service.name()), async || {
        let now = epoch(platform, service).await?;
        Ok(look(now > before, (), || format!("the epoch is {now}")))
    })
    .await?;
    platform.start_others_again(service)?;
    for replica in platform.replicas(service).skip(1) {
        replica.wait_until_ready().await?;
    }
    Ok(())
}

/// Waits until the first process sleeps at the point.
async fn falls_asleep(platform: &mut Platform, service: Service, point: &str) -> Result<Instant> {
    eventually(&format!("{} sleeps at {point}", service.name()), async || {
        let process = platform.replica(service).process();
        process.expect_running()?;
        if !process.sleeps()? {
            return Ok(Look::NotYet("it is awake".to_owned()));
        }
        let said = process.log_tail().contains(&format!("crash point reached: {point}"));
        Ok(if said { Look::Is(Instant::now()) } else { Look::Never(process.log_tail()) })
    })
    .await
}

/// Wakes it, and waits until it has been told that it is late: where it slept between deciding and telling it finds its lease
/// gone, and tries nothing; at the other points it is in the middle of a write.
async fn wakes(platform: &mut Platform, service: Service, point: &str) -> Result<()> {
    let replica = platform.replica(service);
    let before = replica.logged()?.len();
    replica.process().signal(Signal::SIGCONT)?;
    if point.ends_with(".decided") {
        return Ok(());
    }
    eventually(&format!("{} is told that it is late", service.name()), async || {
        let logged = replica.logged()?;
        let new = &logged[before..];
        Ok(look(REFUSALS.iter().any(|refusal| new.contains(refusal)), (), || new.to_owned()))
    })
    .await
}

/// Returns when a job was told to its cluster.
async fn started(clients: &Clients, name: &str) -> Result<()> {
    eventually(&format!("{name} has started"), async || {
        let request = scheduler::GetJobRequest { name: format!("namespaces/ml/jobs/{name}") };
        let job = clients.jobs().get_job(request).await?.into_inner();
        let started = matches!(job.state(), scheduler::job::State::Running | scheduler::job::State::Succeeded);
        Ok(look(started, (), || format!("{:?}: {}", job.state(), job.reason)))
    })
    .await
}

/// The present epoch of who decides.
async fn epoch(platform: &Platform, service: Service) -> Result<i64> {
    let options: sqlx::postgres::PgConnectOptions = platform.databases().url(service).parse()?;
    let mut connection = options.connect().await?;
    let query = sqlx::query_scalar("select epoch from lease where name = $1");
    let epoch = query.bind(service.name()).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(epoch)
}

/// Into the output, also of a test that passes.
fn say(point: &str, fell_asleep: Instant) {
    let seconds = fell_asleep.elapsed().as_secs_f64();
    // Whoever has closed the output does not want to hear it.
    writeln!(std::io::stdout(), "failover: asleep at {point}, the other had done what came next after {seconds:.1} s").ok();
}
