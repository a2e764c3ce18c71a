//! One boundary error, by what the caller can do about it; the only place that builds a `tonic::Status`.
//!
//! What is internal is logged where it becomes a status and never sent.

use muster_core::{ManifestError, manifest, name::NameError, page::PageError};
use std::fmt;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// What every handler answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Send something else (INVALID_ARGUMENT).
    Invalid,
    /// Name something that is there (NOT_FOUND).
    NotFound,
    /// Choose another name (ALREADY_EXISTS).
    AlreadyExists,
    /// Read again and repeat (ABORTED).
    Conflict,
    /// Change the state of things first (FAILED_PRECONDITION).
    Precondition,
    /// Say who you are (UNAUTHENTICATED).
    Unauthenticated,
    /// Ask somebody who may (PERMISSION_DENIED).
    Denied,
    /// Ask for less, or later (RESOURCE_EXHAUSTED).
    Exhausted,
    /// List again (OUT_OF_RANGE).
    OutOfRange,
    /// Repeat later (UNAVAILABLE).
    Unavailable,
    /// Nothing (INTERNAL).
    Internal,
}

/// A field of the request and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's path, or for a precondition its subject.
    pub field: String,
    /// What is wrong.
    pub description: String,
    /// For a precondition its type, as in `POLICY`.
    pub kind: String,
}

/// The error of every use case.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    reason: &'static str,
    message: String,
    violations: Vec<Violation>,
    metadata: Vec<(String, String)>,
    source: Option<anyhow::Error>,
}

impl Error {
    fn new(kind: Kind, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, reason, message: message.into(), violations: vec![], metadata: vec![], source: None }
    }

    /// A field of the request is wrong.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        let (field, description) = (field.into(), description.into());
        let message = format!("{field}: {description}");
        let mut error = Self::new(Kind::Invalid, "INVALID_FIELD", message);
        error.violations.push(Violation { field, description, kind: String::new() });
        error
    }

    /// The bytes of the request are no message of its kind.
    pub fn malformed(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { reason: "MALFORMED_MESSAGE", ..Self::invalid(field, description) }
    }

    /// Nothing of that name.
    pub fn not_found(name: impl fmt::Display) -> Self {
        Self::new(Kind::NotFound, "NOT_FOUND", format!("{name} does not exist")).with("name", name)
    }

    /// The name is taken.
    pub fn already_exists(name: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self::new(Kind::AlreadyExists, "ALREADY_EXISTS", hint).with("name", name)
    }

    /// Somebody was faster; `reason` is upper snake case.
    pub fn conflict(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, reason, message)
    }

    /// The state of things forbids it; `reason` is upper snake case.
    pub fn precondition(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Precondition, reason, message)
    }

    /// Nobody we know.
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(Kind::Unauthenticated, "UNAUTHENTICATED", message)
    }

    /// Somebody who may not.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(Kind::Denied, "PERMISSION_DENIED", message)
    }

    /// A bound is reached; `reason` is upper snake case.
    pub fn exhausted(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Exhausted, reason, message)
    }

    /// A resume token is too old.
    pub fn too_old(message: impl Into<String>) -> Self {
        Self::new(Kind::OutOfRange, "TOO_OLD", message)
    }

    /// Something needed is away; `reason` is upper snake case.
    pub fn unavailable(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, reason, message)
    }

    /// Our fault; the cause is logged, never sent.
    pub fn internal(cause: impl Into<anyhow::Error>) -> Self {
        let mut error = Self::new(Kind::Internal, "INTERNAL", "an internal error; the service's log has the cause");
        error.source = Some(cause.into());
        error
    }

    /// Adds a violation: a field at fault, or a broken precondition (`kind` is its type).
    pub fn violating(mut self, kind: impl Into<String>, field: impl Into<String>, description: impl Into<String>) -> Self {
        self.violations.push(Violation { field: field.into(), description: description.into(), kind: kind.into() });
        self
    }

    /// Adds metadata to the `ErrorInfo`.
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.metadata.push((key.to_owned(), value.to_string()));
        self
    }

    /// What the caller can do.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The `ErrorInfo` reason.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// What is wrong with which field.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(cause) => write!(f, ": {cause:#}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        if error.kind == Kind::Internal {
            tracing::error!(error = %error, "a request failed");
        }
        let code = match error.kind {
            Kind::Invalid => Code::InvalidArgument,
            Kind::NotFound => Code::NotFound,
            Kind::AlreadyExists => Code::AlreadyExists,
            Kind::Conflict => Code::Aborted,
            Kind::Precondition => Code::FailedPrecondition,
            Kind::Unauthenticated => Code::Unauthenticated,
            Kind::Denied => Code::PermissionDenied,
            Kind::Exhausted => Code::ResourceExhausted,
            Kind::OutOfRange => Code::OutOfRange,
            Kind::Unavailable => Code::Unavailable,
            Kind::Internal => Code::Internal,
        };
        let mut details = ErrorDetails::with_error_info(
            error.reason,
            "muster.dev",
            error.metadata.into_iter().collect::<std::collections::HashMap<_, _>>(),
        );
        // Header space is small: what does not fit into the details is told by number.
        let shown = error.violations.iter().take(50);
        match error.kind {
            Kind::Precondition => {
                for violation in shown {
                    details.add_precondition_failure_violation(&violation.kind, &violation.field, &violation.description);
                }
            }
            Kind::Invalid
            | Kind::NotFound
            | Kind::AlreadyExists
            | Kind::Conflict
            | Kind::Unauthenticated
            | Kind::Denied
            | Kind::Exhausted
            | Kind::OutOfRange
            | Kind::Unavailable
            | Kind::Internal => {
                for violation in shown {
                    details.add_bad_request_violation(&violation.field, &violation.description);
                }
            }
        }
        Status::with_error_details(code, error.message, details)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            // Protocol: what stands in front of a server that is away (a proxy) closes in the middle of the handshake.
            sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_) => {
                tracing::warn!(error = %error, "the database is away");
                Self::unavailable("DATABASE_AWAY", "the service's database is away; try again")
            }
            sqlx::Error::Database(database) => match database.code().as_deref() {
                // serialization_failure, deadlock_detected, lock_not_available
                Some("40001" | "40P01" | "55P03") => Self::conflict("CONTENTION", "another change came between; try again"),
                // admin_shutdown, crash_shutdown, cannot_connect_now, too_many_connections
                Some("57P01" | "57P02" | "57P03" | "53300") => {
                    Self::unavailable("DATABASE_AWAY", "the service's database is away; try again")
                }
                // idle_in_transaction_session_timeout, transaction_timeout
                Some("25P03" | "25P04") => {
                    tracing::warn!(error = %error, "a transaction took too long");
                    Self::unavailable("DATABASE_SLOW", "the service's database is slow; try again")
                }
                _ => Self::internal(error),
            },
            _ => Self::internal(error),
        }
    }
}

impl From<PageError> for Error {
    fn from(error: PageError) -> Self {
        let field = match error {
            PageError::NegativeSize => "page_size",
            PageError::BadToken | PageError::OtherFilter => "page_token",
        };
        Self::invalid(field, error.to_string().split_once(": ").map_or_else(String::new, |(_, text)| text.to_owned()))
    }
}

/// A resource name in a field of the request.
pub fn parse_name<N: std::str::FromStr<Err = NameError>>(field: &str, name: &str) -> Result<N> {
    if name.is_empty() {
        return Err(Error::invalid(field, "must not be empty"));
    }
    name.parse().map_err(|error: NameError| Error::invalid(field, error.to_string()))
}

/// A manifest in a field of the request: exactly one document of at most `max_bytes` that says nothing twice.
pub fn parse_manifest(field: &str, text: &str, max_bytes: usize) -> Result<muster_core::Manifest> {
    if text.len() > max_bytes {
        return Err(Error::invalid(field, format!("is larger than {max_bytes} bytes")));
    }
    manifest::parse_one_strictly(text).map_err(|error| manifest_error(field, &error))
}

/// A fault within a manifest that came in a field.
pub fn manifest_error(field: &str, error: &ManifestError) -> Error {
    Error::invalid(field, error.to_string()).with("line", error.line).with("column", error.column)
}
