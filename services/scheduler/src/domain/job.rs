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
        }
    }
}

impl FromStr for StopReason {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let all = [Self::Cancel, Self::Suspend, Self::Move, Self::Refuse, Self::Interrupt];
        all.into_iter().find(|reason| reason.as_str() == word).ok_or_else(|| format!("{word:?} is no reason to stop a run"))
    }
}

/// What an observation makes of a job and its current run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing new.
    Stay,
    /// The job is in this state now, and the run goes on.
    Goes(JobState),
    /// The run is over and the job is in this state for good.
    Ends(JobState),
    /// The run is over and the job goes back to its queue, with a back-off.
    Retries,
    /// The run is over, and the job's state, which was decided when it was told to stop, stays.
    Stops,
    /// The run is over without anybody's wish; the job goes back to its queue at once.
    Requeues,
}

/// Decides what an observed phase of the *current* run means.
#[must_use]
pub fn step(job: JobState, stopping: bool, phase: RunPhase, retries_left: bool) -> Step {
    match (phase, stopping) {
        (RunPhase::Pending, _) if job == JobState::Lost => Step::Goes(JobState::Placed),
        (RunPhase::Pending, _) => Step::Stay,
        // A run that was told to stop may still be seen running: its job has its new state already.
        (RunPhase::Running, true) => Step::Stay,
        (RunPhase::Running, false) if job == JobState::Running => Step::Stay,
        (RunPhase::Running, false) => Step::Goes(JobState::Running),
        (RunPhase::Succeeded | RunPhase::Failed | RunPhase::Stopped, true) => Step::Stops,
        (RunPhase::Succeeded, false) => Step::Ends(JobState::Succeeded),
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
        assert_eq!(step(JobState::Running, false, RunPhase::Failed, true), Step::Retries);
        assert_eq!(step(JobState::Running, false, RunPhase::Failed, false), Step::Ends(JobState::Failed));
    }

    #[test]
    fn a_run_that_was_told_to_stop_never_changes_its_jobs_state() {
        for phase in [RunPhase::Succeeded, RunPhase::Failed, RunPhase::Stopped] {
            assert_eq!(step(JobState::Cancelled, true, phase, true), Step::Stops);
        }
        assert_eq!(step(JobState::Suspended, true, RunPhase::Running, true), Step::Stay);
    }

    #[test]
    fn a_run_that_vanished_by_itself_is_started_again() {
        assert_eq!(step(JobState::Running, false, RunPhase::Stopped, false), Step::Requeues);
    }

    #[test]
    fn a_lost_job_that_is_seen_again_is_what_it_is_seen_as() {
        assert_eq!(step(JobState::Lost, false, RunPhase::Pending, false), Step::Goes(JobState::Placed));
        assert_eq!(step(JobState::Lost, false, RunPhase::Running, false), Step::Goes(JobState::Running));
    }
}
