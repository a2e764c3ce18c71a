//! `muster events`: several watches, one stream, taken up where it broke.

use crate::support::Script;
use muster_proto::{
    Timestamp,
    scheduler::v1::{Job, JobTransition, WatchJobsRequest, WatchJobsResponse, job::State, watch_jobs_response::Type},
};
use std::{
    pin::Pin,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

type Messages = Pin<Box<dyn Stream<Item = Result<WatchJobsResponse, Status>> + Send>>;

fn job(states: &[State]) -> Job {
    let transition = |(second, state): (usize, &State)| JobTransition {
        state: (*state).into(),
        time: Some(Timestamp { seconds: 1_800_000_000 + i64::try_from(second).expect("few"), nanos: 0 }),
        ..JobTransition::default()
    };
    Job {
        name: "namespaces/ml/jobs/a".to_owned(),
        history: states.iter().enumerate().map(transition).collect(),
        ..Job::default()
    }
}

fn message(kind: Type, job: Option<Job>, token: &str) -> Result<WatchJobsResponse, Status> {
    Ok(WatchJobsResponse { r#type: kind.into(), job, resume_token: token.to_owned() })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_is_shown_in_the_order_of_time() {
    let watch = |_, _: WatchJobsRequest| -> Messages {
        let existing = message(Type::Existing, Some(job(&[State::Queued, State::Placed])), "1");
        // Like a service's, the stream stays open.
        Box::pin(tokio_stream::iter([existing, message(Type::Synced, None, "2")]).chain(tokio_stream::pending()))
    };
    let server = Script::default().on_stream("scheduler.v1.JobService/WatchJobs", watch).start().await;
    let ended = server.run("events --of jobs -o json").await;
    assert_eq!(ended.status, 0, "{}", ended.errors);
    let states: Vec<_> =
        ended.output.lines().filter_map(|line| line.split(r#""state":""#).nth(1)).map(|rest| &rest[..6]).collect();
    assert_eq!(states, ["Queued", "Placed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_breaks_is_taken_up_where_it_ended_and_a_stale_one_begins_anew() {
    let tokens = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&tokens);
    let watch = move |number, request: WatchJobsRequest| -> Messages {
        seen.lock().expect("no panic").push(request.resume_token);
        let (queued, placed) = ([State::Queued], [State::Queued, State::Placed]);
        let all = [State::Queued, State::Placed, State::Running];
        match number {
            0 => Box::pin(tokio_stream::iter([
                message(Type::Existing, Some(job(&queued)), "1"),
                message(Type::Synced, None, "2"),
                message(Type::Changed, Some(job(&placed)), "3"),
            ])),
            1 => Box::pin(tokio_stream::iter([Err(Status::out_of_range("too old"))])),
            _ => Box::pin(
                tokio_stream::iter([message(Type::Existing, Some(job(&all)), "9"), message(Type::Synced, None, "10")])
                    .chain(tokio_stream::pending()),
            ),
        }
    };
    let server = Script::default().on_stream("scheduler.v1.JobService/WatchJobs", watch).start().await;
    let mut child = server.command("events -w --of jobs -o json").stdout(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    for state in ["Queued", "Placed", "Running"] {
        let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await.expect("in time").expect("readable");
        let line = line.expect("goes on");
        assert!(line.contains(&format!(r#""state":"{state}""#)), "{line}");
    }
    child.kill().await.expect("runs until told otherwise");
    assert_eq!(*tokens.lock().expect("no panic"), ["", "3", ""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_away_does_not_silence_the_others() {
    let watch = |_, _: WatchJobsRequest| -> Messages {
        let existing = message(Type::Existing, Some(job(&[State::Queued])), "1");
        Box::pin(tokio_stream::iter([existing, message(Type::Synced, None, "2")]).chain(tokio_stream::pending()))
    };
    let server = Script::default().on_stream("scheduler.v1.JobService/WatchJobs", watch).start().await;
    let mut command = server.command("events --of jobs --of clusters");
    command.env("MUSTER_REGISTRY", "http://127.0.0.1:1");
    let ended = command.output().await.expect("starts");
    assert_eq!(ended.status.code(), Some(6));
    assert!(String::from_utf8_lossy(&ended.stdout).contains("ml/a"));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("the fleet-registry is unavailable"));
}
