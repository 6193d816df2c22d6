//! Compiles the API without `protoc`, and keeps the descriptors for reflection.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "common",
        "agents",
        "callers",
        "sessions",
        "images",
        "key_pairs",
        "instance_types",
        "security_groups",
        "network_insights",
        "networks",
        "public",
        "network_interfaces",
        "routes",
        "snapshots",
        "volumes",
        "instances",
        "hosts",
        "watch",
        "events",
        "usage",
        "monitoring",
        "terraform_states",
        "console_tokens",
    ]
    .map(|name| format!("weft/v1/{name}.proto"));
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("weft_descriptor.bin"), prost_encode(&descriptors))?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=weft");
    Ok(())
}

fn prost_encode(descriptors: &impl prost::Message) -> Vec<u8> {
    descriptors.encode_to_vec()
}
