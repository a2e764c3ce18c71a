//! What the rollout service decides, without I/O, a clock or randomness: specifications, traffic, releases, models.
//!
//! Everything here is a function of its arguments; the reconcilers read rows, ask these functions, and write rows.

pub mod cluster;
pub mod diff;
pub mod model;
pub mod release;
pub mod selection;
pub mod spec;
pub mod traffic;
