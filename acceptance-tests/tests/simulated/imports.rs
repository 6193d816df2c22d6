//! Each resource is brought in by an `import` block, by its id or by its identity, and then there
//! is nothing to do.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Result, ensure};
use weft_acceptance::{Change, Lab, Plan, Terraform, terraform_of_version};

use crate::module::{ONE_OF_EACH, one_of_each, snapshot};

/// The only resource that a snapshot is made of is an instance that is there already.
const SNAPSHOT: &str = "weft_snapshot.it";

#[test]
fn each_resource_is_imported_by_its_id() -> Result<()> {
    let lab = Lab::simulated()?;
    import_all(&lab, &lab.terraform()?, |id| format!("id = \"{id}\""))?;
    lab.close()
}

#[test]
fn each_resource_is_imported_by_its_identity() -> Result<()> {
    let Some(program) = terraform_of_version("1.15.5")? else { return Ok(()) };
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?.with_program(program);
    import_all(&lab, &terraform, |id| format!("identity = {{ id = \"{id}\" }}"))?;

    // What is not there is told, and so is what cannot be one.
    terraform.run(&["state", "rm", "weft_vpc.it"])?.success()?;
    for (id, says) in [
        ("vpc-00000000000000000", "Cannot import non-existent remote object"),
        ("nonsense", "Cannot import the VPC"),
    ] {
        let block =
            format!("import {{\n  to = weft_vpc.it\n  identity = {{ id = \"{id}\" }}\n}}\n");
        terraform.write("imports.tf", &block)?;
        let said = terraform.try_plan()?.failure()?;
        ensure!(said.text().contains(says), "{}", said.text());
    }
    lab.close()
}

#[test]
fn a_state_from_before_identities_gets_them_and_older_terraforms_do_not_mind() -> Result<()> {
    let Some(newer) = terraform_of_version("1.15.5")? else { return Ok(()) };
    let Some(older) = terraform_of_version("1.9.8")? else { return Ok(()) };
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?.with_program(older);
    terraform.main(&one_of_each(&lab)?)?;
    terraform.apply()?;
    let identity = |terraform: &Terraform| {
        let text = std::fs::read_to_string(terraform.directory().join("terraform.tfstate"))?;
        anyhow::Ok(text.contains("\"identity\": {"))
    };
    ensure!(!identity(&terraform)?, "Terraform 1.9.8 knows no identities");

    let terraform = terraform.with_program(newer);
    terraform.assert_plan_is_empty()?;
    terraform
        .run(&["apply", "-refresh-only", "-auto-approve", "-input=false", "-no-color"])?
        .success()?;
    terraform.main(&one_of_each(&lab)?.replace("size_gib = 3", "size_gib = 4"))?;
    terraform.apply()?;
    ensure!(identity(&terraform)?, "no identity after an apply by Terraform 1.15.5");
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}

#[test]
fn a_moved_block_between_kinds_is_refused_with_a_way_out() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?;
    let elastic_ip = "resource \"weft_elastic_ip\" \"it\" {\n  name = \"it\"\n}\n";
    terraform.main(elastic_ip)?;
    terraform.apply()?;
    terraform.main(
        "resource \"weft_volume\" \"it\" {\n  name = \"it\"\n  size_gib = 1\n}\n\
         moved {\n  from = weft_elastic_ip.it\n  to = weft_volume.it\n}\n",
    )?;
    let said = terraform.try_plan()?.failure()?;
    let text = said.text().split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(text.contains("weft_elastic_ip cannot be moved to weft_volume"), "{text}");
    terraform.main(elastic_ip)?;
    terraform.destroy()?;
    lab.close()
}

/// Takes everything out of the state, and brings it in by what `by` makes of an id.
fn import_all(lab: &Lab, terraform: &Terraform, by: fn(&str) -> String) -> Result<()> {
    terraform.main(&(one_of_each(lab)? + snapshot()))?;
    terraform.apply()?;
    let state = terraform.state()?;
    let addresses: Vec<&str> = ONE_OF_EACH.into_iter().chain([SNAPSHOT]).collect();
    let mut blocks = String::new();
    for address in &addresses {
        let by = by(&state.text(address, "id")?);
        writeln!(blocks, "import {{\n  to = {address}\n  {by}\n}}")?;
    }
    terraform.run(&[&["state", "rm"], addresses.as_slice()].concat())?.success()?;
    terraform.write("imports.tf", &blocks)?;

    let plan = terraform.plan()?;
    assert_only_imports(&plan, &addresses)?;
    terraform.apply_plan()?;
    terraform.assert_plan_is_empty()
}

/// Fails unless the plan imports exactly these, and changes nothing.
pub(crate) fn assert_only_imports(plan: &Plan, addresses: &[&str]) -> Result<()> {
    let imports = plan.imports();
    let imports: BTreeSet<&str> = imports.iter().map(String::as_str).collect();
    let expected: BTreeSet<&str> = addresses.iter().copied().collect();
    ensure!(imports == expected, "{imports:?} are imported, and not {expected:?}");
    let changed: Vec<_> =
        plan.changes().into_iter().filter(|(_, change)| *change != Change::Nothing).collect();
    ensure!(changed.is_empty(), "not only imports: {changed:?}\n{}", plan.text());
    Ok(())
}
