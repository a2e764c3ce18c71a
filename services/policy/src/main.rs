//! The policy service's process.

/// Judging makes and drops many small values.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    muster_kit::boot::main::<muster_policy::PolicyBook>()
}
