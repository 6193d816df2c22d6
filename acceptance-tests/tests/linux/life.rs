//! The main job, end to end.

use anyhow::{Result, ensure};
use weft_acceptance::{Change, Lab};

use crate::module::{access, image, instance};

/// Port 8080 of the group's members, for `from`.
fn web_rule(from: &str) -> String {
    format!(
        r#"
resource "weft_security_group_ingress_rule" "web" {{
  security_group_id = weft_security_group.ssh.id
  ip_protocol       = "tcp"
  from_port         = 8080
  to_port           = 8080
  {from}
}}
"#
    )
}

#[test]
fn instances_are_made_used_changed_stopped_imported_and_removed() -> Result<()> {
    let Some(lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    let base = image("")? + &access(&key) + &instance("web", "") + &instance("client", "");
    terraform.main(&base)?;

    // Created, and exactly as planned.
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    let state = terraform.state()?;
    let web = lab.guest(&key, &state, "weft_instance.web")?;
    let client = lab.guest(&key, &state, "weft_instance.client")?;

    // The key lets in, the host key is the one that Terraform knows.
    ensure!(web.ssh("hostname")?.trim() == "web");
    ensure!(client.ssh("hostname")?.trim() == "client");
    let stranger = lab.key("stranger")?;
    let refused = lab.guest(&stranger, &state, "weft_instance.web")?.try_ssh("true")?;
    ensure!(refused.code() == Some(255), "a stranger's key was let in");

    // A port is closed until a rule opens it, and closed again after.
    web.serve(8080, "hello")?;
    ensure!(!web.is_open_from_outside(8080)?, "open from outside without a rule");
    ensure!(!client.reaches(web.address, 8080)?, "open to the neighbour without a rule");

    terraform.main(&(base.clone() + &web_rule("cidr_ipv4 = \"0.0.0.0/0\"")))?;
    let plan = terraform.plan()?;
    ensure!(plan.change("weft_instance.web") == Change::Nothing, "{}", plan.text());
    terraform.apply_plan()?;
    web.wait_from_outside(8080, true)?;
    ensure!(client.reaches(web.address, 8080)?, "closed to the neighbour with a rule");

    let only_members = "referenced_security_group_id = weft_security_group.ssh.id";
    terraform.main(&(base.clone() + &web_rule(only_members)))?;
    ensure!(
        terraform.plan()?.change("weft_security_group_ingress_rule.web") == Change::Update,
        "a rule's source changes live"
    );
    terraform.apply_plan()?;
    web.wait_from_outside(8080, false)?;
    ensure!(client.reaches(web.address, 8080)?, "closed to a member of the group");

    terraform.main(&base)?;
    terraform.apply()?;
    ensure!(!client.reaches(web.address, 8080)?, "still open after the rule was removed");
    ensure!(!web.is_open_from_outside(8080)?);

    // Stopped and started by power_state; its disk and its identity stay.
    web.ssh("echo kept >note && sync")?;
    let id = state.text("weft_instance.web", "id")?;
    let stopped = image("")?
        + &access(&key)
        + &instance("web", "power_state = \"stopped\"")
        + &instance("client", "");
    terraform.main(&stopped)?;
    terraform.apply()?;
    ensure!(lab.weft_json(&["get", &id])?["state"] == "stopped");
    terraform.assert_plan_is_empty()?;
    ensure!(web.try_ssh("true")?.code() == Some(255), "a stopped guest answers");
    ensure!(lab.hypervisors().len() == 1, "{:?}", lab.hypervisors());
    ensure!(client.ssh("hostname")?.trim() == "client", "the neighbour was stopped too");

    terraform.main(&base)?;
    terraform.apply()?;
    ensure!(web.ssh("cat note")?.trim() == "kept", "the disk was not kept");
    let again = terraform.state()?;
    ensure!(again.text("weft_instance.web", "id")? == id);
    for attribute in ["private_ip", "mac_address", "known_hosts_line"] {
        let (before, after) = (
            state.text("weft_instance.web", attribute)?,
            again.text("weft_instance.web", attribute)?,
        );
        ensure!(before == after, "{attribute} changed from {before} to {after}");
    }
    terraform.assert_plan_is_empty()?;

    // Forgotten by Terraform and imported: nothing to do.
    let everything = terraform.state()?.addresses();
    for address in &everything {
        terraform.forget_and_import(address)?;
    }
    terraform.assert_plan_is_empty()?;
    ensure!(web.ssh("cat note")?.trim() == "kept");

    // Removed, and seen to be gone.
    let gone = [
        (id, web.address.to_string()),
        (again.text("weft_instance.client", "id")?, client.address.to_string()),
    ];
    terraform.destroy()?;
    for (id, address) in &gone {
        lab.assert_instance_is_gone(id, address)?;
    }
    ensure!(lab.hypervisors().is_empty());
    lab.close()
}
