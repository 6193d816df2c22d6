//! The Terraform provider `weft`: resources and data sources over the agent's API.
//!
//! ```text
//! Terraform -> tfplugin -> one file per resource -> kind (what all do alike) -> agent -> weft.v1
//! ```
//!
//! - A state is made from the agent's object alone; what only the provider knows (paths, timeouts,
//!   own tags) is kept by the agent as `client_data`. So reading, importing and applying agree.
//! - Plans decide from configuration, prior state and files; they ask the agent only for warnings.
//! - Whatever was created is handed to Terraform before anything is waited for.

mod action;
mod agent;
mod catalog;
mod checks;
mod console_token;
mod data;
mod elastic_ip;
mod elastic_ip_association;
mod environment;
pub mod export;
mod function;
mod host;
mod image;
mod instance;
mod instance_type;
mod interface;
mod kept;
mod key_pair;
mod kind;
mod list;
mod network_interface;
mod network_interface_attachment;
mod port_forward;
mod prefix_list;
mod problem;
mod provider;
mod references;
mod route_table;
mod route_table_association;
mod rule;
mod security_group;
mod security_group_egress_rule;
mod security_group_ingress_rule;
mod settings;
mod snapshot;
mod ssh_config;
mod subnet;
mod tags;
mod target;
mod update_table;
mod volume;
mod volume_attachment;
mod vpc;

use std::collections::BTreeMap;

pub use provider::Weft;
use tfplugin::docs;

/// Where Terraform knows the provider from.
pub const ADDRESS: &str = "registry.terraform.io/weft-cloud/weft";

/// The generated pages of the documentation, by their path below `docs/`.
///
/// # Errors
/// Where an example exists and cannot be read.
pub fn documents(options: &docs::Options) -> std::io::Result<BTreeMap<String, String>> {
    let mut pages = docs::render(&Weft::new(None), options)?;
    pages.insert("guides/update-table.md".to_owned(), update_table::page());
    Ok(pages)
}
