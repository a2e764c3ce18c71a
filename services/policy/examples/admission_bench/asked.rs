//! A policy's objects, one after another, while the API server holds the policy.

use crate::{
    api::Api,
    suites::{Tested, text},
};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::{
    fmt,
    time::{Duration, Instant},
};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const ASKS_WITHIN: Duration = Duration::from_secs(60);

/// How many objects were judged, and how.
#[derive(Default)]
pub struct Counts {
    /// Policies put in.
    policies: usize,
    passed: usize,
    refused: usize,
    pub differing: usize,
    /// Of a kind that is not served, or refused by something else.
    left_out: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policies: _, passed, refused, differing, left_out } = self;
        write!(
            f,
            "{} objects judged alike ({passed} passed, {refused} refused), {differing} otherwise; {left_out} that the API server \
             does not serve or has other objections to",
            passed + refused
        )
    }
}

/// Puts the policy in, asks about its objects, and takes it out.
pub async fn ask(api: &mut Api, tested: &Tested, documents: &[Value], counts: &mut Counts) -> Result<()> {
    counts.policies += 1;
    // Of a name of its own, since the API server still asks the one before for a while.
    let sentinel = format!("muster-bench-sentinel-{}", counts.policies);
    let documents: Vec<Value> = documents.iter().cloned().map(denying).chain(refusing(&sentinel)).collect();
    let answered = put_in_and_ask(api, tested, &documents, &sentinel, counts).await;
    for document in &documents {
        api.call("DELETE", &path_of(document, text(&document["metadata"]["name"])), None).await?;
    }
    answered
}

async fn put_in_and_ask(api: &mut Api, tested: &Tested, documents: &[Value], sentinel: &str, counts: &mut Counts) -> Result<()> {
    for document in documents {
        let (code, answer) = api.call("POST", &path_of(document, ""), Some(document)).await?;
        ensure!(code == 201, "{} is answered with {code}: {}", document["metadata"]["name"], text(&answer["message"]));
    }
    let config_map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": sentinel}});
    let began = Instant::now();
    while api.call("POST", "/api/v1/namespaces/default/configmaps?dryRun=All", Some(&config_map)).await?.0 == 201 {
        ensure!(began.elapsed() < ASKS_WITHIN, "the API server asks no policies");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (object, expected) in &tested.objects {
        let (Some(expected), Some(path)) = (expected, api.collection_of(object).await?) else {
            counts.left_out += 1;
            continue;
        };
        let (code, answer) = api.call("POST", &format!("{path}?dryRun=All"), Some(object)).await?;
        let message = text(&answer["message"]);
        let is_refused = message.contains("ValidatingAdmissionPolicy");
        match (code, is_refused) {
            (201, _) | (_, true) if is_refused != *expected => {
                counts.differing += 1;
                let word = |refused: bool| if refused { "refused" } else { "passed" };
                let [kind, name] = ["/kind", "/metadata/name"].map(|at| object.pointer(at).map_or("", text));
                println!("    {} on {kind} {name}: {} here, {} there {message}", tested.name, word(*expected), word(is_refused));
            }
            (201, _) => counts.passed += 1,
            (_, true) => counts.refused += 1,
            (_, false) => counts.left_out += 1,
        }
    }
    Ok(())
}

/// The document, a binding so that it refuses whatever it would do otherwise.
fn denying(mut document: Value) -> Value {
    if document["kind"] == "ValidatingAdmissionPolicyBinding" {
        document["spec"]["validationActions"] = json!(["Deny"]);
    }
    document
}

/// A policy that refuses the ConfigMap of its name. Put in last: when it refuses, the others are asked too.
fn refusing(name: &str) -> [Value; 2] {
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}]);
    let validation = json!({"expression": format!("object.metadata.name != '{name}'"), "message": "the policies are asked"});
    let document = |kind: &str, spec: Value| json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    [
        document("ValidatingAdmissionPolicy", json!({"matchConstraints": {"resourceRules": rules}, "validations": [validation]})),
        document("ValidatingAdmissionPolicyBinding", json!({"policyName": name, "validationActions": ["Deny"]})),
    ]
}

fn path_of(document: &Value, name: &str) -> String {
    let collection = format!(
        "{GROUP}/{}",
        if text(&document["kind"]).ends_with("Binding") {
            "validatingadmissionpolicybindings"
        } else {
            "validatingadmissionpolicies"
        }
    );
    if name.is_empty() { collection } else { format!("{collection}/{name}") }
}
