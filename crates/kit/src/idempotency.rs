//! `request_id` (AIP-155): the same mutation again is answered with the first one's result.
//!
//! [`begin`] takes the row's lock, so that two repetitions at once don't both act; [`Pending::finish`] stores the answer
//! in the transaction of the effect.

use crate::{Caller, Error, Result, Tx};
use prost::Message;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
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
    key: Option<(String, &'static str, Uuid)>,
}

/// Looks a request up, or claims it. An empty `request_id` is always fresh.
pub async fn begin<Q: Message, R: Message + Default>(
    tx: &mut Tx,
    caller: &Caller,
    method: &'static str,
    request_id: &str,
    request: &Q,
) -> Result<Begun<R>> {
    if request_id.is_empty() {
        return Ok(Begun::Fresh(Pending { key: None }));
    }
    let id = Uuid::parse_str(request_id).map_err(|_| Error::invalid("request_id", "must be a UUID"))?;
    let caller = caller.to_string();
    let digest = Sha256::digest(request.encode_to_vec()).to_vec();
    let inserted = sqlx::query!(
        r#"
        insert into request (caller, method, request_id, request_digest)
        values ($1, $2, $3, $4)
        on conflict do nothing
        "#,
        caller,
        method,
        id,
        digest
    )
    .execute(&mut **tx)
    .await?;
    if inserted.rows_affected() == 1 {
        return Ok(Begun::Fresh(Pending { key: Some((caller, method, id)) }));
    }
    let row = sqlx::query!(
        "select request_digest, response from request where caller = $1 and method = $2 and request_id = $3",
        caller,
        method,
        id
    )
    .fetch_one(&mut **tx)
    .await?;
    if row.request_digest != digest {
        return Err(Error::invalid("request_id", "was used for another request"));
    }
    let response = row.response.ok_or_else(|| Error::internal(anyhow::anyhow!("a request committed without its answer")))?;
    Ok(Begun::Repeated(R::decode(response.as_slice()).map_err(Error::internal)?))
}

impl Pending {
    /// Stores the answer.
    pub async fn finish<R: Message>(self, tx: &mut Tx, response: &R) -> Result<()> {
        let Some((caller, method, id)) = self.key else { return Ok(()) };
        sqlx::query!(
            "update request set response = $4 where caller = $1 and method = $2 and request_id = $3",
            caller,
            method,
            id,
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
