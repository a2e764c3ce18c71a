//! The policy service's verdicts.

use std::time::Duration;

use async_trait::async_trait;
use muster_kit::peer::{self, PeerChannel};
use muster_kit::{Error, Result};
use muster_proto::policy::v1::evaluate_stream_response::Answer;
use muster_proto::policy::v1::{
    EvaluateRefusal, EvaluateRequest, EvaluateResponse, EvaluateStreamResponse, PolicyViolation,
    verdict_service_client::VerdictServiceClient,
};
use tonic::{Code, Status};

use super::{Policy, Question, Verdict, Violation};

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
    async fn evaluate(&self, questions: Vec<Question>) -> Vec<Result<Verdict>> {
        let count = questions.len();
        let mut questions = questions.into_iter().map(wire).collect::<Vec<_>>();
        match questions.len() {
            0 => Vec::new(),
            1 => vec![self.one(questions.remove(0)).await],
            _ => self.several(questions, count).await,
        }
    }
}

impl PolicyClient {
    async fn one(&self, question: EvaluateRequest) -> Result<Verdict> {
        match self.client.clone().evaluate(peer::request(question, DEADLINE)).await {
            Ok(answer) => Ok(verdict(answer.into_inner())),
            Err(status) if status.code() == Code::InvalidArgument => Err(Error::invalid("manifest", status.message().to_owned())),
            Err(status) => Err(peer::failed("policy", status)),
        }
    }

    /// By one stream. Where it breaks, what was not answered is not known.
    async fn several(&self, questions: Vec<EvaluateRequest>, count: usize) -> Vec<Result<Verdict>> {
        let mut verdicts = Vec::with_capacity(count);
        let asked = peer::request(futures::stream::iter(questions), DEADLINE);
        let broken = match self.client.clone().evaluate_stream(asked).await {
            Err(status) => status,
            Ok(answers) => {
                let mut answers = answers.into_inner();
                loop {
                    match answers.message().await {
                        Ok(Some(answer)) if verdicts.len() < count => verdicts.push(answered(answer)),
                        Ok(_) => break Status::unavailable("the stream of verdicts has ended"),
                        Err(status) => break status,
                    }
                }
            }
        };
        while verdicts.len() < count {
            verdicts.push(Err(peer::failed("policy", broken.clone())));
        }
        verdicts
    }
}

fn wire(question: Question) -> EvaluateRequest {
    let Question { manifest, clusters, namespace } = question;
    let clusters = clusters.into_iter().map(|cluster| format!("clusters/{cluster}")).collect();
    EvaluateRequest { manifests: vec![manifest], clusters, namespace }
}

fn answered(answer: EvaluateStreamResponse) -> Result<Verdict> {
    match answer.answer {
        Some(Answer::Verdict(answer)) => Ok(verdict(answer)),
        Some(Answer::Refusal(EvaluateRefusal { field, description })) => {
            Err(Error::invalid("manifest", format!("{field}: {description}")))
        }
        None => Err(Error::internal(anyhow::anyhow!("the policy service answered without a verdict"))),
    }
}

fn verdict(answer: EvaluateResponse) -> Verdict {
    let EvaluateResponse { policy_revision, allowed, violations, warnings: _ } = answer;
    Verdict { revision: policy_revision, allowed, violations: violations.into_iter().map(violation).collect() }
}

fn violation(violation: PolicyViolation) -> Violation {
    let PolicyViolation { policy, rule, subject, path, message, enforced, manifest_index: _, not_evaluated_reason } = violation;
    let message = if not_evaluated_reason.is_empty() { message } else { format!("can't be evaluated: {not_evaluated_reason}") };
    let policy = policy.strip_prefix("policies/").unwrap_or(&policy).to_owned();
    Violation { policy, rule, subject, path, message, enforced }
}
