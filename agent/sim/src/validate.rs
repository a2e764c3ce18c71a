//! What the API server refuses with 422: names, required fields, values out of range, references within an object, and
//! changes of what may not change.

use crate::{json, names, quantity, resource::ResourceType, schema::decode, selector::LabelSelector, status::FieldError};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What is wrong with a new object.
pub fn create(kind: &ResourceType, object: &Value) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = names::check_name(kind, json::name(object)).into_iter().collect();
    errors.extend(always(kind, object));
    errors
}

/// What is wrong with a changed object.
pub fn update(kind: &ResourceType, subresource: &str, before: &Value, object: &Value) -> Vec<FieldError> {
    let mut errors = finalizers(before, object);
    if !subresource.is_empty() {
        return errors;
    }
    errors.extend(always(kind, object));
    let mut immutable = |field: &str| {
        let pointer = format!("/{}", field.replace('.', "/"));
        if before.pointer(&pointer) != object.pointer(&pointer) {
            let value = object.pointer(&pointer).cloned().unwrap_or_default();
            errors.push(FieldError::invalid(field, &value, "field is immutable"));
        }
    };
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("apps", "Deployment" | "ReplicaSet" | "DaemonSet") => immutable("spec.selector"),
        ("batch", "Job") => {
            immutable("spec.selector");
            if json::text(object, "/spec/completionMode") != "Indexed" {
                immutable("spec.completions");
            }
            immutable("spec.completionMode");
            let suspended = json::flag(before, "/spec/suspend") && before.pointer("/status/startTime").is_none();
            if !suspended {
                immutable("spec.template");
            }
        }
        ("", "Service")
            if !json::text(before, "/spec/clusterIP").is_empty() && json::text(object, "/spec/type") != "ExternalName" =>
        {
            immutable("spec.clusterIP");
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => immutable("roleRef"),
        ("", "PersistentVolumeClaim") => immutable("spec.storageClassName"),
        ("", "ConfigMap" | "Secret") if json::flag(before, "/immutable") => {
            immutable("data");
            immutable("binaryData");
            immutable("immutable");
        }
        ("apiextensions.k8s.io", _) => {
            immutable("spec.group");
            immutable("spec.scope");
            immutable("spec.names.plural");
            immutable("spec.names.kind");
        }
        ("apps", "StatefulSet") => errors.extend(stateful_set_update(before, object)),
        ("", "Pod") => errors.extend(pod_update(before, object)),
        ("scheduling.k8s.io", _) if before.get("value") != object.get("value") => {
            errors.push(FieldError::forbidden("value", "may not be changed in an update."));
        }
        _ => {}
    }
    errors
}

fn finalizers(before: &Value, object: &Value) -> Vec<FieldError> {
    if !json::is_deleting(before) {
        return Vec::new();
    }
    let old = json::list(before, "/metadata/finalizers");
    let new: Vec<String> =
        json::list(object, "/metadata/finalizers").iter().filter(|name| !old.contains(name)).map(Value::to_string).collect();
    if new.is_empty() {
        return Vec::new();
    }
    let why = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        new.join(", ")
    );
    vec![FieldError::forbidden("metadata.finalizers", &why)]
}

fn stateful_set_update(before: &Value, object: &Value) -> Vec<FieldError> {
    const MUTABLE: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let fixed = |object: &Value| {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        MUTABLE.iter().for_each(|name| drop(json::remove(&mut spec, &[name])));
        spec
    };
    if fixed(before) == fixed(object) {
        return Vec::new();
    }
    let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    vec![FieldError::forbidden("spec", why)]
}

fn pod_update(before: &Value, object: &Value) -> Vec<FieldError> {
    let fixed = |object: &Value| {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        for name in ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates"] {
            json::remove(&mut spec, &[name]);
        }
        for list in ["containers", "initContainers"] {
            let containers = spec.get_mut(list).and_then(Value::as_array_mut);
            containers.into_iter().flatten().for_each(|container| drop(json::remove(container, &["image"])));
        }
        spec
    };
    if fixed(before) == fixed(object) {
        return Vec::new();
    }
    let why = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
    vec![FieldError::forbidden("spec", why)]
}

fn always(kind: &ResourceType, object: &Value) -> Vec<FieldError> {
    let mut errors = names::check_labels(object.pointer("/metadata/labels"), "metadata.labels");
    for (index, owner) in json::list(object, "/metadata/ownerReferences").iter().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if json::text(owner, &format!("/{field}")).is_empty() {
                let path = format!("metadata.ownerReferences[{index}].{field}");
                errors.push(FieldError::invalid(path, &json!(""), "must not be empty"));
            }
        }
    }
    if kind.custom {
        return errors;
    }
    errors.extend(decode::missing(&kind.versions[0].schema, object).into_iter().map(|path| FieldError::required(path, "")));
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => pod_spec(&object["spec"], "spec", &mut errors),
        ("apps", name) if name != "ControllerRevision" => workload(name, object, &mut errors),
        ("batch", "Job") => job(&object["spec"], "spec", &mut errors),
        ("batch", "CronJob") => {
            if let Some(spec) = object.pointer("/spec/jobTemplate/spec") {
                job(spec, "spec.jobTemplate.spec", &mut errors);
            }
        }
        ("", "Service") => service(object, &mut errors),
        ("autoscaling", _) => autoscaler(object, &mut errors),
        ("policy", "PodDisruptionBudget")
            if object.pointer("/spec/minAvailable").is_some() && object.pointer("/spec/maxUnavailable").is_some() =>
        {
            errors.push(FieldError::invalid("spec", &object["spec"], "minAvailable and maxUnavailable cannot be both set"));
        }
        ("", "ConfigMap" | "Secret") => config_keys(object, &mut errors),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(object, &mut errors),
        _ => {}
    }
    errors
}

fn not_negative(object: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let value = object.pointer(&format!("/{}", field.replace('.', "/")));
    if let Some(number) = value.and_then(Value::as_i64).filter(|number| *number < 0) {
        errors.push(FieldError::invalid(field, &json!(number), "must be greater than or equal to 0"));
    }
}

fn workload(kind: &str, object: &Value, errors: &mut Vec<FieldError>) {
    for field in ["spec.replicas", "spec.minReadySeconds", "spec.revisionHistoryLimit", "spec.progressDeadlineSeconds"] {
        not_negative(object, field, errors);
    }
    let Some(selector) = object.pointer("/spec/selector") else { return };
    let labels = object.pointer("/spec/template/metadata/labels");
    let reads = LabelSelector::of_object(selector);
    if reads.is_empty() {
        let why = format!("empty selector is invalid for {}", kind.to_lowercase());
        errors.push(FieldError::invalid("spec.selector", selector, why));
    } else if !reads.selects(labels) {
        let labels = labels.cloned().unwrap_or_else(|| json!({}));
        let why = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid("spec.template.metadata.labels", &labels, why));
    }
    template(object, "spec.template", errors);
    let policy = json::text(object, "/spec/template/spec/restartPolicy");
    if !matches!(policy, "" | "Always") {
        errors.push(FieldError::not_supported("spec.template.spec.restartPolicy", &json!(policy), &["Always"]));
    }
}

fn template(object: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let Some(template) = object.pointer(&format!("/{}", field.replace('.', "/"))) else { return };
    errors.extend(names::check_labels(template.pointer("/metadata/labels"), &format!("{field}.labels")));
    if let Some(spec) = template.get("spec") {
        pod_spec(spec, &format!("{field}.spec"), errors);
    }
}

fn job(spec: &Value, field: &str, errors: &mut Vec<FieldError>) {
    for name in ["parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"] {
        if let Some(number) = json::integer(spec, &format!("/{name}")).filter(|number| *number < 0) {
            let path = format!("{field}.{name}");
            errors.push(FieldError::invalid(path, &json!(number), "must be greater than or equal to 0"));
        }
    }
    if let Some(inner) = spec.pointer("/template/spec") {
        pod_spec(inner, &format!("{field}.template.spec"), errors);
    }
    let path = format!("{field}.template.spec.restartPolicy");
    match json::text(spec, "/template/spec/restartPolicy") {
        "OnFailure" | "Never" => {}
        "Always" => errors.push(FieldError::required(path, "valid values: \"OnFailure\", \"Never\"")),
        other => errors.push(FieldError::not_supported(path, &json!(other), &["OnFailure", "Never"])),
    }
}

fn pod_spec(spec: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let volumes: BTreeSet<&str> = json::list(spec, "/volumes").iter().map(|volume| json::text(volume, "/name")).collect();
    let mut seen = BTreeSet::new();
    for list in ["initContainers", "containers"] {
        for (index, container) in json::list(spec, &format!("/{list}")).iter().enumerate() {
            let path = format!("{field}.{list}[{index}]");
            let name = json::text(container, "/name");
            if !name.is_empty() && !names::is_label(name) {
                let why = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
                errors.push(FieldError::invalid(format!("{path}.name"), &json!(name), why));
            } else if !seen.insert(name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), &json!(name)));
            }
            if json::text(container, "/image").is_empty() {
                errors.push(FieldError::required(format!("{path}.image"), ""));
            }
            resources(container, &path, errors);
            for (at, mount) in json::list(container, "/volumeMounts").iter().enumerate() {
                let volume = json::text(mount, "/name");
                if !volumes.contains(volume) {
                    errors.push(FieldError {
                        reason: "FieldValueNotFound",
                        field: format!("{path}.volumeMounts[{at}].name"),
                        message: format!("Not found: {:?}", volume),
                    });
                }
            }
            for (at, port) in json::list(container, "/ports").iter().enumerate() {
                port_number(port.get("containerPort"), &format!("{path}.ports[{at}].containerPort"), errors);
            }
        }
    }
    let policy = json::text(spec, "/restartPolicy");
    if !matches!(policy, "" | "Always" | "OnFailure" | "Never") {
        let path = format!("{field}.restartPolicy");
        errors.push(FieldError::not_supported(path, &json!(policy), &["Always", "OnFailure", "Never"]));
    }
}

fn port_number(value: Option<&Value>, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(number) = value.and_then(Value::as_i64).filter(|number| !(1..=65535).contains(number)) {
        errors.push(FieldError::invalid(path, &json!(number), "must be between 1 and 65535, inclusive"));
    }
}

fn resources(container: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let limit = |name: &str| container.pointer("/resources/limits").and_then(|limits| limits.get(name));
    for (name, request) in json::entries(container, "/resources/requests") {
        let field = format!("{path}.resources.requests");
        let amount = request.as_str().and_then(quantity::parse_nanos).unwrap_or(0);
        if amount < 0 {
            errors.push(FieldError::invalid(format!("{field}.{name}"), request, "must be greater than or equal to 0"));
        }
        let extended = name.contains('/') && !name.starts_with("kubernetes.io/");
        match limit(name).and_then(Value::as_str) {
            Some(limit) if extended && quantity::parse_nanos(limit) != Some(amount) => {
                errors.push(FieldError::invalid(field, request, format!("must be equal to {name} limit of {limit}")));
            }
            Some(limit) if quantity::parse_nanos(limit).is_some_and(|limit| amount > limit) => {
                errors.push(FieldError::invalid(
                    field,
                    request,
                    format!("must be less than or equal to {name} limit of {limit}"),
                ));
            }
            None if extended => {
                let path = format!("{path}.resources.limits");
                errors.push(FieldError::required(path, "Limit must be set for non overcommitable resources"));
            }
            Some(_) | None => {}
        }
    }
    for (name, limit) in json::entries(container, "/resources/limits") {
        let amount = limit.as_str().and_then(quantity::parse_nanos).unwrap_or(0);
        let field = format!("{path}.resources.limits.{name}");
        if amount < 0 {
            errors.push(FieldError::invalid(field, limit, "must be greater than or equal to 0"));
        } else if name.contains('/') && amount % 1_000_000_000 != 0 {
            errors.push(FieldError::invalid(field, limit, "must be an integer"));
        }
    }
}

fn service(object: &Value, errors: &mut Vec<FieldError>) {
    let ports = json::list(object, "/spec/ports");
    let headless = json::text(object, "/spec/clusterIP") == "None";
    if ports.is_empty() && !headless && json::text(object, "/spec/type") != "ExternalName" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    for (index, port) in ports.iter().enumerate() {
        port_number(port.get("port"), &format!("spec.ports[{index}].port"), errors);
        if ports.len() > 1 && json::text(port, "/name").is_empty() {
            errors.push(FieldError::required(format!("spec.ports[{index}].name"), ""));
        }
    }
}

fn autoscaler(object: &Value, errors: &mut Vec<FieldError>) {
    let least = json::integer(object, "/spec/minReplicas").unwrap_or(1);
    let most = json::integer(object, "/spec/maxReplicas").unwrap_or(0);
    if most < 1 {
        errors.push(FieldError::invalid("spec.maxReplicas", &json!(most), "must be greater than 0"));
    }
    if most < least {
        errors.push(FieldError::invalid("spec.maxReplicas", &json!(most), "must be greater than or equal to `minReplicas`"));
    }
}

fn config_keys(object: &Value, errors: &mut Vec<FieldError>) {
    for (key, _) in json::entries(object, "/data") {
        let legal = key.len() <= 253 && key.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._".contains(letter));
        if !legal || key == "." || key == ".." {
            let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
            errors.push(FieldError::invalid(format!("data[{key}]"), &json!(key), why));
        }
    }
}

fn definition(object: &Value, errors: &mut Vec<FieldError>) {
    let text = |pointer: &str| json::text(object, pointer);
    let wanted = format!("{}.{}", text("/spec/names/plural"), text("/spec/group"));
    if json::name(object) != wanted {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", &json!(json::name(object)), why));
    }
    if !matches!(text("/spec/scope"), "Namespaced" | "Cluster") {
        errors.push(FieldError::not_supported("spec.scope", &json!(text("/spec/scope")), &["Cluster", "Namespaced"]));
    }
    let versions = json::list(object, "/spec/versions");
    if versions.iter().filter(|version| json::flag(version, "/storage")).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid("spec.versions", &json!(versions), why));
    }
    for (index, version) in versions.iter().enumerate() {
        if version.pointer("/schema/openAPIV3Schema").is_none() {
            let path = format!("spec.versions[{index}].schema.openAPIV3Schema");
            errors.push(FieldError::required(path, "schemas are required"));
        }
    }
}
