//! The commands that bring a table from what it holds to what it should hold.

use std::collections::{BTreeMap, BTreeSet};

use crate::json::{Chain, Command, Element, Expression, Family, Object, Rule, Set};
use crate::ruleset::{ChainBody, Hook, MapTo, RuleBody, Ruleset, SetBody, rates};

/// What a table holds, with each rule known by its comment alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) sets: BTreeMap<String, SetBody>,
    pub(crate) chains: BTreeMap<String, (Option<Hook>, Vec<String>)>,
    pub(crate) counters: BTreeSet<String>,
}

impl From<&Ruleset> for Image {
    fn from(ruleset: &Ruleset) -> Self {
        let comments = |rules: &[RuleBody]| rules.iter().map(|r| r.comment.clone()).collect();
        let chains = ruleset.chains.iter();
        Self {
            sets: ruleset.sets.clone(),
            chains: chains
                .map(|(name, body)| (name.clone(), (body.hook.clone(), comments(&body.rules))))
                .collect(),
            counters: ruleset.counters.clone(),
        }
    }
}

/// A table of one family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table<'a> {
    pub(crate) family: Family,
    pub(crate) name: &'a str,
}

impl<'a> Table<'a> {
    pub(crate) fn inet(name: &'a str) -> Self {
        Self { family: Family::Inet, name }
    }

    pub(crate) fn of(family: Family, name: &'a str) -> Self {
        Self { family, name }
    }
}

/// Replaces the table, whatever it held, in one transaction. Connections are not touched:
/// connection tracking is not part of a table.
pub(crate) fn full(table: Table<'_>, new: &Ruleset) -> Vec<Command> {
    let mut commands = remove(table);
    commands.push(Command::Add(table.object()));
    commands.extend(between(table, &Image::default(), new).unwrap_or_default());
    commands
}

/// Removes the table, if it exists: `delete` alone would fail without it, and nft before 1.0.7
/// has no `destroy`.
pub(crate) fn remove(table: Table<'_>) -> Vec<Command> {
    vec![Command::Add(table.object()), Command::Delete(table.object())]
}

/// Adds one element to a set.
pub(crate) fn add_element(table: Table<'_>, set: &str, parts: &[String]) -> Vec<Command> {
    table.elements(set, vec![element(parts, None)]).map(Command::Add).collect()
}

/// From `old`, or from nothing if it cannot be changed into `new`.
pub(crate) fn from(table: Table<'_>, old: &Image, new: &Ruleset) -> Vec<Command> {
    between(table, old, new).unwrap_or_else(|| full(table, new))
}

/// The steps from `old` to `new`, none if nothing differs; `None` if a set or base chain would
/// have to change its kind, which the kernel cannot do.
///
/// Order: what others refer to is made first and removed last, so that every step is valid.
pub(crate) fn between(writer: Table<'_>, old: &Image, new: &Ruleset) -> Option<Vec<Command>> {
    if changes_kind(old, new) {
        return None;
    }
    let mut steps = Vec::new();
    let nothing = BTreeMap::new();
    let before = |name: &str| old.sets.get(name).map_or(&nothing, |set| &set.elements);

    for (name, body) in new.sets.iter().filter(|(name, _)| !old.sets.contains_key(*name)) {
        steps.push(Command::Add(writer.set(name, body)));
    }
    steps.extend(
        new.counters.difference(&old.counters).map(|name| Command::Add(writer.counter(name))),
    );
    for (name, body) in new.chains.iter().filter(|(name, _)| !old.chains.contains_key(*name)) {
        steps.push(Command::Add(writer.chain(name, body.hook.as_ref())));
    }
    for (name, body) in new.sets.iter().filter(|(_, body)| !body.goes_before_it_comes()) {
        steps.extend(writer.elements(name, added(before(name), body)).map(Command::Add));
    }
    for (name, body) in &new.chains {
        writer.rules(name, old.chains.get(name).map(|(_, rules)| rules), body, &mut steps);
    }
    for (name, body) in &new.sets {
        let gone = removed(before(name), body);
        steps.extend(writer.elements(name, gone).map(Command::Delete));
        if body.goes_before_it_comes() {
            steps.extend(writer.elements(name, added(before(name), body)).map(Command::Add));
        }
    }
    let chains: BTreeSet<_> =
        old.chains.keys().filter(|name| !new.chains.contains_key(*name)).collect();
    let sets = old.sets.iter().filter(|(name, _)| !new.sets.contains_key(*name));
    // A map refers to the chains that it leads to.
    for (name, map) in sets.clone().filter(|(_, set)| set.map.is_some()) {
        let gone = removed(&map.elements, &SetBody { elements: Elements::new(), ..map.clone() });
        steps.extend(writer.elements(name, gone).map(Command::Delete));
    }
    // All are emptied before the first is deleted: they may call each other.
    steps.extend(chains.iter().map(|name| Command::Flush(writer.chain(name, None))));
    steps.extend(chains.iter().map(|name| Command::Delete(writer.chain(name, None))));
    steps.extend(sets.map(|(name, body)| Command::Delete(writer.set(name, body))));
    steps.extend(
        old.counters.difference(&new.counters).map(|name| Command::Delete(writer.counter(name))),
    );
    Some(steps)
}

fn changes_kind(old: &Image, new: &Ruleset) -> bool {
    let set_differs = |(name, set): (&String, &SetBody)| {
        old.sets.get(name).is_some_and(|old| {
            let kind = |set: &SetBody| (set.map, set.timeout, set.has_ranges);
            old.types != set.types || kind(old) != kind(set)
        })
    };
    let chain_differs = |(name, chain): (&String, &ChainBody)| {
        old.chains.get(name).is_some_and(|(hook, _)| *hook != chain.hook)
    };
    new.sets.iter().any(set_differs) || new.chains.iter().any(chain_differs)
}

type Elements = BTreeMap<Vec<String>, Option<String>>;

fn added(old: &Elements, new: &SetBody) -> Vec<Expression> {
    let fresh = new.elements.iter().filter(|(key, value)| old.get(*key) != Some(*value));
    fresh.map(|(key, value)| new.element(key, value.as_ref())).collect()
}

fn removed(old: &Elements, new: &SetBody) -> Vec<Expression> {
    let gone = old.iter().filter(|(key, value)| new.elements.get(*key) != Some(*value));
    gone.map(|(key, value)| new.element(key, value.as_ref())).collect()
}

impl SetBody {
    /// Whether what is no element any more is taken out first: a verdict that changes keeps its
    /// key, and the kernel refuses a range that overlaps another.
    fn goes_before_it_comes(&self) -> bool {
        self.map.is_some() || self.has_ranges
    }

    fn element(&self, parts: &[String], leads_to: Option<&String>) -> Expression {
        match parts {
            [range] if self.has_ranges => match range.split_once('-') {
                Some((first, last)) if first != last => {
                    Expression::Range(Box::new([first, last].map(Expression::text)))
                }
                _ => Expression::text(range.split('-').next().unwrap_or_default()),
            },
            parts => element(parts, self.map.zip(leads_to)),
        }
    }
}

fn element(parts: &[String], leads_to: Option<(MapTo, &String)>) -> Expression {
    let key = match parts {
        [one] => Expression::text(one),
        several => Expression::Concat(several.iter().map(Expression::text).collect()),
    };
    match leads_to {
        None => key,
        Some((MapTo::Chains, chain)) => {
            Expression::pair(key, Expression::Goto { target: chain.clone() })
        }
        Some((MapTo::Addresses, address)) => Expression::pair(key, Expression::text(address)),
    }
}

/// Writes objects of one table.
impl Table<'_> {
    fn object(&self) -> Object {
        Object::Table { family: self.family, name: self.name.to_owned() }
    }

    fn set(&self, name: &str, body: &SetBody) -> Object {
        let set = Set {
            family: self.family,
            table: self.name.to_owned(),
            name: name.to_owned(),
            types: body.types.clone(),
            map: body.map.map(MapTo::as_str),
            timeout: body.timeout,
            flags: [(body.has_ranges, "interval"), (body.timeout.is_some(), "timeout")]
                .into_iter()
                .filter_map(|(is_set, flag)| is_set.then_some(flag))
                .collect(),
            size: body.timeout.map(|_| rates::ASKERS),
        };
        if body.map.is_some() { Object::Map(set) } else { Object::Set(set) }
    }

    fn counter(&self, name: &str) -> Object {
        Object::Counter { family: self.family, table: self.name.to_owned(), name: name.to_owned() }
    }

    fn chain(&self, name: &str, hook: Option<&Hook>) -> Object {
        Object::Chain(Chain {
            family: self.family,
            table: self.name.to_owned(),
            name: name.to_owned(),
            kind: hook.map(|hook| hook.kind.clone()),
            hook: hook.map(|hook| hook.hook.clone()),
            priority: hook.map(|hook| hook.priority),
            policy: hook.map(|hook| hook.policy.clone()),
        })
    }

    fn elements(&self, name: &str, elem: Vec<Expression>) -> impl Iterator<Item = Object> {
        let element = Element {
            family: self.family,
            table: self.name.to_owned(),
            name: name.to_owned(),
            elem,
        };
        (!element.elem.is_empty()).then_some(Object::Element(element)).into_iter()
    }

    fn rules(
        &self,
        name: &str,
        old: Option<&Vec<String>>,
        new: &ChainBody,
        steps: &mut Vec<Command>,
    ) {
        if old.is_some_and(|old| old.iter().eq(new.rules.iter().map(|rule| &rule.comment))) {
            return;
        }
        if old.is_some_and(|old| !old.is_empty()) {
            steps.push(Command::Flush(self.chain(name, None)));
        }
        steps.extend(new.rules.iter().map(|rule| {
            Command::Add(Object::Rule(Rule {
                family: self.family,
                table: self.name.to_owned(),
                chain: name.to_owned(),
                expr: rule.statements.clone(),
                comment: rule.comment.clone(),
            }))
        }));
    }
}
