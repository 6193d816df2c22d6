//! The oldest and the newest Terraform that Weft promises to work with, besides the installed one.

use anyhow::{Result, ensure};
use weft_acceptance::{Lab, terraform_of_version};

use crate::module::{ONE_OF_EACH, one_of_each};

#[test]
fn terraform_1_9_8_applies_plans_nothing_and_destroys() -> Result<()> {
    smoke("1.9.8")
}

#[test]
fn terraform_1_15_5_applies_plans_nothing_and_destroys() -> Result<()> {
    smoke("1.15.5")
}

fn smoke(version: &str) -> Result<()> {
    let Some(program) = terraform_of_version(version)? else { return Ok(()) };
    let lab = Lab::simulated()?;
    let before = lab.count("instances")?;
    let terraform = lab.terraform()?.with_program(program);
    let said = terraform.run(&["version"])?.success()?.stdout;
    ensure!(said.starts_with(&format!("Terraform v{version}\n")), "not {version}:\n{said}");
    terraform.main(&one_of_each(&lab)?)?;
    terraform.run(&["validate", "-no-color"])?.success()?;

    terraform.apply()?;
    let state = terraform.state()?;
    for address in ONE_OF_EACH {
        ensure!(state.has(address), "{address} is not in the state");
    }
    terraform.assert_plan_is_empty()?;

    terraform.forget_and_import("weft_instance.it")?;
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    ensure!(lab.count("instances")? == before, "the instance is left");
    lab.close()
}
