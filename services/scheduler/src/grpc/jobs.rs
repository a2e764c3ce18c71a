//! `muster.scheduler.v1.JobService`.

use async_trait::async_trait;
use muster_core::name::{JobName, RunName, check_id};
use muster_core::page::Page;
use muster_kit::error::{parse_manifest, parse_name};
use muster_kit::event::{Cursor, Event};
use muster_kit::watch::{self, Change, Tail, WatchStream, Watched};
use muster_kit::{Caller, Error, Role, db};
use muster_proto::scheduler::v1::job_service_server::JobService;
use muster_proto::scheduler::v1::{
    CancelJobRequest, CreateJobRequest, DeleteJobRequest, DeleteJobResponse, ExplainJobRequest, GetJobRequest, GetRunRequest,
    Job, JobExplanation, ListJobsRequest, ListJobsResponse, ListRunsRequest, ListRunsResponse, ResumeJobRequest, Run,
    SuspendJobRequest, UpdateJobRequest, WatchJobsRequest, WatchJobsResponse, WhatIfRequest, WhatIfResponse,
    watch_jobs_response::Type,
};
use tonic::{Request, Response, Status};

use super::{convert, identifier};
use crate::app::control::Order;
use crate::app::jobs::Snapshot;
use crate::app::submit::{MANIFEST, Submission};
use crate::app::{App, JobView, Once};
use crate::events::TOPIC;
use crate::store::job::Filter;

/// A job's manifest, at most.
const MAX_MANIFEST_BYTES: usize = 1024 * 1024;

/// The service.
pub(super) struct Jobs {
    pub(super) app: App,
    pub(super) tail: Tail,
}

impl Jobs {
    fn show(&self) -> impl Fn(&JobView) -> Job + use<> {
        let now = self.app.now();
        move |view| convert::view(view, now)
    }
}

/// The namespace of a parent; `None` for `namespaces/-`.
fn namespace(parent: &str) -> Result<Option<String>, Error> {
    match identifier("parent", "namespaces", parent)? {
        "" => Err(Error::invalid("parent", "must be namespaces/{namespace}, or namespaces/- for all")),
        "-" => Ok(None),
        namespace => {
            check_id(namespace).map_err(|error| Error::invalid("parent", error.to_string()))?;
            Ok(Some(namespace.to_owned()))
        }
    }
}

#[tonic::async_trait]
impl JobService for Jobs {
    async fn get_job(&self, request: Request<GetJobRequest>) -> Result<Response<Job>, Status> {
        Caller::of(&request).require(Role::Viewer)?;
        let name: JobName = parse_name("name", &request.get_ref().name)?;
        Ok(Response::new(self.show()(&self.app.get_job(&name).await?)))
    }

    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Result<Response<ListJobsResponse>, Status> {
        Caller::of(&request).require(Role::Viewer)?;
        let request = request.get_ref();
        let queue = identifier("queue", "queues", &request.queue)?;
        let states = request
            .states()
            .map(|state| convert::state_in(state).ok_or_else(|| Error::invalid("states", "a state must be said")));
        let filter = Filter {
            namespace: namespace(&request.parent)?,
            queue: (!queue.is_empty()).then(|| queue.to_owned()),
            states: states.collect::<Result<_, _>>()?,
        };
        let page = Page::parse(request.page_size, &request.page_token, &format!("{filter:?}")).map_err(Error::from)?;
        let (jobs, next_page_token) = self.app.list_jobs(&filter, &page).await?;
        Ok(Response::new(ListJobsResponse { jobs: jobs.iter().map(self.show()).collect(), next_page_token }))
    }

    async fn create_job(&self, request: Request<CreateJobRequest>) -> Result<Response<Job>, Status> {
        let caller = Caller::of(&request);
        caller.require(Role::Operator)?;
        let request = request.get_ref();
        let job = request.job.as_ref().ok_or_else(|| Error::invalid("job", "is missing"))?;
        let parent = if request.parent.is_empty() { None } else { Some(namespace(&request.parent)?) };
        let namespace = match &parent {
            None => "",
            Some(Some(namespace)) => namespace,
            Some(None) => return Err(Error::invalid("parent", "must name one namespace").into()),
        };
        let submission = Submission {
            namespace,
            name: &request.job_id,
            text: &job.manifest,
            manifest: parse_manifest(MANIFEST, &job.manifest, MAX_MANIFEST_BYTES)?,
            queue: identifier("job.queue", "queues", &job.queue)?,
            priority: job.priority,
            max_retries: job.max_retries,
            movable: job.movable,
            model: identifier("job.model", "models", &job.model)?,
            validate_only: request.validate_only,
        };
        let once = Once { caller: &caller, method: "CreateJob", request_id: &request.request_id, request };
        Ok(Response::new(self.app.submit(once, submission, self.show()).await?))
    }

    async fn update_job(&self, request: Request<UpdateJobRequest>) -> Result<Response<Job>, Status> {
        let caller = Caller::of(&request);
        let request = request.get_ref();
        let job = request.job.as_ref().ok_or_else(|| Error::invalid("job", "is missing"))?;
        db::check_mask(request.update_mask.as_ref(), &["priority"])?;
        let name: JobName = parse_name("job.name", &job.name)?;
        let priority = job.priority.ok_or_else(|| Error::invalid("job.priority", "is missing"))?;
        let once = Once { caller: &caller, method: "UpdateJob", request_id: &request.request_id, request };
        Ok(Response::new(self.app.order(once, &name, Order::Prioritise { etag: &job.etag, priority }, self.show()).await?))
    }

    async fn delete_job(&self, request: Request<DeleteJobRequest>) -> Result<Response<DeleteJobResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.get_ref();
        let name: JobName = parse_name("name", &request.name)?;
        let once = Once { caller: &caller, method: "DeleteJob", request_id: &request.request_id, request };
        Ok(Response::new(self.app.delete_job(once, &name, &request.etag, DeleteJobResponse {}).await?))
    }

    type WatchJobsStream = WatchStream<WatchJobsResponse>;

    async fn watch_jobs(&self, request: Request<WatchJobsRequest>) -> Result<Response<Self::WatchJobsStream>, Status> {
        Caller::of(&request).require(Role::Viewer)?;
        let request = request.get_ref();
        let only: Option<JobName> = if request.name.is_empty() { None } else { Some(parse_name("name", &request.name)?) };
        let namespace = match &only {
            Some(name) if request.parent.is_empty() => Some(name.namespace().to_owned()),
            Some(_) | None => namespace(&request.parent)?,
        };
        let watched = Watch { app: self.app.clone(), filter: Filter { namespace, ..Filter::default() }, only };
        Ok(Response::new(watch::start(&self.tail, &request.resume_token, watched).await?))
    }

    async fn cancel_job(&self, request: Request<CancelJobRequest>) -> Result<Response<Job>, Status> {
        let caller = Caller::of(&request);
        let request = request.get_ref();
        let name: JobName = parse_name("name", &request.name)?;
        let once = Once { caller: &caller, method: "CancelJob", request_id: &request.request_id, request };
        Ok(Response::new(self.app.order(once, &name, Order::Cancel, self.show()).await?))
    }

    async fn suspend_job(&self, request: Request<SuspendJobRequest>) -> Result<Response<Job>, Status> {
        let caller = Caller::of(&request);
        let request = request.get_ref();
        let name: JobName = parse_name("name", &request.name)?;
        let once = Once { caller: &caller, method: "SuspendJob", request_id: &request.request_id, request };
        Ok(Response::new(self.app.order(once, &name, Order::Suspend, self.show()).await?))
    }

    async fn resume_job(&self, request: Request<ResumeJobRequest>) -> Result<Response<Job>, Status> {
        let caller = Caller::of(&request);
        let request = request.get_ref();
        let name: JobName = parse_name("name", &request.name)?;
        let once = Once { caller: &caller, method: "ResumeJob", request_id: &request.request_id, request };
        Ok(Response::new(self.app.order(once, &name, Order::Resume, self.show()).await?))
    }

    async fn explain_job(&self, request: Request<ExplainJobRequest>) -> Result<Response<JobExplanation>, Status> {
        Caller::of(&request).require(Role::Viewer)?;
        let name: JobName = parse_name("name", &request.get_ref().name)?;
        Ok(Response::new(convert::explanation(name.to_string(), self.app.explain(&name).await?)))
    }

    async fn what_if(&self, request: Request<WhatIfRequest>) -> Result<Response<WhatIfResponse>, Status> {
        Caller::of(&request).require(Role::Viewer)?;
        Ok(Response::new(convert::what_if(super::what_if::what_if(&self.app, request.into_inner()).await?)))
    }

    async fn get_run(&self, request: Request<GetRunRequest>) -> Result<Response<Run>, Status> {
        Caller::of(&request).require(Role::Viewer)?;
        let name: RunName = parse_name("name", &request.get_ref().name)?;
        let (job, run, charges) = self.app.get_run(&name).await?;
        Ok(Response::new(convert::run(&job, &run, &charges, self.app.now())))
    }

    async fn list_runs(&self, request: Request<ListRunsRequest>) -> Result<Response<ListRunsResponse>, Status> {
        Caller::of(&request).require(Role::Viewer)?;
        let request = request.get_ref();
        let name: JobName = parse_name("parent", &request.parent)?;
        let page = Page::parse(request.page_size, &request.page_token, &request.parent).map_err(Error::from)?;
        let (job, runs, next_page_token) = self.app.list_runs(&name, &page).await?;
        let now = self.app.now();
        let runs = runs.iter().map(|(run, charges)| convert::run(&job, run, charges, now)).collect();
        Ok(Response::new(ListRunsResponse { runs, next_page_token }))
    }
}

/// What a watch of jobs is made of.
struct Watch {
    app: App,
    filter: Filter,
    only: Option<JobName>,
}

#[async_trait]
impl Watched for Watch {
    type Resource = Job;
    type Response = WatchJobsResponse;

    async fn list(&self) -> muster_kit::Result<(Vec<Job>, Cursor)> {
        let (jobs, cursor) = self.app.jobs(&self.filter, self.only.as_ref()).await?;
        let now = self.app.now();
        Ok((jobs.iter().map(|view| convert::view(view, now)).collect(), cursor))
    }

    fn wants(&self, event: &Event) -> bool {
        let of_namespace = |namespace: &String| event.aggregate.starts_with(&format!("namespaces/{namespace}/jobs/"));
        // What happens to queues stands in the same log.
        event.topic == TOPIC
            && event.aggregate.starts_with("namespaces/")
            && self.filter.namespace.as_ref().is_none_or(of_namespace)
            && self.only.as_ref().is_none_or(|name| event.aggregate == name.to_string())
    }

    fn respond(&self, change: Change, job: Option<Job>, resume_token: String) -> WatchJobsResponse {
        let kind = match change {
            Change::Existing => Type::Existing,
            Change::Changed => Type::Changed,
            Change::Deleted => Type::Deleted,
            Change::Synced => Type::Synced,
        };
        WatchJobsResponse { r#type: kind.into(), job, resume_token }
    }
}
