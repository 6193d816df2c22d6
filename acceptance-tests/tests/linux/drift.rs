//! Somebody else changes what the agent made in the kernel.

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{Lab, eventually, within};

use crate::module::{access, image, instance};

/// Commands in the VPC's namespace, and words of what is said of them. `TAP` and `ADDRESS` are the
/// guest's.
const CHANGES: [(&[&str], &str); 6] = [
    (&["ip", "link", "set", "TAP", "down"], "the tap TAP of ADDRESS was down"),
    (&["ip", "neigh", "del", "ADDRESS", "dev", "TAP"], "its route or neighbour entry"),
    (
        &[
            "tc", "qdisc", "add", "dev", "TAP", "root", "tbf", "rate", "1mbit", "burst", "64kb",
            "latency", "9ms",
        ],
        "the limit of the tap TAP of ADDRESS",
    ),
    (&["nft", "delete", "table", "inet", "weft"], "the packet filter had been changed"),
    (&["ip", "address", "flush", "dev", "uplink"], "the way out, weftu0, was gone or"),
    (&["ip", "route", "flush", "type", "unreachable"], "the router's addresses, its routes"),
];

/// The same in the host's own namespace.
const ON_THE_HOST: [(&[&str], &str); 2] = [
    (&["sysctl", "-wq", "net.ipv4.ip_forward=0"], "IP forwarding (net.ipv4.ip_forward) was off"),
    (&["nft", "flush", "ruleset"], "the table weft"),
];

#[test]
fn what_somebody_else_changes_in_a_network_is_put_right_and_told() -> Result<()> {
    let Some(lab) = Lab::linux_with(&["--resync", "1"])? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    terraform.main(&(image("")? + &access(&key) + &instance("it", "")))?;
    terraform.apply()?;
    let state = terraform.state()?;
    let guest = lab.guest(&key, &state, "weft_instance.it")?;
    let address = state.text("weft_instance.it", "private_ip")?;
    let links = lab.in_network_of_guests(&["ip", "-br", "link", "show", "type", "tun"])?;
    let tap = links.split_whitespace().next().context("no tap in the VPC's namespace")?.to_owned();
    let filled = |text: &str| text.replace("TAP", &tap).replace("ADDRESS", &address);
    ensure!(lab.weft(&["events"])?.success()?.stdout.is_empty(), "nothing has happened yet");

    for (command, finding) in CHANGES {
        let command: Vec<String> = command.iter().map(|word| filled(word)).collect();
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        lab.in_network_of_guests(&words)?;
        let finding = filled(finding);
        eventually(&format!("\"{finding}\" is told"), within(), || {
            let events = lab.weft(&["events"])?.success()?.stdout;
            let told = events.lines().find(|line| line.contains(&finding));
            Ok(told.map(|line| line.ends_with("; it was put right")).filter(|right| *right))
        })?;
        ensure!(guest.ssh("hostname")?.trim() == "it", "after {words:?}");
    }
    for (words, finding) in ON_THE_HOST {
        lab.outside()?.output(words)?;
        eventually(&format!("\"{finding}\" is told"), within(), || {
            let events = lab.weft(&["events"])?.success()?.stdout;
            let told = events.lines().find(|line| line.contains(finding));
            Ok(told.map(|line| line.ends_with("; it was put right")).filter(|right| *right))
        })?;
    }
    // A tap that is gone comes back, and its guest is to be started with it.
    lab.in_network_of_guests(&["ip", "link", "delete", &tap])?;
    eventually("it is said what the guest needs", within(), || {
        let events = lab.weft(&["events"])?.success()?.stdout;
        let said = "was gone (its guest has a network again";
        Ok(events.lines().any(|line| line.contains(said)).then_some(()))
    })?;
    lab.weft(&["reboot", "it"])?.success()?;
    eventually("the guest has its network again", within(), || {
        Ok((guest.try_ssh("true")?.code() == Some(0)).then_some(()))
    })?;
    // Each was one event, and the agent itself brought about none.
    let events = lab.weft(&["events"])?.success()?.stdout;
    let expected = CHANGES.len() + ON_THE_HOST.len() + 1;
    ensure!(events.lines().count() == expected, "{events}");
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}
