//! The four watches behind `muster events`, each read the same way.

use super::{Event, Message, Source};
use crate::{
    client::{Peer, Session},
    error::{Exit, Failure},
    kinds::sized,
    output::human,
};
use jiff::Timestamp;
use muster_proto::{
    registry::v1::{Cluster, WatchClustersRequest, cluster_service_client::ClusterServiceClient, watch_clusters_response},
    rollout::v1::{
        Application, Release, WatchApplicationsRequest, WatchReleasesRequest,
        application_service_client::ApplicationServiceClient, release_service_client::ReleaseServiceClient,
        watch_applications_response, watch_releases_response,
    },
    scheduler::v1::{Job, WatchJobsRequest, job_service_client::JobServiceClient, watch_jobs_response},
};
use std::{collections::HashMap, time::Duration};
use tokio::sync::mpsc::Sender;
use tonic::{Code, Status};

/// Between a broken watch and the next attempt.
const PAUSE: Duration = Duration::from_secs(1);
/// A watch that ends so often before it has told what exists is given up.
const MAX_BREAKS: u32 = 5;
/// Resources whose last shown state is remembered; beyond it the memory starts anew, and a line may be shown twice.
const MAX_REMEMBERED: usize = 100_000;

/// What a watch's message means, whatever it is of.
enum Step {
    Seen(Vec<Event>),
    Gone(Event),
    Synced,
}

/// What was shown last of each resource: when, and what was said then.
#[derive(Default)]
struct Memory(HashMap<String, (Timestamp, Vec<String>)>);

impl Memory {
    /// Of the events of one resource, oldest first, those not shown yet.
    fn fresh(&mut self, events: Vec<Event>) -> Vec<Event> {
        events.into_iter().filter(|event| self.is_fresh(event)).collect()
    }

    fn is_fresh(&mut self, event: &Event) -> bool {
        let said = format!("{} {}", event.state, event.reason);
        if self.0.len() >= MAX_REMEMBERED && !self.0.contains_key(&event.name) {
            self.0.clear();
        }
        let (time, known) = self.0.entry(event.name.clone()).or_insert_with(|| (event.time, vec![]));
        // A history comes whole each time: what it holds of earlier times was shown. Else only the last state is known.
        let is_known = match event.source {
            Source::Jobs | Source::Releases => event.time < *time || (event.time == *time && known.contains(&said)),
            Source::Clusters | Source::Applications => known.last() == Some(&said),
        };
        if is_known {
            return false;
        }
        if event.time != *time {
            (*time, *known) = (event.time, vec![]);
        }
        known.push(said);
        true
    }
}

/// Tells what a source says until everything that existed was told, or, following, for ever.
pub async fn follow(source: Source, session: &Session, namespace: Option<&str>, following: bool, sender: Sender<Message>) {
    let mut memory = Memory::default();
    let mut token = String::new();
    let mut told = false;
    for attempt in 1.. {
        let answer = watch(source, session, namespace, following, &mut token, &mut memory, &mut told, &sender).await;
        let failure = match answer {
            // The receiver is gone, or all was told.
            Ok(End::Done) => return,
            Ok(End::Closed) if told || attempt < MAX_BREAKS => None,
            Ok(End::Closed) => {
                Some(Failure::new(Exit::Unavailable, format!("the watch of {} breaks again and again", source.plural())))
            }
            Ok(End::TooOld) if !token.is_empty() => {
                token.clear();
                continue;
            }
            Ok(End::TooOld) => Some(Failure::new(Exit::Failure, format!("the watch of {} cannot begin", source.plural()))),
            Err(failure) => Some(failure),
        };
        if let Some(failure) = failure
            && (!told || !following)
        {
            told = true;
            if sender.send(Message::Failed(failure)).await.is_err() || !following {
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// How a watch ended.
enum End {
    Done,
    Closed,
    TooOld,
}

/// Reads one watch. The generated types differ, their meaning does not.
macro_rules! read_watch {
    ($session:ident, $peer:ident, $client:ident, $rpc:ident, $request:expr, $types:ident, $field:ident, $events:expr, $on:expr) => {{
        let request = $request;
        let mut opened =
            $session.open(Peer::$peer, stringify!($rpc), |link| async move { sized!($client, link).$rpc(request).await }).await?;
        loop {
            match opened.stream.message().await {
                Ok(None) => break Ok(End::Closed),
                Ok(Some(message)) => {
                    let kind = message.r#type();
                    let step = match (kind, message.$field) {
                        ($types::Type::Synced, _) => Step::Synced,
                        ($types::Type::Existing | $types::Type::Changed, Some(resource)) => {
                            let seen = (kind == $types::Type::Changed).then(Timestamp::now);
                            Step::Seen($events(&resource, seen))
                        }
                        ($types::Type::Deleted, Some(resource)) => Step::Gone(deleted(resource.name)),
                        ($types::Type::Unspecified, _) | (_, None) => continue,
                    };
                    if let Some(end) = $on(step, message.resume_token).await {
                        break Ok(end);
                    }
                }
                Err(status) => break after($session, Peer::$peer, &status),
            }
        }
    }};
}

fn after(session: &Session, peer: Peer, status: &Status) -> Result<End, Failure> {
    match status.code() {
        Code::OutOfRange => Ok(End::TooOld),
        Code::Unavailable | Code::Cancelled | Code::Unknown => Ok(End::Closed),
        _ => Err(session.failure(peer, status)),
    }
}

#[expect(clippy::too_many_arguments, reason = "the state of one watch, which nothing else has")]
async fn watch(
    source: Source,
    session: &Session,
    namespace: Option<&str>,
    following: bool,
    token: &mut String,
    memory: &mut Memory,
    told: &mut bool,
    sender: &Sender<Message>,
) -> Result<End, Failure> {
    let resume_token = token.clone();
    let parent = format!("namespaces/{}", namespace.unwrap_or("-"));
    let mut on = async |step: Step, next: String| -> Option<End> {
        *token = next;
        let messages = match step {
            Step::Seen(events) => memory.fresh(events).into_iter().map(Message::Event).collect(),
            Step::Gone(event) => memory.fresh(vec![Event { source, ..event }]).into_iter().map(Message::Event).collect(),
            Step::Synced if *told => vec![],
            Step::Synced => {
                *told = true;
                vec![Message::Synced]
            }
        };
        for message in messages {
            let synced = matches!(message, Message::Synced);
            if sender.send(message).await.is_err() || (synced && !following) {
                return Some(End::Done);
            }
        }
        None
    };
    let name = String::new();
    match source {
        Source::Clusters => read_watch!(
            session,
            Registry,
            ClusterServiceClient,
            watch_clusters,
            WatchClustersRequest { resume_token },
            watch_clusters_response,
            cluster,
            of_cluster,
            on
        ),
        Source::Jobs => read_watch!(
            session,
            Scheduler,
            JobServiceClient,
            watch_jobs,
            WatchJobsRequest { parent, resume_token, name },
            watch_jobs_response,
            job,
            of_job,
            on
        ),
        Source::Applications => read_watch!(
            session,
            Rollout,
            ApplicationServiceClient,
            watch_applications,
            WatchApplicationsRequest { parent, resume_token, name },
            watch_applications_response,
            application,
            of_application,
            on
        ),
        Source::Releases => read_watch!(
            session,
            Rollout,
            ReleaseServiceClient,
            watch_releases,
            WatchReleasesRequest { parent: format!("{parent}/applications/-"), resume_token, name },
            watch_releases_response,
            release,
            of_release,
            on
        ),
    }
}

fn at(time: Option<&muster_proto::Timestamp>) -> Timestamp {
    time.and_then(human::moment).unwrap_or_else(Timestamp::now)
}

/// The source is filled in where it is known.
fn deleted(name: String) -> Event {
    Event { time: Timestamp::now(), source: Source::Clusters, name, state: "Deleted".to_owned(), reason: String::new() }
}

/// A cluster has no history: a change counts from when it is seen, what existed from its enrolment.
fn of_cluster(cluster: &Cluster, seen: Option<Timestamp>) -> Vec<Event> {
    vec![Event {
        time: seen.unwrap_or_else(|| at(cluster.enrol_time.as_ref().or(cluster.create_time.as_ref()))),
        source: Source::Clusters,
        name: cluster.name.clone(),
        state: human::state(cluster.state().as_str_name()),
        reason: cluster.reason.clone(),
    }]
}

/// A history dates itself.
fn of_job(job: &Job, _seen: Option<Timestamp>) -> Vec<Event> {
    let event = |transition: &muster_proto::scheduler::v1::JobTransition| Event {
        time: at(transition.time.as_ref()),
        source: Source::Jobs,
        name: job.name.clone(),
        state: human::state(transition.state().as_str_name()),
        reason: transition.reason.clone(),
    };
    job.history.iter().map(event).collect()
}

/// An application has no history: a change counts from when it is seen, what existed from its targets' newest change.
fn of_application(application: &Application, seen: Option<Timestamp>) -> Vec<Event> {
    let newest = application
        .targets
        .iter()
        .filter_map(|target| target.transition_time.as_ref())
        .max_by_key(|time| (time.seconds, time.nanos));
    vec![Event {
        time: seen.unwrap_or_else(|| at(newest.or(application.create_time.as_ref()))),
        source: Source::Applications,
        name: application.name.clone(),
        state: human::state(application.state().as_str_name()),
        reason: application.reason.clone(),
    }]
}

/// A history dates itself.
fn of_release(release: &Release, _seen: Option<Timestamp>) -> Vec<Event> {
    let event = |transition: &muster_proto::rollout::v1::ReleaseTransition| Event {
        time: at(transition.time.as_ref()),
        source: Source::Releases,
        name: release.name.clone(),
        state: human::state(transition.state().as_str_name()),
        reason: transition.reason.clone(),
    };
    release.history.iter().map(event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(second: i64, state: &str) -> Event {
        Event {
            time: Timestamp::from_second(second).expect("legal"),
            source: Source::Jobs,
            name: "namespaces/ml/jobs/a".to_owned(),
            state: state.to_owned(),
            reason: String::new(),
        }
    }

    #[test]
    fn a_history_that_comes_again_is_shown_from_where_it_grew() {
        let mut memory = Memory::default();
        let history = vec![event(1, "Queued"), event(2, "Placed")];
        assert_eq!(memory.fresh(history.clone()), history);
        assert_eq!(memory.fresh(history.clone()), []);
        let grown = [history, vec![event(3, "Running")]].concat();
        assert_eq!(memory.fresh(grown), [event(3, "Running")]);
    }

    #[test]
    fn two_changes_of_one_moment_are_both_shown_once() {
        let mut memory = Memory::default();
        let history = vec![event(1, "Queued"), event(1, "Placed")];
        assert_eq!(memory.fresh(history.clone()), history);
        assert_eq!(memory.fresh(history), []);
    }

    #[test]
    fn a_cluster_that_says_the_same_again_is_no_event() {
        let cluster = |second, state| Event { source: Source::Clusters, ..event(second, state) };
        let mut memory = Memory::default();
        assert_eq!(memory.fresh(vec![cluster(5, "Live")]).len(), 1);
        assert_eq!(memory.fresh(vec![cluster(9, "Live")]), []);
        assert_eq!(memory.fresh(vec![cluster(10, "Lost")]).len(), 1);
        // A watch that begins anew dates what exists from its enrolment.
        assert_eq!(memory.fresh(vec![cluster(1, "Live")]).len(), 1);
    }
}
