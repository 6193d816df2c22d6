//! Whether a LAN can be joined at all, said before anything is made.

use futures::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressScope};
use rtnetlink::packet_route::link::InfoKind;
use rtnetlink::{LinkMessageBuilder, LinkVlan};
use weft_model::{Lan, LanLink, LinkName};

use crate::error::{asking, errno};
use crate::netlink::{Link, Netlink};
use crate::{Namespace, NetworkError};

/// Looks whether guests could be joined to `lan`. Changes nothing.
///
/// # Errors
/// [`NetworkError::NoSuchBridge`], [`NetworkError::UnfitUplink`] or [`NetworkError::NoVlans`] where
/// they cannot; the kernel cannot be asked.
pub async fn check_lan(agent: &Namespace, lan: &Lan) -> Result<(), NetworkError> {
    let outside = Netlink::of(agent)?;
    match &lan.link {
        LanLink::Bridge(name) => operators(&outside, name).await?,
        LanLink::Uplink(name) => match lan.vlan_id {
            None => link_as_port(&outside, name, None).await?,
            Some(_) => link_for_vlan(&outside, name).await?,
        },
    };
    match lan.vlan_id {
        Some(_) if !knows_vlans(&outside).await? => Err(NetworkError::NoVlans),
        _ => Ok(()),
    }
}

/// Whether the kernel makes VLAN links.
///
/// # Errors
/// The kernel cannot be asked.
pub async fn has_vlans(agent: &Namespace) -> Result<bool, NetworkError> {
    knows_vlans(&Netlink::of(agent)?).await
}

/// Asks for a VLAN link without saying which VLAN: no kernel makes one. One that has them says what
/// is missing (EINVAL, `vlan_validate` of Linux `net/8021q/vlan_netlink.c`), another one that it
/// does not know the kind (EOPNOTSUPP, `net/core/rtnetlink.c`). It loads the module, if there is
/// one, as making a link would.
async fn knows_vlans(outside: &Netlink) -> Result<bool, NetworkError> {
    let incomplete = LinkMessageBuilder::<LinkVlan>::new("weft-no-vlan").build();
    match outside.handle.link().add(incomplete).execute().await {
        Err(error) if errno(&error) == Some(libc::EINVAL) => Ok(true),
        Err(error) if errno(&error) == Some(libc::EOPNOTSUPP) => Ok(false),
        Err(error) => Err(asking("ask whether the kernel has VLAN links")(error)),
        Ok(()) => Ok(true),
    }
}

/// The operator's bridge.
pub(super) async fn operators(outside: &Netlink, name: &LinkName) -> Result<Link, NetworkError> {
    let missing = |kind| NetworkError::NoSuchBridge { link: name.clone(), kind };
    let found = outside.find(name).await?.ok_or_else(|| missing(None))?;
    match &found.kind {
        Some(InfoKind::Bridge) if found.ours => Err(unfit(name, OURS)),
        Some(InfoKind::Bridge) => Ok(found),
        Some(other) => Err(missing(Some(other.to_string()))),
        None => Err(missing(Some("device".to_owned()))),
    }
}

const OURS: &str = "is a link that Weft made: name one of the host's";

/// The operator's link that becomes a port of ours, `own`, and so loses what it is to the host.
pub(super) async fn link_as_port(
    outside: &Netlink,
    name: &LinkName,
    own: Option<u32>,
) -> Result<Link, NetworkError> {
    let link = operators_link(outside, name).await?;
    if let Some(controller) = link.controller.filter(|index| Some(*index) != own) {
        let all = outside.links().await?;
        let of = all.iter().find(|other| other.index == controller);
        let of = of.map_or_else(|| format!("link {controller}"), |other| other.name.to_string());
        return Err(unfit(
            name,
            format!(
                "is a port of {of} already: name that as bridge_name if it is a bridge, or take \
                 the link out of it with \"ip link set {name} nomaster\""
            ),
        ));
    }
    if let Some(address) = address_of(outside, &link).await? {
        return Err(unfit(
            name,
            format!(
                "has the address {address}, which the host would no longer be reached at: name a \
                 link that the host does not use itself, or one VLAN of this one with vlan_id"
            ),
        ));
    }
    Ok(link)
}

/// The operator's link of which one VLAN is taken: it may have addresses, and stays as it is.
pub(super) async fn link_for_vlan(
    outside: &Netlink,
    name: &LinkName,
) -> Result<Link, NetworkError> {
    operators_link(outside, name).await
}

async fn operators_link(outside: &Netlink, name: &LinkName) -> Result<Link, NetworkError> {
    let Some(link) = outside.find(name).await? else {
        return Err(unfit(name, "is no link of this host: \"ip link\" lists them"));
    };
    match &link.kind {
        _ if link.ours => Err(unfit(name, OURS)),
        _ if name.as_str() == "lo" => Err(unfit(name, "leads nowhere: name another link")),
        Some(InfoKind::Bridge) => {
            Err(unfit(name, "is a bridge: name it as bridge_name, which takes nothing from it"))
        }
        _ => Ok(link),
    }
}

/// An address that the host is reached at: one of the link's own, such as fe80::1, is none.
async fn address_of(outside: &Netlink, link: &Link) -> Result<Option<String>, NetworkError> {
    let listed = outside.handle.address().get().set_link_index_filter(link.index).execute();
    let listed: Vec<_> = listed.try_collect().await.map_err(asking("list addresses"))?;
    let of_the_host = listed.into_iter().find(|message| {
        message.header.index == link.index && message.header.scope == AddressScope::Universe
    });
    Ok(of_the_host.and_then(|message| {
        let prefix = message.header.prefix_len;
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) | AddressAttribute::Address(address) => {
                Some(format!("{address}/{prefix}"))
            }
            _ => None,
        })
    }))
}

fn unfit(link: &LinkName, why: impl Into<String>) -> NetworkError {
    NetworkError::UnfitUplink { link: link.clone(), why: why.into() }
}
