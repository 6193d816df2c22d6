//! What a VPC serves its guests, asked for by one, and waiting for a guest's own word.

use anyhow::{Result, ensure};
use weft_acceptance::Lab;

use crate::guest_tools::{IMDS, dhcp, metadata, metadata_without_token};
use crate::module::{access, image, instance};

/// User data that ends with `PUT /weft/v1/signal`.
fn signals(body: &str) -> String {
    format!(
        "wait_for = \"signal\"\n  user_data = <<-EOT\n#!/bin/sh{}imds PUT /weft/v1/signal \"$(token)\" '{body}'\nEOT\n",
        // To Terraform too, a dollar and a brace begin something.
        IMDS.replace("${", "$${"),
    )
}

#[test]
fn a_guest_says_when_it_is_ready_and_is_served_meanwhile() -> Result<()> {
    let Some(lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    let module = |body: &str| -> Result<String> {
        Ok(image("")? + &access(&key) + &instance("it", &signals(body)))
    };

    // Failure, in the guest's own words.
    terraform.main(&module(r#"{"status":"failure","reason":"the database is not there"}"#)?)?;
    let said = terraform.try_apply()?.failure()?.text();
    ensure!(said.contains("the database is not there"), "{said}");
    ensure!(terraform.state()?.is_tainted("weft_instance.it"));

    terraform.main(&module(r#"{"status":"success"}"#)?)?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    let state = terraform.state()?;
    let id = state.text("weft_instance.it", "id")?;
    ensure!(lab.weft_json(&["get", &id])?["signal"]["outcome"] == "success");

    // The address by DHCP is the one it has; all of the rest by metadata, with a token.
    let guest = lab.guest(&key, &state, "weft_instance.it")?;
    let address = guest.address.to_string();
    let told = dhcp(&guest)?;
    let (router, dns) = ("172.31.0.1", "169.254.169.253");
    ensure!(told == format!("{address} 18 {router} {dns} {router}"), "DHCP told {told:?}");
    let refused = metadata_without_token(&guest, "/latest/meta-data/instance-id")?;
    ensure!(refused.contains(" 401 "), "without a token: {refused}");
    let public = format!("{}\n", key.public);
    for (path, want) in [
        ("/latest/meta-data/instance-id", id.as_str()),
        ("/latest/meta-data/local-ipv4", &address),
        ("/latest/meta-data/mac", &state.text("weft_instance.it", "mac_address")?),
        ("/latest/meta-data/security-groups", "ssh"),
        ("/latest/meta-data/public-keys/0/openssh-key", &public),
    ] {
        let got = metadata(&guest, path)?;
        ensure!(got.trim() == want.trim(), "{path}: {got:?}, not {want:?}");
    }
    let user_data = metadata(&guest, "/latest/user-data")?;
    ensure!(user_data.contains("/weft/v1/signal"), "{user_data}");

    terraform.destroy()?;
    lab.close()
}
