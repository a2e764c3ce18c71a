//! What suites test: policies, and the objects that the evaluator has judged by them.

use anyhow::{Context, Result};
use muster_core::manifest::{parse_documents, parse_value};
use muster_policy_evaluator::{
    Outcome, Policy, PolicyException, Request, Target, Untranslatable, conformance::find_suites, translate_excusing,
    with_api_defaults,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Kinds among the suites' objects that have no namespace.
const CLUSTER_SCOPED: [&str; 4] = ["Namespace", "ClusterRole", "ClusterRoleBinding", "StorageClass"];

/// A policy with the objects of its suite.
pub struct Tested {
    /// The policy's name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// In other words, or why it has none.
    pub translation: Result<Vec<Value>, Vec<String>>,
    /// Each with whether a rule refuses it; `None` where one can't be judged here.
    pub objects: Vec<(Value, Option<bool>)>,
}

/// Everything below the folders, the same policy over the same objects once.
pub fn read(folders: &[PathBuf]) -> Result<Vec<Tested>> {
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    for folder in folders {
        for file in find_suites(folder).with_context(|| folder.display().to_string())? {
            let suite = parse_value(&fs::read_to_string(&file)?).with_context(|| file.display().to_string())?;
            let beside = file.parent().unwrap_or(folder);
            let objects: Vec<Value> = documents(beside, &suite["resources"]).into_iter().map(in_a_namespace).collect();
            let exceptions = documents(beside, &suite["exceptions"]);
            for document in documents(beside, &suite["policies"]) {
                let is_new = seen.insert(json!([document, objects, exceptions]).to_string());
                if let ("ClusterPolicy" | "ValidatingPolicy", true, Ok(policy)) =
                    (text(&document["kind"]), is_new, Policy::parse(&document))
                {
                    all.push(tested(&policy, &objects, &exceptions));
                }
            }
        }
    }
    Ok(all)
}

fn tested(policy: &Policy, objects: &[Value], exceptions: &[Value]) -> Tested {
    let said = |reasons: Vec<Untranslatable>| {
        reasons.into_iter().map(|Untranslatable { rule: _, field, reason }| format!("{field}: {reason}")).collect()
    };
    let excusing: Vec<PolicyException> = exceptions.iter().filter_map(|document| PolicyException::parse(document).ok()).collect();
    Tested {
        name: policy.name().to_owned(),
        kind: text(&policy.document()["kind"]).to_owned(),
        translation: translate_excusing(policy, Target::ValidatingAdmissionPolicy, &exceptions.iter().collect::<Vec<_>>())
            .map_err(said),
        objects: objects.iter().map(|object| (object.clone(), is_refused(policy, object, &excusing))).collect(),
    }
}

fn is_refused(policy: &Policy, object: &Value, exceptions: &[PolicyException]) -> Option<bool> {
    let object = with_api_defaults(object);
    let results = policy.evaluate(&Request { exceptions, ..Request::create(&object) });
    let is_judged = results.iter().all(|result| !matches!(result.outcome, Outcome::NotEvaluated { .. }));
    is_judged.then(|| results.iter().any(|result| matches!(result.outcome, Outcome::Fail { .. } | Outcome::Error { .. })))
}

/// The documents of the files of a list; a file that is missing has none.
fn documents(folder: &Path, files: &Value) -> Vec<Value> {
    let files = files.as_array().into_iter().flatten().filter_map(Value::as_str);
    let texts = files.filter_map(|file| fs::read_to_string(folder.join(file)).ok());
    texts.filter_map(|text| parse_documents(&text).ok()).flatten().map(|document| document.value).collect()
}

fn in_a_namespace(mut object: Value) -> Value {
    if !CLUSTER_SCOPED.contains(&text(&object["kind"])) && text(&object["metadata"]["namespace"]).is_empty() {
        object["metadata"]["namespace"] = json!("default");
    }
    object
}

/// A text, or nothing.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
