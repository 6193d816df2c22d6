//! The state backend when things go wrong under it: the agent dies at each of its points, or the
//! disk is full. A state is then the former or the new one, never a part, and nothing is left over.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use weft_acceptance::{Lab, Terraform, skipped};

use crate::state_backend::module_of;

/// What an agent passes that locks, stores and unlocks a state.
const POINTS: [&str; 10] = [
    "store.tfstate-locks.create.before",
    "store.tfstate-locks.create.after",
    "tfstate.place.before",
    "tfstate.place.renamed",
    "store.tfstates.create.before",
    "store.tfstates.create.after",
    "store.tfstates.update.before",
    "store.tfstates.update.after",
    "store.tfstate-locks.delete.before",
    "store.tfstate-locks.delete.after",
];

/// A state by hand, so that no provider is needed to store one.
fn write_state(terraform: &Terraform, serial: u64, padding: usize) -> Result<Value> {
    let value = format!("{serial}{}", "x".repeat(padding));
    let state = json!({
        "version": 4, "terraform_version": "1.9.0", "serial": serial, "lineage": "of-the-story",
        "outputs": { "it": { "value": value, "type": "string" } },
        "resources": [], "check_results": null,
    });
    terraform.write("new.tfstate", &state.to_string())?;
    Ok(state)
}

fn push(terraform: &Terraform) -> Result<weft_acceptance::Finished> {
    terraform.run(&["state", "push", "-force", "-no-color", "new.tfstate"])
}

/// What the agent gives; nothing where there is no state.
fn stored(lab: &Lab) -> Result<Option<Value>> {
    let got = lab.weft(&["state", "get", "web"])?;
    if got.text().contains("there is no Terraform state web") {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&got.success()?.stdout).context("parse the state")?))
}

fn is(stored: Option<&Value>, wanted: &Value) -> bool {
    // Terraform writes a state anew that it is given, with its own version and a serial of its own.
    stored.is_some_and(|stored| stored["outputs"] == wanted["outputs"])
}

/// Files in the folder of the state, and versions that the agent tells.
fn assert_nothing_is_left(lab: &mut Lab) -> Result<()> {
    let versions = lab.weft_json(&["state", "versions", "web"])?;
    let versions = versions.as_array().into_iter().flatten();
    let told: BTreeSet<String> =
        versions.map(|version| format!("{}.tfstate", version["number"])).collect();
    let folder = lab.agent().state_dir().join("tfstates");
    let names = |name: &str| -> Result<BTreeSet<String>> {
        let entries = std::fs::read_dir(folder.join(name))?;
        Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into()).collect())
    };
    ensure!(names("web")? == told, "{:?} are there, {told:?} are told", names("web")?);
    ensure!(names(".incoming")?.is_empty(), "{:?} is left", names(".incoming")?);
    Ok(())
}

/// An empty module with its state in the agent, which takes the first answer for the last.
fn module_that_does_not_retry(lab: &mut Lab) -> Result<Terraform> {
    let mut terraform = module_of(lab, "alice")?;
    terraform.set("TF_HTTP_RETRY_MAX", "0");
    terraform.main("")?;
    terraform.init()?;
    Ok(terraform)
}

#[test]
fn an_agent_that_dies_at_a_point_has_the_former_state_or_the_new_one() -> Result<()> {
    let mut lab = Lab::simulated_on_one_port()?;
    if let Err(error) = lab.agent().use_crash_points() {
        skipped(&format!("{error:#}"));
        return lab.close();
    }
    let terraform = module_that_does_not_retry(&mut lab)?;
    let mut before: Option<Value> = None;
    let mut serial = 0;
    for point in POINTS {
        // The first state is made once: it is removed for the points of that.
        if point.starts_with("store.tfstates.create") && before.take().is_some() {
            lab.weft(&["state", "rm", "web"])?.success()?;
        }
        serial += 1;
        lab.agent().stop()?;
        lab.agent().set_environment(&[("WEFT_CRASH_AT", point)]);
        lab.start_agent()?;
        let wanted = write_state(&terraform, serial, 0)?;
        let said = push(&terraform)?;
        // Its last connection closes a moment before it is gone.
        let died = weft_acceptance::eventually("the agent dies", weft_acceptance::within(), || {
            Ok(lab.agent().has_ended()?.then_some(()))
        });
        died.with_context(|| format!("{point}: {}", said.text()))?;
        lab.agent().stop()?;
        lab.agent().set_environment(&[]);
        lab.start_agent()?;

        let found = stored(&lab)?;
        let former = match &before {
            Some(before) => is(found.as_ref(), before),
            None => found.is_none(),
        };
        ensure!(former || is(found.as_ref(), &wanted), "{point}: there is {found:?}");
        let late = ["store.tfstates.create.after", "store.tfstates.update.after"];
        if late.contains(&point) || point.starts_with("store.tfstate-locks.delete") {
            ensure!(is(found.as_ref(), &wanted), "{point}: what was stored is lost: {found:?}");
        }
        // Whoever died held the lock, or does not; it is the same to who goes on.
        if !lab.weft_json(&["state", "ls"])?[0]["lock"].is_null() {
            lab.weft(&["state", "unlock", "web", "--force"])?.success()?;
        }
        push(&terraform)?.success().with_context(|| point)?;
        let found = stored(&lab)?;
        ensure!(is(found.as_ref(), &wanted), "{point}: there is {found:?}");
        assert_nothing_is_left(&mut lab).with_context(|| point)?;
        before = Some(wanted);
    }
    lab.close()
}

#[test]
fn a_full_disk_refuses_a_state_and_keeps_the_former_one() -> Result<()> {
    let Some((mut lab, disk)) = Lab::simulated_on_a_small_disk(32)? else { return Ok(()) };
    let terraform = module_that_does_not_retry(&mut lab)?;
    let former = write_state(&terraform, 1, 0)?;
    push(&terraform)?.success()?;
    disk.fill_but(64 * 1024)?;
    let large = write_state(&terraform, 2, 4 << 20)?;
    let said = push(&terraform)?.failure()?.text();
    ensure!(said.contains("Failed to upload state"), "{said}");
    let log = lab.agent().log();
    let told = |line: &str| line.contains("507 ") && line.contains("state directory is full");
    ensure!(log.lines().any(told), "the log has no reason");
    ensure!(is(stored(&lab)?.as_ref(), &former), "the former state is gone");
    assert_nothing_is_left(&mut lab)?;
    ensure!(lab.weft_json(&["state", "ls"])?[0]["lock"].is_null(), "it is locked");
    disk.free()?;
    push(&terraform)?.success()?;
    ensure!(is(stored(&lab)?.as_ref(), &large), "the new state is not there");
    lab.close()
}

/// Copies the agent's store, or puts a copy back.
fn copy_store(from: &Path, to: &Path) -> Result<()> {
    for name in ["weft.db", "weft.db-wal", "weft.db-shm"] {
        match std::fs::remove_file(to.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        if from.join(name).exists() && name != "weft.db-shm" {
            std::fs::copy(from.join(name), to.join(name))?;
        }
    }
    Ok(())
}

#[test]
fn who_accepts_an_older_store_finds_the_newer_states_beside_it() -> Result<()> {
    let mut lab = Lab::simulated_on_one_port()?;
    let terraform = module_that_does_not_retry(&mut lab)?;
    let former = write_state(&terraform, 1, 0)?;
    push(&terraform)?.success()?;
    let (store, copy) = (lab.agent().state_dir(), lab.directory().join("copy"));
    std::fs::create_dir(&copy)?;
    lab.agent().stop()?;
    copy_store(&store, &copy)?;
    lab.start_agent()?;
    let newer = write_state(&terraform, 2, 0)?;
    push(&terraform)?.success()?;
    lab.agent().stop()?;
    copy_store(&copy, &store)?;

    let refused = lab.start_agent().err().context("it started with the older store")?;
    let refused = format!("{refused:#}");
    ensure!(
        refused.contains("older copy") && refused.contains("Terraform states web;"),
        "{refused}"
    );
    lab.agent().stop()?;
    for dir in [store.clone(), lab.agent().runtime_dir()] {
        std::fs::remove_file(dir.join("store-mark.json"))?;
    }
    lab.start_agent()?;
    ensure!(is(stored(&lab)?.as_ref(), &former), "it is not the state that the older store has");
    let doctor = lab.weft(&["doctor"])?.text();
    ensure!(doctor.contains("versions of web that the agent's store does not know"), "{doctor}");
    let aside: Vec<_> = std::fs::read_dir(store.join("tfstates/.unknown/web"))?.collect();
    let [Ok(file)] = aside.as_slice() else { bail!("aside are {aside:?}") };
    ensure!(file.file_name().to_string_lossy().starts_with("2-"), "{file:?}");
    // As the doctor says; by force, as each push of the story makes a lineage of its own.
    let path = file.path();
    let path = path.to_str().context("a path of the lab")?;
    terraform.run(&["state", "push", "-force", "-no-color", path])?.success()?;
    ensure!(is(stored(&lab)?.as_ref(), &newer), "the newer state is not back");
    lab.close()
}
