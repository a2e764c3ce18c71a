//! Clients that know nothing of Muster: grpcurl by reflection, and a Python program with what is generated from `proto/`.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{clients, jobs, world};

#[test]
fn muster_serves_grpcurl_and_generated_clients() -> Result<()> {
    world::play(async |world| {
        let scene = &world.scene;
        let addresses = scene.platform.addresses();
        let token = std::fs::read_to_string(scene.platform.token_file())?;
        for (url, service) in [
            (addresses.registry, "muster.registry.v1.ClusterService"),
            (addresses.scheduler.clone(), "muster.scheduler.v1.JobService"),
            (addresses.rollout, "muster.rollout.v1.ReleaseService"),
            (addresses.policy, "muster.policy.v1.PolicyService"),
        ] {
            let address = url.trim_start_matches("https://").to_owned();
            let listed = clients::grpcurl(scene, None, &[&address, "list"]).await?;
            ensure!(listed.lines().any(|line| line == service), "{service} is not listed without a token: {listed}");
            let health = clients::grpcurl(scene, None, &[&address, "grpc.health.v1.Health/Check"]).await?;
            ensure!(health.contains("SERVING"), "{service}: {health}");
        }
        let address = addresses.scheduler.trim_start_matches("https://").to_owned();
        let queues =
            clients::grpcurl(scene, Some(token.trim()), &[&address, "muster.scheduler.v1.QueueService/ListQueues"]).await?;
        let queues: Value = serde_json::from_str(&queues)?;
        ensure!(queues["queues"].as_array().is_some_and(|queues| !queues.is_empty()), "{queues}");
        let refused = clients::grpcurl(scene, None, &[&address, "muster.scheduler.v1.QueueService/ListQueues"]).await;
        let refusal = refused.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(refusal.contains("Unauthenticated"), "without a token: {refusal}");

        let manifest = jobs::batch("lab", "from-python", "short").to_string();
        let states = clients::python(scene, &["submit", "from-python", &manifest]).await?;
        let states: Vec<&str> = states.lines().collect();
        ensure!(states.last() == Some(&"SUCCEEDED"), "it followed the job through {states:?}");
        Ok(())
    })
}
