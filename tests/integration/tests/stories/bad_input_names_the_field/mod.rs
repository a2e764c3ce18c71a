//! What is wrong is refused with its field or line, and loses nothing.

mod documents;
mod events;
mod messages;
mod numbers;
mod policies;
mod references;
mod repositories;

use std::collections::BTreeMap;

use anyhow::Result;
use muster_integration_tests::clients::Clients;
use muster_integration_tests::refusal::has_reason;
use muster_proto::policy::v1 as policy;
use muster_proto::registry::v1 as registry;
use muster_proto::rollout::v1 as rollout;
use muster_proto::scheduler::v1 as scheduler;
use tonic::Code;

use crate::common;

const ALL_NAMESPACES: &str = "namespaces/-";

/// Everything that people have stored, by name, as they wrote it.
async fn stored(clients: &Clients) -> Result<BTreeMap<String, String>> {
    let mut stored = BTreeMap::new();
    let mut keep = |name: String, manifest: String| stored.insert(name, manifest);
    let parent = ALL_NAMESPACES.to_owned();
    for queue in clients.queues().list_queues(scheduler::ListQueuesRequest::default()).await?.into_inner().queues {
        keep(queue.name, queue.manifest);
    }
    let jobs = scheduler::ListJobsRequest { parent: parent.clone(), ..Default::default() };
    for job in clients.jobs().list_jobs(jobs).await?.into_inner().jobs {
        keep(job.name, job.manifest);
    }
    for cluster in clients.clusters().list_clusters(registry::ListClustersRequest::default()).await?.into_inner().clusters {
        keep(cluster.name, format!("{:?}", cluster.labels));
    }
    for fleet in clients.fleets().list_fleets(registry::ListFleetsRequest::default()).await?.into_inner().fleets {
        keep(fleet.name, fleet.manifest);
    }
    for book in clients.price_books().list_price_books(registry::ListPriceBooksRequest::default()).await?.into_inner().price_books
    {
        keep(book.name, book.manifest);
    }
    for one in clients.policies().list_policies(policy::ListPoliciesRequest::default()).await?.into_inner().policies {
        keep(one.name, one.manifest);
    }
    let bindings = clients.fleet_policies().list_fleet_policies(policy::ListFleetPoliciesRequest::default()).await?;
    for binding in bindings.into_inner().fleet_policies {
        keep(binding.name, binding.manifest);
    }
    let repositories = rollout::ListGitRepositoriesRequest { parent: parent.clone(), ..Default::default() };
    for repository in clients.repositories().list_git_repositories(repositories).await?.into_inner().git_repositories {
        keep(repository.name, repository.manifest);
    }
    let applications = rollout::ListApplicationsRequest { parent, ..Default::default() };
    for application in clients.applications().list_applications(applications).await?.into_inner().applications {
        keep(application.name, application.manifest);
    }
    for model in clients.models().list_models(rollout::ListModelsRequest::default()).await?.into_inner().models {
        keep(model.name, model.manifest);
    }
    Ok(stored)
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_names_the_field() -> Result<()> {
    let platform = common::training_platform().await?;
    let clients = platform.clients()?;
    // Something of each kind that bad input is about, so that there is something to lose.
    events::prepare(&clients).await?;
    policies::prepare(&clients).await?;
    // Once a job has run, the scheduler knows how large the cluster is.
    common::submit(&clients, &common::job("first", "short", 1, 1)).await?;
    common::job_is(&clients, "first", scheduler::job::State::Succeeded).await?;
    let before = stored(&clients).await?;

    messages::are_refused(&clients).await?;
    documents::are_refused(&platform, &clients).await?;
    numbers::are_refused(&clients).await?;
    references::are_refused(&clients).await?;
    policies::are_bounded(&clients).await?;
    events::are_refused(&platform, &clients).await?;

    let nobody = platform.clients_as(None)?;
    let refusal = nobody.clusters().list_clusters(registry::ListClustersRequest::default()).await;
    has_reason(&refusal.expect_err("nobody"), Code::Unauthenticated, "UNAUTHENTICATED", "nobody in particular")?;

    assert_eq!(stored(&clients).await?, before, "something was stored, or lost");
    common::submit(&clients, &common::job("good", "short", 1, 1)).await?;
    common::job_is(&clients, "good", scheduler::job::State::Succeeded).await?;
    Ok(())
}
