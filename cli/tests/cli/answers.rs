//! What a service answers decides what a script sees.

use crate::support::{Script, Server};
use muster_proto::scheduler::v1::{
    CreateJobRequest, GetQueueRequest, Job, ListQueuesRequest, ListQueuesResponse, Queue, UpdateJobRequest,
};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

const GET_QUEUE: &str = "scheduler.v1.QueueService/GetQueue";

fn queue(name: &str) -> Queue {
    Queue { name: name.to_owned(), weight: 2, ..Queue::default() }
}

async fn failing(code: Code) -> Server {
    Script::default().on(GET_QUEUE, move |_, _: GetQueueRequest| Err::<Queue, _>(Status::new(code, "so it is"))).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_decides_the_exit_status() {
    let cases = [
        (Code::NotFound, 3),
        (Code::Aborted, 5),
        (Code::Unavailable, 6),
        (Code::PermissionDenied, 8),
        (Code::InvalidArgument, 9),
        (Code::Internal, 1),
    ];
    for (code, status) in cases {
        let ended = failing(code).await.run("get queue q --attempts 1").await;
        assert_eq!((ended.status, ended.output.as_str()), (status, ""), "{code:?}");
        assert!(ended.errors.starts_with("error: ") && ended.errors.contains("so it is"), "{}", ended.errors);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_comes_back_is_asked_again_with_the_same_request_id() {
    let ids = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ids);
    let answer = move |number, request: UpdateJobRequest| {
        seen.lock().expect("no panic holds it").push(request.request_id);
        if number < 2 { Err(Status::unavailable("starting")) } else { Ok(request.job.unwrap_or_default()) }
    };
    let server = Script::default().on("scheduler.v1.JobService/UpdateJob", answer).start().await;
    let ended = server.run("job priority train 7 -n ml").await;
    assert_eq!(ended.status, 0, "{}", ended.errors);
    assert!(ended.errors.contains("trying again (2 of 4)") && ended.errors.contains("(3 of 4)"), "{}", ended.errors);
    let ids = ids.lock().expect("no panic holds it").clone();
    assert_eq!(ids.len(), 3);
    assert!(!ids[0].is_empty() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_there_is_unavailable() {
    let server = Script::default().start().await;
    let mut command = server.command("get queues --attempts 2");
    // Port 1 is tcpmux, which nobody runs.
    command.env("MUSTER_SCHEDULER", "http://127.0.0.1:1");
    let ended = command.output().await.expect("starts");
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(6), "{errors}");
    assert!(errors.contains("the scheduler is unavailable") && errors.contains("http://127.0.0.1:1"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_sent_and_kept() {
    let answer = |_, _: GetQueueRequest| {
        // Longer than the deadline, and blocking only a thread of its own.
        std::thread::sleep(Duration::from_secs(2));
        Ok(queue("queues/q"))
    };
    let server = Script::default().on(GET_QUEUE, answer).start().await;
    let ended = server.run("get queue q --timeout 300ms").await;
    assert_eq!(ended.status, 7, "{}", ended.errors);
    assert!(ended.errors.contains("no answer within 300ms"), "{}", ended.errors);
    assert!(server.headers("grpc-timeout").iter().all(|timeout| !timeout.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_names_the_caller_and_belongs_to_one_trace() {
    let server = Script::default().on(GET_QUEUE, |_, request: GetQueueRequest| Ok(queue(&request.name))).start().await;
    let ended = server.run("get queue a b c -o name").await;
    assert_eq!((ended.status, ended.output.as_str()), (0, "queues/a\nqueues/b\nqueues/c\n"));
    assert_eq!(server.headers("authorization"), vec!["Bearer t0ken"; 3]);
    let traces = server.headers("traceparent");
    assert!(traces.iter().all(|trace| trace.len() == 55 && trace[..35] == traces[0][..35]), "{traces:?}");

    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    server.command("get queue a").env("TRACEPARENT", parent).output().await.expect("starts");
    assert!(server.headers("traceparent").last().is_some_and(|trace| trace[..35] == parent[..35]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_the_command_and_its_calls_as_one_tree() {
    let spans = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&spans);
    let collect = move |_, request: ExportTraceServiceRequest| {
        let all = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        seen.lock().expect("no panic holds it").extend(all);
        Ok(ExportTraceServiceResponse::default())
    };
    let server = Script::default()
        .on(GET_QUEUE, |_, request: GetQueueRequest| Ok(queue(&request.name)))
        .on("opentelemetry.proto.collector.trace.v1.TraceService/Export", collect)
        .start()
        .await;
    let mut command = server.command("get queue a");
    let ended = command.env("OTEL_EXPORTER_OTLP_ENDPOINT", server.url()).output().await.expect("starts");
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));
    let spans = spans.lock().expect("no panic holds it").clone();
    let named = |name: &str| spans.iter().find(|span| span.name == name).expect("was exported");
    let (root, call) = (named("muster get"), named("GetQueue"));
    assert_eq!((spans.len(), root.parent_span_id.len()), (2, 0));
    assert_eq!((&call.trace_id, &call.parent_span_id), (&root.trace_id, &root.span_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_through_every_page() {
    let answer = |_, request: ListQueuesRequest| {
        let (name, next) = match request.page_token.as_str() {
            "" => ("queues/a", "2"),
            "2" => ("queues/b", "3"),
            _ => ("queues/c", ""),
        };
        Ok(ListQueuesResponse { queues: vec![queue(name)], next_page_token: next.to_owned() })
    };
    let server = Script::default().on("scheduler.v1.QueueService/ListQueues", answer).start().await;
    let ended = server.run("get queues -o json").await;
    assert_eq!(
        ended.output.split_whitespace().collect::<String>(),
        r#"{"queues":[{"name":"queues/a","weight":2},{"name":"queues/b","weight":2},{"name":"queues/c","weight":2}]}"#
    );
    let table = server.run("get q --no-headers").await.output;
    assert_eq!(table.lines().map(|line| &line[..1]).collect::<String>(), "abc");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_policy_says_rule_path_and_message() {
    let refuse = |_, _: CreateJobRequest| {
        let mut details = ErrorDetails::with_error_info("POLICY_VIOLATION", "muster.dev", std::collections::HashMap::new());
        details.add_precondition_failure_violation(
            "policies/require-gpu-limits/rules/validate-gpu",
            "Job ml/a spec.tasks[0].template.spec.containers[0].resources",
            "ML pods must set limits",
        );
        Err::<Job, _>(Status::with_error_details(Code::FailedPrecondition, "policy refuses the job", details))
    };
    let server = Script::default().on("scheduler.v1.JobService/CreateJob", refuse).start().await;
    server.file("job.yaml", "# a job\napiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\n");
    let ended = server.run("submit -f job.yaml").await;
    assert_eq!(ended.status, 4);
    assert_eq!(
        ended.errors,
        "error: job.yaml:2: policy refuses the job\n  require-gpu-limits/validate-gpu: Job ml/a \
         spec.tasks[0].template.spec.containers[0].resources: ML pods must set limits\n"
    );
}
