//! A console token from Terraform: of use while the run goes on, and not after it.

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{Lab, Terraform, skipped, terraform_of_version, terraform_version};

use crate::module::image;

fn story(version: Option<&str>) -> Result<()> {
    if version.is_none() && terraform_version()? < (1, 10) {
        skipped("ephemeral resources need Terraform 1.10");
        return Ok(());
    }
    let flags = ["--listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0"];
    let mut lab = Lab::simulated_with(&flags)?;
    let ca = lab.agent().state_dir().join("tls/ca.crt");
    let mut terraform: Terraform = lab.terraform()?;
    if let Some(version) = version {
        let Some(program) = terraform_of_version(version)? else {
            skipped(&format!("scripts/setup.sh could not get Terraform {version}"));
            return Ok(());
        };
        terraform = terraform.with_program(program);
    }
    // The binaries lie where the provider does.
    let weft = weft_acceptance::binaries()?.join("weft");
    let kept = lab.directory().join("token");
    let text = image(&lab)?
        + &format!(
            r##"
resource "weft_instance" "it" {{
  name       = "it"
  image_id   = weft_image.it.id
  vcpus      = 1
  memory_mib = 64
}}

ephemeral "weft_console_token" "it" {{
  instance_id = weft_instance.it.id
  lifetime    = "2m"
}}

resource "terraform_data" "look" {{
  provisioner "local-exec" {{
    command = "printf %s \"$WEFT_CONSOLE_TOKEN\" > {kept} && touch seen.txt; (echo hello; for i in $(seq 600); do grep -q hello seen.txt && break; sleep 0.1; done) | timeout 60 {weft} console ${{weft_instance.it.id}} > seen.txt; grep hello seen.txt"
    environment = {{
      WEFT_ENDPOINT      = "https://localhost:${{ephemeral.weft_console_token.it.port}}"
      WEFT_CA_CERT       = "{ca}"
      WEFT_CONSOLE_TOKEN = ephemeral.weft_console_token.it.token
    }}
  }}
}}
"##,
            kept = kept.display(),
            weft = weft.display(),
            ca = ca.display()
        );
    terraform.main(&text)?;
    terraform.apply()?;
    let seen = std::fs::read_to_string(terraform.directory().join("seen.txt"))?;
    ensure!(seen.contains("simulated console of i-") && seen.contains("hello"), "{seen}");

    let token = std::fs::read_to_string(&kept).context("the token that was of use")?;
    let state = std::fs::read_to_string(terraform.directory().join("terraform.tfstate"))?;
    ensure!(!token.is_empty() && !state.contains(&token), "the token is in the state");
    let log = lab.agent().log();
    ensure!(log.contains("a console token was revoked"), "nothing revoked it");
    let secret = token.split_once('.').context("a token has two parts")?.1;
    ensure!(!log.contains(secret), "the agent's log has the secret");
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}

#[test]
fn a_console_token_is_of_use_while_the_installed_terraform_runs() -> Result<()> {
    story(None)
}

#[test]
fn a_console_token_is_of_use_while_terraform_1_15_5_runs() -> Result<()> {
    story(Some("1.15.5"))
}
