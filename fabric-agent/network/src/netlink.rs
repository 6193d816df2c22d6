//! Questions to rtnetlink, with answers in the model's words.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt;
use ipnetwork::{IpNetwork, Ipv4Network};
use rtnetlink::packet_core::Nla;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{
    BridgeStpState, InfoBridge, InfoData, InfoKind, InfoTun, InfoVlan, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use weft_model::{LinkName, MacAddr, Routes};

use crate::error::{asking, errno};
use crate::port::is_quiet;
use crate::{Namespace, NetworkError};

/// The `proto` of our routes: which routes are ours. Not taken in iproute2's `rt_protos`.
pub(crate) const PROTOCOL: u8 = 201;
/// `RT_TABLE_MAIN` of Linux `rtnetlink.h`.
pub(crate) const MAIN_TABLE: u32 = RouteHeader::RT_TABLE_MAIN as u32;
/// The alias of our links: which links are ours, whatever their names are.
pub(crate) const ALIAS: &str = "weft";
/// The same, of a bridge around a link that was down before: it is given back so.
pub(crate) const ALIAS_RAISED: &str = "weft, its uplink was down";
/// `IFLA_TUN_OWNER` of Linux `if_link.h`.
const TUN_OWNER: u16 = 1;

/// A link, as far as it matters here.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: LinkName,
    pub(crate) up: bool,
    /// It has an alias of ours.
    pub(crate) ours: bool,
    /// It has [`ALIAS_RAISED`].
    pub(crate) raised: bool,
    pub(crate) kind: Option<InfoKind>,
    /// The index of a virtual Ethernet link's other end, in that end's namespace; of a VLAN link,
    /// what it is on.
    pub(crate) peer: Option<u32>,
    pub(crate) owner_uid: Option<u32>,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) mtu: u32,
    /// The index of the bridge that it is a port of.
    pub(crate) controller: Option<u32>,
    /// It is a port, and set as ours are.
    pub(crate) quiet: bool,
    /// Of a bridge.
    pub(crate) bridge: Option<BridgeSettings>,
    /// Of a VLAN link.
    pub(crate) vlan_id: Option<u16>,
}

/// What matters of a bridge's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BridgeSettings {
    pub(crate) stp: bool,
    pub(crate) multicast_snooping: bool,
    /// Whether br_netfilter shows its packets to the packet filter.
    pub(crate) filtered: bool,
    /// Whether it looks at the tags of VLANs.
    pub(crate) vlan_filtering: bool,
}

/// An IPv4 route of any table.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) to: Ipv4Network,
    pub(crate) out: Option<u32>,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) source: Option<Ipv4Addr>,
    pub(crate) ours: bool,
    pub(crate) kind: RouteType,
    pub(crate) message: RouteMessage,
}

/// A namespace's rtnetlink connection with the questions we ask.
#[derive(Clone, Debug)]
pub(crate) struct Netlink {
    pub(crate) handle: Handle,
}

impl Netlink {
    pub(crate) fn of(namespace: &Namespace) -> Result<Self, NetworkError> {
        Ok(Self { handle: namespace.netlink()? })
    }

    pub(crate) async fn links(&self) -> Result<Vec<Link>, NetworkError> {
        let listed: Vec<LinkMessage> =
            self.handle.link().get().execute().try_collect().await.map_err(asking("list links"))?;
        Ok(listed.into_iter().filter_map(link).collect())
    }

    pub(crate) async fn find(&self, name: &LinkName) -> Result<Option<Link>, NetworkError> {
        let request = self.handle.link().get().match_name(name.to_string());
        match request.execute().try_next().await {
            Ok(message) => Ok(message.and_then(link)),
            Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(asking(format!("look for link {name}"))(error)),
        }
    }

    pub(crate) async fn get(&self, name: &LinkName) -> Result<Link, NetworkError> {
        self.find(name).await?.ok_or_else(|| NetworkError::NoSuchLink { link: name.clone() })
    }

    pub(crate) async fn change(
        &self,
        link: &Link,
        what: &str,
        with: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), NetworkError> {
        let message = with(LinkUnspec::new_with_index(link.index)).build();
        let changed = self.handle.link().change(message).execute().await;
        changed.map_err(asking(format!("set link {} {what}", link.name)))
    }

    /// Deletes a link; absence is success.
    pub(crate) async fn delete(&self, name: &LinkName) -> Result<(), NetworkError> {
        let Some(link) = self.find(name).await? else { return Ok(()) };
        match self.handle.link().del(link.index).execute().await {
            Err(error) if errno(&error) != Some(libc::ENODEV) => {
                Err(asking(format!("delete link {name}"))(error))
            }
            _ => Ok(()),
        }
    }

    /// Addresses by the index of their link.
    pub(crate) async fn addresses(&self) -> Result<Vec<(u32, Ipv4Network)>, NetworkError> {
        let listed: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(asking("list addresses"))?;
        let found = listed.into_iter().filter_map(|message| {
            let prefix = message.header.prefix_len;
            // IFA_LOCAL is the link's own address, IFA_ADDRESS a peer's on point-to-point links.
            let local = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
                _ => None,
            });
            Some((message.header.index, Ipv4Network::new(local?, prefix).ok()?))
        });
        Ok(found.collect())
    }

    /// Gives `link` exactly the address `wanted` of all addresses outside 127.0.0.0/8.
    pub(crate) async fn set_addresses(
        &self,
        link: &Link,
        wanted: &[Ipv4Network],
    ) -> Result<(), NetworkError> {
        let have: Vec<_> =
            self.addresses().await?.into_iter().filter(|a| a.0 == link.index).collect();
        // A new link has none yet, and nothing to lose.
        let routes = match have.iter().any(|(_, a)| a.prefix() < 32 && wanted.contains(a)) {
            true => self.routes().await?,
            false => Vec::new(),
        };
        let is_kept =
            |address: &Ipv4Network| wanted.contains(address) && is_whole(address, link, &routes);
        for (_, extra) in have.iter().filter(|(_, a)| !a.ip().is_loopback() && !is_kept(a)) {
            let message = rtnetlink::AddressMessageBuilder::<Ipv4Addr>::new()
                .index(link.index)
                .address(extra.ip(), extra.prefix())
                .build();
            match self.handle.address().del(message).execute().await {
                Err(error) if errno(&error) != Some(libc::EADDRNOTAVAIL) => {
                    return Err(asking(format!("remove address {extra} from {}", link.name))(
                        error,
                    ));
                }
                _ => {}
            }
        }
        let there = |one: &Ipv4Network| is_kept(one) && have.iter().any(|(_, a)| a == one);
        for missing in wanted.iter().filter(|one| !there(one)) {
            let ip = IpAddr::V4(missing.ip());
            let add = self.handle.address().add(link.index, ip, missing.prefix());
            add.replace()
                .execute()
                .await
                .map_err(asking(format!("add address {missing} to {}", link.name)))?;
        }
        Ok(())
    }

    /// The IPv4 routes that all packets follow: not those of our route tables.
    pub(crate) async fn routes(&self) -> Result<Vec<Route>, NetworkError> {
        let all = self.all_routes().await?.into_iter();
        Ok(all.filter(|route| route.table() < Routes::FIRST_TABLE).collect())
    }

    /// The IPv4 routes of every table.
    pub(crate) async fn all_routes(&self) -> Result<Vec<Route>, NetworkError> {
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let listed: Vec<_> = self
            .handle
            .route()
            .get(all)
            .execute()
            .try_collect()
            .await
            .map_err(asking("list routes"))?;
        Ok(listed.into_iter().filter_map(route).collect())
    }

    /// Adds a route of ours or puts it in place of the one to the same range, whosever that is:
    /// for a VPC's namespace, where all is ours.
    pub(crate) async fn add_route(
        &self,
        to: Ipv4Network,
        with: impl FnOnce(RouteMessageBuilder<Ipv4Addr>) -> RouteMessageBuilder<Ipv4Addr>,
    ) -> Result<(), NetworkError> {
        let add = self.handle.route().add(with(our_route(to)).build()).replace();
        add.execute().await.map_err(asking(format!("add route to {to}")))
    }

    /// Leads `to` through `gateway` out of `link`, in the agent's namespace: a route of somebody
    /// else to the same range stays and is an error, also one of another metric, which ours would
    /// outrank or be hidden by.
    pub(crate) async fn add_route_beside(
        &self,
        to: Ipv4Network,
        gateway: Ipv4Addr,
        link: &Link,
    ) -> Result<(), NetworkError> {
        let is_same = |route: &Route| route.to == to && route.table() == MAIN_TABLE;
        let is_ours = |route: &Route| route.ours && route.out == Some(link.index);
        let same: Vec<_> = self.routes().await?.into_iter().filter(is_same).collect();
        if let Some(taken) = same.iter().find(|route| !is_ours(route)) {
            let by = taken.describe(&self.links().await?);
            return Err(NetworkError::RangeTaken { range: to.into(), by });
        }
        if same.iter().any(|route| route.gateway == Some(gateway)) {
            return Ok(());
        }
        // One of ours that leads to an earlier gateway.
        for stale in &same {
            self.delete_route(stale).await?;
        }
        let route = our_route(to).gateway(gateway).output_interface(link.index);
        // Without replacing: what came in since the look above is met with EEXIST.
        let added = self.handle.route().add(route.build()).execute().await;
        added.map_err(asking(format!("add route to {to} on {}", link.name)))
    }

    pub(crate) async fn delete_route(&self, route: &Route) -> Result<(), NetworkError> {
        match self.handle.route().del(route.message.clone()).execute().await {
            Err(error) if errno(&error) != Some(libc::ESRCH) => {
                Err(asking(format!("delete route to {}", route.to))(error))
            }
            _ => Ok(()),
        }
    }

    /// Permanent IPv4 neighbours by the index of their link.
    pub(crate) async fn neighbours(
        &self,
    ) -> Result<BTreeMap<(u32, Ipv4Addr), MacAddr>, NetworkError> {
        let request = self.handle.neighbours().get().set_address_family(AddressFamily::Inet);
        let listed: Vec<_> =
            request.execute().try_collect().await.map_err(asking("list neighbours"))?;
        let mut found = BTreeMap::new();
        for message in listed.into_iter().filter(|m| m.header.state == NeighbourState::Permanent) {
            let (mut address, mut mac) = (None, None);
            for attribute in &message.attributes {
                match attribute {
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => {
                        address = Some(*a)
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

/// Whether the link's range is reached through the address: the kernel makes that route with the
/// address, and never again, whoever removes it.
pub(crate) fn is_whole(address: &Ipv4Network, link: &Link, routes: &[Route]) -> bool {
    let ways = routes.iter().map(|route| (IpNetwork::from(route.to), route.out));
    address.prefix() == 32 || is_reached((*address).into(), link, ways)
}

/// Whether one of `ways`, ranges and the links that they are behind, is that to the address's range.
pub(crate) fn is_reached(
    address: IpNetwork,
    link: &Link,
    mut ways: impl Iterator<Item = (IpNetwork, Option<u32>)>,
) -> bool {
    ways.any(|(to, out)| {
        out == Some(link.index)
            && (to.network(), to.prefix()) == (address.network(), address.prefix())
    })
}

pub(crate) fn our_route(to: Ipv4Network) -> RouteMessageBuilder<Ipv4Addr> {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(to.network(), to.prefix())
        .protocol(RouteProtocol::from(PROTOCOL))
}

impl Route {
    /// Its table; numbers above 255 come as an attribute (rtnetlink(7), RTA_TABLE).
    pub(crate) fn table(&self) -> u32 {
        let large = self.message.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
        large.unwrap_or_else(|| self.message.header.table.into())
    }

    /// Among routes of one table to one range the lowest number wins (RTA_PRIORITY).
    pub(crate) fn metric(&self) -> u32 {
        let metric = self.message.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Priority(metric) => Some(*metric),
            _ => None,
        });
        metric.unwrap_or_default()
    }

    /// As `ip route` would show it, for people.
    pub(crate) fn describe(&self, links: &[Link]) -> String {
        let mut text = self.to.to_string();
        if let Some(gateway) = self.gateway {
            text.push_str(&format!(" via {gateway}"));
        }
        let out = self.out.and_then(|index| links.iter().find(|link| link.index == index));
        if let Some(link) = out {
            text.push_str(&format!(" dev {}", link.name));
        }
        text
    }
}

pub(crate) fn mac_of(bytes: &[u8]) -> Option<MacAddr> {
    let text: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.join(":").parse().ok()
}

/// `None` for a link without a name that we could use.
fn link(message: LinkMessage) -> Option<Link> {
    let name = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(text) => text.parse().ok(),
        _ => None,
    });
    let mut link = Link {
        index: message.header.index,
        name: name?,
        up: message.header.flags.contains(LinkFlags::Up),
        ours: false,
        raised: false,
        kind: None,
        peer: None,
        owner_uid: None,
        mac: None,
        mtu: 0,
        controller: None,
        quiet: false,
        bridge: None,
        vlan_id: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfAlias(alias) => {
                link.raised = alias == ALIAS_RAISED;
                link.ours = alias == ALIAS || link.raised;
            }
            LinkAttribute::Link(index) => link.peer = Some(index),
            LinkAttribute::Address(bytes) => link.mac = mac_of(&bytes),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::LinkInfo(infos) => infos.into_iter().for_each(|info| link.learn(info)),
            _ => {}
        }
    }
    Some(link)
}

impl Link {
    fn learn(&mut self, info: LinkInfo) {
        match info {
            LinkInfo::Kind(kind) => self.kind = Some(kind),
            LinkInfo::Data(InfoData::Tun(parts)) => self.owner_uid = tun_owner(&parts),
            LinkInfo::Data(InfoData::Bridge(parts)) => self.bridge = Some(bridge_settings(&parts)),
            LinkInfo::Data(InfoData::Vlan(parts)) => self.vlan_id = vlan_id(&parts),
            LinkInfo::PortData(settings) => self.quiet = is_quiet(&settings),
            _ => {}
        }
    }
}

fn bridge_settings(parts: &[InfoBridge]) -> BridgeSettings {
    BridgeSettings {
        stp: !parts.contains(&InfoBridge::StpState(BridgeStpState::Disabled)),
        multicast_snooping: !parts.contains(&InfoBridge::MulticastSnooping(false)),
        filtered: parts.contains(&InfoBridge::NfCallIpTables(true))
            && parts.contains(&InfoBridge::NfCallIp6Tables(true)),
        vlan_filtering: parts.contains(&InfoBridge::VlanFiltering(true)),
    }
}

fn vlan_id(parts: &[InfoVlan]) -> Option<u16> {
    parts.iter().find_map(|part| match part {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    })
}

fn tun_owner(parts: &[InfoTun]) -> Option<u32> {
    parts.iter().find_map(|part| {
        let mut value = [0; 4];
        let is_owner = part.kind() == TUN_OWNER && part.value_len() == value.len();
        is_owner.then(|| {
            part.emit_value(&mut value);
            u32::from_ne_bytes(value)
        })
    })
}

fn route(message: RouteMessage) -> Option<Route> {
    let (mut to, mut out, mut gateway, mut source) = (Ipv4Addr::UNSPECIFIED, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => to = *address,
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(*address),
            RouteAttribute::Oif(index) => out = Some(*index),
            _ => {}
        }
    }
    let to = Ipv4Network::new(to, message.header.destination_prefix_length).ok()?;
    let ours = message.header.protocol == RouteProtocol::from(PROTOCOL);
    Some(Route { to, out, gateway, source, ours, kind: message.header.kind, message })
}
