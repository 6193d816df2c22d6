//! The example 07-lifecycle: a machine is stopped, started, resized, and comes back by itself; what is on
//! its disk stays, and it stays until its protection is off.

use anyhow::{Result, ensure};
use weft_acceptance::{Change, Lab, Terraform};

use crate::module::{another_boot, boot_id, example};

const MACHINE: &str = "weft_instance.machine";

/// What `-var` would say.
fn say(terraform: &Terraform, variables: &str) -> Result<()> {
    terraform.write("more.auto.tfvars", variables)
}

#[test]
fn a_machine_is_stopped_resized_and_back_by_itself_with_what_is_on_its_disk() -> Result<()> {
    let Some(lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    example(&terraform, "07-lifecycle", &key)?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    let state = terraform.state()?;
    let (guest, id) = (lab.guest(&key, &state, MACHINE)?, state.text(MACHINE, "id")?);
    guest.ssh("echo kept > kept && sync")?;
    let first = boot_id(&guest)?;
    let memory = || -> Result<u64> {
        Ok(guest.ssh("awk '/MemTotal/ { print $2 }' /proc/meminfo")?.trim().parse()?)
    };
    let small = memory()?;

    // Stopped: nothing computes, the plan is content, and the same machine starts again.
    say(&terraform, "power_state = \"stopped\"\n")?;
    ensure!(terraform.plan()?.change(MACHINE) == Change::Update);
    terraform.apply_plan()?;
    ensure!(lab.hypervisors().is_empty(), "{:?}", lab.hypervisors());
    ensure!(lab.weft_json(&["get", &id])?["state"] == "stopped");
    terraform.assert_plan_is_empty()?;
    say(&terraform, "")?;
    terraform.apply()?;
    ensure!(terraform.state()?.text(MACHINE, "id")? == id);
    let second = boot_id(&guest)?;
    ensure!(second != first, "it was not off");
    ensure!(guest.ssh("cat kept")?.trim() == "kept");

    // Resized, by a restart that the plan warns of.
    say(&terraform, "instance_type = \"w1.micro\"\n")?;
    let plan = terraform.plan()?;
    ensure!(
        plan.change(MACHINE) == Change::Update && plan.text().contains("restart"),
        "{}",
        plan.text()
    );
    terraform.apply_plan()?;
    terraform.assert_plan_is_empty()?;
    ensure!(memory()? > small * 3 / 2, "{} KiB, and {small} before", memory()?);
    ensure!(guest.ssh("cat kept")?.trim() == "kept");

    // What would make another machine is refused.
    terraform.write("override.tf", "resource \"weft_instance\" \"machine\" {\n  user_data = \"x\"\n  user_data_replace_on_change = true\n}\n")?;
    let refused = terraform.try_plan()?;
    ensure!(
        refused.code() == Some(1) && refused.text().contains("apply_policy"),
        "{}",
        refused.text()
    );
    std::fs::remove_file(terraform.directory().join("override.tf"))?;

    // A guest that powers itself off comes back by itself.
    let before = boot_id(&guest)?;
    guest.ssh("sudo sh -c '(sleep 1; poweroff) >/dev/null 2>&1 &'")?;
    another_boot(&guest, &before)?;
    ensure!(guest.ssh("cat kept")?.trim() == "kept");
    lab.wait_for_state(&id, "running")?;
    terraform.assert_plan_is_empty()?;

    let refused = terraform.run(&["destroy", "-auto-approve", "-no-color"])?;
    ensure!(
        refused.code() == Some(1) && refused.text().contains("protected from termination"),
        "{}",
        refused.text()
    );
    say(&terraform, "instance_type = \"w1.micro\"\nprotected = false\n")?;
    terraform.apply()?;
    terraform.destroy()?;
    lab.close()
}
