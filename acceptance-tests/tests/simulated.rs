//! Stories on the simulated host: the real API, provider and Terraform, with no guests and no
//! root.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

#[path = "simulated/attributes.rs"]
mod attributes;
#[path = "simulated/bad_input.rs"]
mod bad_input;
#[path = "simulated/crashes.rs"]
mod crashes;
#[path = "simulated/each_resource.rs"]
mod each_resource;
#[path = "simulated/module.rs"]
mod module;
#[path = "simulated/versions.rs"]
mod versions;
