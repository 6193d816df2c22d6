//! The gRPC API: translate in, one call, translate out. One file per noun.

mod associations;
mod attaching;
mod attachments;
mod callers;
mod captures;
mod console_tokens;
mod elastic_ips;
mod events;
mod fetches;
mod groups;
mod hosts;
mod images;
mod instance_types;
mod instances;
mod key_pairs;
mod monitoring;
mod network_insights;
mod network_interfaces;
mod only_grpc;
mod port_forwards;
mod prefix_lists;
mod reads;
mod route_tables;
mod rules;
mod sessions;
mod snapshots;
mod streams;
mod subnets;
mod terraform_states;
mod transfers;
mod unpacking;
mod usage;
mod users;
mod volume_attachments;
mod volumes;
mod vpcs;
mod watch;

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::UdsConnectInfo;
use tracing::Instrument as _;
use weft_model::{Problem, Tags};
use weft_proto::version::Handshake;
use weft_proto::{
    FILE_DESCRIPTOR_SET, MAX_ANSWER_BYTES, MAX_MESSAGE_BYTES, status_from_problem, v1,
};

use crate::context::Context;
use crate::tfstate;
use crate::tls::certificates::Certificates;
use crate::tls::listen::{self, Admits, Peer};

/// The handlers of one service; cheap to clone.
#[derive(Clone, Debug)]
struct Api {
    context: Arc<Context>,
}

impl Api {
    /// Carries out `work` to its end, also when the client goes away in the middle of it: what the
    /// store knows and what the agent remembers must not come apart.
    async fn whole<T, F, Fut>(&self, work: F) -> Result<T, Status>
    where
        F: FnOnce(Arc<Context>) -> Fut,
        Fut: Future<Output = Result<T, Problem>> + Send + 'static,
        T: Send + 'static,
    {
        let work = work(self.context.clone()).in_current_span();
        match tokio::spawn(work).await {
            Ok(outcome) => outcome.map_err(|problem| {
                tracing::info!(reason = ?problem.reason, error = %problem, "refused");
                refuse(problem)
            }),
            Err(error) => {
                tracing::error!(%error, "a request panicked");
                Err(Status::internal("the agent failed to carry out the request; see its log"))
            }
        }
    }
}

type Answers<T> = Pin<Box<dyn futures::Stream<Item = Result<T, Status>> + Send>>;

/// Bytes of a message that go over the wire: it is sent twice, and headers are limited to 16 KiB.
const MAX_REFUSAL_BYTES: usize = 1500;

pub(crate) fn refuse(mut problem: Problem) -> Status {
    tracing::debug!(reason = ?problem.reason, field = problem.field, "{problem}");
    if problem.message.len() > MAX_REFUSAL_BYTES {
        let mut end = MAX_REFUSAL_BYTES;
        while !problem.message.is_char_boundary(end) {
            end -= 1;
        }
        problem.message.truncate(end);
        problem.message.push('…');
    }
    status_from_problem(&problem)
}

/// Whether an object is what a List asks for.
fn listed(request: &v1::ListRequest, name: Option<&str>, tags: &Tags) -> Result<bool, Problem> {
    let wanted = Tags::parse(request.tags.clone())?;
    let name_fits = request.name.is_empty() || name == Some(request.name.as_str());
    Ok(name_fits && tags.contains_all(&wanted))
}

fn parse_id<T: std::str::FromStr<Err = weft_model::InvalidId>>(text: &str) -> Result<T, Status> {
    text.parse().map_err(|error: T::Err| refuse(Problem::invalid("id", error.to_string())))
}

/// TCP, where it is served.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) listener: TcpListener,
    pub(crate) certificates: Arc<Certificates>,
}

/// How often a network connection without traffic is tried, and how long an answer may take: a
/// machine that went away must not keep its session alive.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long streams that never end by themselves (a session, a console) may hold up the end.
const GRACE: Duration = Duration::from_secs(2);

/// Serves until `shutdown`; then finishes what runs.
pub(crate) async fn serve(
    context: Arc<Context>,
    listener: UnixListener,
    socket: &Path,
    network: Option<Network>,
    consoles: Option<Network>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let holders = console_tokens::serve(Arc::clone(&context), consoles, shutdown.clone());
    let figures = Arc::clone(&context.reconciler.figures);
    let counting = axum::middleware::from_fn_with_state(figures, crate::monitoring::server::count);
    let states = tfstate::http::routes(Arc::clone(&context.states));
    let services = routes(Api { context }).await?.into_axum_router().layer(counting);
    let here =
        "the agent's API is gRPC; Terraform's states are at /state/NAME, without a slash behind it";
    let only_grpc = axum::middleware::from_fn_with_state(here, only_grpc::only_grpc);
    let remote_routes = Routes::from(services.clone().layer(only_grpc).merge(states));
    let local_routes = Routes::from(services);
    let local = Server::builder()
        .trace_fn(|request| {
            let local = request.extensions().get::<UdsConnectInfo>();
            let uid = local.and_then(|local| local.peer_cred).map(|peer| peer.uid());
            tracing::info_span!("request", rpc = request.uri().path(), client.uid = uid)
        })
        .add_routes(local_routes)
        .serve_with_incoming_shutdown(
            UnixListenerStream::new(listener),
            shutdown.clone().cancelled_owned(),
        );
    let remote = async {
        let Some(Network { listener, certificates }) = network else { return Ok(()) };
        let connections = listen::accept(listener, certificates, Admits::Clients, shutdown.clone());
        Server::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .trace_fn(|request| {
                let peer = request.extensions().get::<Peer>();
                let client = peer.map_or("", |peer| peer.client.as_str());
                let address = peer.map(|peer| peer.address.to_string());
                tracing::info_span!(
                    "request",
                    rpc = request.uri().path(),
                    client.name = client,
                    client.address = address
                )
            })
            .add_routes(remote_routes)
            .serve_with_incoming_shutdown(
                ReceiverStream::new(connections),
                shutdown.clone().cancelled_owned(),
            )
            .await
    };
    let grace = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = async { tokio::try_join!(local, remote, holders) } => { served?; }
        () = grace => {}
    }
    // The next agent makes its own; a socket that nobody listens on would only mislead.
    if let Err(error) = std::fs::remove_file(socket) {
        tracing::debug!(%error, "the socket was gone already");
    }
    Ok(())
}

/// Every service.
async fn routes(api: Api) -> anyhow::Result<Routes> {
    let (health_reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .build_v1()?;
    health_reporter.set_serving::<v1::instances_server::InstancesServer<Api>>().await;
    macro_rules! services {
        ($builder:expr, $($module:ident :: $server:ident),* $(,)?) => {
            $builder$(.add_service(
                v1::$module::$server::new(api.clone())
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(MAX_ANSWER_BYTES),
            ))*
        };
    }
    let handshake = Handshake::service(env!("CARGO_PKG_VERSION"));
    Ok(services!(
        Routes::new(handshake).add_service(health).add_service(reflection),
        callers_server::CallersServer,
        sessions_server::SessionsServer,
        images_server::ImagesServer,
        key_pairs_server::KeyPairsServer,
        network_insights_server::NetworkInsightsServer,
        security_groups_server::SecurityGroupsServer,
        security_group_rules_server::SecurityGroupRulesServer,
        vpcs_server::VpcsServer,
        prefix_lists_server::PrefixListsServer,
        subnets_server::SubnetsServer,
        elastic_ips_server::ElasticIpsServer,
        elastic_ip_associations_server::ElasticIpAssociationsServer,
        port_forwards_server::PortForwardsServer,
        network_interfaces_server::NetworkInterfacesServer,
        network_interface_attachments_server::NetworkInterfaceAttachmentsServer,
        snapshots_server::SnapshotsServer,
        volumes_server::VolumesServer,
        volume_attachments_server::VolumeAttachmentsServer,
        route_tables_server::RouteTablesServer,
        route_table_associations_server::RouteTableAssociationsServer,
        instances_server::InstancesServer,
        hosts_server::HostsServer,
        instance_types_server::InstanceTypesServer,
        watch_server::WatchServer,
        events_server::EventsServer,
        usage_server::UsageServer,
        monitoring_server::MonitoringServer,
        terraform_states_server::TerraformStatesServer,
        console_tokens_server::ConsoleTokensServer,
    ))
}
