//! Reads a VPC's network back from the kernel.

use std::collections::BTreeMap;

use rtnetlink::packet_route::link::InfoKind;
use rtnetlink::packet_route::route::RouteType;
use weft_model::{ObservedNetwork, ObservedTap, ObservedUplink};

use crate::base::loopback;
use crate::netlink::{Link, Netlink, Route};
use crate::{Namespace, NetworkError, sysctl};

/// What the kernel has of a VPC's network; only what is ours. Changes nothing.
///
/// # Errors
/// The kernel could not be asked.
pub async fn observe(agent: &Namespace, vpc: &Namespace) -> Result<ObservedNetwork, NetworkError> {
    let inside = Netlink::of(vpc)?;
    let links = inside.links().await?;
    let routes = inside.routes().await?;
    let addresses = inside.addresses().await?;
    let neighbours = inside.neighbours().await?;
    let loopback = loopback(&inside).await?;

    // A tap is ours by being in our namespace: a half-made one has no alias yet.
    let taps: Vec<_> = links.iter().filter(|l| l.kind == Some(InfoKind::Tun)).collect();
    let mut switches = vec![sysctl::for_namespace()];
    switches.extend(taps.iter().map(|tap| sysctl::for_tap(&tap.name)));
    let mut switches = sysctl::check(vpc, &switches)?.into_iter();
    let sysctls_ok = switches.next().unwrap_or(false);

    let taps = taps.into_iter().zip(switches).map(|(tap, sysctls_ok)| {
        let of_tap = routes.iter().filter(|r| r.ours && r.out == Some(tap.index));
        let seen = ObservedTap {
            up: tap.up,
            sysctls_ok: sysctls_ok && tap.ours,
            owner_uid: tap.owner_uid,
            routes: of_tap.map(|route| (route.to.ip(), route.source)).collect(),
            neighbours: neighbours
                .iter()
                .filter(|((index, _), _)| *index == tap.index)
                .map(|((_, address), mac)| (*address, *mac))
                .collect(),
        };
        (tap.name.clone(), seen)
    });
    let taps = taps.collect::<BTreeMap<_, _>>();

    let guest = links.iter().find(|l| l.kind == Some(InfoKind::Veth));
    let uplink = match guest {
        Some(guest) => {
            let mut uplink = seen_inside(guest, &routes);
            uplink.guest_addr =
                addresses.iter().find(|(index, _)| *index == guest.index).map(|(_, a)| a.ip());
            add_outside(agent, guest, &mut uplink).await?;
            Some(uplink)
        }
        None => None,
    };
    Ok(ObservedNetwork {
        loopback_up: loopback.up,
        sysctls_ok,
        gateways: addresses
            .iter()
            .filter(|(index, a)| *index == loopback.index && !a.ip().is_loopback())
            .map(|(_, a)| a.ip())
            .collect(),
        unreachable: routes
            .iter()
            .filter(|r| r.ours && r.kind == RouteType::Unreachable)
            .map(|r| r.to)
            .collect(),
        uplink,
        taps,
    })
}

fn seen_inside(guest: &Link, routes: &[Route]) -> ObservedUplink {
    let default = routes.iter().find(|r| r.ours && r.to.prefix() == 0);
    ObservedUplink {
        guest_link: guest.name.clone(),
        guest_up: guest.up,
        guest_addr: None,
        default_gateway: default.and_then(|route| route.gateway),
        link: None,
        host_up: false,
        host_addr: None,
        routes: std::collections::BTreeSet::new(),
    }
}

async fn add_outside(
    agent: &Namespace,
    guest: &Link,
    uplink: &mut ObservedUplink,
) -> Result<(), NetworkError> {
    let outside = Netlink::of(agent)?;
    let links = outside.links().await?;
    let Some(host) = links.into_iter().find(|host| is_pair(host, guest)) else { return Ok(()) };
    let addresses = outside.addresses().await?;
    uplink.host_addr =
        addresses.iter().find(|(index, _)| *index == host.index).map(|(_, a)| a.ip());
    let routes = outside.routes().await?;
    let ours = routes.iter().filter(|r| r.ours && r.out == Some(host.index));
    uplink.routes = ours.map(|route| route.to).collect();
    uplink.host_up = host.up;
    uplink.link = Some(host.name);
    Ok(())
}

/// Whether a link of the agent's namespace is the other end of a link in a VPC's. All in the VPC's
/// namespace was made by us, and ends live and die together, so matching indexes are proof enough:
/// an alias may be missing if the agent died between two steps.
pub(crate) fn is_pair(host: &Link, guest: &Link) -> bool {
    let both_veth = [host, guest].iter().all(|link| link.kind == Some(InfoKind::Veth));
    both_veth && host.peer == Some(guest.index) && guest.peer == Some(host.index)
}
