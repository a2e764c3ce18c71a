//! `images`: the container images of an object in their parts, by container name.

use crate::image::ImageReference;
use serde_json::{Map, Value, json};

/// Where kinds with containers keep them.
fn pod_spec(object: &Value) -> Option<&Value> {
    match object.get("kind")?.as_str()? {
        "Pod" => object.pointer("/spec"),
        "DaemonSet" | "Deployment" | "Job" | "ReplicaSet" | "ReplicationController" | "StatefulSet" => {
            object.pointer("/spec/template/spec")
        }
        "CronJob" => object.pointer("/spec/jobTemplate/spec/template/spec"),
        _ => None,
    }
}

/// The images of an object; lists without an image are not in it.
pub fn images(object: &Value) -> Option<Value> {
    let spec = pod_spec(object)?;
    let mut lists = Map::new();
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        let mut named = Map::new();
        for container in spec.get(list).and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| container.get(key).and_then(Value::as_str);
            if let (Some(name), Some(image)) = (text("name"), text("image").and_then(ImageReference::parse)) {
                named.insert(name.to_owned(), described(&image));
            }
        }
        if !named.is_empty() {
            lists.insert(list.to_owned(), Value::Object(named));
        }
    }
    (!lists.is_empty()).then_some(Value::Object(lists))
}

fn described(image: &ImageReference) -> Value {
    let ImageReference { registry, path, tag, digest } = image;
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut described = json!({
        "registry": registry,
        "path": path,
        "name": name,
        "reference": image.with_registry(),
        "referenceWithTag": format!("{registry}/{path}:{tag}"),
    });
    for (key, value) in [("tag", tag), ("digest", digest)] {
        if !value.is_empty() {
            described[key] = json!(value);
        }
    }
    described
}
