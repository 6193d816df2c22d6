//! A host whose disk is full while real guests are made and run.

use anyhow::{Result, ensure};
use weft_acceptance::{Lab, eventually, within};

use crate::module::{access, image, instance};

/// MiB: what images may not take (256), and a little.
const DISK_MIB: u32 = 330;
/// Bytes that are left when another instance is to be made: for nothing at all, for its record, for
/// its disk and not its seed.
const LEFT: [u64; 4] = [0, 64 << 10, 256 << 10, 768 << 10];

#[test]
fn what_a_full_disk_refuses_is_said_and_comes_when_there_is_room() -> Result<()> {
    let Some((lab, disk)) = Lab::linux_on_a_small_disk(DISK_MIB)? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    let one = image("")? + &access(&key) + &instance("it", "");
    terraform.main(&one)?;
    terraform.apply()?;
    let state = terraform.state()?;
    let guest = lab.guest(&key, &state, "weft_instance.it")?;

    // That it boots takes room of the guests' own; how long it takes is no matter here.
    let more = instance("more", "wait_for = \"running\"\n  timeouts = { create = \"10s\" }");
    for left in LEFT {
        disk.fill_but(left)?;
        terraform.main(&(one.clone() + &more))?;
        let said = terraform.try_apply()?;
        let text = said.text().split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(
            said.code() == Some(0) || (text.contains("full") && text.contains("room")),
            "with {left} bytes left:\n{}",
            said.text()
        );
        ensure!(guest.ssh("hostname")?.trim() == "it", "with {left} bytes left");
        disk.free()?;
        // Whatever was half made is made, or replaced.
        terraform.apply()?;
        terraform.assert_plan_is_empty()?;
        terraform.main(&one)?;
        terraform.apply()?;
        ensure!(lab.count("instances")? == 1 && lab.hypervisors().len() == 1);
    }

    // A guest that writes more than there is room for is paused, and its host says why.
    // (With nothing left at all the store could not keep why.)
    disk.fill_but(1 << 20)?;
    let id = state.text("weft_instance.it", "id")?;
    guest.ssh("(dd if=/dev/urandom of=big bs=64k count=80; sync; sync) >/dev/null 2>&1 &")?;
    eventually("the guest is paused, and why is told", within(), || {
        let told = lab.weft_json(&["get", &id])?["reason"].clone();
        Ok(told.as_str().is_some_and(|told| told.contains("full")).then_some(()))
    })?;
    disk.free()?;
    eventually("it goes on", within(), || {
        let login = guest.try_ssh("sync; ls -l big | wc -l")?;
        Ok((login.code() == Some(0) && login.stdout.trim() == "1").then_some(()))
    })?;
    let told = lab.weft_json(&["get", &id])?;
    ensure!(told["run_epoch"] == 1, "it was restarted");
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}
