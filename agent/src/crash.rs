//! Where the agent can be told to die: after it has written to its cluster, before that is known to anybody else.

use muster_kit::crash::CrashPoint;

/// An object is written to the cluster, and the ledger knows only of the intent.
pub const APPLIED: CrashPoint = CrashPoint("agent.applied");
/// What was written stands in the ledger, and has not been observed.
pub const NOTED: CrashPoint = CrashPoint("agent.noted");

/// All of them.
pub const POINTS: &[CrashPoint] = &[APPLIED, NOTED];
