//! What rules ask of an object before they look into it: what is done, by whom, and where.

use muster_core::selector::Labels;
use serde_json::{Map, Value};
use std::fmt;

/// What is done to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Operation {
    /// It is made; the usual case of a check before delivery.
    #[default]
    Create,
    /// It is changed.
    Update,
    /// It is removed.
    Delete,
    /// It is connected to, as by `exec`.
    Connect,
}

impl Operation {
    /// Reads `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "CREATE" => Some(Self::Create),
            "UPDATE" => Some(Self::Update),
            "DELETE" => Some(Self::Delete),
            "CONNECT" => Some(Self::Connect),
            _ => None,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        })
    }
}

/// Who asks, as the API server tells an admission webhook.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserInfo {
    /// `system:serviceaccount:NAMESPACE:NAME` for service accounts.
    pub username: String,
    /// Groups of the user.
    pub groups: Vec<String>,
    /// Bound roles, as `NAMESPACE:NAME`.
    pub roles: Vec<String>,
    /// Bound cluster roles.
    pub cluster_roles: Vec<String>,
}

/// Yes, no, or not to be known from what was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    Yes,
    No,
    Unknown,
}

impl Truth {
    pub fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Yes, Self::Yes) => Self::Yes,
        }
    }

    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::No, Self::No) => Self::No,
        }
    }
}

/// The facts that filters ask about.
pub struct Facts<'a> {
    pub object: &'a Value,
    pub(crate) identity: Identity<'a>,
    pub operation: Operation,
    pub subresource: &'a str,
    /// `None`: not known.
    pub namespace_labels: Option<&'a Labels>,
    /// `None`: not known; then `match` does not ask for users, and no exclusion by user applies.
    pub user: Option<&'a UserInfo>,
}

/// Group, version and kind, which every rule asks for.
#[derive(Clone, Copy)]
pub(crate) struct Identity<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
}

impl<'a> Facts<'a> {
    /// Of the making of an object by somebody unknown in a namespace with unknown labels.
    pub fn of(object: &'a Value) -> Self {
        let text = |key: &str| at_key(object, key).and_then(Value::as_str).unwrap_or_default();
        let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
        Self {
            object,
            identity: Identity { group, version, kind: text("kind") },
            operation: Operation::Create,
            subresource: "",
            namespace_labels: None,
            user: None,
        }
    }

    /// Group and version of the object.
    pub(crate) fn group_and_version(&self) -> (&'a str, &'a str) {
        (self.identity.group, self.identity.version)
    }

    /// The object's kind.
    pub(crate) fn kind(&self) -> &'a str {
        self.identity.kind
    }

    pub(crate) fn text(&self, pointer: &str) -> &str {
        at(self.object, pointer).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        match self.text("/metadata/name") {
            "" => self.text("/metadata/generateName"),
            name => name,
        }
    }

    /// The namespace an object is in; a Namespace is in itself.
    pub fn namespace(&self) -> &str {
        if self.kind() == "Namespace" { self.text("/metadata/name") } else { self.text("/metadata/namespace") }
    }

    pub(crate) fn texts(&self, pointer: &str) -> Labels {
        let Some(Value::Object(entries)) = at(self.object, pointer) else { return Labels::new() };
        entries.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    }
}

/// The value at a plain pointer, without the escapes of RFC 6901 that no field of these needs.
pub(crate) fn at<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    pointer.split('/').skip(1).try_fold(value, at_key)
}

/// A field of what may be a mapping.
pub(crate) fn at_key<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    value.as_object().and_then(|fields| field(fields, key))
}

/// A field of a mapping. Those of Kubernetes have few, where comparing is faster than hashing.
pub(crate) fn field<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    const FEW: usize = 16;
    if fields.len() > FEW {
        return fields.get(name);
    }
    fields.iter().find(|(key, _)| is_same(key, name)).map(|(_, value)| value)
}

/// Equality of short texts: those of one length mostly differ in their last byte.
fn is_same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.as_bytes().last() == b.as_bytes().last() && a == b
}
