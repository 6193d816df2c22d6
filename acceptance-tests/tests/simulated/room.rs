//! What there is room for, and what a plan says of what there is none for: a host of 4 GiB in the zone
//! `rack-2`.

use anyhow::{Result, ensure};
use serde_json::json;
use weft_acceptance::{Lab, Terraform};

use crate::module::image;

const SMALL: [&str; 4] = ["--sim-memory-mib", "4096", "--zone", "rack-2"];
const NO_ROOM: &str = "There is no room for all that this plan makes";

/// Instances of 1536 MiB, by name.
fn instances(lab: &Lab, names: &[&str]) -> Result<String> {
    let names = names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    Ok(image(lab)?
        + &format!(
            r#"
resource "weft_instance" "it" {{
  for_each   = toset([{names}])
  name       = each.key
  image_id   = weft_image.it.id
  vcpus      = 1
  memory_mib = 1536
  wait_for   = "running"
}}
"#
        ))
}

fn is_warned(terraform: &Terraform) -> Result<bool> {
    let plan = terraform.plan()?;
    let times = plan.text().matches(NO_ROOM).count();
    ensure!(times <= 1, "it is said {times} times:\n{}", plan.text());
    Ok(times == 1)
}

#[test]
fn a_plan_says_once_what_does_not_fit_and_counts_what_goes_as_free() -> Result<()> {
    let lab = Lab::simulated_with(&SMALL)?;
    let terraform = lab.terraform()?;
    terraform.main(&instances(&lab, &["a", "b"])?)?;
    ensure!(!is_warned(&terraform)?, "two fit");
    terraform.apply_plan()?;

    terraform.main(&instances(&lab, &["a", "b", "c", "d", "e"])?)?;
    ensure!(is_warned(&terraform)?, "five do not fit");
    let plan = terraform.plan()?;
    let free = "1024 of 4096 MiB are free";
    ensure!(plan.text().replace('\n', " ").contains(free), "{}", plan.text());

    // Others in their place.
    terraform.main(&instances(&lab, &["x", "y"])?)?;
    ensure!(!is_warned(&terraform)?, "both of before are removed");
    terraform
        .main(&instances(&lab, &["a", "b"])?.replace("memory_mib = 1536", "memory_mib = 2048"))?;
    ensure!(!is_warned(&terraform)?, "they grow into what is free");
    terraform
        .main(&instances(&lab, &["a", "b"])?.replace("memory_mib = 1536", "memory_mib = 2176"))?;
    ensure!(is_warned(&terraform)?, "they grow beyond it");

    terraform.write("provider.tf", "provider \"weft\" {\n  plan_checks = \"error\"\n}\n")?;
    let refused = terraform.try_plan()?.failure()?;
    ensure!(refused.text().contains(NO_ROOM), "{}", refused.text());
    // Before it destroys, Terraform plans what the configuration wants.
    terraform.write("provider.tf", "")?;
    terraform.destroy()?;
    lab.close()
}

#[test]
fn capacity_zones_and_the_caller_are_told() -> Result<()> {
    let lab = Lab::simulated_with(&SMALL)?;
    let terraform = lab.terraform()?;
    terraform.main(
        r#"
data "weft_capacity" "now" {}
data "weft_availability_zones" "all" {}
data "weft_caller_identity" "me" {}
data "weft_hosts" "all" {}
data "weft_hosts" "elsewhere" {
  availability_zone = "rack-1"
}
output "room" {
  value = { for t in data.weft_capacity.now.types : t.instance_type => t.available_instance_count }
}
output "zones" {
  value = data.weft_availability_zones.all.names
}
output "me" {
  value = data.weft_caller_identity.me
}
output "hosts" {
  value = [for host in data.weft_hosts.all.hosts : [host.availability_zone, host.memory_mib]]
}
output "elsewhere" {
  value = length(data.weft_hosts.elsewhere.ids)
}
"#,
    )?;
    terraform.apply()?;

    let state = terraform.state()?;
    let room = state.output("room")?;
    ensure!(room["w1.medium"] == 4 && room["w1.nano"] == 32 && room["w1.2xlarge"] == 0, "{room}");
    ensure!(*state.output("zones")? == json!(["rack-2"]));
    ensure!(*state.output("hosts")? == json!([["rack-2", 4096]]));
    ensure!(*state.output("elsewhere")? == 0);
    let me = state.output("me")?;
    ensure!(me["method"] == "unix_socket" && me["uid"] == nix::unistd::getuid().as_raw(), "{me}");
    lab.close()
}
