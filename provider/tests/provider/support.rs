//! A stand-in for the agent, and the provider connected to it.
//!
//! The fake keeps objects in memory, judges requests with the real conversions, counts
//! generations, and starts guests at once. It does not pretend to know what a host would say.

mod images;
mod instance_types;
mod instances;
mod interfaces;
mod monitoring;
mod network_insights;
mod networks;
mod prefix_lists;
mod public;
mod routes;
mod snapshots;
mod usage;
mod volumes;
mod vpcs;
mod watch;
mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use terraform_provider_weft::Weft;
use tfplugin::testing::Terraform;
use tfplugin::{Diagnostics, Value};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use weft_proto::v1;

pub(crate) use world::World;

/// The agent's side of a test.
pub(crate) struct Fake {
    world: Shared,
    /// Taken away, it breaks every connection, as a killed process does.
    runtime: Mutex<Option<Runtime>>,
    pub(crate) directory: tempfile::TempDir,
}

#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let world = Shared::default();
        let runtime = Mutex::new(Some(serve(directory.path(), world.clone())));
        Self { world, runtime, directory }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock()
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.directory.path().join("agent.sock").display())
    }

    /// The agent dies and comes back with what it had stored; connections break.
    pub(crate) fn restart(&self) {
        self.kill();
        self.come_back();
    }

    /// The agent is there again, with what it had stored.
    pub(crate) fn come_back(&self) {
        self.world().alive.clear();
        std::fs::remove_file(self.directory.path().join("agent.sock")).unwrap();
        *self.runtime.lock().unwrap() = Some(serve(self.directory.path(), self.world.clone()));
    }

    /// The agent dies; connections break.
    pub(crate) fn kill(&self) {
        if let Some(runtime) = self.runtime.lock().unwrap().take() {
            runtime.shutdown_background();
        }
    }

    /// Returns when `call` has come in.
    pub(crate) async fn has_been_asked(&self, call: &str) {
        while !self.world().calls.contains(&call) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A file that lives as long as the test.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serve(directory: &std::path::Path, world: Shared) -> Runtime {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let inside = runtime.enter();
    let listener = UnixListener::bind(directory.join("agent.sock")).unwrap();
    let max = weft_proto::MAX_MESSAGE_BYTES;
    let serving = Server::builder()
        .add_service(weft_proto::version::Handshake::service("0.1.0"))
        .add_service(
            v1::images_server::ImagesServer::new(world.clone()).max_decoding_message_size(max),
        )
        .add_service(v1::key_pairs_server::KeyPairsServer::new(world.clone()))
        .add_service(v1::network_insights_server::NetworkInsightsServer::new(world.clone()))
        .add_service(v1::security_groups_server::SecurityGroupsServer::new(world.clone()))
        .add_service(v1::security_group_rules_server::SecurityGroupRulesServer::new(world.clone()))
        .add_service(v1::vpcs_server::VpcsServer::new(world.clone()))
        .add_service(v1::prefix_lists_server::PrefixListsServer::new(world.clone()))
        .add_service(v1::snapshots_server::SnapshotsServer::new(world.clone()))
        .add_service(v1::subnets_server::SubnetsServer::new(world.clone()))
        .add_service(v1::network_interfaces_server::NetworkInterfacesServer::new(world.clone()))
        .add_service(
            v1::network_interface_attachments_server::NetworkInterfaceAttachmentsServer::new(
                world.clone(),
            ),
        )
        .add_service(v1::elastic_ips_server::ElasticIpsServer::new(world.clone()))
        .add_service(v1::elastic_ip_associations_server::ElasticIpAssociationsServer::new(
            world.clone(),
        ))
        .add_service(v1::port_forwards_server::PortForwardsServer::new(world.clone()))
        .add_service(v1::route_tables_server::RouteTablesServer::new(world.clone()))
        .add_service(v1::route_table_associations_server::RouteTableAssociationsServer::new(
            world.clone(),
        ))
        .add_service(v1::volumes_server::VolumesServer::new(world.clone()))
        .add_service(v1::volume_attachments_server::VolumeAttachmentsServer::new(world.clone()))
        .add_service(v1::instances_server::InstancesServer::new(world.clone()))
        .add_service(v1::hosts_server::HostsServer::new(world.clone()))
        .add_service(v1::usage_server::UsageServer::new(world.clone()))
        .add_service(v1::monitoring_server::MonitoringServer::new(world.clone()))
        .add_service(v1::instance_types_server::InstanceTypesServer::new(world.clone()))
        .add_service(v1::watch_server::WatchServer::new(world.clone()))
        .add_service(v1::sessions_server::SessionsServer::new(world))
        .serve_with_incoming(UnixListenerStream::new(listener));
    runtime.spawn(async move { serving.await.unwrap() });
    drop(inside);
    runtime
}

/// An agent of another release at `socket`, of which only the handshake is known here.
pub(crate) fn agent_of_api_versions(
    socket: &std::path::Path,
    oldest: u32,
    newest: u32,
) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    let handshake = weft_proto::version::Handshake::of("9.8.7", oldest, newest);
    let serving = Server::builder()
        .add_service(handshake)
        .serve_with_incoming(UnixListenerStream::new(listener));
    tokio::spawn(async move { serving.await.unwrap() })
}

/// A configured provider and its agent.
pub(crate) async fn connected() -> (Terraform, Fake) {
    connected_with(Value::Null).await
}

pub(crate) async fn connected_with(settings: Value) -> (Terraform, Fake) {
    let fake = Fake::start().await;
    (provider(&fake, settings).await, fake)
}

/// Another run of Terraform against the same agent.
pub(crate) async fn provider(fake: &Fake, mut settings: Value) -> Terraform {
    let terraform = Terraform::new(Weft::new(None));
    settings.set("endpoint", fake.endpoint());
    terraform.configure(settings).await.unwrap();
    terraform
}

/// Attributes by name: `attributes([("name", "a".into())])`.
pub(crate) fn attributes<const N: usize>(list: [(&str, Value); N]) -> Value {
    Value::object(list)
}

/// All that the diagnostics say.
pub(crate) fn said(diagnostics: &Diagnostics) -> String {
    diagnostics.iter().map(|d| format!("{}\n{}\n", d.summary, d.detail)).collect()
}

/// `base` with one attribute different.
pub(crate) fn with(base: &Value, path: &str, value: impl Into<Value>) -> Value {
    let mut changed = base.clone();
    changed.set(path, value);
    changed
}

pub(crate) const PUBLIC_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me@home";
pub(crate) const OTHER_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0cXWrkkZk5ROuZd9WyxVvGCNZLRPYWmUzDCCm9Krqq me@work";
