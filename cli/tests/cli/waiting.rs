//! `--wait` and `rollout status -w`: the end that was waited for decides the exit status.

use crate::support::{Script, Server};
use muster_proto::{
    rollout::v1::{Application, GetApplicationRequest, GetReleaseRequest, Release, release},
    scheduler::v1::{CreateJobRequest, GetJobRequest, Job, job::State},
};
use tonic::Status;

/// A scheduler whose job goes through these states, one a look; the last one stays.
async fn scheduler(states: &'static [State]) -> Server {
    let job = |state: State| Job {
        name: "namespaces/ml/jobs/a".to_owned(),
        state: state.into(),
        reason: "because".to_owned(),
        ..Job::default()
    };
    let server = Script::default()
        .on("scheduler.v1.JobService/CreateJob", move |_, _: CreateJobRequest| Ok(job(State::Queued)))
        .on("scheduler.v1.JobService/GetJob", move |look, _: GetJobRequest| {
            // A scheduler that restarts meanwhile is no reason to give up.
            if look == 1 { Err(Status::unavailable("restarts")) } else { Ok(job(states[look.min(states.len() - 1)])) }
        })
        .start()
        .await;
    server.file("job.yaml", "apiVersion: batch/v1\nkind: Job\nmetadata: {name: a, namespace: ml}\n");
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitted_job_is_waited_for_to_its_end() {
    let server = scheduler(&[State::Queued, State::Queued, State::Running, State::Succeeded]).await;
    let ended = server.run("submit -f job.yaml --wait --attempts 1").await;
    assert_eq!((ended.status, ended.output.as_str()), (0, "job ml/a submitted\n"), "{}", ended.errors);
    for words in ["job ml/a: Queued: because", "the scheduler is unavailable", "Running: because", "Succeeded: because"] {
        assert!(ended.errors.contains(words), "{words}: {}", ended.errors);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_running_ends_when_it_runs() {
    let server = scheduler(&[State::Queued, State::Queued, State::Running]).await;
    assert_eq!(server.run("submit -f job.yaml --wait --wait-for running").await.status, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_ends_otherwise_has_its_own_exit_status() {
    let cases: [(&[State], &str, i32); 3] = [
        (&[State::Running, State::Running, State::Failed], "submit -f job.yaml --wait", 1),
        (&[State::Queued, State::Queued, State::Refused], "submit -f job.yaml --wait", 4),
        (&[State::Queued], "submit -f job.yaml --wait --wait-timeout 2s", 7),
    ];
    for (states, line, status) in cases {
        let ended = scheduler(states).await.run(line).await;
        assert_eq!(ended.status, status, "{}", ended.errors);
        assert!(ended.errors.contains("because"), "{}", ended.errors);
    }
}

/// A rollout service whose first release is superseded by a second, which ends so.
async fn rollout(end: release::State) -> Server {
    const APPLICATION: &str = "namespaces/ml/applications/web";
    let current = |look: usize| format!("{APPLICATION}/releases/r-{}", if look == 0 { 1 } else { 2 });
    let release = move |look: usize, request: GetReleaseRequest| {
        let state = match (request.name.ends_with("r-1"), look) {
            (true, 0) => release::State::Progressing,
            (true, _) => release::State::Superseded,
            (false, 0..4) => release::State::Progressing,
            (false, _) => end,
        };
        Ok(Release { name: request.name, state: state.into(), wave: 1, wave_count: 2, ..Release::default() })
    };
    Script::default()
        .on("rollout.v1.ApplicationService/GetApplication", move |look, _: GetApplicationRequest| {
            Ok(Application { name: APPLICATION.to_owned(), current_release: current(look), ..Application::default() })
        })
        .on("rollout.v1.ReleaseService/GetRelease", release)
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_followed_to_its_end_and_over_to_the_one_that_took_its_place() {
    for (end, status) in [(release::State::Completed, 0), (release::State::Failed, 1), (release::State::Refused, 4)] {
        let ended = rollout(end).await.run("rollout status web -n ml -w").await;
        assert_eq!(ended.status, status, "{}", ended.errors);
        assert!(ended.errors.contains("ml/web/r-2 took the place of ml/web/r-1"), "{}", ended.errors);
        assert!(ended.output.contains("Release:     ml/web/r-2"), "{}", ended.output);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_without_a_release_is_not_found() {
    let server = Script::default()
        .on("rollout.v1.ApplicationService/GetApplication", |_, request: GetApplicationRequest| {
            Ok(Application {
                name: request.name,
                reason: "its repository has not been read".to_owned(),
                ..Application::default()
            })
        })
        .start()
        .await;
    let ended = server.run("rollout pause web -n ml").await;
    assert_eq!(ended.status, 3);
    assert!(ended.errors.contains("ml/web has no release yet: its repository has not been read"), "{}", ended.errors);
}
