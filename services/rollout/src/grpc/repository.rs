//! `GitRepositoryService`.

use super::{Server, convert};
use crate::app::repository;
use muster_core::name::GitRepositoryName;
use muster_kit::{Caller, Role, db::check_mask, error::parse_name};
use muster_proto::rollout::v1::{
    CreateGitRepositoryRequest, DeleteGitRepositoryRequest, DeleteGitRepositoryResponse, FetchGitRepositoryRequest,
    GetGitRepositoryRequest, GitRepository, ListGitRepositoriesRequest, ListGitRepositoriesResponse, ReadFileRequest,
    ReadFileResponse, UpdateGitRepositoryRequest, git_repository_service_server::GitRepositoryService,
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl GitRepositoryService for Server {
    async fn get_git_repository(&self, request: Request<GetGitRepositoryRequest>) -> Result<Response<GitRepository>, Status> {
        let caller = Caller::of(&request);
        let row = repository::get(&self.app, &caller, &request.get_ref().name).await?;
        Ok(Response::new(convert::repository(&row)))
    }

    async fn list_git_repositories(
        &self,
        request: Request<ListGitRepositoriesRequest>,
    ) -> Result<Response<ListGitRepositoriesResponse>, Status> {
        let caller = Caller::of(&request);
        let ListGitRepositoriesRequest { parent, page_size, page_token } = request.into_inner();
        let (rows, next_page_token) = repository::list(&self.app, &caller, &parent, page_size, &page_token).await?;
        let git_repositories = rows.iter().map(convert::repository).collect();
        Ok(Response::new(ListGitRepositoriesResponse { git_repositories, next_page_token }))
    }

    async fn create_git_repository(
        &self,
        request: Request<CreateGitRepositoryRequest>,
    ) -> Result<Response<GitRepository>, Status> {
        let caller = Caller::of(&request);
        caller.require(Role::Operator)?;
        let request = request.into_inner();
        let manifest = request.git_repository.as_ref().map(|repository| repository.manifest.as_str()).unwrap_or_default();
        let document = repository::read(&request.parent, &request.git_repository_id, manifest)?;
        let made = mutate!(self, &caller, "CreateGitRepository", request, request.validate_only, tx => {
            Ok(convert::repository(&repository::create(&self.app, tx, &caller, &document).await?))
        });
        Ok(Response::new(made?))
    }

    async fn update_git_repository(
        &self,
        request: Request<UpdateGitRepositoryRequest>,
    ) -> Result<Response<GitRepository>, Status> {
        let caller = Caller::of(&request);
        caller.require(Role::Operator)?;
        let request = request.into_inner();
        check_mask(request.update_mask.as_ref(), &["manifest"])?;
        let given = request.git_repository.clone().unwrap_or_default();
        let document = match given.name.as_str() {
            "" => repository::read("", "", &given.manifest)?,
            name => {
                let name: GitRepositoryName = parse_name("git_repository.name", name)?;
                repository::read(&format!("namespaces/{}", name.namespace()), name.repository(), &given.manifest)?
            }
        };
        let stored = mutate!(self, &caller, "UpdateGitRepository", request, request.validate_only, tx => {
            let stored = repository::update(&self.app, tx, &caller, &document, &given.etag, request.allow_missing);
            Ok(convert::repository(&stored.await?))
        });
        Ok(Response::new(stored?))
    }

    async fn delete_git_repository(
        &self,
        request: Request<DeleteGitRepositoryRequest>,
    ) -> Result<Response<DeleteGitRepositoryResponse>, Status> {
        let caller = Caller::of(&request);
        caller.require(Role::Operator)?;
        let request = request.into_inner();
        let done = mutate!(self, &caller, "DeleteGitRepository", request, false, tx => {
            repository::delete(&self.app, tx, &caller, &request.name, &request.etag).await?;
            Ok(DeleteGitRepositoryResponse {})
        });
        Ok(Response::new(done?))
    }

    async fn fetch_git_repository(&self, request: Request<FetchGitRepositoryRequest>) -> Result<Response<GitRepository>, Status> {
        let caller = Caller::of(&request);
        let row = repository::fetch(&self.app, &caller, &request.get_ref().name).await?;
        Ok(Response::new(convert::repository(&row)))
    }

    async fn read_file(&self, request: Request<ReadFileRequest>) -> Result<Response<ReadFileResponse>, Status> {
        let caller = Caller::of(&request);
        let ReadFileRequest { name, path } = request.into_inner();
        let (commit, content) = repository::read_file(&self.app, &caller, &name, &path).await?;
        Ok(Response::new(ReadFileResponse { commit, content }))
    }
}
