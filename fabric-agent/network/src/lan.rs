//! What joins a VPC's bridge to a LAN of the operator's.
//!
//! ```text
//!  bridge_name           the operator's bridge -- veth pair -- our bridge
//!  bridge_name, vlan_id  the operator's bridge -- veth pair -- VLAN link -- our bridge
//!  uplink                the operator's link -- a bridge of ours -- veth pair -- our bridge
//!  uplink, vlan_id       the operator's link -- VLAN link, in the VPC's namespace -- our bridge
//! ```
//! Of the operator's, one port changes: a bridge gets one more, or a link becomes one. A link is
//! never moved into the VPC's namespace, whose end would be a virtual link's end as well; what is
//! ours goes, and the link is as it was. A VLAN link changes nothing of what it is on, which may
//! have addresses, and it can be one of many.

mod around;
mod check;
mod observe;

use std::os::fd::AsRawFd;

use rtnetlink::packet_route::link::{BridgeVlanInfoFlags, InfoKind};
use rtnetlink::{LinkBridgeVlan, LinkMessageBuilder, LinkUnspec, LinkVlan};
use weft_model::{BridgeJoin, JoinPath, LinkName};

use crate::error::{asking, errno};
use crate::netlink::{ALIAS, Link, Netlink};
use crate::pair::{ensure_pair, is_pair};
use crate::{Namespace, NetworkError, sysctl};

pub(crate) use around::delete_ours;
pub use around::remove_strays;
pub use check::{check_lan, has_vlans};
pub(crate) use observe::observe;

/// Joins our bridge to the LAN. Idempotent. Call it only when the packet filter knows the port of
/// our bridge that it makes.
///
/// A bridge of the operator's gets a port, and is otherwise as it was: the port has the bridge's
/// own MTU and a MAC above all others, because a bridge takes the smallest of both from its ports.
///
/// # Errors
/// [`NetworkError::NoSuchBridge`] and [`NetworkError::UnfitUplink`] where there is nothing to be
/// joined to, [`NetworkError::NoVlans`]; the kernel refused a step; steps before it hold.
pub async fn join_lan(
    agent: &Namespace,
    vpc: &Namespace,
    bridge: &LinkName,
    join: &BridgeJoin,
) -> Result<(), NetworkError> {
    let way = Way { outside: Netlink::of(agent)?, inside: Netlink::of(vpc)?, agent, vpc };
    let port = match &join.path {
        JoinPath::Bridge { host_bridge, host_link, vlan } => {
            let theirs = check::operators(&way.outside, host_bridge).await?;
            match vlan {
                None => {
                    way.drop_vlans().await?;
                    way.pair(&theirs, host_link, &join.guest_link, None).await?
                }
                Some(trunk) => {
                    let id = trunk.vlan_id;
                    let inner = way.pair(&theirs, host_link, &trunk.link, Some(id)).await?;
                    way.inside.change(&inner, "up", |link| link.up()).await?;
                    way.vlan(&join.guest_link, &way.inside, &inner, id).await?
                }
            }
        }
        JoinPath::Uplink { uplink, host_bridge, host_link } => {
            way.drop_vlans().await?;
            let around = around::ensure(&way.outside, agent, host_bridge, uplink).await?;
            way.pair(&around, host_link, &join.guest_link, None).await?
        }
        JoinPath::Vlan { uplink, vlan_id } => {
            let on = check::link_for_vlan(&way.outside, uplink).await?;
            if !on.up {
                way.outside.change(&on, "up", |link| link.up()).await?;
            }
            way.vlan(&join.guest_link, &way.outside, &on, *vlan_id).await?
        }
    };
    let ours = way.inside.get(bridge).await?;
    sysctl::set(vpc, &sysctl::for_uplink(&port.name))?;
    if port.controller != Some(ours.index) {
        way.inside.change(&port, "to its bridge", |link| link.controller(ours.index)).await?;
        weft_crash_points::point("bridge.join.inside_enslaved");
    }
    way.inside.change(&port, "up", |link| link.up()).await
}

/// Takes our bridge from its LAN, whichever way it was joined. Idempotent.
///
/// # Errors
/// The kernel refused a step; steps before it hold.
pub async fn leave_lan(agent: &Namespace, vpc: &Namespace) -> Result<(), NetworkError> {
    let way = Way { outside: Netlink::of(agent)?, inside: Netlink::of(vpc)?, agent, vpc };
    way.drop_vlans().await?;
    let inside = way.inside.links().await?;
    let outside = way.outside.links().await?;
    for guest in inside.iter().filter(|link| link.kind == Some(InfoKind::Veth)) {
        let Some(host) = outside.iter().find(|host| is_pair(host, guest)) else { continue };
        let of = |index| outside.iter().find(move |link| Some(link.index) == index);
        if let Some(around) = of(host.controller).filter(|bridge| bridge.ours) {
            delete_ours(&way.outside, around).await?;
        }
        way.outside.delete(&host.name).await?;
    }
    Ok(())
}

/// Both ends of what is made.
struct Way<'a> {
    outside: Netlink,
    inside: Netlink,
    agent: &'a Namespace,
    vpc: &'a Namespace,
}

impl Way<'_> {
    /// The inner end of a pair whose outer end is a port of `bridge`, and there takes the frames of
    /// a VLAN, if one is given, with their tags.
    async fn pair(
        &self,
        bridge: &Link,
        host_link: &LinkName,
        guest_link: &LinkName,
        vlan_id: Option<u16>,
    ) -> Result<Link, NetworkError> {
        let (outside, inside) = (&self.outside, &self.inside);
        let (host, guest) = ensure_pair(outside, inside, self.vpc, host_link, guest_link).await?;
        weft_crash_points::point("bridge.join.pair_made");
        sysctl::set(self.agent, &sysctl::for_uplink(host_link))?;
        inside.change(&guest, "MTU", |link| link.mtu(bridge.mtu)).await?;
        if host.controller != Some(bridge.index) {
            let address = port_mac(&host);
            let prepared = |link: LinkMessageBuilder<_>| link.address(address).mtu(bridge.mtu);
            outside.change(&host, "address and MTU", prepared).await?;
            weft_crash_points::point("bridge.join.port_prepared");
            let what = format!("to bridge {}", bridge.name);
            outside.change(&host, &what, |link| link.controller(bridge.index)).await?;
            weft_crash_points::point("bridge.join.outside_enslaved");
        }
        let filters = bridge.bridge.is_some_and(|settings| settings.vlan_filtering);
        if let Some(id) = vlan_id.filter(|_| filters) {
            let tagged = BridgeVlanInfoFlags::empty();
            let member = LinkBridgeVlan::new(host.index).vlan(id, tagged).build();
            // By RTM_SETLINK: RTM_NEWLINK, as `set_port` sends it, passes over VLANs without a word.
            let set = outside.handle.link().set(member).execute().await;
            set.map_err(asking(format!("put port {host_link} into VLAN {id}")))?;
        }
        outside.change(&host, "up", |link| link.up()).await?;
        Ok(guest)
    }

    /// The VLAN link `name` in the VPC's namespace on a link of the namespace of `of`.
    async fn vlan(
        &self,
        name: &LinkName,
        of: &Netlink,
        on: &Link,
        id: u16,
    ) -> Result<Link, NetworkError> {
        for link in self.inside.links().await? {
            let is_it = link.name == *name && link.vlan_id == Some(id);
            if is_it && link.peer == Some(on.index) {
                return Ok(link);
            }
            // Of another VLAN or on another link: both are fixed when it is made.
            if link.vlan_id.is_some() || link.name == *name {
                self.inside.delete(&link.name).await?;
            }
        }
        let message = LinkVlan::new(name.as_str(), on.index, id)
            .setns_by_fd(self.vpc.file().as_raw_fd())
            .build();
        match of.handle.link().add(message).execute().await {
            Err(error) if errno(&error) == Some(libc::EOPNOTSUPP) => {
                return Err(NetworkError::NoVlans);
            }
            Err(error) if errno(&error) == Some(libc::EEXIST) => {
                let why = format!(
                    "has a link for VLAN {id} already, which something else made: name that link \
                     as uplink instead"
                );
                return Err(NetworkError::UnfitUplink { link: on.name.clone(), why });
            }
            made => made.map_err(asking(format!("make a link for VLAN {id} of {}", on.name)))?,
        }
        weft_crash_points::point("bridge.join.vlan_made");
        let made = self.inside.get(name).await?;
        let marked = |link: LinkMessageBuilder<LinkUnspec>| link.alias(ALIAS);
        self.inside.change(&made, "alias", marked).await?;
        Ok(made)
    }

    /// In a VPC's namespace every VLAN link is ours.
    async fn drop_vlans(&self) -> Result<(), NetworkError> {
        for link in self.inside.links().await?.iter().filter(|link| link.vlan_id.is_some()) {
            self.inside.delete(&link.name).await?;
        }
        Ok(())
    }
}

/// The port's own MAC with a first byte that no network card has.
fn port_mac(host: &Link) -> Vec<u8> {
    let rest = host.mac.map(|mac| mac.octets()).unwrap_or_default();
    [0xfe].into_iter().chain(rest.into_iter().skip(1)).collect()
}
