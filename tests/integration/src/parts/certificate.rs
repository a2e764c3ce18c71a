//! Certificates for parts that listen on loopback.

use std::net::Ipv4Addr;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

/// A certificate with its key, from an authority that has made no other.
pub(super) struct Certificate {
    /// The authority's certificate, PEM.
    pub(super) authority: String,
    /// The certificate, PEM.
    pub(super) certificate: String,
    /// Its key.
    pub(super) key: KeyPair,
}

impl Certificate {
    /// For `localhost` and 127.0.0.1, with this common name.
    pub(super) fn for_loopback(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "tests");
        let own = authority.self_signed(&key)?;
        let issuer = Issuer::new(authority, key);
        let key = KeyPair::generate()?;
        let mut server = CertificateParams::new(vec!["localhost".to_owned()])?;
        server.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        server.distinguished_name.push(DnType::CommonName, name);
        Ok(Self { authority: own.pem(), certificate: server.signed_by(&key, &issuer)?.pem(), key })
    }
}
