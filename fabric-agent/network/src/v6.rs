//! IPv6 on a VPC's links: the same questions to rtnetlink as for IPv4, with IPv6 answers, and what
//! base, uplink and taps have of it.
//!
//! No address waits for duplicate address detection (`IFA_F_NODAD`): who could have it is ours.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use futures::TryStreamExt;
use ipnetwork::{IpNetwork, Ipv6Network};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use rtnetlink::{AddressMessageBuilder, RouteMessageBuilder};
use weft_model::{
    MacAddr, ObservedNetworkV6, ObservedTapV6, ObservedUplinkV6, ROUTER_V6, TapInterface, Uplink,
    UplinkV6, VpcNetwork,
};

use crate::NetworkError;
use crate::error::{asking, errno};
use crate::netlink::{Link, Netlink, PROTOCOL, is_reached, mac_of};

/// An IPv6 route of any table.
#[derive(Clone, Debug)]
pub(crate) struct RouteV6 {
    pub(crate) to: Ipv6Network,
    out: Option<u32>,
    gateway: Option<Ipv6Addr>,
    ours: bool,
    kind: RouteType,
    message: RouteMessage,
}

/// All IPv6 that a namespace has.
#[derive(Debug)]
pub(crate) struct SeenV6 {
    routes: Vec<RouteV6>,
    addresses: Vec<(u32, Ipv6Network)>,
    neighbours: BTreeMap<(u32, Ipv6Addr), MacAddr>,
}

impl SeenV6 {
    pub(crate) async fn of(netlink: &Netlink) -> Result<Self, NetworkError> {
        Ok(Self {
            routes: netlink.routes_v6().await?,
            addresses: netlink.addresses_v6().await?,
            neighbours: netlink.neighbours_v6().await?,
        })
    }

    fn on(&self, link: &Link) -> BTreeSet<Ipv6Addr> {
        let of_link = self.addresses.iter().filter(|(index, _)| *index == link.index);
        of_link.map(|(_, address)| address.ip()).collect()
    }

    /// Those through which the link's range is reached.
    fn whole_on(&self, link: &Link) -> BTreeSet<Ipv6Addr> {
        let of_link = self.addresses.iter().filter(|(index, _)| *index == link.index);
        let whole = of_link.filter(|(_, address)| is_whole(address, link, &self.routes));
        whole.map(|(_, address)| address.ip()).collect()
    }

    fn routes_to(&self, link: &Link) -> impl Iterator<Item = &RouteV6> {
        self.routes.iter().filter(|route| route.ours && route.out == Some(link.index))
    }

    pub(crate) fn base(&self, on: Option<bool>, loopback: &Link) -> ObservedNetworkV6 {
        let unreachable = self.routes.iter().filter(|route| route.is_unreachable());
        ObservedNetworkV6 {
            on,
            services: self.on(loopback).into_iter().filter(|ip| !ip.is_loopback()).collect(),
            unreachable: unreachable.map(|route| route.to).collect(),
        }
    }

    pub(crate) fn tap(&self, on: Option<bool>, tap: &Link) -> ObservedTapV6 {
        let behind = self.neighbours.iter().filter(|((index, _), _)| *index == tap.index);
        ObservedTapV6 {
            on,
            routers: self.on(tap),
            routes: self.routes_to(tap).map(|route| route.to.ip()).collect(),
            neighbours: behind.map(|((_, address), mac)| (*address, *mac)).collect(),
        }
    }

    /// The uplink's end inside.
    pub(crate) fn inside(&self, guest: &Link) -> ObservedUplinkV6 {
        let default = self.routes_to(guest).find(|route| route.to.prefix() == 0);
        ObservedUplinkV6 {
            guest: self.whole_on(guest),
            default_gateway: default.and_then(|route| route.gateway),
            ..ObservedUplinkV6::default()
        }
    }

    /// Adds the uplink's end outside.
    pub(crate) fn add_outside(&self, host: &Link, uplink: &mut ObservedUplinkV6) {
        uplink.host = self.whole_on(host);
        uplink.routes = self.routes_to(host).map(|route| route.to).collect();
    }
}

/// The services' addresses on the loopback link, and the range that ends inside.
pub(crate) async fn ensure_base(
    netlink: &Netlink,
    loopback: &Link,
    network: &VpcNetwork,
) -> Result<(), NetworkError> {
    let wanted = ObservedNetworkV6::of(network);
    let addresses: Vec<_> = wanted.services.into_iter().map(Ipv6Network::from).collect();
    netlink.set_addresses_v6(loopback, &addresses).await?;
    for stale in netlink.routes_v6().await? {
        if stale.is_unreachable() && !wanted.unreachable.contains(&stale.to) {
            netlink.delete_route_v6(&stale).await?;
        }
    }
    for range in wanted.unreachable {
        let route = our_route(range).kind(RouteType::Unreachable);
        netlink.replace_route_v6(range, route.build()).await?;
    }
    Ok(())
}

/// The router's address on the tap, and the way to the guest, when the tap is up.
pub(crate) async fn ensure_tap(
    netlink: &Netlink,
    link: &Link,
    tap: &TapInterface,
) -> Result<(), NetworkError> {
    let target = tap.ipv6.map(Ipv6Network::from);
    for stale in netlink.routes_v6().await? {
        if stale.ours && stale.out == Some(link.index) && Some(stale.to) != target {
            netlink.delete_route_v6(&stale).await?;
        }
    }
    let (Some(address), Some(target)) = (tap.ipv6, target) else { return Ok(()) };
    netlink.set_addresses_v6(link, &[in_64(ROUTER_V6)]).await?;
    let mac = tap.mac.octets();
    let neighbour = netlink.handle.neighbours().add(link.index, IpAddr::V6(address));
    neighbour
        .link_layer_address(&mac)
        .state(NeighbourState::Permanent)
        .replace()
        .execute()
        .await
        .map_err(asking(format!("add neighbour {address} on {}", link.name)))?;
    netlink.replace_route_v6(target, our_route(target).output_interface(link.index).build()).await
}

/// Addresses of both ends, the way out, and the way in where the VPC is routed.
pub(crate) async fn ensure_uplink(
    (outside, host): (&Netlink, &Link),
    (inside, guest): (&Netlink, &Link),
    network: &VpcNetwork,
    uplink: &Uplink,
) -> Result<(), NetworkError> {
    let Some(ends) = uplink.ipv6 else { return Ok(()) };
    outside.set_addresses_v6(host, &[in_64(ends.host_addr)]).await?;
    inside.set_addresses_v6(guest, &[in_64(ends.guest_addr)]).await?;
    let everywhere = in_prefix(Ipv6Addr::UNSPECIFIED, 0);
    let out = our_route(everywhere).gateway(ends.host_addr).output_interface(guest.index);
    inside.replace_route_v6(everywhere, out.build()).await?;
    let wanted = network.ipv6.filter(|_| uplink.routed);
    let is_ours = |route: &RouteV6| route.ours && route.out == Some(host.index);
    let routes = outside.routes_v6().await?;
    for stale in routes.iter().filter(|route| is_ours(route) && Some(route.to) != wanted) {
        outside.delete_route_v6(stale).await?;
    }
    let Some(range) = wanted else { return Ok(()) };
    let same = |route: &&RouteV6| route.to == range && route.is_in_main_table();
    if let Some(taken) = routes.iter().filter(same).find(|route| !is_ours(route)) {
        let links = outside.links().await?;
        let by = links.iter().find(|link| Some(link.index) == taken.out);
        let by = by.map_or_else(|| range.to_string(), |link| format!("{range} dev {}", link.name));
        return Err(NetworkError::RangeTaken { range: range.into(), by });
    }
    let route = our_route(range).gateway(ends.guest_addr).output_interface(host.index);
    outside.replace_route_v6(range, route.build()).await
}

fn in_prefix(address: Ipv6Addr, prefix: u8) -> Ipv6Network {
    Ipv6Network::new(address, prefix).unwrap_or_else(|_| Ipv6Network::from(address))
}

fn in_64(address: Ipv6Addr) -> Ipv6Network {
    in_prefix(address, UplinkV6::PREFIX)
}

fn our_route(to: Ipv6Network) -> RouteMessageBuilder<Ipv6Addr> {
    RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(to.network(), to.prefix())
        .protocol(RouteProtocol::from(PROTOCOL))
}

/// As [`crate::netlink::is_whole`].
fn is_whole(address: &Ipv6Network, link: &Link, routes: &[RouteV6]) -> bool {
    let ways = routes.iter().map(|route| (IpNetwork::from(route.to), route.out));
    address.prefix() == 128 || is_reached((*address).into(), link, ways)
}

impl RouteV6 {
    fn is_unreachable(&self) -> bool {
        self.ours && self.kind == RouteType::Unreachable
    }

    fn is_in_main_table(&self) -> bool {
        self.message.header.table == RouteHeader::RT_TABLE_MAIN
    }
}

impl Netlink {
    pub(crate) async fn routes_v6(&self) -> Result<Vec<RouteV6>, NetworkError> {
        let all = RouteMessageBuilder::<Ipv6Addr>::new().build();
        let listed = self.handle.route().get(all).execute().try_collect::<Vec<_>>().await;
        Ok(listed.map_err(asking("list IPv6 routes"))?.into_iter().filter_map(route).collect())
    }

    /// In a VPC's namespace, where all is ours, or over a link of ours.
    async fn replace_route_v6(
        &self,
        to: Ipv6Network,
        route: RouteMessage,
    ) -> Result<(), NetworkError> {
        let added = self.handle.route().add(route).replace().execute().await;
        added.map_err(asking(format!("add route to {to}")))
    }

    async fn delete_route_v6(&self, route: &RouteV6) -> Result<(), NetworkError> {
        match self.handle.route().del(route.message.clone()).execute().await {
            Err(error) if errno(&error) != Some(libc::ESRCH) => {
                Err(asking(format!("delete route to {}", route.to))(error))
            }
            _ => Ok(()),
        }
    }

    async fn addresses_v6(&self) -> Result<Vec<(u32, Ipv6Network)>, NetworkError> {
        let listed = self.handle.address().get().execute().try_collect::<Vec<_>>().await;
        let found = listed.map_err(asking("list IPv6 addresses"))?.into_iter().filter_map(|one| {
            // IFA_ADDRESS: IFA_LOCAL is of point-to-point links.
            let address = one.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(IpAddr::V6(address)) => Some(*address),
                _ => None,
            });
            Some((one.header.index, Ipv6Network::new(address?, one.header.prefix_len).ok()?))
        });
        Ok(found.collect())
    }

    /// Gives `link` exactly the addresses `wanted` besides `::1`.
    async fn set_addresses_v6(
        &self,
        link: &Link,
        wanted: &[Ipv6Network],
    ) -> Result<(), NetworkError> {
        let have: Vec<_> =
            self.addresses_v6().await?.into_iter().filter(|one| one.0 == link.index).collect();
        let routes = match have.iter().any(|(_, a)| a.prefix() < 128 && wanted.contains(a)) {
            true => self.routes_v6().await?,
            false => Vec::new(),
        };
        let is_kept = |one: &Ipv6Network| wanted.contains(one) && is_whole(one, link, &routes);
        let is_extra = |one: &Ipv6Network| !one.ip().is_loopback() && !is_kept(one);
        for (_, extra) in have.iter().filter(|(_, one)| is_extra(one)) {
            let message = AddressMessageBuilder::<Ipv6Addr>::new()
                .index(link.index)
                .address(extra.ip(), extra.prefix())
                .build();
            match self.handle.address().del(message).execute().await {
                Err(error) if errno(&error) != Some(libc::EADDRNOTAVAIL) => {
                    let action = format!("remove address {extra} from {}", link.name);
                    return Err(asking(action)(error));
                }
                _ => {}
            }
        }
        let there = |one: &Ipv6Network| is_kept(one) && have.iter().any(|(_, have)| have == one);
        for missing in wanted.iter().filter(|one| !there(one)) {
            let ip = IpAddr::V6(missing.ip());
            let mut add = self.handle.address().add(link.index, ip, missing.prefix()).replace();
            add.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            add.execute()
                .await
                .map_err(asking(format!("add address {missing} to {}", link.name)))?;
        }
        Ok(())
    }

    async fn neighbours_v6(&self) -> Result<BTreeMap<(u32, Ipv6Addr), MacAddr>, NetworkError> {
        let request = self.handle.neighbours().get().set_address_family(AddressFamily::Inet6);
        let listed = request.execute().try_collect::<Vec<_>>().await;
        let mut found = BTreeMap::new();
        for message in listed.map_err(asking("list IPv6 neighbours"))? {
            if message.header.state != NeighbourState::Permanent {
                continue;
            }
            let (mut address, mut mac) = (None, None);
            for attribute in &message.attributes {
                match attribute {
                    NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => {
                        address = Some(*a);
                    }
                    NeighbourAttribute::LinkLayerAddress(bytes) => mac = mac_of(bytes),
                    _ => {}
                }
            }
            if let (Some(address), Some(mac)) = (address, mac) {
                found.insert((message.header.ifindex, address), mac);
            }
        }
        Ok(found)
    }
}

fn route(message: RouteMessage) -> Option<RouteV6> {
    let (mut to, mut out, mut gateway) = (Ipv6Addr::UNSPECIFIED, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => to = *address,
            RouteAttribute::Gateway(RouteAddress::Inet6(address)) => gateway = Some(*address),
            RouteAttribute::Oif(index) => out = Some(*index),
            _ => {}
        }
    }
    let to = Ipv6Network::new(to, message.header.destination_prefix_length).ok()?;
    let ours = message.header.protocol == RouteProtocol::from(PROTOCOL);
    Some(RouteV6 { to, out, gateway, ours, kind: message.header.kind, message })
}
