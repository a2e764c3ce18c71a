//! Resource names (AIP-122), fixed from the first day: `clusters/{cluster}`, `namespaces/{namespace}/jobs/{job}`, …
//!
//! An identifier is a DNS-1123 subdomain of at most 63 characters (`a-z`, `0-9`, `-`, `.`), so that it is also a legal
//! Kubernetes object name; model versions may besides hold upper case letters and `_`, since people write `V2_final`.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Longest identifier within a name.
pub const MAX_ID: usize = 63;

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The collections or their number are not those of this kind of name.
    #[error("{name:?} is not of the form {pattern}")]
    Pattern {
        /// What was given, cut short.
        name: String,
        /// What is expected.
        pattern: &'static str,
    },
    /// An identifier outside the grammar.
    #[error("{id:?} must be 1 to 63 characters of a-z, 0-9, '-' and '.', starting and ending with a letter or digit")]
    Id {
        /// What was given, cut short.
        id: String,
    },
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Checks an identifier: a DNS-1123 subdomain of at most [`MAX_ID`] characters.
pub fn check_id(id: &str) -> Result<(), NameError> {
    check(id, |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'), |byte| matches!(byte, b'-' | b'.'))
}

/// Checks a model version's identifier: letters of either case, digits, `-`, `.`, `_`.
pub fn check_version_id(id: &str) -> Result<(), NameError> {
    check(id, |byte| byte.is_ascii_alphanumeric(), |byte| matches!(byte, b'-' | b'.' | b'_'))
}

fn check(id: &str, edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> Result<(), NameError> {
    let bytes = id.as_bytes();
    let legal = matches!((bytes.first(), bytes.last()), (Some(first), Some(last)) if edge(*first) && edge(*last))
        && bytes.len() <= MAX_ID
        && bytes.iter().all(|byte| edge(*byte) || inner(*byte));
    if legal { Ok(()) } else { Err(NameError::Id { id: short(id) }) }
}

/// Splits `name` by a pattern such as `clusters/{cluster}`, checking every identifier.
fn split(name: &str, pattern: &'static str) -> Result<Vec<String>, NameError> {
    let mismatch = || NameError::Pattern { name: short(name), pattern };
    let (given, expected): (Vec<_>, Vec<_>) = (name.split('/').collect(), pattern.split('/').collect());
    if given.len() != expected.len() {
        return Err(mismatch());
    }
    let mut ids = Vec::with_capacity(expected.len() / 2);
    for (given, expected) in given.into_iter().zip(expected) {
        match expected {
            "{version}" => check_version_id(given)?,
            variable if variable.starts_with('{') => check_id(given)?,
            literal if literal == given => continue,
            _ => return Err(mismatch()),
        }
        ids.push(given.to_owned());
    }
    Ok(ids)
}

macro_rules! resource_name {
    ($(#[$doc:meta])* $type:ident, $pattern:literal, $($field:ident),+) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type { $($field: String),+ }

        impl $type {
            /// The form of the name.
            pub const PATTERN: &'static str = $pattern;

            /// A name from its identifiers, each checked.
            pub fn new($($field: &str),+) -> Result<Self, NameError> {
                let mut name = $pattern.to_owned();
                $( name = name.replace(concat!("{", stringify!($field), "}"), $field); )+
                name.parse()
            }

            $(
                #[doc = concat!("The identifier `", stringify!($field), "`.")]
                pub fn $field(&self) -> &str { &self.$field }
            )+
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                let mut ids = split(name, $pattern)?.into_iter();
                $( let $field = ids.next().expect("split gives one identifier a variable"); )+
                Ok(Self { $($field),+ })
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut name = $pattern.to_owned();
                $( name = name.replace(concat!("{", stringify!($field), "}"), &self.$field); )+
                f.write_str(&name)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> { name.parse() }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self { name.to_string() }
        }
    };
}

resource_name!(
    /// A member cluster.
    ClusterName, "clusters/{cluster}", cluster);
resource_name!(
    /// A group of clusters.
    FleetName, "fleets/{fleet}", fleet);
resource_name!(
    /// A one-time right to enrol one cluster.
    EnrolmentTokenName, "enrolmentTokens/{token}", token);
resource_name!(
    /// Prices of GPU-hours.
    PriceBookName, "priceBooks/{book}", book);
resource_name!(
    /// A bearer token of a person or a pipeline.
    AccessTokenName, "accessTokens/{token}", token);
resource_name!(
    /// A queue of jobs.
    QueueName, "queues/{queue}", queue);
resource_name!(
    /// A training job.
    JobName, "namespaces/{namespace}/jobs/{job}", namespace, job);
resource_name!(
    /// One attempt at a job.
    RunName, "namespaces/{namespace}/jobs/{job}/runs/{epoch}", namespace, job, epoch);
resource_name!(
    /// A git repository releases come from.
    GitRepositoryName, "namespaces/{namespace}/gitRepositories/{repository}", namespace, repository);
resource_name!(
    /// What is released, and where to.
    ApplicationName, "namespaces/{namespace}/applications/{application}", namespace, application);
resource_name!(
    /// One commit of an application on its way.
    ReleaseName, "namespaces/{namespace}/applications/{application}/releases/{release}", namespace, application, release);
resource_name!(
    /// A trained model.
    ModelName, "models/{model}", model);
resource_name!(
    /// One version of a model.
    ModelVersionName, "models/{model}/versions/{version}", model, version);
resource_name!(
    /// A policy.
    PolicyName, "policies/{policy}", policy);
resource_name!(
    /// A binding of policies to a fleet.
    FleetPolicyName, "fleetPolicies/{binding}", binding);
resource_name!(
    /// What a cluster's workloads do about a policy.
    PolicyReportName, "clusters/{cluster}/policyReports/{report}", cluster, report);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_what_they_print() {
        let name: ReleaseName = "namespaces/ml/applications/resnet50/releases/r-7".parse().expect("legal");
        assert_eq!((name.namespace(), name.application(), name.release()), ("ml", "resnet50", "r-7"));
        assert_eq!(name.to_string(), "namespaces/ml/applications/resnet50/releases/r-7");
        assert_eq!(
            ModelVersionName::new("resnet50", "V2_final").map(|name| name.to_string()),
            Ok("models/resnet50/versions/V2_final".to_owned())
        );
    }

    #[test]
    fn names_outside_the_grammar_are_refused() {
        let long = "a".repeat(64);
        for id in ["", "Upper", "-edge", "edge-", "a/b", "ä", long.as_str()] {
            assert!(ClusterName::new(id).is_err(), "{id:?}");
        }
        assert_eq!(
            "fleets/a".parse::<ClusterName>(),
            Err(NameError::Pattern { name: "fleets/a".to_owned(), pattern: "clusters/{cluster}" })
        );
    }
}
