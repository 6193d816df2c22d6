//! A guest that sleeps, is reset, and panics; its owner has said what is to become of it.

use anyhow::{Result, ensure};
use weft_acceptance::{Change, Lab};

use crate::module::{access, another_boot, boot_id, image, instance};

#[test]
fn a_guest_sleeps_and_is_reset_and_panics_and_is_there_again_each_time() -> Result<()> {
    let Some(lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    let with =
        |more: &str| Ok::<_, anyhow::Error>(image("")? + &access(&key) + &instance("it", more));
    let owned = "auto_restart = \"on_failure\"\n  termination_protection = true";
    terraform.main(&with(owned)?)?;
    terraform.apply()?;
    let guest = lab.guest(&key, &terraform.state()?, "weft_instance.it")?;
    let first = boot_id(&guest)?;

    // Its memory outlives its hypervisor.
    lab.weft(&["hibernate", "it"])?.success()?;
    let asleep = lab.weft_json(&["get", "it"])?;
    ensure!(asleep["state"] == "stopped", "{asleep}");
    let reason = asleep["reason"].as_str().unwrap_or_default();
    ensure!(reason.starts_with("hibernated"), "the reason is {reason:?}");
    ensure!(lab.hypervisors().is_empty(), "{:?}", lab.hypervisors());
    let plan = terraform.plan()?;
    ensure!(plan.change("weft_instance.it") == Change::Update, "{}", plan.text());
    terraform.apply_plan()?;
    ensure!(boot_id(&guest)? == first, "it booted instead of going on");
    terraform.assert_plan_is_empty()?;

    // A reset asks nobody, and is no launch.
    let before = lab.weft_json(&["get", "it"])?;
    lab.weft(&["reset", "it"])?.success()?;
    let second = another_boot(&guest, &first)?;
    let after = lab.weft_json(&["get", "it"])?;
    for same in ["run_epoch", "launched_at"] {
        ensure!(before[same] == after[same], "{same}: {} and {}", before[same], after[same]);
    }

    // A panic is seen, told, and the guest is started again.
    guest.ssh("sudo sh -c '(sleep 3; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &'")?;
    let third = another_boot(&guest, &second)?;
    ensure!(third != first, "an old memory was read back");
    let again = lab.wait_for_state(after["id"].as_str().unwrap_or_default(), "running")?;
    ensure!(again["run_epoch"].as_u64() > after["run_epoch"].as_u64(), "{again}");
    let events = lab.weft(&["events"])?.success()?.stdout;
    for told in ["the guest's kernel panicked", "started again as launch"] {
        ensure!(events.contains(told), "\"{told}\" is in no event:\n{events}");
    }
    let logs = lab.weft(&["logs", "it"])?.success()?.stdout;
    ensure!(logs.contains("Kernel panic"), "the console's log:\n{logs}");

    // Nobody removes it before its protection is off.
    let refused = lab.weft(&["rm", "it"])?;
    ensure!(
        refused.code() != Some(0) && refused.text().contains("protected"),
        "{}",
        refused.text()
    );
    let refused = terraform.run(&["destroy", "-auto-approve"])?;
    ensure!(refused.code() != Some(0), "a protected instance was destroyed");
    ensure!(refused.text().contains("protected from termination"), "{}", refused.text());
    ensure!(boot_id(&guest)? == third);
    terraform.main(&with("termination_protection = false")?)?;
    terraform.apply()?;
    terraform.destroy()?;
    ensure!(lab.hypervisors().is_empty());
    lab.close()
}
