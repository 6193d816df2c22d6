//! Commands are judged by a table that refuses what the kernel would refuse.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use support::{TABLE, firewall, group, interface, uplink};
use weft_firewall::{Chain, Command, Expression, Object, Statement, changes, full, remove};
use weft_model::Firewall;

/// What commands made of a table.
#[derive(Clone, Debug, Default, PartialEq)]
struct Table {
    exists: bool,
    sets: BTreeMap<String, BTreeMap<String, Expression>>,
    chains: BTreeMap<String, (Chain, Vec<CommentedRule>)>,
    counters: BTreeSet<String>,
}

/// The tables of all families, which have the same name.
#[derive(Clone, Debug, Default, PartialEq)]
struct Tables(BTreeMap<String, Table>);

impl Tables {
    fn after(mut self, commands: &[Command]) -> Self {
        for command in commands {
            let (Command::Add(object) | Command::Flush(object) | Command::Delete(object)) = command;
            let family = match object {
                Object::Table { family, .. } | Object::Counter { family, .. } => family,
                Object::Chain(chain) => &chain.family,
                Object::Rule(rule) => &rule.family,
                Object::Set(set) | Object::Map(set) => &set.family,
                Object::Element(element) => &element.family,
            };
            self.0.entry(format!("{family:?}")).or_default().step(command);
        }
        self.0.retain(|_, table| table.exists);
        self
    }
}

type CommentedRule = (String, Vec<Statement>);

impl Table {
    fn step(&mut self, command: &Command) {
        match command {
            Command::Add(Object::Table { .. }) => self.exists = true,
            Command::Delete(Object::Table { .. }) => {
                assert!(self.exists, "no such table");
                *self = Self::default();
            }
            Command::Add(Object::Set(set) | Object::Map(set)) => {
                self.sets.entry(set.name.clone()).or_default();
            }
            Command::Delete(Object::Set(set) | Object::Map(set)) => {
                assert!(!self.refers_to(&format!("\"@{}\"", set.name)), "{} is in use", set.name);
                self.sets.remove(&set.name).unwrap();
            }
            Command::Add(Object::Chain(chain)) => {
                let new = (chain.clone(), Vec::new());
                assert!(self.chains.insert(chain.name.clone(), new).is_none(), "{}", chain.name);
            }
            Command::Flush(Object::Chain(chain)) => {
                self.chains.get_mut(&chain.name).unwrap().1.clear();
            }
            Command::Delete(Object::Chain(chain)) => {
                let (_, rules) = self.chains.remove(&chain.name).unwrap();
                assert!(rules.is_empty(), "chain {} is not empty", chain.name);
                let used = self.refers_to(&format!("target: \"{}\"", chain.name));
                assert!(!used, "chain {} is in use", chain.name);
            }
            Command::Add(Object::Rule(rule)) => {
                self.check_references(&format!("{:?}", rule.expr));
                let chain = &mut self.chains.get_mut(&rule.chain).unwrap().1;
                chain.push((rule.comment.clone(), rule.expr.clone()));
            }
            Command::Add(Object::Element(element)) => {
                for one in &element.elem {
                    self.check_references(&format!("{one:?}"));
                    let set = self.sets.get_mut(&element.name).unwrap();
                    assert!(set.insert(key(one), one.clone()).is_none(), "{one:?} exists");
                }
            }
            Command::Delete(Object::Element(element)) => {
                for one in &element.elem {
                    let set = self.sets.get_mut(&element.name).unwrap();
                    assert_eq!(set.remove(&key(one)).as_ref(), Some(one));
                }
            }
            Command::Add(Object::Counter { name, .. }) => {
                assert!(self.counters.insert(name.clone()), "{name} exists");
            }
            Command::Delete(Object::Counter { name, .. }) => {
                assert!(!self.refers_to(&format!("CountIn(\"{name}\")")), "{name} is in use");
                assert!(self.counters.remove(name), "no counter {name}");
            }
            other => panic!("not a command that we send: {other:?}"),
        }
    }

    fn refers_to(&self, what: &str) -> bool {
        let in_rules = self.chains.values().any(|(_, rules)| format!("{rules:?}").contains(what));
        in_rules || self.sets.values().any(|set| format!("{set:?}").contains(what))
    }

    fn check_references(&self, text: &str) {
        for chain in text.split("target: \"").skip(1) {
            let name = chain.split('"').next().unwrap();
            assert!(self.chains.contains_key(name), "no chain {name}");
        }
        for counter in text.split("CountIn(\"").skip(1) {
            let name = counter.split('"').next().unwrap();
            assert!(self.counters.contains(name), "no counter {name}");
        }
        for set in text.split("\"@").skip(1) {
            let name = set.split('"').next().unwrap();
            assert!(self.sets.contains_key(name), "no set {name}");
        }
    }
}

fn key(element: &Expression) -> String {
    match element {
        Expression::Pair(pair) => format!("{:?}", pair[0]),
        other => format!("{other:?}"),
    }
}

fn applied(firewall: &Firewall) -> Tables {
    Tables::default().after(&full(TABLE, firewall))
}

fn any_firewall() -> impl Strategy<Value = Firewall> {
    let few = || prop::collection::vec(0..6u8, 0..4);
    let rules = prop::collection::vec(0..26u8, 0..6);
    let group = (few(), rules, any::<bool>()).prop_map(|(m, r, all)| group(&m, &r, all));
    let groups = prop::collection::vec((0..4u8, group), 0..4);
    let interfaces = prop::collection::vec((0..4u8, few()), 0..4);
    let uplink = prop_oneof![Just(None), any::<bool>().prop_map(|nat| Some(uplink(nat)))];
    (groups, interfaces, uplink).prop_map(|(groups, interfaces, uplink)| {
        let interfaces: Vec<_> = interfaces.iter().map(|(n, g)| interface(*n, g)).collect();
        firewall(&groups, &interfaces, uplink)
    })
}

proptest! {
    #[test]
    fn changes_lead_where_a_full_load_leads(old in any_firewall(), new in any_firewall()) {
        let changed = applied(&old).after(&changes(TABLE, &old, &new));
        prop_assert_eq!(changed, applied(&new));
        prop_assert_eq!(changes(TABLE, &new, &new), vec![]);
        prop_assert_eq!(applied(&old).after(&full(TABLE, &new)), applied(&new));
    }
}

proptest! {
    /// Most changes leave most groups as they were: those are left out of the comparison.
    #[test]
    fn a_change_of_some_groups_leads_where_a_full_load_leads(
        old in any_firewall(),
        other in any_firewall(),
        changed in any::<[bool; 4]>(),
        ranges in any::<[bool; 2]>(),
    ) {
        let range = |has: bool| has.then(|| "fd00:1::/64".parse().unwrap());
        let old = Firewall { ipv6: range(ranges[0]), ..old };
        let mut new = Firewall { ipv6: range(ranges[1]), ..old.clone() };
        let groups = old.groups.keys().chain(other.groups.keys()).cloned().collect::<BTreeSet<_>>();
        for (id, _) in groups.into_iter().zip(changed).filter(|(_, changed)| *changed) {
            match other.groups.get(&id) {
                Some(group) => new.groups.insert(id, group.clone()),
                None => new.groups.remove(&id),
            };
        }
        let by_steps = applied(&old).after(&changes(TABLE, &old, &new));
        prop_assert_eq!(by_steps, applied(&new));
    }
}

/// One line per command, such as `+element members_x`.
fn show(commands: &[Command]) -> String {
    let word = |object: &Object| match object {
        Object::Table { .. } => "table".to_owned(),
        Object::Chain(chain) => format!("chain {}", short(&chain.name)),
        Object::Rule(rule) => format!("rule {}", short(&rule.chain)),
        Object::Set(set) | Object::Map(set) => format!("set {}", short(&set.name)),
        Object::Counter { name, .. } => format!("counter {}", short(name)),
        Object::Element(e) => format!("{} of {}", e.elem.len(), short(&e.name)),
    };
    let lines = commands.iter().map(|command| match command {
        Command::Add(object) => format!("+{}", word(object)),
        Command::Flush(object) => format!("0{}", word(object)),
        Command::Delete(object) => format!("-{}", word(object)),
    });
    lines.collect::<Vec<_>>().join(", ")
}

/// `members_01010101010101010` is written `members_01`.
fn short(name: &str) -> String {
    let mut parts: Vec<_> = name.split('_').collect();
    parts.iter_mut().filter(|part| part.len() == 17).for_each(|part| *part = &part[..2]);
    parts.join("_")
}

#[test]
fn a_small_change_is_a_small_transaction() {
    let with = |members: &[u8], rules: &[u8], groups: &[u8]| {
        let both = [(1, group(members, rules, false)), (2, group(&[], &[], true))];
        firewall(&both, &[interface(1, groups)], Some(uplink(false)))
    };
    let old = with(&[1, 2], &[1], &[1]);
    let mut forwarding = old.clone();
    for interface in Arc::make_mut(&mut forwarding.interfaces).values_mut() {
        interface.source_dest_check = false;
    }
    #[rustfmt::skip]
    let cases = [
        ("nothing",       with(&[1, 2], &[1], &[1]),       ""),
        ("join",          with(&[1, 2, 3], &[1], &[1]),    "+1 of members_01"),
        ("leave",         with(&[1], &[1], &[1]),          "-1 of members_01"),
        ("rule",          with(&[1, 2], &[1, 4], &[1]),    
            "+counter hits_04, 0chain group_01_in, +rule group_01_in, +rule group_01_in"),
        ("forwards",      forwarding,                      "+1 of forwarders"),
        ("egress rule",   with(&[1, 2], &[1, 7], &[1]),    "+counter hits_07, +rule group_01_out"),
        ("no rules",      with(&[1, 2], &[], &[1]),        "0chain group_01_in, -counter hits_01"),
        ("another group", with(&[1, 2], &[1], &[1, 2]),
            "0chain link_wt_2d1_2ex_in, +rule link_wt_2d1_2ex_in, +rule link_wt_2d1_2ex_in, \
             +rule link_wt_2d1_2ex_in, 0chain link_wt_2d1_2ex_out, +rule link_wt_2d1_2ex_out, \
             +rule link_wt_2d1_2ex_out, +rule link_wt_2d1_2ex_out"),
    ];
    for (name, new, want) in cases {
        assert_eq!(show(&changes(TABLE, &old, &new)), want, "{name}");
    }
}

#[test]
fn removal_works_whether_the_table_exists_or_not() {
    assert_eq!(Tables::default().after(&remove(TABLE)), Tables::default());
    let old = firewall(&[(0, group(&[1], &[0, 1], true))], &[interface(1, &[0])], None);
    // The one for ARP judges nothing but ARP, and vanishes with its namespace.
    let left = applied(&old).after(&remove(TABLE)).0;
    assert_eq!(left.keys().collect::<Vec<_>>(), ["Arp"]);
}

#[test]
fn a_rule_that_can_match_nothing_admits_nothing() {
    // 9 is ICMPv6 with an IPv4 range, 10 names a group that does not exist.
    let tables = applied(&firewall(&[(0, group(&[], &[9, 10], false))], &[], None));
    let table = &tables.0["Inet"];
    let (_, rules) =
        &table.chains.values().find(|(chain, _)| chain.name.ends_with("0_out")).unwrap();
    assert_eq!(*rules, []);
}
