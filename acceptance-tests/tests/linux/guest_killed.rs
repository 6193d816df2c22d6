//! A guest's process is ended from outside.

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weft_acceptance::{Change, Lab, eventually, within};

use crate::module::{access, image, instance};

#[test]
fn a_killed_hypervisor_is_reported_and_the_next_apply_starts_it_again() -> Result<()> {
    let Some(lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    terraform.main(&(image("")? + &access(&key) + &instance("it", "")))?;
    terraform.apply()?;
    let state = terraform.state()?;
    let id = state.text("weft_instance.it", "id")?;

    for hypervisor in lab.hypervisors() {
        kill(Pid::from_raw(hypervisor.pid), Signal::SIGKILL)?;
    }
    let settled = eventually("the agent notices", within(), || {
        let instance = lab.weft_json(&["get", &id])?;
        let state = instance["state"].as_str().unwrap_or_default().to_owned();
        Ok((state == "failed" || state == "stopped").then_some(instance))
    })?;
    let reason = settled["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("signal 9") || reason.contains("killed"), "the reason is {reason:?}");

    let plan = terraform.plan()?;
    ensure!(plan.change("weft_instance.it") == Change::Update, "{}", plan.text());
    ensure!(
        plain(plan.text()).contains(&plain(reason)),
        "the plan does not say {reason:?}:\n{}",
        plan.text()
    );

    terraform.apply_plan()?;
    let guest = lab.guest(&key, &terraform.state()?, "weft_instance.it")?;
    ensure!(guest.ssh("hostname")?.trim() == "it");
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}

/// Without what depends on a line's width and a sentence's beginning.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}
