//! From what the domain refuses to what a caller is told.

use muster_kit::Error;

use crate::domain::Fault;

/// A manifest's fault, in the field of the request that brought the manifest, and at its path where one is known.
pub fn in_field(field: &str, fault: Fault) -> Error {
    match fault.field.as_str() {
        "manifest" => Error::invalid(field, fault.why),
        path => Error::invalid(format!("{field}.{path}"), fault.why),
    }
}
