//! What goes wrong, as the `Status` object of the Kubernetes API: code, reason, message and the causes by field.

use serde_json::{Value, json};

/// A refused request.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason, as `metav1.StatusReason`; empty where Kubernetes gives none.
    pub reason: &'static str,
    /// The text people read.
    pub message: String,
    details: Option<Value>,
}

/// One field at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The reason of this cause, as `metav1.CauseType`.
    pub reason: &'static str,
    /// The path of the field, `spec.template.spec.containers[0].image`.
    pub field: String,
    /// What is wrong with it, without the path.
    pub message: String,
}

impl FieldError {
    /// A field that has to be there is not.
    pub fn required(field: impl Into<String>, why: &str) -> Self {
        let colon = if why.is_empty() { "" } else { ": " };
        Self { reason: "FieldValueRequired", field: field.into(), message: format!("Required value{colon}{why}") }
    }

    /// A field has a value it cannot have.
    pub fn invalid(field: impl Into<String>, value: &Value, why: impl std::fmt::Display) -> Self {
        Self { reason: "FieldValueInvalid", field: field.into(), message: format!("Invalid value: {value}: {why}") }
    }

    /// A field has a value out of a closed list of others.
    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let supported: Vec<String> = supported.iter().map(|one| format!("\"{one}\"")).collect();
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            message: format!("Unsupported value: {value}: supported values: {}", supported.join(", ")),
        }
    }

    /// The same key twice in a list whose keys are unique.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self { reason: "FieldValueDuplicate", field: field.into(), message: format!("Duplicate value: {value}") }
    }

    /// A field that may not be set or changed here.
    pub fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {why}") }
    }
}

impl ApiError {
    /// An error with a code, a reason and a message, and no details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    /// 400: the request cannot be read.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 404 for a path that nothing serves.
    pub fn no_such_path() -> Self {
        Self { details: Some(json!({})), ..Self::new(404, "NotFound", "the server could not find the requested resource") }
    }

    /// 404 for an object; `resource` is qualified, as in `deployments.apps`.
    pub fn not_found(resource: &str, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{resource} \"{name}\" not found")).about(resource, name)
    }

    /// 409: the name is taken.
    pub fn already_exists(resource: &str, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{resource} \"{name}\" already exists")).about(resource, name)
    }

    /// 409: somebody else wrote first, or a precondition failed.
    pub fn conflict(resource: &str, name: &str, why: &str) -> Self {
        Self::new(409, "Conflict", format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}")).about(resource, name)
    }

    /// 409 for an optimistic lock that lost.
    pub fn modified(resource: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// 409 for an apply that would take fields from other managers.
    pub fn apply_conflict(conflicts: Vec<(String, String)>) -> Self {
        let plural = if conflicts.len() == 1 { "" } else { "s" };
        let mut message = format!("Apply failed with {} conflict{plural}: ", conflicts.len());
        let mut managers: Vec<&str> = conflicts.iter().map(|(manager, _)| manager.as_str()).collect();
        managers.dedup();
        let by_manager: Vec<String> = managers
            .iter()
            .map(|manager| {
                let fields: Vec<&str> =
                    conflicts.iter().filter(|(other, _)| other == manager).map(|(_, field)| field.as_str()).collect();
                match fields.as_slice() {
                    [one] => format!("conflict with {manager}: {one}"),
                    many => format!("conflicts with {manager}:\n- {}", many.join("\n- ")),
                }
            })
            .collect();
        message.push_str(&by_manager.join("\n"));
        let causes: Vec<Value> = conflicts
            .iter()
            .map(|(manager, field)| {
                json!({"reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": field})
            })
            .collect();
        Self { details: Some(json!({"causes": causes})), ..Self::new(409, "Conflict", message) }
    }

    /// 410: the resource version or the continue token is older than what is kept.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 403 with a reason for people.
    pub fn forbidden(resource: &str, name: &str, why: &str) -> Self {
        Self::new(403, "Forbidden", format!("{resource} \"{name}\" is forbidden: {why}")).about(resource, name)
    }

    /// 405: this path does not take this verb.
    pub fn method_not_allowed() -> Self {
        Self {
            details: Some(json!({})),
            ..Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        }
    }

    /// 415: a body in a form that is not read here.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self { details: Some(json!({})), ..Self::new(415, "UnsupportedMediaType", message) }
    }

    /// 422 with every field at fault.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let mut texts: Vec<String> = errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
        texts.dedup();
        let joined = if texts.len() == 1 { texts.remove(0) } else { format!("[{}]", texts.join(", ")) };
        let dot = if group.is_empty() { "" } else { "." };
        let causes: Vec<Value> =
            errors.iter().map(|error| json!({"reason": error.reason, "message": error.message, "field": error.field})).collect();
        let mut details = json!({"name": name, "group": group, "kind": kind, "causes": causes});
        if group.is_empty() {
            crate::json::remove(&mut details, &["group"]);
        }
        Self {
            details: Some(details),
            ..Self::new(422, "Invalid", format!("{kind}{dot}{group} \"{name}\" is invalid: {joined}"))
        }
    }

    /// Adds a machine-readable cause that is not about a field.
    pub fn with_cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        let details = self.details.get_or_insert_with(|| json!({}));
        let mut cause = json!({"reason": reason, "message": message});
        if !field.is_empty() {
            cause["field"] = json!(field);
        }
        details["causes"] = json!([cause]);
        self
    }

    /// Says which object this is about.
    pub fn about(mut self, resource: &str, name: &str) -> Self {
        let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
        let mut details = json!({"name": name, "group": group, "kind": plural});
        if group.is_empty() {
            crate::json::remove(&mut details, &["group"]);
        }
        self.details = Some(details);
        self
    }

    /// Tells the caller how long to wait before it tries again.
    pub fn retry_after_seconds(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_with(|| json!({}))["retryAfterSeconds"] = json!(seconds);
        self
    }

    /// The `Status` object.
    pub fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status["code"] = json!(self.code);
        status
    }
}
