//! The parts of a Pod that the standards ask about.

use crate::{facts::at_key, path::Path};
use serde_json::{Value, json};

const NULL: Value = Value::Null;
/// A field below `securityContext`, key by key.
pub type Keys = &'static [&'static str];
/// Where containers are, in the order they are looked at.
const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// A Pod, or the template of one. What every control asks for is looked up once.
pub struct Pod<'a> {
    pub metadata: &'a Value,
    pub spec: &'a Value,
    security: Option<&'a Value>,
    containers: Vec<Container<'a>>,
}

/// A container and where it is.
pub struct Container<'a> {
    pub value: &'a Value,
    security: Option<&'a Value>,
    list: &'static str,
    index: usize,
    pub name: &'a str,
}

impl<'a> From<&'a Value> for Pod<'a> {
    fn from(pod: &'a Value) -> Self {
        let spec = at_key(pod, "spec").unwrap_or(&NULL);
        let listed = LISTS.into_iter().flat_map(|list| {
            let items = at_key(spec, list).and_then(Value::as_array).into_iter().flatten();
            items.enumerate().map(move |(index, value)| Container {
                value,
                security: at_key(value, "securityContext"),
                list,
                index,
                name: at_key(value, "name").and_then(Value::as_str).unwrap_or_default(),
            })
        });
        Self {
            metadata: at_key(pod, "metadata").unwrap_or(&NULL),
            spec,
            security: at_key(spec, "securityContext"),
            containers: listed.collect(),
        }
    }
}

impl<'a> Pod<'a> {
    /// The Pod of an object and its place; `None` for a kind that has none.
    pub fn of(object: &'a Value) -> Option<(Self, Path)> {
        let place = match object.get("kind")?.as_str()? {
            "Pod" => "",
            "DaemonSet" | "Deployment" | "Job" | "ReplicaSet" | "ReplicationController" | "StatefulSet" => "spec.template",
            "CronJob" => "spec.jobTemplate.spec.template",
            _ => return None,
        };
        let template = place.split('.').filter(|key| !key.is_empty()).try_fold(object, at_key);
        Some((Self::from(template.unwrap_or(&NULL)), Path::of_keys(place)))
    }

    /// Every container.
    pub fn containers(&self) -> &[Container<'a>] {
        &self.containers
    }

    /// The Pod with nothing but the containers whose image is meant.
    pub fn only(&self, is_meant: impl Fn(&str) -> bool) -> Value {
        let mut spec = json!({});
        for list in LISTS {
            let items = self.spec.get(list).and_then(Value::as_array).into_iter().flatten();
            let image = |item: &&Value| is_meant(item.get("image").and_then(Value::as_str).unwrap_or_default());
            spec[list] = items.filter(image).cloned().collect();
        }
        json!({"spec": spec})
    }

    /// The Pod without its containers, which is one container that says nothing.
    pub fn without_containers(&self) -> Value {
        let mut spec = self.spec.clone();
        if let Value::Object(fields) = &mut spec {
            LISTS.iter().for_each(|list| {
                fields.remove(*list);
            });
            fields.insert("containers".to_owned(), json!([{"name": "fake"}]));
        }
        json!({"metadata": self.metadata, "spec": spec})
    }

    /// A field below `spec.securityContext`.
    pub fn security(&self, keys: Keys) -> Option<&'a Value> {
        at(self.security, keys)
    }

    /// Where such a field is.
    pub fn security_path(&self, keys: Keys) -> Path {
        below(&Path::of_keys("spec"), keys)
    }

    /// Whether its containers run as Windows processes, which have none of Linux' means.
    pub fn is_windows(&self) -> bool {
        at_key(self.spec, "os").and_then(|os| at_key(os, "name")).is_some_and(|name| name == "windows")
    }

    /// Whether it has a user namespace of its own, in which root is nobody outside.
    pub fn has_user_namespace(&self) -> bool {
        at_key(self.spec, "hostUsers") == Some(&Value::Bool(false))
    }
}

impl<'a> Container<'a> {
    /// Where it is; made only for what is said.
    pub fn path(&self) -> Path {
        Path::of_keys("spec").key(self.list).index(self.index)
    }

    /// A field below `securityContext`.
    pub fn security(&self, keys: Keys) -> Option<&'a Value> {
        at(self.security, keys)
    }

    /// Where such a field is.
    pub fn security_path(&self, keys: Keys) -> Path {
        below(&self.path(), keys)
    }
}

fn at(security: Option<&Value>, keys: Keys) -> Option<&Value> {
    keys.iter().try_fold(security?, |value, key| at_key(value, key)).filter(|value| !value.is_null())
}

fn below(path: &Path, keys: Keys) -> Path {
    keys.iter().fold(path.key("securityContext"), |path, key| path.key(key))
}

/// The texts of a list.
pub fn texts(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// A value as exemptions name it.
pub fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
