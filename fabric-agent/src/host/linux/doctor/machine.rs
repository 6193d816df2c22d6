//! The kernel and the machine: devices, switches, users, clock, names.

use std::fs;
use std::ops::Range;

use super::{failed, ok, warning};
use crate::host::Check;

/// The uids that guests run under; the first, and one behind those of 65536 guests.
const UIDS: Range<u64> = crate::ledger::FIRST_UID as u64..crate::ledger::FIRST_UID as u64 + 65_536;

pub(super) fn privilege() -> Check {
    match nix::unistd::geteuid().is_root() {
        true => ok("privilege", "root, as the agent has to be"),
        false => failed(
            "privilege",
            "not root; the agent has to be, to make links, namespaces and guests",
            "sudo fabric-agent serve",
        ),
    }
}

pub(super) fn tun() -> Check {
    match fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => ok("tun", "/dev/net/tun can be opened"),
        Err(error) => failed(
            "tun",
            format!("cannot open /dev/net/tun ({error}): instances get no network"),
            "modprobe tun; in a container, pass the device in",
        ),
    }
}

/// Never switched on by the agent: a host that forwards IPv6 believes no router advertisement any
/// more unless told so (`accept_ra` 2), and may lose its own way out.
pub(super) fn forwarding_v6() -> Check {
    let (name, path) = ("IPv6 forwarding", "/proc/sys/net/ipv6/conf/all/forwarding");
    match std::fs::read_to_string(path) {
        Ok(value) if value.trim() != "0" => {
            ok(name, "IPv6 forwarding is on: instances with IPv6 reach what the host reaches")
        }
        Ok(_) => ok(
            name,
            "IPv6 forwarding is off, and the agent leaves it so: the IPv6 of instances stays inside \
             of their VPCs (to let it out: sysctl net.ipv6.conf.all.forwarding=1, and accept_ra=2 on \
             a link by which the host learns its own address)",
        ),
        Err(_) => ok(name, "this kernel has no IPv6: VPCs with an ipv6_cidr_block do not work"),
    }
}

/// `has_agent`: one runs, and has switched it on.
pub(super) fn forwarding(has_agent: bool) -> Check {
    let (name, path) = ("forwarding", "/proc/sys/net/ipv4/ip_forward");
    match fs::read_to_string(path) {
        Ok(value) if value.trim() == "1" => ok(name, "IP forwarding is on"),
        Ok(_) if !has_agent => ok(name, "off; the agent switches it on when it starts"),
        Ok(_) => failed(
            name,
            "IP forwarding is off in the agent's namespace, so instances reach nothing outside: \
             something switched it off after the agent had switched it on",
            "sysctl net.ipv4.ip_forward=1",
        ),
        Err(error) => {
            failed(name, format!("cannot read {path}: {error}"), "mount -t proc proc /proc")
        }
    }
}

/// Only `vlan_id` of a VPC needs them, which is refused where there are none.
pub(super) async fn vlans() -> Check {
    let name = "vlans";
    let asked = match weft_network::Namespace::current() {
        Ok(agent) => weft_network::has_vlans(&agent).await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(true) => ok(name, "the kernel makes VLAN links (802.1Q), for vlan_id of a VPC"),
        Ok(false) => ok(
            name,
            "this kernel makes no VLAN links (802.1Q): a VPC with vlan_id is refused; the module \
             is 8021q",
        ),
        // Without privilege, which is told above.
        Err(_) => ok(name, "whether the kernel makes VLAN links (802.1Q) is not known"),
    }
}

/// br_netfilter sends what crosses a bridge through the IP firewall too, which matters if that
/// `drops`.
pub(super) fn bridge_filter(drops: bool) -> Check {
    let name = "bridges";
    match fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables") {
        Ok(value) if value.trim() == "1" && !drops => {
            ok(name, "frames that cross a bridge go through the IP firewall, which drops none")
        }
        Ok(value) if value.trim() == "1" => warning(
            name,
            "frames that cross a bridge of this machine go through its IP firewall as well \
             (br_netfilter): it drops what guests of a bridge VPC send",
            "sysctl net.bridge.bridge-nf-call-iptables=0 (not where Kubernetes runs: it needs 1)",
        ),
        _ => ok(name, "frames that cross a bridge do not go through the IP firewall"),
    }
}

pub(super) fn uids() -> Check {
    let name = "uids";
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if !covers(&map, &UIDS) {
        return failed(
            name,
            format!(
                "this user namespace has no uids from {} on, which guests run under",
                UIDS.start
            ),
            "run the agent outside of user namespaces (podman run --userns=host, docker run \
             --userns=host)",
        );
    }
    let subordinate = fs::read_to_string("/etc/subuid").unwrap_or_default();
    match overlapping(&subordinate, &UIDS) {
        None => ok(name, format!("{} and up belong to guests alone", UIDS.start)),
        Some(line) => warning(
            name,
            format!(
                "/etc/subuid gives uids of guests ({} and up) to \"{line}\": containers of that \
                 user could reach a guest's files",
                UIDS.start
            ),
            "usermod --del-subuids FIRST-LAST USER, and give that user others",
        ),
    }
}

/// Whether a uid_map has the whole range. Lines: first inside, first outside, count
/// (user_namespaces(7)).
fn covers(map: &str, range: &Range<u64>) -> bool {
    map.lines().any(|line| {
        let numbers: Vec<u64> =
            line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let [inside, _, count] = numbers[..] else { return false };
        inside <= range.start && range.end <= inside + count
    })
}

/// The line of subuid(5) that gives away a part of the range.
fn overlapping<'a>(table: &'a str, range: &Range<u64>) -> Option<&'a str> {
    table.lines().find(|line| {
        let mut numbers = line.split(':').skip(1).map(|number| number.trim().parse::<u64>());
        let (Some(Ok(first)), Some(Ok(count))) = (numbers.next(), numbers.next()) else {
            return false;
        };
        first < range.end && range.start < first.saturating_add(count)
    })
}

pub(super) fn clock() -> Check {
    let name = "clock";
    match clock_is_synchronised() {
        Some(true) => ok(name, "synchronised"),
        Some(false) => warning(
            name,
            "not synchronised: guests start with this machine's time, and certificates are judged \
             by it",
            "timedatectl set-ntp true, or install chrony",
        ),
        None => ok(name, "cannot be asked whether it is synchronised"),
    }
}

/// What the kernel was told by whoever keeps the time; source: adjtimex(2).
fn clock_is_synchronised() -> Option<bool> {
    use nix::libc;
    #[expect(unsafe_code, reason = "adjtimex has no safe wrapper in nix")]
    // SAFETY: timex is plain numbers, for which zeros are valid; modes 0 changes nothing, and the
    // pointer is to a value that lives through the call.
    let (state, status) = unsafe {
        let mut times: libc::timex = std::mem::zeroed();
        let state = libc::adjtimex(&raw mut times);
        (state, times.status)
    };
    (state >= 0).then_some(status & libc::STA_UNSYNC == 0)
}

pub(super) fn resolvers() -> Check {
    let name = "resolvers";
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = nameservers(&text);
    match servers.is_empty() {
        false => ok(name, format!("names are asked of {}", servers.join(", "))),
        true => warning(
            name,
            "/etc/resolv.conf names no server: names outside of a VPC are not resolved",
            "echo 'nameserver ADDRESS' >> /etc/resolv.conf",
        ),
    }
}

fn nameservers(text: &str) -> Vec<&str> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    servers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_namespace_has_to_have_the_uids_of_guests() {
        assert!(covers("         0          0 4294967295\n", &UIDS));
        assert!(!covers("         0     100000      65536\n", &UIDS));
        assert!(!covers("", &UIDS));
        assert!(!covers("0 0 1900000001\n", &UIDS));
    }

    #[test]
    fn subordinate_uids_that_are_guests_are_found() {
        assert_eq!(
            overlapping("alice:100000:65536\nbob:1900000100:10\n", &UIDS),
            Some("bob:1900000100:10")
        );
        assert_eq!(overlapping("alice:100000:4294000000", &UIDS), Some("alice:100000:4294000000"));
        assert_eq!(overlapping("alice:100000:65536\n# no\nbob:1900065536:10", &UIDS), None);
    }

    #[test]
    fn resolvers_are_read_as_the_resolver_does() {
        let text = "# nameserver 192.0.2.9\nsearch lan\nnameserver 192.0.2.1\n nameserver\t::1\n";
        assert_eq!(nameservers(text), ["192.0.2.1", "::1"]);
        assert!(nameservers("search lan\n").is_empty());
    }
}
