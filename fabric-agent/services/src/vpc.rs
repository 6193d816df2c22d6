//! The services of one VPC, running.

use std::sync::Arc;

use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weft_model::VpcId;

use crate::directory::Directory;
use crate::dns::{self, Resolvers};
use crate::guests::HostLimit;
use crate::metadata::{self, TokenKey};
use crate::refusals::Refusals;
use crate::sockets::Sockets;
use crate::{dhcp, metadata::Metadata, v6};

/// Open at once on a host: DNS questions (a descriptor each) and connections for metadata (two).
const DNS_ON_HOST: usize = 4096;
const METADATA_ON_HOST: usize = 4096;

/// What the services of all VPCs share.
#[derive(Clone)]
pub struct Services {
    directory: Arc<dyn Directory>,
    resolvers: Arc<Resolvers>,
    key: TokenKey,
    refusals: Arc<Refusals>,
    dns_limit: HostLimit,
    metadata_limit: HostLimit,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").field("resolvers", &self.resolvers).finish_non_exhaustive()
    }
}

/// The services of one VPC. They end soon after this is dropped.
#[derive(Debug)]
pub struct VpcServices {
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl VpcServices {
    /// Ends them, and returns when their sockets are closed: the addresses can be had again, and
    /// nothing keeps the namespace.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Services {
    /// Services that know guests from `directory`, forward names to `resolvers`, and whose tokens
    /// are valid for all who have `key`.
    pub fn new(directory: Arc<dyn Directory>, resolvers: Resolvers, key: TokenKey) -> Self {
        Self {
            directory,
            resolvers: Arc::new(resolvers),
            key,
            refusals: Arc::default(),
            dns_limit: HostLimit::new(DNS_ON_HOST),
            metadata_limit: HostLimit::new(METADATA_ON_HOST),
        }
    }

    /// What was not served, of all VPCs.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Serves one VPC. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The sockets are not fit for the runtime.
    pub fn start(&self, vpc: &VpcId, sockets: Sockets) -> std::io::Result<VpcServices> {
        let Sockets { dhcp, metadata, dns, v6 } = sockets;
        let mut tasks = JoinSet::new();
        let stop = CancellationToken::new();
        let refusals = || Arc::clone(&self.refusals);
        let directory = || Arc::clone(&self.directory);
        let dhcp = dhcp::Server::new(dhcp, vpc.clone(), directory(), refusals())?;
        tasks.spawn(until(stop.clone(), dhcp.run()));
        let server = v6::Server::new(v6, vpc.clone(), directory())?;
        tasks.spawn(until(stop.clone(), server.run()));
        let service = Metadata::new(vpc.clone(), directory(), self.key.clone(), refusals());
        let listener = TcpListener::from_std(metadata)?;
        let served = metadata::serve(listener, service, self.metadata_limit.clone());
        tasks.spawn(until(stop.clone(), served));
        let forwarder = dns::Forwarder::new(
            vpc.clone(),
            directory(),
            Arc::clone(&self.resolvers),
            refusals(),
            &self.dns_limit,
        );
        for (udp, tcp) in dns {
            let udp = UdpSocket::from_std(udp)?;
            tasks.spawn(dns::serve_udp(udp, forwarder.clone(), stop.clone()));
            let served = dns::serve_tcp(TcpListener::from_std(tcp)?, forwarder.clone());
            tasks.spawn(until(stop.clone(), served));
        }
        Ok(VpcServices { tasks, stop })
    }
}

/// Drops `server`, and with it the socket that it alone has, when `stop` says so.
async fn until(stop: CancellationToken, server: impl Future<Output = ()>) {
    // Cancelled for good: nothing of the server is used again.
    tokio::select! {
        () = stop.cancelled() => {}
        () = server => {}
    }
}
