//! Documents that are malformed, say too much, or say it twice.

use anyhow::{Result, ensure};
use muster_integration_tests::Platform;
use muster_integration_tests::clients::Clients;
use muster_integration_tests::refusal::{has_reason, names_field};
use muster_proto::registry::v1 as registry;
use muster_proto::scheduler::v1 as scheduler;
use tonic::{Code, Status};

/// What comes of asking for a queue of this document.
pub async fn queue(clients: &Clients, manifest: &str) -> Result<scheduler::Queue, Status> {
    let request = scheduler::CreateQueueRequest {
        queue: Some(scheduler::Queue { manifest: manifest.to_owned(), ..Default::default() }),
        ..Default::default()
    };
    clients.queues().create_queue(request).await.map(tonic::Response::into_inner)
}

async fn fleet(clients: &Clients, manifest: &str) -> Result<registry::Fleet, Status> {
    let request = registry::CreateFleetRequest {
        fleet: Some(registry::Fleet { manifest: manifest.to_owned(), ..Default::default() }),
        ..Default::default()
    };
    clients.fleets().create_fleet(request).await.map(tonic::Response::into_inner)
}

pub async fn are_refused(platform: &Platform, clients: &Clients) -> Result<()> {
    let header = "apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {name: q}\n";
    let cases = [
        ("malformed YAML", format!("{header}spec: {{weight: 1\n"), "queue.manifest", "line 4"),
        ("an unknown field", format!("{header}spec:\n  wieght: 1\n"), "queue.manifest.spec.wieght", "line 5, column 3"),
        ("a field in a wrong place", format!("{header}weight: 1\n"), "queue.manifest.weight", "line 4, column 1"),
        ("the same field twice", format!("{header}spec:\n  weight: 1\n  weight: 2\n"), "queue.manifest", "line 6"),
        ("two documents", format!("{header}---\n{header}"), "queue.manifest", "line 4"),
        ("no document", "# nothing\n".to_owned(), "queue.manifest", "line 1"),
        ("another kind", header.replace("Queue", "Fleet"), "queue.manifest", "Fleet"),
        ("a name outside the grammar", header.replace("name: q", "name: Not_A_Name"), "queue.manifest.metadata.name", "a-z"),
    ];
    for (what, manifest, field, words) in cases {
        let refusal = queue(clients, &manifest).await.expect_err(what);
        names_field(&refusal, field, what)?;
        ensure!(refusal.message().contains(words), "{what}: {words:?} is not in {:?}", refusal.message());
    }
    let twice =
        "apiVersion: fleet.kurator.dev/v1alpha1\nkind: Fleet\nmetadata: {name: f}\nspec:\n  clusters: []\n  clusters: []\n";
    let refusal = fleet(clients, twice).await.expect_err("the same field twice");
    names_field(&refusal, "fleet.manifest", "the same field twice in a Fleet")?;
    ensure!(refusal.message().contains("line 6"), "{refusal}");
    let member = "apiVersion: muster.dev/v1\nkind: Fleet\nmetadata: {name: f}\nspec: {clusters: [{name: a}, {name: a}]}\n";
    let refusal = fleet(clients, member).await.expect_err("a member twice");
    ensure!(refusal.message().contains("spec.clusters[1]"), "{refusal}");

    let taken = queue(clients, &header.replace("name: q", "name: research")).await.expect_err("a name that is taken");
    has_reason(&taken, Code::AlreadyExists, "ALREADY_EXISTS", "a second queue of one name")?;

    // A folder is one unordered set: of two documents of one name neither is the later one.
    let folder = tempfile::tempdir()?;
    for (file, weight) in [("one.yaml", 1), ("two.yaml", 2)] {
        std::fs::write(folder.path().join(file), format!("{header}spec: {{weight: {weight}}}\n"))?;
    }
    let outcome = platform.muster().call(&["apply", "-f", &folder.path().display().to_string()]).await?;
    ensure!(outcome.status != 0, "two documents of one name are applied: {outcome:?}");
    for file in ["one.yaml", "two.yaml"] {
        ensure!(outcome.errors.contains(file), "{file} is not named: {}", outcome.errors);
    }
    Ok(())
}
