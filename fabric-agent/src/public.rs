//! Public addresses of this host: the pool that they come from, and who may have one.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use weft_model::{
    AddressRange, Interface, InterfaceId, Problem, PublicPool, Reason, Target, VpcMode,
};
use weft_store::Txn;

use crate::cache::{Placed, World};
use crate::context::Context;
use crate::host::Host;
use crate::repo::{
    Instances, NetworkInterfaces, PUBLIC, PUBLIC_POOL, Repo, Subnets, Vpcs, encode, missing,
    store_problem,
};
use crate::turns::Turn;

/// What is tried when the operator names no pool, in this order: parts of a range that is nobody's
/// on the Internet (RFC 2544).
const CANDIDATES: [[u8; 4]; 4] =
    [[198, 18, 0, 0], [198, 18, 128, 0], [198, 19, 0, 0], [198, 19, 128, 0]];
const CANDIDATE_PREFIX: u8 = 24;

/// The pool of this host: the one that its operator names now, else the one of earlier starts, else
/// one that only this host reaches.
///
/// # Errors
/// An address that is in use would be outside, or nothing is free.
pub(crate) async fn ensure_pool(
    repo: &Repo,
    host: &dyn Host,
    named: &[AddressRange],
) -> Result<PublicPool, Problem> {
    let stored = repo.read::<Vec<AddressRange>>(PUBLIC_POOL).await?.map(|stored| stored.value);
    if named.is_empty()
        && let Some(ranges) = stored
    {
        return Ok(PublicPool::new(ranges));
    }
    let ranges = if named.is_empty() { vec![choose(repo, host).await?] } else { named.to_vec() };
    let pool = PublicPool::new(ranges);
    if let Some((one, other)) = pool.overlapping() {
        let message = format!("{one} and {other} share addresses");
        return Err(Problem::invalid("--public-pool", message).remedy("keep one of them"));
    }
    let own = host.own_addresses().await.map_err(|error| error.problem())?;
    if let Some(address) = own.into_iter().find(|address| pool.contains(*address)) {
        let message = format!("{address} of the public pool {pool} is this host's own address");
        return Err(Problem::new(Reason::FailedPrecondition, message).at("--public-pool").remedy(
            "leave it out: a range can be written as FIRST-LAST, and there can be several",
        ));
    }
    let there = |id: String, problem: Problem| {
        let message = format!("{id} is there already: {}", problem.message);
        Problem::new(Reason::FailedPrecondition, message)
            .at("--public-pool")
            .remedy("name another range, or remove it while an agent with the old pool runs")
    };
    for vpc in repo.list::<Vpcs>().await? {
        let fits = pool.check_vpc(vpc.spec.cidr_block, vpc.spec.mode);
        fits.map_err(|problem| there(vpc.id.to_string(), problem))?;
    }
    for subnet in repo.list::<Subnets>().await? {
        let fits = pool.check_subnet(subnet.spec.cidr_block);
        fits.map_err(|problem| there(subnet.id.to_string(), problem))?;
    }
    let outside: Vec<String> = taken(repo)
        .await?
        .into_iter()
        .filter(|(address, _)| !pool.contains(*address))
        .map(|(address, user)| format!("{address} of {user}"))
        .collect();
    if !outside.is_empty() {
        let message =
            format!("the public pool {pool} is without addresses in use: {}", outside.join(", "));
        return Err(Problem::new(Reason::InUse, message).at("--public-pool").remedy(
            "name a pool with them, or start with the one of before and remove their users first",
        ));
    }
    if stored.as_deref() != Some(pool.ranges()) {
        repo.commit(Txn::new().put(PUBLIC_POOL, encode(&pool.ranges()))).await?;
        tracing::info!(pool = %pool, "public addresses come from this pool");
    }
    Ok(pool)
}

async fn choose(repo: &Repo, host: &dyn Host) -> Result<AddressRange, Problem> {
    let vpcs = repo.list::<Vpcs>().await?;
    let candidates: Vec<Ipv4Network> = CANDIDATES
        .iter()
        .filter_map(|bytes| Ipv4Network::new((*bytes).into(), CANDIDATE_PREFIX).ok())
        .filter(|range| !vpcs.iter().any(|vpc| vpc.spec.cidr_block.overlaps(*range)))
        .collect();
    let free = host.free_range(&candidates).await.map_err(|error| error.problem())?;
    free.map(AddressRange::from).ok_or_else(|| {
        Problem::new(Reason::ResourceExhausted, "no range for public addresses is free")
            .remedy("name one with --public-pool")
    })
}

/// Public addresses that are somebody's, with the id of whose.
async fn taken(repo: &Repo) -> Result<Vec<(Ipv4Addr, String)>, Problem> {
    let listing = repo.store().list(PUBLIC).await.map_err(store_problem)?;
    let read = |item: &weft_store::Item| {
        let address = item.key.strip_prefix(PUBLIC)?.parse().ok()?;
        Some((address, String::from_utf8_lossy(&item.value).into_owned()))
    };
    Ok(listing.items.iter().filter_map(read).collect())
}

impl Context {
    /// A public address that is free, and the turn to take it: nobody else chooses meanwhile. The
    /// caller stores it under `public_key`.
    ///
    /// # Errors
    /// `wanted` is not in the pool or taken, or nothing is free.
    pub(crate) async fn choose_public(
        &self,
        wanted: Option<Ipv4Addr>,
    ) -> Result<(Ipv4Addr, Turn), Problem> {
        let turn = self.turns().object(PUBLIC).await;
        let taken: BTreeSet<Ipv4Addr> =
            taken(&self.repo).await?.into_iter().map(|(address, _)| address).collect();
        let address = match wanted {
            Some(address) => self.public_pool.check(address, &taken).map(|()| address),
            None => self.public_pool.lowest_free(&taken),
        }?;
        Ok((address, turn))
    }

    /// The interface that `target` means, where it can have a public address or a port.
    ///
    /// # Errors
    /// It does not exist, is going, or its VPC is a bridge.
    pub(crate) async fn reachable_target(&self, target: &Target) -> Result<Interface, Problem> {
        let field = target.attribute();
        if let Target::Instance(id) = target {
            // The store knows it before the cache does.
            let found = self.repo.find::<Instances>(id).await?;
            let stored = found.ok_or_else(|| no_such(target))?;
            if stored.value.deleting_since.is_some() {
                let message = format!("instance {id} is being deleted");
                return Err(Problem::new(Reason::FailedPrecondition, message).at(field));
            }
        }
        let (interface, mode) = {
            let world = self.cache.read();
            let interface = world.interface_of(target).cloned().ok_or_else(|| no_such(target))?;
            let mode = world.vpcs.get(&interface.vpc_id).map(|vpc| vpc.spec.mode);
            (interface, mode)
        };
        if mode == Some(VpcMode::Bridge) {
            let message =
                format!("{target} is in a bridge VPC: its guests have addresses of the LAN");
            return Err(Problem::new(Reason::FailedPrecondition, message)
                .at(field)
                .remedy("reach it by its private_ip"));
        }
        Ok(interface)
    }

    /// Associations and port forwards that lead to the instance.
    pub(crate) fn public_users(&self, instance: &weft_model::InstanceId) -> Vec<String> {
        let world = self.cache.read();
        let Some(interface) = world.instances.get(instance).map(|one| &one.spec.interface.id)
        else {
            return Vec::new();
        };
        let leads_here = |target: &Target| match target {
            Target::Instance(id) => id == instance,
            Target::Interface(id) => id == interface,
        };
        let associations = world.associations.values().filter(|one| leads_here(&one.spec.target));
        let forwards = world.port_forwards.values().filter(|one| leads_here(&one.spec.target));
        let associations = associations.map(|one| format!("association {}", one.id));
        let forwards = forwards.map(|one| format!("port forward {} ({})", one.id, one.spec.name));
        associations.chain(forwards).collect()
    }
}

fn no_such(target: &Target) -> Problem {
    match target {
        Target::Instance(id) => missing::<Instances>(id, target.attribute()),
        Target::Interface(id) => missing::<NetworkInterfaces>(id, target.attribute()),
    }
}

impl World {
    /// The public address that an instance has given to its primary interface for life.
    pub(crate) fn own_public_ip(&self, interface: &InterfaceId) -> Option<Ipv4Addr> {
        let instance = &self.interface(interface)?.instance?.spec;
        instance.public_ip.filter(|_| instance.interface.id == *interface)
    }

    /// The public address that the interface's connections leave the VPC with.
    pub(crate) fn public_ip_of(&self, interface: &InterfaceId) -> Option<Ipv4Addr> {
        let leads_here = |target: &Target| {
            self.interface_of(target).is_some_and(|reached| reached.id == *interface)
        };
        let mut associations = self.associations.values();
        let association = associations.find(|one| leads_here(&one.spec.target));
        let elastic = association.and_then(|one| self.elastic_ips.get(&one.spec.elastic_ip_id));
        elastic.map(|one| one.spec.public_ip).or_else(|| self.own_public_ip(interface))
    }

    /// The interface that packets to a public address are led to.
    pub(crate) fn interface_behind(&self, public_ip: Ipv4Addr) -> Option<Placed<'_>> {
        let elastic = self.associations.values().find(|one| {
            let elastic = self.elastic_ips.get(&one.spec.elastic_ip_id);
            elastic.is_some_and(|elastic| elastic.spec.public_ip == public_ip)
        });
        if let Some(association) = elastic {
            return self.interface(&self.interface_of(&association.spec.target)?.id);
        }
        let instance = self.instances.values().find(|one| one.spec.public_ip == Some(public_ip))?;
        Some(Placed { interface: &instance.spec.interface, instance: Some(instance) })
    }

    /// The interface that an association or a port forward leads to.
    pub(crate) fn interface_of(&self, target: &Target) -> Option<&Interface> {
        match target {
            Target::Instance(id) => self.instances.get(id).map(|one| &one.spec.interface),
            Target::Interface(id) => self.interface(id).map(|placed| placed.interface),
        }
    }
}
