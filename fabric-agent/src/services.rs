//! The services in VPCs' namespaces: started once a VPC's base is there, again when its namespace
//! was made anew, ended with the VPC. They live in the agent and come back with it.

mod directory;

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use weft_model::{Problem, VpcId};
use weft_services::{Resolvers, Services, TokenKey, VpcServices};
use weft_store::Txn;

use crate::host::{Host, HostError, NamespaceIdentity};
use crate::random;
use crate::reconcile::Reconciler;
use crate::repo::{METADATA_KEY, Repo, encode};
use directory::Guests;

/// The services of all VPCs of this host.
#[derive(Debug, Default)]
pub(crate) struct NetworkServices {
    offered: OnceLock<Services>,
    running: Mutex<HashMap<VpcId, Running>>,
}

/// The services of one VPC and what their sockets were opened for.
#[derive(Debug)]
struct Running {
    namespace: NamespaceIdentity,
    gateways: BTreeSet<Ipv4Addr>,
    services: VpcServices,
}

impl NetworkServices {
    fn running(&self) -> MutexGuard<'_, HashMap<VpcId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the services of a VPC run in the namespace that it has now, at these gateways.
    ///
    /// # Errors
    /// Their sockets cannot be opened; nothing of them runs.
    pub(crate) async fn ensure(
        &self,
        host: &dyn Host,
        vpc_id: &VpcId,
        gateways: &BTreeSet<Ipv4Addr>,
    ) -> Result<(), HostError> {
        let Some(services) = self.offered.get() else { return Ok(()) };
        let Some(namespace) = host.namespace_of(vpc_id)? else {
            self.stop(vpc_id).await;
            return Ok(());
        };
        let serves =
            |running: &Running| running.namespace == namespace && running.gateways == *gateways;
        if self.running().get(vpc_id).is_some_and(serves) {
            return Ok(());
        }
        // Closed first: the new ones may be for the same addresses.
        self.stop(vpc_id).await;
        let sockets = host.open_services(vpc_id, gateways).await?;
        let started = services
            .start(vpc_id, sockets)
            .map_err(|error| HostError::new(format!("serve {vpc_id}"), true).caused_by(error))?;
        tracing::info!(vpc.id = %vpc_id, "DHCP, metadata and DNS are served");
        let running = Running { namespace, gateways: gateways.clone(), services: started };
        self.running().insert(vpc_id.clone(), running);
        Ok(())
    }

    /// Ends the services of all other VPCs; their sockets are closed then.
    pub(crate) async fn retain(&self, wanted: impl Fn(&VpcId) -> bool) {
        let ending: Vec<VpcId> =
            self.running().keys().filter(|vpc_id| !wanted(vpc_id)).cloned().collect();
        for vpc_id in ending {
            self.stop(&vpc_id).await;
        }
    }

    /// What guests asked for and did not get since the agent's start, in words; `None` where no
    /// guest is served.
    pub(crate) fn refused(&self) -> Option<String> {
        let counted = self.offered.get()?.refusals().counted();
        let counted = counted.iter().map(|(why, count)| format!("{} {count}", why.as_str()));
        let list = counted.collect::<Vec<_>>().join(", ");
        Some(match list.is_empty() {
            true => "none was refused since the agent's start".to_owned(),
            false => format!("refused since the agent's start: {list}"),
        })
    }

    async fn stop(&self, vpc_id: &VpcId) {
        let running = self.running().remove(vpc_id);
        if let Some(running) = running {
            running.services.stop().await;
        }
    }
}

/// From now on VPCs are served, with what `reconciler` knows of their guests.
pub(crate) fn offer(reconciler: &Arc<Reconciler>, resolv_conf: &Path, key: TokenKey) {
    let guests = Arc::new(Guests::new(reconciler));
    let services = Services::new(guests, Resolvers::from_file(resolv_conf), key);
    if reconciler.services.offered.set(services).is_err() {
        tracing::error!("the services were offered twice; this is a defect");
    }
}

/// The key of this host's metadata tokens, made at its first start: tokens outlive the agent.
///
/// # Errors
/// The store's.
pub(crate) async fn token_key(repo: &Repo) -> Result<TokenKey, Problem> {
    if let Some(stored) = repo.read::<[u8; 32]>(METADATA_KEY).await? {
        return Ok(TokenKey::new(stored.value));
    }
    let key: [u8; 32] = random::bytes();
    let txn = Txn::new().when_absent(METADATA_KEY).put(METADATA_KEY, encode(&key));
    repo.commit(txn).await?;
    Ok(TokenKey::new(key))
}
