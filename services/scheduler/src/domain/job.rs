//! The states of a job and of its run, and which changes there are. A job whose run was told to stop has its new state at
//! once, while the run stays *charged* until its cluster confirms its end.

use std::fmt;
use std::str::FromStr;

/// The states of a job; see `muster.scheduler.v1.Job.State`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Waits for GPUs, for its queue, or for its back-off.
    Queued,
    /// Has its GPUs; its cluster has been told or is about to be.
    Placed,
    /// At least `minAvailable` pods run.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly, with no retry left.
    Failed,
    /// Cancelled by somebody.
    Cancelled,
    /// Its policy verdict turned after it was accepted.
    Refused,
    /// Its cluster is lost; it waits for it.
    Lost,
    /// Suspended by somebody.
    Suspended,
}

/// Every state, for tables and parsers.
pub const STATES: [JobState; 9] = [
    JobState::Queued,
    JobState::Placed,
    JobState::Running,
    JobState::Succeeded,
    JobState::Failed,
    JobState::Cancelled,
    JobState::Refused,
    JobState::Lost,
    JobState::Suspended,
];

impl JobState {
    /// The word in the database and in events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Placed => "placed",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::Lost => "lost",
            Self::Suspended => "suspended",
        }
    }

    /// True if nothing happens to the job by itself any more.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Refused => true,
            Self::Queued | Self::Placed | Self::Running | Self::Lost | Self::Suspended => false,
        }
    }

    /// True if the job has a run that counts.
    #[must_use]
    pub const fn has_run(self) -> bool {
        match self {
            Self::Placed | Self::Running | Self::Lost => true,
            Self::Queued | Self::Succeeded | Self::Failed | Self::Cancelled | Self::Refused | Self::Suspended => false,
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        STATES.into_iter().find(|state| state.as_str() == word).ok_or_else(|| format!("{word:?} is no state of a job"))
    }
}

/// What a cluster says of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunPhase {
    /// Not running yet.
    Pending,
    /// At least `minAvailable` pods run.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Gone: deleted, or its lease ran out.
    Stopped,
}

/// Why a run is to end before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The job was cancelled.
    Cancel,
    /// The job was suspended.
    Suspend,
    /// The job is to run elsewhere.
    Move,
    /// Its verdict turned.
    Refuse,
    /// Its place is for a gang that is expected to be done much sooner.
    Interrupt,
    /// Another of its parts has ended: a run in several clusters is there whole or not at all.
    Broken,
}

impl StopReason {
    /// The word in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Suspend => "suspend",
            Self::Move => "move",
            Self::Refuse => "refuse",
            Self::Interrupt => "interrupt",
            Self::Broken => "broken",
        }
    }
}

impl FromStr for StopReason {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let all = [Self::Cancel, Self::Suspend, Self::Move, Self::Refuse, Self::Interrupt, Self::Broken];
        all.into_iter().find(|reason| reason.as_str() == word).ok_or_else(|| format!("{word:?} is no reason to stop a run"))
    }
}

/// What the other parts are at when one part of a run is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// There are none: the run is in one cluster.
    None,
    /// Some do not run yet.
    Awaited,
    /// All run or are done, and some run.
    Run,
    /// All are done, and done well.
    Succeeded,
}

/// What an observation makes of a job and its current run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing new.
    Stay,
    /// The job is in this state now, and the run goes on.
    Goes(JobState),
    /// The part that was seen is in this state now, and the job stays in its own.
    PartGoes(JobState),
    /// The part that was seen is over in this state, and the others go on.
    PartEnds(JobState),
    /// The run is over, or is to end, and the job is in this state for good.
    Ends(JobState),
    /// The run is over, or is to end, and the job goes back to its queue, with a back-off.
    Retries,
    /// What was seen is over, and the job's state, which was decided when it was told to stop, stays.
    Stops,
    /// The run is over, or is to end, without anybody's wish; the job goes back to its queue at once.
    Requeues,
}

/// Decides what an observed phase of the *current* run, or of one of its parts, means. A run in several clusters is there whole or not at
/// all: where a part of it ends badly, the others are to end.
#[must_use]
pub fn step(job: JobState, stopping: bool, phase: RunPhase, others: Others, retries_left: bool) -> Step {
    match (phase, stopping) {
        // Which of several clusters is lost is not known here: who looks after these brings the job back.
        (RunPhase::Pending, _) if job == JobState::Lost && others == Others::None => Step::Goes(JobState::Placed),
        (RunPhase::Pending, _) => Step::Stay,
        // A run that was told to stop may still be seen running: its job has its new state already.
        (RunPhase::Running, true) => Step::Stay,
        (RunPhase::Running, false) if job == JobState::Running => Step::Stay,
        (RunPhase::Running, false) => match others {
            Others::None => Step::Goes(JobState::Running),
            Others::Run | Others::Succeeded if job != JobState::Lost => Step::Goes(JobState::Running),
            Others::Awaited | Others::Run | Others::Succeeded => Step::PartGoes(JobState::Running),
        },
        (RunPhase::Succeeded | RunPhase::Failed | RunPhase::Stopped, true) => Step::Stops,
        (RunPhase::Succeeded, false) => match others {
            Others::None | Others::Succeeded => Step::Ends(JobState::Succeeded),
            Others::Awaited | Others::Run => Step::PartEnds(JobState::Succeeded),
        },
        (RunPhase::Failed, false) if retries_left => Step::Retries,
        (RunPhase::Failed, false) => Step::Ends(JobState::Failed),
        (RunPhase::Stopped, false) => Step::Requeues,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_read_back_what_they_print() {
        for state in STATES {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
    }

    #[test]
    fn a_failed_run_is_retried_while_retries_are_left() {
        assert_eq!(step(JobState::Running, false, RunPhase::Failed, Others::None, true), Step::Retries);
        assert_eq!(step(JobState::Running, false, RunPhase::Failed, Others::None, false), Step::Ends(JobState::Failed));
    }

    #[test]
    fn a_run_that_was_told_to_stop_never_changes_its_jobs_state() {
        for phase in [RunPhase::Succeeded, RunPhase::Failed, RunPhase::Stopped] {
            assert_eq!(step(JobState::Cancelled, true, phase, Others::None, true), Step::Stops);
        }
        assert_eq!(step(JobState::Suspended, true, RunPhase::Running, Others::None, true), Step::Stay);
    }

    #[test]
    fn a_run_that_vanished_by_itself_is_started_again() {
        assert_eq!(step(JobState::Running, false, RunPhase::Stopped, Others::None, false), Step::Requeues);
    }

    #[test]
    fn a_lost_job_that_is_seen_again_is_what_it_is_seen_as() {
        assert_eq!(step(JobState::Lost, false, RunPhase::Pending, Others::None, false), Step::Goes(JobState::Placed));
        assert_eq!(step(JobState::Lost, false, RunPhase::Running, Others::None, false), Step::Goes(JobState::Running));
    }

    #[test]
    fn a_run_in_several_clusters_runs_and_succeeds_once_all_its_parts_do() {
        let seen = |job, phase, others| step(job, false, phase, others, true);
        assert_eq!(seen(JobState::Placed, RunPhase::Running, Others::Awaited), Step::PartGoes(JobState::Running));
        assert_eq!(seen(JobState::Placed, RunPhase::Running, Others::Run), Step::Goes(JobState::Running));
        assert_eq!(seen(JobState::Running, RunPhase::Succeeded, Others::Run), Step::PartEnds(JobState::Succeeded));
        assert_eq!(seen(JobState::Running, RunPhase::Succeeded, Others::Succeeded), Step::Ends(JobState::Succeeded));
        assert_eq!(seen(JobState::Running, RunPhase::Failed, Others::Run), Step::Retries, "and the others are to end");
        assert_eq!(seen(JobState::Lost, RunPhase::Running, Others::Run), Step::PartGoes(JobState::Running));
    }
}
