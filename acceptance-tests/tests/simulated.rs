//! Stories on the simulated host: the real API, provider and Terraform, with no guests and no
//! root.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a story fails with its test, and says what it saw"
)]

#[path = "simulated/actions.rs"]
mod actions;
#[path = "simulated/adoption.rs"]
mod adoption;
#[path = "simulated/aliases.rs"]
mod aliases;
#[path = "simulated/another_image.rs"]
mod another_image;
#[path = "simulated/attributes.rs"]
mod attributes;
#[path = "simulated/bad_input.rs"]
mod bad_input;
#[path = "simulated/configurations.rs"]
mod configurations;
#[path = "simulated/console_token.rs"]
mod console_token;
#[path = "simulated/crash_points.rs"]
mod crash_points;
#[path = "simulated/crashes.rs"]
mod crashes;
#[path = "simulated/descriptions.rs"]
mod descriptions;
#[path = "simulated/dice.rs"]
mod dice;
#[path = "simulated/documented.rs"]
mod documented;
#[path = "simulated/each_resource.rs"]
mod each_resource;
#[path = "simulated/exports.rs"]
mod exports;
#[path = "simulated/functions.rs"]
mod functions;
#[path = "simulated/gitops.rs"]
mod gitops;
#[path = "simulated/image_alias.rs"]
mod image_alias;
#[path = "simulated/images_by_url.rs"]
mod images_by_url;
#[path = "simulated/imports.rs"]
mod imports;
#[path = "simulated/module.rs"]
mod module;
#[path = "simulated/module_tests.rs"]
mod module_tests;
#[path = "simulated/queries.rs"]
mod queries;
#[path = "simulated/random_kills.rs"]
mod random_kills;
#[path = "simulated/release.rs"]
mod release;
#[path = "simulated/room.rs"]
mod room;
#[path = "simulated/secrets.rs"]
mod secrets;
#[path = "simulated/state_backend.rs"]
mod state_backend;
#[path = "simulated/state_backend_faults.rs"]
mod state_backend_faults;
#[path = "simulated/versions.rs"]
mod versions;
#[path = "simulated/write_only.rs"]
mod write_only;
