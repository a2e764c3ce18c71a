//! The one thread that writes the ledger. Changes that arrive while it writes are put together into the next write, so
//! that a hundred items at once cost one sync of the disk and not a hundred.

use super::{LedgerError, Queue, State, disk};
use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};
use tokio::sync::{oneshot, watch};

/// Changes waiting for the disk, at most; a caller beyond that waits for a place.
const WAITING: usize = 1024;
/// Changes put together into one write, at most.
const TOGETHER: usize = 256;

type Done = Box<dyn FnOnce(Result<(), LedgerError>) + Send>;

enum Change {
    State(Box<dyn FnOnce(&mut State) -> Done + Send>),
    Queue(Box<dyn FnOnce(&mut Queue) -> Done + Send>),
}

struct Shared {
    state: RwLock<Arc<State>>,
    queue: RwLock<Arc<Queue>>,
    observed: watch::Sender<u64>,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    changes: Option<tokio::sync::mpsc::Sender<Change>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    pub fn open(directory: &Path) -> Result<Self, LedgerError> {
        let state_file = directory.join("state.json");
        let queue_file = directory.join("observations.json");
        let state: State = disk::read_json(&state_file)?.unwrap_or_default();
        if let Some(message) = state.fault() {
            return Err(LedgerError::Damaged { path: state_file, message });
        }
        // Observations can be made again; a damaged file of them must not keep the cluster from being looked after.
        let queue: Queue = disk::read_json(&queue_file)
            .unwrap_or_else(|error| {
                tracing::warn!(error = %error, "the queue of observations is lost; every item is observed again");
                None
            })
            .unwrap_or_default();
        let (observed, _) = watch::channel(queue.newest());
        let shared = Arc::new(Shared { state: RwLock::new(Arc::new(state)), queue: RwLock::new(Arc::new(queue)), observed });
        let (changes, mut receiver) = tokio::sync::mpsc::channel(WAITING);
        let writing = shared.clone();
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || {
                while let Some(first) = receiver.blocking_recv() {
                    let mut batch = vec![first];
                    while batch.len() < TOGETHER
                        && let Ok(next) = receiver.try_recv()
                    {
                        batch.push(next);
                    }
                    write(&writing, &state_file, &queue_file, batch);
                }
            })
            .map_err(disk::fault("start the writer of", directory))?;
        Ok(Self { shared, changes: Some(changes), thread: Some(thread) })
    }

    pub fn state(&self) -> Arc<State> {
        self.shared.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn queue(&self) -> Arc<Queue> {
        self.shared.queue.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn observed(&self) -> watch::Receiver<u64> {
        self.shared.observed.subscribe()
    }

    pub async fn update<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut State) -> R + Send + 'static,
    ) -> Result<R, LedgerError> {
        let (answer, answered) = oneshot::channel();
        self.send(Change::State(Box::new(move |state| {
            let result = change(state);
            // A caller that has gone away does not need the answer.
            Box::new(move |written| _ = answer.send(written.map(|()| result)))
        })))
        .await?;
        answered.await.map_err(|_| LedgerError::Closed)?
    }

    pub async fn change_queue(&self, change: impl FnOnce(&mut Queue) + Send + 'static) -> Result<(), LedgerError> {
        let (answer, answered) = oneshot::channel();
        self.send(Change::Queue(Box::new(move |queue| {
            change(queue);
            Box::new(move |written| _ = answer.send(written))
        })))
        .await?;
        answered.await.map_err(|_| LedgerError::Closed)?
    }

    async fn send(&self, change: Change) -> Result<(), LedgerError> {
        let changes = self.changes.as_ref().ok_or(LedgerError::Closed)?;
        changes.send(change).await.map_err(|_| LedgerError::Closed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.changes = None;
        if let Some(thread) = self.thread.take() {
            // The thread ends once the channel is closed and what was in it is on disk.
            _ = thread.join();
        }
    }
}

fn write(shared: &Shared, state_file: &Path, queue_file: &Path, batch: Vec<Change>) {
    let mut state: Option<State> = None;
    let mut queue: Option<Queue> = None;
    let (mut state_done, mut queue_done) = (Vec::new(), Vec::new());
    for change in batch {
        match change {
            Change::State(change) => {
                let current = || State::clone(&shared.state.read().unwrap_or_else(PoisonError::into_inner));
                state_done.push(change(state.get_or_insert_with(current)));
            }
            Change::Queue(change) => {
                let current = || Queue::clone(&shared.queue.read().unwrap_or_else(PoisonError::into_inner));
                queue_done.push(change(queue.get_or_insert_with(current)));
            }
        }
    }
    if let Some(state) = state {
        // Many updates find nothing to change; the disk need not hear of them.
        let same = **shared.state.read().unwrap_or_else(PoisonError::into_inner) == state;
        let written = if same { Ok(()) } else { disk::replace_json(state_file, &state) };
        if written.is_ok() {
            *shared.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
        }
        finish(state_done, written);
    }
    if let Some(queue) = queue {
        let written = disk::replace_json(queue_file, &queue);
        if written.is_ok() {
            let newest = queue.newest();
            *shared.queue.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(queue);
            shared.observed.send_replace(newest);
        }
        finish(queue_done, written);
    }
}

fn finish(done: Vec<Done>, written: Result<(), LedgerError>) {
    if let Err(error) = &written {
        tracing::error!(error = %error, "the ledger could not be written; the old state stays");
    }
    for done in done {
        done(written.clone());
    }
}
