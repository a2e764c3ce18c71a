//! What names something that is not there, or that was changed since.
//!
//! The one thing to know: documents come in any order, so one may name what is still to come: it is stored, waits, and says
//! for what. An RPC that is about something that is not there is refused.

use anyhow::{Result, ensure};
use muster_integration_tests::clients::Clients;
use muster_integration_tests::eventually;
use muster_integration_tests::patience::look;
use muster_integration_tests::refusal::{has_reason, names_field};
use muster_proto::registry::v1 as registry;
use muster_proto::rollout::v1 as rollout;
use muster_proto::scheduler::v1 as scheduler;
use serde_json::json;
use tonic::Code;

use crate::common;

const STALE: &str = "v999999";

pub async fn are_refused(clients: &Clients) -> Result<()> {
    stale_etags(clients).await?;
    let lost = "namespaces/ml/applications/not-there";
    let diff = rollout::DiffReleaseRequest { application: lost.to_owned(), ..Default::default() };
    let refusal = clients.releases().diff_release(diff).await.expect_err("an unknown application");
    has_reason(&refusal, Code::NotFound, "NOT_FOUND", "an unknown application")?;
    ensure!(refusal.message().contains(lost), "{refusal}");
    let name = registry::GetClusterRequest { name: "fleets/train".to_owned() };
    names_field(&clients.clusters().get_cluster(name).await.expect_err("another kind's name"), "name", "another kind's name")?;

    let mut orphan = common::job("orphan", "short", 1, 1);
    orphan["spec"]["queue"] = json!("nobody-made-it");
    common::submit(clients, &orphan).await?;
    let job = "namespaces/ml/jobs/orphan".to_owned();
    let explained = clients.jobs().explain_job(scheduler::ExplainJobRequest { name: job.clone() }).await?.into_inner();
    ensure!(explained.summary.contains("queue \"nobody-made-it\" does not exist"), "{explained:?}");
    clients.jobs().cancel_job(scheduler::CancelJobRequest { name: job.clone(), ..Default::default() }).await?;
    clients.jobs().delete_job(scheduler::DeleteJobRequest { name: job, ..Default::default() }).await?;

    let manifest = json!({
        "apiVersion": "fleet.kurator.dev/v1alpha1", "kind": "FleetApplication",
        "metadata": {"name": "orphan", "namespace": "ml"},
        "spec": {
            "fleetRef": {"name": "nobody-made-it"},
            "gitRepositoryRef": {"name": "nobody-made-it"},
            "targets": [{"cluster": "train", "path": "serving"}],
        },
    });
    let application = Some(rollout::Application { manifest: manifest.to_string(), ..Default::default() });
    let made = rollout::CreateApplicationRequest { application, ..Default::default() };
    let name = clients.applications().create_application(made).await?.into_inner().name;
    eventually("the application says what it waits for", async || {
        let request = rollout::GetApplicationRequest { name: name.clone() };
        let found = clients.applications().get_application(request).await?.into_inner();
        let said = found.reason.contains("namespaces/ml/gitRepositories/nobody-made-it does not exist");
        Ok(look(said, (), || found.reason.clone()))
    })
    .await?;
    clients.applications().delete_application(rollout::DeleteApplicationRequest { name, ..Default::default() }).await?;
    Ok(())
}

async fn stale_etags(clients: &Clients) -> Result<()> {
    let train = "clusters/train".to_owned();
    let cluster = Some(registry::Cluster { name: train.clone(), etag: STALE.to_owned(), ..Default::default() });
    let update = registry::UpdateClusterRequest { cluster, ..Default::default() };
    let refusal = clients.clusters().update_cluster(update).await.expect_err("a stale etag");
    has_reason(&refusal, Code::Aborted, "STALE_ETAG", "an update")?;
    let delete = registry::DeleteClusterRequest { name: train, etag: STALE.to_owned(), ..Default::default() };
    let refusal = clients.clusters().delete_cluster(delete).await.expect_err("a stale etag");
    has_reason(&refusal, Code::Aborted, "STALE_ETAG", "a deletion")?;
    let delete =
        scheduler::DeleteQueueRequest { name: "queues/research".to_owned(), etag: STALE.to_owned(), ..Default::default() };
    let refusal = clients.queues().delete_queue(delete).await.expect_err("a stale etag");
    has_reason(&refusal, Code::Aborted, "STALE_ETAG", "a queue's deletion")
}
