//! The event log on a real Postgres: nothing is skipped, repeated or out of order, on Kafka and in watches.

use async_trait::async_trait;
use muster_kit::{
    Caller, Error, Result, Tx,
    consume::{Consumer, Handler, Message},
    db::{self, MIGRATIONS},
    event::{self, Cursor, Event, NewEvent},
    health::Health,
    idempotency, incarnation,
    kafka::KafkaConfig,
    lease::{self, Lease},
    once,
    reconcile::Reconciler,
    relay::{self, Relay},
    watch::{self, Change, Tail, Watched},
};
use muster_proto::registry::v1::{Fleet, GetFleetRequest};
use muster_testkit::{Broker, TestDb, eventually};
use rdkafka::{
    Message as _,
    consumer::{Consumer as _, StreamConsumer},
    message::{Header, Headers, OwnedHeaders},
    producer::FutureRecord,
};
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;

async fn database() -> TestDb {
    let db = TestDb::new(&[&MIGRATIONS]).await;
    incarnation::establish(db.pool()).await.expect("an incarnation");
    db
}

async fn append(tx: &mut Tx, name: &str, version: i64) {
    let state = Fleet { name: name.to_owned(), ..Fleet::default() };
    let event = NewEvent { topic: "muster.test", kind: "fleet.changed", aggregate: name, version, deleted: false, state: &state };
    event::append(tx, event).await.expect("appended");
}

async fn append_alone(pool: &PgPool, name: &str, version: i64) {
    let mut tx = db::begin(pool).await.expect("begun");
    append(&mut tx, name, version).await;
    tx.commit().await.expect("committed");
}

const START: Cursor = Cursor { incarnation: 1, xid: 0, id: 0 };

async fn names(pool: &PgPool, after: Cursor) -> Vec<String> {
    event::read(pool, after, 100).await.expect("read").into_iter().map(|event| event.aggregate).collect()
}

/// Waits until the log reads as expected: its horizon is server-wide, and other tests' transactions hold it back.
async fn expect_log(pool: &PgPool, expected: &[&str]) {
    let what = format!("the log holds {expected:?}");
    eventually(&what, async || (names(pool, START).await == expected).then_some(())).await;
}

#[tokio::test]
async fn what_is_published_and_old_is_dropped_and_nothing_else() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let db = database().await;
    for version in 1..=5 {
        append_alone(db.pool(), "fleets/a", version).await;
    }
    let (published, old) = (4, 3);
    let aged = "update event set occurred_at = now() - interval '2 hours' where version <= $1 or version = 5";
    sqlx::query(aged).bind(old).execute(db.pool()).await.expect("aged");
    assert_eq!(event::trim(db.pool(), HOUR, 100).await.expect("trimmed"), 0, "nothing is published yet");
    let cursor = "update relay_cursor set xid = e.xid, event_id = e.event_id from event e where e.version = $1";
    sqlx::query(cursor).bind(published).execute(db.pool()).await.expect("published");
    assert_eq!(event::trim(db.pool(), HOUR, 2).await.expect("trimmed"), 2, "of the two oldest");
    assert_eq!(event::trim(db.pool(), HOUR, 2).await.expect("trimmed"), 1);
    assert_eq!(event::trim(db.pool(), HOUR, 100).await.expect("trimmed"), 0);
    let left: Vec<i64> =
        sqlx::query_scalar("select version from event order by event_id").fetch_all(db.pool()).await.expect("read");
    assert_eq!(left, [4, 5], "one that is young, and behind it one that nobody published");
}

#[tokio::test]
async fn a_transaction_that_commits_late_is_not_skipped() {
    let db = database().await;
    let mut late = db::begin(db.pool()).await.expect("begun");
    append(&mut late, "late", 1).await;
    append_alone(db.pool(), "early", 1).await;

    // The later id is committed and stays unseen while an earlier one may still come.
    assert_eq!(names(db.pool(), START).await, Vec::<String>::new());
    late.commit().await.expect("committed");
    expect_log(db.pool(), &["late", "early"]).await;
}

#[tokio::test]
async fn a_restored_log_is_emptied_and_its_cursors_are_too_old() {
    let db = database().await;
    append_alone(db.pool(), "before", 1).await;
    // As after a logical restore into another server: ids of transactions lie in the future.
    sqlx::query("update event set xid = '99999999999'").execute(db.pool()).await.expect("moved");

    let incarnation = incarnation::establish(db.pool()).await.expect("established");

    assert_eq!(incarnation, 2);
    assert_eq!(names(db.pool(), Cursor { incarnation: 2, ..START }).await, Vec::<String>::new());
    let error = event::check(db.pool(), Cursor { incarnation: 1, xid: 1, id: 1 }).await.expect_err("of another life");
    assert_eq!(error.kind(), muster_kit::error::Kind::OutOfRange);
}

#[tokio::test]
async fn an_incarnation_stays_while_its_database_does() {
    let db = database().await;
    assert_eq!(incarnation::establish(db.pool()).await.expect("established"), 1);
    sqlx::query("update incarnation set timeline = timeline + 1").execute(db.pool()).await.expect("failed over");
    assert_eq!(incarnation::establish(db.pool()).await.expect("established"), 2);
}

async fn rename(pool: &PgPool, caller: &Caller, request_id: &str, request: GetFleetRequest) -> Result<Fleet> {
    once!(*pool, caller, "Rename", request_id, request, tx => {
        append(tx, &request.name, 1).await;
        Ok(Fleet { name: request.name.clone(), ..Fleet::default() })
    })
}

#[tokio::test]
async fn a_repeated_request_acts_once_and_is_answered_as_at_first() {
    let db = database().await;
    let caller = Caller::Service { name: "scheduler".to_owned() };
    let id = uuid::Uuid::new_v4().to_string();
    let request = GetFleetRequest { name: "fleets/a".to_owned() };

    let first = rename(db.pool(), &caller, &id, request.clone()).await.expect("done");
    let second = rename(db.pool(), &caller, &id, request.clone()).await.expect("repeated");

    assert_eq!(first, second);
    expect_log(db.pool(), &["fleets/a"]).await;
    let other = rename(db.pool(), &caller, &id, GetFleetRequest { name: "fleets/b".to_owned() }).await;
    assert_eq!(other.expect_err("another request").violations()[0].field, "request_id");
    let malformed = rename(db.pool(), &caller, "seven", request).await;
    assert_eq!(malformed.expect_err("not a UUID").violations()[0].field, "request_id");
}

#[tokio::test]
async fn two_repetitions_at_once_act_once() {
    let db = database().await;
    let caller = Caller::Service { name: "scheduler".to_owned() };
    let id = uuid::Uuid::new_v4().to_string();
    let request = GetFleetRequest { name: "fleets/a".to_owned() };
    let attempts = (0..8).map(|_| rename(db.pool(), &caller, &id, request.clone()));
    for outcome in futures::future::join_all(attempts).await {
        assert_eq!(outcome.expect("answered").name, "fleets/a");
    }
    expect_log(db.pool(), &["fleets/a"]).await;
    assert_eq!(idempotency::trim(db.pool()).await.expect("trimmed"), 0);
}

#[tokio::test]
async fn the_late_write_of_a_former_leader_is_refused() {
    let db = database().await;
    let first = Lease::new(db.pool().clone(), "plan", Duration::from_secs(30));
    let second = Lease::new(db.pool().clone(), "plan", Duration::from_secs(30));
    assert_eq!(first.acquire().await.expect("asked"), Some(1));
    assert_eq!(second.acquire().await.expect("asked"), None);
    assert_eq!(first.acquire().await.expect("renewed"), Some(1));
    first.release().await.expect("released");
    assert_eq!(second.acquire().await.expect("asked"), Some(2));

    let mut tx = db::begin(db.pool()).await.expect("begun");
    let refused = lease::check(&mut tx, "plan", 1).await.expect_err("another leads");
    assert_eq!(refused.reason(), "NOT_LEADER");
    lease::check(&mut tx, "plan", 2).await.expect("the leader may");
}

#[tokio::test]
async fn the_relay_publishes_every_event_in_order_as_a_cloud_event() {
    let db = database().await;
    let broker = Broker::start(&["muster.test"], 1).expect("a broker");
    let kafka = KafkaConfig::plaintext(vec![broker.bootstrap_servers().to_owned()]);
    for version in 1..=50 {
        append_alone(db.pool(), "fleets/a", version).await;
    }
    let relay = Relay::new(db.pool().clone(), "test", &kafka, Health::default()).expect("a relay");
    expect_log(db.pool(), &["fleets/a"; 50]).await;
    relay.tick().await.expect("published");
    relay.tick().await.expect("nothing left");

    let mut config = kafka.client().expect("complete");
    config.set("group.id", "reader").set("auto.offset.reset", "earliest");
    let reader: StreamConsumer = config.create().expect("a consumer");
    reader.subscribe(&["muster.test"]).expect("subscribed");
    for version in 1..=50 {
        let message = tokio::time::timeout(Duration::from_secs(30), reader.recv()).await.expect("in time").expect("a message");
        let header = |name: &str| {
            let headers = message.headers().expect("headers");
            let found = headers.iter().find(|header| header.key == name).and_then(|header| header.value);
            String::from_utf8(found.unwrap_or_default().to_vec()).expect("text")
        };
        assert_eq!(message.key(), Some(b"fleets/a".as_slice()));
        assert_eq!(header("ce_type"), "dev.muster.fleet.changed.v1");
        assert_eq!(header("ce_subject"), "fleets/a");
        assert_eq!(header("ce_musterversion"), format!("1.{version}"));
        let body: Fleet = serde_json::from_slice(message.payload().expect("a body")).expect("proto3 JSON");
        assert_eq!(body.name, "fleets/a");
    }
    let nothing = tokio::time::timeout(Duration::from_millis(300), reader.recv()).await;
    assert!(nothing.is_err(), "an event was published twice");
}

/// Appends an event for every message that says `good`.
struct Appending;

#[async_trait]
impl Handler for Appending {
    async fn handle(&self, tx: &mut Tx, message: &Message) -> Result<()> {
        if message.headers.get("ce_type").map(String::as_str) != Some("good") {
            return Err(Error::invalid("ce_type", "is unknown"));
        }
        append(tx, &String::from_utf8_lossy(&message.body), 1).await;
        Ok(())
    }
}

async fn produce(kafka: &KafkaConfig, kind: &str, body: &str) {
    let producer = relay::producer(kafka).expect("a producer");
    let headers = OwnedHeaders::new().insert(Header { key: "ce_type", value: Some(kind) });
    let record = FutureRecord::to("mlops.events").key("resnet50").payload(body).headers(headers);
    producer.send(record, Duration::from_secs(10)).await.expect("produced");
}

#[tokio::test]
async fn a_consumer_acts_once_and_buries_what_it_cannot_read() {
    let db = database().await;
    let broker = Broker::start(&["mlops.events", "mlops.events.dead"], 1).expect("a broker");
    let kafka = KafkaConfig::plaintext(vec![broker.bootstrap_servers().to_owned()]);
    for (kind, body) in [("good", "one"), ("bad", "two"), ("good", "three")] {
        produce(&kafka, kind, body).await;
    }
    let consume = |stop: CancellationToken| {
        let handler = Arc::new(Appending);
        Consumer::new(db.pool().clone(), kafka.clone(), "mlops.events", "consume", handler, Health::default()).run(stop)
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(consume(stop.clone()));
    eventually("two effects", async || (names(db.pool(), START).await.len() == 2).then_some(())).await;
    stop.cancel();
    running.await.expect("it stopped");

    // A successor goes on where the rows say, whatever the group's offsets are.
    produce(&kafka, "good", "four").await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(consume(stop.clone()));
    eventually("the third effect", async || (names(db.pool(), START).await.len() >= 3).then_some(())).await;
    stop.cancel();
    running.await.expect("it stopped");
    expect_log(db.pool(), &["one", "three", "four"]).await;

    let mut config = kafka.client().expect("complete");
    config.set("group.id", "undertaker").set("auto.offset.reset", "earliest");
    let dead: StreamConsumer = config.create().expect("a consumer");
    dead.subscribe(&["mlops.events.dead"]).expect("subscribed");
    let message = tokio::time::timeout(Duration::from_secs(30), dead.recv()).await.expect("in time").expect("a message");
    assert_eq!(message.payload(), Some(b"two".as_slice()));
    let headers = message.headers().expect("headers");
    let reason = headers.iter().find(|header| header.key == "muster-dead-reason").and_then(|header| header.value);
    assert_eq!(reason, Some(b"ce_type: is unknown".as_slice()));
}

/// A watch over the log's own events; what exists is what the log holds.
struct Everything(PgPool);

#[async_trait]
impl Watched for Everything {
    type Resource = Fleet;
    type Response = (Change, String, String);

    async fn list(&self) -> Result<(Vec<Fleet>, Cursor)> {
        let mut tx = db::begin(&self.0).await?;
        let cursor = event::end(&mut tx).await?;
        Ok((vec![Fleet { name: "existing".to_owned(), ..Fleet::default() }], cursor))
    }

    fn wants(&self, event: &Event) -> bool {
        event.aggregate != "unwanted"
    }

    fn respond(&self, change: Change, resource: Option<Fleet>, resume_token: String) -> Self::Response {
        (change, resume_token, resource.unwrap_or_default().name)
    }
}

#[tokio::test]
async fn a_watch_sends_what_exists_then_every_change_and_resumes() {
    let db = database().await;
    let stop = CancellationToken::new();
    let (tail, feed) = Tail::new(db.pool().clone(), stop.clone());
    let feeding = tokio::spawn(feed);
    append_alone(db.pool(), "before", 1).await;
    expect_log(db.pool(), &["before"]).await;

    let mut watching = watch::start(&tail, "", Everything(db.pool().clone())).await.expect("started");
    let mut next = async || watching.next().await.expect("open").expect("a response");
    assert_eq!(next().await.2, "existing");
    assert_eq!(next().await.0, Change::Synced);
    append_alone(db.pool(), "unwanted", 1).await;
    append_alone(db.pool(), "one", 1).await;
    let one = next().await;
    assert_eq!((one.0, one.2.as_str()), (Change::Changed, "one"));
    append_alone(db.pool(), "two", 1).await;

    let mut resumed = watch::start(&tail, &one.1, Everything(db.pool().clone())).await.expect("resumed");
    let mut next = async || resumed.next().await.expect("open").expect("a response");
    assert_eq!(next().await.0, Change::Synced);
    assert_eq!(next().await.2, "two");

    sqlx::query("update event_horizon set xid = pg_current_xact_id()").execute(db.pool()).await.expect("cut");
    let error = watch::start(&tail, &one.1, Everything(db.pool().clone())).await.expect_err("too old");
    assert_eq!(error.kind(), muster_kit::error::Kind::OutOfRange);
    stop.cancel();
    feeding.await.expect("it stopped");
}
