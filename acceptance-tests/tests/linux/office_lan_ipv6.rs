//! IPv6 on the LAN of an office: `examples/03-office-lan` with the LAN's IPv6 range, and an office
//! whose router advertises it.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, setsockopt,
    socket, sockopt,
};
use weft_acceptance::{Guest, Lab, NetNs, eventually, within};

use crate::office_lan::{example, office};

/// The office's machine, in a range for documentation (RFC 3849).
const OFFICE: &str = "2001:db8:1:2::1";
const SILENCE: Duration = Duration::from_secs(2);

/// In the example's place: the same with IPv6.
const IPV6: &str = r#"
resource "weft_vpc" "office" {
  ipv6_cidr_block = "2001:db8:1:2::/64"
}

resource "weft_subnet" "office" {
  ipv6_cidr_block = weft_vpc.office.ipv6_cidr_block
}
"#;

fn web_rule(from: &str) -> String {
    format!(
        r#"
resource "weft_security_group_ingress_rule" "web" {{
  security_group_id = weft_security_group.desk.id
  ip_protocol       = "tcp"
  from_port         = 8080
  to_port           = 8080
  cidr_ipv6         = "{from}"
}}
"#
    )
}

/// "I am the router, and make yourselves addresses of 2001:db8:1:2::/64" (RFC 4861, 4.2 and 4.6.2).
fn advertise(office: &NetNs) -> Result<()> {
    let mut message = vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 64, 0xc0];
    message.extend([0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    message.extend("2001:db8:1:2::".parse::<Ipv6Addr>()?.octets());
    office.inside(|| {
        let flags = SockFlag::SOCK_CLOEXEC;
        let raw = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6)?;
        // Nobody believes one that may have been passed on by a router (RFC 4861, 6.1.2).
        setsockopt(&raw, sockopt::Ipv6MulticastHops, &255)?;
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let to = SocketAddrV6::new(all_nodes, 0, 0, if_nametoindex("lan")?);
        sendto(raw.as_raw_fd(), &message, &SockaddrIn6::from(to), MsgFlags::empty())?;
        Ok(())
    })
}

#[test]
fn a_guest_hears_the_lans_ipv6_router_and_stays_behind_its_groups() -> Result<()> {
    let Some(lab) = Lab::linux()? else { return Ok(()) };
    let office = office(&lab)?;
    // It hears itself advertise, and would speak from the address that it makes of that as well.
    office.output(&["sysctl", "-wq", "net.ipv6.conf.lan.accept_ra=0"])?;
    office.output(&["ip", "-6", "addr", "add", &format!("{OFFICE}/64"), "dev", "lan", "nodad"])?;
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    terraform.write("ipv6_override.tf", IPV6)?;
    example(&terraform, &key, &web_rule("2001:db8:1:2::1/128"))?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    let state = terraform.state()?;
    let directory = lab.directory().to_owned();
    let guest = Guest::from_state(&office, &key, &directory, &state, "weft_instance.desk")?;
    let listed = state.attribute("weft_instance.desk", "ipv6_addresses")?;
    let address: Ipv6Addr = listed[0].as_str().context("no IPv6 address")?.parse()?;

    // weft-tiny takes no IPv6 from its seed: its kernel makes the address, and finds the way out.
    eventually("the guest hears the LAN's router", within(), || {
        advertise(&office)?;
        let seen = guest.ssh("ip -6 addr show dev eth0; ip -6 route")?;
        let knows = seen.contains(&address.to_string()) && seen.contains("default via fe80");
        Ok(knows.then_some(()))
    })?;

    // The group's rule, and no other, opens the port; answers to what it asked itself come back.
    guest.ssh("echo hi > /tmp/index.html; sudo httpd -p '[::]:8080' -h /tmp")?;
    let is_open =
        || anyhow::Ok(office.connect(SocketAddr::from((address, 8080)), SILENCE)?.is_ok());
    eventually("the office reaches the guest", within(), || Ok(is_open()?.then_some(())))?;
    let ping = |more: &str| format!("ping -6 -c 1 -W 3 {more} {OFFICE} >/dev/null");
    ensure!(guest.try_ssh(&ping(""))?.code() == Some(0), "no answer to its own ping");
    let forged = format!(
        "sudo ip -6 addr add 2001:db8:1:2::99/64 dev eth0 nodad; {}",
        ping("-I 2001:db8:1:2::99")
    );
    ensure!(guest.try_ssh(&forged)?.code() == Some(1), "it sent as another");
    example(&terraform, &key, &web_rule("2001:db8:1:2::2/128"))?;
    terraform.apply()?;
    ensure!(!is_open()?, "open to another than the rule's source");

    terraform.destroy()?;
    let host = lab.outside()?;
    host.output(&["ip", "link", "delete", "br0"])?;
    host.output(&["ip", "link", "delete", "cable"])?;
    lab.close()
}
