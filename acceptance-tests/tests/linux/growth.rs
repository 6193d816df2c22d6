//! A guest that has room becomes bigger while it runs: its kernel takes into use what comes.

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{Change, Guest, Lab, Terraform, debian, eventually, within};

use crate::module::{access, boot_id, image, image_of};

const IT: &str = "weft_instance.it";

/// An instance of this image that may grow to 3 vCPUs and 640 MiB.
fn sized(image: &str, vcpus: u32, memory_mib: u32) -> String {
    format!(
        r#"
resource "weft_instance" "it" {{
  name               = "it"
  image_id           = weft_image.{image}.id
  vcpus              = {vcpus}
  memory_mib         = {memory_mib}
  max_vcpus          = 3
  max_memory_mib     = 640
  key_names          = [weft_key_pair.me.key_name]
  security_group_ids = [weft_security_group.ssh.id]
}}
"#
    )
}

/// Processors in use, and MiB of memory.
fn seen(guest: &Guest<'_>) -> Result<(u64, u64)> {
    let said = guest.ssh("nproc; awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo")?;
    let mut numbers = said.split_whitespace().map(str::parse);
    let mut next = || Ok::<u64, anyhow::Error>(numbers.next().context("too few numbers")??);
    Ok((next()?, next()?))
}

/// Waits until the guest has so many processors, and so much more memory than it had, in MiB: its
/// kernel takes a little of it for itself.
fn has_grown(guest: &Guest<'_>, vcpus: u64, had: u64, more: u64) -> Result<u64> {
    eventually("what was added is in use", within(), || {
        let (has, mib) = seen(guest)?;
        Ok((has == vcpus && mib + 16 >= had + more).then_some(mib))
    })
}

/// The plan changes the instance in place, and warns of no restart.
fn grow(terraform: &Terraform) -> Result<()> {
    let plan = terraform.plan()?;
    ensure!(plan.change(IT) == Change::Update, "{}", plan.text());
    ensure!(!plan.text().contains("restart"), "{}", plan.text());
    terraform.apply_plan()?;
    terraform.assert_plan_is_empty()
}

#[test]
fn a_guest_grows_while_it_runs_and_keeps_it_over_a_dead_agent_and_a_sleep() -> Result<()> {
    let Some(mut lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    let base = image("")? + &access(&key);
    let write = |vcpus, mib| terraform.main(&(base.clone() + &sized("tiny", vcpus, mib)));
    write(1, 256)?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    let state = terraform.state()?;
    let id = state.text(IT, "id")?;
    let launched = state.text(IT, "launched_at")?;
    let guest = lab.guest(&key, &state, IT)?;
    let boot = boot_id(&guest)?;
    let (vcpus, small) = seen(&guest)?;
    ensure!(vcpus == 1, "{vcpus} vCPUs");

    write(2, 512)?;
    grow(&terraform)?;
    let middle = has_grown(&guest, 2, small, 256)?;
    ensure!(boot_id(&guest)? == boot, "it was restarted");
    ensure!(terraform.state()?.text(IT, "launched_at")? == launched);
    let shown = lab.weft_json(&["get", &id])?;
    ensure!(shown["vcpus"] == 2 && shown["memory_mib"] == 512, "{shown}");

    // The next agent sees what the guest has, and adds to it.
    drop(guest);
    lab.agent().kill_9()?;
    write(3, 640)?;
    lab.start_agent()?;
    lab.wait_for_state(&id, "running")?;
    let guest = lab.guest(&key, &state, IT)?;
    grow(&terraform)?;
    has_grown(&guest, 3, middle, 128)?;
    ensure!(boot_id(&guest)? == boot, "it was restarted");

    // It sleeps with all that it has, and wakes up with it.
    lab.weft(&["hibernate", "it"])?.success()?;
    ensure!(lab.hypervisors().is_empty(), "{:?}", lab.hypervisors());
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    has_grown(&guest, 3, middle, 128)?;
    ensure!(boot_id(&guest)? == boot, "it booted instead of going on");

    // Less takes a restart, and the plan says so; the next guest is of one piece.
    write(1, 256)?;
    let plan = terraform.plan()?;
    ensure!(plan.change(IT) == Change::Update, "{}", plan.text());
    ensure!(plan.text().contains("restarts the instance"), "{}", plan.text());
    terraform.apply_plan()?;
    terraform.assert_plan_is_empty()?;
    ensure!(boot_id(&guest)? != boot, "it was not restarted");
    let (vcpus, again) = seen(&guest)?;
    ensure!(vcpus == 1 && again == small, "{vcpus} vCPUs and {again} MiB, {small} before");

    // More than it has room for.
    write(4, 256)?;
    let refused = terraform.try_plan()?;
    let told = "max_vcpus (3) is less than vcpus (4)";
    ensure!(refused.code() == Some(1) && refused.text().contains(told), "{}", refused.text());
    write(1, 256)?;
    terraform.destroy()?;
    lab.close()
}

#[test]
fn a_stock_debian_takes_into_use_what_it_grows_by() -> Result<()> {
    let Some(lab) = Lab::thorough()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    let base = image_of("debian", &debian()?, "") + &access(&key);
    let write = |vcpus, mib| {
        let waits =
            "  wait_for           = \"cloud_init\"\n  timeouts           = { create = \"9m\" }\n}";
        let instance = sized("debian", vcpus, mib);
        let instance = instance.trim_end().strip_suffix('}').context("no instance")?.to_owned();
        terraform.main(&(base.clone() + &instance + waits + "\n"))
    };
    write(1, 384)?;
    terraform.apply()?;
    let guest = lab.guest(&key, &terraform.state()?, IT)?;
    let boot = boot_id(&guest)?;
    let (_, small) = seen(&guest)?;
    write(2, 640)?;
    grow(&terraform)?;
    has_grown(&guest, 2, small, 256)?;
    ensure!(boot_id(&guest)? == boot, "it was restarted");
    terraform.destroy()?;
    lab.close()
}
