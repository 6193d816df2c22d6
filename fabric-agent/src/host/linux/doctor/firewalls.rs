//! Firewalls of others, in the agent's namespace, that drop what is forwarded.
//!
//! A packet is forwarded only if every base chain on the hook lets it through: an accept in our own
//! table does not help against a drop in another. So those are found and named, with the command
//! that lets guests through; nothing of others is changed.

use serde_json::Value;
use tokio::process::Command;

use super::{ok, warning};
use crate::host::Check;

const NAME: &str = "firewalls";

/// One check for each firewall that stands in the way; one that says so if none does.
pub(super) async fn checks(prefix: &str) -> Vec<Check> {
    let mut checks = Vec::new();
    match ruleset().await {
        Ok(ruleset) => checks.extend(judge(&ruleset, prefix)),
        Err(why) => checks.push(warning(
            NAME,
            format!("cannot see whether another firewall drops what is forwarded: {why}"),
            "sudo nft list ruleset",
        )),
    }
    checks.extend(legacy(prefix).await);
    if checks.is_empty() {
        checks.push(ok(NAME, "none drops what guests send or get"));
    }
    checks
}

async fn ruleset() -> Result<Value, String> {
    let output = Command::new("nft").args(["-j", "list", "ruleset"]).output().await;
    let output = output.map_err(|error| format!("cannot run nft: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("nft: {}", said.lines().next().unwrap_or_default()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("nft's answer: {error}"))
}

/// A base chain on the forward hook of somebody else's table.
struct Chain<'a> {
    family: &'a str,
    table: &'a str,
    name: &'a str,
    drops_by_policy: bool,
}

fn judge(ruleset: &Value, prefix: &str) -> Vec<Check> {
    let Some(objects) = ruleset["nftables"].as_array() else { return Vec::new() };
    let chains: Vec<&Value> = objects.iter().filter_map(|object| object.get("chain")).collect();
    let rules: Vec<&Value> = objects.iter().filter_map(|object| object.get("rule")).collect();
    let text = |object: &'_ Value, key: &str| object[key].as_str().unwrap_or_default().to_owned();
    let mut checks = Vec::new();
    for chain in &chains {
        let chain = Chain {
            family: chain["family"].as_str().unwrap_or_default(),
            table: chain["table"].as_str().unwrap_or_default(),
            name: match chain["hook"].as_str() {
                Some("forward") => chain["name"].as_str().unwrap_or_default(),
                _ => continue,
            },
            drops_by_policy: chain["policy"] == "drop",
        };
        // Guests have IPv4 addresses.
        if !["ip", "inet"].contains(&chain.family) || chain.table == prefix {
            continue;
        }
        let in_table =
            |object: &Value| object["family"] == chain.family && object["table"] == chain.table;
        let of_table: Vec<&Value> = rules.iter().copied().filter(|rule| in_table(rule)).collect();
        let drops = chain.drops_by_policy
            || of_table.iter().any(|rule| rule["chain"] == chain.name && refuses_all(rule));
        let admits = |direction| of_table.iter().any(|rule| admits(rule, direction, prefix));
        // firewalld sorts by where a packet comes from; what goes to a zone follows from that.
        let admitted = admits("iifname") && (admits("oifname") || chain.table == "firewalld");
        if !drops || admitted {
            continue;
        }
        let names: Vec<String> =
            chains.iter().filter(|c| in_table(c)).map(|c| text(c, "name")).collect();
        let (who, remedy) = owner(&chain, &names, prefix);
        checks.push(warning(
            NAME,
            format!(
                "{who} drops what is forwarded (table {} {}, chain {}): guests reach nothing \
                 outside, and nothing reaches them, unless a rule of yours lets them through",
                chain.family, chain.table, chain.name
            ),
            remedy,
        ));
    }
    checks
}

/// Whose chain it is, and the command that lets guests through.
fn owner(chain: &Chain<'_>, names: &[String], prefix: &str) -> (&'static str, String) {
    let has = |start: &str| names.iter().any(|name| name.starts_with(start));
    let iptables = |chain: &str| {
        format!(
            "iptables -I {chain} -i {prefix}+ -j ACCEPT; iptables -I {chain} -o {prefix}+ -j ACCEPT"
        )
    };
    if chain.table == "firewalld" {
        let remedy = format!(
            "firewall-cmd --permanent --zone=trusted --add-interface={prefix}+ && firewall-cmd \
             --reload"
        );
        ("firewalld", remedy)
    } else if has("DOCKER-USER") {
        ("Docker", iptables("DOCKER-USER"))
    } else if has("ufw-") {
        // Reloading ufw keeps what stands in its user chains only as ufw itself wrote it.
        ("ufw", "ufw default allow routed".to_owned())
    } else if chain.name == "FORWARD" {
        ("a firewall made with iptables", iptables("FORWARD"))
    } else {
        let Chain { family, table, name, .. } = chain;
        let rule = |key: &str| {
            format!("nft insert rule {family} {table} {name} {key} '\"{prefix}*\"' accept")
        };
        ("another firewall", format!("{}; {}", rule("iifname"), rule("oifname")))
    }
}

/// Whether a rule drops or rejects whatever comes to it.
fn refuses_all(rule: &Value) -> bool {
    let Some(expressions) = rule["expr"].as_array() else { return false };
    let has = |key: &str| expressions.iter().any(|expression| expression.get(key).is_some());
    (has("drop") || has("reject")) && !has("match") && !has("xt") && !has("limit")
}

/// Whether a rule takes the packets of our links in one direction: accepts them, or sends them on
/// to a chain of its own.
fn admits(rule: &Value, direction: &str, prefix: &str) -> bool {
    let Some(expressions) = rule["expr"].as_array() else { return false };
    let is_ours =
        expressions.iter().filter_map(|expression| expression.get("match")).any(|found| {
            found["op"] == "=="
                && found["left"]["meta"]["key"] == direction
                && found["right"].as_str().is_some_and(|name| name.starts_with(prefix))
        });
    let verdict = ["accept", "goto", "jump"];
    is_ours && expressions.iter().any(|e| verdict.iter().any(|verdict| e.get(*verdict).is_some()))
}

/// The older kind of iptables, which nft does not show. Its tables are there only if they are used.
async fn legacy(prefix: &str) -> Option<Check> {
    let tables = std::fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    if !tables.lines().any(|table| table == "filter") {
        return None;
    }
    let output = Command::new("iptables-legacy").args(["-S"]).output().await.ok()?;
    let rules = String::from_utf8_lossy(&output.stdout).into_owned();
    legacy_drops(&rules, prefix).then(|| {
        let chain = if rules.contains("-N DOCKER-USER") { "DOCKER-USER" } else { "FORWARD" };
        warning(
            NAME,
            "iptables (legacy) drops what is forwarded: guests reach nothing outside, and nothing \
             reaches them, unless a rule of yours lets them through",
            format!(
                "iptables-legacy -I {chain} -i {prefix}+ -j ACCEPT; iptables-legacy -I {chain} -o \
                 {prefix}+ -j ACCEPT"
            ),
        )
    })
}

fn legacy_drops(rules: &str, prefix: &str) -> bool {
    let accepts = |direction: &str| {
        let ours = format!(" {direction} {prefix}");
        rules.lines().any(|line| line.contains(&ours) && line.ends_with("-j ACCEPT"))
    };
    rules.lines().any(|line| line == "-P FORWARD DROP") && !(accepts("-i") && accepts("-o"))
}

#[cfg(test)]
mod tests;
