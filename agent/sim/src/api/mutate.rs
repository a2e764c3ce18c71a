//! The requests that change something: read, carried out under the lock, and written into the audit log whatever came of
//! them.

use super::{
    read::Selection,
    request::{Query, View},
    scale,
};
use crate::{
    cluster::Inner,
    delete::{DeleteOptions, Propagation},
    json,
    state::{Actor, Outcome, State, Target},
    status::{ApiError, FieldError},
    write::{Patch, WriteOptions, Written},
};
use http::{HeaderMap, Method, header};
use serde_json::{Value, json};
use std::sync::Arc;

/// An answer to a write.
#[derive(Debug)]
pub struct Answer {
    /// 200 or 201.
    pub code: u16,
    /// The object, the list or the status.
    pub body: Value,
    /// For the `Warning` headers.
    pub warnings: Vec<String>,
}

/// A request that changes something.
#[derive(Debug)]
pub struct Change<'a> {
    /// POST, PUT, PATCH or DELETE.
    pub method: Method,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its query.
    pub query: &'a Query,
    /// Its path and query as it came.
    pub path: &'a str,
    /// Its body.
    pub body: &'a [u8],
    /// The form of the answer.
    pub view: View,
}

/// Carries a change out.
pub fn change(cluster: &Arc<Inner>, target: &Target, actor: &Actor, request: &Change<'_>) -> Result<Answer, ApiError> {
    let verb = verb(request, target);
    let mut state = cluster.lock();
    let dry_run = is_dry_run(request).unwrap_or(false);
    let result = carry_out(&mut state, target, actor, request);
    match &result {
        Ok(done) => {
            let outcome = if done.removed {
                Outcome::Removed { object: done.object.as_ref() }
            } else {
                Outcome::Done { code: done.answer.code, object: done.object.as_ref() }
            };
            // A collection writes a line for each of its objects.
            if verb != "deletecollection" {
                state.record(actor, verb, request.path, target, dry_run, outcome);
            }
        }
        Err(error) => {
            let outcome = Outcome::Refused { code: error.code, message: &error.message };
            state.record(actor, verb, request.path, target, dry_run, outcome);
        }
    }
    result.map(|done| done.answer)
}

fn verb(request: &Change<'_>, target: &Target) -> &'static str {
    match request.method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH if media_type(request.headers).starts_with("application/apply-patch") => "apply",
        Method::PATCH => "patch",
        _ if target.name.is_empty() => "deletecollection",
        _ => "delete",
    }
}

struct Done {
    answer: Answer,
    object: Option<Arc<Value>>,
    removed: bool,
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

fn carry_out(state: &mut State, target: &Target, actor: &Actor, request: &Change<'_>) -> Result<Done, ApiError> {
    let options = WriteOptions {
        actor: actor.clone(),
        dry_run: is_dry_run(request)?,
        validation: request.query.field_validation()?,
        force: request.query.flag("force") && request.query.get("force").is_some(),
    };
    match (&request.method, target.subresource.as_str(), target.name.is_empty()) {
        (&Method::POST, "", true) => {
            let body = object_body(request)?;
            written(target, request.view, state.create(target, body, &options)?)
        }
        (&Method::POST, "eviction", false) if target.kind.kind == "Pod" => {
            let body = object_body(request)?;
            let how = DeleteOptions::parse(body.get("deleteOptions").unwrap_or(&Value::Null), &|_| None)?;
            let pod = Target { subresource: String::new(), ..target.clone() };
            let deleted = state.delete(&pod, &how, &options)?;
            let answer = Answer { code: 201, body: success(target, None), warnings: Vec::new() };
            Ok(Done { answer, object: Some(deleted.object), removed: deleted.gone })
        }
        (&Method::POST, "binding", false) if target.kind.kind == "Pod" => {
            let body = object_body(request)?;
            let node = json::text(&body, "/target/name").to_owned();
            let bound = crate::controllers::scheduler::bind(state, &target.namespace, &target.name, &node, &options)?;
            let answer = Answer { code: 201, body: success(target, None), warnings: Vec::new() };
            Ok(Done { answer, object: Some(bound), removed: false })
        }
        (&Method::PUT | &Method::PATCH, "scale", false) => {
            let before = scale::read(state, target)?;
            let wanted = match request.method {
                Method::PUT => object_body(request)?,
                _ => match read_patch(request)? {
                    Patch::Json(patch) => {
                        crate::patch::json_patch(&before, &patch).map_err(|error| ApiError::bad_request(error.to_string()))?
                    }
                    Patch::Merge(patch) | Patch::Strategic(patch) | Patch::Apply(patch) => {
                        crate::patch::merge_patch(&before, &patch)
                    }
                },
            };
            let done = scale::write(state, target, &wanted, &options)?;
            let body = scale::of(target, &done.object)?;
            let answer = Answer { code: 200, body, warnings: Vec::new() };
            Ok(Done { answer, object: Some(done.object), removed: false })
        }
        (&Method::PUT, "" | "status", false) if served(target) => {
            let body = object_body(request)?;
            written(target, request.view, state.update(target, body, &options)?)
        }
        (&Method::PUT, "finalize", false) if target.kind.kind == "Namespace" => {
            let body = object_body(request)?;
            written(target, request.view, state.update(target, body, &options)?)
        }
        (&Method::PATCH, "" | "status", false) if served(target) => {
            let patch = read_patch(request)?;
            if matches!(patch, Patch::Apply(_)) && request.query.get("fieldManager").is_none() {
                let error = FieldError::required("fieldManager", "is required for apply patch");
                return Err(ApiError::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
            }
            if !matches!(patch, Patch::Apply(_)) && options.force {
                let error = FieldError::forbidden("force", "may not be specified for non-apply patch");
                return Err(ApiError::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
            }
            written(target, request.view, state.patch(target, patch, &options)?)
        }
        (&Method::DELETE, "", false) => delete_one(state, target, request, &options),
        (&Method::DELETE, "", true) => delete_many(state, target, request, &options),
        (_, "" | "status" | "scale" | "finalize" | "log" | "binding" | "eviction", _) => Err(ApiError::method_not_allowed()),
        _ => Err(ApiError::no_such_path()),
    }
}

/// `/status` exists only where the kind has it.
fn served(target: &Target) -> bool {
    target.subresource.is_empty() || target.kind.versions[target.version].status
}

fn written(target: &Target, view: View, written: Written) -> Result<Done, ApiError> {
    let Written { object, created, removed, warnings } = written;
    let body = super::read::shown(target, &object, view);
    let answer = Answer { code: if created { 201 } else { 200 }, body, warnings };
    Ok(Done { answer, object: Some(object), removed })
}

/// The `Status` of a success.
pub fn success(target: &Target, object: Option<&Value>) -> Value {
    let name = object.map_or(target.name.as_str(), json::name);
    let mut details = json!({"name": name, "kind": target.kind.plural});
    if !target.kind.group.is_empty() {
        details["group"] = json!(target.kind.group);
    }
    if let Some(object) = object {
        details["uid"] = json!(json::uid(object));
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// A deletion may say in its body, too, that it is a dry run.
fn is_dry_run(request: &Change<'_>) -> Result<bool, ApiError> {
    let in_body = request.method == Method::DELETE
        && delete_body(request)?
            .pointer("/dryRun")
            .and_then(Value::as_array)
            .is_some_and(|words| words.iter().any(|word| word == "All"));
    Ok(in_body || request.query.dry_run()?)
}

fn delete_one(state: &mut State, target: &Target, request: &Change<'_>, options: &WriteOptions) -> Result<Done, ApiError> {
    let body = delete_body(request)?;
    let how = DeleteOptions::parse(&body, &|name| request.query.get(name).map(str::to_owned))?;
    let dry_run = options.dry_run;
    let deleted = state.delete(target, &how, options)?;
    let body = if deleted.gone {
        success(target, Some(&deleted.object))
    } else {
        super::read::shown(target, &deleted.object, View::Object)
    };
    let mut warnings = Vec::new();
    if target.kind.group == "batch" && target.kind.kind == "Job" && how.propagation.is_none() {
        warnings.push("child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning".to_owned());
    }
    Ok(Done { answer: Answer { code: 200, body, warnings }, object: Some(deleted.object), removed: deleted.gone && !dry_run })
}

fn delete_many(state: &mut State, target: &Target, request: &Change<'_>, options: &WriteOptions) -> Result<Done, ApiError> {
    let body = delete_body(request)?;
    let how = DeleteOptions::parse(&body, &|name| request.query.get(name).map(str::to_owned))?;
    let selection = Selection::parse(request.query, target)?;
    let resource = target.resource();
    let chosen: Vec<Arc<Value>> =
        state.store.list(&resource, &target.namespace).filter(|object| selection.selects(object)).cloned().collect();
    let mut items = Vec::new();
    for object in chosen {
        let one =
            Target { namespace: json::namespace(&object).to_owned(), name: json::name(&object).to_owned(), ..target.clone() };
        let propagation = how.propagation.or(Some(Propagation::Background));
        let deleted =
            state.delete(&one, &DeleteOptions { propagation, uid: None, resource_version: None, ..how.clone() }, options)?;
        let outcome = if deleted.gone {
            Outcome::Removed { object: Some(&deleted.object) }
        } else {
            Outcome::Done { code: 200, object: Some(&deleted.object) }
        };
        state.record(&options.actor, "deletecollection", request.path, &one, options.dry_run, outcome);
        items.push(crate::body::present(&target.kind, target.version, &deleted.object));
    }
    let list = json!({
        "kind": target.kind.list_kind, "apiVersion": target.api_version(),
        "metadata": {"resourceVersion": state.store.revision().to_string()}, "items": items,
    });
    Ok(Done { answer: Answer { code: 200, body: list, warnings: Vec::new() }, object: None, removed: false })
}

fn delete_body(request: &Change<'_>) -> Result<Value, ApiError> {
    if request.body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(request.body).map_err(|error| ApiError::bad_request(format!("the body cannot be read: {error}")))
}

fn object_body(request: &Change<'_>) -> Result<Value, ApiError> {
    match media_type(request.headers).as_str() {
        "" | "application/json" => serde_json::from_slice(request.body)
            .map_err(|error| ApiError::bad_request(format!("couldn't get version/kind; json parse error: {error}"))),
        "application/yaml" => yaml(request.body),
        other => Err(ApiError::unsupported_media_type(format!(
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, not {other}"
        ))),
    }
}

fn yaml(body: &[u8]) -> Result<Value, ApiError> {
    let text = std::str::from_utf8(body).map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))?;
    serde_saphyr::from_str(text).map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))
}

fn read_patch(request: &Change<'_>) -> Result<Patch, ApiError> {
    let json = || -> Result<Value, ApiError> {
        serde_json::from_slice(request.body).map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))
    };
    match media_type(request.headers).as_str() {
        "application/json-patch+json" => Ok(Patch::Json(json()?)),
        "application/merge-patch+json" => Ok(Patch::Merge(json()?)),
        "application/strategic-merge-patch+json" => Ok(Patch::Strategic(json()?)),
        "application/apply-patch+yaml" => {
            // JSON is YAML; reading it as such is faster and exact about numbers.
            let config = json().or_else(|_| yaml(request.body))?;
            if !config.is_object() {
                return Err(ApiError::bad_request("error decoding YAML: the configuration is not an object"));
            }
            Ok(Patch::Apply(config))
        }
        other => Err(ApiError::unsupported_media_type(format!(
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml, not {other:?}"
        ))),
    }
}
