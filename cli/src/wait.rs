//! `--wait`: asks until a resource stands as it should, says what changed meanwhile, and gives up in time.

use crate::{
    client::Session,
    error::{Exit, Failure, Result},
    kinds::{Kind, Object, Standing, short},
    output::human,
};
use futures::future::join_all;
use std::time::Duration;
use tokio::time::Instant;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);
/// After so long without a change the wait says that it still goes on.
const REMINDER: Duration = Duration::from_secs(30);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// It has begun its work.
    Started,
    /// It is as it should be, or has ended well.
    Settled,
}

/// The wait of one command, over all its resources.
#[derive(Debug, Clone, Copy)]
pub struct Wait {
    goal: Goal,
    deadline: Instant,
    limit: Duration,
}

/// What a look at a resource means to who waits.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Reached,
    NotYet,
    Never(Exit),
}

fn verdict(goal: Goal, standing: &Standing) -> Verdict {
    match (standing, goal) {
        (Standing::Settled, _) | (Standing::Working, Goal::Started) => Verdict::Reached,
        (Standing::Working, Goal::Settled) | (Standing::Pending, _) => Verdict::NotYet,
        (Standing::Failed, _) => Verdict::Never(Exit::Failure),
        (Standing::Refused, _) => Verdict::Never(Exit::Refused),
    }
}

impl Wait {
    /// Begins now and lasts `limit`.
    pub fn new(goal: Goal, limit: Duration) -> Self {
        Self { goal, deadline: Instant::now() + limit, limit }
    }

    /// Waits for one resource. A service that is away meanwhile is waited for too.
    pub async fn on(self, session: &Session, kind: &dyn Kind, name: &str) -> Result<Object> {
        let subject = format!("{} {}", kind.spec().singular, short(name));
        let begun = Instant::now();
        let (mut said, mut said_at) = (String::new(), begun);
        loop {
            let saying = match kind.get(session, name).await {
                Ok(object) => match verdict(self.goal, &object.standing) {
                    Verdict::Reached => {
                        if !said.is_empty() && !object.saying.is_empty() {
                            eprintln!("{subject}: {}", object.saying);
                        }
                        return Ok(object);
                    }
                    Verdict::Never(exit) => return Err(Failure::new(exit, format!("{subject}: {}", object.saying))),
                    Verdict::NotYet => object.saying,
                },
                Err(failure) if matches!(failure.exit, Exit::Unavailable | Exit::TimedOut) => failure.message,
                Err(failure) => return Err(failure),
            };
            let now = Instant::now();
            if now + PAUSE >= self.deadline {
                let limit = human::duration(self.limit);
                return Err(Failure::new(Exit::TimedOut, format!("{subject}: not there after {limit}: {saying}")));
            }
            if saying != said {
                eprintln!("{subject}: {saying}");
                (said, said_at) = (saying, now);
            } else if now - said_at >= REMINDER {
                eprintln!("{subject}: still so after {}", human::duration(now - begun));
                said_at = now;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits for several resources of one kind.
    pub async fn on_all(self, session: &Session, kind: &dyn Kind, objects: &[Object]) -> Result<()> {
        all(join_all(objects.iter().map(|object| self.on(session, kind, &object.name))).await)
    }
}

/// The failures of several waits as one, with the exit status of the first.
pub fn all(answers: Vec<Result<Object>>) -> Result<()> {
    let mut failures = answers.into_iter().filter_map(Result::err);
    match failures.next() {
        None => Ok(()),
        Some(first) => Err(failures.fold(first, |all, next| all.detail(next.message))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_job_has_started_and_is_not_settled() {
        let cases = [
            (Standing::Working, Goal::Started, Verdict::Reached),
            (Standing::Working, Goal::Settled, Verdict::NotYet),
            (Standing::Settled, Goal::Started, Verdict::Reached),
            (Standing::Pending, Goal::Started, Verdict::NotYet),
            (Standing::Failed, Goal::Settled, Verdict::Never(Exit::Failure)),
            (Standing::Refused, Goal::Started, Verdict::Never(Exit::Refused)),
        ];
        for (standing, goal, expected) in cases {
            assert_eq!(verdict(goal, &standing), expected, "{standing:?} {goal:?}");
        }
    }
}
