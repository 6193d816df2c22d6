//! User data that are in no state, under real Terraform: what it writes and logs is searched for them.

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{
    Change, Lab, Terraform, binaries, skipped, terraform_of_version, terraform_version,
};

use crate::module::image;
use crate::secrets::files_with;

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

/// Neither any file of the module nor what a plan file has in it.
fn assert_nothing_is_written(terraform: &Terraform) -> Result<()> {
    let found = files_with(terraform.directory(), SECRET)?;
    ensure!(found.is_empty(), "{found:?} have it");
    let shown = terraform.run(&["show", "-json", "plan.bin"])?.success()?.stdout;
    ensure!(shown.contains("user_data_wo_version") && !shown.contains(SECRET), "{shown}");
    Ok(())
}

fn story(version: Option<&str>) -> Result<()> {
    if version.is_none() && terraform_version()? < (1, 11) {
        skipped("write-only attributes need Terraform 1.11");
        return Ok(());
    }
    let mut lab = Lab::simulated()?;
    let log = lab.directory().join("provider.log");
    let environment = [
        ("TF_VAR_secret".to_owned(), SECRET.to_owned()),
        ("TF_LOG_PROVIDER".to_owned(), "TRACE".to_owned()),
        ("TF_LOG_PATH".to_owned(), log.display().to_string()),
    ];
    let terraform = lab.terraform_with(&binaries()?, &environment)?.of_version(version)?;
    let Some(terraform) = terraform else { return Ok(()) };
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
    let log = std::fs::read_to_string(&log).context("the provider's log")?;
    ensure!(!log.is_empty() && !log.contains(SECRET), "the provider's log has it");
    ensure!(!lab.agent().log().contains(SECRET), "the agent's log has it");
    lab.close()
}

/// The same in `user_data` is found in the plan and in the state, and deep below: the search can fail.
#[test]
fn what_is_in_user_data_is_found_where_terraform_writes_it() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?;
    let hidden = instance(&lab, "one", 1, "nothing")?;
    let (first, _) = hidden.split_once("  user_data_wo  ").context("user data")?;
    terraform.main(
        &format!("{first}  user_data = var.secret\n}}\n{VARIABLE}")
            .replace("ephemeral = true", "default = \"\""),
    )?;
    std::fs::create_dir_all(terraform.directory().join("a/b"))?;
    terraform.write("a/b/terraform.tfvars", &format!("secret = \"{SECRET}\"\n"))?;
    let variables = "-var-file=a/b/terraform.tfvars";
    terraform.run(&["plan", "-input=false", "-no-color", "-out=plan.bin", variables])?.success()?;
    terraform.apply_plan()?;
    let found = files_with(terraform.directory(), SECRET)?;
    let expected = ["a/b/terraform.tfvars", "plan.bin", "terraform.tfstate"];
    ensure!(found == expected, "{found:?}");
    terraform.destroy()?;
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
    let Some(program) = terraform_of_version("1.9.8")? else { return Ok(()) };
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?.with_program(program);
    terraform.main(&instance(&lab, "one", 1, SECRET)?)?;
    let said = terraform.try_plan()?;
    ensure!(said.code() == Some(1), "it was taken:\n{}", said.text());
    ensure!(said.text().contains("user_data_wo is write-only"), "{}", said.text());
    ensure!(said.text().contains("Use Terraform 1.11 or later"), "{}", said.text());
    lab.close()
}
