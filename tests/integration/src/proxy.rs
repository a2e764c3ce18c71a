//! The network between an agent and the hub, which can be cut.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Forwards TCP connections to one address, while it is open.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    open: watch::Sender<bool>,
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
        let (open, is_open) = watch::channel(true);
        let acceptor = tokio::spawn(accept(listener, target, is_open));
        Ok(Self { address, open, acceptor })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection and refuses new ones.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Lets new connections through again.
    pub fn mend(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, is_open: watch::Receiver<bool>) {
    // Dropped with this task, and with it every connection.
    let mut connections = JoinSet::new();
    loop {
        let Ok((inbound, _)) = listener.accept().await else {
            continue;
        };
        while connections.try_join_next().is_some() {}
        if !*is_open.borrow() {
            continue;
        }
        let mut is_open = is_open.clone();
        connections.spawn(async move {
            tokio::select! {
                () = forward(inbound, target) => {}
                _ = is_open.wait_for(|open| !open) => {}
            }
        });
    }
}

/// Until either side ends; what went wrong is the endpoints' to notice.
async fn forward(mut inbound: TcpStream, target: SocketAddr) {
    if let Ok(mut outbound) = TcpStream::connect(target).await {
        // A network doesn't hold small packets back for 40 ms.
        for end in [&inbound, &outbound] {
            end.set_nodelay(true).ok();
        }
        copy_bidirectional(&mut inbound, &mut outbound).await.ok();
    }
}
