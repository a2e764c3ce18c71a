//! `ApplicationService`.

use super::{Server, convert, watch};
use crate::app::{application, parse_parent};
use muster_core::name::ApplicationName;
use muster_kit::{
    Caller, Error, Role,
    db::check_mask,
    error::parse_name,
    watch::{self as kit_watch, WatchStream},
};
use muster_proto::rollout::v1::{
    Application, CreateApplicationRequest, DeleteApplicationRequest, DeleteApplicationResponse, GetApplicationRequest,
    ListApplicationsRequest, ListApplicationsResponse, UpdateApplicationRequest, WatchApplicationsRequest,
    WatchApplicationsResponse, application_service_server::ApplicationService,
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl ApplicationService for Server {
    async fn get_application(&self, request: Request<GetApplicationRequest>) -> Result<Response<Application>, Status> {
        let caller = Caller::of(&request);
        let view = application::get(&self.app, &caller, &request.get_ref().name).await?;
        Ok(Response::new(convert::application(&view)))
    }

    async fn list_applications(
        &self,
        request: Request<ListApplicationsRequest>,
    ) -> Result<Response<ListApplicationsResponse>, Status> {
        let caller = Caller::of(&request);
        let ListApplicationsRequest { parent, page_size, page_token } = request.into_inner();
        let (views, next_page_token) = application::list(&self.app, &caller, &parent, page_size, &page_token).await?;
        let applications = views.iter().map(convert::application).collect();
        Ok(Response::new(ListApplicationsResponse { applications, next_page_token }))
    }

    async fn create_application(&self, request: Request<CreateApplicationRequest>) -> Result<Response<Application>, Status> {
        let caller = Caller::of(&request);
        caller.require(Role::Operator)?;
        let request = request.into_inner();
        let manifest = request.application.as_ref().map(|application| application.manifest.as_str()).unwrap_or_default();
        let document = application::read(&request.parent, &request.application_id, manifest)?;
        let made = mutate!(self, &caller, "CreateApplication", request, request.validate_only, tx => {
            Ok(convert::application(&application::create(&self.app, tx, &caller, &document).await?))
        });
        Ok(Response::new(made?))
    }

    async fn update_application(&self, request: Request<UpdateApplicationRequest>) -> Result<Response<Application>, Status> {
        let caller = Caller::of(&request);
        caller.require(Role::Operator)?;
        let request = request.into_inner();
        check_mask(request.update_mask.as_ref(), &["manifest"])?;
        let given = request.application.clone().unwrap_or_default();
        let document = match given.name.as_str() {
            "" => application::read("", "", &given.manifest)?,
            name => {
                let name: ApplicationName = parse_name("application.name", name)?;
                application::read(&format!("namespaces/{}", name.namespace()), name.application(), &given.manifest)?
            }
        };
        let stored = mutate!(self, &caller, "UpdateApplication", request, request.validate_only, tx => {
            let stored = application::update(&self.app, tx, &caller, &document, &given.etag, request.allow_missing);
            Ok(convert::application(&stored.await?))
        });
        Ok(Response::new(stored?))
    }

    async fn delete_application(
        &self,
        request: Request<DeleteApplicationRequest>,
    ) -> Result<Response<DeleteApplicationResponse>, Status> {
        let caller = Caller::of(&request);
        caller.require(Role::Operator)?;
        let request = request.into_inner();
        let done = mutate!(self, &caller, "DeleteApplication", request, false, tx => {
            application::delete(&self.app, tx, &caller, &request.name, &request.etag, request.remove_workloads).await?;
            Ok(DeleteApplicationResponse {})
        });
        Ok(Response::new(done?))
    }

    type WatchApplicationsStream = WatchStream<WatchApplicationsResponse>;

    async fn watch_applications(
        &self,
        request: Request<WatchApplicationsRequest>,
    ) -> Result<Response<Self::WatchApplicationsStream>, Status> {
        Caller::of(&request).require(Role::Viewer)?;
        let WatchApplicationsRequest { parent, resume_token, name } = request.into_inner();
        let namespace = parse_parent("parent", &parent)?;
        if !name.is_empty() {
            name.parse::<ApplicationName>().map_err(|error| Error::invalid("name", error.to_string()))?;
        }
        let watched = watch::Applications { pool: self.app.pool.clone(), namespace, name };
        Ok(Response::new(kit_watch::start(&self.tail, &resume_token, watched).await?))
    }
}
