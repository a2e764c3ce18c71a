//! The policy service's verdicts.

use std::time::Duration;

use async_trait::async_trait;
use muster_kit::peer::{self, PeerChannel};
use muster_kit::{Error, Result};
use muster_proto::policy::v1::{
    EvaluateRequest, EvaluateResponse, PolicyViolation, verdict_service_client::VerdictServiceClient,
};
use tonic::Code;

use super::{Policy, Verdict, Violation};

/// How long a verdict may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Asks over a channel.
pub struct PolicyClient {
    client: VerdictServiceClient<PeerChannel>,
}

impl PolicyClient {
    /// A client over the channel to the policy service.
    #[must_use]
    pub fn new(channel: PeerChannel) -> Self {
        Self { client: VerdictServiceClient::new(channel).max_decoding_message_size(peer::MAX_MESSAGE_BYTES) }
    }
}

#[async_trait]
impl Policy for PolicyClient {
    async fn evaluate(&self, manifest: String, clusters: Vec<String>, namespace: &str) -> Result<Verdict> {
        let clusters = clusters.into_iter().map(|cluster| format!("clusters/{cluster}")).collect();
        let question = EvaluateRequest { manifests: vec![manifest], clusters, namespace: namespace.to_owned() };
        let answer =
            self.client.clone().evaluate(peer::request(question, DEADLINE)).await.map_err(|status| match status.code() {
                Code::InvalidArgument => Error::invalid("manifest", status.message().to_owned()),
                _ => peer::failed("policy", status),
            })?;
        let EvaluateResponse { policy_revision, allowed, violations, warnings: _ } = answer.into_inner();
        Ok(Verdict { revision: policy_revision, allowed, violations: violations.into_iter().map(violation).collect() })
    }
}

fn violation(violation: PolicyViolation) -> Violation {
    let PolicyViolation { policy, rule, subject, path, message, enforced, manifest_index: _, not_evaluated_reason } = violation;
    let message = if not_evaluated_reason.is_empty() { message } else { format!("can't be evaluated: {not_evaluated_reason}") };
    let policy = policy.strip_prefix("policies/").unwrap_or(&policy).to_owned();
    Violation { policy, rule, subject, path, message, enforced }
}
