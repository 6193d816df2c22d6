//! User data that are in no state, under real Terraform: what it writes and logs is searched for them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{
    Change, Lab, Terraform, binaries, skipped, terraform_of_version, terraform_version,
};

use crate::module::image;

const SECRET: &str = "s3cret-of-the-story";

const VARIABLE: &str = "variable \"secret\" {\n  type      = string\n  ephemeral = true\n}\n";

fn instance(lab: &Lab, name: &str, version: u32, secret: &str) -> Result<String> {
    Ok(image(lab)?
        + &format!(
            r##"
resource "weft_instance" "it" {{
  name                 = "{name}"
  image_id             = weft_image.it.id
  vcpus                = 1
  memory_mib           = 64
  user_data_wo         = "#!/bin/sh\n# {secret} {version}\n"
  user_data_wo_version = {version}
}}
"##
        ))
}

fn module(lab: &Lab, name: &str, version: u32) -> Result<String> {
    Ok(VARIABLE.to_owned() + &instance(lab, name, version, "${var.secret}")?)
}

fn has_secret(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
}

/// Every file below `directory` but the variables, and all that a plan file has in it.
fn assert_nothing_is_written(terraform: &Terraform) -> Result<()> {
    for entry in std::fs::read_dir(terraform.directory())? {
        let path = entry?.path();
        if path.is_file() && path.extension().is_none_or(|kind| kind != "tfvars") {
            ensure!(!has_secret(&std::fs::read(&path)?), "{} has it", path.display());
        }
    }
    let plan = terraform.directory().join("plan.bin");
    ensure!(!has_secret(&unpacked(&plan)?), "the plan file has it");
    let shown = terraform.run(&["show", "-json", "plan.bin"])?.success()?.stdout;
    ensure!(shown.contains("user_data_wo_version") && !has_secret(shown.as_bytes()), "{shown}");
    Ok(())
}

/// A plan file is a zip.
fn unpacked(path: &Path) -> Result<Vec<u8>> {
    let code = "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1])\n\
                sys.stdout.buffer.write(b''.join(z.read(n) for n in z.namelist()))";
    let output = Command::new("python3").args(["-c", code]).arg(path).output();
    let output = output.context("python3 unpacks the plan")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(!output.stdout.is_empty(), "the plan file is empty");
    Ok(output.stdout)
}

fn story(version: Option<&str>) -> Result<()> {
    if version.is_none() && terraform_version()? < (1, 11) {
        skipped("write-only attributes need Terraform 1.11");
        return Ok(());
    }
    let lab = Lab::simulated()?;
    let log = lab.directory().join("provider.log");
    let environment = [
        ("TF_VAR_secret".to_owned(), SECRET.to_owned()),
        ("TF_LOG_PROVIDER".to_owned(), "TRACE".to_owned()),
        ("TF_LOG_PATH".to_owned(), log.display().to_string()),
    ];
    let mut terraform = lab.terraform_with(&binaries()?, &environment)?;
    if let Some(version) = version {
        let Some(program) = terraform_of_version(version)? else {
            skipped(&format!("scripts/setup.sh could not get Terraform {version}"));
            return Ok(());
        };
        terraform = terraform.with_program(program);
    }
    let address = "weft_instance.it";
    let epoch = || -> Result<u64> {
        let id = terraform.state()?.text(address, "id")?;
        lab.weft_json(&["get", &id])?["run_epoch"].as_u64().context("no run_epoch")
    };
    terraform.main(&module(&lab, "one", 1)?)?;
    terraform.plan()?;
    assert_nothing_is_written(&terraform)?;
    terraform.apply_plan()?;
    terraform.assert_plan_is_empty()?;
    let first = epoch()?;

    // Of the same version they are not sent: nothing restarts.
    terraform.main(&module(&lab, "two", 1)?)?;
    terraform.apply()?;
    ensure!(epoch()? == first, "an update of the name has restarted it");

    terraform.main(&module(&lab, "two", 2)?)?;
    let plan = terraform.plan()?;
    ensure!(plan.change(address) == Change::Update, "{}", plan.text());
    ensure!(plan.text().contains("This change restarts the instance"), "{}", plan.text());
    assert_nothing_is_written(&terraform)?;
    terraform.apply_plan()?;
    ensure!(epoch()? > first, "another version has restarted nothing");

    terraform.forget_and_import(address)?;
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    assert_nothing_is_written(&terraform)?;
    let log = std::fs::read(&log).context("the provider's log")?;
    ensure!(!log.is_empty() && !has_secret(&log), "the provider's log has it");
    lab.close()
}

#[test]
fn the_installed_terraform_writes_user_data_wo_nowhere() -> Result<()> {
    story(None)
}

#[test]
fn terraform_1_15_5_writes_user_data_wo_nowhere() -> Result<()> {
    story(Some("1.15.5"))
}

#[test]
fn terraform_1_9_8_is_told_that_it_would_write_it() -> Result<()> {
    let Some(program) = terraform_of_version("1.9.8")? else {
        skipped("scripts/setup.sh could not get Terraform 1.9.8");
        return Ok(());
    };
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?.with_program(program);
    terraform.main(&instance(&lab, "one", 1, SECRET)?)?;
    let said = terraform.try_plan()?;
    ensure!(said.code() == Some(1), "it was taken:\n{}", said.text());
    ensure!(said.text().contains("user_data_wo is write-only"), "{}", said.text());
    ensure!(said.text().contains("Use Terraform 1.11 or later"), "{}", said.text());
    lab.close()
}
