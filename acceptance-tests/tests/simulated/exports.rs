//! `weft export terraform`: what it writes plans nothing but imports.

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{Lab, Terraform, terraform_of_version};

use crate::imports::assert_only_imports;
use crate::module::{ONE_OF_EACH, PUBLIC_KEY, image, one_of_each, snapshot};

/// In the default VPC, where everything else is in one of its own; with odd names.
const MORE: &str = r#"
resource "weft_security_group" "default_vpc" {
  name = "1st group (of $${all})"
}

resource "weft_instance" "plain" {
  name               = "plain"
  image_id           = weft_image.it.id
  instance_type      = "w1.nano"
  security_group_ids = [weft_security_group.default_vpc.id, data.weft_vpc.default.default_security_group_id]
  user_data_base64   = base64encode("a\u0001b")
  metadata_options   = { http_tokens = "optional" }
  root_volume        = { size_gib = 2 }
}

resource "weft_volume" "of_snapshot" {
  name        = "it"
  size_gib    = 3
  snapshot_id = weft_snapshot.it.id
}

resource "weft_image" "captured" {
  name               = "captured"
  source_instance_id = weft_instance.plain.id
}

data "weft_vpc" "default" {
  default = true
}
"#;

const ALSO: [&str; 5] = [
    "weft_image.captured",
    "weft_snapshot.it",
    "weft_security_group.default_vpc",
    "weft_instance.plain",
    "weft_volume.of_snapshot",
];

#[test]
fn what_exists_is_exported_and_then_only_imported() -> Result<()> {
    let lab = Lab::simulated()?;
    let made = make(&lab)?;
    let terraform = lab.terraform()?;
    let main = export_into(&lab, &terraform)?;

    for expression in [
        " = weft_vpc.it.id",
        " = [weft_key_pair.it.key_name]",
        " = weft_instance_type.story_odd.name",
        "data.weft_subnet.default.id",
        "data.weft_vpc.default.default_security_group_id",
        "resource \"weft_security_group\" \"_1st_group__of___all\"",
        "resource \"weft_volume\" \"it_2\"",
        "resource \"weft_security_group_ingress_rule\" \"it_tcp_22\"",
        "resource \"weft_security_group_egress_rule\" \"it_all\"",
        "snapshot_id = weft_snapshot.it.id",
        "# source_path: a file of the machine where the image was made.",
        "#!/bin/sh\necho hello\n",
    ] {
        ensure!(main.contains(expression), "{expression} is not in\n{main}");
    }
    for default in ["auto_restart", "tags_all", "known_hosts_line", "architecture"] {
        ensure!(!main.contains(default), "{default} is in\n{main}");
    }
    only_imports(&terraform, made, &main)?;
    terraform.destroy()?;
    lab.close()
}

#[test]
fn tags_of_a_providers_default_tags_are_exported_with_the_provider() -> Result<()> {
    const DEFAULTS: &str = "provider \"weft\" {\n  default_tags = {\n    team = \"x\"\n  }\n}\n";
    let vpc = |name: &str, cidr: &str| {
        format!(
            "resource \"weft_vpc\" \"{name}\" {{\n  name = \"{name}\"\n  cidr_block = \"{cidr}\"\n}}\n"
        )
    };
    let lab = Lab::simulated()?;
    let maker = lab.terraform()?;
    let tagged = "resource \"weft_key_pair\" \"own\" {\n  key_name = \"own\"\n  \
                  tags = { team = \"y\" }\n  public_key = \"";
    let tagged = format!("{tagged}{}\"\n}}\n", PUBLIC_KEY);
    maker.main(&(DEFAULTS.to_owned() + &vpc("all", "10.1.0.0/16") + &tagged))?;
    maker.apply()?;
    let terraform = lab.terraform()?;
    let main = export_into(&lab, &terraform)?;
    let versions = std::fs::read_to_string(terraform.directory().join("versions.tf"))?;
    ensure!(versions.contains(DEFAULTS), "{versions}");
    only_imports(&terraform, 2, &main)?;

    // Somebody else's objects do not have them: then each has its own.
    let other = lab.terraform()?;
    other.main(&vpc("other", "10.2.0.0/16"))?;
    other.apply()?;
    let terraform = lab.terraform()?;
    let main = export_into(&lab, &terraform)?;
    ensure!(main.contains("# Some of its tags come from the default_tags"), "{main}");
    let versions = std::fs::read_to_string(terraform.directory().join("versions.tf"))?;
    ensure!(!versions.contains("default_tags"), "{versions}");
    let out = terraform.directory().join("counted").display().to_string();
    let said = lab.weft(&["export", "terraform", "--out", &out])?.success()?.stdout;
    ensure!(said.contains("which imports, and changes 1 of them"), "{said}");
    std::fs::remove_dir_all(&out)?;
    let plan = terraform.plan()?;
    ensure!(!plan.text().contains("~ tags_all"), "tags change:\n{}", plan.text());
    terraform.apply_plan()?;
    terraform.assert_plan_is_empty()?;
    lab.close()
}

#[test]
fn an_export_is_understood_by_terraform_1_15_5() -> Result<()> {
    let Some(program) = terraform_of_version("1.15.5")? else { return Ok(()) };
    let lab = Lab::simulated()?;
    let made = make(&lab)?;
    let terraform = lab.terraform()?.with_program(program);
    let main = export_into(&lab, &terraform)?;
    only_imports(&terraform, made, &main)?;
    lab.close()
}

#[test]
fn an_export_of_some_kinds_names_the_others_by_id_and_writes_over_nothing() -> Result<()> {
    let lab = Lab::simulated()?;
    let made = make(&lab)?;
    let terraform = lab.terraform()?;
    let text = lab.weft(&["export", "terraform", "subnet"])?.success()?.stdout;
    ensure!(text.contains("resource \"weft_subnet\" \"it\""), "{text}");
    ensure!(text.contains("vpc_id      = \"vpc-"), "{text}");
    ensure!(!text.contains("weft_vpc") && text.matches("import {").count() == 1, "{text}");

    let directory = terraform.directory().join("here");
    let out = directory.to_str().context("a path")?.to_owned();
    std::fs::create_dir(&directory)?;
    std::fs::write(directory.join("main.tf"), "# mine")?;
    let refused = lab.weft(&["export", "terraform", "--out", &out])?.failure()?;
    ensure!(refused.text().contains("main.tf is there already"), "{}", refused.text());
    ensure!(!directory.join("versions.tf").exists(), "half of it was written");
    let unknown = lab.weft(&["export", "terraform", "subnetz"])?.failure()?;
    ensure!(unknown.text().contains("subnet"), "{}", unknown.text());
    // One of all that there is.
    let all = lab.weft(&["export", "terraform"])?.success()?.stdout;
    let exported = all.matches("import {").count();
    ensure!(exported == made, "{exported} of {made} are exported:\n{all}");
    lab.close()
}

/// Makes one of each and more, by a module that is forgotten; how many there are.
fn make(lab: &Lab) -> Result<usize> {
    let maker = lab.terraform()?;
    maker.main(&(one_of_each(lab)? + snapshot() + MORE))?;
    maker.apply()?;
    let state = maker.state()?;
    for address in ONE_OF_EACH.into_iter().chain(ALSO) {
        ensure!(state.has(address), "{address} was not made");
    }
    Ok(ONE_OF_EACH.len() + ALSO.len())
}

/// Exports everything into the module; its `main.tf`.
fn export_into(lab: &Lab, terraform: &Terraform) -> Result<String> {
    // The module's own header says the same.
    std::fs::remove_file(terraform.directory().join("versions.tf"))?;
    let out = terraform.directory().to_str().context("a path")?.to_owned();
    let said = lab.weft(&["export", "terraform", "--out", &out])?.success()?;
    ensure!(said.stdout.contains("resources in"), "{}", said.stdout);
    let main = std::fs::read_to_string(terraform.directory().join("main.tf"))?;
    let formatted = terraform.run(&["fmt", "-check", "-diff", "-no-color"])?;
    ensure!(formatted.code() == Some(0), "not as fmt has it:\n{}", formatted.text());
    Ok(main)
}

/// Fails unless all that exists, `made` resources, is exported so that a plan only imports it.
pub(crate) fn assert_export_only_imports(lab: &Lab, made: usize) -> Result<()> {
    let terraform = lab.terraform()?;
    let main = export_into(lab, &terraform)?;
    plan_only_imports(&terraform, made, &main)
}

fn only_imports(terraform: &Terraform, made: usize, main: &str) -> Result<()> {
    plan_only_imports(terraform, made, main)?;
    terraform.apply_plan()?;
    terraform.assert_plan_is_empty()
}

fn plan_only_imports(terraform: &Terraform, made: usize, main: &str) -> Result<()> {
    let plan = terraform.plan().with_context(|| main.to_owned())?;
    let imports = plan.imports();
    ensure!(imports.len() == made, "{} are imported, {made} were made:\n{main}", imports.len());
    let imports: Vec<&str> = imports.iter().map(String::as_str).collect();
    assert_only_imports(&plan, &imports).with_context(|| main.to_owned())
}

#[test]
fn user_data_that_are_in_no_state_are_to_be_filled_in() -> Result<()> {
    let Some(program) = terraform_of_version("1.15.5")? else { return Ok(()) };
    let lab = Lab::simulated()?;
    let maker = lab.terraform()?.with_program(program.clone());
    let instance = "resource \"weft_instance\" \"it\" {\n  image_id = weft_image.it.id\n  \
                    instance_type = \"w1.nano\"\n  user_data_wo = \"secret\"\n  \
                    user_data_wo_version = 3\n}\n";
    maker.main(&(image(&lab)? + instance))?;
    maker.apply()?;
    let terraform = lab.terraform()?.with_program(program);
    let main = export_into(&lab, &terraform)?;
    ensure!(main.contains("# Fill in user_data_wo:") && !main.contains("secret"), "{main}");
    // With the same version nothing is sent, so nothing else is to do.
    only_imports(&terraform, 2, &main)?;
    lab.close()
}
