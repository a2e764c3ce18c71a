//! The rollout service's process.
fn main() -> std::process::ExitCode {
    muster_kit::boot::main::<muster_rollout::Rollout>()
}
