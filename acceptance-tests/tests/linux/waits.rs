//! Waiting for a guest that does not come: what the user is told, and Ctrl-C.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use weft_acceptance::{Change, Lab, eventually, within};

use crate::module::{access, image, instance};

/// The initramfs finds no root disk and says so on the console: ssh never answers.
const NO_ROOT: &str = " root=/dev/nothing";

#[test]
fn a_wait_in_vain_says_what_is_known_and_what_to_do() -> Result<()> {
    let Some(lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    let module = |cmdline: &str| -> Result<String> {
        Ok(image(cmdline)? + &access(&key) + &instance("it", "timeouts = { create = \"40s\" }"))
    };
    terraform.main(&module(NO_ROOT)?)?;

    let said = terraform.try_apply()?.failure()?.text();
    let id = terraform.state()?.text("weft_instance.it", "id")?;
    let expected: [(&str, &[&str]); 7] = [
        ("the last phase", &["kernel"]),
        ("the console's tail", &["weft-tiny: initramfs"]),
        ("what was seen of DHCP", &["seen on the network: "]),
        ("what was seen of SSH", &["seen on port 22: "]),
        ("what the groups admit", &["security groups: "]),
        ("the next command", &["weft logs", "weft console"]),
        ("what becomes of it", &["untaint"]),
    ];
    for (what, words) in expected {
        ensure!(words.iter().any(|word| said.contains(word)), "{what} is missing:\n{said}");
    }
    // Kept for a look.
    ensure!(terraform.state()?.is_tainted("weft_instance.it"));
    ensure!(lab.weft_json(&["get", &id])?["state"] == "running");
    let logs = lab.weft(&["logs", &id])?.success()?.stdout;
    ensure!(logs.contains("weft-tiny: initramfs"), "{logs}");

    // Mended: the next apply removes it and makes another.
    terraform.main(&module("")?)?;
    terraform.apply()?;
    ensure!(terraform.state()?.text("weft_instance.it", "id")? != id);
    terraform.assert_plan_is_empty()?;
    ensure!(lab.hypervisors().len() == 1);
    terraform.destroy()?;
    lab.close()
}

#[test]
fn ctrl_c_in_a_create_leaves_it_tainted_and_the_next_apply_cleans_up() -> Result<()> {
    let Some(lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    terraform.main(&(image(NO_ROOT)? + &access(&key) + &instance("it", "")))?;

    let apply = terraform.start_apply()?;
    eventually("the guest runs", within(), || {
        let instances = lab.weft_json(&["ls"])?;
        Ok((instances[0]["state"] == "running").then_some(()))
    })?;
    apply.signal_group(Signal::SIGINT)?;
    let said = apply.finish(within())?.failure()?.text();
    let state = terraform.state()?;
    ensure!(state.is_tainted("weft_instance.it"), "not tainted:\n{said}");
    let (id, address) =
        (state.text("weft_instance.it", "id")?, state.text("weft_instance.it", "private_ip")?);

    terraform.main(&(image("")? + &access(&key) + &instance("it", "")))?;
    ensure!(terraform.plan()?.change("weft_instance.it") == Change::Replace);
    terraform.apply_plan()?;
    let again = terraform.state()?;
    ensure!(again.text("weft_instance.it", "id")? != id);
    ensure!(lab.guest(&key, &again, "weft_instance.it")?.ssh("hostname")?.trim() == "it");
    ensure!(lab.count("instances")? == 1 && lab.hypervisors().len() == 1);

    terraform.destroy()?;
    lab.assert_instance_is_gone(&id, &address)?;
    lab.close()
}
