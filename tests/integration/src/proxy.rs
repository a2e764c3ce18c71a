//! The network between an agent and the hub, as bad as one likes; and the balancer before several processes of a service.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// What the network does to what goes over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Nothing.
    Clear,
    /// Every connection ends, and new ones are closed at once.
    Cut,
    /// Connections stay, and nothing comes through any more; those that are open then never hear anything again. Neither side
    /// is told: a router forgot them.
    HalfOpen,
    /// Everything takes so much longer, each way.
    Slow(Duration),
    /// So many of a hundred segments are lost, and come only with the sender's next attempt, [`RETRANSMISSION`] later; what
    /// was sent after them waits for them, as TCP has it.
    Lossy(u32),
}

/// Linux' least time until a lost segment is sent again.
pub const RETRANSMISSION: Duration = Duration::from_millis(200);

/// Chunks on their way in one direction of one connection; a sender waits beyond that.
const ON_THE_WAY: usize = 64;

type Targets = Arc<RwLock<Vec<SocketAddr>>>;

/// Of one read.
const CHUNK: usize = 16 * 1024;

/// Forwards TCP connections to the first of its targets that takes them.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    targets: Targets,
    weather: watch::Sender<Weather>,
    acceptor: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free loopback port for what is to go to `target`.
    ///
    /// # Errors
    /// No port can be opened.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("open a proxy")?;
        let address = listener.local_addr()?;
        let (weather, present) = watch::channel(Weather::Clear);
        let targets = Targets::new(RwLock::new(vec![target]));
        let acceptor = tokio::spawn(accept(listener, targets.clone(), present));
        Ok(Self { address, targets, weather, acceptor })
    }

    /// Another process of the same service, for when those before it are gone.
    pub fn add(&self, target: SocketAddr) {
        self.targets.write().unwrap_or_else(PoisonError::into_inner).push(target);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Cuts every connection and refuses new ones.
    pub fn cut(&self) {
        self.set(Weather::Cut);
    }

    /// Lets new connections through again.
    pub fn mend(&self) {
        self.set(Weather::Clear);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn accept(listener: TcpListener, targets: Targets, weather: watch::Receiver<Weather>) {
    // Dropped with this task, and with it every connection.
    let mut connections = JoinSet::new();
    loop {
        let Ok((inbound, _)) = listener.accept().await else {
            continue;
        };
        while connections.try_join_next().is_some() {}
        if *weather.borrow() == Weather::Cut {
            continue;
        }
        let mut until_cut = weather.clone();
        let weather = weather.clone();
        let targets = targets.read().unwrap_or_else(PoisonError::into_inner).clone();
        connections.spawn(async move {
            tokio::select! {
                () = forward(inbound, &targets, weather) => {}
                _ = until_cut.wait_for(|weather| *weather == Weather::Cut) => {}
            }
        });
    }
}

/// Until either side ends; what went wrong is the endpoints' to notice.
async fn forward(inbound: TcpStream, targets: &[SocketAddr], weather: watch::Receiver<Weather>) {
    // One after the other, as a list of addresses is tried.
    let Ok(outbound) = TcpStream::connect(targets).await else { return };
    // A network doesn't hold small packets back for 40 ms.
    for end in [&inbound, &outbound] {
        end.set_nodelay(true).ok();
    }
    let (from_caller, to_caller) = inbound.into_split();
    let (from_target, to_target) = outbound.into_split();
    let mut forgotten = weather.clone();
    let passing = async { tokio::join!(pass(from_caller, to_target, weather.clone()), pass(from_target, to_caller, weather)) };
    let mut passing = std::pin::pin!(passing);
    tokio::select! {
        _ = &mut passing => return,
        _ = forgotten.wait_for(|weather| *weather == Weather::HalfOpen) => {}
    }
    // The ends are held, so that neither side learns of it.
    std::future::pending::<()>().await;
}

/// One direction: what is read is written when its time has come, in order.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, weather: watch::Receiver<Weather>) {
    let (queue, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let read = async move {
        let mut segments = 0_u32;
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            segments = segments.wrapping_add(1);
            let late = match *weather.borrow() {
                Weather::Slow(by) => by,
                // Evenly spread, and the same in every run.
                Weather::Lossy(percent) if segments.wrapping_mul(percent) % 100 < percent => RETRANSMISSION,
                Weather::Lossy(_) | Weather::Clear | Weather::Cut | Weather::HalfOpen => Duration::ZERO,
            };
            if queue.send((Instant::now() + late, buffer[..count].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((at, bytes)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        to.shutdown().await.ok();
    };
    tokio::join!(read, write);
}
