//! Where submits meet: many callers, one transaction with a fixed number of statements, each answered after the commit.
//!
//! While one batch is being written the next one gathers, so that a lone submit waits for nobody, and under load a commit carries
//! as many as came during the one before it. A batch that fails as a whole is written again one by one: a job that can't be
//! stored fails no other.

use std::collections::BTreeSet;

use muster_kit::audit::{self, Deed};
use muster_kit::clock::SharedClock;
use muster_kit::idempotency::{self, Key};
use muster_kit::{Error, Result, db, event};
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};

use crate::domain::record::Job;
use crate::events;
use crate::store::inbox::{self, Subject};
use crate::store::job::write as store;

/// Submits that may wait; one more waits in its call.
const WAITING: usize = 2_000;
/// Submits of one transaction.
const BATCH: usize = 500;
/// Bytes of their manifests, so that no statement grows beyond what Postgres and memory take well.
const BATCH_BYTES: usize = 16 * 1024 * 1024;

/// A job to be stored.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// The request, if it carries a `request_id`.
    pub request: Option<Key>,
    /// Who did what to which resource.
    pub caller: String,
    /// The method.
    pub method: &'static str,
    /// The job.
    pub job: Job,
    /// Its manifest as it came.
    pub manifest: String,
    /// The encoded answer, should it be stored.
    pub answer: Vec<u8>,
    /// Trace context of its request; empty if it has none.
    pub traceparent: String,
}

/// What became of a submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is stored.
    Stored,
    /// The same request was answered before, so.
    Repeated(Vec<u8>),
    /// Another job has its name.
    Taken,
}

struct Waiting {
    new: NewJob,
    reply: oneshot::Sender<Result<Written>>,
}

/// The callers' side.
#[derive(Clone, Debug)]
pub struct Writer(mpsc::Sender<Waiting>);

impl Writer {
    /// A writer, and the loop that does its work until nobody holds the writer any more.
    pub fn new(pool: PgPool, clock: SharedClock) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), run(pool, clock, receiver))
    }

    /// Stores a job, together with whatever else comes at this time; returns after the commit.
    ///
    /// # Errors
    /// A `request_id` that was used for another request; a job that can't be stored; the database away.
    pub async fn write(&self, new: NewJob) -> Result<Written> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::unavailable("STOPPING", "the service is stopping; try again");
        self.0.send(Waiting { new, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn run(pool: PgPool, clock: SharedClock, mut receiver: mpsc::Receiver<Waiting>) {
    let mut waiting: Vec<Waiting> = Vec::new();
    loop {
        let room = BATCH.saturating_sub(waiting.len());
        if waiting.is_empty() {
            if receiver.recv_many(&mut waiting, BATCH).await == 0 {
                return;
            }
        } else {
            // What was left for later, and what came meanwhile.
            waiting.extend(std::iter::from_fn(|| receiver.try_recv().ok()).take(room));
        }
        let batch = take_batch(&mut waiting);
        write_batch(&pool, &clock, batch).await;
    }
}

/// Takes the submits of the next transaction, in their order. Of two with one name or one request the second comes later, and finds
/// the first one written.
fn take_batch(waiting: &mut Vec<Waiting>) -> Vec<Waiting> {
    let (mut names, mut requests) = (BTreeSet::new(), BTreeSet::new());
    let (mut batch, mut later) = (Vec::new(), Vec::new());
    let mut bytes = 0;
    for one in waiting.drain(..) {
        let NewJob { job, request, manifest, .. } = &one.new;
        bytes += manifest.len();
        let fits = bytes <= BATCH_BYTES || batch.is_empty();
        let new_name = names.insert((job.namespace.clone(), job.name.clone()));
        let new_request = request.as_ref().is_none_or(|key| requests.insert(key.row()));
        if fits && new_name && new_request { batch.push(one) } else { later.push(one) }
    }
    *waiting = later;
    batch
}

async fn write_batch(pool: &PgPool, clock: &SharedClock, batch: Vec<Waiting>) {
    let (news, replies): (Vec<NewJob>, Vec<_>) = batch.into_iter().map(|one| (one.new, one.reply)).unzip();
    let outcomes = match store_all(pool, clock, &news).await {
        Ok(outcomes) => outcomes,
        Err(error) if news.len() == 1 => vec![Err(error)],
        Err(error) => {
            tracing::debug!(error = %error, jobs = news.len(), "submits are written one by one");
            let mut outcomes = Vec::with_capacity(news.len());
            for new in &news {
                let alone = store_all(pool, clock, std::slice::from_ref(new)).await;
                outcomes.push(alone.and_then(|mut outcomes| outcomes.pop().unwrap_or(Ok(Written::Taken))));
            }
            outcomes
        }
    };
    for (reply, outcome) in replies.into_iter().zip(outcomes) {
        // Who does not wait any more finds the job by its name.
        let _ = reply.send(outcome);
    }
}

/// Stores jobs in one transaction; gives what became of each. Whatever their number, the statements are as many.
async fn store_all(pool: &PgPool, clock: &SharedClock, news: &[NewJob]) -> Result<Vec<Result<Written>>> {
    let mut tx = db::begin(pool).await?;
    let mut outcomes: Vec<Option<Result<Written>>> = news.iter().map(|_| None).collect();
    let keyed: Vec<(usize, &Key)> =
        news.iter().enumerate().filter_map(|(place, new)| Some((place, new.request.as_ref()?))).collect();
    let claims: Vec<(&Key, &[u8])> = keyed.iter().map(|(place, key)| (*key, news[*place].answer.as_slice())).collect();
    for ((place, key), claimed) in keyed.iter().zip(idempotency::claim(&mut tx, &claims).await?) {
        if !claimed {
            let answer = key.answer(&mut *tx).await;
            outcomes[*place] = Some(answer.map(|answer| Written::Repeated(answer.unwrap_or_default())));
        }
    }
    let fresh: Vec<usize> = (0..news.len()).filter(|place| outcomes[*place].is_none()).collect();
    let mut manifests: Vec<(&str, &str)> =
        fresh.iter().map(|place| (news[*place].job.manifest_digest.as_str(), news[*place].manifest.as_str())).collect();
    manifests.sort_by_key(|(digest, _)| *digest);
    manifests.dedup_by_key(|(digest, _)| *digest);
    store::put_manifests(&mut tx, &manifests).await?;
    let ids = store::insert(&mut tx, &fresh.iter().map(|place| &news[*place].job).collect::<Vec<_>>()).await?;
    let stored: Vec<(&NewJob, i64)> = fresh.iter().zip(&ids).filter_map(|(place, id)| Some((&news[*place], (*id)?))).collect();
    let taken: Vec<&Key> =
        fresh.iter().zip(&ids).filter(|(_, id)| id.is_none()).filter_map(|(place, _)| news[*place].request.as_ref()).collect();
    idempotency::disclaim(&mut tx, &taken).await?;
    for (place, id) in fresh.iter().zip(&ids) {
        outcomes[*place] = Some(Ok(if id.is_some() { Written::Stored } else { Written::Taken }));
    }
    let subjects: Vec<Subject> = stored.iter().map(|(_, id)| Subject::Job(*id)).collect();
    inbox::put_all(&mut tx, subjects.iter()).await?;
    audit::record_all(&mut tx, &stored.iter().map(|(new, _)| deed(new)).collect::<Vec<_>>()).await?;
    let event = |(new, _): &(&NewJob, i64)| events::job_submitted(&new.job, clock.now()).caused_by(new.traceparent.clone());
    event::append_all(&mut tx, &stored.iter().map(event).collect::<Result<Vec<_>>>()?).await?;
    tx.commit().await?;
    Ok(outcomes.into_iter().flatten().collect())
}

fn deed(new: &NewJob) -> Deed {
    let NewJob { caller, method, job, traceparent, .. } = new;
    Deed { caller: caller.clone(), action: method, resource: job.resource(), traceparent: traceparent.clone() }
}
