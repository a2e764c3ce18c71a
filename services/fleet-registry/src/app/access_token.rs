//! Bearer tokens of people and pipelines.

use super::{App, made_up_id};
use crate::{
    domain::secret::{self, Secret},
    store::{token, token::AccessToken},
};
use async_trait::async_trait;
use jiff::Timestamp;
use muster_core::{name::AccessTokenName, page::Page};
use muster_kit::{
    Caller, Error, Result, Role, audit,
    caller::TokenVerifier,
    db,
    error::parse_name,
    once,
    peer::role_from_proto,
    time::{from_proto, to_proto},
};
use muster_proto::registry::v1 as wire;
use sqlx::PgPool;

/// A role as its column holds it.
pub fn role_column(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

fn role_of(token: &AccessToken) -> Result<Role> {
    match token.role.as_str() {
        "viewer" => Ok(Role::Viewer),
        "operator" => Ok(Role::Operator),
        "admin" => Ok(Role::Admin),
        other => Err(Error::internal(anyhow::anyhow!("the column role holds {other:?}"))),
    }
}

fn role_to_wire(role: Role) -> wire::Role {
    match role {
        Role::Viewer => wire::Role::Viewer,
        Role::Operator => wire::Role::Operator,
        Role::Admin => wire::Role::Admin,
    }
}

fn to_wire(token: AccessToken) -> Result<wire::AccessToken> {
    let role = role_to_wire(role_of(&token)?).into();
    let AccessToken { name, version, subject, role: _, expires_at, created_at } = token;
    Ok(wire::AccessToken {
        name: format!("accessTokens/{name}"),
        etag: db::etag(version),
        subject,
        role,
        expire_time: expires_at.map(to_proto),
        secret: String::new(),
        create_time: Some(to_proto(created_at)),
    })
}

/// Whose secret it is, while it is valid.
pub async fn bearer(pool: &PgPool, secret: &str, now: Timestamp) -> Result<(AccessToken, Role)> {
    let unknown = || Error::unauthenticated("the bearer token is unknown or expired");
    let token = token::access_by_secret(pool, &secret::hash(secret)).await?.ok_or_else(unknown)?;
    if token.expires_at.is_some_and(|end| end <= now) {
        return Err(unknown());
    }
    let role = role_of(&token)?;
    Ok((token, role))
}

/// The registry's own verifier: it has the tokens.
pub struct Verifier(pub App);

#[async_trait]
impl TokenVerifier for Verifier {
    async fn verify(&self, secret: &str) -> Result<(String, Role)> {
        let (token, role) = bearer(&self.0.pool, secret, self.0.clock.now()).await?;
        Ok((token.subject, role))
    }
}

/// For services: whose token it is.
pub async fn introspect(
    app: &App,
    caller: &Caller,
    request: wire::IntrospectAccessTokenRequest,
) -> Result<wire::IntrospectAccessTokenResponse> {
    caller.service()?;
    let (token, role) = bearer(&app.pool, &request.secret, app.clock.now()).await?;
    Ok(wire::IntrospectAccessTokenResponse {
        subject: token.subject,
        role: role_to_wire(role).into(),
        expire_time: token.expires_at.map(to_proto),
    })
}

/// One token.
pub async fn get(app: &App, caller: &Caller, request: wire::GetAccessTokenRequest) -> Result<wire::AccessToken> {
    caller.require(Role::Admin)?;
    let name: AccessTokenName = parse_name("name", &request.name)?;
    to_wire(token::access(&app.pool, name.token()).await?)
}

/// A page of tokens.
pub async fn list(app: &App, caller: &Caller, request: wire::ListAccessTokensRequest) -> Result<wire::ListAccessTokensResponse> {
    caller.require(Role::Admin)?;
    let page = Page::parse(request.page_size, &request.page_token, "")?;
    let mut rows = token::accesses(&app.pool, &page.after, page.limit()).await?;
    let next_page_token = page.finish(&mut rows, |token| token.name.clone());
    let access_tokens = rows.into_iter().map(to_wire).collect::<Result<_>>()?;
    Ok(wire::ListAccessTokensResponse { access_tokens, next_page_token })
}

fn read_expiry(given: Option<&muster_proto::Timestamp>) -> Result<Option<Timestamp>> {
    given.map(|at| from_proto(at).ok_or_else(|| Error::invalid("access_token.expire_time", "is out of range"))).transpose()
}

fn read_role(given: &wire::AccessToken) -> Result<Role> {
    role_from_proto(given.role()).ok_or_else(|| Error::invalid("access_token.role", "must be VIEWER, OPERATOR or ADMIN"))
}

/// Makes a token.
pub async fn create(app: &App, caller: &Caller, request: wire::CreateAccessTokenRequest) -> Result<wire::AccessToken> {
    caller.require(Role::Admin)?;
    let given = request.access_token.clone().unwrap_or_default();
    let id = if request.access_token_id.is_empty() { made_up_id("token") } else { request.access_token_id.clone() };
    let name = AccessTokenName::new(&id).map_err(|error| Error::invalid("access_token_id", error.to_string()))?;
    if given.subject.is_empty() || given.subject.len() > 128 {
        return Err(Error::invalid("access_token.subject", "must be 1 to 128 characters"));
    }
    let role = read_role(&given)?;
    let expires_at = read_expiry(given.expire_time.as_ref())?;
    let secret = Secret::new("mst");
    let mut answer = once!(app.pool, caller, "CreateAccessToken", request.request_id, request, tx => {
        token::insert_access(tx, name.token(), &given.subject, role_column(role), &secret.hash(), expires_at).await?;
        audit::record(tx, caller, "CreateAccessToken", &name.to_string()).await?;
        to_wire(token::lock_access(tx, name.token()).await?)
    })?;
    // Added after the answer was remembered: a repetition gives the token without its secret.
    if token::access_by_secret(&app.pool, &secret.hash()).await?.is_some() {
        answer.secret = secret.reveal();
    }
    Ok(answer)
}

/// Changes role and end.
pub async fn update(app: &App, caller: &Caller, request: wire::UpdateAccessTokenRequest) -> Result<wire::AccessToken> {
    caller.require(Role::Admin)?;
    let mask = db::check_mask(request.update_mask.as_ref(), &["role", "expire_time"])?;
    let given = request.access_token.clone().ok_or_else(|| Error::invalid("access_token", "is missing"))?;
    let name: AccessTokenName = parse_name("access_token.name", &given.name)?;
    once!(app.pool, caller, "UpdateAccessToken", request.request_id, request, tx => {
        let stored = token::lock_access(tx, name.token()).await?;
        db::check_etag(&given.etag, stored.version)?;
        let has = |field: &str| mask.iter().any(|path| path == field);
        let role = if has("role") { read_role(&given)? } else { role_of(&stored)? };
        let expires_at = if has("expire_time") { read_expiry(given.expire_time.as_ref())? } else { stored.expires_at };
        token::update_access(tx, name.token(), role_column(role), expires_at).await?;
        audit::record(tx, caller, "UpdateAccessToken", &name.to_string()).await?;
        to_wire(token::lock_access(tx, name.token()).await?)
    })
}

/// Voids a token.
pub async fn delete(
    app: &App,
    caller: &Caller,
    request: wire::DeleteAccessTokenRequest,
) -> Result<wire::DeleteAccessTokenResponse> {
    caller.require(Role::Admin)?;
    let name: AccessTokenName = parse_name("name", &request.name)?;
    once!(app.pool, caller, "DeleteAccessToken", request.request_id, request, tx => {
        let stored = token::lock_access(tx, name.token()).await?;
        db::check_etag(&request.etag, stored.version)?;
        token::delete_access(tx, name.token()).await?;
        audit::record(tx, caller, "DeleteAccessToken", &name.to_string()).await?;
        Ok(wire::DeleteAccessTokenResponse {})
    })
}
