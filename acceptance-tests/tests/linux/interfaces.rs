//! A second network interface for a guest that runs: plugged in, used, and taken away again.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use weft_acceptance::{Guest, Lab, eventually, within};

use crate::module::{access, image, instance};

/// The router of the default subnet.
const ROUTER: &str = "172.31.0.1";
const SILENCE: Duration = Duration::from_secs(2);

/// An interface whose group lets port 80 in, and nothing else.
fn interface() -> &'static str {
    r#"
resource "weft_security_group" "back" {
  name = "back"
}

resource "weft_security_group_ingress_rule" "back" {
  security_group_id = weft_security_group.back.id
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
  cidr_ipv4         = "0.0.0.0/0"
}

resource "weft_network_interface" "back" {
  name               = "back"
  security_group_ids = [weft_security_group.back.id]
}
"#
}

fn attachment() -> &'static str {
    r#"
resource "weft_network_interface_attachment" "back" {
  instance_id          = weft_instance.it.id
  network_interface_id = weft_network_interface.back.id
}
"#
}

/// The link with this MAC, once the guest has one.
fn link_of(guest: &Guest<'_>, mac: &str) -> Result<Option<String>> {
    let find = format!("grep -l {mac} /sys/class/net/*/address || true");
    let found = guest.ssh(&find)?;
    Ok(found.trim().split('/').nth(4).map(str::to_owned))
}

#[test]
fn a_running_guest_gets_an_interface_uses_it_and_loses_it() -> Result<()> {
    let Some(lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    let without = image("")? + &access(&key) + &instance("it", "") + interface();
    terraform.main(&without)?;
    terraform.apply()?;
    let state = terraform.state()?;
    let guest = lab.guest(&key, &state, "weft_instance.it")?;
    let mac = state.text("weft_network_interface.back", "mac_address")?;
    let address = state.text("weft_network_interface.back", "private_ip")?;
    ensure!(link_of(&guest, &mac)?.is_none(), "not attached yet");

    terraform.main(&(without.clone() + attachment()))?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    let link = eventually("the guest to see its interface", within(), || link_of(&guest, &mac))?;
    // What it sends from its second address leaves by its second link.
    guest.ssh(&format!(
        "sudo ip addr add {address}/32 dev {link} && sudo ip link set {link} up && \
         sudo ip route add {ROUTER} dev {link} table 2 && \
         sudo ip route add default via {ROUTER} dev {link} table 2 && \
         sudo ip rule add from {address} table 2"
    ))?;
    guest.ssh(
        "mkdir -p /tmp/www && echo hello >/tmp/www/index.html && \
         sudo httpd -p 80 -h /tmp/www",
    )?;
    let is_open = |port: u16| -> Result<bool> {
        let to = SocketAddr::new(address.parse()?, port);
        Ok(lab.outside()?.connect(to, SILENCE)?.is_ok())
    };
    ensure!(is_open(80)?, "the second interface's group lets port 80 in");
    ensure!(!is_open(22)?, "and no login");
    ensure!(!guest.is_open_from_outside(80)?, "the first interface's group is another");
    ensure!(guest.is_open_from_outside(22)?);

    terraform.main(&without)?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    eventually("the guest to lose its interface", within(), || {
        Ok(link_of(&guest, &mac)?.is_none().then_some(()))
    })?;
    ensure!(!is_open(80)?, "nothing is behind the address any more");

    // Once more, and with the guest's whole life: everything goes at once.
    terraform.main(&(without + attachment()))?;
    terraform.apply()?;
    eventually("the guest to see its interface again", within(), || link_of(&guest, &mac))?;
    terraform.destroy()?;
    lab.close()
}
