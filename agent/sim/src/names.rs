//! Which names Kubernetes takes, and what it says of the others.

use crate::{resource::ResourceType, status::FieldError};
use serde_json::{Value, json};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const LABEL_KEY: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// True for an RFC 1123 label: at most 63 lower-case letters, digits and inner dashes.
pub fn is_label(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= 63 && name.bytes().all(legal) && !name.starts_with('-') && !name.ends_with('-')
}

/// True for labels joined by dots, at most 253 long.
pub fn is_subdomain(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|part| {
            is_label(part)
                || (part.len() > 63
                    && is_label(&part[..63])
                    && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                    && !part.ends_with('-'))
        })
}

/// What is wrong with the name of an object of this kind.
pub fn check_name(kind: &ResourceType, name: &str) -> Option<FieldError> {
    let value = json!(name);
    let field = "metadata.name";
    match kind.kind.as_str() {
        _ if name.is_empty() => Some(FieldError::required(field, "name or generateName is required")),
        "Role" | "ClusterRole" | "RoleBinding" | "ClusterRoleBinding" => {
            let illegal = name == "." || name == ".." || name.contains(['/', '%']);
            illegal.then(|| FieldError::invalid(field, &value, "may not be '.', '..' or contain '/' or '%'"))
        }
        "Namespace" | "Service" if name.len() > 63 => {
            Some(FieldError::invalid(field, &value, "must be no more than 63 characters"))
        }
        "Namespace" => (!is_label(name)).then(|| FieldError::invalid(field, &value, LABEL)),
        "Service" => (!is_label(name)).then(|| FieldError::invalid(field, &value, LABEL)),
        _ if name.len() > 253 => Some(FieldError::invalid(field, &value, "must be no more than 253 characters")),
        _ => (!is_subdomain(name)).then(|| FieldError::invalid(field, &value, SUBDOMAIN)),
    }
}

/// What is wrong with a map of labels at `field`.
pub fn check_labels(labels: Option<&Value>, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        let name = key.split_once('/').map_or(key.as_str(), |(_, name)| name);
        if !is_qualified_name(name) || key.split_once('/').is_some_and(|(prefix, _)| !is_subdomain(prefix)) {
            errors.push(FieldError::invalid(field, &json!(key), LABEL_KEY));
        }
        let Some(text) = value.as_str() else { continue };
        if text.len() > 63 {
            errors.push(FieldError::invalid(field, value, "must be no more than 63 characters"));
        } else if !text.is_empty() && !is_qualified_name(text) {
            errors.push(FieldError::invalid(field, value, LABEL_VALUE));
        }
    }
    errors
}

fn is_qualified_name(name: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    name.len() <= 63 && edge(name.bytes().next()) && edge(name.bytes().last()) && name.bytes().all(legal)
}
