//! A small controller of Volcano's `Job` and `Queue` for real clusters, where Volcano's own can't be built: it opens queues,
//! makes the pods of every task, and writes the phases that follow from them. The cluster's own scheduler binds the pods; placing a gang whole is
//! Muster's business.

use std::time::Duration;

use crate::cluster_api::ClusterApi;
use anyhow::Result;
use serde_json::{Value, json};

/// Between two looks at all jobs.
const EVERY: Duration = Duration::from_millis(200);

/// Follows the jobs of a cluster for as long as it is polled. An error is one of this round: the next looks again; the same one
/// is said once.
pub async fn run(api: ClusterApi) {
    let mut last = String::new();
    loop {
        let error = round(&api).await.err().map_or_else(String::new, |error| format!("{error:#}"));
        if !error.is_empty() && error != last {
            eprintln!("the controller of Volcano's jobs: {error}");
        }
        last = error;
        tokio::time::sleep(EVERY).await;
    }
}

async fn round(api: &ClusterApi) -> Result<()> {
    for queue in api.list("/apis/scheduling.volcano.sh/v1beta1/queues").await? {
        if queue["status"]["state"] != "Open" {
            let name = queue["metadata"]["name"].as_str().unwrap_or_default();
            let path = format!("/apis/scheduling.volcano.sh/v1beta1/queues/{name}/status");
            api.merge(&path, &json!({"status": {"state": "Open"}})).await?;
        }
    }
    let jobs = api.list("/apis/batch.volcano.sh/v1alpha1/jobs").await?;
    if jobs.is_empty() {
        return Ok(());
    }
    let pods = api.list("/api/v1/pods").await?;
    for job in jobs.iter().filter(|job| job["metadata"]["deletionTimestamp"].is_null()) {
        let uid = &job["metadata"]["uid"];
        let own: Vec<&Value> = pods.iter().filter(|pod| pod["metadata"]["ownerReferences"][0]["uid"] == *uid).collect();
        follow(api, job, &own).await?;
    }
    Ok(())
}

/// Moves one job on.
async fn follow(api: &ClusterApi, job: &Value, pods: &[&Value]) -> Result<()> {
    let phase = job["status"]["state"]["phase"].as_str().unwrap_or("");
    if matches!(phase, "Completed" | "Failed") {
        return Ok(());
    }
    let wanted = replicas(job);
    for pod in &wanted {
        if !pods.iter().any(|known| known["metadata"]["name"] == pod["metadata"]["name"]) {
            let namespace = job["metadata"]["namespace"].as_str().unwrap_or_default();
            api.create(&format!("/api/v1/namespaces/{namespace}/pods"), pod).await?;
        }
    }
    // Of a task that has fewer replicas by now, those with the highest numbers go.
    let is_wanted = |pod: &Value| wanted.iter().any(|known| known["metadata"]["name"] == pod["metadata"]["name"]);
    for pod in pods.iter().filter(|pod| !is_wanted(pod) && pod["metadata"]["deletionTimestamp"].is_null()) {
        let [namespace, name] = ["namespace", "name"].map(|field| pod["metadata"][field].as_str().unwrap_or_default());
        api.delete(&format!("/api/v1/namespaces/{namespace}/pods/{name}")).await?;
    }
    let count = |wanted: &str| pods.iter().filter(|pod| pod["status"]["phase"] == wanted).count();
    let (running, succeeded, failed) = (count("Running"), count("Succeeded"), count("Failed"));
    let least = job["spec"]["minAvailable"].as_u64().unwrap_or(1) as usize;
    let next = match phase {
        _ if failed > 0 => "Failed",
        _ if succeeded == wanted.len() => "Completed",
        "Running" => "Running",
        _ if running + succeeded >= least => "Running",
        _ => "Pending",
    };
    let mut status = json!({"state": job["status"]["state"], "conditions": job["status"]["conditions"]});
    if next != phase {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        status["state"] = json!({"phase": next, "lastTransitionTime": now});
        let mut conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.push(json!({"status": next, "lastTransitionTime": now}));
        status["conditions"] = conditions.into();
    }
    for (name, number) in [("pending", count("Pending")), ("running", running), ("succeeded", succeeded), ("failed", failed)] {
        status[name] = json!(number);
    }
    status["minAvailable"] = json!(least);
    if status != job["status"] {
        let [namespace, name] = ["namespace", "name"].map(|field| job["metadata"][field].as_str().unwrap_or_default());
        let path = format!("/apis/batch.volcano.sh/v1alpha1/namespaces/{namespace}/jobs/{name}/status");
        // A job that was deleted in the meantime has no status any more.
        if api.find(&path).await?.is_some() {
            api.merge(&path, &json!({"status": status})).await?;
        }
    }
    Ok(())
}

/// The pods a job wants.
fn replicas(job: &Value) -> Vec<Value> {
    let text = |pointer: &str| job.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (name, namespace) = (text("/metadata/name"), text("/metadata/namespace"));
    let owner = json!({
        "apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    });
    let mut pods = Vec::new();
    for task in job["spec"]["tasks"].as_array().into_iter().flatten() {
        let task_name = task["name"].as_str().unwrap_or_default();
        for index in 0..task["replicas"].as_u64().unwrap_or(1) {
            let mut pod = task["template"].clone();
            pod["apiVersion"] = json!("v1");
            pod["kind"] = json!("Pod");
            pod["metadata"]["name"] = json!(format!("{name}-{task_name}-{index}"));
            pod["metadata"]["namespace"] = json!(namespace);
            pod["metadata"]["ownerReferences"] = json!([owner]);
            pod["metadata"]["labels"]["volcano.sh/job-name"] = json!(name);
            pod["metadata"]["labels"]["volcano.sh/queue-name"] = json!(text("/spec/queue"));
            pod["metadata"]["annotations"]["volcano.sh/task-spec"] = json!(task_name);
            pod["spec"]["schedulerName"] = json!("default-scheduler");
            pods.push(pod);
        }
    }
    pods
}
