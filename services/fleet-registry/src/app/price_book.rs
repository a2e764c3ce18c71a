//! Price books: manifests by name.

use super::{App, MAX_MANIFEST_BYTES, membership};
use crate::{domain::price::PriceBookSpec, store::fleet};
use muster_core::{Manifest, name::PriceBookName, page::Page};
use muster_kit::{
    Caller, Error, Result, Role, Tx, audit, db,
    error::{manifest_error, parse_manifest, parse_name},
    once,
    time::to_proto,
};
use muster_proto::registry::v1 as wire;

/// One price book.
pub async fn get(app: &App, caller: &Caller, request: wire::GetPriceBookRequest) -> Result<wire::PriceBook> {
    caller.require(Role::Viewer)?;
    let name: PriceBookName = parse_name("name", &request.name)?;
    let stored = fleet::book(&app.pool, name.book()).await?;
    Ok(to_wire(stored))
}

/// A page of price books.
pub async fn list(app: &App, caller: &Caller, request: wire::ListPriceBooksRequest) -> Result<wire::ListPriceBooksResponse> {
    caller.require(Role::Viewer)?;
    let page = Page::parse(request.page_size, &request.page_token, "")?;
    let mut rows = fleet::books(&app.pool, &page.after, page.limit()).await?;
    let next_page_token = page.finish(&mut rows, |book| book.name.clone());
    Ok(wire::ListPriceBooksResponse { price_books: rows.into_iter().map(to_wire).collect(), next_page_token })
}

fn to_wire(stored: fleet::Stored) -> wire::PriceBook {
    let fleet::Stored { name, version, manifest, namespace: _, created_at } = stored;
    wire::PriceBook {
        name: format!("priceBooks/{name}"),
        etag: db::etag(version),
        manifest,
        create_time: Some(to_proto(created_at)),
    }
}

/// A manifest with what it says, and the name it goes by.
struct Given {
    manifest: Manifest,
    spec: PriceBookSpec,
}

fn read(text: &str, id_field: &str, id: &str) -> Result<Given> {
    let manifest = parse_manifest("price_book.manifest", text, MAX_MANIFEST_BYTES)?;
    let spec = PriceBookSpec::read(&manifest).map_err(|error| manifest_error("price_book.manifest", &error))?;
    if !id.is_empty() && id != spec.name {
        return Err(Error::invalid(id_field, format!("is {id:?}, and the manifest's metadata.name is {:?}", spec.name)));
    }
    Ok(Given { manifest, spec })
}

/// Makes a price book.
pub async fn create(app: &App, caller: &Caller, request: wire::CreatePriceBookRequest) -> Result<wire::PriceBook> {
    caller.require(Role::Admin)?;
    let text = request.price_book.as_ref().map(|book| book.manifest.as_str()).unwrap_or_default();
    let given = read(text, "price_book_id", &request.price_book_id)?;
    write(app, caller, "CreatePriceBook", &request.request_id, &request, given, Existing::Refuse, request.validate_only).await
}

/// Replaces a price book's manifest.
pub async fn update(app: &App, caller: &Caller, request: wire::UpdatePriceBookRequest) -> Result<wire::PriceBook> {
    caller.require(Role::Admin)?;
    db::check_mask(request.update_mask.as_ref(), &["manifest"])?;
    let book = request.price_book.as_ref().ok_or_else(|| Error::invalid("price_book", "is missing"))?;
    let id = if book.name.is_empty() {
        String::new()
    } else {
        parse_name::<PriceBookName>("price_book.name", &book.name)?.book().to_owned()
    };
    let given = read(&book.manifest, "price_book.name", &id)?;
    let existing = Existing::Replace { etag: book.etag.clone(), make_missing: request.allow_missing };
    write(app, caller, "UpdatePriceBook", &request.request_id, &request, given, existing, request.validate_only).await
}

/// What to do about a price book of that name.
enum Existing {
    Refuse,
    Replace { etag: String, make_missing: bool },
}

#[expect(clippy::too_many_arguments, reason = "the parts of a mutation, each named once by its caller")]
async fn write(
    app: &App,
    caller: &Caller,
    method: &'static str,
    request_id: &str,
    request: &impl prost::Message,
    given: Given,
    existing: Existing,
    validate_only: bool,
) -> Result<wire::PriceBook> {
    if validate_only {
        // The whole effect, and then as if it had not been.
        let mut tx = db::begin(&app.pool).await?;
        return effect(&mut tx, caller, method, &given, &existing).await;
    }
    once!(app.pool, caller, method, request_id, *request, tx => { effect(tx, caller, method, &given, &existing).await })
}

async fn effect(
    tx: &mut Tx,
    caller: &Caller,
    method: &'static str,
    given: &Given,
    existing: &Existing,
) -> Result<wire::PriceBook> {
    let name = &given.spec.name;
    let resource = format!("priceBooks/{name}");
    match (fleet::lock_book(tx, name).await?, existing) {
        (Some(_), Existing::Refuse) => {
            return Err(Error::already_exists(&resource, format!("{resource} exists; update it instead")));
        }
        (None, Existing::Replace { etag: _, make_missing: false }) => return Err(Error::not_found(&resource)),
        (None, Existing::Refuse | Existing::Replace { .. }) => {
            fleet::insert_book(tx, name, &given.manifest.text).await?;
        }
        (Some(stored), Existing::Replace { etag, make_missing: _ }) => {
            db::check_etag(etag, stored.version)?;
            if stored.manifest != given.manifest.text {
                fleet::update_book(tx, name, &given.manifest.text).await?;
            }
        }
    }
    membership::refresh(tx).await?;
    audit::record(tx, caller, method, &resource).await?;
    let stored = fleet::lock_book(tx, name).await?.ok_or_else(|| Error::not_found(&resource))?;
    Ok(to_wire(stored))
}

/// Deletes a price book.
pub async fn delete(app: &App, caller: &Caller, request: wire::DeletePriceBookRequest) -> Result<wire::DeletePriceBookResponse> {
    caller.require(Role::Admin)?;
    let name: PriceBookName = parse_name("name", &request.name)?;
    once!(app.pool, caller, "DeletePriceBook", request.request_id, request, tx => {
        let stored = fleet::lock_book(tx, name.book()).await?.ok_or_else(|| Error::not_found(&name))?;
        db::check_etag(&request.etag, stored.version)?;
        fleet::delete_book(tx, name.book()).await?;
        membership::refresh(tx).await?;
        audit::record(tx, caller, "DeletePriceBook", &name.to_string()).await?;
        Ok(wire::DeletePriceBookResponse {})
    })
}
