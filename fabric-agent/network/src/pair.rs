//! A pair of virtual Ethernet links between the agent's namespace and a VPC's.

use std::os::fd::AsRawFd;

use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};
use weft_model::LinkName;

use crate::error::asking;
use crate::netlink::{ALIAS, Link, Netlink};
use crate::{Namespace, NetworkError};

/// Whether a link of the agent's namespace is the other end of a link in a VPC's. All in the VPC's
/// namespace was made by us, and ends live and die together, so matching indexes are proof enough:
/// an alias may be missing if the agent died between two steps.
pub(crate) fn is_pair(host: &Link, guest: &Link) -> bool {
    let both_veth = [host, guest].iter().all(|link| link.kind == Some(InfoKind::Veth));
    both_veth && host.peer == Some(guest.index) && guest.peer == Some(host.index)
}

/// Makes the pair `host_link` - `guest_link`, marked as ours and down, if it is not there.
///
/// # Errors
/// The kernel refused; a link called `host_link` that is not ours is never touched.
pub(crate) async fn ensure_pair(
    outside: &Netlink,
    inside: &Netlink,
    vpc: &Namespace,
    host_link: &LinkName,
    guest_link: &LinkName,
) -> Result<(Link, Link), NetworkError> {
    let host = outside.find(host_link).await?;
    let guest = inside.find(guest_link).await?;
    if let (Some(host), Some(guest)) = (&host, &guest)
        && is_pair(host, guest)
    {
        return mark(outside, inside, host.clone(), guest.clone()).await;
    }
    // Half a pair, or one that leads elsewhere: deleting one end deletes the other.
    if host.is_some_and(|host| host.ours) {
        outside.delete(host_link).await?;
    }
    if guest.is_some() {
        inside.delete(guest_link).await?;
    }
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(guest_link.to_string())
        .setns_by_fd(vpc.file().as_raw_fd())
        .build();
    let pair = LinkVeth::new(host_link.as_str(), guest_link.as_str())
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    let made = outside.handle.link().add(pair).execute().await;
    made.map_err(asking(format!("make the pair of links {host_link} - {guest_link}")))?;
    weft_crash_points::point("pair.make.made");
    let (host, guest) = (outside.get(host_link).await?, inside.get(guest_link).await?);
    mark(outside, inside, host, guest).await
}

/// A step of its own: the kernel takes no alias while it makes a pair.
async fn mark(
    outside: &Netlink,
    inside: &Netlink,
    host: Link,
    guest: Link,
) -> Result<(Link, Link), NetworkError> {
    outside.change(&host, "alias", |link| link.alias(ALIAS)).await?;
    weft_crash_points::point("pair.make.outside_marked");
    inside.change(&guest, "alias", |link| link.alias(ALIAS)).await?;
    Ok((host, guest))
}
