//! The testkit does for itself what it promises to others.

use std::time::Duration;

use muster_testkit::{Broker, TestDb, eventually};
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use sqlx::migrate::Migrator;

static MIGRATIONS: Migrator = sqlx::migrate!("tests/migrations");

#[tokio::test]
async fn each_test_has_a_database_of_its_own() {
    let one = TestDb::new(&[&MIGRATIONS]).await;
    let other = TestDb::new(&[&MIGRATIONS]).await;
    sqlx::query("insert into thing (name) values ('only in one')").execute(one.pool()).await.unwrap();
    let in_other: i64 = sqlx::query_scalar("select count(*) from thing").fetch_one(other.pool()).await.unwrap();
    assert_eq!(in_other, 0);
}

#[tokio::test]
async fn a_database_goes_with_its_test_also_while_it_is_in_use() {
    let watcher = TestDb::new(&[&MIGRATIONS]).await;
    let gone = TestDb::new(&[&MIGRATIONS]).await;
    let _in_use = gone.pool().acquire().await.unwrap();
    let name = gone.name().to_owned();
    drop(gone);
    let left: i64 = sqlx::query_scalar("select count(*) from pg_database where datname = $1")
        .bind(name)
        .fetch_one(watcher.pool())
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_message_reaches_a_group_through_the_embedded_broker() {
    let broker = Broker::start(&["muster.test"], 3).unwrap();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap_servers());
    let producer: FutureProducer = config.create().unwrap();
    producer.send(FutureRecord::to("muster.test").key("k").payload("hello"), Duration::from_secs(10)).await.unwrap();
    let consumer: StreamConsumer = config.set("group.id", "readers").set("auto.offset.reset", "earliest").create().unwrap();
    consumer.subscribe(&["muster.test"]).unwrap();
    let seen = eventually("the message arrives", async || {
        let message = consumer.recv().await.ok()?;
        Some(message.payload()?.to_vec())
    })
    .await;
    assert_eq!(seen, b"hello");
}
