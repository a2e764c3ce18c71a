//! Sends what is new to the agents this replica holds: desired items, questions, the word to leave.
//!
//! One query for all of them each pass; a pass comes with every wake-up (a change through this replica) and every 50 ms
//! besides (changes through others).

use super::{Session, Sessions};
use crate::{
    app::App,
    convert,
    store::{bundle, cluster, desired, question},
};
use async_trait::async_trait;
use muster_kit::{Error, Result, reconcile::Reconciler};
use muster_proto::agent::v1::{Bundle, Desired, HubRequest, Leave, hub_message::Message};
use prost::Message as _;
use std::collections::{BTreeSet, HashMap};

/// Bundles sent along with their items in one pass, by number and bytes of each: the object of a run has one or two KiB. What is
/// larger, or more, the agents fetch.
const BUNDLES: usize = 500;
const BUNDLE_BYTES: i32 = 16 * 1024;

/// Sends to the sessions of this replica.
pub struct Sender {
    /// What it works with.
    pub app: App,
    /// To whom.
    pub sessions: Sessions,
}

#[async_trait]
impl Reconciler for Sender {
    fn name(&self) -> &'static str {
        "link-send"
    }

    async fn tick(&self) -> Result<()> {
        let sessions: HashMap<i64, Session> =
            self.sessions.all().into_iter().map(|session| (session.cluster_id, session)).collect();
        if sessions.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = sessions.keys().copied().collect();
        let mut behind = Vec::new();
        for progress in cluster::sequences(&self.app.pool, &ids).await? {
            let Some(session) = sessions.get(&progress.cluster_id) else { continue };
            if progress.session != Some(session.id) {
                // Another stream took its place; this one ends.
                self.sessions.remove(session.cluster_id, session.id);
                continue;
            }
            if progress.sequence > session.sent {
                behind.push((session.cluster_id, session.sent));
            }
            if progress.leaving && !session.told_to_leave {
                let leave = Message::Leave(Leave { remove_workloads: progress.remove_workloads });
                if self.push(session, leave) {
                    self.sessions.note(session.cluster_id, session.id, session.sent, true);
                }
            }
        }
        self.send_desired(&sessions, &behind).await?;
        for (cluster_id, _, request) in question::take(&self.app.pool, &ids).await? {
            let Some(session) = sessions.get(&cluster_id) else { continue };
            let request = HubRequest::decode(request.as_slice()).map_err(Error::internal)?;
            self.push(session, Message::Request(request));
        }
        Ok(())
    }
}

impl Sender {
    /// Sends what was written after the sequence numbers of clusters: (row, sequence).
    async fn send_desired(&self, sessions: &HashMap<i64, Session>, behind: &[(i64, i64)]) -> Result<()> {
        if behind.is_empty() {
            return Ok(());
        }
        let items = desired::after(&self.app.pool, behind).await?;
        let named: BTreeSet<&String> = items.iter().filter_map(|(_, item)| item.bundle_digest.as_ref()).collect();
        let named: Vec<String> = named.into_iter().take(BUNDLES).cloned().collect();
        let contents = bundle::small(&self.app.pool, &named, BUNDLE_BYTES).await?;
        for items in items.chunk_by(|(one, _), (other, _)| one == other) {
            let Some((cluster_id, last)) = items.last() else { continue };
            let Some(session) = sessions.get(cluster_id) else { continue };
            let sequence = last.sequence;
            let named: BTreeSet<&String> = items.iter().filter_map(|(_, item)| item.bundle_digest.as_ref()).collect();
            let bundle = |digest: &String| Some(Bundle { digest: digest.clone(), content: contents.get(digest)?.clone() });
            let bundles = named.into_iter().filter_map(bundle).collect();
            let items = items.iter().map(|(_, item)| convert::item(item.clone())).collect::<Result<_>>()?;
            let message = Message::Desired(Desired { sequence: sequence.cast_unsigned(), items, bundles });
            if self.push(session, message) {
                self.sessions.note(session.cluster_id, session.id, sequence, false);
            }
        }
        Ok(())
    }

    /// Puts a message into an agent's outbox. Full: the stream is dropped, and the agent starts anew from Hello.
    fn push(&self, session: &Session, message: Message) -> bool {
        let sent = session.tell(message);
        if sent.is_err() {
            self.sessions.remove(session.cluster_id, session.id);
        }
        sent.is_ok()
    }
}
