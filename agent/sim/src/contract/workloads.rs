//! What the controllers make of workloads, as far as no pod has to run for it.

use super::{MERGE, Scratch, delete, deployment, eventually, get, gone, list_cases, patch, post};
use anyhow::{Context as _, Result, ensure};
use kube::Client;
use serde_json::{Value, json};

list_cases![
    a_deployment_makes_a_replica_set_and_pods,
    a_new_template_makes_a_new_replica_set,
    a_deleted_deployment_takes_its_pods_along,
    a_job_gets_its_selector_and_makes_pods,
    the_template_of_a_job_is_fixed_and_its_deadline_is_not,
    a_suspended_job_has_no_pods,
    a_job_of_failures_is_told_from_its_deadline,
];

async fn items(client: &Client, path: &str) -> Result<Vec<Value>> {
    Ok(get(client, path).await?.expect(200)?["items"].as_array().cloned().unwrap_or_default())
}

async fn some(client: &Client, path: &str, count: usize) -> Result<Vec<Value>> {
    eventually(&format!("{count} objects at {path}"), || async {
        let found = items(client, path).await?;
        Ok((found.len() == count).then_some(found))
    })
    .await
}

async fn a_deployment_makes_a_replica_set_and_pods(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let mut body = deployment("a");
    body["spec"]["replicas"] = json!(2);
    let made = post(&client, &scratch.path("apps/v1", "deployments"), &body).await?.expect(201)?;
    let sets = some(&client, &scratch.path("apps/v1", "replicasets"), 1).await?;
    let owner = &sets[0]["metadata"]["ownerReferences"][0];
    ensure!(owner["kind"] == "Deployment" && owner["uid"] == made["metadata"]["uid"] && owner["controller"] == true, "{owner}");
    let hash = sets[0]["metadata"]["labels"]["pod-template-hash"].as_str().context("no pod-template-hash")?;
    ensure!(sets[0]["metadata"]["name"] == format!("a-{hash}"), "{}", sets[0]["metadata"]);
    ensure!(sets[0]["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1", "{}", sets[0]["metadata"]);
    let pods = some(&client, &scratch.path("v1", "pods?labelSelector=app%3Da"), 2).await?;
    for pod in &pods {
        ensure!(pod["metadata"]["ownerReferences"][0]["uid"] == sets[0]["metadata"]["uid"], "{pod}");
        ensure!(pod["metadata"]["labels"]["pod-template-hash"] == hash, "{pod}");
        ensure!(pod["spec"]["serviceAccountName"] == "default" && pod["metadata"]["generation"] == 1, "{pod}");
    }
    eventually("the status to follow", || async {
        let found = get(&client, &scratch.path("apps/v1", "deployments/a")).await?.expect(200)?;
        let status = &found["status"];
        Ok((status["observedGeneration"] == 1 && status["replicas"] == 2 && status["updatedReplicas"] == 2).then_some(()))
    })
    .await
}

async fn a_new_template_makes_a_new_replica_set(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    post(&client, &scratch.path("apps/v1", "deployments"), &deployment("a")).await?.expect(201)?;
    let sets = scratch.path("apps/v1", "replicasets");
    some(&client, &sets, 1).await?;
    let path = scratch.path("apps/v1", "deployments/a");
    let change = json!({"spec": {"template": {"metadata": {"annotations": {"changed": "yes"}}}}});
    patch(&client, &path, MERGE, &change).await?.expect(200)?;
    some(&client, &sets, 2).await?;
    // Back to the first template: its set is taken up again, with the highest revision.
    let back = json!({"spec": {"template": {"metadata": {"annotations": null}}}});
    patch(&client, &path, MERGE, &back).await?.expect(200)?;
    eventually("the first set to be the newest", || async {
        let found = items(&client, &sets).await?;
        let revisions: Vec<&str> =
            found.iter().filter_map(|set| set["metadata"]["annotations"]["deployment.kubernetes.io/revision"].as_str()).collect();
        Ok((revisions.len() == 2 && revisions.contains(&"3") && revisions.contains(&"2")).then_some(()))
    })
    .await
}

async fn a_deleted_deployment_takes_its_pods_along(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    post(&client, &scratch.path("apps/v1", "deployments"), &deployment("a")).await?.expect(201)?;
    some(&client, &scratch.path("apps/v1", "replicasets"), 1).await?;
    delete(&client, &scratch.path("apps/v1", "deployments/a"), Some(json!({"propagationPolicy": "Foreground"})))
        .await?
        .expect(200)?;
    gone(&client, &scratch.path("apps/v1", "deployments/a")).await?;
    some(&client, &scratch.path("apps/v1", "replicasets"), 0).await.map(drop)
}

fn job(name: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"template": {"spec": {
            "restartPolicy": "Never", "nodeSelector": {"example.com/nowhere": "yes"},
            "containers": [{"name": "main", "image": "registry.example.com/main:v1"}],
        }}},
    })
}

async fn a_job_gets_its_selector_and_makes_pods(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let mut body = job("a");
    body["spec"]["parallelism"] = json!(2);
    body["spec"]["completions"] = json!(4);
    let made = post(&client, &scratch.path("batch/v1", "jobs"), &body).await?.expect(201)?;
    let uid = made["metadata"]["uid"].as_str().context("no uid")?;
    ensure!(made["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"] == uid, "{made}");
    ensure!(made["spec"]["backoffLimit"] == 6 && made["spec"]["completionMode"] == "NonIndexed", "{made}");
    let pods = some(&client, &scratch.path("v1", "pods?labelSelector=batch.kubernetes.io/job-name%3Da"), 2).await?;
    ensure!(pods[0]["metadata"]["ownerReferences"][0]["uid"] == uid, "{}", pods[0]);
    eventually("the status to count", || async {
        let found = get(&client, &scratch.path("batch/v1", "jobs/a")).await?.expect(200)?;
        Ok((found["status"]["active"] == 2 && found["status"]["startTime"].is_string()).then_some(()))
    })
    .await
}

async fn the_template_of_a_job_is_fixed_and_its_deadline_is_not(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    post(&client, &scratch.path("batch/v1", "jobs"), &job("a")).await?.expect(201)?;
    let path = scratch.path("batch/v1", "jobs/a");
    eventually("the job to start", || async {
        Ok(get(&client, &path).await?.expect(200)?["status"]["startTime"].is_string().then_some(()))
    })
    .await?;
    let template = json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}});
    let status = patch(&client, &path, MERGE, &template).await?.refused(422, "Invalid")?;
    ensure!(status["message"].as_str().is_some_and(|text| text.contains("field is immutable")), "{status}");
    for seconds in [600, 300, 900] {
        let after = patch(&client, &path, MERGE, &json!({"spec": {"activeDeadlineSeconds": seconds}})).await?.expect(200)?;
        ensure!(after["spec"]["activeDeadlineSeconds"] == seconds, "{after}");
    }
    let mut always = job("b");
    always["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
    post(&client, &scratch.path("batch/v1", "jobs"), &always).await?.refused(422, "Invalid")?;
    Ok(())
}

async fn a_suspended_job_has_no_pods(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let mut body = job("a");
    body["spec"]["suspend"] = json!(true);
    post(&client, &scratch.path("batch/v1", "jobs"), &body).await?.expect(201)?;
    let path = scratch.path("batch/v1", "jobs/a");
    let condition = |wanted: &'static str| {
        let (client, path) = (client.clone(), path.clone());
        eventually("the condition", move || {
            let (client, path) = (client.clone(), path.clone());
            async move {
                let found = get(&client, &path).await?.expect(200)?;
                let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
                Ok(conditions.iter().any(|one| one["type"] == "Suspended" && one["status"] == wanted).then_some(()))
            }
        })
    };
    condition("True").await?;
    let pods = scratch.path("v1", "pods?labelSelector=batch.kubernetes.io/job-name%3Da");
    ensure!(items(&client, &pods).await?.is_empty(), "a suspended job made pods");
    patch(&client, &path, MERGE, &json!({"spec": {"suspend": false}})).await?.expect(200)?;
    some(&client, &pods, 1).await?;
    condition("False").await
}

async fn a_job_of_failures_is_told_from_its_deadline(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let mut body = job("a");
    body["spec"]["activeDeadlineSeconds"] = json!(1);
    post(&client, &scratch.path("batch/v1", "jobs"), &body).await?.expect(201)?;
    let path = scratch.path("batch/v1", "jobs/a");
    let failed = eventually("the deadline", || async {
        let found = get(&client, &path).await?.expect(200)?;
        let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
        Ok(conditions.into_iter().find(|one| one["type"] == "Failed" && one["status"] == "True"))
    })
    .await?;
    ensure!(failed["reason"] == "DeadlineExceeded", "{failed}");
    let running = || async {
        let pods = items(&client, &scratch.path("v1", "pods?labelSelector=batch.kubernetes.io/job-name%3Da")).await?;
        let active = pods.iter().filter(|pod| !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")));
        Ok((active.count() == 0).then_some(()))
    };
    eventually("the pods to end", running).await
}
