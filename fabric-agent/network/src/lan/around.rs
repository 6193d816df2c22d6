//! A bridge of ours in the agent's namespace, around a link of the operator's: the link and the
//! pair into the VPC are its only ports. When the bridge goes, the link is free again.

use rtnetlink::packet_route::link::{BridgeStpState, InfoKind};
use rtnetlink::{LinkBridge, LinkMessageBuilder};
use weft_model::LinkName;

use super::check;
use crate::error::asking;
use crate::netlink::{ALIAS, ALIAS_RAISED, Link, Netlink};
use crate::{Namespace, NetworkError, sysctl};

/// The bridge `name`, up, with `uplink` as a port. Idempotent.
pub(super) async fn ensure(
    outside: &Netlink,
    agent: &Namespace,
    name: &LinkName,
    uplink: &LinkName,
) -> Result<Link, NetworkError> {
    let found = outside.find(name).await?;
    let theirs = check::link_as_port(outside, uplink, found.as_ref().map(|b| b.index)).await?;
    let bridge = match found {
        Some(bridge) if is_takeable(outside, &bridge).await? => bridge,
        Some(_) => {
            let why = "is a link that something else made, where Weft needs the name: rename it";
            return Err(NetworkError::UnfitUplink { link: name.clone(), why: why.to_owned() });
        }
        None => {
            let message = LinkMessageBuilder::<LinkBridge>::new(name.as_str())
                .stp_state(BridgeStpState::Disabled)
                .mcast_snooping(false)
                .build();
            let made = outside.handle.link().add(message).execute().await;
            made.map_err(asking(format!("make bridge {name} around {uplink}")))?;
            weft_crash_points::point("bridge.around.made");
            outside.get(name).await?
        }
    };
    // Before the link is touched: whether it was down is known only now.
    let raised = bridge.raised || !theirs.up;
    let alias = if raised { ALIAS_RAISED } else { ALIAS };
    outside.change(&bridge, "alias", |link| link.alias(alias)).await?;
    sysctl::set(agent, &sysctl::for_lan(name))?;
    for port in outside.links().await?.iter().filter(|l| l.controller == Some(bridge.index)) {
        if port.index != theirs.index && !port.ours {
            outside.change(port, "out of its bridge", |link| link.nocontroller()).await?;
        }
    }
    if theirs.controller != Some(bridge.index) {
        let what = format!("to bridge {name}");
        outside.change(&theirs, &what, |link| link.controller(bridge.index)).await?;
        weft_crash_points::point("bridge.around.enslaved");
    }
    if !theirs.up {
        outside.change(&theirs, "up", |link| link.up()).await?;
    }
    outside.change(&bridge, "up", |link| link.up()).await?;
    // With the MTU of its port.
    outside.get(name).await
}

/// Ours, or half made by us: without an alias, down and without ports.
async fn is_takeable(outside: &Netlink, bridge: &Link) -> Result<bool, NetworkError> {
    let is_bridge = bridge.kind == Some(InfoKind::Bridge);
    let links = outside.links().await?;
    let has_ports = links.iter().any(|link| link.controller == Some(bridge.index));
    Ok(is_bridge && (bridge.ours || (!bridge.up && !has_ports)))
}

/// Deletes a link of ours in the agent's namespace. What a bridge was around is given back as it
/// was: free, and down if it was down.
pub(crate) async fn delete_ours(outside: &Netlink, link: &Link) -> Result<(), NetworkError> {
    if link.raised {
        for port in outside.links().await?.iter().filter(|p| p.controller == Some(link.index)) {
            if !port.ours {
                outside.change(port, "down", |link| link.down()).await?;
            }
        }
        weft_crash_points::point("bridge.around.lowered");
    }
    outside.delete(&link.name).await
}

/// Removes bridges around a link that lead to no VPC any more: the namespace was lost, and the pair
/// with it. Of this agent, by the start of their names.
///
/// # Errors
/// The kernel refused.
pub async fn remove_strays(agent: &Namespace, prefix: &str) -> Result<(), NetworkError> {
    let outside = Netlink::of(agent)?;
    let links = outside.links().await?;
    let bridges = links.iter().filter(|link| {
        link.ours && link.kind == Some(InfoKind::Bridge) && link.name.as_str().starts_with(prefix)
    });
    for bridge in bridges {
        let leads_on = |port: &&Link| port.ours && port.controller == Some(bridge.index);
        if !links.iter().any(|port| leads_on(&port)) {
            delete_ours(&outside, bridge).await?;
        }
    }
    Ok(())
}
