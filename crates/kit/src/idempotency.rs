//! `request_id` (AIP-155): the same mutation again is answered with the first one's result.
//!
//! [`begin`] takes the row's lock, so that two repetitions at once don't both act; [`Pending::finish`] stores the answer
//! in the transaction of the effect.

use crate::{Caller, Error, Result, Tx};
use prost::Message;
use sha2::{Digest, Sha256};
use sqlx::{PgExecutor, PgPool};
use std::collections::BTreeSet;
use uuid::Uuid;

/// What is known of a request.
pub enum Begun<R> {
    /// It was done before; its answer.
    Repeated(R),
    /// It is to be done now.
    Fresh(Pending),
}

/// A request under way.
pub struct Pending {
    key: Option<Key>,
}

/// A request that carries a `request_id`: whose it is, and a digest of what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    caller: String,
    method: &'static str,
    id: Uuid,
    digest: Vec<u8>,
}

impl Key {
    /// The request's key; `None` where it carries no `request_id`.
    ///
    /// # Errors
    /// A `request_id` that is no UUID.
    pub fn of<Q: Message>(caller: &Caller, method: &'static str, request_id: &str, request: &Q) -> Result<Option<Self>> {
        if request_id.is_empty() {
            return Ok(None);
        }
        let id = Uuid::parse_str(request_id).map_err(|_| Error::invalid("request_id", "must be a UUID"))?;
        let digest = Sha256::digest(request.encode_to_vec()).to_vec();
        Ok(Some(Self { caller: caller.to_string(), method, id, digest }))
    }

    /// What no two claims may share, whatever they ask for.
    #[must_use]
    pub fn row(&self) -> (String, &'static str, Uuid) {
        (self.caller.clone(), self.method, self.id)
    }

    /// The encoded answer to the same request; `None` where it has none.
    ///
    /// # Errors
    /// The `request_id` was used for another request.
    pub async fn answer(&self, executor: impl PgExecutor<'_>) -> Result<Option<Vec<u8>>> {
        let row = sqlx::query!(
            "select request_digest, response from request where caller = $1 and method = $2 and request_id = $3",
            self.caller,
            self.method,
            self.id
        )
        .fetch_optional(executor)
        .await?;
        let Some(row) = row else { return Ok(None) };
        if row.request_digest != self.digest {
            return Err(Error::invalid("request_id", "was used for another request"));
        }
        let response = row.response.ok_or_else(|| Error::internal(anyhow::anyhow!("a request committed without its answer")))?;
        Ok(Some(response))
    }
}

/// Looks a request up, or claims it. An empty `request_id` is always fresh.
pub async fn begin<Q: Message, R: Message + Default>(
    tx: &mut Tx,
    caller: &Caller,
    method: &'static str,
    request_id: &str,
    request: &Q,
) -> Result<Begun<R>> {
    let Some(key) = Key::of(caller, method, request_id, request)? else { return Ok(Begun::Fresh(Pending { key: None })) };
    let inserted = sqlx::query!(
        r#"
        insert into request (caller, method, request_id, request_digest)
        values ($1, $2, $3, $4)
        on conflict do nothing
        "#,
        key.caller,
        key.method,
        key.id,
        key.digest
    )
    .execute(&mut **tx)
    .await?;
    if inserted.rows_affected() == 1 {
        return Ok(Begun::Fresh(Pending { key: Some(key) }));
    }
    let response = key.answer(&mut **tx).await?.ok_or_else(|| Error::internal(anyhow::anyhow!("a request vanished")))?;
    Ok(Begun::Repeated(R::decode(response.as_slice()).map_err(Error::internal)?))
}

/// Claims several requests with their answers in one statement; `true` for each that nobody had claimed before. No two may
/// share their row.
pub async fn claim(tx: &mut Tx, requests: &[(&Key, &[u8])]) -> Result<Vec<bool>> {
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let callers: Vec<String> = requests.iter().map(|(key, _)| key.caller.clone()).collect();
    let methods: Vec<String> = requests.iter().map(|(key, _)| key.method.to_owned()).collect();
    let ids: Vec<Uuid> = requests.iter().map(|(key, _)| key.id).collect();
    let digests: Vec<Vec<u8>> = requests.iter().map(|(key, _)| key.digest.clone()).collect();
    let answers: Vec<Vec<u8>> = requests.iter().map(|(_, answer)| answer.to_vec()).collect();
    let claimed = sqlx::query!(
        r#"
        insert into request (caller, method, request_id, request_digest, response)
        select * from unnest($1::text[], $2::text[], $3::uuid[], $4::bytea[], $5::bytea[])
        on conflict do nothing
        returning caller, method, request_id
        "#,
        &callers,
        &methods,
        &ids,
        &digests,
        &answers
    )
    .fetch_all(&mut **tx)
    .await?;
    let claimed: BTreeSet<(String, String, Uuid)> =
        claimed.into_iter().map(|row| (row.caller, row.method, row.request_id)).collect();
    Ok(requests.iter().map(|(key, _)| claimed.contains(&(key.caller.clone(), key.method.to_owned(), key.id))).collect())
}

/// Takes claims back, in one statement.
pub async fn disclaim(tx: &mut Tx, keys: &[&Key]) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let callers: Vec<String> = keys.iter().map(|key| key.caller.clone()).collect();
    let methods: Vec<String> = keys.iter().map(|key| key.method.to_owned()).collect();
    let ids: Vec<Uuid> = keys.iter().map(|key| key.id).collect();
    sqlx::query!(
        r#"
        delete from request
        where (caller, method, request_id) in (select * from unnest($1::text[], $2::text[], $3::uuid[]))
        "#,
        &callers,
        &methods,
        &ids
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

impl Pending {
    /// Stores the answer.
    pub async fn finish<R: Message>(self, tx: &mut Tx, response: &R) -> Result<()> {
        let Some(key) = self.key else { return Ok(()) };
        sqlx::query!(
            "update request set response = $4 where caller = $1 and method = $2 and request_id = $3",
            key.caller,
            key.method,
            key.id,
            response.encode_to_vec()
        )
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}

/// Forgets answers older than a day, at most 10,000 a call.
pub async fn trim(pool: &PgPool) -> Result<u64> {
    let gone = sqlx::query!(
        r#"
        delete from request
        where (caller, method, request_id) in (
            select caller, method, request_id from request where created_at < now() - interval '1 day' limit 10000
        )
        "#
    )
    .execute(pool)
    .await?;
    Ok(gone.rows_affected())
}

/// A whole mutation: begins a transaction, answers a repetition, else runs the body with the transaction, stores its
/// answer and commits. The body is a block of `Result<R>`; `return` leaves the body, an error rolls back.
///
/// ```text
/// once!(app.pool, caller, "DeleteQueue", request.request_id, request, tx => {
///     store::queue::delete(tx, name).await?;
///     Ok(wire::DeleteQueueResponse {})
/// })
/// ```
///
/// A macro and not a function: an async closure over `&mut Tx` is not general enough for the compiler to see that the
/// handler's future can be sent between threads.
#[macro_export]
macro_rules! once {
    ($pool:expr, $caller:expr, $method:expr, $request_id:expr, $request:expr, $tx:ident => $body:block) => {{
        let answer: $crate::Result<_> = async {
            let mut transaction = $crate::db::begin(&$pool).await?;
            let begun = $crate::idempotency::begin(&mut transaction, $caller, $method, &$request_id, &$request).await?;
            let pending = match begun {
                $crate::idempotency::Begun::Repeated(response) => return $crate::Result::Ok(response),
                $crate::idempotency::Begun::Fresh(pending) => pending,
            };
            let outcome: $crate::Result<_> = {
                let $tx = &mut transaction;
                async { $body }.await
            };
            let response = outcome?;
            pending.finish(&mut transaction, &response).await?;
            transaction.commit().await?;
            $crate::Result::Ok(response)
        }
        .await;
        answer
    }};
}
