//! What the scheduler knows without asking anybody: manifests read and composed, states and their transitions, money.
//! Pure: no I/O, no clock, no wire types.

pub mod backoff;
pub mod cluster;
pub mod compose;
pub mod cost;
pub mod desired;
pub mod fault;
pub mod job;
pub mod manifest;
pub mod parts;
pub mod queue;
pub mod record;

pub use fault::Fault;
