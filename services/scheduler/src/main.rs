//! The scheduler's process; see the library.

fn main() -> std::process::ExitCode {
    muster_scheduler::run()
}
