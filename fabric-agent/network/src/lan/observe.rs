//! What joins a VPC's bridge to its LAN, read back.

use rtnetlink::packet_route::link::InfoKind;
use weft_model::ObservedJoin;

use crate::netlink::{Link, Netlink};
use crate::pair::is_pair;
use crate::{Namespace, NetworkError};

/// What there is beside `bridge` among the `inside` links of the VPC's namespace.
pub(crate) async fn observe(
    agent: &Namespace,
    bridge: &Link,
    inside: &[Link],
) -> Result<Option<ObservedJoin>, NetworkError> {
    let vlan = inside.iter().find(|link| link.vlan_id.is_some());
    let inner = inside.iter().find(|link| link.kind == Some(InfoKind::Veth));
    let Some(port) = vlan.or(inner) else { return Ok(None) };
    let outside = Netlink::of(agent)?.links().await?;
    let by_index = |index: Option<u32>| outside.iter().find(|link| Some(link.index) == index);
    let host = inner.and_then(|inner| outside.iter().find(|host| is_pair(host, inner)));
    let host_bridge = by_index(host.and_then(|host| host.controller));
    // The other port of a bridge of ours; or what a VLAN is of, where that is not the pair.
    let uplink = match (host_bridge, inner) {
        (Some(around), _) if around.ours => {
            let ports = outside.iter().filter(|link| link.controller == Some(around.index));
            let mut theirs = ports.filter(|link| !link.ours);
            theirs.next().filter(|_| theirs.next().is_none())
        }
        (_, None) => by_index(port.peer),
        _ => None,
    };
    let on_inner = match (vlan, inner) {
        (Some(vlan), Some(inner)) => vlan.peer == Some(inner.index) && inner.up,
        _ => true,
    };
    let around_up = host_bridge.is_none_or(|around| !around.ours || around.up);
    let pair_up = inner.is_none() || host.is_some_and(|host| host.up);
    Ok(Some(ObservedJoin {
        guest_link: port.name.clone(),
        guest_ok: port.up && port.controller == Some(bridge.index) && on_inner,
        vlan_id: vlan.and_then(|vlan| vlan.vlan_id),
        host_link: host.map(|host| host.name.clone()),
        host_up: pair_up && around_up && uplink.is_none_or(|uplink| uplink.up),
        host_bridge: host_bridge.map(|bridge| bridge.name.clone()),
        uplink: uplink.map(|uplink| uplink.name.clone()),
    }))
}
