//! What is refused, with which code, reason and causes.

use super::{Scratch, call, config_map, delete, deployment, get, list_cases, patch, post, put};
use anyhow::{Context as _, Result, ensure};
use http::Method;
use kube::Client;
use serde_json::{Value, json};

list_cases![
    a_missing_object_is_404,
    a_taken_name_is_409,
    a_missing_namespace_is_404,
    a_bad_name_is_422,
    missing_and_wrong_fields_are_named,
    a_selector_must_match_its_template,
    what_is_immutable_stays,
    strict_validation_refuses_unknown_fields,
    lenient_validation_drops_unknown_fields,
    a_wrong_type_is_400,
    another_kind_is_400,
    a_method_that_is_not_taken_is_405,
    a_body_that_cannot_be_read_is_refused,
    the_name_in_the_body_is_the_name_in_the_path,
];

fn cause<'a>(status: &'a Value, field: &str) -> Result<&'a Value> {
    let causes = status["details"]["causes"].as_array().context("no causes")?;
    causes.iter().find(|cause| cause["field"] == field).with_context(|| format!("no cause for {field} in {status}"))
}

async fn a_missing_object_is_404(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let path = scratch.path("apps/v1", "deployments/nothing");
    let status = get(&client, &path).await?.refused(404, "NotFound")?;
    ensure!(status["message"] == "deployments.apps \"nothing\" not found", "{status}");
    ensure!(status["details"] == json!({"name": "nothing", "group": "apps", "kind": "deployments"}), "{status}");
    delete(&client, &path, None).await?.refused(404, "NotFound")?;
    put(&client, &path, &deployment("nothing")).await?.refused(404, "NotFound")?;
    patch(&client, &path, super::MERGE, &json!({"spec": {}})).await?.refused(404, "NotFound")?;
    Ok(())
}

async fn a_taken_name_is_409(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    scratch.config_map("a", "1").await?;
    let status = post(&client, &scratch.path("v1", "configmaps"), &config_map("a", "2")).await?.refused(409, "AlreadyExists")?;
    ensure!(status["message"] == "configmaps \"a\" already exists", "{status}");
    Ok(())
}

async fn a_missing_namespace_is_404(client: Client) -> Result<()> {
    let path = "/api/v1/namespaces/contract-nowhere/configmaps";
    let status = post(&client, path, &config_map("a", "1")).await?.refused(404, "NotFound")?;
    ensure!(status["message"] == "namespaces \"contract-nowhere\" not found", "{status}");
    let list = get(&client, path).await?.expect(200)?;
    ensure!(list["items"] == json!([]), "a list of nowhere is empty: {list}");
    Ok(())
}

async fn a_bad_name_is_422(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    for name in ["Upper", "under_score", "-dash", "dot..dot"] {
        let status = post(&client, &scratch.path("v1", "configmaps"), &config_map(name, "1")).await?.refused(422, "Invalid")?;
        ensure!(cause(&status, "metadata.name")?["reason"] == "FieldValueInvalid", "{status}");
        ensure!(status["details"]["kind"] == "ConfigMap" && status["details"]["name"] == name, "{status}");
    }
    let long = config_map(&"a".repeat(254), "1");
    post(&client, &scratch.path("v1", "configmaps"), &long).await?.refused(422, "Invalid")?;
    let nameless = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}});
    let status = post(&client, &scratch.path("v1", "configmaps"), &nameless).await?.refused(422, "Invalid")?;
    ensure!(cause(&status, "metadata.name")?["reason"] == "FieldValueRequired", "{status}");
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "with.dot"}});
    post(&client, "/api/v1/namespaces", &namespace).await?.refused(422, "Invalid")?;
    Ok(())
}

async fn missing_and_wrong_fields_are_named(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let path = scratch.path("apps/v1", "deployments");
    let mut body = deployment("a");
    body["spec"]["replicas"] = json!(-1);
    body["spec"]["template"]["spec"]["containers"][0]["image"] = json!("");
    body["metadata"]["labels"] = json!({"a": "not a label"});
    let status = post(&client, &path, &body).await?.refused(422, "Invalid")?;
    for field in ["spec.replicas", "spec.template.spec.containers[0].image", "metadata.labels"] {
        cause(&status, field)?;
    }
    let mut body = deployment("a");
    body["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    let status = post(&client, &path, &body).await?.refused(422, "Invalid")?;
    ensure!(cause(&status, "spec.template.spec.restartPolicy")?["reason"] == "FieldValueNotSupported", "{status}");
    let mut body = deployment("a");
    body["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}});
    let status = post(&client, &path, &body).await?.refused(422, "Invalid")?;
    cause(&status, "spec.template.spec.containers[0].resources.requests")?;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"selector": {"a": "b"}}});
    let status = post(&client, &scratch.path("v1", "services"), &service).await?.refused(422, "Invalid")?;
    ensure!(cause(&status, "spec.ports")?["reason"] == "FieldValueRequired", "{status}");
    Ok(())
}

async fn a_selector_must_match_its_template(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let mut body = deployment("a");
    body["spec"]["selector"] = json!({"matchLabels": {"app": "other"}});
    let status = post(&client, &scratch.path("apps/v1", "deployments"), &body).await?.refused(422, "Invalid")?;
    let found = cause(&status, "spec.template.metadata.labels")?;
    ensure!(
        found["message"].as_str().is_some_and(|text| text.contains("`selector` does not match template `labels`")),
        "{status}"
    );
    Ok(())
}

async fn what_is_immutable_stays(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let mut body = deployment("a");
    post(&client, &scratch.path("apps/v1", "deployments"), &body).await?.expect(201)?;
    body["spec"]["selector"] = json!({"matchLabels": {"app": "b"}});
    body["spec"]["template"]["metadata"]["labels"] = json!({"app": "b"});
    let status = put(&client, &scratch.path("apps/v1", "deployments/a"), &body).await?.refused(422, "Invalid")?;
    ensure!(
        cause(&status, "spec.selector")?["message"].as_str().is_some_and(|text| text.contains("field is immutable")),
        "{status}"
    );
    let fixed =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "f"}, "data": {"a": "1"}, "immutable": true});
    post(&client, &scratch.path("v1", "configmaps"), &fixed).await?.expect(201)?;
    let change = json!({"data": {"a": "2"}});
    patch(&client, &scratch.path("v1", "configmaps/f"), super::MERGE, &change).await?.refused(422, "Invalid")?;
    Ok(())
}

fn with_unknown(name: &str) -> Value {
    let mut body = deployment(name);
    body["spec"]["replica"] = json!(1);
    body["spec"]["template"]["spec"]["containers"][0]["imagee"] = json!("x");
    body
}

async fn strict_validation_refuses_unknown_fields(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let path = scratch.path("apps/v1", "deployments?fieldValidation=Strict");
    let status = post(&client, &path, &with_unknown("a")).await?.refused(400, "BadRequest")?;
    let message = status["message"].as_str().unwrap_or("");
    ensure!(message.contains("strict decoding error"), "{status}");
    ensure!(message.contains("unknown field \"spec.replica\""), "{status}");
    ensure!(message.contains("unknown field \"spec.template.spec.containers[0].imagee\""), "{status}");
    post(&client, &scratch.path("apps/v1", "deployments?fieldValidation=Strict"), &deployment("a")).await?.expect(201)?;
    let strict = scratch.path("apps/v1", "deployments/a?fieldValidation=Strict");
    let patched = patch(&client, &strict, super::MERGE, &json!({"spec": {"replica": 1}})).await?;
    ensure!(patched.code >= 400, "a strict patch took an unknown field");
    for (api_version, plural, body, field) in [
        ("v1", "configmaps", json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "dat": {}}), "dat"),
        (
            "v1",
            "services",
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 1, "prot": "x"}]}}),
            "spec.ports[0].prot",
        ),
        (
            "batch/v1",
            "jobs",
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": {"retries": 1, "template": {"spec": {}}}}),
            "spec.retries",
        ),
    ] {
        let path = scratch.path(api_version, &format!("{plural}?fieldValidation=Strict"));
        let status = post(&client, &path, &body).await?.refused(400, "BadRequest")?;
        ensure!(status["message"].as_str().is_some_and(|text| text.contains(&format!("unknown field \"{field}\""))), "{status}");
    }
    Ok(())
}

async fn lenient_validation_drops_unknown_fields(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let warned = post(&client, &scratch.path("apps/v1", "deployments"), &with_unknown("a")).await?;
    ensure!(warned.warnings.iter().any(|text| text.contains("unknown field \\\"spec.replica\\\"")), "{:?}", warned.warnings);
    let made = warned.expect(201)?;
    ensure!(made["spec"]["replica"].is_null(), "{made}");
    let quiet = post(&client, &scratch.path("apps/v1", "deployments?fieldValidation=Ignore"), &with_unknown("b")).await?;
    ensure!(quiet.warnings.is_empty(), "{:?}", quiet.warnings);
    quiet.expect(201)?;
    post(&client, &scratch.path("apps/v1", "deployments?fieldValidation=Never"), &with_unknown("c"))
        .await?
        .refused(422, "Invalid")?;
    Ok(())
}

async fn a_wrong_type_is_400(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let mut body = deployment("a");
    body["spec"]["replicas"] = json!("three");
    post(&client, &scratch.path("apps/v1", "deployments"), &body).await?.refused(400, "BadRequest")?;
    Ok(())
}

async fn another_kind_is_400(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    post(&client, &scratch.path("apps/v1", "deployments"), &config_map("a", "1")).await?.refused(400, "BadRequest")?;
    let mut elsewhere = config_map("a", "1");
    elsewhere["metadata"]["namespace"] = json!("default");
    post(&client, &scratch.path("v1", "configmaps"), &elsewhere).await?.refused(400, "BadRequest")?;
    Ok(())
}

async fn a_method_that_is_not_taken_is_405(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    scratch.config_map("a", "1").await?;
    let one = scratch.path("v1", "configmaps/a");
    call(&client, Method::POST, &one, Some((super::JSON, &config_map("a", "1")))).await?.refused(405, "MethodNotAllowed")?;
    let all = scratch.path("v1", "configmaps");
    call(&client, Method::PUT, &all, Some((super::JSON, &config_map("a", "1")))).await?.refused(405, "MethodNotAllowed")?;
    Ok(())
}

async fn a_body_that_cannot_be_read_is_refused(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    let path = scratch.path("v1", "configmaps");
    call(&client, Method::POST, &path, Some(("text/csv", &json!({})))).await?.refused(415, "UnsupportedMediaType")?;
    scratch.config_map("a", "1").await?;
    let one = scratch.path("v1", "configmaps/a");
    call(&client, Method::PATCH, &one, Some(("text/csv", &json!({})))).await?.refused(415, "UnsupportedMediaType")?;
    ensure!(call(&client, Method::POST, &path, Some((super::JSON, &json!("text")))).await?.code == 400, "a text is no object");
    Ok(())
}

async fn the_name_in_the_body_is_the_name_in_the_path(client: Client) -> Result<()> {
    let scratch = Scratch::new(&client).await?;
    scratch.config_map("a", "1").await?;
    let status = put(&client, &scratch.path("v1", "configmaps/a"), &config_map("b", "1")).await?.refused(400, "BadRequest")?;
    ensure!(status["message"].as_str().is_some_and(|text| text.contains("does not match the name on the URL")), "{status}");
    Ok(())
}
