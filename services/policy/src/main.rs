//! The policy service's process.

fn main() -> std::process::ExitCode {
    muster_kit::boot::main::<muster_policy::PolicyBook>()
}
