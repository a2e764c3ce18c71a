//! A request taken apart: path, query, the form of the answer.

use crate::{
    state::Actor,
    status::{ApiError, FieldError},
    write::FieldValidation,
};
use http::{HeaderMap, Method, header};
use serde_json::json;

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/version`.
    Version,
    /// `/healthz`, `/readyz`, `/livez`.
    Health,
    /// `/api`.
    CoreVersions,
    /// `/apis`.
    Groups,
    /// `/apis/apps`.
    Group(String),
    /// `/api/v1`, `/apis/apps/v1`: group and version.
    Resources(String, String),
    /// Objects.
    Objects(Place),
    /// Nothing.
    Unknown,
}

/// A place in the tree of objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// API group; "" for the core group.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// "" over all namespaces, and for what is cluster scoped.
    pub namespace: String,
    /// `deployments`.
    pub plural: String,
    /// "" for the collection.
    pub name: String,
    /// "" or `status`, `log`, …
    pub subresource: String,
}

/// Reads a path.
pub fn route(path: &str) -> Route {
    let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decode_percent).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["version"] => return Route::Version,
        ["healthz" | "readyz" | "livez", ..] => return Route::Health,
        ["api"] => return Route::CoreVersions,
        ["apis"] => return Route::Groups,
        ["apis", group] => return Route::Group((*group).to_owned()),
        ["api", version] => return Route::Resources(String::new(), (*version).to_owned()),
        ["apis", group, version] => return Route::Resources((*group).to_owned(), (*version).to_owned()),
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Route::Unknown,
    };
    let own = |text: &str| text.to_owned();
    let base = Place { group: own(group), version: own(version), ..Place::default() };
    let (namespace, rest) = match rest {
        // A namespace is itself an object, with subresources of its own.
        ["namespaces", _] | ["namespaces", _, "status" | "finalize"] if group.is_empty() => ("", rest),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let base = Place { namespace: own(namespace), ..base };
    match rest {
        [plural] => Route::Objects(Place { plural: own(plural), ..base }),
        [plural, name] => Route::Objects(Place { plural: own(plural), name: own(name), ..base }),
        [plural, name, subresource] => {
            Route::Objects(Place { plural: own(plural), name: own(name), subresource: own(subresource), ..base })
        }
        _ => Route::Unknown,
    }
}

/// The pairs of a query, decoded.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=b&c=d`.
    pub fn parse(text: &str) -> Self {
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode_percent(&name.replace('+', " ")), decode_percent(&value.replace('+', " ")))
        };
        Self(text.split('&').filter(|part| !part.is_empty()).map(pair).collect())
    }

    /// The first value of a name, unless it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, value)| other == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// True for `true`, `1` and a bare name.
    pub fn flag(&self, name: &str) -> bool {
        self.0.iter().any(|(other, value)| other == name && matches!(value.as_str(), "" | "1" | "true" | "True"))
    }

    /// A number; one that cannot be read is refused.
    pub fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        self.get(name)
            .map(|text| text.parse().map_err(|_| ApiError::bad_request(format!("{name}: {text:?} is not a number"))))
            .transpose()
    }

    /// Whether nothing may be changed.
    pub fn dry_run(&self) -> Result<bool, ApiError> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => {
                let error = FieldError::not_supported("dryRun", &json!(other), &["All"]);
                Err(ApiError::invalid("meta.k8s.io", "PatchOptions", "", &[error]))
            }
        }
    }

    /// What to do about unknown fields.
    pub fn field_validation(&self) -> Result<FieldValidation, ApiError> {
        match self.get("fieldValidation") {
            Some("Strict") => Ok(FieldValidation::Strict),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some(other) => {
                let error = FieldError::not_supported("fieldValidation", &json!(other), &["Ignore", "Strict", "Warn"]);
                Err(ApiError::invalid("meta.k8s.io", "CreateOptions", "", &[error]))
            }
        }
    }
}

/// Undoes percent encoding; what is not encoded properly stays as it is.
pub fn decode_percent(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// The objects.
    Object,
    /// Their metadata only.
    Metadata,
    /// A table for people.
    Table,
}

/// The form that `Accept` asks for; an error where it asks for nothing this server writes.
pub fn view(headers: &HeaderMap) -> Result<View, ApiError> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    if accept.is_empty() {
        return Ok(View::Object);
    }
    for range in accept.split(',').map(str::trim) {
        let json = range.starts_with("application/json") || range.starts_with("*/*") || range.starts_with("application/*");
        match json {
            true if range.contains("as=Table") => return Ok(View::Table),
            true if range.contains("as=PartialObjectMetadata") => return Ok(View::Metadata),
            true if range.contains("as=") && !range.contains("as=APIGroupDiscoveryList") => {}
            true => return Ok(View::Object),
            false => {}
        }
    }
    if accept.contains("text/plain") || accept.contains("json") {
        return Ok(View::Object);
    }
    Err(ApiError::new(406, "NotAcceptable", "only the following media types are accepted: application/json"))
}

/// Who asks: the user agent, and the field manager from the query or the user agent's first word.
pub fn actor(headers: &HeaderMap, query: &Query) -> Actor {
    let user_agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("unknown").to_owned();
    let manager = query
        .get("fieldManager")
        .map(str::to_owned)
        .unwrap_or_else(|| user_agent.split('/').next().unwrap_or("unknown").chars().take(128).collect());
    Actor { user_agent, manager }
}

/// True for the methods that change something.
pub fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_an_object_and_a_place() {
        let Route::Objects(place) = route("/api/v1/namespaces/ml") else { panic!("not objects") };
        assert_eq!((place.plural.as_str(), place.name.as_str(), place.namespace.as_str()), ("namespaces", "ml", ""));
        let Route::Objects(place) = route("/api/v1/namespaces/ml/pods/a/log") else { panic!("not objects") };
        assert_eq!((place.namespace.as_str(), place.name.as_str(), place.subresource.as_str()), ("ml", "a", "log"));
        let Route::Objects(place) = route("/apis/apps/v1/deployments") else { panic!("not objects") };
        assert_eq!((place.group.as_str(), place.plural.as_str()), ("apps", "deployments"));
    }
}
