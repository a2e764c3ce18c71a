//! `ModelService`.

use super::{Server, convert};
use crate::app::model;
use crate::domain::model::Reporter;
use crate::events;
use muster_core::name::ModelName;
use muster_kit::{Caller, Error, Role, audit, db::check_mask, error::parse_name};
use muster_proto::rollout::v1::{
    CreateModelRequest, DeleteModelRequest, DeleteModelResponse, GetModelRequest, GetModelVersionRequest,
    ListModelVersionsRequest, ListModelVersionsResponse, ListModelsRequest, ListModelsResponse, Model, ModelVersion,
    ReportTrainingCompleteRequest, UpdateModelRequest, model_service_server::ModelService,
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl ModelService for Server {
    async fn get_model(&self, request: Request<GetModelRequest>) -> Result<Response<Model>, Status> {
        let caller = Caller::of(&request);
        let row = model::get(&self.app, &caller, &request.get_ref().name).await?;
        Ok(Response::new(convert::model(&row)))
    }

    async fn list_models(&self, request: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let caller = Caller::of(&request);
        let ListModelsRequest { page_size, page_token } = request.into_inner();
        let (rows, next_page_token) = model::list(&self.app, &caller, page_size, &page_token).await?;
        Ok(Response::new(ListModelsResponse { models: rows.iter().map(convert::model).collect(), next_page_token }))
    }

    async fn create_model(&self, request: Request<CreateModelRequest>) -> Result<Response<Model>, Status> {
        let caller = Caller::of(&request);
        caller.require(Role::Operator)?;
        let request = request.into_inner();
        let manifest = request.model.as_ref().map(|model| model.manifest.clone()).unwrap_or_default();
        let id = model::read(&request.model_id, &manifest)?;
        let made = mutate!(self, &caller, "CreateModel", request, request.validate_only, tx => {
            Ok(convert::model(&model::create(&self.app, tx, &caller, &id, &manifest).await?))
        });
        Ok(Response::new(made?))
    }

    async fn update_model(&self, request: Request<UpdateModelRequest>) -> Result<Response<Model>, Status> {
        let caller = Caller::of(&request);
        caller.require(Role::Operator)?;
        let request = request.into_inner();
        check_mask(request.update_mask.as_ref(), &["manifest"])?;
        let given = request.model.clone().unwrap_or_default();
        let id = match given.name.as_str() {
            "" => model::read("", &given.manifest)?,
            name => model::read(parse_name::<ModelName>("model.name", name)?.model(), &given.manifest)?,
        };
        let stored = mutate!(self, &caller, "UpdateModel", request, request.validate_only, tx => {
            let stored = model::update(&self.app, tx, &caller, &id, &given.manifest, &given.etag, request.allow_missing);
            Ok(convert::model(&stored.await?))
        });
        Ok(Response::new(stored?))
    }

    async fn delete_model(&self, request: Request<DeleteModelRequest>) -> Result<Response<DeleteModelResponse>, Status> {
        let caller = Caller::of(&request);
        caller.require(Role::Operator)?;
        let request = request.into_inner();
        let done = mutate!(self, &caller, "DeleteModel", request, false, tx => {
            model::delete(tx, &caller, &request.name, &request.etag).await?;
            Ok(DeleteModelResponse {})
        });
        Ok(Response::new(done?))
    }

    async fn get_model_version(&self, request: Request<GetModelVersionRequest>) -> Result<Response<ModelVersion>, Status> {
        let caller = Caller::of(&request);
        let row = model::get_version(&self.app, &caller, &request.get_ref().name).await?;
        Ok(Response::new(convert::model_version(&row)))
    }

    async fn list_model_versions(
        &self,
        request: Request<ListModelVersionsRequest>,
    ) -> Result<Response<ListModelVersionsResponse>, Status> {
        let caller = Caller::of(&request);
        let ListModelVersionsRequest { parent, page_size, page_token } = request.into_inner();
        let (rows, next_page_token) = model::list_versions(&self.app, &caller, &parent, page_size, &page_token).await?;
        let model_versions = rows.iter().map(convert::model_version).collect();
        Ok(Response::new(ListModelVersionsResponse { model_versions, next_page_token }))
    }

    async fn report_training_complete(
        &self,
        request: Request<ReportTrainingCompleteRequest>,
    ) -> Result<Response<ModelVersion>, Status> {
        let caller = Caller::of(&request);
        caller.require(Role::Operator)?;
        let request = request.into_inner();
        let event = request.event.clone().ok_or_else(|| Error::invalid("event", "must not be empty"))?;
        let training = events::training(event)?;
        model::check_run(&self.app, &training).await?;
        let subject = caller.to_string();
        let event = format!("{subject}/{}", if request.request_id.is_empty() { &training.digest } else { &request.request_id });
        let recorded = mutate!(self, &caller, "ReportTrainingComplete", request, false, tx => {
            let row = model::record(&self.app, tx, &training, Reporter::Subject(&subject), &event).await?;
            let name = format!("models/{}/versions/{}", training.model, training.version);
            audit::record(tx, &caller, "ReportTrainingComplete", &name).await?;
            Ok(convert::model_version(&row))
        });
        Ok(Response::new(recorded?))
    }
}
