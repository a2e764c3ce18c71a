//! Watches: the changes of a kind after a resource version as a stream of lines, with bookmarks, and 410 where the
//! version is older than what is kept.

use super::{
    read::{Selection, metadata_only},
    request::{Query, View},
    table,
};
use crate::{body::present, cluster::Inner, json, state::Target, status::ApiError, store::Change};
use axum::body::Body;
use bytes::Bytes;
use serde_json::{Value, json};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

struct Watch {
    cluster: Arc<Inner>,
    target: Target,
    selection: Selection,
    view: View,
    cursor: u64,
    pending: VecDeque<Bytes>,
    changed: watch::Receiver<u64>,
    ends: Instant,
    /// A bookmark a little before the end spares the next watch what this one has seen.
    last_bookmark: Option<Instant>,
    bookmarks: Option<tokio::time::Interval>,
    cut: CancellationToken,
    over: bool,
}

/// A watch that says nothing about its end lasts this long, as the API server's own do (30 to 60 minutes).
const DEFAULT_SECONDS: u64 = 1_800;

/// The last bookmark comes this long before the end, as in the API server.
const BEFORE_THE_END: Duration = Duration::from_secs(2);

/// Starts the watch a request asks for.
pub fn start(cluster: &Arc<Inner>, target: &Target, query: &Query, view: View) -> Result<Body, ApiError> {
    let selection = Selection::parse(query, target)?;
    let revision = query.number("resourceVersion")?;
    let bookmarks = query.flag("allowWatchBookmarks");
    let initial = query.flag("sendInitialEvents") && query.get("sendInitialEvents").is_some();
    if initial && query.get("resourceVersionMatch") != Some("NotOlderThan") {
        let error = crate::status::FieldError::forbidden(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        );
        return Err(ApiError::invalid("meta.k8s.io", "ListOptions", "", &[error]));
    }
    let seconds = query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0).unwrap_or(DEFAULT_SECONDS);
    let every = Duration::from_millis(cluster.config.delays.bookmark_ms);
    let mut state = cluster.lock();
    let mut watch = Watch {
        cluster: Arc::clone(cluster),
        target: target.clone(),
        selection,
        view,
        cursor: revision.unwrap_or(0),
        pending: VecDeque::new(),
        changed: state.store.watch(&target.resource()),
        ends: Instant::now() + Duration::from_secs(seconds),
        last_bookmark: bookmarks.then(|| Instant::now() + Duration::from_secs(seconds).saturating_sub(BEFORE_THE_END)),
        bookmarks: bookmarks.then(|| tokio::time::interval_at(Instant::now() + every, every)),
        cut: cluster.connection(),
        over: false,
    };
    if watch.cursor == 0 || initial {
        watch.cursor = state.store.revision();
        for object in state.store.list(&target.resource(), &target.namespace) {
            if watch.selection.selects(object) {
                let line = watch.line("ADDED", object);
                watch.pending.push_back(line);
            }
        }
        if initial && bookmarks {
            let mut bookmark = watch.bookmark();
            json::set(&mut bookmark, &["object", "metadata", "annotations"], json!({"k8s.io/initial-events-end": "true"}));
            watch.pending.push_back(encode(&bookmark));
        }
    }
    drop(state);
    Ok(Body::from_stream(futures::stream::unfold(watch, |mut watch| async {
        let next = watch.next().await?;
        Some((next, watch))
    })))
}

fn encode(event: &Value) -> Bytes {
    let mut line = event.to_string().into_bytes();
    line.push(b'\n');
    Bytes::from(line)
}

impl Watch {
    async fn next(&mut self) -> Option<Result<Bytes, std::io::Error>> {
        loop {
            if let Some(line) = self.pending.pop_front() {
                return Some(Ok(line));
            }
            if self.over {
                return None;
            }
            self.changed.borrow_and_update();
            self.collect();
            if !self.pending.is_empty() {
                continue;
            }
            let bookmark = async {
                match &mut self.bookmarks {
                    Some(bookmarks) => drop(bookmarks.tick().await),
                    None => std::future::pending().await,
                }
            };
            let last_bookmark = async {
                match self.last_bookmark {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.cut.cancelled() => {
                    self.over = true;
                    return Some(Err(std::io::Error::other("the connection was cut")));
                }
                changed = self.changed.changed() => self.over = changed.is_err(),
                () = tokio::time::sleep_until(self.ends) => self.over = true,
                () = last_bookmark => {
                    self.last_bookmark = None;
                    self.pending.push_back(encode(&self.bookmark()));
                }
                () = bookmark => self.pending.push_back(encode(&self.bookmark())),
            }
        }
    }

    /// Takes over what has changed since the cursor.
    fn collect(&mut self) {
        let cluster = Arc::clone(&self.cluster);
        let state = cluster.lock();
        let resource = self.target.resource();
        match state.store.changes_since(&resource, self.cursor) {
            Err(compacted) => {
                let error = ApiError::expired(format!("too old resource version: {} ({compacted})", self.cursor));
                self.pending.push_back(encode(&json!({"type": "ERROR", "object": error.to_status()})));
                self.over = true;
            }
            Ok(changes) => {
                let lines: Vec<Bytes> = changes.filter_map(|change| self.event(change)).collect();
                self.pending.extend(lines);
                self.cursor = state.store.revision().max(self.cursor);
            }
        }
    }

    fn event(&self, change: &Change) -> Option<Bytes> {
        if !self.target.namespace.is_empty() && change.key.namespace != self.target.namespace {
            return None;
        }
        let before = change.before.as_ref().filter(|before| self.selection.selects(before));
        let after = Some(&change.after).filter(|after| !change.removed && self.selection.selects(after));
        match (before, after) {
            (None, None) => None,
            (None, Some(after)) => Some(self.line("ADDED", after)),
            (Some(_), Some(after)) => Some(self.line("MODIFIED", after)),
            (Some(_), None) if change.removed => Some(self.line("DELETED", &change.after)),
            (Some(before), None) => {
                let mut last = (**before).clone();
                json::set(&mut last, &["metadata", "resourceVersion"], json!(change.revision.to_string()));
                Some(self.line("DELETED", &Arc::new(last)))
            }
        }
    }

    fn line(&self, kind: &str, object: &Arc<Value>) -> Bytes {
        let object = match self.view {
            View::Object => present(&self.target.kind, self.target.version, object),
            View::Metadata => metadata_only(object),
            View::Table => {
                let metadata = json!({"resourceVersion": json::text(object, "/metadata/resourceVersion")});
                table::table(&self.target.kind, self.target.version, std::slice::from_ref(object), metadata)
            }
        };
        encode(&json!({"type": kind, "object": object}))
    }

    fn bookmark(&self) -> Value {
        let (kind, api_version) = match self.view {
            View::Object => (self.target.kind.kind.clone(), self.target.api_version()),
            View::Metadata => ("PartialObjectMetadata".to_owned(), "meta.k8s.io/v1".to_owned()),
            View::Table => ("Table".to_owned(), "meta.k8s.io/v1".to_owned()),
        };
        let metadata = json!({"resourceVersion": self.cursor.to_string(), "creationTimestamp": null});
        json!({"type": "BOOKMARK", "object": {"kind": kind, "apiVersion": api_version, "metadata": metadata}})
    }
}
