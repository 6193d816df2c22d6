//! Something dies in the middle of an apply; the next apply ends where it should have.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use weft_acceptance::{Change, Lab, eventually, within};

use crate::module::{image, many};

const MANY: usize = 30;

/// One at a time, so that there is a middle.
const APPLY: [&str; 5] = ["apply", "-auto-approve", "-input=false", "-no-color", "-parallelism=1"];

fn wait_for_instances(lab: &Lab, at_least: usize) -> Result<()> {
    eventually("some instances are made", within(), || {
        Ok((lab.count("instances")? >= at_least).then_some(()))
    })
}

#[test]
fn an_agent_killed_in_an_apply_converges_with_the_next() -> Result<()> {
    let mut lab = Lab::simulated()?;
    let terraform = lab.terraform()?;
    terraform.main(&many(&lab, MANY)?)?;

    let mut apply = terraform.start(&APPLY)?;
    wait_for_instances(&lab, 3)?;
    lab.agent().kill_9()?;
    ensure!(apply.is_running()?, "the apply was over before the agent was killed");
    lab.start_agent()?;
    // Whether it gets over it by itself is its own affair.
    apply.finish(within() * 3)?;

    terraform.apply()?;
    ensure!(lab.count("instances")? == MANY, "{} instances", lab.count("instances")?);
    ensure!(lab.count("images")? == 1);
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    ensure!(lab.count("instances")? == 0);
    lab.close()
}

#[test]
fn an_agent_that_is_away_is_reported_and_back_again_all_is_well() -> Result<()> {
    let mut lab = Lab::simulated()?;
    let terraform = lab.terraform()?;
    terraform.main(&many(&lab, 3)?)?;
    terraform.apply()?;

    lab.agent().kill_9()?;
    let said = terraform.try_plan()?.failure()?.text();
    ensure!(said.contains("agent.sock"), "the endpoint is not named:\n{said}");

    lab.start_agent()?;
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}

#[test]
fn terraform_killed_in_an_apply_doubles_nothing() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?;
    terraform.main(&many(&lab, MANY)?)?;

    let mut apply = terraform.start(&APPLY)?;
    wait_for_instances(&lab, 3)?;
    ensure!(apply.is_running()?, "the apply was over before it was killed");
    apply.signal(Signal::SIGKILL)?;
    apply.finish(within())?;
    // The provider sees that its parent is gone; its session is dead then.
    eventually("the orphaned provider ends", Duration::from_secs(30), || {
        let orphans = lab.processes().into_iter();
        let left = orphans.filter(|p| p.command.contains("terraform-provider-weft")).count();
        Ok((left == 0).then_some(()))
    })?;
    // What it made is nobody's; an operator may look for it and remove some of it by hand.
    let unclaimed = lab.weft_json(&["ls", "--unclaimed"])?;
    let of_kind = |kind: &str| {
        let all = unclaimed.as_array().into_iter().flatten();
        all.filter(|orphan| orphan["kind"] == kind).cloned().collect::<Vec<_>>()
    };
    ensure!(of_kind("image").len() == 1, "the image is not unclaimed: {unclaimed}");
    let instances = of_kind("instance");
    ensure!(instances.len() >= 3, "not all instances are unclaimed: {unclaimed}");
    let id = instances[0]["id"].as_str().unwrap_or_default();
    lab.weft(&["rm", id])?.success()?;

    terraform.apply()?;
    ensure!(lab.count("instances")? == MANY, "{} instances", lab.count("instances")?);
    ensure!(lab.count("images")? == 1, "{} images", lab.count("images")?);
    let unclaimed = lab.weft_json(&["ls", "--unclaimed"])?;
    ensure!(unclaimed == serde_json::json!([]), "after the apply there is {unclaimed}");
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    ensure!(lab.count("instances")? == 0);
    lab.close()
}

/// Its SSH never answers: the simulated host looks at the name.
const NEVER_READY: &str = "it-sim-no-ssh";

/// An image and one instance whose creation waits for SSH.
fn waiting(lab: &Lab, name: &str) -> Result<String> {
    Ok(image(lab)?
        + &format!(
            r#"
resource "weft_instance" "it" {{
  name          = "{name}"
  image_id      = weft_image.it.id
  instance_type = "w1.nano"
  wait_for      = "ssh"
}}
"#
        ))
}

/// Interrupts an apply as Ctrl-C does, in the middle of the instance's creation.
fn interrupt_a_create(lab: &Lab) -> Result<weft_acceptance::Terraform> {
    let terraform = lab.terraform()?;
    terraform.main(&waiting(lab, NEVER_READY)?)?;
    let mut apply = terraform.start_apply()?;
    wait_for_instances(lab, 1)?;
    let id = lab.weft_json(&["ls"])?[0]["id"].as_str().unwrap_or_default().to_owned();
    lab.wait_for_state(&id, "running")?;
    ensure!(apply.is_running()?, "the create did not wait");
    apply.signal_group(Signal::SIGINT)?;
    let said = apply.finish(within())?.failure()?;
    ensure!(
        !said.text().contains("plugin did not respond"),
        "the provider was killed:\n{}",
        said.text()
    );
    let state = terraform.state()?;
    ensure!(state.text("weft_instance.it", "id")? == id, "another instance is in the state");
    ensure!(state.is_tainted("weft_instance.it"), "it is not tainted:\n{}", said.text());
    Ok(terraform)
}

#[test]
fn ctrl_c_in_a_create_leaves_it_tainted_and_the_next_apply_cleans_up() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = interrupt_a_create(&lab)?;

    terraform.main(&waiting(&lab, "it")?)?;
    ensure!(terraform.plan()?.change("weft_instance.it") == Change::Replace);
    terraform.apply_plan()?;
    ensure!(lab.count("instances")? == 1);
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}

#[test]
fn ctrl_c_in_a_create_leaves_it_tainted_and_a_destroy_cleans_up() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = interrupt_a_create(&lab)?;
    terraform.destroy()?;
    ensure!(lab.count("instances")? == 0);
    lab.close()
}
