//! The `fleet` and `price_book` tables: manifests by name.

use jiff::Timestamp;
use muster_kit::{Error, Result, Tx, db::violates};
use sqlx::PgPool;

/// A manifest as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The identifier.
    pub name: String,
    /// The row's version.
    pub version: i64,
    /// The manifest as it came.
    pub manifest: String,
    /// The namespace it came from; empty if none.
    pub namespace: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// One fleet, locked for a change.
pub async fn lock_fleet(tx: &mut Tx, name: &str) -> Result<Option<Stored>> {
    let row = sqlx::query!("select name, version, manifest, namespace, created_at from fleet where name = $1 for update", name)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.map(|row| Stored {
        name: row.name,
        version: row.version,
        manifest: row.manifest,
        namespace: row.namespace,
        created_at: row.created_at.to_jiff(),
    }))
}

/// Fleets after a name.
pub async fn fleets(pool: &PgPool, after: &str, limit: i64) -> Result<Vec<Stored>> {
    let rows = sqlx::query!(
        "select name, version, manifest, namespace, created_at from fleet where name > $1 order by name limit $2",
        after,
        limit
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Stored {
            name: row.name,
            version: row.version,
            manifest: row.manifest,
            namespace: row.namespace,
            created_at: row.created_at.to_jiff(),
        })
        .collect())
}

/// One fleet.
pub async fn fleet(pool: &PgPool, name: &str) -> Result<Stored> {
    let row = sqlx::query!("select name, version, manifest, namespace, created_at from fleet where name = $1", name)
        .fetch_optional(pool)
        .await?
        .ok_or_else(|| Error::not_found(format_args!("fleets/{name}")))?;
    Ok(Stored {
        name: row.name,
        version: row.version,
        manifest: row.manifest,
        namespace: row.namespace,
        created_at: row.created_at.to_jiff(),
    })
}

/// The manifests of all fleets, in name order.
pub async fn every_fleet(tx: &mut Tx) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar!("select manifest from fleet order by name").fetch_all(&mut **tx).await?)
}

/// Makes a fleet.
pub async fn insert_fleet(tx: &mut Tx, name: &str, manifest: &str, namespace: &str) -> Result<()> {
    sqlx::query!("insert into fleet (name, manifest, namespace) values ($1, $2, $3)", name, manifest, namespace)
        .execute(&mut **tx)
        .await
        .map_err(|error| taken(error, "fleet_name_is_taken", &format!("fleets/{name}")))?;
    Ok(())
}

/// Replaces a fleet's manifest.
pub async fn update_fleet(tx: &mut Tx, name: &str, manifest: &str) -> Result<()> {
    sqlx::query!("update fleet set manifest = $2, version = version + 1 where name = $1", name, manifest)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Deletes a fleet.
pub async fn delete_fleet(tx: &mut Tx, name: &str) -> Result<()> {
    sqlx::query!("delete from fleet where name = $1", name).execute(&mut **tx).await?;
    Ok(())
}

/// One price book, locked for a change.
pub async fn lock_book(tx: &mut Tx, name: &str) -> Result<Option<Stored>> {
    let row = sqlx::query!("select name, version, manifest, created_at from price_book where name = $1 for update", name)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.map(|row| Stored {
        name: row.name,
        version: row.version,
        manifest: row.manifest,
        namespace: String::new(),
        created_at: row.created_at.to_jiff(),
    }))
}

/// Price books after a name.
pub async fn books(pool: &PgPool, after: &str, limit: i64) -> Result<Vec<Stored>> {
    let rows = sqlx::query!(
        "select name, version, manifest, created_at from price_book where name > $1 order by name limit $2",
        after,
        limit
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Stored {
            name: row.name,
            version: row.version,
            manifest: row.manifest,
            namespace: String::new(),
            created_at: row.created_at.to_jiff(),
        })
        .collect())
}

/// One price book.
pub async fn book(pool: &PgPool, name: &str) -> Result<Stored> {
    let found = books_named(pool, name).await?;
    found.ok_or_else(|| Error::not_found(format_args!("priceBooks/{name}")))
}

async fn books_named(pool: &PgPool, name: &str) -> Result<Option<Stored>> {
    let row = sqlx::query!("select name, version, manifest, created_at from price_book where name = $1", name)
        .fetch_optional(pool)
        .await?;
    Ok(row.map(|row| Stored {
        name: row.name,
        version: row.version,
        manifest: row.manifest,
        namespace: String::new(),
        created_at: row.created_at.to_jiff(),
    }))
}

/// The manifests of all price books, in name order.
pub async fn every_book(tx: &mut Tx) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar!("select manifest from price_book order by name").fetch_all(&mut **tx).await?)
}

/// Makes a price book.
pub async fn insert_book(tx: &mut Tx, name: &str, manifest: &str) -> Result<()> {
    sqlx::query!("insert into price_book (name, manifest) values ($1, $2)", name, manifest)
        .execute(&mut **tx)
        .await
        .map_err(|error| taken(error, "price_book_name_is_taken", &format!("priceBooks/{name}")))?;
    Ok(())
}

/// Replaces a price book's manifest.
pub async fn update_book(tx: &mut Tx, name: &str, manifest: &str) -> Result<()> {
    sqlx::query!("update price_book set manifest = $2, version = version + 1 where name = $1", name, manifest)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Deletes a price book.
pub async fn delete_book(tx: &mut Tx, name: &str) -> Result<()> {
    sqlx::query!("delete from price_book where name = $1", name).execute(&mut **tx).await?;
    Ok(())
}

/// The domain's error for a violated unique constraint.
pub fn taken(error: sqlx::Error, constraint: &str, name: &str) -> Error {
    if violates(&error, constraint) {
        Error::already_exists(name, format!("{name} exists; update it instead"))
    } else {
        error.into()
    }
}
