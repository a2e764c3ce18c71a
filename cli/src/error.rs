//! What went wrong, for people and for scripts: every failure has one of a few exit statuses, which are documented.

use crate::{client::Peer, kinds::short};
use std::{fmt, path::Path, time::Duration};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// What every command answers.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// The exit status of the process. The numbers are a promise to scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It failed for a reason without a number of its own.
    Failure = 1,
    /// The command line or the configuration is wrong; nothing was sent.
    Usage = 2,
    /// Nothing of that name.
    NotFound = 3,
    /// Policy refuses it.
    Refused = 4,
    /// Somebody was faster, the name is taken, or the state of things forbids it.
    Conflict = 5,
    /// A service is away.
    Unavailable = 6,
    /// What was waited for did not happen in time.
    TimedOut = 7,
    /// The caller is unknown or may not.
    Denied = 8,
    /// A manifest or a field of the request is wrong.
    Invalid = 9,
}

impl Exit {
    /// The meaning of a gRPC code that carries no details.
    fn of(code: Code) -> Self {
        match code {
            Code::NotFound => Self::NotFound,
            Code::Aborted | Code::AlreadyExists | Code::FailedPrecondition => Self::Conflict,
            Code::Unavailable => Self::Unavailable,
            Code::DeadlineExceeded => Self::TimedOut,
            Code::Unauthenticated | Code::PermissionDenied => Self::Denied,
            Code::InvalidArgument => Self::Invalid,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::ResourceExhausted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss => Self::Failure,
        }
    }
}

/// A failure of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the process ends with.
    pub exit: Exit,
    /// One sentence.
    pub message: String,
    /// One line each: fields at fault, rules broken.
    pub details: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Line and column of the manifest that was sent, from 1, where a service named them.
    pub location: Option<(usize, usize)>,
}

impl Failure {
    /// A failure without details.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), details: vec![], hint: None, location: None }
    }

    /// The command line or the configuration is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A file that cannot be read or written.
    pub fn file(path: &Path, error: &std::io::Error) -> Self {
        Self::usage(format!("{}: {error}", path.display()))
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a line.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.details.push(detail.into());
        self
    }

    /// Says what it happened to.
    pub fn about(mut self, subject: &str) -> Self {
        self.message = format!("{subject}: {}", self.message);
        self
    }

    /// No answer within the time given.
    pub fn no_answer(peer: Peer, waited: Duration) -> Self {
        let waited = muster_core::duration::format(waited);
        Self::new(Exit::TimedOut, format!("the {peer} gave no answer within {waited}")).hint("--timeout allows more")
    }

    /// What a service answered, with the fields and rules its details name.
    pub fn from_status(peer: Peer, address: &str, status: &Status) -> Self {
        let details = status.get_error_details();
        let reason = details.error_info().map_or("", |info| info.reason.as_str());
        let number = |key: &str| details.error_info().and_then(|info| info.metadata.get(key)).and_then(|text| text.parse().ok());
        let location = number("line").zip(number("column"));
        let mut lines = Vec::new();
        for violation in details.bad_request().iter().flat_map(|request| &request.field_violations) {
            lines.push(joined([&violation.field, &violation.description]));
        }
        let mut policy = is_policy(reason);
        for violation in details.precondition_failure().iter().flat_map(|failure| &failure.violations) {
            policy |= is_policy(&violation.r#type);
            // A broken rule is named by the type: `policies/{policy}/rules/{rule}`.
            let rule = violation.r#type.strip_prefix("policies/").map(|_| short(&violation.r#type)).unwrap_or_default();
            lines.push(joined([&rule, &violation.subject, &violation.description]));
        }
        // A single violation is usually the message itself.
        lines.retain(|line| *line != status.message());
        let exit = match status.code() {
            Code::FailedPrecondition if policy => Exit::Refused,
            code => Exit::of(code),
        };
        let cause = root_cause(status);
        let message = match (status.message(), cause) {
            ("", None) => format!("the {peer} answered {:?}", status.code()),
            (text, None) => text.to_owned(),
            (text, Some(cause)) if text.contains(&cause) => text.to_owned(),
            ("", Some(cause)) => cause,
            (text, Some(cause)) => format!("{text}: {cause}"),
        };
        let message = match status.code() {
            Code::Unavailable => format!("the {peer} is unavailable: {message}"),
            Code::Unknown | Code::Internal | Code::Unimplemented | Code::DataLoss => format!("the {peer} failed: {message}"),
            Code::Ok
            | Code::Cancelled
            | Code::InvalidArgument
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unauthenticated => message,
        };
        let hint = match status.code() {
            Code::Unavailable => Some(format!("is it up at {address}? `muster config get-contexts` shows the addresses")),
            Code::Unauthenticated => {
                Some("give the context a token: muster config set-context NAME --token-file FILE".to_owned())
            }
            Code::Aborted => Some("it changed in between; look again and repeat".to_owned()),
            _ => None,
        };
        Self { exit, message, details: lines, hint, location }
    }
}

/// The reason and the violation type by which the services say that a rule is broken. A policy that is in use is not one.
fn is_policy(text: &str) -> bool {
    matches!(text, "POLICY" | "POLICY_VIOLATION") || text.starts_with("policies/")
}

fn joined<const N: usize>(parts: [&String; N]) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(": ")
}

/// The innermost cause of a status the client itself made, as in `Connection refused`.
fn root_cause(status: &Status) -> Option<String> {
    let mut cause = std::error::Error::source(status)?;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Some(cause.to_string())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        for line in &self.details {
            write!(f, "\n  {}", line.replace('\n', "\n  "))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    fn failure(status: &Status) -> Failure {
        Failure::from_status(Peer::Scheduler, "https://127.0.0.1:7402", status)
    }

    #[test]
    fn every_code_has_its_exit_status() {
        let cases = [
            (Code::NotFound, 3),
            (Code::Aborted, 5),
            (Code::AlreadyExists, 5),
            (Code::FailedPrecondition, 5),
            (Code::Unavailable, 6),
            (Code::DeadlineExceeded, 7),
            (Code::Unauthenticated, 8),
            (Code::PermissionDenied, 8),
            (Code::InvalidArgument, 9),
            (Code::Internal, 1),
            (Code::Unimplemented, 1),
        ];
        for (code, exit) in cases {
            assert_eq!(failure(&Status::new(code, "no")).exit as u8, exit, "{code:?}");
        }
    }

    #[test]
    fn a_policy_violation_is_a_refusal_with_rule_path_and_message() {
        let mut details = ErrorDetails::with_error_info("POLICY_VIOLATION", "muster.dev", [("job".to_owned(), "x".to_owned())]);
        let rule = "policies/require-gpu-limits/rules/validate-gpu";
        details.add_precondition_failure_violation(rule, "Pod ml/a spec.containers[0]", "no limits");
        let status = Status::with_error_details(Code::FailedPrecondition, "1 rule is broken", details);
        let failure = failure(&status);
        assert_eq!(failure.exit, Exit::Refused);
        assert_eq!(
            failure.to_string(),
            "error: 1 rule is broken\n  require-gpu-limits/validate-gpu: Pod ml/a spec.containers[0]: no limits"
        );
    }

    #[test]
    fn a_policy_that_is_in_use_is_a_conflict_and_no_refusal() {
        let mut details = ErrorDetails::with_error_info("POLICY_IN_USE", "muster.dev", std::collections::HashMap::new());
        details.add_precondition_failure_violation("BINDING", "fleetPolicies/a", "names it");
        let status = Status::with_error_details(Code::FailedPrecondition, "a names it", details);
        assert_eq!(failure(&status).exit, Exit::Conflict);
    }

    #[test]
    fn fields_at_fault_are_listed_unless_the_message_says_them_already() {
        let mut details = ErrorDetails::with_bad_request_violation("spec.weight", "must be 1 to 65535");
        details.add_bad_request_violation("spec.tiers", "names no fleet");
        let status = Status::with_error_details(Code::InvalidArgument, "spec.weight: must be 1 to 65535", details);
        let failure = failure(&status);
        assert_eq!((failure.exit, failure.details), (Exit::Invalid, vec!["spec.tiers: names no fleet".to_owned()]));
    }

    #[test]
    fn a_service_that_is_away_is_named_with_its_address() {
        let failure = failure(&Status::unavailable("connection refused"));
        assert_eq!(failure.message, "the scheduler is unavailable: connection refused");
        assert!(failure.hint.is_some_and(|hint| hint.contains("https://127.0.0.1:7402")));
    }
}
