//! The policy service: one verdict of a composed bundle.

use super::{Judgement, Policy};
use async_trait::async_trait;
use muster_kit::{
    Result,
    peer::{self, PeerChannel},
};
use muster_proto::policy::v1::{EvaluateRequest, PolicyViolation, verdict_service_client::VerdictServiceClient};
use serde_json::Value;
use std::time::Duration;

/// The policy service over the wire.
pub struct RemotePolicy(VerdictServiceClient<PeerChannel>);

impl RemotePolicy {
    /// A client over a channel.
    pub fn new(channel: PeerChannel) -> Self {
        Self(VerdictServiceClient::new(channel).max_decoding_message_size(peer::MAX_MESSAGE_BYTES))
    }
}

#[async_trait]
impl Policy for RemotePolicy {
    async fn evaluate(&self, manifests: &[Value], clusters: &[String]) -> Result<Judgement> {
        let request = EvaluateRequest {
            manifests: manifests.iter().map(Value::to_string).collect(),
            clusters: clusters.iter().map(|cluster| format!("clusters/{cluster}")).collect(),
            namespace: String::new(),
        };
        let answer = self
            .0
            .clone()
            .evaluate(peer::request(request, Duration::from_secs(15)))
            .await
            .map_err(|status| peer::failed("policy", status))?
            .into_inner();
        let (enforced, reported): (Vec<_>, Vec<_>) = answer.violations.into_iter().partition(|one| one.enforced);
        let mut refusals: Vec<String> = enforced.iter().map(line).collect();
        if !answer.allowed && refusals.is_empty() {
            refusals.push("the policy service refuses it without naming a rule".to_owned());
        }
        let mut warnings: Vec<String> = reported.iter().map(line).collect();
        warnings.extend(answer.warnings);
        Ok(Judgement { revision: answer.policy_revision, refusals, warnings })
    }

    async fn revision(&self) -> Result<String> {
        // A verdict about nothing costs nothing, and names the revision it was taken from.
        Ok(self.evaluate(&[], &[]).await?.revision)
    }
}

/// One violation as people read it.
fn line(violation: &PolicyViolation) -> String {
    let mut line = format!("{}/{}: {}", violation.policy, violation.rule, violation.subject);
    if !violation.path.is_empty() {
        line.push_str(&format!(" at {}", violation.path));
    }
    if !violation.message.is_empty() {
        line.push_str(&format!(": {}", violation.message));
    }
    if !violation.not_evaluated_reason.is_empty() {
        line.push_str(&format!(" (not evaluated: {})", violation.not_evaluated_reason));
    }
    line
}
