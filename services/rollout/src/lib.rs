//! The rollout service: git sources, applications, models, releases in waves, traffic between two versions.
pub mod domain;
pub mod git;
pub mod render;
