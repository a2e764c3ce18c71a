//! Bundles on their way: sent along with the items that name them, or fetched by digest, a few at once; each kept only if it is what
//! its digest says.

use super::LinkError;
use crate::{domain::item::ItemKey, ledger::LedgerError, reconcile::Reconciler};
use futures::{StreamExt, TryStreamExt, stream};
use muster_core::bundle::Digest;
use muster_proto::agent::v1::{Bundle, FetchBundleRequest, agent_link_service_client::AgentLinkServiceClient};
use std::{collections::BTreeSet, time::Duration};
use tokio::task::{JoinError, JoinSet};
use tonic::transport::Channel;

/// Bundles fetched, or written to disk, at once.
const AT_ONCE: usize = 8;
/// How long one bundle may take: 8 MiB over a slow edge line.
const WITHIN: Duration = Duration::from_secs(60);
/// Before a bundle that did not come is asked for again.
const PAUSE: Duration = Duration::from_secs(2);

/// A bundle that was asked for, and what came.
pub(super) type Fetched = Result<(Digest, Result<Vec<u8>, tonic::Status>), JoinError>;

/// What is wanted and what is on its way in one connection. Bounded by the bundles that items name.
#[derive(Default)]
pub(super) struct Bundles {
    wanted: BTreeSet<Digest>,
    under_way: BTreeSet<Digest>,
    fetching: JoinSet<(Digest, Result<Vec<u8>, tonic::Status>)>,
}

impl Bundles {
    /// Wants bundles, unless they are on their way.
    pub fn want(&mut self, digests: impl IntoIterator<Item = Digest>) {
        self.wanted.extend(digests.into_iter().filter(|digest| !self.under_way.contains(digest)));
    }

    /// Wants every bundle that an item names and the ledger lacks.
    pub fn want_missing(&mut self, reconciler: &Reconciler) {
        let state = reconciler.ledger.state();
        let named = state.items().filter_map(|(_, record)| record.bundle.as_ref()?.parse::<Digest>().ok());
        self.want(named.filter(|digest| !reconciler.ledger.has_bundle(digest)).collect::<Vec<_>>());
    }

    /// Asks for what is wanted, as far as there is room.
    pub fn fetch(&mut self, client: &AgentLinkServiceClient<Channel>) {
        while self.fetching.len() < AT_ONCE
            && let Some(digest) = self.wanted.pop_first()
        {
            self.under_way.insert(digest.clone());
            let mut client = client.clone();
            self.fetching.spawn(async move {
                let mut request = tonic::Request::new(FetchBundleRequest { digest: digest.to_string() });
                request.set_timeout(WITHIN);
                let fetched = client.fetch_bundle(request).await.map(|bundle| bundle.into_inner().content);
                if fetched.is_err() {
                    // Whoever needs it asks again at once; a hub that has it not must not be asked all the time.
                    tokio::time::sleep(PAUSE).await;
                }
                (digest, fetched)
            });
        }
    }

    /// The next that came; `None` while nothing is on its way. May be dropped while it waits.
    pub async fn next(&mut self) -> Option<Fetched> {
        let fetched = self.fetching.join_next().await?;
        if let Ok((digest, _)) = &fetched {
            self.under_way.remove(digest);
        }
        Some(fetched)
    }
}

/// Whether an item cannot be looked at because its bundle is not here yet.
pub(super) fn lacks_bundle(reconciler: &Reconciler, key: &ItemKey) -> bool {
    let state = reconciler.ledger.state();
    let digest = state.item(key).and_then(|record| record.bundle.as_ref()?.parse::<Digest>().ok());
    digest.is_some_and(|digest| !reconciler.ledger.has_bundle(&digest))
}

/// Keeps what the hub sent along with the items that name it. What is no bundle is fetched when it is needed.
pub(super) async fn keep_sent(reconciler: &Reconciler, bundles: Vec<Bundle>) -> Result<(), LinkError> {
    let keep = bundles.into_iter().map(|Bundle { digest, content }| async move {
        let Ok(digest) = digest.parse::<Digest>() else {
            tracing::error!(digest, "the hub sent a bundle under a name that is no digest");
            return Ok(());
        };
        if reconciler.ledger.has_bundle(&digest) { Ok(()) } else { keep_one(reconciler, &digest, content).await }
    });
    stream::iter(keep).buffer_unordered(AT_ONCE).try_collect().await
}

async fn keep_one(reconciler: &Reconciler, digest: &Digest, content: Vec<u8>) -> Result<(), LinkError> {
    match reconciler.ledger.put_bundle(digest.clone(), content).await {
        Ok(()) => Ok(()),
        Err(error @ LedgerError::Bundle(_)) => {
            tracing::error!(digest = %digest, error = %error, "the hub sent another bundle than its name says");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Keeps what came; the items that name it are looked at, also where it did not come: they say so and ask again.
pub(super) async fn keep(reconciler: &Reconciler, fetched: Fetched) -> Result<(), LinkError> {
    let (digest, content) = fetched.map_err(|error| LinkError::Hub(error.to_string()))?;
    match content {
        Err(status) => tracing::warn!(digest = %digest, error = %status.message(), "a bundle could not be fetched"),
        Ok(content) => keep_one(reconciler, &digest, content).await?,
    }
    let state = reconciler.ledger.state();
    for (key, _) in state.items().filter(|(_, record)| record.bundle.as_deref() == Some(digest.as_str())) {
        reconciler.dirty.mark(key);
    }
    Ok(())
}
