//! Get and list, with selectors, pages and the state at a revision.

use super::{
    request::{Query, View},
    table,
};
use crate::{
    body::present,
    json,
    selector::{FieldSelector, LabelSelector},
    state::{State, Target},
    status::ApiError,
};
use base64::Engine as _;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Which objects of a kind.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// By labels.
    pub labels: LabelSelector,
    /// By fields.
    pub fields: FieldSelector,
}

impl Selection {
    /// Reads `labelSelector` and `fieldSelector`; a name in the path is a field selector too.
    pub fn parse(query: &Query, target: &Target) -> Result<Self, ApiError> {
        let mut fields = query.get("fieldSelector").unwrap_or("").to_owned();
        if !target.name.is_empty() {
            fields = format!("{fields},metadata.name={}", target.name);
        }
        Ok(Self {
            labels: LabelSelector::parse(query.get("labelSelector").unwrap_or(""))?,
            fields: FieldSelector::parse(&fields, &target.resource())?,
        })
    }

    /// True when the object is one of them.
    pub fn selects(&self, object: &Value) -> bool {
        self.labels.selects(object.pointer("/metadata/labels")) && self.fields.selects(object)
    }

    fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }
}

/// One object in a view of it.
pub fn shown(target: &Target, object: &Arc<Value>, view: View) -> Value {
    match view {
        View::Object => present(&target.kind, target.version, object),
        View::Metadata => metadata_only(object),
        View::Table => table::table(
            &target.kind,
            target.version,
            std::slice::from_ref(object),
            json!({
                "resourceVersion": json::text(object, "/metadata/resourceVersion"),
            }),
        ),
    }
}

/// The `PartialObjectMetadata` of an object.
pub fn metadata_only(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object.get("metadata")})
}

/// The list a request asks for.
pub fn list(state: &State, target: &Target, query: &Query, view: View) -> Result<Value, ApiError> {
    let selection = Selection::parse(query, target)?;
    let resource = target.resource();
    let newest = state.store.revision();
    let token = query.get("continue").map(Token::parse).transpose()?;
    let asked = query.number("resourceVersion")?.filter(|revision| *revision > 0);
    if token.is_none() && asked.is_some_and(|asked| asked > newest) {
        let asked = asked.unwrap_or(0);
        return Err(ApiError::new(504, "Timeout", format!("Timeout: Too large resource version: {asked}, current: {newest}"))
            .with_cause("ResourceVersionTooLarge", "Too large resource version", "")
            .retry_after_seconds(1));
    }
    let exact = asked.filter(|_| query.get("resourceVersionMatch") == Some("Exact"));
    let at = token.as_ref().map(|token| token.revision).or(exact).unwrap_or(newest);
    let objects = state.store.list_at(&resource, &target.namespace, at).map_err(|_| {
        ApiError::expired(if token.is_some() {
            "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter."
        } else {
            "The resourceVersion for the provided list is too old."
        })
    })?;
    let start = token.map(|token| token.start);
    let mut matching: Vec<Arc<Value>> = objects
        .into_iter()
        .filter(|object| start.as_ref().is_none_or(|start| place(object) > *start))
        .filter(|object| selection.selects(object))
        .collect();
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".to_owned(), json!(at.to_string()));
    if let Some(limit) = query.number("limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0)
        && matching.len() > limit
    {
        let rest = matching.len() - limit;
        matching.truncate(limit);
        let start = matching.last().map(|object| place(object)).unwrap_or_default();
        metadata.insert("continue".to_owned(), json!(Token { revision: at, start }.write()));
        if selection.is_everything() {
            metadata.insert("remainingItemCount".to_owned(), json!(rest));
        }
    }
    Ok(match view {
        View::Table => table::table(&target.kind, target.version, &matching, Value::Object(metadata)),
        View::Metadata => {
            let items: Vec<Value> = matching.iter().map(|object| metadata_only(object)).collect();
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items})
        }
        View::Object => {
            let item = |object: &Arc<Value>| {
                let mut item = present(&target.kind, target.version, object);
                // Items of a built-in list carry no kind of their own.
                if !target.kind.custom {
                    json::remove(&mut item, &["kind"]);
                    json::remove(&mut item, &["apiVersion"]);
                }
                item
            };
            let items: Vec<Value> = matching.iter().map(item).collect();
            json!({"kind": target.kind.list_kind, "apiVersion": target.api_version(), "metadata": metadata, "items": items})
        }
    })
}

fn place(object: &Value) -> (String, String) {
    (json::namespace(object).to_owned(), json::name(object).to_owned())
}

/// Where the next page starts: after this object, in the state at this revision.
struct Token {
    revision: u64,
    start: (String, String),
}

impl Token {
    fn write(&self) -> String {
        let token = json!({"rv": self.revision, "namespace": self.start.0, "name": self.start.1});
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token.to_string())
    }

    fn parse(text: &str) -> Result<Self, ApiError> {
        let wrong = || ApiError::bad_request("continue key is not valid");
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
        let token: Value = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
        let revision = token.get("rv").and_then(Value::as_u64).ok_or_else(wrong)?;
        Ok(Self { revision, start: (json::text(&token, "/namespace").to_owned(), json::text(&token, "/name").to_owned()) })
    }
}
