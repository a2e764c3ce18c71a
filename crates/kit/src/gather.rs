//! Where callers meet who ask the same of one place: what is asked while others wait for their answers is asked together next.
//!
//! What is asked together is asked within the span of the caller who came first, so that a lone caller's trace goes on. A lone
//! caller waits for nobody, and under load a question to the place carries as many as came during the one before it.

use crate::{Error, Result};
use futures::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tracing::{Instrument, Span};

/// Questions that may wait; one more waits in its call.
const WAITING: usize = 2_000;

/// The callers' side.
#[derive(Debug)]
pub struct Gather<Q, A>(mpsc::Sender<Asked<Q, A>>);

/// A question, who asks, and where the answer goes.
#[derive(Debug)]
struct Asked<Q, A> {
    question: Q,
    span: Span,
    reply: oneshot::Sender<A>,
}

impl<Q, A> Clone for Gather<Q, A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Q, A> Gather<Q, A> {
    /// The callers' side, and the loop that asks until nobody holds that side any more: at most `most` questions together, and
    /// `at_a_time` times at once. `ask` answers its questions in their order.
    pub fn new<F: Future<Output = Vec<A>>>(
        most: usize,
        at_a_time: usize,
        mut ask: impl FnMut(Vec<Q>) -> F,
    ) -> (Self, impl Future<Output = ()>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let asking = ReceiverStream::new(receiver).ready_chunks(most).for_each_concurrent(at_a_time, move |waiting| {
            let span = waiting.first().map_or_else(Span::none, |asked: &Asked<Q, A>| asked.span.clone());
            let (questions, replies): (Vec<Q>, Vec<oneshot::Sender<A>>) =
                waiting.into_iter().map(|asked| (asked.question, asked.reply)).unzip();
            let answers = ask(questions).instrument(span);
            async move {
                for (reply, answer) in replies.into_iter().zip(answers.await) {
                    // Who does not wait any more does not need it.
                    let _ = reply.send(answer);
                }
            }
        });
        (Self(sender), asking)
    }

    /// Asks, together with whoever else asks at this time.
    ///
    /// # Errors
    /// The loop has ended.
    pub async fn ask(&self, question: Q) -> Result<A> {
        let gone = || Error::unavailable("STOPPING", "the service is stopping; try again");
        let (reply, answer) = oneshot::channel();
        self.0.send(Asked { question, span: Span::current(), reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn what_comes_while_others_wait_is_asked_together_and_each_gets_its_own_answer() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let open = Arc::new(Semaphore::new(0));
        let (gather, asking) = Gather::new(3, 1, {
            let (asked, open) = (Arc::clone(&asked), Arc::clone(&open));
            move |questions: Vec<u32>| {
                asked.lock().expect("no panic").push(questions.clone());
                let open = Arc::clone(&open);
                async move {
                    open.acquire().await.expect("it is not closed").forget();
                    questions.into_iter().map(|question| question * 10).collect()
                }
            }
        });
        let loop_ = tokio::spawn(asking);
        let first = tokio::spawn({
            let gather = gather.clone();
            async move { gather.ask(1).await }
        });
        while asked.lock().expect("no panic").is_empty() {
            tokio::task::yield_now().await;
        }
        let rest = futures::future::join_all((2..=6).map(|question| gather.ask(question)));
        open.add_permits(3);
        let answers: Vec<u32> = rest.await.into_iter().map(|answer| answer.expect("the loop runs")).collect();
        assert_eq!(first.await.expect("no panic").expect("the loop runs"), 10);
        assert_eq!(answers, [20, 30, 40, 50, 60]);
        assert_eq!(*asked.lock().expect("no panic"), [vec![1], vec![2, 3, 4], vec![5, 6]]);
        drop(gather);
        loop_.await.expect("it ends with the last caller");
    }
}
