use std::io::Write as _;
use std::process::Stdio;

use super::*;
use crate::host::CheckResult;

/// What the doctor says of a network namespace with these rules; `None` without root.
fn seen(rules: &str) -> Option<Vec<Check>> {
    // Of this thread alone; it goes with it.
    if nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_err() {
        eprintln!("SKIPPED: this test needs root to make a network namespace");
        return None;
    }
    let mut nft =
        std::process::Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{rules}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    Some(runtime.block_on(checks("weft")))
}

/// One firewall, its name, and the command that mends it.
fn is_found(rules: &str, who: &str, remedy: &str) {
    let Some(found) = seen(rules) else { return };
    let [check] = &found[..] else { panic!("{found:?}") };
    assert_eq!(check.result, CheckResult::Warning, "{check:?}");
    assert!(check.finding.starts_with(who), "{check:?}");
    assert!(check.remedy.contains(remedy), "{check:?}");
}

fn is_fine(rules: &str) {
    let Some(found) = seen(rules) else { return };
    let [check] = &found[..] else { panic!("{found:?}") };
    assert_eq!(check.result, CheckResult::Ok, "{check:?}");
}

const DOCKER: &str = "
table ip filter {
    chain DOCKER-USER { return; }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        jump DOCKER-USER
        oifname \"docker0\" ct state related,established accept
        iifname \"docker0\" accept
    }
}";

#[test]
fn docker_is_recognised() {
    is_found(DOCKER, "Docker drops", "iptables -I DOCKER-USER -i weft+ -j ACCEPT");
}

#[test]
fn docker_that_lets_guests_through_is_fine() {
    let mended = DOCKER
        .replace("{ return; }", "{ iifname \"weft*\" accept; oifname \"weft*\" accept; return; }");
    is_fine(&mended);
}

#[test]
fn one_direction_is_not_enough() {
    let half = DOCKER.replace("{ return; }", "{ iifname \"weft*\" accept; return; }");
    is_found(&half, "Docker drops", "-o weft+ -j ACCEPT");
}

#[test]
fn ufw_is_recognised() {
    let rules = "
table ip filter {
    chain ufw-before-forward { ct state related,established accept; }
    chain ufw-user-forward { }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        jump ufw-before-forward
        jump ufw-user-forward
    }
}";
    is_found(rules, "ufw drops", "ufw default allow routed");
}

/// As firewalld 2.3 makes it, shortened: the policy accepts, the last rule rejects.
const FIREWALLD: &str = "
table inet firewalld {
    chain filter_FWD_trusted { accept; }
    chain filter_FORWARD_POLICIES { }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct state invalid drop
        jump filter_FORWARD_POLICIES
        reject with icmpx admin-prohibited
    }
}";

#[test]
fn firewalld_is_recognised() {
    is_found(FIREWALLD, "firewalld drops", "--zone=trusted --add-interface=weft+");
}

#[test]
fn firewalld_that_trusts_our_links_is_fine() {
    let rule = "chain filter_FORWARD_POLICIES { iifname \"weft*\" goto filter_FWD_trusted; }";
    is_fine(&FIREWALLD.replace("chain filter_FORWARD_POLICIES { }", rule));
}

/// A table with one base chain.
fn table(table: &str, chain: &str, hook: &str, rest: &str) -> String {
    format!(
        "table {table} {{\nchain {chain} {{\ntype filter hook {hook} priority 0; {rest}\n}}\n}}\n"
    )
}

#[test]
fn a_firewall_of_ones_own_is_named_by_its_chain() {
    let rules = table("inet mine", "guard", "forward", "policy drop;");
    let remedy = "nft insert rule inet mine guard iifname '\"weft*\"' accept";
    is_found(&rules, "another firewall drops", remedy);
}

#[test]
fn what_does_not_drop_forwarding_is_fine() {
    is_fine("");
    is_fine(&table("inet weft", "forward", "forward", "policy drop;"));
    is_fine(&table("ip filter", "FORWARD", "forward", "policy accept; ip daddr 192.0.2.1 drop"));
    is_fine(&table("inet host", "guard", "input", "policy drop;"));
}

#[test]
fn the_older_iptables_is_read_by_its_own_program() {
    let policy = "-P INPUT ACCEPT\n-P FORWARD DROP\n";
    assert!(legacy_drops(policy, "weft"));
    assert!(legacy_drops(&format!("{policy}-A FORWARD -i weft+ -j ACCEPT\n"), "weft"));
    let both = format!("{policy}-A FORWARD -i weft+ -j ACCEPT\n-A FORWARD -o weft+ -j ACCEPT\n");
    assert!(!legacy_drops(&both, "weft"));
    assert!(!legacy_drops("-P FORWARD ACCEPT\n", "weft"));
}
