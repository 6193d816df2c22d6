//! For each resource: what was applied is what is planned, also after an import; what is gone
//! already can be destroyed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use weft_acceptance::{Change, Lab};

use crate::module::{ONE_OF_EACH, many, one_of_each};

/// As `weft ls` calls them.
const KINDS: [&str; 19] = [
    "instances",
    "types",
    "images",
    "keys",
    "groups",
    "rules",
    "vpcs",
    "subnets",
    "prefix-lists",
    "network-interfaces",
    "network-interface-attachments",
    "volumes",
    "volume-attachments",
    "snapshots",
    "elastic-ips",
    "elastic-ip-associations",
    "port-forwards",
    "route-tables",
    "route-table-associations",
];

/// Every object that a fabric has, by its id. Instance types that are built in have none.
pub(crate) fn objects(lab: &Lab) -> Result<BTreeMap<String, Value>> {
    let mut objects = BTreeMap::new();
    for kind in KINDS {
        let list = lab.weft_json(&["ls", kind])?;
        let list = list.as_array().with_context(|| format!("weft ls {kind} gave no list"))?;
        for object in list.iter().filter(|object| object["built_in"] != true) {
            let id = object["id"].as_str().with_context(|| format!("no id in {object}"))?;
            objects.insert(id.to_owned(), object.clone());
        }
    }
    Ok(objects)
}

#[test]
fn after_an_apply_the_plan_is_empty() -> Result<()> {
    let lab = Lab::simulated()?;
    let counts = || KINDS.iter().map(|kind| lab.count(kind)).collect::<Result<Vec<_>>>();
    let before = counts()?;
    let terraform = lab.terraform()?;
    terraform.main(&one_of_each(&lab)?)?;

    terraform.apply()?;

    let state = terraform.state()?;
    for address in ONE_OF_EACH {
        ensure!(state.has(address), "{address} is not in the state");
    }
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    ensure!(counts()? == before, "of {KINDS:?} there were {before:?} and are {:?}", counts()?);
    lab.close()
}

#[test]
fn after_an_import_the_plan_is_empty() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?;
    terraform.main(&one_of_each(&lab)?)?;
    terraform.apply()?;

    for address in ONE_OF_EACH {
        terraform.forget_and_import(address)?;
        let plan = terraform.plan()?;
        ensure!(
            plan.changes().iter().all(|(_, change)| *change == Change::Nothing),
            "after the import of {address} the plan has something to do:\n{}",
            plan.text()
        );
    }
    terraform.destroy()?;
    lab.close()
}

#[test]
fn an_instance_type_is_imported_by_its_name_and_its_instance_keeps_its_size() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?;
    let main = one_of_each(&lab)?;
    terraform.main(&main)?;
    let first = terraform.plan()?;
    ensure!(!first.text().contains("Unknown instance type"), "warned of:\n{}", first.text());
    terraform.apply_plan()?;
    let size = || {
        let state = terraform.state()?;
        let number = |name| anyhow::Ok(state.attribute("weft_instance.it", name)?.as_u64());
        anyhow::Ok((number("vcpus")?, number("memory_mib")?))
    };
    ensure!(size()? == (Some(3), Some(200)), "{:?}", size()?);

    terraform.run(&["state", "rm", "weft_instance_type.it"])?.success()?;
    let by_name = ["import", "-input=false", "-no-color", "weft_instance_type.it", "story.odd"];
    terraform.run(&by_name)?.success()?;
    terraform.assert_plan_is_empty()?;

    // A type of the same name takes its place: what runs stays as it is.
    terraform.main(&main.replace("memory_mib = 200", "memory_mib = 400"))?;
    let plan = terraform.plan()?;
    ensure!(plan.change("weft_instance_type.it") == Change::Replace, "{}", plan.text());
    ensure!(plan.change("weft_instance.it") == Change::Nothing, "{}", plan.text());
    terraform.apply_plan()?;
    ensure!(size()? == (Some(3), Some(200)), "{:?}", size()?);
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}

#[test]
fn what_is_gone_already_is_destroyed_without_complaint() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?;
    terraform.main(&one_of_each(&lab)?)?;
    terraform.apply()?;

    let state = terraform.state()?;
    for address in ONE_OF_EACH.iter().rev() {
        lab.weft(&["rm", &state.text(address, "id")?])?.success()?;
    }
    // Without a refresh Terraform does not notice, and asks for each to be deleted.
    let args = ["destroy", "-auto-approve", "-input=false", "-no-color", "-refresh=false"];
    let said = terraform.run(&args)?.success()?.stdout;
    let all = format!("{} destroyed", ONE_OF_EACH.len());
    ensure!(said.contains(&all), "not all were asked for:\n{said}");
    ensure!(terraform.state()?.addresses().is_empty());
    lab.close()
}

#[test]
fn what_was_removed_by_hand_is_made_again() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?;
    terraform.main(&one_of_each(&lab)?)?;
    terraform.apply()?;
    let before = terraform.state()?.text("weft_instance.it", "id")?;

    let used = lab.weft(&["rm", &before])?.failure()?;
    ensure!(used.text().contains("is used by association"), "{}", used.text());
    for user in ["weft_elastic_ip_association.it", "weft_port_forward.it"] {
        lab.weft(&["rm", &terraform.state()?.text(user, "id")?])?.success()?;
    }
    lab.weft(&["rm", &before])?.success()?;

    ensure!(terraform.plan()?.change("weft_instance.it") == Change::Create);
    terraform.apply_plan()?;
    ensure!(terraform.state()?.text("weft_instance.it", "id")? != before);
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}

#[test]
fn fifty_instances_are_made_side_by_side() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?;
    terraform.main(&many(&lab, 50)?)?;
    let parallel = "-parallelism=50";

    terraform.run(&["apply", "-auto-approve", "-input=false", "-no-color", parallel])?.success()?;

    let state = terraform.state()?;
    let addresses = (0..50)
        .map(|i| state.text(&format!("weft_instance.it[{i}]"), "private_ip"))
        .collect::<Result<BTreeSet<_>>>()?;
    ensure!(addresses.len() == 50, "addresses were given twice: {addresses:?}");
    ensure!(lab.count("instances")? == 50);
    terraform.assert_plan_is_empty()?;
    let destroy = ["destroy", "-auto-approve", "-input=false", "-no-color", parallel];
    terraform.run(&destroy)?.success()?;
    ensure!(lab.count("instances")? == 0);
    lab.close()
}

#[test]
fn default_tags_reach_everything_that_has_tags() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?;
    terraform.main(&one_of_each(&lab)?)?;
    terraform.apply()?;

    terraform
        .write("provider.tf", "provider \"weft\" {\n  default_tags = { team = \"blue\" }\n}\n")?;
    let plan = terraform.plan()?;
    let joins = |one: &&str| one.contains("_association") || one.contains("_attachment");
    let tagged = || ONE_OF_EACH.into_iter().filter(|one| !joins(one));
    for address in tagged() {
        ensure!(plan.change(address) == Change::Update, "{address}");
    }
    terraform.apply_plan()?;
    let state = terraform.state()?;
    for address in tagged() {
        let tags = state.attribute(address, "tags_all")?;
        ensure!(tags["team"] == "blue", "{address} has the tags {tags}");
    }
    ensure!(state.attribute("weft_instance.it", "tags_all")?["role"] == "story");
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}

/// Data sources that find all of a resource's kind, each as the resource with an `s`.
const FOUND_ALL: [&str; 10] = [
    "weft_vpc",
    "weft_subnet",
    "weft_network_interface",
    "weft_route_table",
    "weft_prefix_list",
    "weft_security_group",
    "weft_key_pair",
    "weft_volume",
    "weft_elastic_ip",
    "weft_port_forward",
];

#[test]
fn what_exists_is_found_among_all_of_its_kind() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?;
    let mut main = one_of_each(&lab)?;
    for kind in FOUND_ALL {
        let name = if kind == "weft_key_pair" { "key_name" } else { "name" };
        main += &format!(
            r#"
data "{kind}s" "all" {{
  depends_on = [{kind}.it]
}}
data "{kind}s" "named" {{
  name = {kind}.it.{name}
}}
data "{kind}s" "none" {{
  name_regex = "^nothing is called this$"
  depends_on = [{kind}.it]
}}
output "{kind}" {{
  value = [
    contains(data.{kind}s.all.ids, {kind}.it.id),
    data.{kind}s.named.ids == tolist([{kind}.it.id]),
    length(data.{kind}s.none.ids) == 0,
  ]
}}
"#
        );
    }
    terraform.main(&main)?;

    terraform.apply()?;

    let state = terraform.state()?;
    for kind in FOUND_ALL {
        let found = state.output(kind)?;
        ensure!(*found == serde_json::json!([true, true, true]), "{kind}: {found}");
    }
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}
