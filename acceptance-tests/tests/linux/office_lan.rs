//! A guest on the LAN of an office: `examples/03-office-lan` on a host with the bridge `br0`, and
//! a namespace that plays the office.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{Change, Guest, KeyFile, Lab, NetNs, Terraform, eventually, within};

use crate::beyond::serve;
use crate::guest_tools::{dhcp, metadata, metadata_without_token};
use crate::module;

/// The LAN's router, and all of the office that there is. As the example has it.
const OFFICE: &str = "192.168.1.1";
/// The first address that the example gives out: four are kept.
const GUEST: &str = "192.168.1.132";
/// The agent's own in that range.
const AGENT: &str = "192.168.1.129";
const SILENCE: Duration = Duration::from_secs(2);

/// The office's machine, on the host's bridge `br0` with nothing in between.
pub(crate) fn office(lab: &Lab) -> Result<NetNs> {
    let (host, office) = (lab.outside()?, NetNs::new()?);
    let path = office.path();
    let name = path.file_name().and_then(|name| name.to_str()).context("a namespace's name")?;
    host.output(&["ip", "link", "add", "br0", "type", "bridge"])?;
    host.output(&["ip", "link", "add", "cable", "type", "veth", "peer", "lan", "netns", name])?;
    host.output(&["ip", "link", "set", "cable", "master", "br0", "up"])?;
    host.output(&["ip", "link", "set", "br0", "up"])?;
    office.output(&["ip", "address", "add", &format!("{OFFICE}/24"), "dev", "lan"])?;
    office.output(&["ip", "link", "set", "lan", "up"])?;
    Ok(office)
}

/// The example, and `more`.
pub(crate) fn example(terraform: &Terraform, key: &KeyFile, more: &str) -> Result<()> {
    module::example(terraform, "03-office-lan", key)?;
    terraform.write("more.tf", more)
}

/// Port 8080 of the example's group, for `from`.
fn web_rule(from: &str) -> String {
    format!(
        r#"
resource "weft_security_group_ingress_rule" "web" {{
  security_group_id = weft_security_group.desk.id
  ip_protocol       = "tcp"
  from_port         = 8080
  to_port           = 8080
  cidr_ipv4         = "{from}"
}}
"#
    )
}

/// In the example's place: a group whose members may open connections to nobody.
const NO_EGRESS: &str = r#"
resource "weft_security_group" "desk" {
  allow_all_egress = false
}
"#;

fn is_open(office: &NetNs, guest: &Guest<'_>) -> Result<bool> {
    Ok(office.connect(SocketAddr::from((guest.address, 8080)), SILENCE)?.is_ok())
}

#[test]
fn a_guest_on_a_bridge_is_a_machine_of_the_office_behind_its_groups() -> Result<()> {
    let Some(mut lab) = Lab::linux()? else { return Ok(()) };
    let office = office(&lab)?;
    let who = serve(&office, format!("{OFFICE}:8080").parse()?)?;
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    example(&terraform, &key, "")?;
    // The agent has asked it by ssh, from its own address on the LAN.
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    let state = terraform.state()?;
    let directory = lab.directory().to_owned();
    let guest = Guest::from_state(&office, &key, &directory, &state, "weft_instance.desk")?;
    ensure!(guest.address.to_string() == GUEST, "the guest has {}", guest.address);

    // From the office by plain ssh, with the host key that Terraform knows; and back, as itself.
    ensure!(guest.ssh("hostname")?.trim() == "desk");
    let get = format!("timeout 10 wget -q -O - http://{OFFICE}:8080/");
    ensure!(guest.ssh(&get)?.trim() == "hello");
    let peer = who.recv_timeout(within())?;
    ensure!(peer.ip().to_string() == GUEST, "the guest came as {peer}");

    // A group opens a port and closes it again.
    guest.serve(8080, "hi")?;
    ensure!(!is_open(&office, &guest)?, "open without a rule");
    example(&terraform, &key, &web_rule("192.168.1.1/32"))?;
    terraform.apply()?;
    eventually(
        "the rule opens the port",
        within(),
        || Ok(is_open(&office, &guest)?.then_some(())),
    )?;
    example(&terraform, &key, &web_rule("192.168.1.2/32"))?;
    let plan = terraform.plan()?;
    ensure!(plan.change("weft_instance.desk") == Change::Nothing, "{}", plan.text());
    terraform.apply_plan()?;
    ensure!(!is_open(&office, &guest)?, "open to another than the rule's source");

    // Out it goes as itself or not at all, and only as far as its group allows.
    let ping = |from: &str| format!("ping -c 1 -W 3 -I {from} {OFFICE} >/dev/null");
    ensure!(guest.try_ssh(&ping(GUEST))?.code() == Some(0), "no answer to its own ping");
    let forged = format!("sudo ip address add 192.168.1.99/24 dev eth0; {}", ping("192.168.1.99"));
    ensure!(guest.try_ssh(&forged)?.code() == Some(1), "it sent as another");
    let mut session = guest.open_session()?;
    terraform.write("more_override.tf", NO_EGRESS)?;
    terraform.apply()?;
    ensure!(guest.try_ssh(&get)?.code() != Some(0), "out without leave");
    session.echo("the groups judge new connections")?;

    // The agent's services are for its own guest, past the groups, through the bridge.
    let told = dhcp(&guest)?;
    ensure!(told == format!("{GUEST} 24 {OFFICE} {OFFICE} {AGENT}"), "DHCP told {told:?}");
    ensure!(metadata_without_token(&guest, "/latest/meta-data/")?.contains(" 401 "));
    ensure!(metadata(&guest, "/latest/meta-data/local-ipv4")? == GUEST);
    let id = state.text("weft_instance.desk", "id")?;
    ensure!(metadata(&guest, "/latest/meta-data/instance-id")? == id);

    // Nothing of it is the agent's alone: without one the LAN goes on.
    lab.agent().kill_9()?;
    session.echo("still here")?;
    ensure!(guest.ssh("hostname")?.trim() == "desk");
    lab.start_agent()?;
    terraform.assert_plan_is_empty()?;
    session.echo("and here")?;
    ensure!(metadata(&guest, "/latest/meta-data/local-ipv4")? == GUEST);

    drop(session);
    terraform.destroy()?;
    ensure!(lab.hypervisors().is_empty(), "{:?}", lab.hypervisors());
    let host = lab.outside()?;
    let ports = host.output(&["ip", "-o", "link", "show", "master", "br0"])?;
    ensure!(ports.lines().count() == 1 && ports.contains("cable"), "ports are left:\n{ports}");
    host.output(&["ip", "link", "delete", "br0"])?;
    host.output(&["ip", "link", "delete", "cable"])?;
    lab.close()
}
