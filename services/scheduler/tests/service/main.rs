//! The scheduler on a real Postgres, driven by hand: gRPC in process, a registry and a policy service that answer as told,
//! a clock that stands still, one tick at a time.

mod api;
mod batching;
mod budgets;
mod costs;
mod desired;
mod elastic;
mod foreseeing;
mod leading;
mod lending;
mod lifecycle;
mod moving;
mod passes;
mod policy;
mod shares;
mod spanning;
mod standing;
mod submitting;
mod topology;
mod world;
