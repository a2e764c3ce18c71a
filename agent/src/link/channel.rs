//! Dialling the hub: TLS with the authority that was told, our certificate where we have one.

use super::LinkError;
use crate::ledger::Identity;
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// A hub that has not taken the connection by then is tried again.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A message, at most: a full Desired of 500 items, or a bundle of 8 MiB before packing.
pub(super) const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// Where the hub is and whom to trust.
#[derive(Debug, Clone)]
pub struct HubAddress {
    /// As in `https://hub.example.com:7401`.
    pub address: String,
    /// The authority of the hub, PEM.
    pub ca_pem: String,
}

impl HubAddress {
    /// Connects; with an identity by mTLS.
    pub(super) async fn connect(&self, identity: Option<&Identity>) -> Result<Channel, LinkError> {
        // The handshake too: a network that takes a connection and nothing else would hold it for ever.
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.ca_pem)).timeout(CONNECT_WITHIN);
        if let Some(identity) = identity {
            tls = tls.identity(tonic::transport::Identity::from_pem(&identity.certificate_pem, &identity.key_pem));
        }
        let refused = |error: tonic::transport::Error| LinkError::Hub(format!("{}: {}", self.address, sources(&error)));
        Endpoint::from_shared(self.address.clone())
            .and_then(|endpoint| endpoint.tls_config(tls))
            .map_err(refused)?
            .connect_timeout(CONNECT_WITHIN)
            // A network that swallows packets shows itself within twenty seconds.
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(10))
            .connect()
            .await
            .map_err(refused)
    }
}

/// An error with all its causes; tonic's own text is only "transport error".
fn sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
