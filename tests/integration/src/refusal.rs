//! What a refusal must look like: a code, `ErrorInfo`, and the field at fault.
//!
//! The one thing to know: the words of a message are for people; these look only at what programs read.

use anyhow::{Context, Result, ensure};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The refusal has this code and reason, and says so in our domain.
///
/// # Errors
/// It is another.
pub fn has_reason(status: &Status, code: Code, reason: &str, what: &str) -> Result<()> {
    let info = status.get_details_error_info().with_context(|| format!("{what}: no ErrorInfo: {status}"))?;
    ensure!(status.code() == code && info.reason == reason && info.domain == "muster.dev", "{what}: {status} {info:?}");
    Ok(())
}

/// The refusal is INVALID_ARGUMENT and names this field.
///
/// # Errors
/// It is another, or names another.
pub fn names_field(status: &Status, field: &str, what: &str) -> Result<()> {
    let fields = fields(status, what)?;
    ensure!(fields.iter().any(|named| named == field), "{what}: {fields:?} and not {field}: {status}");
    Ok(())
}

/// The refusal is INVALID_ARGUMENT and names this field or one within it.
///
/// # Errors
/// It is another, or names another.
pub fn names_field_of(status: &Status, field: &str, what: &str) -> Result<()> {
    let fields = fields(status, what)?;
    ensure!(fields.iter().any(|named| named.starts_with(field)), "{what}: {fields:?} and not {field}: {status}");
    Ok(())
}

fn fields(status: &Status, what: &str) -> Result<Vec<String>> {
    ensure!(status.code() == Code::InvalidArgument, "{what}: {status}");
    status.get_details_error_info().with_context(|| format!("{what}: no ErrorInfo: {status}"))?;
    let request = status.get_details_bad_request().with_context(|| format!("{what}: no BadRequest: {status}"))?;
    Ok(request.field_violations.into_iter().map(|violation| violation.field).collect())
}
