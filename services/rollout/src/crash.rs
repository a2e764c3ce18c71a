//! Where the rollout service can be told to die: after each thing it does for a release, before that is written down or
//! passed on.

use muster_kit::crash::CrashPoint;

/// A model version's commit is pushed, which is not written down yet.
pub const PUSHED: CrashPoint = CrashPoint("rollout.pushed");
/// A release has its verdict, which is not written down yet.
pub const JUDGED: CrashPoint = CrashPoint("rollout.judged");
/// What clusters should hold next is committed and no cluster has been told.
pub const DECIDED: CrashPoint = CrashPoint("rollout.decided");
/// Changes are made up, and the registry is about to be told of them.
pub const TELLING: CrashPoint = CrashPoint("rollout.telling");
/// The registry has taken a change, which is not written down here.
pub const APPLIED: CrashPoint = CrashPoint("rollout.applied");
/// The next weights of a promotion are committed and no cluster has been told.
pub const PROMOTED: CrashPoint = CrashPoint("rollout.promoted");

/// All of them.
pub const POINTS: &[CrashPoint] = &[PUSHED, JUDGED, DECIDED, TELLING, APPLIED, PROMOTED];
