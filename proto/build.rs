//! Compiles `muster/**/*.proto` with protox (no `protoc` needed): messages, services, proto3 JSON, and the descriptor
//! set that reflection serves.

use prost::Message;
use std::{error::Error, fs, path::PathBuf};

const FILES: &[&str] = &[
    "muster/agent/v1/inventory.proto",
    "muster/agent/v1/link.proto",
    "muster/event/v1/event.proto",
    "muster/policy/v1/policy.proto",
    "muster/registry/v1/access.proto",
    "muster/registry/v1/cluster.proto",
    "muster/registry/v1/desired.proto",
    "muster/registry/v1/fleet.proto",
    "muster/rollout/v1/application.proto",
    "muster/rollout/v1/model.proto",
    "muster/rollout/v1/source.proto",
    "muster/scheduler/v1/job.proto",
    "muster/scheduler/v1/queue.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=muster");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let descriptors = protox::compile(FILES, ["."])?;
    let bytes = descriptors.encode_to_vec();
    fs::write(out.join("muster.descriptors"), &bytes)?;
    tonic_prost_build::configure()
        // Clients are made from a channel; without this `Connect` of the agent link would collide with the generated `connect`.
        .build_transport(false)
        .compile_well_known_types(true)
        .extern_path(".google.protobuf", "::pbjson_types")
        .btree_map(".")
        .compile_fds(descriptors)?;
    pbjson_build::Builder::new().btree_map(["."]).register_descriptors(&bytes)?.build(&[".muster"])?;
    Ok(())
}
