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

    let good = module(r#"{"status":"success"}"#)?;
    let other = |options: &str| instance("other", &format!("metadata_options = {{ {options} }}"));
    terraform.main(&(good.clone() + &other("http_tokens = \"optional\"")))?;
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

    // Names, by the search domain and in full, of both guests; nobody's is nobody's.
    let resolv_conf = guest.ssh("cat /etc/resolv.conf")?;
    ensure!(resolv_conf.contains("search default.weft.internal"), "{resolv_conf}");
    let beside = lab.guest(&key, &state, "weft_instance.other")?;
    for (name, address) in [("it", &address), ("other", &beside.address.to_string())] {
        let full = format!("{name}.default.weft.internal");
        let by_address = format!("ip-{}.default.weft.internal", address.replace('.', "-"));
        for (asked, want) in [(&full, address), (&by_address, address), (address, &full)] {
            let said = guest.ssh(&format!("nslookup {asked} {dns} 2>&1 || true"))?;
            ensure!(said.contains(want.as_str()), "{asked}, not {want}: {said}");
        }
    }
    let said = guest.ssh("ping -c 1 -W 1 other 2>&1 | head -n 1")?;
    ensure!(said.contains(&beside.address.to_string()), "{said}");
    let said = guest.ssh(&format!("nslookup nobody.default.weft.internal {dns} 2>&1 || true"))?;
    ensure!(said.contains("NXDOMAIN"), "{said}");

    // What the other one is told its metadata by changes while it runs.
    let without = |path| metadata_without_token(&beside, path);
    let said = without("/latest/meta-data/instance-id")?;
    ensure!(said.contains(" 200 "), "tokens are optional: {said}");
    terraform.main(&(good + &other("http_endpoint = \"disabled\"")))?;
    terraform.apply()?;
    let said = without("/latest/meta-data/instance-id")?;
    ensure!(said.contains(" 403 "), "disabled: {said}");
    terraform.assert_plan_is_empty()?;

    terraform.destroy()?;
    lab.close()
}
