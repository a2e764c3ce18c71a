//! Postgres away, Kafka away: the services say so in health, logs and answers, keep trying, serve what they can, and lose
//! nothing.

use anyhow::{Context, Result, ensure};
use muster_integration_tests::clients::Clients;
use muster_integration_tests::kafka::{PARTITIONS, TOPICS, Topics};
use muster_integration_tests::patience::look;
use muster_integration_tests::platform::Service;
use muster_integration_tests::proxy::Proxy;
use muster_integration_tests::{Platform, Setup, eventually, wire};
use muster_proto::scheduler::v1 as scheduler;
use muster_testkit::{Broker, BrokerState};
use scheduler::job::State;
use sqlx::postgres::PgConnectOptions;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{ALONE, common};

/// Every service's `/readyz` has this status and says something of a part.
async fn health_is(platform: &mut Platform, services: &[Service], status: u16, part: &str, wrong: bool) -> Result<()> {
    for service in services {
        let replica = platform.replica(*service);
        eventually(&format!("{}: {part} in /readyz with {status}", service.name()), async || {
            let (found, text) = replica.health().await?;
            let parts: Vec<serde_json::Value> = serde_json::from_str(&text)?;
            let problem = parts.iter().find(|known| known["part"] == part).map(|known| known.get("problem").is_some());
            Ok(look(found == status && problem == Some(wrong), (), || format!("{found}: {text}")))
        })
        .await?;
    }
    Ok(())
}

/// What gRPC health says of the scheduler: the field of `grpc.health.v1.HealthCheckResponse` as bytes.
async fn serving(clients: &Clients) -> Result<Vec<u8>> {
    Ok(wire::unary(clients.link(Service::Scheduler), "/grpc.health.v1.Health/Check", Vec::new()).await?)
}

const SERVING: [u8; 2] = [8, 1];
const NOT_SERVING: [u8; 2] = [8, 2];

#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_cannot_reach_is_said() -> Result<()> {
    let _alone = ALONE.lock().await;
    let broker = Broker::start(&TOPICS, PARTITIONS).map_err(anyhow::Error::msg)?;
    let mut setup = Setup::for_tests(env!("CARGO_BIN_EXE_leash"), common::training_clusters())?;
    let direct: PgConnectOptions = setup.database_url.parse()?;
    let server = format!("{}:{}", direct.get_host(), direct.get_port());
    let proxy = Proxy::start(tokio::net::lookup_host(&server).await?.next().context("the server's address")?).await?;
    ensure!(setup.database_url.contains(&server), "{server} is not in the URL of the database");
    setup.database_url = setup.database_url.replacen(&server, &proxy.address().to_string(), 1);
    setup.brokers = Some(broker.bootstrap_servers().to_owned());
    let mut platform = common::with_queue(Platform::start(setup).await?).await?;
    let clients = platform.clients()?;
    common::submit(&clients, &common::job("before", "endless", 1, 8)).await?;
    common::job_is(&clients, "before", State::Running).await?;

    without_kafka(&mut platform, &clients, &broker).await?;
    without_postgres(&mut platform, &clients, &proxy).await?;

    let before = common::job_is(&clients, "before", State::Running).await?;
    ensure!(before.run_epoch == 1, "it was started anew: {before:?}");
    let pods = common::pods_by_run(&platform, "train")?;
    ensure!(pods.len() == 3 && pods.values().all(|count| *count == 1), "a run was started twice: {pods:?}");
    Ok(())
}

/// Everything is served; events wait in the log, and are published when the broker is back.
async fn without_kafka(platform: &mut Platform, clients: &Clients, broker: &Broker) -> Result<()> {
    broker.set(BrokerState::Down).map_err(anyhow::Error::msg)?;
    common::submit(clients, &common::job("without-kafka", "short", 1, 1)).await?;
    common::job_is(clients, "without-kafka", State::Succeeded).await?;
    health_is(platform, &[Service::Scheduler], 200, "kafka", true).await?;
    ensure!(serving(clients).await? == SERVING, "without Kafka it still serves");
    let logged = platform.replica(Service::Scheduler).logged()?;
    ensure!(logged.contains("not well") && logged.contains("kafka"), "the log does not say it: {logged}");

    broker.set(BrokerState::Up).map_err(anyhow::Error::msg)?;
    let topics = Topics::read(platform.brokers())?;
    eventually("what happened meanwhile is published", async || {
        let jobs = topics.of("muster.jobs");
        let of = |event: &&muster_integration_tests::kafka::Event| {
            event.headers.get("ce_subject").is_some_and(|subject| subject == "namespaces/ml/jobs/without-kafka")
        };
        let kinds: Vec<String> = jobs.iter().filter(of).filter_map(|event| event.headers.get("ce_type").cloned()).collect();
        Ok(look(kinds.iter().any(|kind| kind.contains("succeeded")), (), || format!("{kinds:?}")))
    })
    .await?;
    health_is(platform, &[Service::Scheduler], 200, "kafka", false).await
}

/// Nothing can be served but the word that it can't; agents and their workloads go on, and so does everything afterwards.
async fn without_postgres(platform: &mut Platform, clients: &Clients, proxy: &Proxy) -> Result<()> {
    proxy.cut();
    health_is(platform, &Service::ALL, 503, "postgres", true).await?;
    eventually("gRPC health says that it does not serve", async || {
        let said = serving(clients).await?;
        Ok(look(said == NOT_SERVING, (), || format!("{said:?}")))
    })
    .await?;
    let list = scheduler::ListQueuesRequest::default();
    let refusal = clients.queues().list_queues(list).await.expect_err("the database is away");
    ensure!(refusal.code() == Code::Unavailable, "{refusal}");
    ensure!(refusal.get_details_error_info().is_some(), "no reason: {refusal}");
    let logged = platform.replica(Service::Scheduler).logged()?;
    ensure!(logged.contains("not well") && logged.contains("postgres"), "the log does not say it: {logged}");

    proxy.mend();
    health_is(platform, &Service::ALL, 200, "postgres", false).await?;
    common::live(platform, "train").await?;
    eventually("jobs are taken again", async || {
        let submitted = common::submit(clients, &common::job("after", "short", 1, 1)).await?;
        Ok(look(true, submitted, String::new))
    })
    .await?;
    common::job_is(clients, "after", State::Succeeded).await?;
    Ok(())
}
