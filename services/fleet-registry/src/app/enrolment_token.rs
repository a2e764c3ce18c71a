//! One-time tokens to enrol a cluster.

use super::{App, cluster as clusters, made_up_id};
use crate::{
    domain::secret::Secret,
    store::{cluster, token, token::EnrolmentToken},
};
use jiff::{SignedDuration, Timestamp};
use muster_core::{
    name::{ClusterName, EnrolmentTokenName},
    page::Page,
    selector::Labels,
};
use muster_kit::{
    Caller, Error, Result, Role, audit, db,
    error::parse_name,
    once,
    time::{from_proto, to_proto},
};
use muster_proto::registry::v1 as wire;

/// How long a token is valid when nobody says.
const DEFAULT_VALIDITY: SignedDuration = SignedDuration::from_hours(1);
/// How long at most.
const MAX_VALIDITY: SignedDuration = SignedDuration::from_hours(24 * 7);

fn to_wire(token: EnrolmentToken) -> wire::EnrolmentToken {
    let EnrolmentToken { name, version, cluster, expires_at, used_at, key_fingerprint: _, created_at } = token;
    wire::EnrolmentToken {
        name: format!("enrolmentTokens/{name}"),
        etag: db::etag(version),
        cluster: format!("clusters/{cluster}"),
        expire_time: Some(to_proto(expires_at)),
        use_time: used_at.map(to_proto),
        secret: String::new(),
        create_time: Some(to_proto(created_at)),
    }
}

fn expiry(app: &App, given: Option<&muster_proto::Timestamp>) -> Result<Timestamp> {
    let now = app.clock.now();
    let Some(given) = given else { return Ok(now + DEFAULT_VALIDITY) };
    let at = from_proto(given).ok_or_else(|| Error::invalid("enrolment_token.expire_time", "is out of range"))?;
    if at <= now || at > now + MAX_VALIDITY {
        return Err(Error::invalid("enrolment_token.expire_time", "must lie ahead, at most 7 days"));
    }
    Ok(at)
}

/// One token.
pub async fn get(app: &App, caller: &Caller, request: wire::GetEnrolmentTokenRequest) -> Result<wire::EnrolmentToken> {
    caller.require(Role::Admin)?;
    let name: EnrolmentTokenName = parse_name("name", &request.name)?;
    Ok(to_wire(token::enrolment(&app.pool, name.token()).await?))
}

/// A page of tokens.
pub async fn list(
    app: &App,
    caller: &Caller,
    request: wire::ListEnrolmentTokensRequest,
) -> Result<wire::ListEnrolmentTokensResponse> {
    caller.require(Role::Admin)?;
    let page = Page::parse(request.page_size, &request.page_token, "")?;
    let mut rows = token::enrolments(&app.pool, &page.after, page.limit()).await?;
    let next_page_token = page.finish(&mut rows, |token| token.name.clone());
    Ok(wire::ListEnrolmentTokensResponse { enrolment_tokens: rows.into_iter().map(to_wire).collect(), next_page_token })
}

/// Makes a token; declares its cluster if nobody has.
pub async fn create(app: &App, caller: &Caller, request: wire::CreateEnrolmentTokenRequest) -> Result<wire::EnrolmentToken> {
    caller.require(Role::Admin)?;
    let given = request.enrolment_token.clone().unwrap_or_default();
    let id = if request.enrolment_token_id.is_empty() { made_up_id("enrol") } else { request.enrolment_token_id.clone() };
    let name = EnrolmentTokenName::new(&id).map_err(|error| Error::invalid("enrolment_token_id", error.to_string()))?;
    let enrols: ClusterName = parse_name("enrolment_token.cluster", &given.cluster)?;
    let expires_at = expiry(app, given.expire_time.as_ref())?;
    let secret = Secret::new("mste");
    let mut answer = once!(app.pool, caller, "CreateEnrolmentToken", request.request_id, request, tx => {
        if cluster::find_locked(tx, enrols.cluster()).await?.is_none() {
            clusters::declare(tx, enrols.cluster(), &Labels::new(), "", false).await?;
        }
        token::insert_enrolment(tx, name.token(), enrols.cluster(), &secret.hash(), expires_at).await?;
        audit::record(tx, caller, "CreateEnrolmentToken", &name.to_string()).await?;
        Ok(to_wire(token::lock_enrolment(tx, name.token()).await?))
    })?;
    // Added after the answer was remembered: a repetition gives the token without its secret.
    if answer.name == name.to_string() && token_is_ours(app, &secret).await? {
        answer.secret = secret.reveal();
    }
    Ok(answer)
}

async fn token_is_ours(app: &App, secret: &Secret) -> Result<bool> {
    let mut tx = db::begin(&app.pool).await?;
    Ok(token::lock_enrolment_by_secret(&mut tx, &secret.hash()).await?.is_some())
}

/// Moves a token's end.
pub async fn update(app: &App, caller: &Caller, request: wire::UpdateEnrolmentTokenRequest) -> Result<wire::EnrolmentToken> {
    caller.require(Role::Admin)?;
    db::check_mask(request.update_mask.as_ref(), &["expire_time"])?;
    let given = request.enrolment_token.clone().ok_or_else(|| Error::invalid("enrolment_token", "is missing"))?;
    let name: EnrolmentTokenName = parse_name("enrolment_token.name", &given.name)?;
    let expires_at = expiry(app, given.expire_time.as_ref())?;
    once!(app.pool, caller, "UpdateEnrolmentToken", request.request_id, request, tx => {
        let stored = token::lock_enrolment(tx, name.token()).await?;
        db::check_etag(&given.etag, stored.version)?;
        if stored.used_at.is_some() {
            return Err(Error::precondition("TOKEN_USED", format!("{name} was used")));
        }
        token::update_enrolment(tx, name.token(), expires_at).await?;
        audit::record(tx, caller, "UpdateEnrolmentToken", &name.to_string()).await?;
        Ok(to_wire(token::lock_enrolment(tx, name.token()).await?))
    })
}

/// Voids a token.
pub async fn delete(
    app: &App,
    caller: &Caller,
    request: wire::DeleteEnrolmentTokenRequest,
) -> Result<wire::DeleteEnrolmentTokenResponse> {
    caller.require(Role::Admin)?;
    let name: EnrolmentTokenName = parse_name("name", &request.name)?;
    once!(app.pool, caller, "DeleteEnrolmentToken", request.request_id, request, tx => {
        let stored = token::lock_enrolment(tx, name.token()).await?;
        db::check_etag(&request.etag, stored.version)?;
        token::delete_enrolment(tx, name.token()).await?;
        audit::record(tx, caller, "DeleteEnrolmentToken", &name.to_string()).await?;
        Ok(wire::DeleteEnrolmentTokenResponse {})
    })
}
