//! A repository whose overlay doesn't render, that vanishes, and that rewrites its history: each is said where people look,
//! and what runs goes on.

use anyhow::{Result, ensure};
use muster_integration_tests::clients::Clients;
use muster_integration_tests::patience::look;
use muster_integration_tests::refusal::{has_reason, names_field};
use muster_integration_tests::repository::Repository;
use muster_integration_tests::{Platform, eventually};
use muster_proto::rollout::v1 as rollout;
use serde_json::json;
use tonic::Code;

use crate::common;
use crate::common::release::{APPLICATION, REPOSITORY, server, tree};

struct Scene {
    platform: Platform,
    clients: Clients,
    repository: Repository,
}

impl Scene {
    async fn application_says(&self, words: &str) -> Result<rollout::Application> {
        eventually(&format!("the application says {words:?}"), async || {
            let request = rollout::GetApplicationRequest { name: APPLICATION.to_owned() };
            let found = self.clients.applications().get_application(request).await?.into_inner();
            Ok(look(found.reason.contains(words), found.clone(), || format!("{:?}: {}", found.state(), found.reason)))
        })
        .await
    }

    async fn repository_says(&self, words: &str) -> Result<()> {
        eventually(&format!("the repository says {words:?}"), async || {
            let request = rollout::GetGitRepositoryRequest { name: REPOSITORY.to_owned() };
            let found = self.clients.repositories().get_git_repository(request).await?.into_inner();
            let said = if words.is_empty() { found.problem.is_empty() } else { found.problem.contains(words) };
            Ok(look(said, (), || format!("at {}: {:?}", found.commit, found.problem)))
        })
        .await
    }

    async fn runs(&self, tag: &str) -> Result<()> {
        common::release::runs(&self.platform, "train", tag).await
    }

    async fn create_release(&self, commit: &str) -> Result<rollout::Release, tonic::Status> {
        let request = rollout::CreateReleaseRequest {
            parent: APPLICATION.to_owned(),
            release: Some(rollout::Release { commit: commit.to_owned(), ..Default::default() }),
            ..Default::default()
        };
        self.clients.releases().create_release(request).await.map(tonic::Response::into_inner)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_turns_bad_is_named_and_what_runs_goes_on() -> Result<()> {
    let platform = common::training_platform().await?;
    let clients = platform.clients()?;
    let repository = Repository::create(&platform.folder().join("git"), &tree("one")).await?;
    common::release::apply(&clients, &repository, &["train"], json!({})).await?;
    let scene = Scene { platform, clients, repository };
    scene.runs("one").await?;
    let first = scene.repository.head().await?;

    an_overlay_that_does_not_render(&scene).await?;
    a_repository_that_vanishes(&scene).await?;
    a_history_that_is_rewritten(&scene, &first).await
}

async fn an_overlay_that_does_not_render(scene: &Scene) -> Result<()> {
    let broken = ("serving/kustomization.yaml".to_owned(), "resources: [deployment.yaml, missing.yaml]\n".to_owned());
    let commit = scene.repository.commit("Broken", &[broken]).await?;
    let said = scene.application_says("missing.yaml").await?;
    ensure!(said.state() == rollout::application::State::Degraded, "{said:?}");
    let diff = rollout::DiffReleaseRequest { application: APPLICATION.to_owned(), commit: commit.clone() };
    let refusal = scene.clients.releases().diff_release(diff).await.expect_err("it does not render");
    has_reason(&refusal, Code::FailedPrecondition, "DOES_NOT_RENDER", "a diff")?;
    ensure!(refusal.message().contains("missing.yaml"), "{refusal}");
    let refusal = scene.create_release(&commit).await.expect_err("it does not render");
    has_reason(&refusal, Code::FailedPrecondition, "DOES_NOT_RENDER", "a release")?;
    let refusal = scene.create_release("no-such-ref").await.expect_err("an unknown commit");
    names_field(&refusal, "release.commit", "an unknown commit")?;
    scene.runs("one").await?;

    // The same field twice in a plain manifest, which a parser that is not strict would pass over.
    scene.repository.remove("Plain again", &["serving/kustomization.yaml"]).await?;
    let twice = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: twice}\ndata:\n  key: one\n  key: two\n";
    scene.repository.commit("Twice", &[("serving/twice.yaml".to_owned(), twice.to_owned())]).await?;
    scene.application_says("serving/twice.yaml: line 6").await?;
    scene.runs("one").await?;

    scene.repository.remove("Once", &["serving/twice.yaml"]).await?;
    scene.repository.commit("Two", &[server("two")]).await?;
    scene.runs("two").await
}

async fn a_repository_that_vanishes(scene: &Scene) -> Result<()> {
    let hidden = scene.repository.vanish()?;
    scene.repository_says("repository.git").await?;
    // What was read of it is still there.
    scene.runs("two").await?;
    let read = rollout::ReadFileRequest { name: REPOSITORY.to_owned(), path: "serving/deployment.yaml".to_owned() };
    let read = scene.clients.repositories().read_file(read).await?.into_inner();
    ensure!(read.content.contains(":two"), "{read:?}");

    hidden.come_back()?;
    scene.repository_says("").await?;
    scene.repository.commit("Three", &[server("three")]).await?;
    scene.runs("three").await
}

async fn a_history_that_is_rewritten(scene: &Scene, first: &str) -> Result<()> {
    let before = scene.repository.head().await?;
    scene.repository.rewrite("Another third", &[server("four")]).await?;
    scene.repository_says(&format!("its history was rewritten: {before} is no longer in it")).await?;
    scene.runs("four").await?;
    // Both what is still in the history and what was rewritten away can be gone back to.
    for (commit, tag) in [(before.as_str(), "three"), (first, "one")] {
        scene.create_release(commit).await?;
        scene.runs(tag).await?;
    }
    Ok(())
}
