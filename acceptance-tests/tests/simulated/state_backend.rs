//! Terraform's state in the agent: real Terraform's backend `http`, with a client's certificate.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use weft_acceptance::{Agent, Lab, Terraform, eventually, terraform_of_version, within};

use crate::module::image;

/// What must be in the state and in no log.
const SECRET: &str = "correct-horse-battery-staple";

/// A module of the person who has the certificate `client`, with its state in the agent as `web`.
pub(crate) fn module_of(lab: &mut Lab, client: &str) -> Result<Terraform> {
    let mut terraform = lab.terraform()?.with_mirror()?;
    terraform.write("backend.tf", "terraform {\n  backend \"http\" {}\n}\n")?;
    let address = format!("https://localhost:{}/state/web", lab.agent().port()?);
    for name in ["ADDRESS", "LOCK_ADDRESS", "UNLOCK_ADDRESS"] {
        terraform.set(&format!("TF_HTTP_{name}"), &address);
    }
    let folder = Agent::client(&lab.agent().state_dir(), client)?;
    for (name, file) in [
        ("CLIENT_CA_CERTIFICATE_PEM", "ca.crt"),
        ("CLIENT_CERTIFICATE_PEM", "client.crt"),
        ("CLIENT_PRIVATE_KEY_PEM", "client.key"),
    ] {
        let pem = std::fs::read_to_string(folder.join(file))?;
        terraform.set(&format!("TF_HTTP_{name}"), &pem);
    }
    Ok(terraform)
}

/// An image and an instance with a secret.
fn one_instance(lab: &Lab, size: &str) -> Result<String> {
    let instance = format!(
        r##"
resource "weft_instance" "it" {{
  name          = "it"
  image_id      = weft_image.it.id
  instance_type = "{size}"
  user_data     = "#!/bin/sh\n# {SECRET}\n"
}}
"##
    );
    Ok(image(lab)? + &instance)
}

fn states(lab: &Lab) -> Result<Value> {
    lab.weft_json(&["state", "ls"])
}

#[test]
fn a_state_lives_in_the_agent_from_init_to_destroy() -> Result<()> {
    whole_life(Lab::simulated_on_tcp()?, None)
}

#[test]
fn terraform_1_9_8_keeps_its_state_in_the_agent() -> Result<()> {
    with_version("1.9.8")
}

#[test]
fn terraform_1_15_5_keeps_its_state_in_the_agent() -> Result<()> {
    with_version("1.15.5")
}

fn with_version(version: &str) -> Result<()> {
    let Some(program) = terraform_of_version(version)? else { return Ok(()) };
    whole_life(Lab::simulated_on_tcp()?, Some(program))
}

fn whole_life(mut lab: Lab, program: Option<PathBuf>) -> Result<()> {
    let of = |lab: &mut Lab, client: &str| -> Result<Terraform> {
        let terraform = module_of(lab, client)?;
        Ok(match &program {
            Some(program) => terraform.with_program(program.clone()),
            None => terraform,
        })
    };
    let alice = of(&mut lab, "alice")?;
    alice.main(&one_instance(&lab, "w1.nano")?)?;
    alice.init()?;
    ensure!(states(&lab)? == json!([]), "{}", states(&lab)?);
    alice.apply()?;
    alice.assert_plan_is_empty()?;
    ensure!(!alice.directory().join("terraform.tfstate").exists(), "the state is here, too");
    let listed = states(&lab)?;
    let web = &listed[0];
    ensure!(web["name"] == "web" && web["lock"].is_null(), "{listed}");
    ensure!(web["latest"]["resources"] == 2 && web["latest"]["client"] == "alice", "{listed}");

    // Somebody else goes on with it: plans, and applies exactly that.
    let bob = of(&mut lab, "bob")?;
    bob.main(&one_instance(&lab, "w1.micro")?)?;
    bob.init()?;
    bob.plan()?;
    bob.apply_plan()?;
    alice.main(&one_instance(&lab, "w1.micro")?)?;
    alice.assert_plan_is_empty()?;

    // A plan from before a restore is not applied after it.
    bob.main(&one_instance(&lab, "w1.nano")?)?;
    bob.plan()?;
    let versions = lab.weft_json(&["state", "versions", "web"])?;
    let latest = versions.as_array().and_then(|all| all.last()).context("no version")?.clone();
    let number = latest["number"].to_string();
    lab.weft(&["state", "restore", "web", "--version", &number])?.success()?;
    let said = bob.run(&["apply", "-input=false", "-no-color", "plan.bin"])?.failure()?.text();
    ensure!(said.contains("Saved plan is stale"), "{said}");
    alice.assert_plan_is_empty()?;

    let content = lab.weft(&["state", "get", "web"])?.success()?.stdout;
    let content: Value = serde_json::from_str(&content)?;
    ensure!(content["lineage"] == latest["lineage"] && content.to_string().contains(SECRET));
    ensure!(content["serial"].as_u64() == latest["serial"].as_u64().map(|serial| serial + 1));

    alice.destroy()?;
    ensure!(lab.count("instances")? == 0, "instances are left");
    ensure!(states(&lab)?[0]["latest"]["resources"] == 0, "{}", states(&lab)?);
    lab.weft(&["state", "rm", "web"])?.success()?;
    ensure!(states(&lab)? == json!([]), "{}", states(&lab)?);

    let log = lab.agent().log();
    ensure!(!log.contains(SECRET), "the log holds what only the state may");
    let audited = log.lines().filter(|line| line.contains("a Terraform state was stored"));
    let audited: Vec<&str> = audited.collect();
    for client in ["alice", "bob"] {
        let by = |line: &&&str| line.contains(client) && line.contains("127.0.0.1:");
        ensure!(audited.iter().any(|line| by(&line)), "{client} is not told in {audited:?}");
    }
    lab.close()
}

#[test]
fn who_has_no_certificate_comes_to_no_state() -> Result<()> {
    let mut lab = Lab::simulated_on_tcp()?;
    let mut terraform = module_of(&mut lab, "alice")?;
    for name in ["CLIENT_CERTIFICATE_PEM", "CLIENT_PRIVATE_KEY_PEM"] {
        terraform.set(&format!("TF_HTTP_{name}"), "");
    }
    terraform.set("TF_HTTP_RETRY_MAX", "0");
    terraform.main("resource \"terraform_data\" \"it\" {}\n")?;
    let said = terraform.run(&["init", "-input=false", "-no-color"])?;
    // Some versions read the state in init already, others with the first plan.
    let said = match said.code() {
        Some(0) => terraform.try_plan()?.failure()?,
        _ => said.failure()?,
    };
    ensure!(said.text().contains("certificate required"), "{}", said.text());
    ensure!(states(&lab)? == json!([]), "{}", states(&lab)?);
    lab.close()
}

/// Lets the guest's root disk wait until the order is taken back.
fn hold_up(lab: &mut Lab, hold: bool) -> Result<()> {
    let path = lab.agent().state_dir().join("sim-orders.json");
    if !hold {
        return Ok(std::fs::remove_file(path)?);
    }
    let orders = json!({ "orders": [{ "step": "make_root_disk", "hang": true }] });
    let new = path.with_extension("new");
    std::fs::write(&new, orders.to_string())?;
    Ok(std::fs::rename(new, path)?)
}

#[test]
fn of_two_people_one_applies_and_the_other_is_told_who_or_waits() -> Result<()> {
    let mut lab = Lab::simulated_on_one_port()?;
    let (alice, bob) = (module_of(&mut lab, "alice")?, module_of(&mut lab, "bob")?);
    let main = one_instance(&lab, "w1.nano")?;
    for terraform in [&alice, &bob] {
        terraform.main(&main)?;
        terraform.init()?;
    }
    hold_up(&mut lab, true)?;
    let mut first = alice.start_apply()?;
    let held = || {
        let lock = states(&lab)?[0]["lock"].clone();
        Ok((lab.count("instances")? == 1 && lock["client"] == "alice").then_some(lock))
    };
    let lock = eventually("alice's apply is in its middle", within(), held)?;
    let id = lock["id"].as_str().context("no id")?.to_owned();

    // Terraform 1.11 shows of the answer the id alone: there the holder is named.
    let said = bob.try_plan()?.failure()?.text().replace("\n│ ", " ").replace('\n', " ");
    ensure!(said.contains("Error acquiring the state lock"), "{said}");
    ensure!(said.contains(&id) && said.contains("held by ") && said.contains("(alice, "), "{said}");
    ensure!(said.contains("for apply since"), "{said}");
    let said = lab.weft(&["state", "rm", "web"])?.failure()?.text();
    ensure!(said.contains("is locked") && said.contains(&id), "{said}");

    // Who waits gets it when it is released.
    let apply = ["apply", "-auto-approve", "-input=false", "-no-color", "-lock-timeout=120s"];
    let mut second = bob.start(&apply)?;
    ensure!(first.is_running()? && second.is_running()?, "somebody did not wait");
    hold_up(&mut lab, false)?;
    first.finish(within())?.success()?;
    let said = second.finish(within() * 2)?.success()?.stdout;
    ensure!(said.contains("0 added, 0 changed, 0 destroyed"), "{said}");
    ensure!(lab.count("instances")? == 1, "two instances were made");
    alice.destroy()?;
    lab.close()
}

#[test]
fn a_lock_outlives_the_agent_and_who_lost_it_overwrites_nothing() -> Result<()> {
    let mut lab = Lab::simulated_on_one_port()?;
    let (alice, bob) = (module_of(&mut lab, "alice")?, module_of(&mut lab, "bob")?);
    let main = one_instance(&lab, "w1.nano")?;
    for terraform in [&alice, &bob] {
        terraform.main(&main)?;
        terraform.init()?;
    }
    hold_up(&mut lab, true)?;
    let first = alice.start_apply()?;
    eventually("the instance is being made", within(), || {
        Ok((lab.count("instances")? == 1).then_some(()))
    })?;
    lab.agent().kill_9()?;
    lab.start_agent()?;
    let lock = states(&lab)?[0]["lock"].clone();
    ensure!(lock["client"] == "alice", "the lock went with the agent: {lock}");
    let id = lock["id"].as_str().context("no id")?;
    bob.try_plan()?.failure()?;

    // Bob takes it for dead, which it is not.
    let wrong = lab.weft(&["state", "unlock", "web", "--id", "another"])?.failure()?.text();
    ensure!(wrong.contains(id), "{wrong}");
    lab.weft(&["state", "unlock", "web", "--id", id])?.success()?;
    first.signal_group(Signal::SIGINT)?;
    hold_up(&mut lab, false)?;
    let said = first.finish(within() * 3)?.failure()?.text();
    ensure!(said.contains("HTTP error: 409"), "{said}");
    let errored = alice.directory().join("errored.tfstate");
    ensure!(errored.exists(), "Terraform kept nothing:\n{said}");

    // What it could not store it kept, and gives it once nobody is in the way.
    alice.run(&["state", "push", "-no-color", "errored.tfstate"])?.success()?;
    alice.apply()?;
    ensure!(lab.count("instances")? == 1, "{} instances", lab.count("instances")?);

    // Terraform's own way to break a lock sends no id.
    hold_up(&mut lab, true)?;
    alice.main(&(main.clone() + &main.replace("\"it\"", "\"other\"")))?;
    let held = alice.start_apply()?;
    let lock = eventually("the lock is held", within(), || {
        let lock = states(&lab)?[0]["lock"]["id"].as_str().map(str::to_owned);
        Ok(lock.filter(|_| lab.count("instances").is_ok_and(|count| count == 2)))
    })?;
    held.signal(Signal::SIGKILL)?;
    held.finish(within())?;
    hold_up(&mut lab, false)?;
    bob.run(&["force-unlock", "-force", "-no-color", &lock])?.success()?;
    ensure!(states(&lab)?[0]["lock"].is_null(), "{}", states(&lab)?);
    alice.apply()?;
    alice.assert_plan_is_empty()?;
    alice.destroy()?;
    lab.close()
}
