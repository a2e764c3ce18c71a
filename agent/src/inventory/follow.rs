//! Keeps the inventory by watching nodes and pods, asking for the kinds of policies, and publishes it when it changed, at most once a second.

use super::{
    policy_kinds::{PolicyKinds, served},
    usage::{Inventory, PodUse, take},
};
use futures::{Stream, StreamExt};
use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two inventories, at least: a gang of a thousand pods is one message, not a thousand.
const PACE: Duration = Duration::from_secs(1);
/// How long changes are gathered before they are published.
const GATHER: Duration = Duration::from_millis(100);

/// The newest inventory; `None` until nodes, pods and kinds have been listed.
pub type Feed = watch::Receiver<Option<Arc<Inventory>>>;

/// Follows nodes and pods until `stop`.
pub async fn follow(client: Client, feed: watch::Sender<Option<Arc<Inventory>>>, stop: CancellationToken) {
    let nodes = watching(&client, "Node", "nodes");
    let pods = watching(&client, "Pod", "pods");
    let kinds = served(client);
    futures::pin_mut!(nodes, pods, kinds);
    let (mut known_nodes, mut known_pods) = (Known::default(), Known::default());
    let mut policy_kinds: Option<PolicyKinds> = None;
    let mut published: Option<Instant> = None;
    let mut changed = false;
    loop {
        let wait = published.map_or(GATHER, |at| PACE.saturating_sub(at.elapsed()).max(GATHER));
        tokio::select! {
            () = stop.cancelled() => return,
            event = nodes.next() => match event {
                Some(event) => changed |= known_nodes.take_in(event, |live| Some(slim_node(live))),
                None => return,
            },
            event = pods.next() => match event {
                Some(event) => changed |= known_pods.take_in(event, PodUse::of),
                None => return,
            },
            Some(served) = kinds.next() => {
                let served = Some(served);
                changed |= served != policy_kinds;
                policy_kinds = served;
            }
            () = tokio::time::sleep(wait), if changed && known_nodes.listed && known_pods.listed && policy_kinds.is_some() => {
                changed = false;
                published = Some(Instant::now());
                let nodes = take(known_nodes.objects.values(), known_pods.objects.values());
                let taken = Arc::new(Inventory { policy_kinds: policy_kinds.clone().unwrap_or_default(), ..nodes });
                feed.send_if_modified(|current| {
                    let differs = current.as_deref() != Some(&*taken);
                    if differs {
                        *current = Some(taken);
                    }
                    differs
                });
            }
        }
    }
}

fn watching(
    client: &Client,
    kind: &str,
    plural: &str,
) -> impl Stream<Item = watcher::Result<watcher::Event<DynamicObject>>> + use<> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", kind), plural);
    watcher(Api::all_with(client.clone(), &resource), watcher::Config::default()).default_backoff()
}

/// Only what an inventory reads of a node; images and addresses change often and mean nothing here.
fn slim_node(live: &Value) -> Value {
    let at = |pointer| live.pointer(pointer).cloned().unwrap_or(Value::Null);
    let conditions: Vec<Value> = crate::domain::object::list(live, "/status/conditions")
        .iter()
        .map(|c| serde_json::json!({"type": c["type"], "status": c["status"]}))
        .collect();
    serde_json::json!({
        "metadata": {"name": at("/metadata/name"), "labels": at("/metadata/labels")},
        "spec": {"unschedulable": at("/spec/unschedulable")},
        "status": {"allocatable": at("/status/allocatable"), "conditions": conditions},
    })
}

struct Known<T> {
    listed: bool,
    objects: BTreeMap<String, T>,
    listing: BTreeMap<String, T>,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { listed: false, objects: BTreeMap::new(), listing: BTreeMap::new() }
    }
}

impl<T: PartialEq> Known<T> {
    /// Takes in an event; whether something changed that matters.
    fn take_in(&mut self, event: watcher::Result<watcher::Event<DynamicObject>>, slim: impl Fn(&Value) -> Option<T>) -> bool {
        let read = |object: DynamicObject| {
            let live = serde_json::to_value(object).expect("an object from the API server serialises");
            let at = |pointer| crate::domain::object::text(&live, pointer).to_owned();
            (format!("{}/{}", at("/metadata/namespace"), at("/metadata/name")), slim(&live))
        };
        match event {
            Err(error) => {
                tracing::debug!(error = %error, "the watch of nodes or pods was interrupted");
                false
            }
            Ok(watcher::Event::Init) => {
                self.listing.clear();
                false
            }
            Ok(watcher::Event::InitApply(object)) => {
                if let (name, Some(slim)) = read(object) {
                    self.listing.insert(name, slim);
                }
                false
            }
            Ok(watcher::Event::InitDone) => {
                let listing = std::mem::take(&mut self.listing);
                let changed = !self.listed || listing != self.objects;
                self.listed = true;
                self.objects = listing;
                changed
            }
            Ok(watcher::Event::Apply(object)) => match read(object) {
                (name, Some(slim)) if self.objects.get(&name) != Some(&slim) => {
                    self.objects.insert(name, slim);
                    true
                }
                (_, Some(_)) => false,
                (name, None) => self.objects.remove(&name).is_some(),
            },
            Ok(watcher::Event::Delete(object)) => self.objects.remove(&read(object).0).is_some(),
        }
    }
}

impl super::Inventory {
    /// The inventory of lists taken once, for a preflight on the command line.
    pub fn of_lists(nodes: &[Value], pods: &[Value]) -> Self {
        let used: Vec<PodUse> = pods.iter().filter_map(PodUse::of).collect();
        take(nodes.iter(), used.iter())
    }
}
