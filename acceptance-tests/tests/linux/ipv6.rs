//! Two guests of a dual-stack VPC, under security groups.

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::Lab;

use crate::module::{access, image};

fn network() -> &'static str {
    r#"
resource "weft_vpc" "six" {
  name            = "six"
  cidr_block      = "10.6.0.0/16"
  ipv6_cidr_block = "fd12:3456:789a::/56"
}

resource "weft_subnet" "six" {
  name            = "six"
  vpc_id          = weft_vpc.six.id
  cidr_block      = cidrsubnet(weft_vpc.six.cidr_block, 8, 0)
  ipv6_cidr_block = cidrsubnet(weft_vpc.six.ipv6_cidr_block, 8, 7)
}

resource "weft_security_group" "web" {
  name   = "web"
  vpc_id = weft_vpc.six.id
}

resource "weft_security_group" "client" {
  name   = "client"
  vpc_id = weft_vpc.six.id
}
"#
}

fn rule(port: u16) -> String {
    format!(
        r#"
resource "weft_security_group_ingress_rule" "web" {{
  security_group_id            = weft_security_group.web.id
  ip_protocol                  = "tcp"
  from_port                    = {port}
  to_port                      = {port}
  referenced_security_group_id = weft_security_group.client.id
}}
"#
    )
}

fn guest(name: &str) -> String {
    format!(
        r#"
resource "weft_instance" "{name}" {{
  name               = "{name}"
  image_id           = weft_image.tiny.id
  instance_type      = "w1.nano"
  subnet_id          = weft_subnet.six.id
  security_group_ids = [weft_security_group.{name}.id]
  key_names          = [weft_key_pair.me.key_name]
}}
"#
    )
}

#[test]
fn guests_reach_each_other_over_ipv6_where_their_groups_say_so() -> Result<()> {
    let Some(lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let private = key.private.to_string_lossy().into_owned();
    let terraform = lab.terraform()?;
    let all = image("")? + &access(&key) + network() + &guest("web") + &guest("client");
    terraform.main(&(all.clone() + &rule(81)))?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    let state = terraform.state()?;
    let inside = |name: &str, command: &str| {
        let said = lab.weft(&["ssh", "-i", &private, name, "--", command])?;
        anyhow::Ok(said)
    };
    let mut addresses = Vec::new();
    for name in ["web", "client"] {
        let listed = state.attribute(&format!("weft_instance.{name}"), "ipv6_addresses")?;
        let address = listed[0].as_str().context("no IPv6 address")?.to_owned();
        ensure!(address.starts_with("fd12:3456:789a:7:"), "{address}");
        // weft-tiny knows IPv4 only; cloud-init would do the same from the seed.
        let configure = format!(
            "sudo ip -6 addr add {address}/128 dev eth0 nodad; \
             sudo ip -6 route replace default via fe80::1 dev eth0"
        );
        inside(name, &configure)?.success()?;
        addresses.push(address);
    }
    let web = &addresses[0];
    inside("web", "echo hello > /tmp/index.html; sudo httpd -p '[::]:80' -h /tmp")?.success()?;
    let get = format!("timeout 10 wget -q -O - 'http://[{web}]:80/'");
    ensure!(inside("client", &get)?.success().is_err(), "the rule is for another port");
    terraform.main(&(all + &rule(80)))?;
    terraform.apply()?;
    let got = inside("client", &get)?.success()?.stdout;
    ensure!(got.trim() == "hello", "the client got {got:?}");
    terraform.destroy()?;
    lab.close()
}
