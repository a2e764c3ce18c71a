//! From the domain's errors to the boundary's.

use crate::domain::DocumentError;
use muster_kit::Error;

/// A fault in a manifest that came in a field of the request.
pub fn in_field(field: &str, error: &DocumentError) -> Error {
    Error::invalid(format!("{field}.{}", error.field), error.message.clone())
}
