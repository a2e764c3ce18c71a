//! Git repositories, applications, releases, models and their versions.

use super::{Resource, Spec, Standing, common_fields, kind, short};
use crate::output::human;
use jiff::Timestamp;
use muster_proto::rollout::v1::{
    Application, DeleteApplicationRequest, DeleteGitRepositoryRequest, DeleteModelRequest, GetApplicationRequest,
    GetGitRepositoryRequest, GetModelRequest, GetModelVersionRequest, GetReleaseRequest, GitRepository, ListApplicationsRequest,
    ListGitRepositoriesRequest, ListModelVersionsRequest, ListModelsRequest, ListReleasesRequest, Model, ModelVersion, Release,
    TargetStatus, UpdateApplicationRequest, UpdateGitRepositoryRequest, UpdateModelRequest, application,
    application_service_client::ApplicationServiceClient, git_repository_service_client::GitRepositoryServiceClient,
    model_service_client::ModelServiceClient, model_version::CommitState, release, release_service_client::ReleaseServiceClient,
    target_status,
};

kind! {
    /// Git repositories.
    GitRepositories at Rollout through GitRepositoryServiceClient,
    Spec {
        plural: "gitRepositories", singular: "gitRepository", aliases: &["git", "repo", "repos"],
        pattern: "namespaces/{namespace}/gitRepositories/{repository}", lists_all_parents: true,
        columns: &["NAMESPACE", "NAME", "COMMIT", "SINCE", "FETCHED", "AGE", "PROBLEM"],
    },
    get get_git_repository |name| GetGitRepositoryRequest { name },
    list list_git_repositories |scope: super::Scope, page_size, page_token| ListGitRepositoriesRequest { parent: scope.parent, page_size, page_token } => git_repositories,
    delete delete_git_repository |gone: super::Deletion| DeleteGitRepositoryRequest { name: gone.name, etag: gone.etag, request_id: gone.request_id },
    apply update_git_repository |change: super::Change| UpdateGitRepositoryRequest {
        git_repository: Some(GitRepository { name: change.name, manifest: change.manifest, ..GitRepository::default() }),
        update_mask: None, request_id: change.request_id, allow_missing: true, validate_only: change.validate_only,
    },
}

kind! {
    /// What is released, and where to.
    Applications at Rollout through ApplicationServiceClient,
    Spec {
        plural: "applications", singular: "application", aliases: &["app", "apps"],
        pattern: "namespaces/{namespace}/applications/{application}", lists_all_parents: true,
        columns: &["NAMESPACE", "NAME", "STATE", "RELEASE", "HEALTHY", "AGE", "REASON"],
    },
    get get_application |name| GetApplicationRequest { name },
    list list_applications |scope: super::Scope, page_size, page_token| ListApplicationsRequest { parent: scope.parent, page_size, page_token } => applications,
    delete delete_application |gone: super::Deletion| DeleteApplicationRequest {
        name: gone.name, etag: gone.etag, request_id: gone.request_id, remove_workloads: gone.remove_workloads,
    },
    apply update_application |change: super::Change| UpdateApplicationRequest {
        application: Some(Application { name: change.name, manifest: change.manifest, ..Application::default() }),
        update_mask: None, request_id: change.request_id, allow_missing: true, validate_only: change.validate_only,
    },
}

kind! {
    /// Commits on their way.
    Releases at Rollout through ReleaseServiceClient,
    Spec {
        plural: "releases", singular: "release", aliases: &["rel"],
        pattern: "namespaces/{namespace}/applications/{application}/releases/{release}", lists_all_parents: true,
        columns: &["NAMESPACE", "APPLICATION", "NAME", "STATE", "WAVE", "HEALTHY", "COMMIT", "TITLE", "+MODEL", "+REVERT", "AGE", "REASON"],
    },
    get get_release |name| GetReleaseRequest { name },
    list list_releases |scope: super::Scope, page_size, page_token| ListReleasesRequest { parent: scope.parent, page_size, page_token } => releases,
}

kind! {
    /// What training makes.
    Models at Rollout through ModelServiceClient,
    Spec {
        plural: "models", singular: "model", aliases: &["m"], pattern: "models/{model}", lists_all_parents: false,
        columns: &["NAME", "LATEST", "AGE"],
    },
    get get_model |name| GetModelRequest { name },
    list list_models |_, page_size, page_token| ListModelsRequest { page_size, page_token } => models,
    delete delete_model |gone: super::Deletion| DeleteModelRequest { name: gone.name, etag: gone.etag, request_id: gone.request_id },
    apply update_model |change: super::Change| UpdateModelRequest {
        model: Some(Model { name: change.name, manifest: change.manifest, ..Model::default() }),
        update_mask: None, request_id: change.request_id, allow_missing: true, validate_only: change.validate_only,
    },
}

kind! {
    /// Versions of models.
    ModelVersions at Rollout through ModelServiceClient,
    Spec {
        plural: "modelVersions", singular: "modelVersion", aliases: &["mv", "versions"], pattern: "models/{model}/versions/{version}",
        lists_all_parents: false,
        columns: &["MODEL", "VERSION", "COMMITTED", "COMMIT", "TRAINED", "+DIGEST", "+JOB", "REASON"],
    },
    get get_model_version |name| GetModelVersionRequest { name },
    list list_model_versions |scope: super::Scope, page_size, page_token| ListModelVersionsRequest { parent: scope.parent, page_size, page_token } => model_versions,
}

/// Targets that are healthy, of those that are still the application's.
pub fn healthy(targets: &[TargetStatus]) -> String {
    let count = |counts: fn(target_status::State) -> bool| targets.iter().filter(|target| counts(target.state())).count();
    let healthy = count(|state| state == target_status::State::Healthy);
    format!("{healthy}/{}", count(|state| state != target_status::State::Left))
}

/// A commit as people quote it.
pub fn short_commit(commit: &str) -> String {
    commit.chars().take(10).collect()
}

impl Resource for GitRepository {
    common_fields!(name, etag, manifest);

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let [namespace, name] = human::last_two(&self.name);
        vec![
            namespace,
            name,
            short_commit(&self.commit),
            human::age(self.commit_time.as_ref(), now),
            human::age(self.fetch_time.as_ref(), now),
            human::age(self.create_time.as_ref(), now),
            self.problem.clone(),
        ]
    }

    fn standing(&self) -> (Standing, String) {
        match (self.commit.is_empty(), self.problem.is_empty()) {
            (_, false) => (Standing::Pending, self.problem.clone()),
            (true, true) => (Standing::Pending, "not fetched yet".to_owned()),
            (false, true) => (Standing::Settled, format!("at {}", short_commit(&self.commit))),
        }
    }
}

impl Resource for Application {
    common_fields!(name, etag, manifest);

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let [namespace, name] = human::last_two(&self.name);
        vec![
            namespace,
            name,
            human::state(self.state().as_str_name()),
            self.current_release.rsplit('/').next().unwrap_or_default().to_owned(),
            healthy(&self.targets),
            human::age(self.create_time.as_ref(), now),
            self.reason.clone(),
        ]
    }

    fn standing(&self) -> (Standing, String) {
        let standing = match self.state() {
            application::State::Unspecified | application::State::Pending | application::State::Progressing => Standing::Pending,
            application::State::Healthy => Standing::Settled,
            application::State::Degraded => Standing::Failed,
        };
        let saying = human::saying(self.state().as_str_name(), &self.reason);
        (standing, format!("{} targets healthy, {saying}", healthy(&self.targets)))
    }
}

impl Resource for Release {
    common_fields!(name, etag);

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let ids: Vec<_> = self.name.split('/').skip(1).step_by(2).map(str::to_owned).collect();
        let [namespace, application, name] = <[String; 3]>::try_from(ids).unwrap_or_default();
        let revert = match self.revert() {
            release::Revert::Unspecified => String::new(),
            other => human::state(other.as_str_name().trim_start_matches("REVERT_")),
        };
        vec![
            namespace,
            application,
            name,
            human::state(self.state().as_str_name()),
            format!("{}/{}", self.wave, self.wave_count),
            healthy(&self.targets),
            short_commit(&self.commit),
            self.title.clone(),
            short(&self.model_version),
            revert,
            human::age(self.create_time.as_ref(), now),
            self.reason.clone(),
        ]
    }

    fn standing(&self) -> (Standing, String) {
        let standing = match self.state() {
            release::State::Unspecified | release::State::Pending | release::State::Progressing | release::State::Paused => {
                Standing::Pending
            }
            release::State::Completed => Standing::Settled,
            // Going back takes a while and always ends as FAILED.
            release::State::RollingBack => Standing::Pending,
            release::State::Failed | release::State::Superseded => Standing::Failed,
            release::State::Refused => Standing::Refused,
        };
        let saying = human::saying(self.state().as_str_name(), &self.reason);
        (standing, format!("wave {} of {}, {} targets healthy, {saying}", self.wave, self.wave_count, healthy(&self.targets)))
    }
}

impl Resource for Model {
    common_fields!(name, etag, manifest);

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let latest = self.latest_version.rsplit('/').next().unwrap_or_default().to_owned();
        vec![short(&self.name), latest, human::age(self.create_time.as_ref(), now)]
    }
}

impl Resource for ModelVersion {
    common_fields!(name);

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let [model, version] = human::last_two(&self.name);
        vec![
            model,
            version,
            human::state(self.commit_state().as_str_name().trim_start_matches("COMMIT_")),
            short_commit(&self.commit),
            human::age(self.completed_at.as_ref(), now),
            self.digest.clone(),
            short(&self.job),
            self.reason.clone(),
        ]
    }

    fn standing(&self) -> (Standing, String) {
        let standing = match self.commit_state() {
            CommitState::CommitPushed | CommitState::NotNewest => Standing::Settled,
            CommitState::Unspecified | CommitState::CommitPending | CommitState::CommitBlocked => Standing::Pending,
        };
        (standing, human::saying(self.commit_state().as_str_name(), &self.reason))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{find, object};
    use super::*;

    #[test]
    fn every_table_has_a_cell_a_column() {
        let columns = |kind: &str| find(kind).expect("known").spec().columns.len();
        assert_eq!(object(&GitRepository::default()).cells.len(), columns("gitRepositories"));
        assert_eq!(object(&Application::default()).cells.len(), columns("applications"));
        assert_eq!(object(&Release::default()).cells.len(), columns("releases"));
        assert_eq!(object(&Model::default()).cells.len(), columns("models"));
        assert_eq!(object(&ModelVersion::default()).cells.len(), columns("modelVersions"));
    }

    #[test]
    fn a_release_says_its_wave_and_its_state_in_words() {
        let target = |state: target_status::State| TargetStatus { state: state.into(), ..TargetStatus::default() };
        let release = Release {
            name: "namespaces/ml/applications/web/releases/r-7".to_owned(),
            state: release::State::RollingBack.into(),
            wave: 1,
            wave_count: 3,
            commit: "0123456789abcdef".to_owned(),
            reason: "gate: 0.5 is below 0.99".to_owned(),
            targets: [target_status::State::Healthy, target_status::State::RollingBack, target_status::State::Left]
                .map(target)
                .into(),
            ..Release::default()
        };
        let object = object(&release);
        assert_eq!(object.cells[..7], ["ml", "web", "r-7", "RollingBack", "1/3", "1/2", "0123456789"]);
        assert_eq!(object.standing, Standing::Pending);
        assert_eq!(object.saying, "wave 1 of 3, 1/2 targets healthy, RollingBack: gate: 0.5 is below 0.99");
    }
}
