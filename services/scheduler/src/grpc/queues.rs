//! `muster.scheduler.v1.QueueService`.

use muster_core::name::QueueName;
use muster_core::page::Page;
use muster_kit::error::{parse_manifest, parse_name};
use muster_kit::{Caller, Error, Role, db, time};
use muster_proto::scheduler::v1::queue_service_server::QueueService;
use muster_proto::scheduler::v1::{
    CreateQueueRequest, DeleteQueueRequest, DeleteQueueResponse, GetQueueRequest, ListQueuesRequest, ListQueuesResponse, Queue,
    ReportCostRequest, ReportCostResponse, UpdateQueueRequest, report_cost_request::GroupBy,
};
use tonic::{Request, Response, Status};

use super::{convert, identifier};
use crate::app::queues::{MANIFEST, Mode, Put};
use crate::app::{App, Once};
use crate::store::cost::Group;

/// A queue's manifest, at most.
const MAX_MANIFEST_BYTES: usize = 256 * 1024;

/// The service.
pub(super) struct Queues {
    pub(super) app: App,
}

#[tonic::async_trait]
impl QueueService for Queues {
    async fn get_queue(&self, request: Request<GetQueueRequest>) -> Result<Response<Queue>, Status> {
        Caller::of(&request).require(Role::Viewer)?;
        let name: QueueName = parse_name("name", &request.get_ref().name)?;
        Ok(Response::new(convert::queue(&self.app.get_queue(&name).await?)))
    }

    async fn list_queues(&self, request: Request<ListQueuesRequest>) -> Result<Response<ListQueuesResponse>, Status> {
        Caller::of(&request).require(Role::Viewer)?;
        let ListQueuesRequest { page_size, page_token } = request.into_inner();
        let page = Page::parse(page_size, &page_token, "").map_err(Error::from)?;
        let (queues, next_page_token) = self.app.list_queues(&page).await?;
        Ok(Response::new(ListQueuesResponse { queues: queues.iter().map(convert::queue).collect(), next_page_token }))
    }

    async fn create_queue(&self, request: Request<CreateQueueRequest>) -> Result<Response<Queue>, Status> {
        let caller = Caller::of(&request);
        let request = request.get_ref();
        let queue = request.queue.as_ref().ok_or_else(|| Error::invalid("queue", "is missing"))?;
        let put = Put {
            id: &request.queue_id,
            id_field: "queue_id",
            text: &queue.manifest,
            manifest: parse_manifest(MANIFEST, &queue.manifest, MAX_MANIFEST_BYTES)?,
            etag: "",
            mode: Mode::Create,
            validate_only: request.validate_only,
        };
        let once = Once { caller: &caller, method: "CreateQueue", request_id: &request.request_id, request };
        Ok(Response::new(self.app.put_queue(once, put, convert::queue).await?))
    }

    async fn update_queue(&self, request: Request<UpdateQueueRequest>) -> Result<Response<Queue>, Status> {
        let caller = Caller::of(&request);
        let request = request.get_ref();
        let queue = request.queue.as_ref().ok_or_else(|| Error::invalid("queue", "is missing"))?;
        db::check_mask(request.update_mask.as_ref(), &["manifest"])?;
        let put = Put {
            id: identifier("queue.name", "queues", &queue.name)?,
            id_field: "queue.name",
            text: &queue.manifest,
            manifest: parse_manifest(MANIFEST, &queue.manifest, MAX_MANIFEST_BYTES)?,
            etag: &queue.etag,
            mode: if request.allow_missing { Mode::Upsert } else { Mode::Update },
            validate_only: request.validate_only,
        };
        let once = Once { caller: &caller, method: "UpdateQueue", request_id: &request.request_id, request };
        Ok(Response::new(self.app.put_queue(once, put, convert::queue).await?))
    }

    async fn delete_queue(&self, request: Request<DeleteQueueRequest>) -> Result<Response<DeleteQueueResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.get_ref();
        let name: QueueName = parse_name("name", &request.name)?;
        let once = Once { caller: &caller, method: "DeleteQueue", request_id: &request.request_id, request };
        Ok(Response::new(self.app.delete_queue(once, &name, &request.etag, DeleteQueueResponse {}).await?))
    }

    async fn report_cost(&self, request: Request<ReportCostRequest>) -> Result<Response<ReportCostResponse>, Status> {
        Caller::of(&request).require(Role::Viewer)?;
        let request = request.into_inner();
        let group = match request.group_by() {
            GroupBy::Unspecified => return Err(Error::invalid("group_by", "must be said").into()),
            GroupBy::Queue => Group::Queue,
            GroupBy::Job => Group::Job,
            GroupBy::Model => Group::Model,
            GroupBy::Cluster => Group::Cluster,
        };
        let instant = |field: &str, at: &Option<muster_proto::Timestamp>| match at {
            None => Ok(None),
            Some(at) => time::from_proto(at).map(Some).ok_or_else(|| Error::invalid(field, "is out of range")),
        };
        let window = (instant("start_time", &request.start_time)?, instant("end_time", &request.end_time)?);
        let page = Page::parse(request.page_size, &request.page_token, &format!("{group:?} {window:?}")).map_err(Error::from)?;
        let (rows, next_page_token) = self.app.report_cost(group, window, &page).await?;
        Ok(Response::new(ReportCostResponse { rows: rows.iter().map(convert::cost_row).collect(), next_page_token }))
    }
}
