//! Watches: what exists, `SYNCED`, every change; and from a token on, the rest and nothing before it.

use anyhow::{Context, Result, bail, ensure};
use muster_integration_tests::clients::Clients;
use muster_integration_tests::patience::PATIENCE;
use muster_integration_tests::refusal::names_field;
use prost_reflect::MethodDescriptor;
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::Streaming;

use super::reflection::{Api, decode};

/// A watch that has sent what exists.
pub struct Watch {
    method: MethodDescriptor,
    request: Value,
    stream: Streaming<Vec<u8>>,
    /// Resumes after what existed.
    synced: String,
}

impl Watch {
    /// Begins one without a token, and reads it up to `SYNCED`.
    pub async fn begin(api: &Api, clients: &Clients, method: &MethodDescriptor, parent: &str) -> Result<Self> {
        let request = if parent.is_empty() { json!({}) } else { json!({ "parent": parent }) };
        let mut unreadable = request.clone();
        unreadable["resume_token"] = json!("no-token");
        names_field(&api.refusal(clients, method, &unreadable).await?, "resume_token", method.full_name())?;
        let mut stream = api.open(clients, method, &request).await?;
        loop {
            let message = next(method, &mut stream).await?;
            let kind = message["type"].as_str().context("a type")?;
            let token = message["resume_token"].as_str().unwrap_or_default();
            ensure!(!token.is_empty(), "{} sends no token: {message}", method.full_name());
            match kind {
                "EXISTING" => {}
                "SYNCED" => return Ok(Self { method: method.clone(), request, stream, synced: token.to_owned() }),
                other => bail!("{} sends {other} before SYNCED", method.full_name()),
            }
        }
    }

    /// It has sent these changes since, in this order among others; and so does one that goes on from its token.
    pub async fn saw(mut self, api: &Api, clients: &Clients, changes: &[(&str, &str)]) -> Result<()> {
        let seen = until(&self.method, &mut self.stream, changes).await?;
        let mut request = self.request.clone();
        request["resume_token"] = json!(self.synced);
        let mut resumed = api.open(clients, &self.method, &request).await?;
        let first = next(&self.method, &mut resumed).await?;
        ensure!(first["type"] == "SYNCED", "{} resumed begins with {first}", self.method.full_name());
        let again = until(&self.method, &mut resumed, changes).await?;
        ensure!(seen == again, "{} resumed sends {again:?}, and before {seen:?}", self.method.full_name());
        Ok(())
    }
}

/// Name, kind and etag of every message until all changes have been seen in their order.
async fn until(
    method: &MethodDescriptor,
    stream: &mut Streaming<Vec<u8>>,
    changes: &[(&str, &str)],
) -> Result<Vec<(String, String, String)>> {
    let (mut wanted, mut seen) = (changes.iter().peekable(), Vec::new());
    while let Some((name, kind)) = wanted.peek() {
        let message = next(method, stream).await.with_context(|| format!("waiting for {name} {kind}, after {seen:?}"))?;
        let fields = message.as_object().context("a message")?;
        let resource = fields.values().find_map(|field| field.get("name").map(|_| field)).context("a resource")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let sent = (text(&resource["name"]), text(&message["type"]), text(&resource["etag"]));
        if (sent.0.as_str(), sent.1.as_str()) == (*name, *kind) {
            wanted.next();
        }
        seen.push(sent);
    }
    Ok(seen)
}

async fn next(method: &MethodDescriptor, stream: &mut Streaming<Vec<u8>>) -> Result<Value> {
    let message = timeout(PATIENCE, stream.message()).await.with_context(|| format!("{} is silent", method.full_name()))?;
    let bytes = message?.with_context(|| format!("{} ended", method.full_name()))?;
    Ok(decode(method.output(), &bytes)?)
}
