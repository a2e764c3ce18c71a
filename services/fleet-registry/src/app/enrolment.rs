//! Enrolment: a one-time token and a signing request become a certificate bound to the cluster's UID; and renewal.

use super::App;
use crate::{
    domain::{Cluster, State},
    events, pki,
    store::{cluster, cluster::Keep, token, token::EnrolmentToken},
};
use muster_kit::{Caller, Error, Result, audit, caller, db, time::to_proto};
use muster_proto::agent::v1 as wire;
use x509_parser::prelude::FromDer;

/// Longest texts that can be right.
const MAX_PEM_BYTES: usize = 16 * 1024;

/// Enrols a cluster.
pub async fn enrol(app: &App, request: wire::EnrolRequest) -> Result<wire::EnrolResponse> {
    let uid = &request.cluster_uid;
    if uid.is_empty() || uid.len() > 128 {
        return Err(Error::invalid("cluster_uid", "must be the UID of the kube-system namespace"));
    }
    if request.csr_pem.len() > MAX_PEM_BYTES {
        return Err(Error::invalid("csr_pem", "is too large"));
    }
    let now = app.clock.now();
    let mut tx = db::begin(&app.pool).await?;
    let hash = crate::domain::secret::hash(&request.token);
    let unknown = || Error::unauthenticated("token: is unknown, was used or has expired");
    let found = token::lock_enrolment_by_secret(&mut tx, &hash).await?.ok_or_else(unknown)?;
    if found.expires_at <= now {
        return Err(unknown());
    }
    let mut joining = cluster::lock(&mut tx, &found.cluster).await?;
    let issue = || {
        app.authority
            .sign_cluster(&request.csr_pem, &joining.name, now, app.settings.certificate_hours)
            .map_err(|error| Error::invalid("csr_pem", error.to_string()))
    };
    if found.used_at.is_some() {
        let issued = issue()?;
        if !is_repetition(&found, &joining, uid, &issued) {
            return Err(unknown());
        }
        cluster::set_fingerprint(&mut tx, joining.id, Some(&issued.fingerprint), Keep::Nothing).await?;
        audit::record(&mut tx, &Caller::Anonymous, "Enrol", &joining.resource()).await?;
        tx.commit().await?;
        return Ok(answer(app, &joining, issued));
    }
    if let Some(other) = cluster::find_by_uid(&mut tx, uid).await?
        && other.id != joining.id
    {
        return refuse_second(tx, other, &joining.name).await;
    }
    match &joining.uid {
        Some(known) if known != uid => {
            let name = joining.resource();
            return refuse_second(tx, joining, &name).await;
        }
        Some(_) | None => {}
    }
    let issued = issue()?;
    token::use_enrolment(&mut tx, &found.name, now, &issued.key_fingerprint).await?;
    joining.uid = Some(uid.clone());
    joining.state = State::Joining;
    joining.reason = "its agent has not sent inventory yet".to_owned();
    joining.agent_version = request.agent_version.chars().take(64).collect();
    joining.enrolled_at = Some(now);
    joining.version = cluster::update(&mut tx, &joining).await?;
    cluster::set_fingerprint(&mut tx, joining.id, Some(&issued.fingerprint), Keep::Nothing).await?;
    audit::record(&mut tx, &Caller::Anonymous, "Enrol", &joining.resource()).await?;
    events::cluster(&mut tx, "cluster.joined", &joining).await?;
    tx.commit().await?;
    tracing::info!(cluster.name = joining.name, "a cluster has enrolled");
    Ok(answer(app, &joining, issued))
}

/// Whether a used token is shown again by the agent that used it, which died before it had kept its certificate: the same
/// key and UID, and nothing was heard from the cluster since.
fn is_repetition(used: &EnrolmentToken, joining: &Cluster, uid: &str, issued: &pki::Issued) -> bool {
    used.key_fingerprint.as_deref() == Some(issued.key_fingerprint.as_str())
        && joining.uid.as_deref() == Some(uid)
        && joining.enrolled_at == used.used_at
        && joining.last_seen_at <= joining.enrolled_at
}

fn answer(app: &App, joining: &Cluster, issued: pki::Issued) -> wire::EnrolResponse {
    wire::EnrolResponse {
        cluster: joining.resource(),
        certificate_pem: issued.pem,
        ca_pem: app.authority.certificate_pem().to_owned(),
        expire_time: Some(to_proto(issued.expires_at)),
    }
}

/// Refuses a second cluster under one identity, and shows it on the one that is known. The token stays unused.
async fn refuse_second(mut tx: muster_kit::Tx, mut known: Cluster, tried: &str) -> Result<wire::EnrolResponse> {
    known.reason = format!("a second cluster under its identity was refused (it tried to enrol as {tried})");
    known.version = cluster::update(&mut tx, &known).await?;
    events::cluster(&mut tx, "cluster.duplicate_refused", &known).await?;
    tx.commit().await?;
    Err(Error::precondition(
        "DUPLICATE_IDENTITY",
        format!("cluster_uid: this identity is enrolled as {} by another UID or name", known.resource()),
    ))
}

/// A new certificate for an enrolled cluster.
pub async fn renew(app: &App, request: wire::RenewRequest) -> Result<wire::RenewResponse> {
    if request.csr_pem.len() > MAX_PEM_BYTES || request.certificate_pem.len() > MAX_PEM_BYTES {
        return Err(Error::invalid("csr_pem", "is too large"));
    }
    let refused = |why: &str| Error::unauthenticated(format!("certificate_pem: {why}"));
    let (_, pem) = x509_parser::pem::parse_x509_pem(request.certificate_pem.as_bytes()).map_err(|_| refused("is not PEM"))?;
    let (_, held) =
        x509_parser::certificate::X509Certificate::from_der(&pem.contents).map_err(|_| refused("is not a certificate"))?;
    if !pki::proves(&held, request.csr_pem.as_bytes(), &request.proof) {
        return Err(Error::unauthenticated("proof: is not a signature with the certificate's key"));
    }
    let Some(Caller::Cluster { name, fingerprint }) = caller::from_certificate(&pem.contents) else {
        return Err(refused("names no cluster"));
    };
    let now = app.clock.now();
    let expired_for = now.as_second() - held.validity().not_after.timestamp();
    if expired_for > i64::from(app.settings.renewal_grace_hours) * 3600 {
        return Err(refused("expired too long ago; enrol anew"));
    }
    let mut tx = db::begin(&app.pool).await?;
    let known = cluster::lock(&mut tx, &name).await?;
    // Only what we issued and did not void: its fingerprint stands in the row.
    let credentials = cluster::credentials(&mut tx, known.id).await?;
    let is_known = |held: &Option<String>| held.as_deref() == Some(fingerprint.as_str());
    if !is_known(&credentials.fingerprint) && !is_known(&credentials.previous) {
        return Err(refused("is void"));
    }
    let issued = app
        .authority
        .sign_cluster(&request.csr_pem, &name, now, app.settings.certificate_hours)
        .map_err(|error| Error::invalid("csr_pem", error.to_string()))?;
    cluster::set_fingerprint(&mut tx, known.id, Some(&issued.fingerprint), Keep::Previous).await?;
    audit::record(&mut tx, &Caller::Cluster { name, fingerprint }, "Renew", &known.resource()).await?;
    tx.commit().await?;
    Ok(wire::RenewResponse { certificate_pem: issued.pem, expire_time: Some(to_proto(issued.expires_at)) })
}
