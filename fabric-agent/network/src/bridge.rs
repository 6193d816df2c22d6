//! A VPC's bridge; what joins it to the operator's LAN is in [`crate::lan`].

use ipnetwork::Ipv4Network;
use rtnetlink::packet_route::link::{BridgeStpState, InfoBridge, InfoKind};
use rtnetlink::{LinkBridge, LinkMessageBuilder};
use weft_model::{Bridge, LinkName, MacAddr, VpcNetwork};

use crate::error::asking;
use crate::netlink::{ALIAS, BridgeSettings, Link, Netlink};
use crate::{Namespace, NetworkError, sysctl};

/// What our bridges are set to: they pass frames at once and never speak themselves, and every
/// packet between two ports is shown to the packet filter.
pub(crate) const SETTINGS: BridgeSettings =
    BridgeSettings { stp: false, multicast_snooping: false, filtered: true, vlan_filtering: false };

/// Brings the VPC's bridge and its addresses in order, or removes one that is not wanted.
/// Idempotent. It has no ports yet.
///
/// # Errors
/// [`NetworkError::NoBridgeFilter`] where groups could not be enforced: nothing is made then. The
/// kernel refused a step; steps before it hold.
pub async fn ensure_bridge(vpc: &Namespace, network: &VpcNetwork) -> Result<(), NetworkError> {
    let inside = Netlink::of(vpc)?;
    let wanted = network.bridge.as_ref();
    for link in inside.links().await? {
        let is_wanted = Some(&link.name) == wanted.map(|bridge| &bridge.link);
        if link.kind == Some(InfoKind::Bridge) && !is_wanted {
            inside.delete(&link.name).await?;
        }
    }
    let Some(wanted) = wanted else { return Ok(()) };
    // Asked each time: the kernel takes the bridge's own switch also where nothing heeds it.
    if !vpc.enter(filters_bridges)? {
        return Err(NetworkError::NoBridgeFilter);
    }
    let mac = Bridge::mac(&network.vpc_id);
    let link = ensure_link(&inside, &wanted.link, mac).await?;
    sysctl::set(vpc, &sysctl::for_bridge(&wanted.link))?;
    weft_crash_points::point("bridge.set.switched");
    let addresses: Vec<Ipv4Network> = network.bridge_addresses().into_iter().collect();
    inside.set_addresses(&link, &addresses).await?;
    weft_crash_points::point("bridge.set.addressed");
    inside.change(&link, "up", |l| l.up()).await
}

/// Whether br_netfilter is there. Before Linux 5.1 it showed itself in the first namespace only,
/// and its module everywhere.
fn filters_bridges() -> bool {
    sysctl::bridge_filter().exists() || std::path::Path::new("/sys/module/br_netfilter").exists()
}

async fn ensure_link(
    inside: &Netlink,
    name: &LinkName,
    mac: MacAddr,
) -> Result<Link, NetworkError> {
    if inside.find(name).await?.is_none() {
        let message = LinkMessageBuilder::<LinkBridge>::new(name.as_str()).build();
        let made = inside.handle.link().add(message).execute().await;
        made.map_err(asking(format!("make bridge {name}")))?;
        weft_crash_points::point("bridge.set.made");
    }
    let link = inside.get(name).await?;
    let message = LinkMessageBuilder::<LinkBridge>::new(name.as_str())
        .index(link.index)
        .stp_state(BridgeStpState::Disabled)
        .mcast_snooping(SETTINGS.multicast_snooping)
        .append_info_data(InfoBridge::NfCallIpTables(SETTINGS.filtered))
        .append_info_data(InfoBridge::NfCallIp6Tables(SETTINGS.filtered))
        .build();
    let changed = inside.handle.link().change(message).execute().await;
    changed.map_err(asking(format!("set up bridge {name}")))?;
    let address = mac.octets().to_vec();
    inside.change(&link, "address and alias", |l| l.address(address).alias(ALIAS)).await?;
    Ok(link)
}
