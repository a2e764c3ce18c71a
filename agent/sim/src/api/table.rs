//! The tables `kubectl get` shows.

use crate::{
    json,
    resource::{ResourceType, pointer_of},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// A `Table` of objects of one kind.
pub fn table(kind: &ResourceType, version: usize, objects: &[Arc<Value>], metadata: Value) -> Value {
    let columns = columns(kind, version);
    let definitions: Vec<Value> = columns
        .iter()
        .map(|(name, _)| json!({"name": name, "type": "string", "format": if *name == "Name" { "name" } else { "" }, "description": "", "priority": 0}))
        .collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells: Vec<Value> = columns.iter().map(|(_, cell)| json!(cell(object))).collect();
            json!({"cells": cells, "object": super::read::metadata_only(object)})
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": definitions, "rows": rows,
    })
}

type Cell = Box<dyn Fn(&Value) -> String>;

fn columns(kind: &ResourceType, version: usize) -> Vec<(String, Cell)> {
    let mut columns: Vec<(String, Cell)> = vec![column("Name", |object| json::name(object).to_owned())];
    for (name, path) in &kind.versions[version].columns {
        let pointer = pointer_of(path);
        let age = name.eq_ignore_ascii_case("age");
        columns.push((
            name.clone(),
            Box::new(move |object| if age { since(json::text(object, &pointer)) } else { plain(object.pointer(&pointer)) }),
        ));
    }
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => {
            columns.push(column("Ready", |pod| {
                let statuses = json::list(pod, "/status/containerStatuses");
                let ready = statuses.iter().filter(|status| json::flag(status, "/ready")).count();
                format!("{ready}/{}", json::list(pod, "/spec/containers").len())
            }));
            columns.push(column("Status", pod_status));
            columns.push(column("Restarts", |pod| {
                let counts = json::list(pod, "/status/containerStatuses").iter();
                counts.filter_map(|status| json::integer(status, "/restartCount")).sum::<i64>().to_string()
            }));
            columns.push(column("Node", |pod| or_none(json::text(pod, "/spec/nodeName"))));
        }
        ("apps", "Deployment" | "StatefulSet" | "ReplicaSet") => {
            columns.push(column("Ready", |object| {
                let ready = json::integer(object, "/status/readyReplicas").unwrap_or(0);
                format!("{ready}/{}", json::integer(object, "/spec/replicas").unwrap_or(0))
            }));
            columns.push(column("Up-to-date", |object| number(object, "/status/updatedReplicas")));
            columns.push(column("Available", |object| number(object, "/status/availableReplicas")));
        }
        ("apps", "DaemonSet") => {
            columns.push(column("Desired", |object| number(object, "/status/desiredNumberScheduled")));
            columns.push(column("Ready", |object| number(object, "/status/numberReady")));
        }
        ("batch", "Job") => {
            columns.push(column("Status", job_status));
            columns.push(column("Completions", |job| {
                let done = json::integer(job, "/status/succeeded").unwrap_or(0);
                format!("{done}/{}", json::integer(job, "/spec/completions").unwrap_or(1))
            }));
        }
        ("", "Service") => {
            columns.push(column("Type", |service| json::text(service, "/spec/type").to_owned()));
            columns.push(column("Cluster-IP", |service| or_none(json::text(service, "/spec/clusterIP"))));
            columns.push(column("Port(s)", |service| {
                let port = |port: &Value| format!("{}/{}", number(port, "/port"), json::text(port, "/protocol"));
                json::list(service, "/spec/ports").iter().map(port).collect::<Vec<_>>().join(",")
            }));
        }
        ("", "Node") => {
            columns.push(column("Status", |node| {
                let ready = if json::condition_is_true(node, "Ready") { "Ready" } else { "NotReady" };
                if json::flag(node, "/spec/unschedulable") { format!("{ready},SchedulingDisabled") } else { ready.to_owned() }
            }));
            columns.push(column("Version", |node| json::text(node, "/status/nodeInfo/kubeletVersion").to_owned()));
        }
        ("", "Namespace") => columns.push(column("Status", |object| json::text(object, "/status/phase").to_owned())),
        ("", "ConfigMap" | "Secret") => {
            columns.push(column("Data", |object| json::entries(object, "/data").count().to_string()));
        }
        ("batch.volcano.sh", "Job") => {
            columns.push(column("Status", |job| json::text(job, "/status/state/phase").to_owned()));
            columns.push(column("MinAvailable", |job| number(job, "/spec/minAvailable")));
            columns.push(column("Running", |job| number(job, "/status/running")));
        }
        _ => {}
    }
    if !columns.iter().any(|(name, _)| name.eq_ignore_ascii_case("age")) {
        columns.push(column("Age", |object| since(json::text(object, "/metadata/creationTimestamp"))));
    }
    columns
}

fn column(name: &str, cell: impl Fn(&Value) -> String + 'static) -> (String, Cell) {
    (name.to_owned(), Box::new(cell))
}

fn number(object: &Value, pointer: &str) -> String {
    json::integer(object, pointer).unwrap_or(0).to_string()
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text.to_owned() }
}

fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn pod_status(pod: &Value) -> String {
    if json::is_deleting(pod) {
        return "Terminating".to_owned();
    }
    for status in json::list(pod, "/status/containerStatuses") {
        for pointer in ["/state/waiting/reason", "/state/terminated/reason"] {
            let reason = json::text(status, pointer);
            if !reason.is_empty() {
                return reason.to_owned();
            }
        }
    }
    json::text(pod, "/status/phase").to_owned()
}

fn job_status(job: &Value) -> String {
    for kind in ["Complete", "Failed", "Suspended"] {
        if json::condition_is_true(job, kind) {
            return kind.to_owned();
        }
    }
    "Running".to_owned()
}

/// The age in the short form of kubectl: seconds, minutes, hours or days.
fn since(time: &str) -> String {
    let Ok(then) = time.parse::<jiff::Timestamp>() else { return "<unknown>".to_owned() };
    let seconds = (jiff::Timestamp::now().as_second() - then.as_second()).max(0);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
