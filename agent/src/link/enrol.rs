//! Who the agent is: enrolment with a one-time token, and a new certificate at two thirds of the old one's life.
//!
//! The key is made here, kept at 0600, and never leaves the machine.

use super::{HubAddress, LinkError, convert::timestamp};
use crate::ledger::{Identity, Ledger};
use jiff::{SignedDuration, Timestamp};
use muster_proto::agent::v1::{EnrolRequest, RenewRequest, enrolment_service_client::EnrolmentServiceClient};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, SigningKey};
use std::time::Duration;
use tonic::Code;

/// How long the hub may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Trying again may help.
    #[error("the hub cannot be reached: {0}")]
    Unreachable(String),
    /// Somebody has to do something: another token, another cluster.
    #[error("the hub refused the enrolment: {0}")]
    Refused(String),
    /// The key or the request could not be made.
    #[error("making the certificate request: {0}")]
    Key(#[from] rcgen::Error),
    /// The disk refused.
    #[error(transparent)]
    Ledger(#[from] crate::ledger::LedgerError),
}

impl From<LinkError> for EnrolError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Ledger(error) => Self::Ledger(error),
            other => Self::Unreachable(other.to_string()),
        }
    }
}

fn request_of(key: &KeyPair) -> Result<String, rcgen::Error> {
    CertificateParams::default().serialize_request(key)?.pem()
}

/// Turns a one-time token into an identity and keeps it.
pub async fn enrol(hub: &HubAddress, ledger: &Ledger, token: &str, cluster_uid: &str) -> Result<Identity, EnrolError> {
    let fresh = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?.serialize_pem();
    let key_pem = ledger.enrolment_key(|| fresh)?;
    let key = KeyPair::from_pem(&key_pem)?;
    let mut request = tonic::Request::new(EnrolRequest {
        token: token.to_owned(),
        cluster_uid: cluster_uid.to_owned(),
        csr_pem: request_of(&key)?,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    });
    request.set_timeout(DEADLINE);
    let answer =
        EnrolmentServiceClient::new(hub.connect(None).await?).enrol(request).await.map_err(|status| match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Internal | Code::Cancelled => {
                EnrolError::Unreachable(status.message().to_owned())
            }
            _ => EnrolError::Refused(status.message().to_owned()),
        })?;
    let answer = answer.into_inner();
    let identity = Identity {
        cluster: answer.cluster,
        cluster_uid: cluster_uid.to_owned(),
        key_pem,
        certificate_pem: answer.certificate_pem,
        ca_pem: answer.ca_pem,
        issued_at: Timestamp::now(),
        expires_at: timestamp(answer.expire_time, "expire_time")?,
    };
    ledger.set_identity(&identity)?;
    tracing::info!(cluster.name = %identity.cluster, until = %identity.expires_at, "enrolled");
    Ok(identity)
}

/// When to take a new certificate: at two thirds of the life of this one.
pub(super) fn renewal_due(identity: &Identity) -> Timestamp {
    let life = identity.expires_at.duration_since(identity.issued_at);
    identity.issued_at + SignedDuration::from_millis(i64::try_from(life.as_millis()).unwrap_or(i64::MAX) / 3 * 2)
}

/// Takes a new certificate for a new key: by mTLS, or, past its end, by the proof of the old key alone.
pub(super) async fn renew(hub: &HubAddress, ledger: &Ledger, held: &Identity) -> Result<Identity, EnrolError> {
    let old = KeyPair::from_pem(&held.key_pem)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let csr_pem = request_of(&key)?;
    let proof = old.sign(csr_pem.as_bytes())?;
    let expired = held.expires_at <= Timestamp::now();
    let channel = hub.connect(if expired { None } else { Some(held) }).await?;
    let mut request = tonic::Request::new(RenewRequest { csr_pem, certificate_pem: held.certificate_pem.clone(), proof });
    request.set_timeout(DEADLINE);
    let answer = EnrolmentServiceClient::new(channel).renew(request).await.map_err(|status| match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument => {
            EnrolError::Refused(status.message().to_owned())
        }
        _ => EnrolError::Unreachable(status.message().to_owned()),
    })?;
    let answer = answer.into_inner();
    let identity = Identity {
        key_pem: key.serialize_pem(),
        certificate_pem: answer.certificate_pem,
        issued_at: Timestamp::now(),
        expires_at: timestamp(answer.expire_time, "expire_time")?,
        ..held.clone()
    };
    ledger.set_identity(&identity)?;
    tracing::info!(until = %identity.expires_at, "the certificate was renewed");
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life() {
        let identity = Identity {
            cluster: String::new(),
            cluster_uid: String::new(),
            key_pem: String::new(),
            certificate_pem: String::new(),
            ca_pem: String::new(),
            issued_at: "2026-11-01T00:00:00Z".parse().expect("a time"),
            expires_at: "2026-11-04T00:00:00Z".parse().expect("a time"),
        };
        assert_eq!(renewal_due(&identity), "2026-11-03T00:00:00Z".parse().expect("a time"));
    }
}
