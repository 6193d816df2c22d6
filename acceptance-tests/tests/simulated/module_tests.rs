//! `examples/tested-module`: `terraform test` against a simulated host that its runner starts and ends.

use std::path::Path;

use anyhow::{Result, ensure};
use weft_acceptance::{
    Finished, Lab, Terraform, binaries, repository, run, terraform_of_version, within,
};

/// The example's files, in a directory of their own.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        match entry.file_type()?.is_dir() {
            // What a person has left who ran it in place.
            true if name == ".terraform" => {}
            true => copy(&entry.path(), &to.join(name))?,
            false => drop(std::fs::copy(entry.path(), to.join(name))?),
        }
    }
    Ok(())
}

fn example(lab: &Lab) -> Result<Terraform> {
    let terraform = lab.terraform()?.with_mirror()?;
    std::fs::remove_file(terraform.directory().join("versions.tf"))?;
    copy(&repository().join("examples/tested-module"), terraform.directory())?;
    let _ = std::fs::remove_file(terraform.directory().join(".terraform.lock.hcl"));
    Ok(terraform)
}

fn test(terraform: &Terraform) -> Result<Finished> {
    let mut command = terraform.program(Path::new("./test.sh"));
    command.arg("-no-color").env("FABRIC_AGENT", binaries()?.join("fabric-agent"));
    command.env("TERRAFORM", terraform.path());
    run(command, within() * 2)
}

/// Everything passes, fails where it should, and leaves nothing.
fn tell(lab: Lab, terraform: &Terraform) -> Result<()> {
    let before = lab.processes().len();
    let said = test(terraform)?.success()?.stdout;
    ensure!(said.contains("7 passed, 0 failed"), "{said}");
    // A module that does less than its tests say.
    let main = std::fs::read_to_string(terraform.directory().join("main.tf"))?;
    let open = main.replace("cidr_ipv4         = var.office", "cidr_ipv4         = \"0.0.0.0/0\"");
    ensure!(open != main, "the example's rule reads otherwise");
    terraform.main(&open)?;
    let said = test(terraform)?.failure()?.text();
    ensure!(said.contains("SSH is open to others than the office"), "{said}");
    ensure!(said.contains("1 failed"), "{said}");
    let left = lab.processes();
    ensure!(left.len() == before, "processes are left: {left:?}");
    lab.close()
}

#[test]
fn a_module_is_tested_against_a_simulated_host() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = example(&lab)?;
    tell(lab, &terraform)
}

#[test]
fn terraform_1_15_5_tests_a_module_against_a_simulated_host() -> Result<()> {
    let Some(program) = terraform_of_version("1.15.5")? else { return Ok(()) };
    let lab = Lab::simulated()?;
    let terraform = example(&lab)?.with_program(program);
    tell(lab, &terraform)
}

#[test]
fn a_runner_that_finds_no_agent_says_so() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = example(&lab)?;
    let mut command = terraform.program(Path::new("./test.sh"));
    command.env("FABRIC_AGENT", "/nowhere/fabric-agent");
    let said = run(command, within())?.failure()?.text();
    ensure!(said.contains("the agent did not start"), "{said}");
    lab.close()
}
