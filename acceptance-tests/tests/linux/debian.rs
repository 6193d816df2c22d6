//! A full Debian with the cloud-init that the distribution ships, as a person would run it.

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use weft_acceptance::{
    Change, Guest, Image, KeyFile, Lab, Terraform, debian, debian_ec2, eventually, within,
};

use crate::module::{access, image_of};

/// Leaves a mark of both kinds of user data's usual work.
const USER_DATA: &str = "#cloud-config
write_files:
  - path: /etc/written
    content: by user data
runcmd:
  - [sh, -c, 'echo ran >/etc/ran']
";

/// cloud-init tells of a script's failure only that there was one; its output tells the rest.
const FAILING: &str = "#!/bin/sh\necho this is going wrong >&2\nexit 3\n";

/// One instance, `weft_instance.it`, that waits for cloud-init.
fn module(image: &Image, key: &KeyFile, user_data: &str) -> String {
    let instance = format!(
        r#"
resource "weft_instance" "it" {{
  name               = "it"
  image_id           = weft_image.debian.id
  instance_type      = "w1.small"
  key_names          = [weft_key_pair.me.key_name]
  security_group_ids = [weft_security_group.ssh.id]
  wait_for           = "cloud_init"
  user_data          = <<-EOT
{user_data}EOT
  timeouts           = {{ create = "9m", update = "9m" }}
}}
"#
    );
    image_of("debian", image, "") + &access(key) + &instance
}

/// Everything that is promised of a guest whose cloud-init has ended well. The host key is
/// verified by every login: nothing but `known_hosts_line` is trusted.
fn assert_all_is_well(lab: &Lab, terraform: &Terraform, key: &KeyFile, source: &str) -> Result<()> {
    let state = terraform.state()?;
    let guest = lab.guest(key, &state, "weft_instance.it")?;
    let status = cloud_init_status(&guest)?;
    ensure!(status["status"] == "done", "cloud-init says {status}");
    ensure!(
        status["detail"].as_str().is_some_and(|d| d.contains(source)),
        "not {source}: {status}"
    );
    ensure!(guest.ssh("hostname")?.trim() == "it");
    ensure!(guest.ssh("cat /etc/written /etc/ran")? == "by user dataran\n");
    ensure!(guest.ssh("sudo id -u")?.trim() == "0");
    let told = lab.weft_json(&["get", "it"])?;
    ensure!(told["cloud_init"]["outcome"] == "done", "the agent was told {}", told["cloud_init"]);
    terraform.assert_plan_is_empty()
}

fn cloud_init_status(guest: &Guest<'_>) -> Result<Value> {
    let said = guest.try_ssh("sudo cloud-init status --format json")?.stdout;
    Ok(serde_json::from_str(&said)?)
}

#[test]
fn a_stock_debian_is_configured_by_nocloud_and_comes_again_after_its_qemu_was_killed() -> Result<()>
{
    let Some(lab) = Lab::thorough()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    terraform.main(&module(&debian()?, &key, USER_DATA))?;
    terraform.apply()?;
    assert_all_is_well(&lab, &terraform, &key, "DataSourceNoCloud")?;

    let id = terraform.state()?.text("weft_instance.it", "id")?;
    let hypervisors = lab.hypervisors();
    ensure!(hypervisors.len() == 1, "{hypervisors:?}");
    kill(Pid::from_raw(hypervisors[0].pid), Signal::SIGKILL)?;
    eventually("the agent notices", within(), || {
        let state = lab.weft_json(&["get", &id])?["state"].clone();
        Ok((state == "failed" || state == "stopped").then_some(()))
    })?;
    let plan = terraform.plan()?;
    ensure!(plan.change("weft_instance.it") == Change::Update, "{}", plan.text());
    ensure!(plan.text().contains("signal 9"), "the plan does not say why:\n{}", plan.text());

    terraform.apply_plan()?;
    // The same machine: its user data did not run a second time, its keys are the same.
    assert_all_is_well(&lab, &terraform, &key, "DataSourceNoCloud")?;
    terraform.destroy()?;
    lab.close()
}

#[test]
fn a_stock_debian_is_configured_by_its_ec2_source_alone() -> Result<()> {
    let Some(lab) = Lab::thorough()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    terraform.main(&module(&debian_ec2()?, &key, USER_DATA))?;
    terraform.apply()?;
    assert_all_is_well(&lab, &terraform, &key, "DataSourceEc2")?;
    terraform.destroy()?;
    lab.close()
}

#[test]
fn what_cloud_init_says_of_failing_user_data_is_in_the_applys_error() -> Result<()> {
    let Some(lab) = Lab::thorough()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    terraform.main(&module(&debian()?, &key, FAILING))?;
    let said = terraform.try_apply()?.failure()?.text();
    let said = said.replace("│", " ").split_whitespace().collect::<Vec<_>>().join(" ");
    for what in ["scripts-user", "Runparts: 1 failures", "this is going wrong"] {
        ensure!(said.contains(what), "{what:?} is not in the error:\n{said}");
    }
    ensure!(terraform.state()?.is_tainted("weft_instance.it"));
    terraform.destroy()?;
    lab.close()
}
