//! Watches that go on through whichever replica answers, and what they have seen.
//!
//! The one thing to know: a watch that ends is taken up again with its token at the *next* replica, so that what it has seen
//! in the end was told by several.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster_integration_tests::clients::Clients;
use muster_proto::registry::v1 as registry;
use muster_proto::rollout::v1 as rollout;
use muster_proto::scheduler::v1 as scheduler;
use tokio::task::JoinSet;

/// Between two replicas that are asked for a watch.
const PAUSE: Duration = Duration::from_millis(100);

/// The versions of each resource, in the order in which they were told.
type Versions = BTreeMap<String, Vec<u64>>;

/// Watches of clusters, jobs, applications and releases.
pub struct Watches {
    seen: Arc<Mutex<Versions>>,
    /// Ended with this value.
    _tasks: JoinSet<()>,
}

/// Follows one kind of resource for ever.
macro_rules! follow {
    ($tasks:expr, $seen:expr, $replicas:expr, $service:ident . $watch:ident, $field:ident, $request:expr) => {{
        let (seen, replicas): (_, Vec<Clients>) = (Arc::clone(&$seen), $replicas.to_vec());
        $tasks.spawn(async move {
            let mut token = String::new();
            let mut pace = tokio::time::interval(PAUSE);
            for clients in replicas.iter().cycle() {
                pace.tick().await;
                // This one is away just now: the next is asked.
                let Ok(opened) = clients.$service().$watch($request(token.clone())).await else { continue };
                let mut stream = opened.into_inner();
                while let Ok(Some(message)) = stream.message().await {
                    token = message.resume_token;
                    if let Some(resource) = message.$field {
                        let version = resource.etag.trim_start_matches('v').parse().expect("a version's number");
                        let mut seen = seen.lock().expect("no holder of this lock panics");
                        let versions: &mut Vec<u64> = seen.entry(resource.name).or_default();
                        // What was there when the watch began may come once more as a change.
                        if versions.last() != Some(&version) {
                            versions.push(version);
                        }
                    }
                }
            }
        });
    }};
}

impl Watches {
    /// Begins at the first of the replicas.
    pub fn begin(replicas: &[Clients]) -> Self {
        let (mut tasks, seen) = (JoinSet::new(), Arc::new(Mutex::new(Versions::new())));
        let parent = || "namespaces/-".to_owned();
        follow!(tasks, seen, replicas, clusters.watch_clusters, cluster, |resume_token| registry::WatchClustersRequest {
            resume_token
        });
        follow!(tasks, seen, replicas, jobs.watch_jobs, job, |resume_token| scheduler::WatchJobsRequest {
            parent: parent(),
            resume_token,
            ..Default::default()
        });
        follow!(tasks, seen, replicas, applications.watch_applications, application, |resume_token| {
            rollout::WatchApplicationsRequest { parent: parent(), resume_token, ..Default::default() }
        });
        follow!(tasks, seen, replicas, releases.watch_releases, release, |resume_token| rollout::WatchReleasesRequest {
            parent: "namespaces/-/applications/-".to_owned(),
            resume_token,
            ..Default::default()
        });
        Self { seen, _tasks: tasks }
    }

    /// What has been seen so far.
    pub fn seen(&self) -> Versions {
        self.seen.lock().expect("no holder of this lock panics").clone()
    }
}

/// Both from the first version on that both have seen: a watch begins with what there is at that moment.
pub fn common_part(one: &Versions, other: &Versions) -> (Versions, Versions) {
    let from = |versions: &Versions, with: &Versions| {
        versions
            .iter()
            .map(|(name, versions)| {
                let first = |seen: &[u64]| seen.first().copied().unwrap_or_default();
                let began = first(versions).max(with.get(name).map_or(0, |other| first(other)));
                (name.clone(), versions.iter().copied().filter(|version| *version >= began).collect())
            })
            .collect()
    };
    (from(one, other), from(other, one))
}
