//! What one pod asks for: the *effective request* by Kubernetes' rules, and the GPU models that will do.

use std::collections::BTreeSet;

use muster_core::labels::GPU_PRODUCT;
use muster_scheduler_engine::Amounts;
use serde_json::{Map, Value};

use super::quantity;
use crate::domain::Fault;

/// The effective request of a pod template.
///
/// max(sum of containers and sidecars, per init container itself and the sidecars before it) + overhead; a request that
/// is not written defaults to the limit; what is written for the pod as a whole counts instead of the sum (Kubernetes:
/// "Resource sharing within containers", "Sidecar containers", "Pod-level resources").
pub(super) fn requests(path: &str, template: &Value) -> Result<Amounts, Fault> {
    let path = format!("{path}.spec");
    let spec = template.get("spec").and_then(Value::as_object).ok_or_else(|| Fault::new(&path, "is missing"))?;
    let containers = spec
        .get("containers")
        .and_then(Value::as_array)
        .filter(|containers| !containers.is_empty())
        .ok_or_else(|| Fault::new(format!("{path}.containers"), "must have at least one entry"))?;
    let mut running = Amounts::new();
    for (index, container) in containers.iter().enumerate() {
        let path = format!("{path}.containers[{index}]");
        running = sum(&path, &running, &of_container(&path, container)?)?;
    }
    let mut sidecars = Amounts::new();
    let mut starting = Amounts::new();
    let inits = spec.get("initContainers").and_then(Value::as_array);
    for (index, container) in inits.into_iter().flatten().enumerate() {
        let path = format!("{path}.initContainers[{index}]");
        let own = of_container(&path, container)?;
        if container.get("restartPolicy").and_then(Value::as_str) == Some("Always") {
            sidecars = sum(&path, &sidecars, &own)?;
            starting = most(&starting, &sidecars);
        } else {
            starting = most(&starting, &sum(&path, &sidecars, &own)?);
        }
    }
    let mut effective = most(&sum(&path, &running, &sidecars)?, &starting);
    if let Some(whole) = spec.get("resources") {
        for (name, amount) in resources(&format!("{path}.resources"), whole)?.iter() {
            effective.set(name, amount);
        }
    }
    if let Some(Value::Object(overhead)) = spec.get("overhead") {
        let overhead = amounts(&format!("{path}.overhead"), overhead)?;
        effective = sum(&path, &effective, &overhead)?;
    }
    Ok(effective)
}

/// GPU models the pod allows by its node selector or required node affinity; `None`: any.
pub(super) fn flavors(path: &str, template: &Value) -> Result<Option<BTreeSet<String>>, Fault> {
    if let Some(model) = template.pointer("/spec/nodeSelector").and_then(|selector| selector.get(GPU_PRODUCT)) {
        let field = format!("{path}.spec.nodeSelector[{GPU_PRODUCT}]");
        let model = model.as_str().filter(|model| !model.is_empty()).ok_or_else(|| Fault::new(field, "must be a GPU model"))?;
        return Ok(Some(BTreeSet::from([model.to_owned()])));
    }
    let terms = template
        .pointer("/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms")
        .and_then(Value::as_array);
    // Terms are alternatives: a term that says nothing of the model allows any.
    let mut models = BTreeSet::new();
    for term in terms.into_iter().flatten() {
        let expressions = term.get("matchExpressions").and_then(Value::as_array);
        let of_model = expressions.into_iter().flatten().find(|expression| {
            expression.get("key").and_then(Value::as_str) == Some(GPU_PRODUCT)
                && expression.get("operator").and_then(Value::as_str) == Some("In")
        });
        let Some(values) = of_model.and_then(|expression| expression.get("values")).and_then(Value::as_array) else {
            return Ok(None);
        };
        models.extend(values.iter().filter_map(Value::as_str).map(ToOwned::to_owned));
    }
    Ok(Some(models).filter(|models| !models.is_empty()))
}

fn of_container(path: &str, container: &Value) -> Result<Amounts, Fault> {
    match container.get("resources") {
        None | Some(Value::Null) => Ok(Amounts::new()),
        Some(value) => resources(&format!("{path}.resources"), value),
    }
}

/// Requests, each defaulting to its limit.
fn resources(path: &str, value: &Value) -> Result<Amounts, Fault> {
    let part = |name: &str| match value.get(name) {
        None | Some(Value::Null) => Ok(Amounts::new()),
        Some(Value::Object(entries)) => amounts(&format!("{path}.{name}"), entries),
        Some(_) => Err(Fault::new(format!("{path}.{name}"), "must be an object of quantities by resource name")),
    };
    let (limits, requests) = (part("limits")?, part("requests")?);
    let named = value.get("requests").and_then(Value::as_object);
    let mut effective = requests.clone();
    for (name, limit) in limits.iter() {
        if named.is_none_or(|named| !named.contains_key(name)) {
            effective.set(name, limit);
        } else if requests.get(name) > limit {
            return Err(Fault::new(format!("{path}.requests[{name}]"), "is more than the limit"));
        }
    }
    Ok(effective)
}

fn amounts(path: &str, entries: &Map<String, Value>) -> Result<Amounts, Fault> {
    let mut amounts = Amounts::new();
    for (name, value) in entries {
        amounts.set(name, quantity(&format!("{path}[{name}]"), name, value)?);
    }
    Ok(amounts)
}

fn sum(path: &str, left: &Amounts, right: &Amounts) -> Result<Amounts, Fault> {
    left.checked_add(right).map_err(|name| Fault::new(path, format!("the sum of {name} is too large to be counted")))
}

fn most(left: &Amounts, right: &Amounts) -> Amounts {
    let mut most = left.clone();
    for (name, amount) in right.iter() {
        most.set(name, amount.max(left.get(name)));
    }
    most
}
