//! The agent dies while a guest is in use.

use anyhow::{Result, ensure};
use weft_acceptance::Lab;

use crate::module::{access, image, instance};

#[test]
fn a_session_survives_the_agent_and_the_next_agent_adopts_the_guest() -> Result<()> {
    let Some(mut lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    terraform.main(&(image("")? + &access(&key) + &instance("it", "")))?;
    terraform.apply()?;
    let state = terraform.state()?;
    let id = state.text("weft_instance.it", "id")?;
    let before = lab.weft_json(&["get", &id])?;
    let hypervisors = lab.hypervisors();
    ensure!(hypervisors.len() == 1, "{hypervisors:?}");
    let mut session = lab.guest(&key, &state, "weft_instance.it")?.open_session()?;

    lab.agent().kill_9()?;
    session.echo("the agent is dead")?;

    lab.start_agent()?;
    session.echo("long live the agent")?;
    let after = lab.wait_for_state(&id, "running")?;
    for what in ["run_epoch", "launched_at", "phases"] {
        ensure!(before[what] == after[what], "{what}: {} became {}", before[what], after[what]);
    }
    ensure!(lab.hypervisors() == hypervisors, "not the same process: {:?}", lab.hypervisors());
    terraform.assert_plan_is_empty()?;
    session.echo("and still")?;

    // The new agent is in charge: its stop reaches the adopted guest.
    drop(session);
    lab.weft(&["stop", &id])?.success()?;
    lab.wait_for_state(&id, "stopped")?;
    lab.weft(&["start", &id])?.success()?;
    lab.wait_for_state(&id, "running")?;

    terraform.destroy()?;
    lab.assert_instance_is_gone(&id, &state.text("weft_instance.it", "private_ip")?)?;
    lab.close()
}

#[test]
fn an_agent_killed_in_an_apply_converges_with_the_next() -> Result<()> {
    let Some(mut lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    terraform.main(&(image("")? + &access(&key) + &instance("it", "")))?;

    let apply = terraform.start_apply()?;
    weft_acceptance::eventually("a hypervisor runs", weft_acceptance::within(), || {
        Ok((!lab.hypervisors().is_empty()).then_some(()))
    })?;
    lab.agent().kill_9()?;
    lab.start_agent()?;
    apply.finish(weft_acceptance::within() * 3)?;

    terraform.apply()?;
    ensure!(lab.count("instances")? == 1 && lab.hypervisors().len() == 1);
    let state = terraform.state()?;
    ensure!(lab.guest(&key, &state, "weft_instance.it")?.ssh("hostname")?.trim() == "it");
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}
