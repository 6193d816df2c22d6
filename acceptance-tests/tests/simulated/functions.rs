//! Provider functions under real Terraform, the oldest and the newest included.

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::Lab;

const OUTPUTS: &str = r##"
output "user_data" {
  value = provider::weft::cloud_init([
    { content = "#cloud-config\n${yamlencode({ packages = ["nginx"] })}" },
    { content = "#!/bin/sh\necho hi\n", filename = "hi.sh" },
  ])
}
output "resource" {
  value = provider::weft::parse_id("i-0123456789abcdef0/vol-0123456789abcdef0").resource_type
}
output "ssh" {
  value = provider::weft::ssh_config_entry("web", { host_name = "10.0.0.7", port = 2222 })
}
"##;

/// In a plan the id is unknown, and so is what is made of it.
const UNKNOWN: &str = r#"
resource "weft_vpc" "it" {
  name       = "it"
  cidr_block = "10.78.0.0/16"
}
output "kind" {
  value = provider::weft::parse_id(weft_vpc.it.id).kind
}
"#;

#[test]
fn functions_give_the_same_under_every_terraform() -> Result<()> {
    let lab = Lab::simulated()?;
    for version in [None, Some("1.9.8"), Some("1.15.5")] {
        let Some(terraform) = lab.terraform()?.of_version(version)? else { continue };
        terraform.main(&format!("{OUTPUTS}{UNKNOWN}"))?;
        terraform.apply().with_context(|| format!("{version:?}"))?;
        terraform.assert_plan_is_empty()?;
        let said = terraform.run(&["output", "-json"])?.success()?.stdout;
        let said: serde_json::Value = serde_json::from_str(&said)?;
        let value = |name: &str| said[name]["value"].as_str().unwrap_or_default().to_owned();
        ensure!(value("user_data").contains("Content-Type: text/x-shellscript"), "{said}");
        ensure!(value("resource") == "weft_volume_attachment", "{said}");
        ensure!(value("ssh") == "Host web\n  HostName 10.0.0.7\n  Port 2222\n", "{said}");
        ensure!(value("kind") == "VPC", "{said}");
        terraform.destroy()?;
    }
    lab.close()
}

#[test]
fn a_wrong_argument_is_told_with_its_place() -> Result<()> {
    let lab = Lab::simulated()?;
    let cases = [
        (
            "provider::weft::cloud_init([{ content = \"#!/bin/sh\" }, { content = \"echo\" }])",
            "Invalid value for \"parts\" parameter: parts[1]: cloud-init cannot tell what it is",
        ),
        (
            "provider::weft::ssh_config_entry(\"web\", { host_name = \"a\\nProxyCommand x\" })",
            "Invalid value for \"options\" parameter: host_name \"a\\nProxyCommand x\" has",
        ),
        ("provider::weft::parse_id(\"web\")", "\"web\" is not an id of Weft"),
        ("provider::weft::parse_id(null)", "argument must not be null"),
    ];
    for (call, want) in cases {
        let terraform = lab.terraform()?;
        terraform.main(&format!("output \"bad\" {{\n  value = {call}\n}}\n"))?;
        let said = terraform.try_plan()?;
        ensure!(said.code() == Some(1), "{call} was taken:\n{}", said.text());
        let flat =
            |text: &str| text.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(flat(&said.text()).contains(&flat(want)), "{want:?} is not in:\n{}", said.text());
    }
    lab.close()
}
