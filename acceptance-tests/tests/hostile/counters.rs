//! All that counts what a guest sends, by name: packet filter and kernel of the VPC's namespace, the
//! attacker's link, the packet filter of the host, the services.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;
use weft_acceptance::Lab;

/// Counts by name: `spoofed_source` of the packet filter, `kernel IpInHdrErrors`, `link dropped`,
/// `host closed`, `service dhcp_stranger`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// As they are in the network of the VPC `vpc`, where the attacker's link has the MAC `router`;
    /// those of the services only where `counter` is one of them, for they take seconds.
    pub(crate) fn read(lab: &Lab, vpc: &str, router: &str, counter: &str) -> Result<Self> {
        let inside = |words: &[&str]| lab.in_network_of(vpc, words);
        let mut all = BTreeMap::new();
        let filter: Value = serde_json::from_str(&inside(&["nft", "-j", "list", "ruleset"])?)?;
        for object in filter["nftables"].as_array().context("no list of nft's")? {
            packet_filter("", object, &mut all);
        }
        let host: Value =
            serde_json::from_str(&lab.outside()?.output(&["nft", "-j", "list", "ruleset"])?)?;
        for object in host["nftables"].as_array().context("no list of nft's")? {
            packet_filter("host ", object, &mut all);
        }
        // Two lines for each protocol: names, values (Linux net/ipv4/proc.c).
        let files = ["cat", "/proc/net/snmp", "/proc/net/netstat"];
        let text = inside(&files)?;
        let lines: Vec<_> = text.lines().collect();
        for pair in lines.chunks_exact(2) {
            let values = pair[1].split(' ').skip(1);
            let (protocol, names) = pair[0].split_once(": ").context("no protocol")?;
            for (name, value) in names.split(' ').zip(values) {
                // One that is no count: -1 for "no limit".
                let value = value.parse().unwrap_or_default();
                all.insert(format!("kernel {protocol}{name}"), value);
            }
        }
        let v6 = inside(&["cat", "/proc/net/snmp6"]).unwrap_or_default();
        for line in v6.lines() {
            if let Some((name, value)) = line.split_once(char::is_whitespace) {
                all.insert(format!("kernel {name}"), value.trim().parse().unwrap_or_default());
            }
        }
        let links: Value = serde_json::from_str(&inside(&["ip", "-s", "-s", "-j", "link"])?)?;
        let own = links.as_array().context("no links")?.iter().find(|l| l["address"] == router);
        let received = &own.context("the attacker has no link")?["stats64"]["rx"];
        for (name, value) in received.as_object().context("the link counts nothing")? {
            all.insert(format!("link {name}"), value.as_u64().unwrap_or_default());
        }
        if counter.starts_with("service ") {
            services(lab, &mut all)?;
        }
        Ok(Self(all))
    }

    /// By how much one of them is more than it was; with " + " between their names, several.
    pub(crate) fn growth(&self, before: &Self, names: &str) -> u64 {
        let of = |counters: &Self, name| counters.0.get(name).copied().unwrap_or_default();
        names.split(" + ").map(|name| of(self, name).saturating_sub(of(before, name))).sum()
    }

    /// All that are more than they were: what an attack moved.
    pub(crate) fn moved(&self, before: &Self) -> String {
        let grown = self.0.keys().map(|name| (name, self.growth(before, name)));
        let grown = grown.filter(|(_, by)| *by > 0).map(|(name, by)| format!("{name} +{by}"));
        grown.collect::<Vec<_>>().join(", ")
    }
}

/// What `weft doctor` tells: "refused since the agent's start: dhcp_stranger 3, dns_malformed 1".
fn services(lab: &Lab, all: &mut BTreeMap<String, u64>) -> Result<()> {
    let doctor = lab.weft(&["--json", "doctor"])?;
    let checks: Value = serde_json::from_str(&doctor.stdout).context("parse weft doctor")?;
    let mut checks = checks.as_array().context("no checks")?.iter();
    let check = checks.find(|check| check["name"] == "guests' requests");
    let finding = check.and_then(|check| check["finding"].as_str()).context("nobody is served")?;
    for count in finding.split_once("start: ").map_or("", |(_, list)| list).split(", ") {
        if let Some((name, value)) = count.split_once(' ') {
            all.insert(format!("service {name}"), value.parse().unwrap_or_default());
        }
    }
    Ok(())
}

/// Counters with a name; and those of rules, by chain and the rule's name: its comment, without
/// the hash at the end.
fn packet_filter(of: &str, object: &Value, all: &mut BTreeMap<String, u64>) {
    let mut add = |name: String, value: &Value| {
        *all.entry(format!("{of}{name}")).or_default() +=
            value["packets"].as_u64().unwrap_or_default();
    };
    let counter = &object["counter"];
    if let Some(name) = counter["name"].as_str() {
        add(name.to_owned(), counter);
    }
    let rule = &object["rule"];
    let comment = rule["comment"].as_str().and_then(|comment| comment.rsplit_once(' '));
    if let (Some((label, _)), Some(chain)) = (comment, rule["chain"].as_str()) {
        let statements = rule["expr"].as_array().into_iter().flatten();
        for count in statements.filter_map(|statement| statement.get("counter")) {
            add(format!("{chain}: {label}"), count);
        }
    }
}

// The names of `fabric-agent/firewall/src/ruleset/refused.rs`.

/// A source that is not the sender's.
pub(crate) const SPOOFED_SOURCE: &str = "spoofed_source";
/// A MAC that is not the sender's.
pub(crate) const SPOOFED_MAC: &str = "spoofed_mac";
/// Of what a guest says by ARP all but its own name.
pub(crate) const ARP_CLAIM: &str = "arp_claim";
/// Not one of the services that the router has.
pub(crate) const NOT_A_SERVICE: &str = "not_a_service";
/// A flood of it is stopped by the limit of packets to the services first.
pub(crate) const NOT_A_SERVICE_TOO_OFTEN: &str = "not_a_service + asked_too_often";
/// Answers of a DHCP server that is not the router's.
pub(crate) const DHCP_SERVER: &str = "dhcp_server";
/// With a way of its own choice.
pub(crate) const SOURCE_ROUTE: &str = "source_route";
/// To a group of hosts.
pub(crate) const MULTICAST: &str = "multicast";
/// Part of no connection, and no beginning of one.
pub(crate) const INVALID: &str = "invalid";

// The kernel's own.

/// For nobody that the kernel has: a tag of a VLAN, another machine's MAC.
pub(crate) const OTHER_HOST: &str = "link otherhost";
/// Of a kind that nothing takes.
pub(crate) const NO_HANDLER: &str = "link dropped";
/// A header that cannot be, or a way that has become too long.
pub(crate) const BAD_HEADER: &str = "kernel IpInHdrErrors";
/// Pieces of which one says otherwise what another one has said.
pub(crate) const OVERLAP: &str = "kernel IpExtReasmOverlaps";

/// For the host itself.
pub(crate) const HOST_CLOSED: &str = "host base_closed: closed";
/// From one VPC to another.
pub(crate) const VPCS_APART: &str = "host base_apart: apart";

// Of the services, see `fabric-agent/services/src/refusals.rs`.

/// A DHCP request for another MAC than the guest's.
pub(crate) const DHCP_STRANGER: &str = "service dhcp_stranger";
/// No DHCP request.
pub(crate) const DHCP_MALFORMED: &str = "service dhcp_malformed";
/// No DNS question.
pub(crate) const DNS_MALFORMED: &str = "service dns_malformed";
/// No HTTP.
pub(crate) const METADATA_MALFORMED: &str = "service metadata_malformed";
/// A request for metadata that a proxy passed on.
pub(crate) const METADATA_FORWARDED: &str = "service metadata_forwarded";
/// A request for metadata without a token of the guest's own.
pub(crate) const METADATA_NO_TOKEN: &str = "service metadata_no_token";
