//! `ReleaseService`.

use super::{Server, convert, watch};
use crate::app::{
    diff,
    release::{self, Intervention, Other},
};
use muster_core::name::ReleaseName;
use muster_kit::{
    Caller, Error, Role,
    watch::{self as kit_watch, WatchStream},
};
use muster_proto::rollout::v1::{
    AbortReleaseRequest, CreateReleaseRequest, DiffReleaseRequest, DiffReleaseResponse, GetReleaseRequest, ListReleasesRequest,
    ListReleasesResponse, PauseReleaseRequest, PromoteReleaseRequest, Release, ResumeReleaseRequest, RetryReleaseRequest,
    RollbackApplicationRequest, WatchReleasesRequest, WatchReleasesResponse, release_service_server::ReleaseService,
};
use tonic::{Request, Response, Status};

/// One of the four RPCs by which a person intervenes.
macro_rules! intervention {
    ($self:ident, $request:ident, $method:literal, $what:expr) => {{
        let caller = Caller::of(&$request);
        caller.require(Role::Operator)?;
        let request = $request.into_inner();
        let done = mutate!($self, &caller, $method, request, false, tx => {
            Ok(convert::release(&release::intervene(&$self.app, tx, &caller, &request.name, $what).await?))
        });
        Ok(Response::new(done?))
    }};
}

/// A release that was prepared outside of a transaction is made within one.
macro_rules! start {
    ($self:ident, $caller:expr, $request:ident, $method:literal, $prepared:expr, $other:expr) => {{
        let made = mutate!($self, $caller, $method, $request, false, tx => {
            Ok(convert::release(&release::start(&$self.app, tx, $caller, &$prepared, $other, $method).await?))
        });
        Ok(Response::new(made?))
    }};
}

#[tonic::async_trait]
impl ReleaseService for Server {
    async fn get_release(&self, request: Request<GetReleaseRequest>) -> Result<Response<Release>, Status> {
        let caller = Caller::of(&request);
        let view = release::get(&self.app, &caller, &request.get_ref().name).await?;
        Ok(Response::new(convert::release(&view)))
    }

    async fn list_releases(&self, request: Request<ListReleasesRequest>) -> Result<Response<ListReleasesResponse>, Status> {
        let caller = Caller::of(&request);
        let ListReleasesRequest { parent, page_size, page_token } = request.into_inner();
        let (views, next_page_token) = release::list(&self.app, &caller, &parent, page_size, &page_token).await?;
        Ok(Response::new(ListReleasesResponse { releases: views.iter().map(convert::release).collect(), next_page_token }))
    }

    async fn create_release(&self, request: Request<CreateReleaseRequest>) -> Result<Response<Release>, Status> {
        let caller = Caller::of(&request);
        caller.require(Role::Operator)?;
        let request = request.into_inner();
        let commit = request.release.as_ref().map(|release| release.commit.as_str()).unwrap_or_default();
        // A repetition is answered before anything is rendered: by then the commit may be what runs.
        if let Some(known) = self.repeated(&caller, "CreateRelease", &request.request_id, &request).await? {
            return Ok(Response::new(known));
        }
        let prepared = release::prepare_commit(&self.app, &request.parent, commit).await?;
        start!(self, &caller, request, "CreateRelease", prepared, Other::Keep)
    }

    type WatchReleasesStream = WatchStream<WatchReleasesResponse>;

    async fn watch_releases(
        &self,
        request: Request<WatchReleasesRequest>,
    ) -> Result<Response<Self::WatchReleasesStream>, Status> {
        Caller::of(&request).require(Role::Viewer)?;
        let WatchReleasesRequest { parent, resume_token, name } = request.into_inner();
        let (namespace, application) = release::parse_release_parent(&parent)?;
        if !name.is_empty() {
            name.parse::<ReleaseName>().map_err(|error| Error::invalid("name", error.to_string()))?;
        }
        let watched = watch::Releases { pool: self.app.pool.clone(), namespace, application, name };
        Ok(Response::new(kit_watch::start(&self.tail, &resume_token, watched).await?))
    }

    async fn diff_release(&self, request: Request<DiffReleaseRequest>) -> Result<Response<DiffReleaseResponse>, Status> {
        let caller = Caller::of(&request);
        let DiffReleaseRequest { application, commit } = request.into_inner();
        let (commit, targets) = diff::of(&self.app, &caller, &application, &commit).await?;
        Ok(Response::new(DiffReleaseResponse { commit, targets: targets.into_iter().map(convert::target_diff).collect() }))
    }

    async fn pause_release(&self, request: Request<PauseReleaseRequest>) -> Result<Response<Release>, Status> {
        intervention!(self, request, "PauseRelease", Intervention::Pause)
    }

    async fn resume_release(&self, request: Request<ResumeReleaseRequest>) -> Result<Response<Release>, Status> {
        intervention!(self, request, "ResumeRelease", Intervention::Resume)
    }

    async fn promote_release(&self, request: Request<PromoteReleaseRequest>) -> Result<Response<Release>, Status> {
        intervention!(self, request, "PromoteRelease", Intervention::Promote)
    }

    async fn abort_release(&self, request: Request<AbortReleaseRequest>) -> Result<Response<Release>, Status> {
        intervention!(self, request, "AbortRelease", Intervention::Abort)
    }

    async fn retry_release(&self, request: Request<RetryReleaseRequest>) -> Result<Response<Release>, Status> {
        let caller = Caller::of(&request);
        caller.require(Role::Operator)?;
        let request = request.into_inner();
        if let Some(known) = self.repeated(&caller, "RetryRelease", &request.request_id, &request).await? {
            return Ok(Response::new(known));
        }
        let prepared = release::prepare_retry(&self.app, &request.name).await?;
        start!(self, &caller, request, "RetryRelease", prepared, Other::Free)
    }

    async fn rollback_application(&self, request: Request<RollbackApplicationRequest>) -> Result<Response<Release>, Status> {
        let caller = Caller::of(&request);
        caller.require(Role::Operator)?;
        let request = request.into_inner();
        if let Some(known) = self.repeated(&caller, "RollbackApplication", &request.request_id, &request).await? {
            return Ok(Response::new(known));
        }
        // A release on its way is what a person in a hurry means: it goes back to last good.
        if let Some(current) = release::under_way(&self.app, &request.name).await? {
            let done = mutate!(self, &caller, "RollbackApplication", request, false, tx => {
                Ok(convert::release(&release::intervene(&self.app, tx, &caller, &current, Intervention::Abort).await?))
            });
            return Ok(Response::new(done?));
        }
        let prepared = release::prepare_rollback(&self.app, &request.name).await?;
        start!(self, &caller, request, "RollbackApplication", prepared, Other::Block)
    }
}

impl Server {
    /// The answer of a request that was done before.
    async fn repeated<Q: prost::Message>(
        &self,
        caller: &Caller,
        method: &'static str,
        request_id: &str,
        request: &Q,
    ) -> muster_kit::Result<Option<Release>> {
        use muster_kit::{
            db,
            idempotency::{Begun, begin},
        };
        if request_id.is_empty() {
            return Ok(None);
        }
        let mut tx = db::begin(&self.app.pool).await?;
        // The transaction is dropped: a fresh request is claimed again when it is done.
        match begin::<Q, Release>(&mut tx, caller, method, request_id, request).await? {
            Begun::Repeated(release) => Ok(Some(release)),
            Begun::Fresh(_) => Ok(None),
        }
    }
}
