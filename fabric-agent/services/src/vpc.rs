//! The services of one VPC, running.

use std::sync::Arc;

use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use weft_model::VpcId;

use crate::directory::Directory;
use crate::dns::{self, Resolvers};
use crate::metadata::{self, TokenKey};
use crate::sockets::Sockets;
use crate::{dhcp, metadata::Metadata};

/// What the services of all VPCs share.
#[derive(Clone)]
pub struct Services {
    directory: Arc<dyn Directory>,
    resolvers: Arc<Resolvers>,
    key: TokenKey,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").field("resolvers", &self.resolvers).finish_non_exhaustive()
    }
}

/// The services of one VPC; they end, and their sockets close, when this is dropped.
#[derive(Debug)]
pub struct VpcServices {
    _tasks: JoinSet<()>,
}

impl Services {
    /// Services that know guests from `directory`, forward names to `resolvers`, and whose tokens
    /// are valid for all who have `key`.
    pub fn new(directory: Arc<dyn Directory>, resolvers: Resolvers, key: TokenKey) -> Self {
        Self { directory, resolvers: Arc::new(resolvers), key }
    }

    /// Serves one VPC. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The sockets are not fit for the runtime.
    pub fn start(&self, vpc: &VpcId, sockets: Sockets) -> std::io::Result<VpcServices> {
        let Sockets { dhcp, metadata, dns } = sockets;
        let mut tasks = JoinSet::new();
        let dhcp = dhcp::Server::new(dhcp, vpc.clone(), Arc::clone(&self.directory))?;
        tasks.spawn(dhcp.run());
        let service = Metadata::new(vpc.clone(), Arc::clone(&self.directory), self.key.clone());
        tasks.spawn(metadata::serve(TcpListener::from_std(metadata)?, service));
        let forwarder = dns::Forwarder::new(
            vpc.clone(),
            Arc::clone(&self.directory),
            Arc::clone(&self.resolvers),
        );
        for (udp, tcp) in dns {
            tasks.spawn(dns::serve_udp(UdpSocket::from_std(udp)?, forwarder.clone()));
            tasks.spawn(dns::serve_tcp(TcpListener::from_std(tcp)?, forwarder.clone()));
        }
        Ok(VpcServices { _tasks: tasks })
    }
}
