//! The example of an image of one's own: what a machine has become is what three are made of. And
//! snapshots of a machine that is at work.

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weft_acceptance::{Lab, eventually, within};

use crate::module::{access, example, image, instance};

const INSTALLED: &str = "installed once, on the machine that was captured";

#[test]
fn three_machines_have_what_was_installed_on_the_one_that_was_captured() -> Result<()> {
    let Some(lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    example(&terraform, "06-own-image", &key)?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    let state = terraform.state()?;

    let origin = state.text("weft_image.tiny", "id")?;
    let mut names = Vec::new();
    for index in 0..3 {
        let guest = lab.guest(&key, &state, &format!("weft_instance.web[{index}]"))?;
        ensure!(guest.ssh("cat /srv/www/index.txt")?.trim() == INSTALLED);
        names.push(guest.ssh("hostname")?.trim().to_owned());
        // What a stranger gets of it, by the service that was installed.
        eventually("the service answers", within(), || {
            Ok(guest.is_open_from_outside(80)?.then_some(()))
        })?;
    }
    ensure!(names == ["web-0", "web-1", "web-2"], "an identity of its own: {names:?}");
    ensure!(state.text("weft_image.own", "default_user")? == "weft");
    ensure!(state.text("weft_image.own", "boot_mode")? == "direct_kernel");
    ensure!(lab.count("snapshots")? == 0, "the one for the image has gone");

    // The machine that was captured runs on, on its own disk: also after another start.
    let first = lab.guest(&key, &state, "weft_instance.origin")?;
    ensure!(first.ssh("sudo sh -c 'echo after >>/srv/www/index.txt; sync'")?.is_empty());
    lab.weft(&["reboot", &state.text("weft_instance.origin", "id")?])?.success()?;
    lab.wait_for_state(&state.text("weft_instance.origin", "id")?, "running")?;
    eventually("the captured machine answers again", within(), || {
        let said = first.try_ssh("cat /srv/www/index.txt")?;
        Ok(said.text().contains(&format!("{INSTALLED}\nafter")).then_some(()))
    })?;

    // The image that all came from may go before what was made of it.
    lab.weft(&["rm", &origin])?.success()?;
    terraform.destroy()?;
    assert_nothing_is_left(&lab).and_then(|()| lab.close())
}

#[test]
fn a_snapshot_of_a_machine_at_work_keeps_what_was_written_before_and_the_machine_goes_on()
-> Result<()> {
    let Some(lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    let base = image("")? + &access(&key) + &instance("it", "");
    terraform.main(&base)?;
    terraform.apply()?;
    let state = terraform.state()?;
    let id = state.text("weft_instance.it", "id")?;
    let guest = lab.guest(&key, &state, "weft_instance.it")?;
    let hypervisors = lab.hypervisors();

    let with = |snapshots: &[&str]| {
        let all = snapshots.iter().map(|name| {
            format!(
                "resource \"weft_snapshot\" \"{name}\" {{\n  instance_id = weft_instance.it.id\n  \
                 description = \"{name}\"\n}}\n"
            )
        });
        base.clone() + &all.collect::<String>()
    };
    let mut session = guest.open_session()?;
    guest.ssh("sudo sh -c 'mkdir -p /srv; echo one >/srv/of-the-first; sync'")?;
    terraform.main(&with(&["first"]))?;
    terraform.apply()?;
    session.echo("the guest did not notice")?;
    guest.ssh("sudo sh -c 'echo two >/srv/of-the-second; sync'")?;
    terraform.main(&with(&["first", "second"]))?;
    terraform.apply()?;
    session.echo("nor now")?;
    guest.ssh("sudo sh -c 'echo three >/srv/of-the-third; sync'")?;
    ensure!(lab.hypervisors() == hypervisors, "the same process throughout");
    terraform.assert_plan_is_empty()?;
    drop(session);

    // An image of the first, which lies two below: it has what was there then.
    let image = r#"
resource "weft_image" "then" {
  name               = "then"
  source_snapshot_id = weft_snapshot.first.id
}
"#;
    let more = instance("old", "").replace("weft_image.tiny.id", "weft_image.then.id");
    terraform.main(&(with(&["first", "second"]) + image + &more))?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    let state = terraform.state()?;
    let old = lab.guest(&key, &state, "weft_instance.old")?;
    ensure!(old.ssh("cd /srv && ls")?.trim() == "of-the-first", "{}", old.ssh("ls /srv")?);

    // Power loss of the guest: what it was told is written is there, over two layers.
    for hypervisor in hypervisors {
        kill(Pid::from_raw(hypervisor.pid), Signal::SIGKILL)?;
    }
    lab.wait_for_state(&id, "failed")?;
    lab.weft(&["start", &id])?.success()?;
    lab.wait_for_state(&id, "running")?;
    eventually("the guest is back", within(), || {
        Ok(guest.try_ssh("true")?.status.success().then_some(()))
    })?;
    let files = guest.ssh("cat /srv/of-the-first /srv/of-the-second /srv/of-the-third")?;
    ensure!(files == "one\ntwo\nthree\n", "{files:?}");

    // Snapshots may go in any order; the disk keeps what it needs.
    terraform.main(&with(&["second"]))?;
    terraform.apply()?;
    ensure!(guest.ssh("cat /srv/of-the-first")? == "one\n");
    terraform.destroy()?;
    assert_nothing_is_left(&lab)?;
    lab.close()
}

/// No blob, no layer, no part of one.
pub(crate) fn assert_nothing_is_left(lab: &Lab) -> Result<()> {
    ensure!(lab.count("snapshots")? == 0 && lab.count("images")? == 0);
    let state = lab.directory().join("state");
    for dir in ["layers", "images/blobs/sha256", "images/uploads", "instances"] {
        let dir = state.join(dir);
        eventually(&format!("{} is empty", dir.display()), within(), || {
            Ok(std::fs::read_dir(&dir)?.next().is_none().then_some(()))
        })?;
    }
    Ok(())
}
