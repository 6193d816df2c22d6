//! The agent aborted once at each crash point of create, update and destroy, with a real guest.
//! Only in `make accept`: some minutes. The simulated host has the same in `make test`.

use anyhow::Result;
use weft_acceptance::{CrashStory, Lab};

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
    let Some(story) = CrashStory::new(lab, created, updated)? else { return Ok(()) };
    story.tell(1)
}
