//! What the policies say of one request after another: an answer to each, in their order.
//!
//! What has arrived by the time a thread is free is judged together, by one catalog. Bounded on both sides: no more is
//! read from the client than [`Gathered`] holds a few times, and nothing is read while answers wait to be taken.

use super::{App, verdict::Question};
use futures::{FutureExt, Stream, StreamExt, stream};
use muster_kit::{Caller, Error, Result, Role, error::Kind};
use muster_proto::policy::v1::{self as wire, evaluate_stream_response::Answer};
use prost::Message;
use std::{num::NonZero, thread};
use tonic::Status;

/// Requests judged together, at most: some milliseconds of work at sixteen policies.
const MAX_REQUESTS: usize = 64;
/// Bytes of requests after which no other is gathered.
const MAX_BYTES: usize = 1024 * 1024;

/// An answer, or the end of the stream.
pub type Answered = std::result::Result<wire::EvaluateStreamResponse, Status>;

/// Requests that had arrived, and why no more come.
struct Gathered {
    requests: Vec<wire::EvaluateRequest>,
    end: Option<Status>,
}

/// Judges requests as they come, until the client ends, or goes, or the service stops.
pub fn evaluate(
    app: App,
    caller: &Caller,
    requests: impl Stream<Item = std::result::Result<wire::EvaluateRequest, Status>> + Send + 'static,
) -> Result<impl Stream<Item = Answered> + Send + 'static> {
    caller.require(Role::Viewer)?;
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let stopping = app.stopping.clone();
    let stopped = stopping.clone();
    let until_stopped = requests.take_until(stopping.cancelled_owned());
    let said_last = stream::iter([()]).filter_map(move |()| {
        let is_stopped = stopped.is_cancelled();
        async move { is_stopped.then(|| Err(Status::unavailable("the service is stopping; ask for the rest again"))) }
    });
    let answers = gathered(until_stopped).map(move |gathered| answer(app.clone(), gathered)).buffered(threads);
    Ok(answers.flat_map(stream::iter).chain(said_last))
}

/// What has arrived, again and again.
fn gathered(
    requests: impl Stream<Item = std::result::Result<wire::EvaluateRequest, Status>> + Send + 'static,
) -> impl Stream<Item = Gathered> + Send {
    stream::unfold(Some(Box::pin(requests.fuse())), |requests| async move {
        let mut requests = requests?;
        let mut gathered = Gathered { requests: Vec::new(), end: None };
        let mut bytes = 0;
        let mut next = requests.next().await;
        loop {
            match next {
                Some(Ok(request)) => {
                    bytes += request.encoded_len();
                    gathered.requests.push(request);
                }
                Some(Err(status)) => {
                    gathered.end = Some(status);
                    return Some((gathered, None));
                }
                None if gathered.requests.is_empty() => return None,
                None => return Some((gathered, None)),
            }
            if gathered.requests.len() == MAX_REQUESTS || bytes >= MAX_BYTES {
                return Some((gathered, Some(requests)));
            }
            match requests.next().now_or_never() {
                Some(arrived) => next = arrived,
                None => return Some((gathered, Some(requests))),
            }
        }
    })
}

/// The answers to what was gathered; a request that is wrong has its refusal, anything else ends the stream.
async fn answer(app: App, gathered: Gathered) -> Vec<Answered> {
    let Gathered { requests, end } = gathered;
    let judged = async {
        let catalog = app.catalog().await?;
        let judge = move || -> Vec<Answered> {
            let questions = requests.iter().map(Question::read);
            questions.map(|question| Ok(said(question.map(|question| question.answer(&catalog)))?)).collect()
        };
        tokio::task::spawn_blocking(judge).await.map_err(Error::internal)
    };
    let mut answers = judged.await.unwrap_or_else(|error: Error| vec![Err(error.into())]);
    answers.extend(end.map(Err));
    answers
}

fn said(answer: Result<wire::EvaluateResponse>) -> Result<wire::EvaluateStreamResponse> {
    let answer = match answer {
        Ok(verdict) => Answer::Verdict(verdict),
        Err(error) if error.kind() == Kind::Invalid => {
            let (field, description) = match error.violations() {
                [violation, ..] => (violation.field.clone(), violation.description.clone()),
                [] => (String::new(), error.to_string()),
            };
            Answer::Refusal(wire::EvaluateRefusal { field, description })
        }
        Err(error) => return Err(error),
    };
    Ok(wire::EvaluateStreamResponse { answer: Some(answer) })
}
