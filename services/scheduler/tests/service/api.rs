//! Pages, etags, repetitions, watches, callers.

use muster_kit::{Caller, Role};
use muster_proto::scheduler::v1::job_service_client::JobServiceClient;
use muster_proto::scheduler::v1::watch_jobs_response::Type;
use muster_proto::scheduler::v1::{
    CancelJobRequest, GetJobRequest, Job, ListJobsRequest, ListQueuesRequest, UpdateJobRequest, UpdateQueueRequest,
    WatchJobsRequest, WatchJobsResponse, job::State,
};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_types::StatusExt;

use crate::world::{World, create, resource, training};

#[tokio::test]
async fn three_pages_walk_all_jobs_of_all_namespaces() {
    let mut world = World::with_clusters().await;
    for name in ["e", "d", "c", "b", "a"] {
        world.submit(name, 1, 1).await;
    }
    let (mut names, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = ListJobsRequest { parent: "namespaces/-".to_owned(), page_size: 2, page_token, ..Default::default() };
        let answer = world.jobs.list_jobs(request).await.unwrap().into_inner();
        names.extend(answer.jobs.into_iter().map(|job| job.name));
        page_token = answer.next_page_token;
        pages += 1;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((names, pages), (["a", "b", "c", "d", "e"].map(resource).to_vec(), 3));
    let filtered =
        ListJobsRequest { parent: "namespaces/ml".to_owned(), states: vec![State::Running.into()], ..Default::default() };
    assert!(world.jobs.list_jobs(filtered).await.unwrap().into_inner().jobs.is_empty());
}

#[tokio::test]
async fn a_stale_etag_is_aborted_and_a_repeated_request_answered_once() {
    let mut world = World::with_clusters().await;
    let queue = world.queue("train", "weight: 2").await;
    world.queue("train", "weight: 3").await;
    let request = UpdateQueueRequest { queue: Some(queue.clone()), ..Default::default() };
    assert_eq!(world.queues.update_queue(request).await.unwrap_err().code(), Code::Aborted);

    let mut request = create("", &training("x", 1, 1).replace("name: x", "generateName: x-"));
    request.request_id = "5f6b7e0a-0f3f-4f0e-9d2b-1b1f1a2b3c4d".to_owned();
    let (first, again) = (world.create(request.clone()).await.unwrap(), world.create(request.clone()).await.unwrap());
    assert_eq!(first.name, again.name);
    request.job.as_mut().unwrap().max_retries = 3;
    assert_eq!(world.create(request.clone()).await.unwrap_err().code(), Code::InvalidArgument);
    request.request_id = "not a uuid".to_owned();
    assert_eq!(world.create(request).await.unwrap_err().code(), Code::InvalidArgument);

    let job = Job { name: first.name.clone(), priority: Some(1), etag: "v999".to_owned(), ..Default::default() };
    let stale = world.jobs.update_job(UpdateJobRequest { job: Some(job), ..Default::default() }).await.unwrap_err();
    assert_eq!((stale.code(), stale.get_details_error_info().unwrap().reason.as_str()), (Code::Aborted, "STALE_ETAG"));
}

#[tokio::test]
async fn names_outside_the_grammar_are_refused_by_field() {
    let mut world = World::new().await;
    for name in ["", "train", "namespaces/ml/jobs/Train", &resource(&"a".repeat(64))] {
        let refused = world.jobs.get_job(GetJobRequest { name: name.to_owned() }).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.get_details_bad_request().unwrap().field_violations[0].field.as_str()),
            (Code::InvalidArgument, "name")
        );
    }
    let unscoped = world.jobs.list_jobs(ListJobsRequest::default()).await.unwrap_err();
    assert_eq!(unscoped.code(), Code::InvalidArgument);
}

async fn next(stream: &mut tonic::Streaming<WatchJobsResponse>) -> (Type, String, State, String) {
    let message = stream.next().await.expect("the watch goes on").expect("a message");
    let (name, state) = message.job.as_ref().map_or((String::new(), State::Unspecified), |job| (job.name.clone(), job.state()));
    (message.r#type(), name, state, message.resume_token)
}

#[tokio::test]
async fn a_watch_tells_what_exists_then_every_change_and_resumes() {
    let mut world = World::with_clusters().await;
    world.submit("one", 1, 1).await;
    let request = WatchJobsRequest { parent: "namespaces/ml".to_owned(), ..Default::default() };
    let mut stream = world.jobs.watch_jobs(request).await.unwrap().into_inner();
    let (kind, name, state, _) = next(&mut stream).await;
    assert_eq!((kind, name, state), (Type::Existing, resource("one"), State::Queued));
    let (kind, _, _, token) = next(&mut stream).await;
    assert_eq!(kind, Type::Synced);
    world.settle().await;
    let mut seen = next(&mut stream).await;
    // What is at the horizon of the list may come once more.
    if seen.2 == State::Queued {
        seen = next(&mut stream).await;
    }
    assert_eq!((seen.0, seen.2), (Type::Changed, State::Placed));
    world.jobs.cancel_job(CancelJobRequest { name: resource("one"), ..Default::default() }).await.unwrap();
    assert_eq!(next(&mut stream).await.2, State::Cancelled);
    let request = WatchJobsRequest { name: resource("one"), resume_token: token, ..Default::default() };
    let mut resumed = world.jobs.watch_jobs(request).await.unwrap().into_inner();
    let mut states = Vec::new();
    while states.last() != Some(&State::Cancelled) {
        states.push(next(&mut resumed).await.2);
    }
    assert!(states.contains(&State::Placed), "{states:?}");
}

#[tokio::test]
async fn a_viewer_reads_and_does_not_submit() {
    let world = World::with_clusters().await;
    let (tail, _feed) = muster_kit::watch::Tail::new(world.db.pool().clone(), tokio_util::sync::CancellationToken::new());
    let routes = muster_scheduler::grpc::routes(world.app.clone(), tail);
    let mut viewer = JobServiceClient::with_interceptor(routes.clone(), |mut request: tonic::Request<()>| {
        request.extensions_mut().insert(Caller::Person { subject: "eve@example.com".to_owned(), role: Role::Viewer });
        Ok(request)
    });
    let refused = viewer.create_job(create("x", &training("x", 1, 1))).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(viewer.list_jobs(ListJobsRequest { parent: "namespaces/-".to_owned(), ..Default::default() }).await.is_ok());
    let mut nobody = JobServiceClient::new(routes);
    assert_eq!(nobody.get_job(GetJobRequest { name: resource("x") }).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_change_leaves_one_audit_row_and_one_event() {
    let mut world = World::with_clusters().await;
    world.submit("one", 1, 1).await;
    world.submit("one", 1, 1).await;
    let audits: i64 =
        sqlx::query_scalar("select count(*) from audit where action = 'CreateJob'").fetch_one(world.db.pool()).await.unwrap();
    let events: Vec<String> = sqlx::query_scalar("select type from event where topic = 'muster.jobs' order by event_id")
        .fetch_all(world.db.pool())
        .await
        .unwrap();
    assert_eq!((audits, events), (1, vec!["job.submitted".to_owned()]));
    let queues = world.queues.list_queues(ListQueuesRequest::default()).await.unwrap().into_inner().queues;
    assert_eq!((queues.len(), queues[0].waiting_jobs), (1, 1));
}
