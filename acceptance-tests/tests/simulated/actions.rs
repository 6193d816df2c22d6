//! Actions under real Terraform: triggered by resources, and invoked by hand.

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{Change, Finished, Lab, Terraform, terraform_of_version};

use crate::module::image;

/// Those that know actions.
const VERSIONS: [&str; 2] = ["1.14.9", "1.15.5"];

fn instance(lab: &Lab, more: &str) -> Result<String> {
    Ok(image(lab)?
        + &format!(
            "resource \"weft_instance\" \"it\" {{\n  name = \"it\"\n  image_id = weft_image.it.id\n  \
             vcpus = 1\n  memory_mib = 64\n{more}}}\n"
        ))
}

fn action(kind: &str, more: &str) -> String {
    format!(
        "action \"weft_instance_{kind}\" \"it\" {{\n  config {{\n    \
         instance_id = weft_instance.it.id\n{more}  }}\n}}\n"
    )
}

fn of_each_version(story: impl Fn(&Lab, &Terraform) -> Result<()>) -> Result<()> {
    for version in VERSIONS {
        let Some(program) = terraform_of_version(version)? else { continue };
        let lab = Lab::simulated()?;
        let terraform = lab.terraform()?.with_program(program);
        story(&lab, &terraform).with_context(|| version.to_owned())?;
        terraform.destroy()?;
        lab.close()?;
    }
    Ok(())
}

fn invoke(terraform: &Terraform, kind: &str) -> Result<Finished> {
    let invoke = format!("-invoke=action.weft_instance_{kind}.it");
    terraform.run(&["apply", "-auto-approve", "-input=false", "-no-color", &invoke])
}

fn says(said: &Finished, text: &str) -> Result<()> {
    let flat = |text: &str| text.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(flat(&said.text()).contains(&flat(text)), "{text:?} is not in:\n{}", said.text());
    Ok(())
}

#[test]
fn an_instance_is_stopped_started_rebooted_and_reset_by_hand() -> Result<()> {
    of_each_version(|lab, terraform| {
        let kinds = ["stop", "start", "reboot", "reset", "hibernate"].map(|kind| action(kind, ""));
        let unmanaged = instance(lab, "  power_state = \"unmanaged\"\n")?;
        terraform.main(&(unmanaged + &kinds.concat()))?;
        terraform.apply()?;
        let id = terraform.state()?.text("weft_instance.it", "id")?;
        for (kind, ends, state) in [
            ("stop", "stopped", "stopped"),
            ("start", "started", "running"),
            ("reboot", "rebooted", "running"),
            ("reset", "reset", "running"),
            ("hibernate", "hibernated", "stopped"),
            ("start", "started", "running"),
        ] {
            let said = invoke(terraform, kind)?.success()?;
            says(&said, &format!("{id} (it): {ends}"))?;
            ensure!(!said.text().contains("Warning: The next plan"), "{}", said.text());
            let now = lab.weft_json(&["get", &id])?;
            ensure!(now["state"] == state, "{kind}: {now}");
            terraform.assert_plan_is_empty()?;
        }
        Ok(())
    })
}

#[test]
fn what_the_next_plan_undoes_is_warned_of() -> Result<()> {
    of_each_version(|lab, terraform| {
        let kinds = action("stop", "    force = true\n") + &action("start", "");
        terraform.main(&(instance(lab, "")? + &kinds))?;
        terraform.apply()?;
        let said = invoke(terraform, "stop")?.success()?;
        says(&said, "Warning: The next plan of Terraform undoes this")?;
        says(&said, "Set power_state = \"unmanaged\" in its weft_instance")?;
        let plan = terraform.plan()?;
        let change = plan.change("weft_instance.it");
        ensure!(change == Change::Update, "the plan does not start it again:\n{}", plan.text());
        // As the configuration has it.
        let said = invoke(terraform, "start")?.success()?;
        ensure!(!said.text().contains("undoes this"), "{}", said.text());
        terraform.assert_plan_is_empty()
    })
}

#[test]
fn a_change_triggers_a_snapshot_before_it_and_a_reboot_after_it() -> Result<()> {
    of_each_version(|lab, terraform| {
        let trigger = |events: &str, kind: &str| {
            format!(
                "    action_trigger {{\n      events  = [{events}]\n      \
                 actions = [action.weft_instance_{kind}.it]\n    }}\n"
            )
        };
        let triggers =
            trigger("before_update", "snapshot") + &trigger("after_create, after_update", "reboot");
        let module = |tag: &str| -> Result<String> {
            let tags = format!("  tags = {{ round = \"{tag}\" }}\n");
            // What runs before a change cannot refer to what changes: that is a cycle to Terraform.
            let id = match terraform.state()?.text("weft_instance.it", "id") {
                Ok(id) => id,
                Err(_not_made_yet) => "i-0123456789abcdef0".to_owned(),
            };
            let snapshot = action("snapshot", "    description = \"by an action\"\n")
                .replace("weft_instance.it.id", &format!("\"{id}\""));
            Ok(instance(lab, &format!("{tags}  lifecycle {{\n{triggers}  }}\n"))?
                + &snapshot
                + &action("reboot", ""))
        };
        // Nothing is there to be snapshotted before it is made.
        for (round, snapshots) in [("one", 0), ("two", 1), ("three", 2)] {
            terraform.main(&module(round)?)?;
            let said = terraform.apply()?;
            says(&said, "(it): rebooted")?;
            ensure!(lab.count("snapshots")? == snapshots, "{}", said.text());
            terraform.assert_plan_is_empty()?;
            if round != "one" {
                let text = said.text();
                let at = |words: &str| {
                    text.find(words).with_context(|| format!("{words:?} is not in:\n{text}"))
                };
                let snapshot = at("is made, of a disk of")?;
                let (begins, ends) = (at("it: Modifying...")?, at("it: Modifications complete")?);
                let ordered = snapshot < begins && ends < at("(it): rebooted")?;
                ensure!(ordered, "not in that order:\n{text}");
            }
        }
        Ok(())
    })
}

#[test]
fn a_failed_action_says_why() -> Result<()> {
    of_each_version(|lab, terraform| {
        let stopped = instance(lab, "  power_state = \"stopped\"\n")?;
        let unknown = "action \"weft_instance_stop\" \"it\" {\n  config {\n    \
                       instance_id = \"i-0123456789abcdef0\"\n  }\n}\n";
        terraform.main(&(stopped + &action("reset", "") + unknown))?;
        terraform.apply()?;
        let said = invoke(terraform, "reset")?;
        ensure!(said.code() == Some(1), "{}", said.text());
        says(&said, "Cannot reset the instance")?;
        says(&said, "does not run: there is nothing to reset")?;
        let said = invoke(terraform, "stop")?;
        ensure!(said.code() == Some(1), "{}", said.text());
        says(&said, "Instance i-0123456789abcdef0 does not exist")
    })
}
