//! RPCs as bytes: what a client in another language sends, or a broken one.
//!
//! The one thing to know: nothing is read or checked on the way; a message is whatever bytes the caller gives.

use bytes::{Buf, BufMut};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status, Streaming};

use crate::clients::{Link, MAX_MESSAGE_BYTES};

#[derive(Debug, Clone, Copy, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; from.remaining()];
        from.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}

async fn ready(link: Link, path: &str) -> Result<(tonic::client::Grpc<Link>, PathAndQuery), Status> {
    let path = PathAndQuery::try_from(path).map_err(|error| Status::internal(error.to_string()))?;
    let mut client = tonic::client::Grpc::new(link).max_decoding_message_size(MAX_MESSAGE_BYTES);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    Ok((client, path))
}

/// One message there and one back. `path` is as in `/muster.registry.v1.ClusterService/GetCluster`.
///
/// # Errors
/// The service refuses it.
pub async fn unary(link: Link, path: &str, message: Vec<u8>) -> Result<Vec<u8>, Status> {
    let (mut client, path) = ready(link, path).await?;
    Ok(client.unary(Request::new(message), path, Bytes).await?.into_inner())
}

/// One message there and a stream back.
///
/// # Errors
/// The service refuses it.
pub async fn streaming(link: Link, path: &str, message: Vec<u8>) -> Result<Streaming<Vec<u8>>, Status> {
    let (mut client, path) = ready(link, path).await?;
    Ok(client.server_streaming(Request::new(message), path, Bytes).await?.into_inner())
}
