//! A guest's tap: made down, set up when the packet filter knows it, removed.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use ipnetwork::Ipv4Network;
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::RouteScope;
use weft_model::{Bridge, LinkName, TapInterface};

use crate::netlink::{ALIAS, Netlink};
use crate::{Namespace, NetworkError, port, shaper, sysctl, sysctl_v6, v6};

/// Makes the tap, or brings it in order, without setting it up. Idempotent.
///
/// # Errors
/// The kernel refused a step; the tap is down if it was not up before.
pub async fn add_tap(
    vpc: &Namespace,
    link: &LinkName,
    tap: &TapInterface,
) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Tap { action: "create", link: link.clone(), source };
    let netlink = Netlink::of(vpc)?;
    let seen = netlink.find(link).await?;
    if seen.as_ref().is_none_or(|seen| seen.owner_uid != tap.owner_uid) {
        if seen.is_some() {
            netlink.delete(link).await?;
        }
        vpc.enter(|| make(link, tap.owner_uid))?.map_err(failed)?;
        weft_crash_points::point("tap.add.made");
    }
    sysctl::set(vpc, &sysctl::for_tap(link))?;
    sysctl::set(vpc, &[sysctl::source_check(link, tap.source_dest_check)])?;
    sysctl::set(vpc, &sysctl_v6::for_link(link, tap.ipv6.is_some()))?;
    let made = netlink.get(link).await?;
    let address = router_mac(tap);
    // Set again, even to what it is, it would cost the link its permanent neighbours.
    if made.ours && made.mac.is_some_and(|mac| mac.octets()[..] == address[..]) {
        return Ok(());
    }
    netlink.change(&made, "address and alias", |l| l.address(address).alias(ALIAS)).await
}

/// The tap's own MAC, which the guest sees as its router's and all peers': the guest's with
/// another first byte, so it stays the same when the tap is made again.
fn router_mac(tap: &TapInterface) -> Vec<u8> {
    let [_, rest @ ..] = tap.mac.octets();
    [0xfe].into_iter().chain(rest).collect()
}

/// Sets the tap up, as a port of `bridge` or with a route to it, and leads the guest's address
/// there, and no other. Idempotent. Call it only when the packet filter knows the interface.
///
/// # Errors
/// The kernel refused a step; there is no such tap, or no such bridge.
pub async fn tap_up(
    vpc: &Namespace,
    link: &LinkName,
    tap: &TapInterface,
    bridge: Option<&Bridge>,
) -> Result<(), NetworkError> {
    let netlink = Netlink::of(vpc)?;
    let found = netlink.get(link).await?;
    shaper::shape(&netlink, &found, tap.network_mbps).await?;
    if let Some(bridge) = bridge {
        port::enslave(&netlink, &found, tap, &bridge.link).await?;
        return netlink.change(&found, "up", |l| l.up()).await;
    }
    if found.controller.is_some() {
        netlink.change(&found, "off its bridge", |l| l.nocontroller()).await?;
    }
    netlink.change(&found, "up", |l| l.up()).await?;
    weft_crash_points::point("tap.open.up");
    let address = IpAddr::V4(tap.address);
    let mac = tap.mac.octets();
    let neighbour = netlink.handle.neighbours().add(found.index, address);
    neighbour
        .link_layer_address(&mac)
        .state(NeighbourState::Permanent)
        .replace()
        .execute()
        .await
        .map_err(crate::error::asking(format!("add neighbour {address} on {link}")))?;
    weft_crash_points::point("tap.open.neighbour_added");
    let target = Ipv4Network::from(tap.address);
    for stale in netlink.routes().await? {
        if stale.ours && stale.out == Some(found.index) && stale.to != target {
            netlink.delete_route(&stale).await?;
        }
    }
    netlink
        .add_route(target, |route| {
            route.output_interface(found.index).scope(RouteScope::Link).pref_source(tap.gateway)
        })
        .await?;
    weft_crash_points::point("tap.open.routed");
    v6::ensure_tap(&netlink, &found, tap).await
}

/// Sets the tap down: nothing passes and its routes go. Absence is success.
///
/// # Errors
/// The kernel refused.
pub async fn tap_down(vpc: &Namespace, link: &LinkName) -> Result<(), NetworkError> {
    let netlink = Netlink::of(vpc)?;
    match netlink.find(link).await? {
        Some(found) => netlink.change(&found, "down", |l| l.down()).await,
        None => Ok(()),
    }
}

/// Removes the tap with its routes and neighbours. Absence is success.
///
/// # Errors
/// The kernel refused.
pub async fn remove_tap(vpc: &Namespace, link: &LinkName) -> Result<(), NetworkError> {
    let netlink = Netlink::of(vpc)?;
    if let Some(found) = netlink.find(link).await? {
        port::release(&netlink, &found).await?;
        weft_crash_points::point("tap.remove.released");
    }
    netlink.delete(link).await
}

fn make(link: &LinkName, owner_uid: Option<u32>) -> io::Result<()> {
    let tap = attach(link)?;
    if let Some(uid) = owner_uid {
        set(&tap, libc::TUNSETOWNER, uid.into())?;
    }
    set(&tap, libc::TUNSETPERSIST, 1)
}

/// The device remembers the namespace of the thread that opens it (Linux `drivers/net/tun.c`,
/// `tun_chr_open`).
#[expect(unsafe_code, reason = "TUNSETIFF is an ioctl without a wrapper")]
fn attach(link: &LinkName) -> io::Result<File> {
    let tap = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")?;
    let mut ifr_name = [0; libc::IFNAMSIZ];
    for (to, from) in ifr_name.iter_mut().zip(link.as_str().bytes()) {
        *to = from.cast_signed();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    let ifru_flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
    let request = libc::ifreq { ifr_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags } };
    // SAFETY: the descriptor is open and `request` is a whole ifreq that outlives the call.
    let done = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, &raw const request) };
    if done == 0 { Ok(tap) } else { Err(io::Error::last_os_error()) }
}

#[expect(unsafe_code, reason = "ioctls of tun devices have no wrapper")]
fn set(tap: &File, request: libc::Ioctl, value: u64) -> io::Result<()> {
    // SAFETY: these requests take an integer, not a pointer, and the descriptor is open.
    let done = unsafe { libc::ioctl(tap.as_raw_fd(), request, value) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
