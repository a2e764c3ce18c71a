//! Parameters of rules in CEL: objects of the cluster that expressions read as `params`.

use crate::{
    Request,
    field::{Field, PolicyError},
    matching::selector,
};
use muster_core::selector::{LabelSelector, Labels};
use serde_json::Value;

/// What kind parameters are of.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamKind {
    api_version: String,
    kind: String,
}

/// Where parameters are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFound {
    /// The rule says nothing.
    Allow,
    /// The rule goes wrong.
    Deny,
}

/// Which objects they are: one by name, or several by labels.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamRef {
    name: String,
    namespace: String,
    selector: Option<LabelSelector>,
    pub not_found: NotFound,
}

impl ParamKind {
    /// Reads `paramKind`.
    pub fn parse(field: &Field<'_>) -> Result<Option<Self>, PolicyError> {
        if field.value().is_none() {
            return Ok(None);
        }
        let (api_version, kind) = (field.get("apiVersion").required_text()?, field.get("kind").required_text()?);
        Ok(Some(Self { api_version, kind }))
    }

    /// For messages.
    pub fn name(&self) -> &str {
        &self.kind
    }
}

impl ParamRef {
    /// Reads `paramRef`.
    pub fn parse(field: &Field<'_>) -> Result<Option<Self>, PolicyError> {
        if field.value().is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            name: field.get("name").text()?.unwrap_or_default(),
            namespace: field.get("namespace").text()?.unwrap_or_default(),
            selector: selector(&field.get("selector"))?,
            not_found: match field.get("parameterNotFoundAction").text()?.as_deref() {
                Some("Allow") => NotFound::Allow,
                _ => NotFound::Deny,
            },
        }))
    }

    /// The parameters, in the namespace that is named or the object's own, or of a kind without namespaces.
    pub fn find<'a>(&self, kind: &ParamKind, request: &Request<'a>) -> Result<Vec<&'a Value>, String> {
        let inventory = request.inventory.ok_or("it has parameters, and the cluster is not given")?;
        let resource = crate::inventory::plural(&kind.kind);
        let namespace = if self.namespace.is_empty() { request.text("/metadata/namespace") } else { &self.namespace };
        let is_in = |object: &&Value| {
            let found = text(object, "/metadata/namespace");
            found.is_empty() || found == namespace
        };
        let is_meant = |object: &&Value| match &self.selector {
            Some(selector) => selector.matches(&labels(object)),
            None => text(object, "/metadata/name") == self.name,
        };
        let listed = inventory.list(&kind.api_version, &resource, "").map_err(|error| error.to_string())?;
        Ok(listed.into_iter().filter(is_in).filter(is_meant).collect())
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn labels(object: &Value) -> Labels {
    let entries = object.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
