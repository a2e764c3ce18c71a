//! The service on a real Postgres, over its own gRPC handlers, its loops driven by hand.

mod bindings;
mod compliance;
mod distribution;
mod exceptions;
mod harness;
mod policies;
mod ramps;
mod reports;
mod sources;
mod verdicts;
