//! The policy service's verdicts.

use std::time::Duration;

use async_trait::async_trait;
use muster_kit::gather::Gather;
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

/// Questions of one stream, and streams at a time: a submit's question waits for no more than the answers to those before it.
const QUESTIONS: usize = 200;
const STREAMS: usize = 4;

/// Asks over a channel. Single questions that come at one time are asked together.
pub struct PolicyClient {
    client: Client,
    single: Gather<EvaluateRequest, Result<Verdict>>,
}

#[derive(Clone)]
struct Client(VerdictServiceClient<PeerChannel>);

impl PolicyClient {
    /// A client over the channel to the policy service, and the loop that asks single questions until the client is gone.
    pub fn new(channel: PeerChannel) -> (Self, impl Future<Output = ()> + Send) {
        let client = Client(VerdictServiceClient::new(channel).max_decoding_message_size(peer::MAX_MESSAGE_BYTES));
        let (single, asking) = Gather::new(QUESTIONS, STREAMS, {
            let client = client.clone();
            move |questions| client.clone().ask(questions)
        });
        (Self { client, single }, asking)
    }
}

#[async_trait]
impl Policy for PolicyClient {
    async fn evaluate(&self, questions: Vec<Question>) -> Vec<Result<Verdict>> {
        let mut questions: Vec<EvaluateRequest> = questions.into_iter().map(wire).collect();
        if questions.len() != 1 {
            return self.client.clone().ask(questions).await;
        }
        vec![self.single.ask(questions.remove(0)).await.flatten()]
    }
}

impl Client {
    async fn ask(self, mut questions: Vec<EvaluateRequest>) -> Vec<Result<Verdict>> {
        match questions.len() {
            0 => Vec::new(),
            1 => vec![self.one(questions.remove(0)).await],
            _ => self.several(questions).await,
        }
    }

    async fn one(mut self, question: EvaluateRequest) -> Result<Verdict> {
        match self.0.evaluate(peer::request(question, DEADLINE)).await {
            Ok(answer) => Ok(verdict(answer.into_inner())),
            Err(status) if status.code() == Code::InvalidArgument => Err(Error::invalid("manifest", status.message().to_owned())),
            Err(status) => Err(peer::failed("policy", status)),
        }
    }

    /// By one stream. Where it breaks, what was not answered is not known.
    async fn several(mut self, questions: Vec<EvaluateRequest>) -> Vec<Result<Verdict>> {
        let count = questions.len();
        let mut verdicts = Vec::with_capacity(count);
        let asked = peer::request(futures::stream::iter(questions), DEADLINE);
        let broken = match self.0.evaluate_stream(asked).await {
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
