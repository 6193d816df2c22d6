//! `terraform query`: it lists what there is of every kind, and writes configuration for it whose
//! plan does nothing but import.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{Lab, Terraform, terraform_of_version};

use crate::imports::assert_only_imports;
use crate::module::{ONE_OF_EACH, one_of_each, snapshot};

#[test]
fn terraform_1_14_9_lists_every_kind_and_writes_configuration_that_imports() -> Result<()> {
    query("1.14.9")
}

#[test]
fn terraform_1_15_5_lists_every_kind_and_writes_configuration_that_imports() -> Result<()> {
    query("1.15.5")
}

fn query(version: &str) -> Result<()> {
    let Some(program) = terraform_of_version(version)? else { return Ok(()) };
    let lab = Lab::simulated()?;
    let maker = lab.terraform()?;
    maker.main(&(one_of_each(&lab)? + snapshot()))?;
    maker.apply()?;
    let state = maker.state()?;
    let addresses: Vec<&str> = ONE_OF_EACH.into_iter().chain(["weft_snapshot.it"]).collect();

    // By default groups too there are objects that nobody made; these have the story's ids.
    let terraform = lab.terraform()?.with_program(program);
    let mut types: Vec<&str> =
        addresses.iter().filter_map(|address| address.split('.').next()).collect();
    types.dedup();
    terraform.write("all.tfquery.hcl", &all_of(&types)?)?;
    let listed = listed(&terraform)?;
    for address in &addresses {
        let id = state.text(address, "id")?;
        ensure!(listed.contains(&id), "{address} ({id}) is not listed: {listed:?}");
    }

    // A filter that fits one, one that fits nothing, and one that is wrong.
    let vpc = state.text("weft_vpc.it", "id")?;
    for (config, fits) in [
        ("tags = { layer = \"network\" }".to_owned(), 1),
        ("name_regex = \"^i.$\"".to_owned(), 1),
        ("name = \"is\"".to_owned(), 0),
    ] {
        terraform.write("all.tfquery.hcl", &list("weft_vpc", &config))?;
        let found = self::listed(&terraform)?;
        ensure!(found.len() == fits, "{config} fits {found:?}");
    }
    terraform.write("all.tfquery.hcl", &list("weft_subnet", &format!("vpc_id = \"{vpc}\"")))?;
    ensure!(self::listed(&terraform)? == [state.text("weft_subnet.it", "id")?]);
    terraform.write("all.tfquery.hcl", &list("weft_subnet", "vpc_id = \"vpc-1\""))?;
    let refused = terraform.run(&["query", "-no-color"])?.failure()?;
    ensure!(refused.text().contains("must be the id of a VPC"), "{}", refused.text());

    let limited = list("weft_security_group_ingress_rule", "")
        .replace("  provider", "  limit = 1\n  provider");
    terraform.write("all.tfquery.hcl", &limited)?;
    ensure!(self::listed(&terraform)?.len() == 1, "the limit does not hold");

    // What nobody made stays out: it is there before and after.
    let mut wanted = String::new();
    for ty in &types {
        let config = match *ty {
            "weft_vpc" => "name = \"it\"".to_owned(),
            "weft_subnet" | "weft_route_table" => format!("vpc_id = \"{vpc}\""),
            "weft_security_group" => format!("vpc_id = \"{vpc}\"\nname = \"it\""),
            "weft_security_group_ingress_rule" | "weft_security_group_egress_rule" => {
                let group = state.text("weft_security_group.it", "id")?;
                format!("security_group_id = \"{group}\"")
            }
            _ => String::new(),
        };
        wanted += &list(ty, &config);
    }
    terraform.write("all.tfquery.hcl", &wanted)?;
    let out = ["query", "-no-color", "-generate-config-out=generated.tf"];
    terraform.run(&out)?.success()?;
    let generated = std::fs::read_to_string(terraform.directory().join("generated.tf"))?;
    ensure!(!generated.contains("tags_all"), "what is computed is written:\n{generated}");
    ensure!(!generated.contains("auto_restart"), "a default is written:\n{generated}");
    std::fs::remove_file(terraform.directory().join("all.tfquery.hcl"))?;
    let plan = terraform.plan().with_context(|| generated.clone())?;
    let imports = plan.imports();
    ensure!(imports.len() == addresses.len(), "{imports:?}\n{generated}");
    let imports: Vec<&str> = imports.iter().map(String::as_str).collect();
    assert_only_imports(&plan, &imports).with_context(|| generated.clone())?;
    terraform.apply_plan()?;
    terraform.assert_plan_is_empty()?;
    lab.close()
}

fn list(ty: &str, config: &str) -> String {
    format!(
        "list \"{ty}\" \"{}\" {{\n  provider = weft\n  include_resource = true\n  config {{\n{config}\n  }}\n}}\n",
        ty.trim_start_matches("weft_")
    )
}

fn all_of(types: &[&str]) -> Result<String> {
    let mut all = String::new();
    for ty in types {
        write!(all, "list \"{ty}\" \"all\" {{\n  provider = weft\n}}\n")?;
    }
    Ok(all)
}

/// The ids that a query shows.
fn listed(terraform: &Terraform) -> Result<Vec<String>> {
    let said = terraform.run(&["query", "-no-color", "-json"])?.success()?.stdout;
    let lines =
        said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let found = lines.filter(|line| line["type"] == "list_resource_found");
    Ok(found
        .filter_map(|line| {
            line["list_resource_found"]["identity"]["id"].as_str().map(str::to_owned)
        })
        .collect())
}
