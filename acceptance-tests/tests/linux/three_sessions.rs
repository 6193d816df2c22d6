//! The agent dies while three people are logged in.

use anyhow::{Result, ensure};
use weft_acceptance::{Lab, Session};

use crate::module::{access, image, instance};

const NAMES: [&str; 3] = ["one", "two", "three"];

#[test]
fn three_sessions_survive_a_killed_agent_and_the_next_adopts_all_three_guests() -> Result<()> {
    let Some(mut lab) = Lab::thorough()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    let instances: String = NAMES.iter().map(|name| instance(name, "")).collect();
    terraform.main(&(image("")? + &access(&key) + &instances))?;
    terraform.apply()?;
    let state = terraform.state()?;
    let hypervisors = lab.hypervisors();
    ensure!(hypervisors.len() == NAMES.len(), "{hypervisors:?}");
    let before = told_of_all(&lab)?;
    let mut sessions = Vec::new();
    for name in NAMES {
        let guest = lab.guest(&key, &state, &format!("weft_instance.{name}"))?;
        ensure!(guest.ssh("hostname")?.trim() == name);
        sessions.push(guest.open_session()?);
    }

    lab.agent().kill_9()?;
    echo(&mut sessions, "the agent is dead")?;
    lab.start_agent()?;
    echo(&mut sessions, "long live the agent")?;

    for name in NAMES {
        lab.wait_for_state(&state.text(&format!("weft_instance.{name}"), "id")?, "running")?;
    }
    ensure!(told_of_all(&lab)? == before, "launched again: {before:?}, {:?}", told_of_all(&lab)?);
    ensure!(lab.hypervisors() == hypervisors, "not the same: {:?}", lab.hypervisors());
    terraform.assert_plan_is_empty()?;
    echo(&mut sessions, "and still")?;

    drop(sessions);
    terraform.destroy()?;
    ensure!(lab.hypervisors().is_empty(), "{:?}", lab.hypervisors());
    lab.close()
}

/// What would differ if a guest had been started again.
fn told_of_all(lab: &Lab) -> Result<Vec<String>> {
    let told = NAMES.iter().map(|name| {
        let instance = lab.weft_json(&["get", name])?;
        Ok(format!("{} {} {}", instance["run_epoch"], instance["launched_at"], instance["phases"]))
    });
    told.collect()
}

fn echo(sessions: &mut [Session], line: &str) -> Result<()> {
    sessions.iter_mut().try_for_each(|session| session.echo(line))
}
