//! Queues: made, changed, deleted, shown.

use std::collections::BTreeMap;

use muster_core::Manifest;
use muster_core::name::{QueueName, check_id};
use muster_core::page::Page;
use muster_kit::idempotency::Begun;
use muster_kit::{Error, Result, Role, audit, db};
use muster_scheduler_engine::Amounts;
use prost::Message;

use super::budgets::BudgetView;
use super::{App, Once};
use crate::domain::Fault;
use crate::domain::cost::Usage;
use crate::domain::desired::queue_item;
use crate::domain::queue::{Kind, QueueDefinition, shown};
use crate::error::in_field;
use crate::store::inbox::{self, Subject};
use crate::store::queue::{self as store, Queue};

/// The field of a request that holds a queue's manifest.
pub const MANIFEST: &str = "queue.manifest";

/// A queue with everything that is shown of it.
#[derive(Clone, Debug)]
pub struct QueueView {
    /// As it is kept.
    pub queue: Queue,
    /// Its manifest, read.
    pub definition: QueueDefinition,
    /// What its placed jobs ask for.
    pub allocated: BTreeMap<String, String>,
    /// Unfinished jobs that are not placed.
    pub waiting: u32,
    /// Placed and running jobs.
    pub active: u32,
    /// Used so far.
    pub usage: Usage,
    /// What it may spend.
    pub budgets: Vec<BudgetView>,
}

impl QueueView {
    /// A queue that nothing is known of yet.
    fn fresh(queue: Queue, definition: QueueDefinition) -> Self {
        Self {
            queue,
            definition,
            allocated: BTreeMap::new(),
            waiting: 0,
            active: 0,
            usage: Usage::default(),
            budgets: Vec::new(),
        }
    }
}

/// What is to be done about an existing queue of the name.
pub struct Put<'a> {
    /// The queue's identifier where the request names it; empty: the manifest's.
    pub id: &'a str,
    /// The field that names it.
    pub id_field: &'static str,
    /// The manifest as it came.
    pub text: &'a str,
    /// The manifest, parsed.
    pub manifest: Manifest,
    /// Must be current, if set.
    pub etag: &'a str,
    /// Whether a queue may be, and must be, there.
    pub mode: Mode,
    /// Check everything and store nothing.
    pub validate_only: bool,
}

/// What a write expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Create,
    /// A queue.
    Update,
    /// Either.
    Upsert,
}

impl App {
    /// Makes or replaces a queue.
    ///
    /// # Errors
    /// The manifest's field at fault, a queue that is or isn't there, a collision of namespaces, a stale etag.
    pub async fn put_queue<Q, R>(&self, once: Once<'_, Q>, put: Put<'_>, respond: impl FnOnce(&QueueView) -> R) -> Result<R>
    where
        Q: Message,
        R: Message + Default,
    {
        once.caller.require(Role::Operator)?;
        let definition = QueueDefinition::read(&put.manifest).map_err(|fault| in_field(MANIFEST, fault))?;
        let name = definition.name.clone();
        let name = name.as_str();
        check_id(name).map_err(|error| in_field(MANIFEST, Fault::new("metadata.name", error.to_string())))?;
        if !put.id.is_empty() && put.id != name {
            return Err(Error::invalid(put.id_field, format!("is {:?}, and the manifest's metadata.name is {name:?}", put.id)));
        }
        if definition.parent.as_deref() == Some(name) {
            return Err(in_field(MANIFEST, Fault::new("spec.parent", "a queue can't be below itself")));
        }
        let mut tx = db::begin(&self.pool).await?;
        let pending = match once.begin(&mut tx).await? {
            Begun::Repeated(response) => return Ok(response),
            Begun::Fresh(pending) => pending,
        };
        let existing = store::lock(&mut tx, name).await?;
        let queue = match (existing, put.mode) {
            (None, Mode::Update) => return Err(Error::not_found(format!("queues/{name}"))),
            (Some(_), Mode::Create) => {
                return Err(Error::already_exists(format!("queues/{name}"), format!("queues/{name} exists already; update it")));
            }
            (None, Mode::Create | Mode::Upsert) => {
                db::check_etag(put.etag, 0)?;
                let queue = Queue {
                    name: name.to_owned(),
                    namespace: definition.namespace.clone(),
                    manifest: put.text.to_owned(),
                    version: 1,
                    created_at: self.now(),
                };
                if !put.validate_only {
                    store::insert(&mut tx, &queue).await?;
                }
                queue
            }
            (Some(mut queue), Mode::Update | Mode::Upsert) => {
                db::check_etag(put.etag, queue.version)?;
                if queue.namespace != definition.namespace {
                    return Err(Error::already_exists(
                        format!("queues/{name}"),
                        format!(
                            "queue {name:?} exists from namespace {:?}; queues have no namespaces here, so this one needs another name",
                            queue.namespace
                        ),
                    ));
                }
                let is_cohort = |definition: &QueueDefinition| definition.kind == Kind::Cohort;
                if is_cohort(&read(&queue.manifest)?) != is_cohort(&definition) {
                    let why = format!("queue {name:?} exists as another kind; a cohort and a queue need names of their own");
                    return Err(Error::already_exists(format!("queues/{name}"), why));
                }
                put.text.clone_into(&mut queue.manifest);
                if !put.validate_only {
                    queue.version = store::update(&mut tx, &queue).await?;
                }
                queue
            }
        };
        let view = QueueView::fresh(queue, definition);
        if put.validate_only {
            return Ok(respond(&view));
        }
        inbox::put(&mut tx, &Subject::Queue(name.to_owned())).await?;
        crate::store::desired::touch_holders(&mut tx, &queue_item(name)).await?;
        audit::record(&mut tx, once.caller, once.method, &format!("queues/{name}")).await?;
        let view = self.fill(view).await?;
        let response = respond(&view);
        pending.finish(&mut tx, &response).await?;
        tx.commit().await?;
        self.decide.now();
        self.tell.now();
        Ok(response)
    }

    /// One queue.
    ///
    /// # Errors
    /// A queue that isn't there.
    pub async fn get_queue(&self, name: &QueueName) -> Result<QueueView> {
        let queue = store::get(&self.pool, name.queue()).await?.ok_or_else(|| Error::not_found(name))?;
        self.view(queue).await
    }

    /// Queues in name order, and the token of the next page.
    ///
    /// # Errors
    /// A token that is none.
    pub async fn list_queues(&self, page: &Page) -> Result<(Vec<QueueView>, String)> {
        let mut queues = store::list(&self.pool, &page.after, page.limit()).await?;
        let next = page.finish(&mut queues, |queue| queue.name.clone());
        let mut views = Vec::with_capacity(queues.len());
        for queue in queues {
            views.push(self.view(queue).await?);
        }
        Ok((views, next))
    }

    /// Deletes a queue without unfinished jobs.
    ///
    /// # Errors
    /// A queue that isn't there, is used, or was changed.
    pub async fn delete_queue<Q, R>(&self, once: Once<'_, Q>, name: &QueueName, etag: &str, response: R) -> Result<R>
    where
        Q: Message,
        R: Message + Default,
    {
        once.caller.require(Role::Operator)?;
        let mut tx = db::begin(&self.pool).await?;
        let pending = match once.begin(&mut tx).await? {
            Begun::Repeated(response) => return Ok(response),
            Begun::Fresh(pending) => pending,
        };
        let queue = store::lock(&mut tx, name.queue()).await?.ok_or_else(|| Error::not_found(name))?;
        db::check_etag(etag, queue.version)?;
        if store::is_used(&mut tx, name.queue()).await? {
            return Err(Error::precondition("QUEUE_IN_USE", format!("{name} has unfinished jobs; cancel them first")));
        }
        for (other, manifest) in store::manifests(&mut tx).await? {
            if read(&manifest)?.parent.as_deref() == Some(name.queue()) {
                return Err(Error::precondition("QUEUE_IN_USE", format!("{name} is the parent of queues/{other}")));
            }
        }
        store::delete(&mut tx, name.queue()).await?;
        inbox::put(&mut tx, &Subject::Queue(name.queue().to_owned())).await?;
        crate::store::desired::touch_holders(&mut tx, &queue_item(name.queue())).await?;
        audit::record(&mut tx, once.caller, once.method, &name.to_string()).await?;
        pending.finish(&mut tx, &response).await?;
        tx.commit().await?;
        self.decide.now();
        self.tell.now();
        Ok(response)
    }

    async fn view(&self, queue: Queue) -> Result<QueueView> {
        let definition = read(&queue.manifest)?;
        self.fill(QueueView::fresh(queue, definition)).await
    }

    async fn fill(&self, mut view: QueueView) -> Result<QueueView> {
        let name = view.queue.name.clone();
        let gangs = store::charged(&self.pool, &name).await?;
        let allocated = gangs
            .iter()
            .filter_map(|gang| gang.total().ok())
            .fold(Amounts::new(), |sum, total| sum.checked_add(&total).unwrap_or(sum));
        view.allocated = shown(allocated.iter());
        (view.waiting, view.active) = store::load(&self.pool, &name).await?;
        let now = self.now();
        for charge in crate::store::cost::of_queue(&self.pool, &name).await? {
            view.usage.add(&charge, (None, None), now);
        }
        view.budgets = super::budgets::view(&self.pool, &view.definition, now).await?;
        Ok(view)
    }
}

/// Reads a manifest that was checked when it was stored.
pub(super) fn read(manifest: &str) -> Result<QueueDefinition> {
    let parsed = muster_core::manifest::parse_one(manifest).map_err(Error::internal)?;
    QueueDefinition::read(&parsed).map_err(Error::internal)
}
