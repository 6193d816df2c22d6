//! `key_names` of a guest that runs: who gets a key gets in, who loses it does not.

use anyhow::{Result, ensure};
use weft_acceptance::{Guest, Image, KeyFile, Lab, debian, eventually, weft_tiny, within};

use crate::module::{access, image_of};

/// One instance, which `names` of two people's keys open.
fn module(image: &Image, me: &KeyFile, other: &KeyFile, names: &str, more: &str) -> String {
    let rest = format!(
        r#"
resource "weft_key_pair" "other" {{
  key_name   = "other"
  public_key = "{}"
}}

resource "weft_instance" "it" {{
  name               = "it"
  image_id           = weft_image.it.id
  instance_type      = "w1.small"
  key_names          = [{names}]
  security_group_ids = [weft_security_group.ssh.id]
  {more}
}}
"#,
        other.public
    );
    image_of("it", image, "") + &access(me) + &rest
}

const MINE: &str = "weft_key_pair.me.key_name";
const BOTH: &str = "weft_key_pair.me.key_name, weft_key_pair.other.key_name";
const THE_OTHERS: &str = "weft_key_pair.other.key_name";

/// Whether the key opens the guest, once that has come about.
fn opens(guest: &Guest<'_>, what: &str, want: bool) -> Result<()> {
    eventually(what, within(), || {
        let login = guest.try_ssh("true")?;
        let refused = login.text().contains("Permission denied");
        ensure!(login.code() == Some(0) || refused, "neither in nor refused: {}", login.text());
        Ok((login.code() == Some(0)).eq(&want).then_some(()))
    })
}

/// Everything that is promised of a guest that follows its keys.
fn follow(mut lab: Lab, image: &Image, more: &str) -> Result<()> {
    let (me, other) = (lab.key("id")?, lab.key("other")?);
    let terraform = lab.terraform()?;
    let with = |names| module(image, &me, &other, names, more);
    terraform.main(&with(MINE))?;
    terraform.apply()?;
    let state = terraform.state()?;
    let id = state.text("weft_instance.it", "id")?;
    eventually("the guest is seen to ask for its keys", within(), || {
        Ok((lab.weft_json(&["get", &id])?["live_keys"] == true).then_some(()))
    })?;
    opens(&lab.guest(&other, &state, "weft_instance.it")?, "the other is refused", false)?;

    // The plan has nothing to warn of, and the guest goes on running.
    terraform.main(&with(BOTH))?;
    let plan = terraform.plan()?;
    ensure!(!plan.text().contains("may not see other keys"), "{}", plan.text());
    terraform.apply_plan()?;
    opens(&lab.guest(&other, &state, "weft_instance.it")?, "the other gets in", true)?;
    opens(&lab.guest(&me, &state, "weft_instance.it")?, "I still get in", true)?;

    terraform.main(&with(THE_OTHERS))?;
    terraform.apply()?;
    opens(&lab.guest(&me, &state, "weft_instance.it")?, "I am refused", false)?;
    opens(&lab.guest(&other, &state, "weft_instance.it")?, "the other still gets in", true)?;

    // While nobody answers, the last answer counts; the next agent is asked again.
    lab.agent().kill_9()?;
    opens(&lab.guest(&other, &state, "weft_instance.it")?, "without an agent", true)?;
    opens(&lab.guest(&me, &state, "weft_instance.it")?, "nor am I let in", false)?;
    lab.start_agent()?;
    terraform.main(&with(MINE))?;
    terraform.apply()?;
    opens(&lab.guest(&other, &state, "weft_instance.it")?, "the other is refused", false)?;
    opens(&lab.guest(&me, &state, "weft_instance.it")?, "I get in again", true)?;
    let epoch = lab.weft_json(&["get", &id])?["run_epoch"].as_u64();
    ensure!(epoch == Some(1), "the guest was restarted");
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}

#[test]
fn a_guest_with_dropbear_follows_its_keys() -> Result<()> {
    let Some(lab) = Lab::linux()? else { return Ok(()) };
    follow(lab, &weft_tiny()?, "")
}

#[test]
fn a_debian_follows_its_keys() -> Result<()> {
    let Some(lab) = Lab::thorough()? else { return Ok(()) };
    follow(lab, &debian()?, "wait_for = \"cloud_init\"\n  timeouts = { create = \"9m\" }")
}
