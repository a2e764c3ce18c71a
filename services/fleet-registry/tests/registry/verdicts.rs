//! What agents say of policies: changes of a set of rows, through streams and replicas that come and go.

use super::Registry;
use muster_fleet_registry::{
    app::verdict,
    link::{
        Session,
        verdicts::{Incoming, Stored},
    },
};
use muster_kit::{Caller, error::Kind};
use muster_proto::{
    agent::v1::{self as link, DesiredItem, Generation, RuleCount, VerdictChange, VerdictEnd, VerdictRow, verdict_row::Row},
    registry::v1 as wire,
};
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use uuid::Uuid;

/// What a reader holds: the number of each row.
type Held = BTreeMap<Vec<u8>, u32>;

struct World {
    registry: Registry,
    cluster_id: i64,
}

/// A row and its key, by a number.
fn row(number: u8) -> VerdictRow {
    let count = RuleCount { policy: "p".to_owned(), rule: number.to_string(), pass: number.into(), ..RuleCount::default() };
    VerdictRow { key: vec![number; 16], row: Some(Row::Count(count)) }
}

fn digest(numbers: &[u8]) -> Vec<u8> {
    vec![numbers.iter().fold(0, |digest, number| digest ^ number); 16]
}

fn change(base: Option<&[u8]>, added: &[u8], removed: &[u8], after: &[u8]) -> VerdictChange {
    VerdictChange {
        sequence: 1,
        owner: "policy".to_owned(),
        name: "policies".to_owned(),
        generation: Some(Generation { incarnation: 1, n: 1 }),
        base: base.map(digest).unwrap_or_default(),
        added: added.iter().copied().map(row).collect(),
        removed: removed.iter().map(|number| vec![*number; 16]).collect(),
        end: Some(VerdictEnd { digest: digest(after), evaluate_time: Some(muster_proto::Timestamp { seconds: 1, nanos: 0 }) }),
    }
}

impl World {
    async fn start() -> Self {
        let registry = Registry::start().await;
        registry.joined("edge-01").await;
        let digest = registry.bundle("policies").await;
        let item = DesiredItem { name: "policies".to_owned(), bundle_digest: digest, ..DesiredItem::default() };
        let change = wire::ClusterChange {
            cluster: "clusters/edge-01".to_owned(),
            generation: 1,
            content_digest: "one".to_owned(),
            upserts: vec![item],
            ..wire::ClusterChange::default()
        };
        let request = wire::ApplyDesiredRequest {
            owner: "policy".to_owned(),
            leader_epoch: 1,
            changes: vec![change],
            ..Default::default()
        };
        muster_fleet_registry::app::desired::apply(&registry.app, &policy(), request).await.expect("applied");
        let query = sqlx::query_scalar("select cluster_id from cluster where name = 'edge-01'");
        let cluster_id = query.fetch_one(&registry.app.pool).await.expect("a cluster");
        Self { registry, cluster_id }
    }

    /// A new stream of the agent, on whichever replica.
    async fn connected(&self) -> Session {
        let id = Uuid::new_v4();
        let update = sqlx::query("update cluster set session = $2 where cluster_id = $1").bind(self.cluster_id).bind(id);
        update.execute(&self.registry.app.pool).await.expect("written");
        let (outbox, _) = mpsc::channel(1);
        Session { id, cluster_id: self.cluster_id, outbox, sent: 0, told_to_leave: false }
    }

    async fn tell(&self, session: &Session, change: VerdictChange) -> muster_kit::Result<Stored> {
        Incoming::default().take(&self.registry.app, "edge-01", session, change).await
    }

    /// What a reader makes of an answer, who held this as of a version; whether it was told the whole, and the version now.
    async fn read(&self, held: Held, after: Option<Generation>) -> (Held, bool, Generation) {
        let (cluster, owner, name) = ("clusters/edge-01".to_owned(), "policy".to_owned(), "policies".to_owned());
        let request = wire::ReadVerdictsRequest { cluster, owner, name, after };
        let mut parts = verdict::read(&self.registry.app, &policy(), request).await.expect("readable");
        let mut now: Option<Held> = None;
        loop {
            let part = parts.next().await.expect("an end").expect("a part");
            let now = now.get_or_insert_with(|| if part.whole { Held::new() } else { held.clone() });
            for gone in part.removed {
                now.remove(&gone.key);
            }
            for VerdictRow { key, row } in part.added {
                let Some(Row::Count(count)) = row else { panic!("counts are told") };
                now.insert(key, count.pass);
            }
            if part.end {
                return (now.clone(), part.whole, part.verdicts.and_then(|set| set.version).expect("a version"));
            }
        }
    }

    async fn events(&self) -> i64 {
        let query = sqlx::query_scalar("select count(*) from event where type = 'cluster.item.verdicts_changed'");
        query.fetch_one(&self.registry.app.pool).await.expect("counted")
    }
}

fn policy() -> Caller {
    Caller::Service { name: "policy".to_owned() }
}

fn held(numbers: &[u8]) -> Held {
    numbers.iter().map(|number| (vec![*number; 16], (*number).into())).collect()
}

#[tokio::test]
async fn a_change_is_of_what_is_held_and_a_reader_is_told_what_changed() {
    let world = World::start().await;
    let session = world.connected().await;
    assert_eq!(world.tell(&session, change(Some(&[1, 2]), &[], &[], &[1, 2])).await.expect("taken"), Stored::WholeWanted);
    assert_eq!(world.tell(&session, change(None, &[1, 2, 3], &[], &[1, 2, 3])).await.expect("taken"), Stored::Yes);
    let (all, whole, first) = world.read(Held::new(), None).await;
    assert_eq!((&all, whole), (&held(&[1, 2, 3]), true));
    assert_eq!(world.tell(&session, change(Some(&[1, 2, 3]), &[4, 5], &[2], &[1, 3, 4, 5])).await.expect("taken"), Stored::Yes);
    assert_eq!(world.tell(&session, change(Some(&[1, 3, 4, 5]), &[2], &[5], &[1, 2, 3, 4])).await.expect("taken"), Stored::Yes);
    let (now, whole, last) = world.read(all, Some(first)).await;
    assert_eq!((now, whole), (held(&[1, 2, 3, 4]), false));
    assert!((first.incarnation, first.n) < (last.incarnation, last.n));
    let (same, whole, _) = world.read(held(&[9]), Some(Generation { incarnation: 7, n: last.n })).await;
    assert_eq!((same, whole), (held(&[1, 2, 3, 4]), true), "a number of another life of the database says nothing");
    assert_eq!(world.events().await, 3);
}

#[tokio::test]
async fn a_new_stream_continues_where_the_agent_and_the_hub_hold_the_same() {
    let world = World::start().await;
    let first = world.connected().await;
    world.tell(&first, change(None, &[1, 2], &[], &[1, 2])).await.expect("taken");
    let second = world.connected().await;
    let late = world.tell(&first, change(Some(&[1, 2]), &[3], &[], &[1, 2, 3])).await.expect_err("its stream was replaced");
    assert_eq!(late.kind(), Kind::Conflict);
    assert_eq!(world.tell(&second, change(Some(&[1, 2]), &[], &[], &[1, 2])).await.expect("taken"), Stored::Yes);
    assert_eq!(world.events().await, 1, "the same again is no news");
    assert_eq!(world.tell(&second, change(Some(&[1]), &[], &[], &[1])).await.expect("taken"), Stored::WholeWanted);
    assert_eq!(world.tell(&second, change(None, &[2, 7], &[], &[2, 7])).await.expect("taken"), Stored::Yes);
    assert_eq!(world.read(Held::new(), None).await.0, held(&[2, 7]));
}

#[tokio::test]
async fn an_older_generation_counts_for_nothing_and_a_newer_one_for_the_same_rows() {
    let world = World::start().await;
    let session = world.connected().await;
    let at = |n: u64, change: VerdictChange| VerdictChange { generation: Some(Generation { incarnation: 1, n }), ..change };
    world.tell(&session, at(2, change(None, &[1], &[], &[1]))).await.expect("taken");
    world.tell(&session, at(1, change(None, &[8], &[], &[8]))).await.expect("acknowledged");
    assert_eq!(world.read(Held::new(), None).await.0, held(&[1]));
    world.tell(&session, at(3, change(Some(&[1]), &[], &[], &[1]))).await.expect("taken");
    assert_eq!(world.events().await, 2);
}

#[tokio::test]
async fn parts_count_once_the_last_is_there_and_a_wrong_digest_changes_nothing() {
    let world = World::start().await;
    let session = world.connected().await;
    world.tell(&session, change(None, &[1], &[], &[1])).await.expect("taken");
    let mut incoming = Incoming::default();
    let app = &world.registry.app;
    let first = VerdictChange { end: None, ..change(Some(&[1]), &[2], &[], &[]) };
    incoming.take(app, "edge-01", &session, first).await.expect("gathered");
    assert_eq!(world.read(Held::new(), None).await.0, held(&[1]));
    incoming.take(app, "edge-01", &session, change(Some(&[1]), &[3], &[1], &[2, 3])).await.expect("taken");
    assert_eq!(world.read(Held::new(), None).await.0, held(&[2, 3]));
    assert_eq!(world.tell(&session, change(Some(&[2, 3]), &[4], &[], &[2, 3, 5])).await.expect("seen"), Stored::WholeWanted);
    let refused = world.tell(&session, change(None, &[4], &[], &[5])).await.expect_err("not its digest");
    assert_eq!(refused.violations()[0].field, "verdict_change.end.digest");
    assert_eq!(world.read(Held::new(), None).await.0, held(&[2, 3]));
    let short = VerdictRow { key: vec![1], ..row(1) };
    let refused = world.tell(&session, VerdictChange { added: vec![short], ..change(None, &[], &[], &[]) }).await;
    assert_eq!(refused.expect_err("no key").violations()[0].field, "verdict_change.added.key");
}

#[tokio::test]
async fn what_went_is_forgotten_in_time_and_its_reader_told_the_whole() {
    let world = World::start().await;
    let session = world.connected().await;
    world.tell(&session, change(None, &[0], &[], &[0])).await.expect("taken");
    let (seen, _, version) = world.read(Held::new(), None).await;
    for round in 0..3 {
        // Keys of two numbers, so that there are enough of them.
        let keys: Vec<Vec<u8>> = (1..=150).map(|number| [[number; 8], [round; 8]].concat()).collect();
        let rows = keys.iter().map(|key| VerdictRow { key: key.clone(), ..row(key[0]) }).collect();
        let digest: Vec<u8> = (0..16).map(|place| keys.iter().fold(0, |digest, key| digest ^ key[place])).collect();
        let end = |digest| VerdictEnd { digest, evaluate_time: Some(muster_proto::Timestamp { seconds: 1, nanos: 0 }) };
        let came = VerdictChange { added: rows, end: Some(end(digest.clone())), ..change(Some(&[0]), &[], &[], &[]) };
        assert_eq!(world.tell(&session, came).await.expect("taken"), Stored::Yes);
        let went = VerdictChange { base: digest, removed: keys, end: Some(end(vec![0; 16])), ..change(None, &[], &[], &[]) };
        assert_eq!(world.tell(&session, went).await.expect("taken"), Stored::Yes);
    }
    let rows: i64 =
        sqlx::query_scalar("select count(*) from verdict").fetch_one(&world.registry.app.pool).await.expect("counted");
    assert!(rows < 310, "{rows} rows are kept for one that is held");
    assert_eq!(world.read(seen.clone(), Some(version)).await, (held(&[0]), true, world.read(seen, None).await.2));
}

#[tokio::test]
async fn verdicts_of_an_item_that_is_gone_are_swept() {
    let world = World::start().await;
    let session = world.connected().await;
    world.tell(&session, change(None, &[1], &[], &[1])).await.expect("taken");
    let gone = wire::ClusterChange {
        cluster: "clusters/edge-01".to_owned(),
        base_generation: 1,
        generation: 2,
        content_digest: "two".to_owned(),
        deletes: vec!["policies".to_owned()],
        ..wire::ClusterChange::default()
    };
    let request =
        wire::ApplyDesiredRequest { owner: "policy".to_owned(), leader_epoch: 1, changes: vec![gone], ..Default::default() };
    muster_fleet_registry::app::desired::apply(&world.registry.app, &policy(), request).await.expect("applied");
    let sweep = muster_fleet_registry::reconcile::sweep::Sweep(world.registry.app.clone());
    muster_kit::reconcile::Reconciler::tick(&sweep).await.expect("swept");
    assert_eq!(world.tell(&session, change(None, &[2], &[], &[2])).await.expect("acknowledged"), Stored::Yes);
    let request = wire::ReadVerdictsRequest {
        cluster: "clusters/edge-01".to_owned(),
        owner: "policy".to_owned(),
        name: "policies".to_owned(),
        after: None::<link::Generation>,
    };
    let missing = verdict::read(&world.registry.app, &policy(), request).await.expect_err("nothing is held");
    assert_eq!(missing.kind(), Kind::NotFound);
}
