//! The scheduler: queues, jobs, runs, and what they cost.

pub mod domain;
