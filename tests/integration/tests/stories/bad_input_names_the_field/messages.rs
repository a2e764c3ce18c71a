//! Bytes that are no message, and messages that are too large.

use anyhow::{Result, ensure};
use muster_integration_tests::clients::Clients;
use muster_integration_tests::platform::Service;
use muster_integration_tests::refusal::{has_reason, names_field};
use muster_integration_tests::wire;
use muster_proto::scheduler::v1 as scheduler;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const CREATE_QUEUE: &str = "/muster.scheduler.v1.QueueService/CreateQueue";

fn is_malformed(status: &Status, field: &str) -> Result<()> {
    has_reason(status, Code::InvalidArgument, "MALFORMED_MESSAGE", field)?;
    names_field(status, field, "malformed bytes")
}

pub async fn are_refused(clients: &Clients) -> Result<()> {
    // Field 2 of CreateQueue is the queue, field 3 of that its manifest.
    let cases: [(&str, &[u8], &str); 4] = [
        ("a number where a text is expected", &[0x12, 0x02, 0x18, 0x01], "queue.manifest"),
        ("a text that is no UTF-8", &[0x12, 0x03, 0x1a, 0x01, 0xff], "queue.manifest"),
        ("an end in the middle of a field", &[0x12, 0x7f, 0x1a], "queue"),
        ("an end in the middle of a tag", &[0xff], "request"),
    ];
    for (what, bytes, field) in cases {
        let outcome = wire::unary(clients.link(Service::Scheduler), CREATE_QUEUE, bytes.to_vec()).await;
        let status = outcome.err().ok_or_else(|| anyhow::anyhow!("{what} is taken"))?;
        is_malformed(&status, field)?;
    }
    for (service, path) in [
        (Service::Registry, "/muster.registry.v1.ClusterService/GetCluster"),
        (Service::Rollout, "/muster.rollout.v1.ApplicationService/GetApplication"),
        (Service::Policy, "/muster.policy.v1.PolicyService/GetPolicy"),
    ] {
        let status = wire::unary(clients.link(service), path, vec![0x0a, 0x01, 0xff]).await.expect_err("no UTF-8");
        is_malformed(&status, "name")?;
    }
    let watch = wire::streaming(clients.link(Service::Scheduler), "/muster.scheduler.v1.JobService/WatchJobs", vec![0x08, 0x01]);
    is_malformed(&watch.await.err().ok_or_else(|| anyhow::anyhow!("a number for a parent is taken"))?, "parent")?;

    let manifest = |bytes: usize| scheduler::CreateQueueRequest {
        queue: Some(scheduler::Queue { manifest: format!("# {}", "x".repeat(bytes)), ..Default::default() }),
        ..Default::default()
    };
    let large = clients.queues().create_queue(manifest(300 << 10)).await.expect_err("a manifest of 300 KiB");
    names_field(&large, "queue.manifest", "a manifest above its limit")?;
    let oversized = clients.queues().create_queue(manifest(3 << 20)).await.expect_err("a message of 3 MiB");
    has_reason(&oversized, Code::ResourceExhausted, "MESSAGE_TOO_LARGE", "an oversized message")?;
    let info = oversized.get_details_error_info().expect("it has a reason");
    ensure!(info.metadata.contains_key("limit_bytes"), "how much is taken is not said: {info:?}");
    Ok(())
}
