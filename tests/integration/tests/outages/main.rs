//! The stories that stop servers and processes: they run one after another, after all others.

#[path = "../common/mod.rs"]
mod common;

mod a_broken_cause_fails_its_step_by_name;
mod a_restored_hub_is_obeyed;
mod ctrl_c_leaves_nothing;
mod killed_at_every_point_it_completes;
mod leaders_that_slept_change_nothing;
mod two_replicas_agree;
mod watches;
mod what_a_service_cannot_reach_is_said;

/// Held by every story of this binary: each needs the machine's attention.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
