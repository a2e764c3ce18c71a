//! The agent link, the hub's side: sessions held by this replica, what is sent to them, what comes from them.
//!
//! - [`session`]: one agent's stream, from Hello to its end.
//! - [`hello`]: what differs between what an agent holds and what it should hold.
//! - [`receive`]: observations, inventory, answers.
//! - [`verdicts`]: changes of what policies say, part by part.
//! - [`beats`]: heartbeats, batched into the database and acknowledged only after their batch has committed.
//! - [`send`]: what is new for the agents that this replica holds.

pub mod beats;
pub mod hello;
pub mod receive;
pub mod send;
pub mod session;
pub mod verdicts;

use muster_kit::{Error, Result};
use muster_proto::agent::v1::{HubMessage, hub_message::Message};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use tokio::sync::mpsc;
use uuid::Uuid;

/// Messages that may wait for a slow agent; past that its stream is cut and it starts anew from Hello.
const OUTBOX: usize = 256;

/// An agent's stream as the senders see it.
#[derive(Debug, Clone)]
pub struct Session {
    /// The session.
    pub id: Uuid,
    /// The cluster's row.
    pub cluster_id: i64,
    /// Where messages go.
    pub outbox: mpsc::Sender<std::result::Result<HubMessage, tonic::Status>>,
    /// The desired sequence sent last.
    pub sent: i64,
    /// Whether Leave has been sent.
    pub told_to_leave: bool,
}

impl Session {
    /// Puts into the outbox what the agent waits for.
    ///
    /// # Errors
    /// The outbox is full, or the agent has hung up: the stream is to end, so that the agent asks anew.
    fn tell(&self, message: Message) -> Result<()> {
        self.outbox
            .try_send(Ok(HubMessage { message: Some(message) }))
            .map_err(|_| Error::unavailable("AGENT_TOO_SLOW", "the agent does not take what it is sent"))
    }
}

/// The sessions this replica holds, by cluster row.
#[derive(Debug, Clone, Default)]
pub struct Sessions(Arc<Mutex<HashMap<i64, Session>>>);

impl Sessions {
    /// Adds a session; a former one of the cluster on this replica is dropped, which ends its stream.
    pub fn add(&self, session: Session) {
        self.0.lock().expect("no holder of this lock panics").insert(session.cluster_id, session);
    }

    /// Removes a session, unless another has taken its place.
    pub fn remove(&self, cluster_id: i64, id: Uuid) {
        let mut sessions = self.0.lock().expect("no holder of this lock panics");
        if sessions.get(&cluster_id).is_some_and(|session| session.id == id) {
            sessions.remove(&cluster_id);
        }
    }

    /// All sessions as they are.
    pub fn all(&self) -> Vec<Session> {
        self.0.lock().expect("no holder of this lock panics").values().cloned().collect()
    }

    /// Notes how far a session has been sent; false if it is gone.
    pub fn note(&self, cluster_id: i64, id: Uuid, sent: i64, told_to_leave: bool) {
        let mut sessions = self.0.lock().expect("no holder of this lock panics");
        if let Some(session) = sessions.get_mut(&cluster_id)
            && session.id == id
        {
            session.sent = session.sent.max(sent);
            session.told_to_leave |= told_to_leave;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::agent::v1::VerdictAck;

    #[test]
    fn what_an_agent_waits_for_is_sent_or_its_stream_ends() {
        let (outbox, mut sent) = mpsc::channel(1);
        let session = Session { id: Uuid::nil(), cluster_id: 1, outbox, sent: 0, told_to_leave: false };
        let ack = |sequence| Message::VerdictAck(VerdictAck { sequence, whole_wanted: false });
        session.tell(ack(1)).expect("there is room for one");
        let error = session.tell(ack(2)).expect_err("the outbox is full");
        assert_eq!(error.reason(), "AGENT_TOO_SLOW");
        let first = sent.try_recv().expect("the first was sent").expect("it is a message");
        assert_eq!(first.message, Some(ack(1)));
        session.tell(ack(2)).expect("there is room again");
    }
}
