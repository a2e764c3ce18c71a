//! A port to listen on.

use std::io::{Error, Result};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 15_000;
const COUNT: u16 = 17_000;

/// A TCP port of the loopback interface that nobody listens on at this moment. It lies below those that the kernel gives to
/// outgoing connections (from 32,768 on), since one of these could take it before it is used, and is never answered twice.
/// Servers that can report the port they got should bind port 0 instead.
///
/// # Errors
/// The loopback interface has no free port.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run side by side begin at different places.
    let begin = (std::process::id().wrapping_mul(7_919) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (begin + step) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::other(format!("no port from {FIRST} to {} is free", FIRST + COUNT)))
}
