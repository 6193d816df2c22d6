//! A tap as a port of the VPC's bridge.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures::TryStreamExt;
use rtnetlink::LinkBridgePort;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{InfoBridgePort, InfoPortData};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourState};
use weft_model::{LinkName, MacAddr, TapInterface};

use crate::NetworkError;
use crate::error::{asking, errno};
use crate::netlink::{Link, Netlink, mac_of};

/// Makes the tap a port that leads to the guest and to nobody else. Idempotent.
///
/// The bridge learns nothing from the port: it is told the guest's MAC, and the host's own
/// connections know it as the address's neighbour. So no frame for one guest is ever flooded to
/// others. Frames for multicast groups are: the packet filter chooses among them, as IPv6 asks for
/// neighbours by such.
pub(crate) async fn enslave(
    netlink: &Netlink,
    port: &Link,
    tap: &TapInterface,
    bridge: &LinkName,
) -> Result<(), NetworkError> {
    let bridge = netlink.get(bridge).await?;
    if port.controller != Some(bridge.index) {
        netlink.change(port, "to its bridge", |link| link.controller(bridge.index)).await?;
        weft_crash_points::point("port.open.enslaved");
    }
    let switches = LinkBridgePort::new(port.index)
        .hairpin(false)
        .learning(false)
        .flood(false)
        .mcast_flood(true)
        .build();
    let changed = netlink.handle.link().set_port(switches).execute().await;
    changed.map_err(asking(format!("set up port {}", port.name)))?;
    weft_crash_points::point("port.open.quiet");
    for stale in macs(netlink, port).await?.into_iter().filter(|mac| *mac != tap.mac) {
        forget(netlink, port, stale).await?;
    }
    let mac = tap.mac.octets();
    // "No ARP" is a static entry; a permanent one would be an address of the bridge itself.
    let entry = netlink.handle.neighbours().add_bridge(port.index, &mac);
    let added = entry
        .state(NeighbourState::Noarp)
        .flags(NeighbourFlags::Controller)
        .replace()
        .execute()
        .await;
    added.map_err(asking(format!("add {} behind port {}", tap.mac, port.name)))?;
    weft_crash_points::point("port.open.told");
    let address = IpAddr::V4(tap.address);
    let neighbour = netlink.handle.neighbours().add(bridge.index, address);
    let added = neighbour
        .link_layer_address(&mac)
        .state(NeighbourState::Permanent)
        .replace()
        .execute()
        .await;
    added.map_err(asking(format!("add neighbour {address} on {}", bridge.name)))
}

/// Takes what the bridge knows about the guests behind a port, before the port goes.
pub(crate) async fn release(netlink: &Netlink, port: &Link) -> Result<(), NetworkError> {
    let Some(bridge) = port.controller else { return Ok(()) };
    let behind = macs(netlink, port).await?;
    for ((index, address), mac) in netlink.neighbours().await? {
        if index == bridge && behind.contains(&mac) {
            let message =
                netlink.handle.neighbours().add(index, IpAddr::V4(address)).message_mut().clone();
            match netlink.handle.neighbours().del(message).execute().await {
                Err(error) if errno(&error) != Some(libc::ENOENT) => {
                    let what = format!("remove neighbour {address} of {}", port.name);
                    return Err(asking(what)(error));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

async fn forget(netlink: &Netlink, port: &Link, mac: MacAddr) -> Result<(), NetworkError> {
    let mut entry = netlink.handle.neighbours().add_bridge(port.index, &mac.octets());
    let message = entry.message_mut();
    message.header.flags = NeighbourFlags::Controller;
    let removed = netlink.handle.neighbours().del(message.clone()).execute().await;
    match removed {
        Err(error) if errno(&error) != Some(libc::ENOENT) => {
            Err(asking(format!("remove {mac} behind port {}", port.name))(error))
        }
        _ => Ok(()),
    }
}

/// The MACs that the bridge was told are behind a port.
async fn macs(netlink: &Netlink, port: &Link) -> Result<BTreeSet<MacAddr>, NetworkError> {
    let all = static_macs(netlink).await?;
    Ok(all.into_iter().filter(|(index, _)| *index == port.index).map(|(_, mac)| mac).collect())
}

/// The MACs that bridges of this namespace were told of, with the index of their port.
pub(crate) async fn static_macs(netlink: &Netlink) -> Result<Vec<(u32, MacAddr)>, NetworkError> {
    let request = netlink.handle.neighbours().get().set_address_family(AddressFamily::Bridge);
    let listed: Vec<_> =
        request.execute().try_collect().await.map_err(asking("list what is behind ports"))?;
    let told = listed.into_iter().filter(|m| m.header.state == NeighbourState::Noarp);
    let found = told.filter_map(|message| {
        let mac = message.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac_of(bytes),
            _ => None,
        });
        Some((message.header.ifindex, mac?))
    });
    Ok(found.collect())
}

/// Whether a port is set as [`enslave`] sets it.
pub(crate) fn is_quiet(settings: &InfoPortData) -> bool {
    let InfoPortData::BridgePort(settings) = settings else { return false };
    let wanted = [
        InfoBridgePort::HairpinMode(false),
        InfoBridgePort::Learning(false),
        InfoBridgePort::UnicastFlood(false),
        InfoBridgePort::MulticastFlood(true),
    ];
    wanted.iter().all(|switch| settings.contains(switch))
}
