//! Two VPCs with the same range, the same address in each, and a machine beyond the host.

use anyhow::{Result, ensure};
use weft_acceptance::{Lab, within};

use crate::beyond::{HOST, OFFICE, office, serve};
use crate::module::{access, image};

const RANGE: &str = "10.0.0.0/16";

/// A VPC, its subnet, and a guest in its default group.
fn vpc(name: &str) -> String {
    format!(
        r#"
resource "weft_vpc" "{name}" {{
  name       = "{name}"
  cidr_block = "{RANGE}"
}}

resource "weft_subnet" "{name}" {{
  name       = "{name}"
  vpc_id     = weft_vpc.{name}.id
  cidr_block = cidrsubnet(weft_vpc.{name}.cidr_block, 8, 1)
}}

resource "weft_instance" "{name}" {{
  name          = "{name}"
  image_id      = weft_image.tiny.id
  instance_type = "w1.nano"
  subnet_id     = weft_subnet.{name}.id
  key_names     = [weft_key_pair.me.key_name]
}}
"#
    )
}

#[test]
fn vpcs_with_the_same_range_keep_apart_and_both_have_a_way_out() -> Result<()> {
    let Some(lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let private = key.private.to_string_lossy().into_owned();
    let terraform = lab.terraform()?;
    terraform.main(&(image("")? + &access(&key) + &vpc("a") + &vpc("b")))?;
    // Both have answered on SSH, asked from inside of their own VPC.
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    let state = terraform.state()?;
    let address = |name: &str| state.text(&format!("weft_instance.{name}"), "private_ip");
    ensure!(address("a")? == "10.0.1.4" && address("b")? == "10.0.1.4");

    let office = office(&lab)?;
    let who = serve(&office, format!("{OFFICE}:8080").parse()?)?;
    for name in ["a", "b"] {
        let inside = |command: &str| {
            let said = lab.weft(&["ssh", "-i", &private, name, "--", command])?.success()?;
            anyhow::Ok(said.stdout.trim().to_owned())
        };
        ensure!(inside("hostname")? == name, "the same address led to the other VPC's guest");
        let resolver = inside("cat /etc/resolv.conf")?;
        let own = "nameserver 169.254.169.253\nsearch default.weft.internal";
        ensure!(resolver == own, "not the VPC's own: {resolver}");
        let got = inside(&format!("timeout 10 wget -q -O - http://{OFFICE}:8080/"))?;
        ensure!(got == "hello", "{name} got {got:?} from beyond the host");
        let peer = who.recv_timeout(within())?;
        ensure!(peer.ip().to_string() == HOST, "{name} came as {peer}, not as the host");
    }

    terraform.destroy()?;
    ensure!(lab.hypervisors().is_empty(), "{:?}", lab.hypervisors());
    ensure!(lab.count("vpcs")? == 1, "only the default VPC is left");
    let links = lab.outside()?.output(&["ip", "-br", "link"])?;
    let uplinks =
        links.lines().filter(|line| line.contains("veth") || line.contains("@if")).count();
    ensure!(uplinks == 2, "more than the office's link and the default VPC's:\n{links}");
    lab.outside()?.output(&["ip", "link", "delete", "office"])?;
    lab.close()
}
