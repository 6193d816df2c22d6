//! What the agent's own namespace needs: guests leave by the host's address, and VPCs do not
//! reach each other through the host.

use std::collections::BTreeSet;

use ipnetwork::Ipv4Network;

use crate::changes;
use crate::json::{Command, Expression, Statement};
use crate::ruleset::{ChainBody, Hook, RuleBody, Ruleset, payload};

/// The host's side of all VPCs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNat {
    /// What the names of all our links in the agent's namespace start with.
    pub link_prefix: String,
    /// Sources that leave the host by its own address.
    pub sources: BTreeSet<Ipv4Network>,
}

/// Replaces `table` in the agent's namespace. Take it away with [`remove`](crate::remove).
///
/// Only packets that cross our links are touched; policies are `accept`.
pub fn host_nat(table: &str, wanted: &HostNat) -> Vec<Command> {
    changes::full(table, &ruleset(wanted))
}

pub(crate) fn ruleset(wanted: &HostNat) -> Ruleset {
    let ours = || Expression::text(format!("{}*", wanted.link_prefix));
    let link = |key| Expression::Meta { key };
    let apart = vec![
        Statement::is(link("iifname"), ours()),
        Statement::is(link("oifname"), ours()),
        Statement::Counter(()),
        Statement::Drop(()),
    ];
    let hide = wanted.sources.iter().map(|source| {
        let addr = source.network().to_string();
        let range = if source.prefix() == 32 {
            Expression::text(addr)
        } else {
            Expression::Prefix { addr, len: source.prefix() }
        };
        let masquerade = vec![
            Statement::is(payload("ip", "saddr"), range),
            Statement::is(link("iifname"), ours()),
            Statement::is_not(link("oifname"), ours()),
            Statement::Masquerade(()),
        ];
        RuleBody::new(&source.to_string(), masquerade)
    });
    let hook = |kind: &str, hook: &str, priority| Hook {
        kind: kind.into(),
        hook: hook.into(),
        priority,
        policy: "accept".into(),
    };
    let forward = ChainBody {
        hook: Some(hook("filter", "forward", 0)),
        rules: vec![RuleBody::new("apart", apart)],
    };
    let nat = ChainBody { hook: Some(hook("nat", "postrouting", 100)), rules: hide.collect() };
    let chains = [("base_apart".to_owned(), forward), ("base_nat".to_owned(), nat)];
    Ruleset { chains: chains.into(), ..Ruleset::default() }
}
