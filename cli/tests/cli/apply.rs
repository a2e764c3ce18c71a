//! `muster apply` over a set of documents.

use crate::support::Script;
use muster_proto::scheduler::v1::{CreateJobRequest, GetJobRequest, GetQueueRequest, Job, Queue, UpdateQueueRequest};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tonic::Status;

type Stored = Arc<Mutex<BTreeMap<String, String>>>;
type Ids = Arc<Mutex<Vec<String>>>;

/// A scheduler that keeps manifests by name, and refuses a queue named `bad`.
fn scheduler() -> (Script, Ids) {
    let (stored, ids) = (Stored::default(), Ids::default());
    let queues = Arc::clone(&stored);
    let get_queue = move |_, request: GetQueueRequest| match queues.lock().expect("no panic").get(&request.name) {
        Some(manifest) => Ok(Queue { name: request.name, manifest: manifest.clone(), etag: "1".to_owned(), ..Queue::default() }),
        None => Err(Status::not_found("no such queue")),
    };
    let (queues, seen) = (Arc::clone(&stored), Arc::clone(&ids));
    let update_queue = move |_, request: UpdateQueueRequest| {
        let queue = request.queue.unwrap_or_default();
        let word = queue.manifest.split_once("name: ").map_or("", |(_, rest)| rest);
        let id: String = word.chars().take_while(|letter| letter.is_ascii_alphanumeric()).collect();
        if id == "bad" {
            return Err(Status::invalid_argument("spec.weight: must be 1 to 65535"));
        }
        let name = format!("queues/{id}");
        if !request.validate_only {
            queues.lock().expect("no panic").insert(name.clone(), queue.manifest.clone());
        }
        seen.lock().expect("no panic").push(request.request_id);
        Ok(Queue { name, etag: "2".to_owned(), ..queue })
    };
    let get_job = |_, _: GetJobRequest| Err::<Job, _>(Status::not_found("no such job"));
    let create_job =
        |_, request: CreateJobRequest| Ok(Job { name: "namespaces/ml/jobs/a".to_owned(), ..request.job.unwrap_or_default() });
    let script = Script::default()
        .on("scheduler.v1.QueueService/GetQueue", get_queue)
        .on("scheduler.v1.QueueService/UpdateQueue", update_queue)
        .on("scheduler.v1.JobService/GetJob", get_job)
        .on("scheduler.v1.JobService/CreateJob", create_job);
    (script, ids)
}

fn queue(name: &str, weight: u32) -> String {
    format!("apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {{name: {name}}}\nspec: {{weight: {weight}}}\n")
}

const JOB: &str = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: a, namespace: ml}\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_applied_whole_and_says_what_became_of_each() {
    let (script, _) = scheduler();
    let server = script.start().await;
    server.file("set/a-job.yaml", JOB);
    server.file("set/queues.yaml", &format!("{}---\n{}", queue("one", 1), queue("two", 1)));
    let first = server.run("apply -f set").await;
    assert_eq!(
        (first.status, first.output.as_str()),
        (0, "queue one created\nqueue two created\njob ml/a created\n"),
        "{}",
        first.errors
    );
    server.file("set/queues.yaml", &format!("{}---\n{}", queue("one", 1), queue("two", 5)));
    let dry = server.run("apply -f set/queues.yaml --dry-run").await;
    assert_eq!(dry.output, "queue one unchanged (dry run)\nqueue two configured (dry run)\n");
    let second = server.run("apply -f set/queues.yaml").await;
    assert_eq!(second.output, "queue one unchanged\nqueue two configured\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_document_does_not_hold_the_others_and_decides_the_exit_status() {
    let (script, _) = scheduler();
    let server = script.start().await;
    server.file("set.yaml", &format!("{}---\n{}", queue("bad", 0), queue("good", 1)));
    let ended = server.run("apply -f set.yaml").await;
    assert_eq!((ended.status, ended.output.as_str()), (9, "queue good created\n"));
    assert!(ended.errors.contains("error: set.yaml:1: spec.weight: must be 1 to 65535"), "{}", ended.errors);
    assert!(ended.errors.ends_with("error: 1 of 2 documents were not applied\n"), "{}", ended.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_set_is_not_sent_at_all() {
    let (script, _) = scheduler();
    let server = script.start().await;
    server.file("set/good.yaml", &queue("good", 1));
    server.file("set/deployment.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n");
    let ended = server.run("apply -f set").await;
    assert_eq!((ended.status, server.calls()), (9, vec![]));
    assert!(ended.errors.contains("set/deployment.yaml:1: apps/v1 Deployment is no kind Muster stores"), "{}", ended.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_id_gives_every_document_the_same_id_again() {
    let (script, ids) = scheduler();
    let server = script.start().await;
    server.file("set.yaml", &format!("{}---\n{}", queue("one", 1), queue("two", 1)));
    let line = "apply -f set.yaml --request-id 5f0c1f0a-8a4e-4a57-9a57-2f9f0f3f6c11";
    assert_eq!((server.run(line).await.status, server.run(line).await.status), (0, 0));
    let ids = ids.lock().expect("no panic").clone();
    assert_eq!(ids.len(), 4);
    assert!(ids[..2] == ids[2..] && ids[0] != ids[1], "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_is_applied_too() {
    use tokio::io::AsyncWriteExt;
    let (script, _) = scheduler();
    let server = script.start().await;
    let mut child = server
        .command("apply -f - -o name")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(queue("one", 1).as_bytes()).await.expect("is read");
    drop(input);
    let ended = child.wait_with_output().await.expect("ends");
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "queues/one\n");
}
