//! Changes of verdicts: gathered part by part, and stored in one transaction once the last part is there.
//!
//! What an agent says is a set of rows, and a change names the set it is of by its digest, the exclusive or of its keys.
//! Where that is not what is held here (another replica was told in between, the database was restored, the agent was
//! started anew and says something else) the whole is asked for, and only rows that differ are written. The rows held
//! after a change are checked against the digest that the agent has for them, so nothing is lost unnoticed.

use super::Session;
use crate::{
    app::App,
    convert, events,
    store::verdict::{self, Item, Set},
};
use muster_kit::{Error, Result, Tx, db, event, incarnation, telemetry, time};
use muster_proto::agent::v1::{Generation, VerdictChange, VerdictEnd, VerdictRow};
use prost::Message as _;

/// Of a key and of a digest.
const KEY_BYTES: usize = 16;
/// Rows that come in a part.
const MAX_ADDED: usize = 1_000;
/// Rows that go in a part.
const MAX_REMOVED: usize = 10_000;
/// Rows of a set: violations, and a count for each rule.
const MAX_ROWS: usize = 32_000;
/// Of a change, over its parts: what one agent makes this replica hold.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Rows that went and are remembered, beside as many as a quarter of those that are held.
const MIN_GONE: i32 = 256;

/// A change that is coming in.
#[derive(Debug, Default)]
pub struct Incoming {
    owner: String,
    name: String,
    generation: Generation,
    base: Vec<u8>,
    keys: Vec<Vec<u8>>,
    bodies: Vec<Vec<u8>>,
    removed: Vec<Vec<u8>>,
    bytes: usize,
    began: bool,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is held, or counts for nothing because it is about something older.
    Yes,
    /// It is not of what is held.
    WholeWanted,
}

impl Incoming {
    /// Takes a part; gives what became of the change once it was the last.
    pub async fn take(&mut self, app: &App, cluster: &str, session: &Session, part: VerdictChange) -> Result<Stored> {
        let Some(end) = self.gather(part)? else { return Ok(Stored::Yes) };
        let whole = std::mem::take(self);
        whole.store(app, cluster, session, end).await
    }

    fn gather(&mut self, part: VerdictChange) -> Result<Option<VerdictEnd>> {
        let VerdictChange { sequence: _, owner, name, generation, base, added, removed, end } = part;
        let generation = generation.ok_or_else(|| invalid("generation", "is missing"))?;
        if !self.began {
            if !base.is_empty() && base.len() != KEY_BYTES {
                return Err(invalid("base", "must be empty or 16 bytes"));
            }
            *self = Self { owner, name, generation, base, began: true, ..Self::default() };
        } else if (&self.owner, &self.name, self.generation, &self.base) != (&owner, &name, generation, &base) {
            return Err(invalid("name", "another change began before this one ended"));
        }
        if added.len() > MAX_ADDED || removed.len() > MAX_REMOVED {
            return Err(invalid("added", &format!("more than {MAX_ADDED} rows, or more than {MAX_REMOVED} removed")));
        }
        for row in added {
            let (key, body) = split(row)?;
            self.bytes += key.len() + body.len();
            self.keys.push(key);
            self.bodies.push(body);
        }
        for key in removed {
            self.bytes += checked("removed", &key)?.len();
            self.removed.push(key);
        }
        if self.keys.len() + self.removed.len() > 2 * MAX_ROWS || self.bytes > MAX_BYTES {
            return Err(invalid("added", &format!("a change of more than {} rows or {MAX_BYTES} bytes", 2 * MAX_ROWS)));
        }
        if let Some(end) = &end {
            checked("end.digest", &end.digest)?;
        }
        Ok(end)
    }

    async fn store(self, app: &App, cluster: &str, session: &Session, end: VerdictEnd) -> Result<Stored> {
        let evaluated_at = end.evaluate_time.as_ref().and_then(time::from_proto);
        let evaluated_at = evaluated_at.ok_or_else(|| invalid("end.evaluate_time", "is missing or outside years 1 to 9999"))?;
        let mut tx = db::begin(&app.pool).await?;
        if !verdict::hold_session(&mut tx, session.cluster_id, session.id).await? {
            return Err(Error::conflict("STREAM_REPLACED", "another stream of the cluster has taken this one's place"));
        }
        let item = Item { cluster_id: session.cluster_id, owner: &self.owner, name: &self.name };
        if !verdict::is_desired(&mut tx, item).await? {
            return Ok(Stored::Yes);
        }
        let about = (self.generation.incarnation.cast_signed(), self.generation.n.cast_signed());
        let known = verdict::lock(&mut tx, item).await?;
        if let Some(known) = known.as_ref().filter(|known| (known.incarnation, known.generation) > about) {
            tracing::debug!(cluster.name = cluster, item = self.name, known = known.generation, "verdicts on something older");
            return Ok(Stored::Yes);
        }
        if !self.base.is_empty() && known.as_ref().is_none_or(|known| known.digest != self.base) {
            return Ok(Stored::WholeWanted);
        }
        let is_new = known.is_none();
        let before = known.unwrap_or_else(|| Set {
            id: 0,
            incarnation: about.0,
            generation: about.1,
            version_incarnation: 0,
            version: 0,
            horizon: 0,
            digest: vec![0; KEY_BYTES],
            held: 0,
            gone: 0,
            evaluated_at: time::to_db(evaluated_at),
        });
        let mut now =
            Set { incarnation: about.0, generation: about.1, evaluated_at: time::to_db(evaluated_at), ..before.clone() };
        now.version = verdict::next_version(&mut tx).await?;
        now.version_incarnation = incarnation::current(&mut tx).await?.cast_signed();
        if now.version_incarnation != before.version_incarnation {
            // Numbers of another life of the database say nothing of this one.
            now.horizon = now.version;
        }
        if is_new {
            now.id = verdict::create(&mut tx, item, &now).await?;
        }
        let changed = self.write(&mut tx, &mut now).await?;
        if now.digest != end.digest {
            // Nothing of this transaction stays.
            if self.base.is_empty() {
                return Err(invalid("end.digest", "is not that of the rows"));
            }
            return Ok(Stored::WholeWanted);
        }
        if now.held > i32::try_from(MAX_ROWS).unwrap_or(i32::MAX) {
            return Err(invalid("added", &format!("more than {MAX_ROWS} rows")));
        }
        let same_life = before.version_incarnation == now.version_incarnation;
        if !changed && same_life && (before.incarnation, before.generation) == about {
            return Ok(Stored::Yes);
        }
        if now.gone > MIN_GONE.max(now.held / 4) {
            now.gone -= verdict::forget_gone(&mut tx, now.id, before.version).await?;
            now.horizon = now.horizon.max(before.version);
        }
        verdict::update(&mut tx, &now).await?;
        let response = convert::judged(cluster, convert::verdict_set(&self.owner, &self.name, &now));
        let event = events::verdicts(now.version, &response, telemetry::current_traceparent())?;
        event::append_all(&mut tx, &[event]).await?;
        tx.commit().await?;
        Ok(Stored::Yes)
    }

    /// Writes the rows; whether any is another than before.
    async fn write(&self, tx: &mut Tx, set: &mut Set) -> Result<bool> {
        let (came, back) = verdict::add(tx, set.id, set.version, &self.keys, &self.bodies).await?;
        let went = if self.base.is_empty() {
            verdict::remove_others(tx, set.id, set.version, &self.keys).await?
        } else {
            verdict::remove(tx, set.id, set.version, &self.removed).await?
        };
        for key in came.iter().chain(&went) {
            set.digest.iter_mut().zip(key).for_each(|(digest, key)| *digest ^= key);
        }
        let count = |keys: &[Vec<u8>]| i32::try_from(keys.len()).unwrap_or(i32::MAX);
        set.held += count(&came) - count(&went);
        set.gone += count(&went) - back;
        Ok(!came.is_empty() || !went.is_empty())
    }
}

/// A row's key, and the rest of it.
fn split(row: VerdictRow) -> Result<(Vec<u8>, Vec<u8>)> {
    let VerdictRow { key, row } = row;
    checked("added.key", &key)?;
    if row.is_none() {
        return Err(invalid("added.row", "is missing"));
    }
    Ok((key, VerdictRow { key: vec![], row }.encode_to_vec()))
}

fn checked<'a>(field: &str, key: &'a [u8]) -> Result<&'a [u8]> {
    if key.len() == KEY_BYTES { Ok(key) } else { Err(invalid(field, "must be 16 bytes")) }
}

fn invalid(field: &str, what: &str) -> Error {
    Error::invalid(format!("verdict_change.{field}"), what)
}
