//! Switches under `/proc/sys/net`.
//!
//! Which namespace's switches a file there means is decided by the thread that opens it (Linux
//! `net/sysctl_net.c`, `net_ctl_header_lookup`), so all of this runs inside.

use std::path::PathBuf;
use std::{fs, io};

use weft_model::LinkName;

use crate::{Namespace, NetworkError};

/// A file below `/proc/sys/net` and its value.
pub(crate) type Switch = (String, &'static str);

/// Whether the namespace routes. A bridge does not: only frames pass through it.
pub(crate) fn forwarding(on: bool) -> Switch {
    ("ipv4/ip_forward".to_owned(), if on { "1" } else { "0" })
}

/// Where br_netfilter shows that it is there, in every namespace since Linux 5.1.
pub(crate) fn bridge_filter() -> PathBuf {
    path("bridge/bridge-nf-call-iptables")
}

/// What a VPC's namespace needs as a whole: it tells guests of no shorter way, believes no
/// such tale, and its links drop sources that do not belong where they come from, unless they say
/// otherwise: the kernel takes the greater of `all` and the link's own.
///
/// `rp_filter` judges ARP too (Linux `net/ipv4/arp.c`, `arp_process` asks for a route back): a
/// guest cannot fill the neighbour table, which all namespaces share, with made-up senders. Where
/// it is off, the table of the arp family alone sees to that.
pub(crate) fn for_namespace() -> Vec<Switch> {
    [
        ("ipv4/conf/default/rp_filter", "1"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        ("ipv4/conf/all/accept_redirects", "0"),
        ("ipv4/conf/default/accept_redirects", "0"),
    ]
    .map(|(file, value)| (file.to_owned(), value))
    .into()
}

/// What a tap needs: the router answers ARP at once for every address it can route.
pub(crate) fn for_tap(link: &LinkName) -> Vec<Switch> {
    [
        ("ipv4/conf", "proxy_arp", "1"),
        ("ipv4/conf", "send_redirects", "0"),
        ("ipv4/conf", "accept_redirects", "0"),
        ("ipv4/neigh", "proxy_delay", "0"),
    ]
    .map(|(tree, file, value)| (format!("{tree}/{link}/{file}"), value))
    .into()
}

/// Whether what comes in by a link must come from where answers would go. Loose (2) would not do
/// instead: without a way out of the VPC most sources have no route at all.
pub(crate) fn source_check(link: &LinkName, on: bool) -> Switch {
    (format!("ipv4/conf/{link}/rp_filter"), if on { "1" } else { "0" })
}

/// What the bridge of a VPC needs: the host itself is there, and knows no IPv6.
pub(crate) fn for_bridge(link: &LinkName) -> Vec<Switch> {
    [
        ("ipv6/conf", "disable_ipv6", "1"),
        ("ipv4/conf", "rp_filter", "1"),
        ("ipv4/conf", "send_redirects", "0"),
        ("ipv4/conf", "accept_redirects", "0"),
    ]
    .map(|(tree, file, value)| (format!("{tree}/{link}/{file}"), value))
    .into()
}

/// What a bridge of ours in the agent's namespace needs: the host itself is not on that LAN, so it
/// has no address there and answers for none (`arp_ignore` 8: for no local address).
pub(crate) fn for_lan(link: &LinkName) -> Vec<Switch> {
    [("ipv6/conf", "disable_ipv6", "1"), ("ipv4/conf", "arp_ignore", "8")]
        .map(|(tree, file, value)| (format!("{tree}/{link}/{file}"), value))
        .into()
}

/// What the uplink needs at either end.
pub(crate) fn for_uplink(link: &LinkName) -> Vec<Switch> {
    [("ipv4/conf", "send_redirects", "0")]
        .map(|(tree, file, value)| (format!("{tree}/{link}/{file}"), value))
        .into()
}

/// What the uplink's end inside needs.
pub(crate) fn for_uplink_inside(link: &LinkName) -> Vec<Switch> {
    let mut switches = for_uplink(link);
    switches.push(source_check(link, true));
    switches
}

/// Sets what differs; returns whether anything did. A kernel without IPv6 needs none switched off.
pub(crate) fn set(namespace: &Namespace, switches: &[Switch]) -> Result<bool, NetworkError> {
    namespace.enter(|| {
        let mut changed = false;
        for (file, value) in switches {
            let path = path(file);
            let failed = |source| NetworkError::Sysctl { path: path.clone(), source };
            match fs::read_to_string(&path) {
                Ok(now) if now.trim() == *value => {}
                Ok(_) => {
                    fs::write(&path, value).map_err(failed)?;
                    changed = true;
                }
                Err(error) if no_ipv6(file, &error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(changed)
    })?
}

/// For each list, whether all of its switches are as wanted.
pub(crate) fn check(
    namespace: &Namespace,
    lists: &[Vec<Switch>],
) -> Result<Vec<bool>, NetworkError> {
    let is_set = |(file, value): &Switch| match fs::read_to_string(path(file)) {
        Ok(now) => now.trim() == *value,
        Err(error) => no_ipv6(file, &error),
    };
    namespace.enter(|| lists.iter().map(|list| list.iter().all(is_set)).collect())
}

fn path(file: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net").join(file)
}

fn no_ipv6(file: &str, error: &io::Error) -> bool {
    file.starts_with("ipv6/")
        && error.kind() == io::ErrorKind::NotFound
        && !PathBuf::from("/proc/sys/net/ipv6").exists()
}
