//! The part of nft's JSON that we write, as types.
//!
//! Source: libnftables-json(5). Enums are externally tagged, as nft wants them; `()` is `null`.

use serde::{Serialize, Serializer};

/// One step of a transaction: `nft -j -f -` carries out all of them or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Makes an object; one that exists is left as it is.
    Add(Object),
    /// Empties a chain.
    Flush(Object),
    /// Removes an object.
    Delete(Object),
}

/// Something in the kernel's packet filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    /// A table, which owns everything else.
    Table {
        /// The address family.
        family: Family,
        /// Its name.
        name: String,
    },
    /// A chain of rules.
    Chain(Chain),
    /// A rule, appended to its chain.
    Rule(Rule),
    /// A set of values.
    Set(Set),
    /// A map from values to verdicts.
    Map(Set),
    /// Elements of a set or map.
    Element(Element),
    /// Packets and bytes, counted by the rules that name it; survives a rewrite of their chain.
    Counter {
        /// The address family.
        family: Family,
        /// The table.
        table: String,
        /// Its name.
        name: String,
    },
}

/// Whose packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4 and IPv6 together.
    Inet,
    /// Frames between the ports of a bridge.
    Bridge,
    /// ARP that comes to the namespace itself.
    Arp,
}

impl Family {
    /// As nft's command line has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Bridge => "bridge",
            Self::Arp => "arp",
        }
    }
}

/// A chain; with a hook it is called by the kernel, otherwise by other chains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// The address family.
    pub family: Family,
    /// The table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// `filter` or `nat`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Where the kernel calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    /// Its place among the chains of the hook.
    #[serde(rename = "prio", skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// What happens at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// The address family.
    pub family: Family,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Conditions and then what to do.
    pub expr: Vec<Statement>,
    /// Kept by the kernel; at most 128 bytes (`NFTNL_UDATA_COMMENT_MAXLEN` of libnftnl).
    pub comment: String,
}

/// A set, or a map when `map` is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Set {
    /// The address family.
    pub family: Family,
    /// The table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// The types of one element's parts.
    #[serde(rename = "type", serialize_with = "one_or_many")]
    pub types: Vec<String>,
    /// What a map leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map: Option<&'static str>,
    /// Seconds after which the kernel forgets what rules have put in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
    /// `interval` where elements are ranges, `timeout` where there is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<&'static str>,
    /// Elements that it has at most, where rules put them in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
}

/// Elements to add or remove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Element {
    /// The address family.
    pub family: Family,
    /// The table.
    pub table: String,
    /// The set or map.
    pub name: String,
    /// The elements.
    pub elem: Vec<Expression>,
}

/// A condition or an action of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Statement {
    /// Goes on only if it holds.
    Match {
        /// `==`, `!=`, `>`, or `in` for one bit of several.
        op: &'static str,
        /// What is looked at.
        left: Expression,
        /// What it must be.
        right: Expression,
    },
    /// Goes on only within this rate.
    Limit {
        /// Packets.
        rate: u32,
        /// In one `second`.
        per: &'static str,
    },
    /// Goes on only beyond this rate.
    #[serde(rename = "limit")]
    Over(Over),
    /// The same for each value by itself, in a set that keeps their buckets.
    #[serde(rename = "set")]
    EachOver {
        /// `update`: a value that is there already is kept for longer.
        op: &'static str,
        /// What has a bucket of its own.
        elem: Expression,
        /// `@` and the name of the set.
        set: String,
        /// The rate.
        stmt: [Box<Statement>; 1],
    },
    /// Counts packets and bytes.
    Counter(()),
    /// Counts them in the counter of this name.
    #[serde(rename = "counter")]
    CountIn(String),
    /// Ends this hook's chain.
    Accept(()),
    /// Ends the packet.
    Drop(()),
    /// Calls a chain and comes back.
    Jump {
        /// The chain.
        target: String,
    },
    /// Goes on in a chain, without coming back.
    Goto {
        /// The chain.
        target: String,
    },
    /// Looks a verdict up.
    Vmap {
        /// By what.
        key: Expression,
        /// In what.
        data: Expression,
    },
    /// Gives the packet the address of the link it leaves by.
    Masquerade(()),
    /// Leads the packet elsewhere.
    Dnat {
        /// Of the address: `ip`.
        family: &'static str,
        /// Where.
        addr: Expression,
        /// At which port; `None` keeps it.
        #[serde(skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
    },
    /// Gives the packet another source.
    Snat {
        /// Of the address: `ip`.
        family: &'static str,
        /// Which.
        addr: Expression,
    },
    /// Changes a field of the packet, or what is known about it.
    Mangle {
        /// What.
        key: Expression,
        /// To what.
        value: Expression,
    },
}

/// A rate, and what may pass at once besides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Over {
    /// Packets, or bytes, in one `second`.
    pub rate: u64,
    /// What is counted, where it is not packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_unit: Option<&'static str>,
    /// `second`.
    pub per: &'static str,
    /// Packets, or bytes.
    pub burst: u32,
    /// What is counted, where it is not packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst_unit: Option<&'static str>,
    /// Beyond, not within.
    pub inv: bool,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Expression {
    /// Several values as one.
    Concat(Vec<Expression>),
    /// Something known about the packet.
    Meta {
        /// Such as `iifname`.
        key: &'static str,
    },
    /// Bits of a value.
    #[serde(rename = "&")]
    And(Box<[Expression; 2]>),
    /// A field of a header.
    Payload {
        /// The header.
        protocol: &'static str,
        /// The field.
        field: &'static str,
    },
    /// Bits of a header.
    #[serde(rename = "payload")]
    Raw {
        /// Where they are counted from, such as `th`.
        base: &'static str,
        /// The first.
        offset: u32,
        /// How many.
        len: u32,
    },
    /// Whether there is an IPv6 extension header.
    Exthdr {
        /// Such as `rt`.
        name: &'static str,
    },
    /// Whether there is an option of IPv4.
    #[serde(rename = "ip option")]
    IpOption {
        /// Such as `lsrr`.
        name: &'static str,
    },
    /// Something known about the connection.
    Ct {
        /// Such as `state`.
        key: &'static str,
    },
    /// What the routing tables say.
    Fib {
        /// `type`.
        result: &'static str,
        /// Of what: `daddr`.
        flags: Vec<&'static str>,
    },
    /// What a map has for a key.
    Map {
        /// The key.
        key: Box<Expression>,
        /// The map.
        data: Box<Expression>,
    },
    /// A range of addresses.
    Prefix {
        /// Its first address.
        addr: String,
        /// Fixed bits.
        len: u8,
    },
    /// From the first to the second.
    Range(Box<[Expression; 2]>),
    /// An anonymous set or map.
    Set(Vec<Expression>),
    /// Goes on in a chain, without coming back.
    Goto {
        /// The chain.
        target: String,
    },
    /// Ends this hook's chain.
    Accept(()),
    /// Ends the packet.
    Drop(()),
    /// A key and its value in a map.
    #[serde(untagged)]
    Pair(Box<[Expression; 2]>),
    /// A name, an address, or `@` and the name of a set.
    #[serde(untagged)]
    Text(String),
    /// A number.
    #[serde(untagged)]
    Number(u32),
    /// Whether something is there.
    #[serde(untagged)]
    Flag(bool),
}

/// nft takes a list of one for a concatenation, which then fits no plain value.
fn one_or_many<S: Serializer>(types: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    match types {
        [one] => one.serialize(serializer),
        many => many.serialize(serializer),
    }
}

impl Expression {
    pub(crate) fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    /// The kind of an address: `local` where it is one of the namespace's own.
    pub(crate) fn local(field: &'static str) -> Self {
        Self::Fib { result: "type", flags: vec![field] }
    }

    pub(crate) fn pair(key: Self, value: Self) -> Self {
        Self::Pair(Box::new([key, value]))
    }
}

impl Statement {
    pub(crate) fn is(left: Expression, right: Expression) -> Self {
        Self::Match { op: "==", left, right }
    }

    pub(crate) fn is_not(left: Expression, right: Expression) -> Self {
        Self::Match { op: "!=", left, right }
    }

    /// One bit of several.
    pub(crate) fn has(left: Expression, bit: &str) -> Self {
        Self::Match { op: "in", left, right: Expression::text(bit) }
    }

    pub(crate) fn set(key: Expression, value: impl ToString) -> Self {
        Self::Mangle { key, value: Expression::text(value) }
    }

    pub(crate) fn meta(key: &'static str, value: impl ToString) -> Self {
        Self::is(Expression::Meta { key }, Expression::text(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_look_as_nft_wants_them() {
        let rule = Rule {
            family: Family::Inet,
            table: "t".into(),
            chain: "c".into(),
            expr: vec![Statement::meta("iifname", "lo"), Statement::Accept(())],
            comment: "x".into(),
        };
        let json = serde_json::to_string(&Command::Add(Object::Rule(rule))).unwrap();
        assert_eq!(
            json,
            r#"{"add":{"rule":{"family":"inet","table":"t","chain":"c","expr":[{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"lo"}},{"accept":null}],"comment":"x"}}}"#
        );
    }
}
