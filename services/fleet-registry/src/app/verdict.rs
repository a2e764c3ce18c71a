//! What agents say of policies, read by the owner of the item: the whole, or what changed since a version.

use super::{App, desired::owned_by};
use crate::{
    convert,
    store::verdict::{self, Named, Row},
};
use muster_core::name::ClusterName;
use muster_kit::{Caller, Error, Result, Tx, db, error::parse_name};
use muster_proto::{agent::v1::VerdictRow, registry::v1 as wire};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Rows of a part. A message of a rule may have 4 KiB: a part stays well below what gRPC takes.
const PART: usize = 500;
/// Parts that may wait for the reader; the snapshot is held as long.
const WAITING: usize = 2;

/// The parts of an answer.
pub type Parts = ReceiverStream<std::result::Result<wire::ReadVerdictsResponse, Status>>;

/// Reads them.
pub async fn read(app: &App, caller: &Caller, request: wire::ReadVerdictsRequest) -> Result<Parts> {
    owned_by(caller, &request.owner)?;
    let wire::ReadVerdictsRequest { cluster, owner, name, after } = request;
    let cluster: ClusterName = parse_name("cluster", &cluster)?;
    let mut tx = db::begin(&app.pool).await?;
    sqlx::query("set transaction isolation level repeatable read, read only").execute(&mut *tx).await?;
    let sets = verdict::of_owner(&mut tx, &owner, Some((cluster.cluster(), &name))).await?;
    let missing = || Error::not_found(format_args!("{cluster}/items/{owner}/{name}/verdicts"));
    let of = sets.into_iter().next().ok_or_else(missing)?;
    let since = after.map(|after| (after.incarnation.cast_signed(), after.n.cast_signed()));
    let since = since.filter(|(incarnation, n)| {
        *incarnation == of.set.version_incarnation && (of.set.horizon..=of.set.version).contains(n) && *n > 0
    });
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let sent = send(tx, &owner, &of, since.map(|(_, n)| n), &sender).await;
        if let Err(error) = sent {
            // The reader may be gone as well.
            let _ = sender.send(Err(error.into())).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

async fn send(
    mut tx: Tx,
    owner: &str,
    of: &Named,
    since: Option<i64>,
    to: &mpsc::Sender<std::result::Result<wire::ReadVerdictsResponse, Status>>,
) -> Result<()> {
    let set = convert::verdict_set(owner, &of.name, &of.set);
    let mut after = Vec::new();
    loop {
        let rows = verdict::changed(&mut tx, of.set.id, since.unwrap_or(0), &after, PART as i64).await?;
        let end = rows.len() < PART;
        after = rows.last().map(|row| row.key.clone()).unwrap_or_default();
        let (held, gone): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| row.is_held);
        let messages = |rows: Vec<Row>| rows.into_iter().map(message).collect::<Result<Vec<_>>>();
        let part = wire::ReadVerdictsResponse {
            verdicts: Some(set.clone()),
            whole: since.is_none(),
            added: messages(held)?,
            removed: messages(gone)?,
            end,
        };
        if to.send(Ok(part)).await.is_err() || end {
            return Ok(());
        }
    }
}

fn message(row: Row) -> Result<VerdictRow> {
    let Row { key, body, is_held: _ } = row;
    let body = VerdictRow::decode(body.as_slice()).map_err(Error::internal)?;
    Ok(VerdictRow { key, ..body })
}
