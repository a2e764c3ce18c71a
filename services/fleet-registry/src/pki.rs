//! The internal certificate authority: agents by `spiffe://muster/cluster/<name>`, services by
//! `spiffe://muster/service/<name>`.
//!
//! Its key is a file, so that two replicas can share it and the database never holds it.

use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};
use muster_kit::caller::fingerprint;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

/// A certificate just made.
pub struct Issued {
    /// The certificate, PEM.
    pub pem: String,
    /// When it expires.
    pub expires_at: Timestamp,
    /// SHA-256 of it, hex.
    pub fingerprint: String,
    /// SHA-256 of the public key, hex.
    pub key_fingerprint: String,
}

impl Authority {
    /// Reads the authority's certificate and key.
    pub fn load(certificate_file: &Path, key_file: &Path) -> anyhow::Result<Self> {
        let certificate_pem =
            fs::read_to_string(certificate_file).with_context(|| format!("reading {}", certificate_file.display()))?;
        let key = fs::read_to_string(key_file).with_context(|| format!("reading {}", key_file.display()))?;
        let key = KeyPair::from_pem(&key).with_context(|| format!("{} is not a private key", key_file.display()))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)
            .with_context(|| format!("{} is not an authority's certificate", certificate_file.display()))?;
        Ok(Self { issuer, certificate_pem })
    }

    /// The authority's certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Signs an agent's request. Only its public key is taken over; the request proves that the agent has the key.
    pub fn sign_cluster(&self, csr_pem: &str, cluster: &str, now: Timestamp, hours: u32) -> anyhow::Result<Issued> {
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem).context("not a certificate signing request")?;
        let expires_at = now + SignedDuration::from_hours(i64::from(hours));
        request.params = params(&format!("spiffe://muster/cluster/{cluster}"), cluster, &[], now, expires_at)?;
        let key_fingerprint = fingerprint(request.public_key.der_bytes());
        let certificate = request.signed_by(&self.issuer)?;
        Ok(Issued { pem: certificate.pem(), expires_at, fingerprint: fingerprint(certificate.der()), key_fingerprint })
    }
}

fn params(uri: &str, name: &str, hosts: &[String], now: Timestamp, expires_at: Timestamp) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.subject_alt_names.push(SanType::URI(uri.try_into()?));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // Ten minutes back: a member's clock may be behind ours.
    params.not_before = at(now - SignedDuration::from_mins(10))?;
    params.not_after = at(expires_at)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn at(time: Timestamp) -> anyhow::Result<time::OffsetDateTime> {
    Ok(time::OffsetDateTime::from_unix_timestamp(time.as_second())?)
}

/// Writes a file that only its owner reads; an existing one is never overwritten.
pub fn write_secret(file: &Path, content: &str) -> anyhow::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut opened = options.open(file).with_context(|| format!("creating {}", file.display()))?;
    opened.write_all(content.as_bytes())?;
    opened.sync_all()?;
    Ok(())
}

/// Makes an authority in a directory: `ca.crt` and `ca.key`. An authority that is there stays.
pub fn bootstrap(directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory)?;
    if directory.join("ca.crt").exists() {
        return Ok(());
    }
    let now = Timestamp::now();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.distinguished_name = DistinguishedName::new();
    authority.distinguished_name.push(DnType::CommonName, "Muster internal authority");
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority.not_before = at(now - SignedDuration::from_mins(10))?;
    authority.not_after = at(now + SignedDuration::from_hours(24 * 3650))?;
    let key = KeyPair::generate()?;
    let certificate = authority.self_signed(&key)?;
    write_secret(&directory.join("ca.key"), &key.serialize_pem())?;
    fs::write(directory.join("ca.crt"), certificate.pem())?;
    Ok(())
}

/// Makes a service's certificate in the authority's directory: `<name>.crt` and `<name>.key`, for the given hosts besides
/// `localhost`, `127.0.0.1` and the name itself.
pub fn issue_service_certificate(directory: &Path, name: &str, hosts: &[String]) -> anyhow::Result<()> {
    if muster_core::name::check_id(name).is_err() {
        bail!("{name:?} is not a service's name");
    }
    let authority = Authority::load(&directory.join("ca.crt"), &directory.join("ca.key"))?;
    let mut all = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), name.to_owned()];
    all.extend(hosts.iter().cloned());
    let now = Timestamp::now();
    let uri = format!("spiffe://muster/service/{name}");
    let params = params(&uri, name, &all, now, now + SignedDuration::from_hours(24 * 365))?;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority.issuer)?;
    let key_file = directory.join(format!("{name}.key"));
    if key_file.exists() {
        fs::remove_file(&key_file)?;
    }
    write_secret(&key_file, &key.serialize_pem())?;
    fs::write(directory.join(format!("{name}.crt")), certificate.pem())?;
    Ok(())
}

/// Whether `proof` is a signature over `message` with the key of a certificate of ours (DER).
pub fn proves(certificate: &x509_parser::certificate::X509Certificate<'_>, message: &[u8], proof: &[u8]) -> bool {
    let key = certificate.public_key().subject_public_key.data.as_ref();
    ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_ASN1, key).verify(message, proof).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_certificate_names_its_cluster_and_nothing_it_asked_for() {
        let directory = tempfile::tempdir().expect("a folder");
        bootstrap(directory.path()).expect("an authority");
        let authority = Authority::load(&directory.path().join("ca.crt"), &directory.path().join("ca.key")).expect("it loads");
        let key = KeyPair::generate().expect("a key");
        let mut wish = CertificateParams::new(vec![]).expect("params");
        wish.subject_alt_names.push(SanType::URI("spiffe://muster/service/scheduler".try_into().expect("ascii")));
        let csr = wish.serialize_request(&key).expect("a request").pem().expect("pem");
        let issued = authority.sign_cluster(&csr, "edge-01", Timestamp::now(), 1).expect("signed");
        let (_, pem) = x509_parser::pem::parse_x509_pem(issued.pem.as_bytes()).expect("pem");
        let caller = muster_kit::caller::from_certificate(&pem.contents).expect("an identity");
        assert_eq!(caller.cluster().expect("a cluster").0, "edge-01");
    }
}
