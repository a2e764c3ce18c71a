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
    orders: Option<mpsc::Sender<Order>>,
    owner: Option<JoinHandle<()>>,
}

/// What the thread that owns the cluster is told, and where it answers.
#[derive(Debug)]
struct Order {
    state: State,
    done: mpsc::Sender<Result<(), String>>,
}

/// Whether the broker can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It answers.
    Up,
    /// Every connection is cut and new ones are refused. What it holds stays.
    Down,
}

/// The only broker's number.
const BROKER: i32 = 1;

impl Broker {
    /// Starts one broker on a free loopback port, with these topics, each of `partitions` partitions.
    ///
    /// # Errors
    /// The port can't be opened, or a topic is refused.
    pub fn start(topics: &[&str], partitions: i32) -> Result<Self, String> {
        let topics: Vec<String> = topics.iter().map(|&topic| topic.to_owned()).collect();
        let (orders, received) = mpsc::channel::<Order>();
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
            if ready.send(Ok(cluster.bootstrap_servers())).is_err() {
                return;
            }
            for Order { state, done } in received {
                let outcome = match state {
                    State::Up => cluster.broker_up(BROKER),
                    State::Down => cluster.broker_down(BROKER),
                };
                done.send(outcome.map_err(|error| error.to_string())).ok();
            }
        });
        let bootstrap_servers = started.recv().map_err(|_| "the broker's thread has ended".to_owned())??;
        Ok(Self { bootstrap_servers, orders: Some(orders), owner: Some(owner) })
    }

    /// `host:port`, as Kafka clients want it.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Makes it reachable, or not.
    ///
    /// # Errors
    /// The broker doesn't obey.
    pub fn set(&self, state: State) -> Result<(), String> {
        let ended = || "the broker's thread has ended".to_owned();
        let (done, answer) = mpsc::channel();
        let orders = self.orders.as_ref().ok_or_else(ended)?;
        orders.send(Order { state, done }).map_err(|_| ended())?;
        answer.recv().map_err(|_| ended())?
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.orders.take());
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
