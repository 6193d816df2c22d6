//! The agent aborted once at each crash point of create, update and destroy, with a real guest.
//! Only in `make accept`: some minutes. The simulated host has the same in `make test`, but for the
//! points within steps: bridges, pairs and ports are made here only.

use anyhow::Result;
use weft_acceptance::{CrashStory, Lab, Machine};

use crate::module::{access, image};

#[test]
fn an_agent_that_dies_at_each_point_converges_with_a_real_guest() -> Result<()> {
    let Some(lab) = Lab::thorough()? else { return Ok(()) };
    let base = image("")? + &access(&lab.key("id")?);
    let instance = |kind: &str| {
        format!(
            r#"
resource "weft_instance" "it" {{
  name               = "it"
  image_id           = weft_image.tiny.id
  instance_type      = "{kind}"
  key_names          = [weft_key_pair.me.key_name]
  security_group_ids = [weft_security_group.ssh.id]
  wait_for           = "running"
}}
"#
        )
    };
    let (created, updated) = (base.clone() + &instance("w1.nano"), base + &instance("w1.micro"));
    let scene = Machine::new(created, updated);
    let Some(story) = CrashStory::new(lab, scene)? else { return Ok(()) };
    story.tell(1)?.close()
}

#[test]
fn an_agent_that_dies_while_a_guest_grows_goes_on_from_there() -> Result<()> {
    let Some(lab) = Lab::thorough()? else { return Ok(()) };
    let base = image("")? + &access(&lab.key("id")?);
    // What would be a restart is refused: the guest grows, whatever dies.
    let instance = |vcpus: u32, memory_mib: u32| {
        format!(
            r#"
resource "weft_instance" "it" {{
  name               = "it"
  image_id           = weft_image.tiny.id
  vcpus              = {vcpus}
  memory_mib         = {memory_mib}
  max_vcpus          = 3
  max_memory_mib     = 1024
  key_names          = [weft_key_pair.me.key_name]
  security_group_ids = [weft_security_group.ssh.id]
  apply_policy       = "live_only"
}}
"#
        )
    };
    let (created, updated) = (base.clone() + &instance(1, 256), base + &instance(3, 512));
    let Some(story) = CrashStory::new(lab, Machine::new(created, updated))? else { return Ok(()) };
    let meant = &["host.raise_limits", "host.add_", "guest.add_"];
    story.only(meant).tell(1)?.close()
}

#[test]
fn an_agent_that_dies_while_it_makes_a_bridge_converges_with_a_real_guest() -> Result<()> {
    let Some(lab) = Lab::thorough()? else { return Ok(()) };
    let host = lab.outside()?;
    host.output(&["ip", "link", "add", "br0", "type", "bridge"])?;
    host.output(&["ip", "link", "set", "br0", "up"])?;
    let created = image("")?
        + r#"
resource "weft_vpc" "office" {
  name        = "office"
  cidr_block  = "192.168.1.0/24"
  mode        = "bridge"
  bridge_name = "br0"
}

resource "weft_subnet" "office" {
  name       = "office"
  vpc_id     = weft_vpc.office.id
  cidr_block = "192.168.1.128/25"
  gateway_ip = "192.168.1.1"
}

resource "weft_instance" "it" {
  name          = "it"
  image_id      = weft_image.tiny.id
  instance_type = "w1.nano"
  subnet_id     = weft_subnet.office.id
  wait_for      = "running"
}
"#;
    let updated = created.replace("w1.nano", "w1.micro");
    let scene = Machine::new(created, updated);
    let Some(story) = CrashStory::new(lab, scene)? else { return Ok(()) };
    let meant = &["bridge.", "pair.", "port.", "tap.", "host.set_bridge", "host.join_bridge"];
    let lab = story.only(meant).tell(1)?;
    // The operator's own.
    lab.outside()?.output(&["ip", "link", "del", "br0"])?;
    lab.close()
}
