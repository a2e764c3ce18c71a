//! The topics: what was published, and publishing as a pipeline does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::Value;
use tokio::task::JoinHandle;

/// What the deployment makes; services never make topics.
pub const TOPICS: [&str; 10] = [
    "muster.clusters",
    "muster.jobs",
    "muster.releases",
    "muster.policies",
    "mlops.events",
    "muster.clusters.dead",
    "muster.jobs.dead",
    "muster.releases.dead",
    "muster.policies.dead",
    "mlops.events.dead",
];

/// How long brokers may take to make or delete them.
const TOPICS_WITHIN: Duration = Duration::from_secs(15);

/// Partitions of each topic: more than one, so that nobody relies on an order between keys.
pub const PARTITIONS: i32 = 3;

/// [`TOPICS`] on brokers of somebody's own: made for one play, and deleted with the value.
#[derive(Debug)]
pub struct MadeTopics {
    brokers: String,
    made: Vec<String>,
}

impl MadeTopics {
    /// Makes them. One that is there already is somebody else's, and what it holds would be played too.
    ///
    /// # Errors
    /// The brokers can't be reached or refuse it, or one is there already.
    pub async fn make(brokers: &str) -> Result<Self> {
        let admin = admin(brokers)?;
        let mut topics = Self { brokers: brokers.to_owned(), made: Vec::new() };
        // The broker's own default for the number of copies.
        let wanted: Vec<NewTopic> =
            TOPICS.iter().map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(-1))).collect();
        let answers = admin.create_topics(&wanted, &AdminOptions::new().operation_timeout(Some(TOPICS_WITHIN))).await;
        let mut refused = Vec::new();
        for answer in answers.with_context(|| format!("make topics on {brokers}"))? {
            match answer {
                Ok(name) => topics.made.push(name),
                Err((name, error)) => refused.push(format!("{name}: {error}")),
            }
        }
        ensure!(
            refused.is_empty(),
            "topics can't be made on {brokers}, where none of these names may be taken: {}",
            refused.join(", ")
        );
        Ok(topics)
    }
}

impl Drop for MadeTopics {
    fn drop(&mut self) {
        let (brokers, made) = (self.brokers.clone(), std::mem::take(&mut self.made));
        // The caller's own runtime may be the one that drops us.
        let deleted = std::thread::spawn(move || -> Result<()> {
            let names: Vec<&str> = made.iter().map(String::as_str).collect();
            let admin = admin(&brokers)?;
            let deleting = admin.delete_topics(&names, &AdminOptions::new().operation_timeout(Some(TOPICS_WITHIN)));
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(deleting)?;
            Ok(())
        })
        .join();
        if !matches!(deleted, Ok(Ok(()))) {
            eprintln!("the topics on {} could not be deleted: {deleted:?}", self.brokers);
        }
    }
}

fn admin(brokers: &str) -> Result<AdminClient<DefaultClientContext>> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().context("a client of the brokers")
}

/// A message as it was read.
#[derive(Debug, Clone)]
pub struct Event {
    /// The topic.
    pub topic: String,
    /// The message's key.
    pub key: String,
    /// Its headers: `ce_id`, `ce_type`, `ce_subject` and so on.
    pub headers: BTreeMap<String, String>,
    /// Its JSON; null where it is none.
    pub data: Value,
}

/// Reads every topic from the beginning, for as long as it lives.
pub struct Topics {
    seen: Arc<Mutex<Vec<Event>>>,
    producer: FutureProducer,
    reader: JoinHandle<()>,
}

impl Topics {
    /// Starts reading.
    ///
    /// # Errors
    /// The brokers' address is malformed.
    pub fn read(brokers: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers);
        let producer = config.create().context("a producer")?;
        let consumer: StreamConsumer = config
            .set("group.id", format!("demo-{}", uuid::Uuid::new_v4()))
            .set("auto.offset.reset", "earliest")
            .create()
            .context("a consumer")?;
        consumer.subscribe(&TOPICS)?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&seen);
        let reader = tokio::spawn(async move {
            loop {
                match consumer.recv().await {
                    Ok(message) => into.lock().expect("no holder of this lock panics").push(event(&message)),
                    // The broker is coming up, or a topic is not there yet.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        Ok(Self { seen, producer, reader })
    }

    /// What was published to a topic so far.
    pub fn of(&self, topic: &str) -> Vec<Event> {
        let seen = self.seen.lock().expect("no holder of this lock panics");
        seen.iter().filter(|event| event.topic == topic).cloned().collect()
    }

    /// Publishes a CloudEvent in binary mode, and returns when the broker has it.
    ///
    /// # Errors
    /// The broker does not take it.
    pub async fn publish(&self, topic: &str, key: &str, id: &str, source: &str, kind: &str, data: &Value) -> Result<()> {
        let time = jiff::Timestamp::now().to_string();
        let headers = [
            ("ce_specversion", "1.0"),
            ("ce_id", id),
            ("ce_source", source),
            ("ce_type", kind),
            ("ce_subject", key),
            ("ce_time", &time),
            ("content-type", "application/json"),
        ]
        .into_iter()
        .fold(OwnedHeaders::new(), |headers, (name, value)| headers.insert(Header { key: name, value: Some(value) }));
        let payload = serde_json::to_vec(data)?;
        self.producer
            .send(FutureRecord::to(topic).key(key).payload(&payload).headers(headers), Duration::from_secs(10))
            .await
            .map_err(|(error, _)| error)
            .with_context(|| format!("publish to {topic}"))?;
        Ok(())
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn event(message: &impl Message) -> Event {
    let mut headers = BTreeMap::new();
    if let Some(all) = message.headers() {
        for header in all.iter() {
            let value = String::from_utf8_lossy(header.value.unwrap_or_default());
            headers.insert(header.key.to_owned(), value.into_owned());
        }
    }
    Event {
        topic: message.topic().to_owned(),
        key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
        headers,
        data: serde_json::from_slice(message.payload().unwrap_or_default()).unwrap_or_default(),
    }
}
