//! A port to listen on.

use std::net::{Ipv4Addr, TcpListener};

/// A TCP port of the loopback interface that nobody listens on at this moment. Servers that can report the port they
/// got should bind port 0 instead: another process may take this one first.
///
/// # Panics
/// Where the loopback interface has no free port.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("the loopback interface has a free port")
        .port()
}
