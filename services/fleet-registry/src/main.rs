//! The process of the fleet registry.

fn main() -> std::process::ExitCode {
    muster_kit::boot::main::<muster_fleet_registry::FleetRegistry>()
}
