//! A console token from Terraform: of use while the run goes on, and not after it. Nobody writes it: it is
//! in no state, no plan, no log of the agent's and, though there it might be, not in Terraform's own at
//! its most talkative (`TF_LOG=TRACE`).

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{Lab, skipped, terraform_version};

use crate::module::image;
use crate::secrets::files_with;

fn story(version: Option<&str>) -> Result<()> {
    if version.is_none() && terraform_version()? < (1, 10) {
        skipped("ephemeral resources need Terraform 1.10");
        return Ok(());
    }
    let flags = ["--listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0"];
    let mut lab = Lab::simulated_with(&flags)?;
    let ca = lab.agent().state_dir().join("tls/ca.crt");
    let Some(mut terraform) = lab.terraform()?.of_version(version)? else { return Ok(()) };
    terraform.set("TF_LOG", "TRACE");
    let trace = lab.directory().join("terraform.log");
    terraform.set("TF_LOG_PATH", &trace.display().to_string());
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

locals {{
  environment = {{
    WEFT_ENDPOINT      = "https://localhost:${{ephemeral.weft_console_token.it.port}}"
    WEFT_CA_CERT       = "{ca}"
    WEFT_CONSOLE_TOKEN = ephemeral.weft_console_token.it.token
  }}
}}

# One that is still attached when the run ends: its keys come from where nobody types.
resource "terraform_data" "stay" {{
  depends_on = [terraform_data.look]
  provisioner "local-exec" {{
    command = "mkfifo keys; (exec 3<>keys; {weft} console ${{weft_instance.it.id}} <&3 > late.txt 2>&1; echo exit $? >> late.txt) > rest.txt 2>&1 & until grep -q simulated late.txt; do sleep 0.1; done"
    environment = local.environment
  }}
}}

resource "terraform_data" "look" {{
  provisioner "local-exec" {{
    command = "printf %s \"$WEFT_CONSOLE_TOKEN\" > {kept} && touch seen.txt; (echo hello; for i in $(seq 600); do grep -q hello seen.txt && break; sleep 0.1; done) | timeout 60 {weft} console ${{weft_instance.it.id}} > seen.txt; grep hello seen.txt"
    environment = local.environment
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

    let late = terraform.directory().join("late.txt");
    let ended = weft_acceptance::eventually("the console ends", weft_acceptance::within(), || {
        Ok(std::fs::read_to_string(&late).ok().filter(|text| text.contains("exit ")))
    })?;
    ensure!(ended.contains("token was revoked") && ended.contains("exit 1"), "{ended}");

    let token = std::fs::read_to_string(&kept).context("the token that was of use")?;
    let log = lab.agent().log();
    ensure!(log.contains("a console token was revoked"), "nothing revoked it");
    let (id, secret) = token.split_once('.').context("a token has two parts")?;
    ensure!(log.contains(id) && !log.contains(secret), "the agent's log has the secret");
    // A plan has a token made, too: where one is, its id is before a dot.
    terraform.plan()?;
    terraform.assert_plan_is_empty()?;
    let talk = std::fs::read_to_string(&trace).context("terraform's log")?;
    ensure!(talk.contains("[TRACE]") && talk.contains("weft_console_token"), "no trace");
    let ids = minted(&lab.agent().log())?;
    ensure!(ids.len() > 1 && ids.iter().any(|minted| minted == id), "{ids:?}");
    for minted in &ids {
        let found = files_with(lab.directory(), &format!("{minted}."))?;
        // What the story wrote itself is found.
        let expected: &[&str] = if minted == id { &["token"] } else { &[] };
        ensure!(found == expected, "the token {minted} is in {found:?}");
    }
    terraform.destroy()?;
    lab.close()
}

/// The ids of all tokens that the agent has made, out of its log.
fn minted(log: &str) -> Result<Vec<String>> {
    let lines = log.lines().filter(|line| line.contains("a console token was made"));
    lines
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line)?;
            line["token.id"].as_str().map(str::to_owned).context("a token without an id")
        })
        .collect()
}

#[test]
fn a_console_token_is_of_use_while_the_installed_terraform_runs() -> Result<()> {
    story(None)
}

#[test]
fn a_console_token_is_of_use_while_terraform_1_15_5_runs() -> Result<()> {
    story(Some("1.15.5"))
}
