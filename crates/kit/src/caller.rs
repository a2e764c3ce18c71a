//! Who calls: an agent or a service by its certificate, a person or a pipeline by a bearer token.
//!
//! The server finds out once a request and puts a [`Caller`] into its extensions; use cases ask it what it may do.

use crate::{Error, Result};
use async_trait::async_trait;
use std::fmt;
use x509_parser::{extensions::GeneralName, prelude::FromDer};

/// What a person or a pipeline may do; each role includes the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads everything.
    Viewer,
    /// Submits, applies, releases.
    Operator,
    /// Enrols, prices, mints tokens.
    Admin,
}

/// Whoever made the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Nobody: only enrolment, health and reflection.
    Anonymous,
    /// A bearer of a token.
    Person {
        /// Whom the audit log names.
        subject: String,
        /// What it may do.
        role: Role,
    },
    /// `spiffe://muster/service/<name>`.
    Service {
        /// `fleet-registry`, `scheduler`, `rollout` or `policy`.
        name: String,
    },
    /// `spiffe://muster/cluster/<name>`.
    Cluster {
        /// The cluster's identifier.
        name: String,
        /// SHA-256 of the certificate (hex), by which it can be revoked.
        fingerprint: String,
    },
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Person { subject, role: _ } => f.write_str(subject),
            Self::Service { name } => write!(f, "service/{name}"),
            Self::Cluster { name, fingerprint: _ } => write!(f, "cluster/{name}"),
        }
    }
}

impl Caller {
    /// The caller of a request; the server put it there.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or(Self::Anonymous)
    }

    /// Needs a person with at least this role; services may do what operators may.
    pub fn require(&self, role: Role) -> Result<()> {
        let has = match self {
            Self::Person { subject: _, role } => *role,
            Self::Service { name: _ } => Role::Operator,
            Self::Anonymous => return Err(Error::unauthenticated("a bearer token or a client certificate is needed")),
            Self::Cluster { .. } => return Err(Error::denied("a cluster may only use its own link")),
        };
        if has >= role {
            return Ok(());
        }
        let needed = match role {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        };
        Err(Error::denied(format!("{self} may not: the role {needed} is needed")))
    }

    /// Needs a service; gives its name.
    pub fn service(&self) -> Result<&str> {
        match self {
            Self::Service { name } => Ok(name),
            Self::Anonymous | Self::Person { .. } | Self::Cluster { .. } => Err(Error::denied("only services may call this")),
        }
    }

    /// Needs an agent; gives its cluster and the fingerprint of its certificate.
    pub fn cluster(&self) -> Result<(&str, &str)> {
        match self {
            Self::Cluster { name, fingerprint } => Ok((name, fingerprint)),
            Self::Anonymous | Self::Person { .. } | Self::Service { .. } => Err(Error::denied("only agents may call this")),
        }
    }
}

/// Whose token it is.
#[async_trait]
pub trait TokenVerifier: Send + Sync + 'static {
    /// The subject and role of a bearer's secret; `Unauthenticated` if it is unknown or expired.
    async fn verify(&self, secret: &str) -> Result<(String, Role)>;
}

/// The caller that a client certificate names, once TLS has found it signed by our authority.
pub fn from_certificate(der: &[u8]) -> Option<Caller> {
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let uri = names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix("spiffe://muster/"),
        _ => None,
    })?;
    match uri.split_once('/')? {
        ("service", name) => Some(Caller::Service { name: name.to_owned() }),
        ("cluster", name) => Some(Caller::Cluster { name: name.to_owned(), fingerprint: fingerprint(der) }),
        _ => None,
    }
}

/// SHA-256 of a certificate (DER), hex.
pub fn fingerprint(der: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(der))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_include_the_ones_before() {
        let operator = Caller::Person { subject: "ci".to_owned(), role: Role::Operator };
        assert!(operator.require(Role::Viewer).is_ok());
        assert!(operator.require(Role::Operator).is_ok());
        assert!(operator.require(Role::Admin).is_err());
        assert!(Caller::Anonymous.require(Role::Viewer).is_err());
        let cluster = Caller::Cluster { name: "edge-01".to_owned(), fingerprint: String::new() };
        assert!(cluster.require(Role::Viewer).is_err());
    }
}
