//! The `enrolment_token` and `access_token` tables.

use super::fleet::taken;
use jiff::Timestamp;
use muster_kit::{Error, Result, Tx, time::to_db};
use sqlx::PgPool;

/// A one-time token as it is stored.
#[derive(Debug, Clone)]
pub struct EnrolmentToken {
    /// The identifier.
    pub name: String,
    /// The row's version.
    pub version: i64,
    /// The cluster it enrols, an identifier.
    pub cluster: String,
    /// After this it is void.
    pub expires_at: Timestamp,
    /// When it was used.
    pub used_at: Option<Timestamp>,
    /// SHA-256 of the public key that used it, hex.
    pub key_fingerprint: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

struct EnrolmentRow {
    name: String,
    version: i64,
    cluster: String,
    expires_at: jiff_sqlx::Timestamp,
    used_at: Option<jiff_sqlx::Timestamp>,
    key_fingerprint: Option<String>,
    created_at: jiff_sqlx::Timestamp,
}

impl From<EnrolmentRow> for EnrolmentToken {
    fn from(row: EnrolmentRow) -> Self {
        Self {
            name: row.name,
            version: row.version,
            cluster: row.cluster,
            expires_at: row.expires_at.to_jiff(),
            used_at: row.used_at.map(jiff_sqlx::Timestamp::to_jiff),
            key_fingerprint: row.key_fingerprint,
            created_at: row.created_at.to_jiff(),
        }
    }
}

macro_rules! enrolment_tokens {
    ($rest:tt $(, $argument:expr)*) => {
        sqlx::query_as!(
            EnrolmentRow,
            "select name, version, cluster, expires_at, used_at, key_fingerprint, created_at from enrolment_token " + $rest $(, $argument)*
        )
    };
}

/// One enrolment token.
pub async fn enrolment(pool: &PgPool, name: &str) -> Result<EnrolmentToken> {
    let row = enrolment_tokens!("where name = $1", name).fetch_optional(pool).await?;
    row.map(Into::into).ok_or_else(|| Error::not_found(format_args!("enrolmentTokens/{name}")))
}

/// One enrolment token, locked for a change.
pub async fn lock_enrolment(tx: &mut Tx, name: &str) -> Result<EnrolmentToken> {
    let row = enrolment_tokens!("where name = $1 for update", name).fetch_optional(&mut **tx).await?;
    row.map(Into::into).ok_or_else(|| Error::not_found(format_args!("enrolmentTokens/{name}")))
}

/// The enrolment token of a secret, locked for its use.
pub async fn lock_enrolment_by_secret(tx: &mut Tx, hash: &[u8]) -> Result<Option<EnrolmentToken>> {
    let row = enrolment_tokens!("where secret_hash = $1 for update", hash).fetch_optional(&mut **tx).await?;
    Ok(row.map(Into::into))
}

/// Enrolment tokens after a name.
pub async fn enrolments(pool: &PgPool, after: &str, limit: i64) -> Result<Vec<EnrolmentToken>> {
    let rows = enrolment_tokens!("where name > $1 order by name limit $2", after, limit).fetch_all(pool).await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Makes an enrolment token.
pub async fn insert_enrolment(tx: &mut Tx, name: &str, cluster: &str, hash: &[u8], expires_at: Timestamp) -> Result<()> {
    sqlx::query!(
        "insert into enrolment_token (name, cluster, secret_hash, expires_at) values ($1, $2, $3, $4)",
        name,
        cluster,
        hash,
        to_db(expires_at)
    )
    .execute(&mut **tx)
    .await
    .map_err(|error| taken(error, "enrolment_token_name_is_taken", &format!("enrolmentTokens/{name}")))?;
    Ok(())
}

/// Moves an enrolment token's end.
pub async fn update_enrolment(tx: &mut Tx, name: &str, expires_at: Timestamp) -> Result<()> {
    sqlx::query!("update enrolment_token set expires_at = $2, version = version + 1 where name = $1", name, to_db(expires_at))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Marks an enrolment token as used by the holder of a key.
pub async fn use_enrolment(tx: &mut Tx, name: &str, now: Timestamp, key_fingerprint: &str) -> Result<()> {
    sqlx::query!(
        "update enrolment_token set used_at = $2, key_fingerprint = $3, version = version + 1 where name = $1",
        name,
        to_db(now),
        key_fingerprint
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Deletes an enrolment token.
pub async fn delete_enrolment(tx: &mut Tx, name: &str) -> Result<()> {
    sqlx::query!("delete from enrolment_token where name = $1", name).execute(&mut **tx).await?;
    Ok(())
}

/// A bearer token as it is stored.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// The identifier.
    pub name: String,
    /// The row's version.
    pub version: i64,
    /// Whom the audit log names.
    pub subject: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    /// Absent: it does not expire.
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

struct AccessRow {
    name: String,
    version: i64,
    subject: String,
    role: String,
    expires_at: Option<jiff_sqlx::Timestamp>,
    created_at: jiff_sqlx::Timestamp,
}

impl From<AccessRow> for AccessToken {
    fn from(row: AccessRow) -> Self {
        Self {
            name: row.name,
            version: row.version,
            subject: row.subject,
            role: row.role,
            expires_at: row.expires_at.map(jiff_sqlx::Timestamp::to_jiff),
            created_at: row.created_at.to_jiff(),
        }
    }
}

macro_rules! access_tokens {
    ($rest:tt $(, $argument:expr)*) => {
        sqlx::query_as!(
            AccessRow,
            "select name, version, subject, role, expires_at, created_at from access_token " + $rest $(, $argument)*
        )
    };
}

/// One access token.
pub async fn access(pool: &PgPool, name: &str) -> Result<AccessToken> {
    let row = access_tokens!("where name = $1", name).fetch_optional(pool).await?;
    row.map(Into::into).ok_or_else(|| Error::not_found(format_args!("accessTokens/{name}")))
}

/// One access token, locked for a change.
pub async fn lock_access(tx: &mut Tx, name: &str) -> Result<AccessToken> {
    let row = access_tokens!("where name = $1 for update", name).fetch_optional(&mut **tx).await?;
    row.map(Into::into).ok_or_else(|| Error::not_found(format_args!("accessTokens/{name}")))
}

/// The access token of a secret.
pub async fn access_by_secret(pool: &PgPool, hash: &[u8]) -> Result<Option<AccessToken>> {
    let row = access_tokens!("where secret_hash = $1", hash).fetch_optional(pool).await?;
    Ok(row.map(Into::into))
}

/// Access tokens after a name.
pub async fn accesses(pool: &PgPool, after: &str, limit: i64) -> Result<Vec<AccessToken>> {
    let rows = access_tokens!("where name > $1 order by name limit $2", after, limit).fetch_all(pool).await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Makes an access token.
pub async fn insert_access(
    tx: &mut Tx,
    name: &str,
    subject: &str,
    role: &str,
    hash: &[u8],
    expires_at: Option<Timestamp>,
) -> Result<()> {
    sqlx::query!(
        "insert into access_token (name, subject, role, secret_hash, expires_at) values ($1, $2, $3, $4, $5)",
        name,
        subject,
        role,
        hash,
        expires_at.map(to_db)
    )
    .execute(&mut **tx)
    .await
    .map_err(|error| taken(error, "access_token_name_is_taken", &format!("accessTokens/{name}")))?;
    Ok(())
}

/// Changes an access token's role and end.
pub async fn update_access(tx: &mut Tx, name: &str, role: &str, expires_at: Option<Timestamp>) -> Result<()> {
    sqlx::query!(
        "update access_token set role = $2, expires_at = $3, version = version + 1 where name = $1",
        name,
        role,
        expires_at.map(to_db)
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Deletes an access token.
pub async fn delete_access(tx: &mut Tx, name: &str) -> Result<()> {
    sqlx::query!("delete from access_token where name = $1", name).execute(&mut **tx).await?;
    Ok(())
}
