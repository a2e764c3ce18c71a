//! The conventions of the API, on every resource of this service.

use crate::stage::{APPLICATION, Stage, application, by};
use futures::StreamExt as _;
use muster_kit::Role;
use muster_proto::rollout::v1::{
    self as wire, application_service_server::ApplicationService as _, git_repository_service_server::GitRepositoryService as _,
    model_service_server::ModelService as _, release::State, release_service_server::ReleaseService as _,
};
use tonic::Code;

fn repository(name: &str) -> String {
    format!(
        "apiVersion: muster.dev/v1\nkind: GitRepository\nmetadata: {{name: {name}, namespace: platform}}\nspec: {{url: 'https://git.example.com/{name}'}}\n"
    )
}

async fn create_repository(stage: &Stage, name: &str) -> Result<wire::GitRepository, tonic::Status> {
    let git_repository = Some(wire::GitRepository { manifest: repository(name), ..wire::GitRepository::default() });
    let request = wire::CreateGitRepositoryRequest { git_repository, ..wire::CreateGitRepositoryRequest::default() };
    stage.server.create_git_repository(stage.by_operator(request)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn repositories_are_made_listed_in_pages_changed_and_deleted() {
    let stage = Stage::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        create_repository(&stage, name).await.unwrap();
    }
    assert_eq!(create_repository(&stage, "a").await.unwrap_err().code(), Code::AlreadyExists);
    let (mut token, mut seen) = (String::new(), Vec::new());
    for _ in 0..3 {
        let request = wire::ListGitRepositoriesRequest { parent: "namespaces/-".into(), page_size: 2, page_token: token };
        let page = stage.server.list_git_repositories(stage.by_operator(request)).await.unwrap().into_inner();
        seen.extend(page.git_repositories.into_iter().map(|one| one.name.rsplit('/').next().unwrap().to_owned()));
        token = page.next_page_token;
    }
    assert_eq!((seen.join(""), token.as_str()), ("abcde".to_owned(), ""));

    let changed = repository("a").replace("example.com/a", "example.com/other");
    let update = |etag: &str, manifest: &str| wire::UpdateGitRepositoryRequest {
        git_repository: Some(wire::GitRepository {
            manifest: manifest.into(),
            etag: etag.into(),
            ..wire::GitRepository::default()
        }),
        ..wire::UpdateGitRepositoryRequest::default()
    };
    let stale = stage.server.update_git_repository(stage.by_operator(update("v99", &changed))).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);
    let stored = stage.server.update_git_repository(stage.by_operator(update("v1", &changed))).await.unwrap().into_inner();
    assert_eq!(stored.etag, "v2");
    let missing = stage.server.update_git_repository(stage.by_operator(update("", &repository("none")))).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    let delete = |name: &str| wire::DeleteGitRepositoryRequest {
        name: format!("namespaces/platform/gitRepositories/{name}"),
        ..wire::DeleteGitRepositoryRequest::default()
    };
    stage.server.delete_git_repository(stage.by_operator(delete("a"))).await.unwrap();
    assert_eq!(stage.server.delete_git_repository(stage.by_operator(delete("a"))).await.unwrap_err().code(), Code::NotFound);
    let overlong = "x".repeat(64);
    assert_eq!(
        stage.server.delete_git_repository(stage.by_operator(delete(&overlong))).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn a_repeated_request_has_one_effect_and_the_first_answer() {
    let stage = Stage::new().await;
    let git_repository = Some(wire::GitRepository { manifest: repository("a"), ..wire::GitRepository::default() });
    let request = wire::CreateGitRepositoryRequest {
        git_repository,
        request_id: "0190e2c6-6f6e-7cc2-8f4e-5d6b8d1f0a11".into(),
        ..wire::CreateGitRepositoryRequest::default()
    };
    let first = stage.server.create_git_repository(stage.by_operator(request.clone())).await.unwrap().into_inner();
    let again = stage.server.create_git_repository(stage.by_operator(request.clone())).await.unwrap().into_inner();
    assert_eq!(first, again);
    let mut other = request;
    other.git_repository = Some(wire::GitRepository { manifest: repository("b"), ..wire::GitRepository::default() });
    let refused = stage.server.create_git_repository(stage.by_operator(other)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn checking_only_checks_everything_and_stores_nothing() {
    let stage = Stage::new().await;
    let request = |manifest: String| wire::CreateApplicationRequest {
        application: Some(wire::Application { manifest, ..wire::Application::default() }),
        validate_only: true,
        ..wire::CreateApplicationRequest::default()
    };
    let checked = stage.server.create_application(stage.by_operator(request(application("")))).await.unwrap().into_inner();
    assert_eq!(checked.name, APPLICATION);
    let get = wire::GetApplicationRequest { name: APPLICATION.into() };
    assert_eq!(stage.server.get_application(stage.by_operator(get)).await.unwrap_err().code(), Code::NotFound);
    let slip = application("").replace("targets:", "tragets: []\n  targets:");
    let refused = stage.server.create_application(stage.by_operator(request(slip))).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let message = refused.message();
    assert!(message.starts_with("application.manifest: line 6, column ") && message.contains("tragets"), "{message}");
    let large = format!("{}# {}\n", application(""), "x".repeat(256 * 1024));
    assert_eq!(
        stage.server.create_application(stage.by_operator(request(large))).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn what_names_something_that_is_not_there_yet_waits_for_it() {
    let stage = Stage::new().await;
    stage.apply_application("").await;
    stage.seconds(2).await;
    let waiting = stage.application().await;
    assert_eq!(waiting.state(), wire::application::State::Pending);
    assert!(waiting.reason.contains("gitRepositories/models does not exist yet"), "{}", waiting.reason);
    stage.world.with(|world| world.fleets.clear());
    stage.apply_repository().await;
    stage.seconds(2).await;
    assert!(stage.application().await.reason.contains("fleets/edge is not known yet"));
    stage.world.with(|world| world.fleets.insert("edge".into(), vec!["edge-1".into(), "edge-9".into()]));
    stage.seconds(5).await;
    let release = &stage.releases().await[0];
    let target = release.targets.iter().find(|one| one.cluster == "clusters/edge-9").unwrap();
    assert_eq!(target.state(), wire::target_status::State::Pending, "a cluster that nobody enrolled is no error");
}

#[tokio::test]
async fn a_repository_that_is_in_use_stays() {
    let stage = Stage::new().await;
    stage.apply("").await;
    let request = wire::DeleteGitRepositoryRequest {
        name: "namespaces/platform/gitRepositories/models".into(),
        ..wire::DeleteGitRepositoryRequest::default()
    };
    let refused = stage.server.delete_git_repository(stage.by_operator(request)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains(APPLICATION), "{}", refused.message());
}

#[tokio::test]
async fn services_read_files_of_a_repository_at_its_commit() {
    let stage = Stage::new().await;
    stage.apply_repository().await;
    let name = "namespaces/platform/gitRepositories/models".to_owned();
    let fetched = stage.server.fetch_git_repository(stage.by_operator(wire::FetchGitRepositoryRequest { name: name.clone() }));
    let commit = fetched.await.unwrap().into_inner().commit;
    let read = |path: &str| wire::ReadFileRequest { name: name.clone(), path: path.into() };
    let file = stage.server.read_file(by(read("./models/detector/artifact-uri.txt"), Role::Viewer)).await.unwrap().into_inner();
    assert_eq!((file.content.as_str(), file.commit), ("s3://models/detector/v2\n", commit));
    assert_eq!(stage.server.read_file(by(read("../etc/passwd"), Role::Viewer)).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(stage.server.read_file(by(read("none"), Role::Viewer)).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_viewer_reads_and_changes_nothing() {
    let stage = Stage::new().await;
    stage.apply("").await;
    stage.until(State::Completed).await;
    let get = by(wire::GetApplicationRequest { name: APPLICATION.into() }, Role::Viewer);
    assert!(stage.server.get_application(get).await.is_ok());
    let release = stage.releases().await[0].name.clone();
    let abort = by(wire::AbortReleaseRequest { name: release.clone(), request_id: String::new() }, Role::Viewer);
    assert_eq!(stage.server.abort_release(abort).await.unwrap_err().code(), Code::PermissionDenied);
    let abort = stage.by_operator(wire::AbortReleaseRequest { name: release, request_id: String::new() });
    assert_eq!(stage.server.abort_release(abort).await.unwrap_err().code(), Code::FailedPrecondition, "it is done");
    let delete =
        by(wire::DeleteModelRequest { name: "models/detector".into(), ..wire::DeleteModelRequest::default() }, Role::Viewer);
    assert_eq!(stage.server.delete_model(delete).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_watch_tells_what_exists_and_then_every_change_and_can_be_resumed() {
    let stage = Stage::new().await;
    stage.apply("").await;
    stage.until(State::Completed).await;
    let request =
        |resume_token: String| wire::WatchReleasesRequest { parent: APPLICATION.into(), resume_token, name: String::new() };
    let mut watch = stage.server.watch_releases(stage.by_operator(request(String::new()))).await.unwrap().into_inner();
    let existing = watch.next().await.unwrap().unwrap();
    assert_eq!(existing.r#type(), wire::watch_releases_response::Type::Existing);
    let synced = watch.next().await.unwrap().unwrap();
    assert_eq!(synced.r#type(), wire::watch_releases_response::Type::Synced);
    drop(watch);
    stage.ship("v3");
    stage.until(State::Completed).await;
    let mut watch = stage.server.watch_releases(stage.by_operator(request(synced.resume_token))).await.unwrap().into_inner();
    let mut states = Vec::new();
    while states.last() != Some(&State::Completed) {
        let change = watch.next().await.unwrap().unwrap();
        let Some(release) = change.release else { continue };
        if release.commit == stage.releases().await[0].commit && states.last() != Some(&release.state()) {
            states.push(release.state());
        }
    }
    assert_eq!(states, [State::Pending, State::Progressing, State::Completed]);
    let mut applications = stage
        .server
        .watch_applications(
            stage.by_operator(wire::WatchApplicationsRequest { parent: "namespaces/-".into(), ..Default::default() }),
        )
        .await
        .unwrap()
        .into_inner();
    let first = applications.next().await.unwrap().unwrap();
    assert_eq!(first.application.unwrap().name, APPLICATION);
}

#[tokio::test]
async fn releases_are_listed_newest_first_in_pages() {
    let stage = Stage::new().await;
    stage.apply("").await;
    for version in ["v3", "v4"] {
        stage.until(State::Completed).await;
        stage.ship(version);
    }
    stage.until(State::Completed).await;
    let (mut token, mut seen) = (String::new(), Vec::new());
    for _ in 0..3 {
        let request = wire::ListReleasesRequest { parent: "namespaces/-/applications/-".into(), page_size: 1, page_token: token };
        let page = stage.server.list_releases(stage.by_operator(request)).await.unwrap().into_inner();
        seen.extend(page.releases.into_iter().map(|one| one.title));
        token = page.next_page_token;
    }
    assert_eq!(seen, ["serve v4", "serve v3", "the model and how it is served"]);
    assert!(token.is_empty());
    let create = |commit: &str| wire::CreateReleaseRequest {
        parent: APPLICATION.into(),
        release: Some(wire::Release { commit: commit.into(), ..wire::Release::default() }),
        ..wire::CreateReleaseRequest::default()
    };
    let same = stage.server.create_release(stage.by_operator(create("main"))).await.unwrap_err();
    assert_eq!(same.code(), Code::FailedPrecondition, "{}", same.message());
    let unknown = stage.server.create_release(stage.by_operator(create("no-such-branch"))).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument, "{}", unknown.message());
    let older = stage.releases().await[1].commit.clone();
    let back = stage.server.create_release(stage.by_operator(create(&older))).await.unwrap().into_inner();
    assert!(back.fast_lane, "it was completed before");
}
