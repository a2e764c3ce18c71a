//! A Kafka broker inside the process: librdkafka's mock cluster.
//!
//! The one thing to know: it keeps groups, idempotent producers and headers, and forgets everything when it is dropped. It
//! serves no CreateTopics, so the topics are named when it starts.

use std::sync::mpsc;
use std::thread::JoinHandle;

use rdkafka::mocking::MockCluster;

/// A running broker. Its port is closed when it is dropped.
#[derive(Debug)]
pub struct Broker {
    bootstrap_servers: String,
    // Dropping the sender ends the thread that owns the cluster.
    stop: Option<mpsc::Sender<std::convert::Infallible>>,
    owner: Option<JoinHandle<()>>,
}

impl Broker {
    /// Starts one broker on a free loopback port, with these topics, each of `partitions` partitions.
    ///
    /// # Errors
    /// The port can't be opened, or a topic is refused.
    pub fn start(topics: &[&str], partitions: i32) -> Result<Self, String> {
        let topics: Vec<String> = topics.iter().map(|&topic| topic.to_owned()).collect();
        let (stop, stopped) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        // The cluster is a bare pointer that may not change threads: the thread that makes it keeps it.
        let owner = std::thread::spawn(move || {
            let cluster = match start(&topics, partitions) {
                Ok(cluster) => cluster,
                Err(error) => {
                    ready.send(Err(error.to_string())).ok();
                    return;
                }
            };
            if ready.send(Ok(cluster.bootstrap_servers())).is_ok() {
                stopped.recv().ok();
            }
        });
        let bootstrap_servers = started.recv().map_err(|_| "the broker's thread has ended".to_owned())??;
        Ok(Self { bootstrap_servers, stop: Some(stop), owner: Some(owner) })
    }

    /// `host:port`, as Kafka clients want it.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(owner) = self.owner.take() {
            owner.join().ok();
        }
    }
}

fn start(
    topics: &[String],
    partitions: i32,
) -> rdkafka::error::KafkaResult<MockCluster<'static, rdkafka::producer::DefaultProducerContext>> {
    let cluster = MockCluster::new(1)?;
    for topic in topics {
        cluster.create_topic(topic, partitions, 1)?;
    }
    Ok(cluster)
}
