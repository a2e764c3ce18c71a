//! Where the scheduler can be told to die: after each thing it does for a job, before that is written down or passed on.

use muster_kit::crash::CrashPoint;

/// A submit has its verdict and stored nothing yet.
pub const JUDGED: CrashPoint = CrashPoint("scheduler.judged");
/// A placement is committed and no cluster has been told.
pub const DECIDED: CrashPoint = CrashPoint("scheduler.decided");
/// A change is numbered, and the registry is about to be told of it.
pub const TELLING: CrashPoint = CrashPoint("scheduler.telling");
/// The registry has taken a change, which is not written down here.
pub const APPLIED: CrashPoint = CrashPoint("scheduler.applied");

/// All of them.
pub const POINTS: &[CrashPoint] = &[JUDGED, DECIDED, TELLING, APPLIED];
