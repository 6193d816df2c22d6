//! One configuration, two fabrics: a provider without and one with an alias, each with settings of its own.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use weft_acceptance::{Change, Lab, eventually, within};

use crate::each_resource::objects;
use crate::module::{ONE_OF_EACH, one_of_each};

/// What data sources find through a provider; `PROVIDER` and `it` are replaced for the other one.
const FOUND: &str = r#"
data "weft_vpcs" "it" {
  name       = "it"
  depends_on = [weft_vpc.it]
}

data "weft_key_pair" "it" {
  key_name   = "it"
  depends_on = [weft_key_pair.it]
}

data "weft_hosts" "it" {
  depends_on = [weft_vpc.it]
}
"#;

/// The same through the other provider, called `far` where this one is called `it`.
fn far(main: &str) -> String {
    main.replace("\" \"it\" {\n", "\" \"far\" {\n  provider = weft.far\n")
        .replace("\" \"of_list\" {\n", "\" \"far_of_list\" {\n  provider = weft.far\n")
        .replace(".it.", ".far.")
        .replace(".it]", ".far]")
}

fn providers(far: &Lab, near_tag: &str, far_tag: &str, checks: [&str; 2]) -> String {
    let [near_checks, far_checks] = checks;
    format!(
        r#"
provider "weft" {{
  default_tags = {{ site = "{near_tag}" }}
  plan_checks  = "{near_checks}"
}}

provider "weft" {{
  alias           = "far"
  endpoint        = "{}"
  default_tags    = {{ site = "{far_tag}" }}
  plan_checks     = "{far_checks}"
  request_timeout = "5s"
}}
"#,
        far.endpoint()
    )
}

/// The ids of all that a fabric has.
fn ids(lab: &Lab) -> Result<BTreeSet<String>> {
    Ok(objects(lab)?.into_keys().collect())
}

#[test]
fn two_fabrics_in_one_configuration_do_not_meet() -> Result<()> {
    let (near, mut other) = (Lab::simulated()?, Lab::simulated()?);
    let before = (ids(&near)?, ids(&other)?);
    let terraform = near.terraform()?;
    let main = one_of_each(&near)? + FOUND;
    // Of the same names, ranges and ports: they are free in each.
    terraform.main(&(main.clone() + &far(&main)))?;
    terraform.write("provider.tf", &providers(&other, "near", "far", ["warn", "warn"]))?;

    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    let state = terraform.state()?;
    ensure!(state.addresses().len() == 2 * ONE_OF_EACH.len(), "{:?}", state.addresses());
    let made = (ids(&near)?, ids(&other)?);
    for address in ONE_OF_EACH {
        let there = address.replace(".of_list", ".far_of_list").replace(".it", ".far");
        for (lab, address, ours, theirs, site) in [
            (&near, address, &made.0, &made.1, "near"),
            (&other, there.as_str(), &made.1, &made.0, "far"),
        ] {
            let id = state.text(address, "id")?;
            ensure!(
                ours.contains(&id) && !theirs.contains(&id),
                "{address} is in the wrong fabric"
            );
            if !address.contains("_association") && !address.contains("_attachment") {
                let kept = lab.weft_json(&["get", &id])?;
                ensure!(kept["tags"]["site"] == site, "{address} has the tags {}", kept["tags"]);
            }
        }
    }
    for (name, lab) in [("it", &near), ("far", &other)] {
        let vpcs = state.attribute(&format!("data.weft_vpcs.{name}"), "ids")?;
        ensure!(*vpcs == json!([state.text(&format!("weft_vpc.{name}"), "id")?]), "{vpcs}");
        let key = state.text(&format!("data.weft_key_pair.{name}"), "id")?;
        ensure!(key == state.text(&format!("weft_key_pair.{name}"), "id")?, "{key}");
        let hosts = state.attribute(&format!("data.weft_hosts.{name}"), "ids")?;
        let known = lab.weft_json(&["ls", "hosts"])?;
        ensure!(*hosts == json!([known[0]["id"]]), "{hosts} instead of {known}");
    }

    // What one is told changes nothing through the other.
    terraform.write("provider.tf", &providers(&other, "near", "moved", ["warn", "warn"]))?;
    let plan = terraform.plan()?;
    ensure!(plan.change("weft_vpc.far") == Change::Update, "{}", plan.text());
    let crossed: Vec<_> = plan
        .changes()
        .into_iter()
        .filter(|(address, change)| !address.contains(".far") && *change != Change::Nothing)
        .collect();
    ensure!(crossed.is_empty(), "{crossed:?}");

    terraform.destroy()?;
    ensure!((ids(&near)?, ids(&other)?) == before, "something is left");
    other.agent().stop()?;
    drop(terraform);
    near.close()?;
    other.close()
}

#[test]
fn each_alias_checks_plans_as_it_is_told() -> Result<()> {
    let (near, other) = (Lab::simulated()?, Lab::simulated()?);
    let terraform = near.terraform()?;
    let main = crate::module::image(&near)?
        + "resource \"weft_instance\" \"it\" {\n  image_id      = weft_image.it.id\n  \
           instance_type = \"w9.none\"\n}\n";
    terraform.main(&(main.clone() + &far(&main)))?;
    for (checks, says) in [
        (["off", "off"], [0, 0]),
        (["warn", "off"], [1, 0]),
        (["off", "warn"], [0, 1]),
        (["error", "warn"], [1, 1]),
        (["warn", "error"], [1, 1]),
    ] {
        terraform.write("provider.tf", &providers(&other, "near", "far", checks))?;
        let plan = terraform.try_plan()?;
        let fails = checks.contains(&"error");
        ensure!(plan.code() == Some(i32::from(fails)), "{checks:?}:\n{}", plan.text());
        let text = plan.text();
        let of = ["weft_instance.it", "weft_instance.far"]
            .map(|address| text.matches(&format!("with {address},")).count());
        ensure!(of == says, "{checks:?} says {of:?}:\n{text}");
    }
    drop(terraform);
    near.close()?;
    other.close()
}

#[test]
fn an_alias_whose_agent_does_not_answer_is_told_by_its_endpoint() -> Result<()> {
    let (near, mut other) = (Lab::simulated()?, Lab::simulated()?);
    let terraform = near.terraform()?;
    let main = "resource \"weft_vpc\" \"it\" {\n  name       = \"it\"\n  cidr_block = \"10.9.0.0/16\"\n}\n";
    terraform.main(&(main.to_owned() + &far(main)))?;
    terraform.write("provider.tf", &providers(&other, "near", "far", ["warn", "warn"]))?;
    terraform.apply()?;

    other.agent().pause()?;
    let said = terraform.try_plan()?.failure()?.text();
    other.agent().resume()?;
    ensure!(said.contains(&other.endpoint()) && !said.contains(&near.endpoint()), "{said}");
    ensure!(!said.contains("with weft_vpc.it,"), "{said}");
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    drop(terraform);
    near.close()?;
    other.close()
}

/// The agent stands still between two Creates, for longer than `request_timeout` of the one alias.
#[test]
fn a_create_that_got_no_answer_leaves_nothing_doubled() -> Result<()> {
    let (near, mut other) = (Lab::simulated()?, Lab::simulated()?);
    let terraform = near.terraform()?;
    let main = r#"
resource "weft_elastic_ip" "first" {
  provider = weft.far
}

resource "terraform_data" "gate" {
  depends_on = [weft_elastic_ip.first]
  provisioner "local-exec" {
    command = "touch reached; while [ ! -e open ] && kill -0 $PPID; do sleep 0.1; done"
  }
}

resource "weft_vpc" "it" {
  name       = "it"
  cidr_block = "10.9.0.0/16"
  depends_on = [terraform_data.gate]
}
"#;
    let vpc = &main[main.find("resource \"weft_vpc\"").context("a VPC")?..];
    terraform.main(&(main.to_owned() + &far(vpc)))?;
    terraform.write("provider.tf", &providers(&other, "near", "far", ["off", "off"]))?;
    let before = (near.count("vpcs")?, other.count("vpcs")?);

    let run = terraform.start_apply()?;
    let reached = terraform.directory().join("reached");
    eventually("the gate", within(), || Ok(reached.exists().then_some(())))?;
    other.agent().pause()?;
    terraform.write("open", "")?;
    let said = run.finish(within())?.failure()?.text();
    other.agent().resume()?;
    let timed_out = format!("The agent at {} did not answer within 5 s", other.endpoint());
    let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(flat.contains(&timed_out) && !said.contains("with weft_vpc.it,"), "{said}");
    ensure!(terraform.state()?.has("weft_vpc.it") && !terraform.state()?.has("weft_vpc.far"));
    // Whether the agent has made it all the same is its own affair: there is one in the end.
    terraform.apply()?;
    ensure!((near.count("vpcs")?, other.count("vpcs")?) == (before.0 + 1, before.1 + 1), "doubled");
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    ensure!((near.count("vpcs")?, other.count("vpcs")?) == before, "a VPC is left");
    drop(terraform);
    near.close()?;
    other.close()
}
