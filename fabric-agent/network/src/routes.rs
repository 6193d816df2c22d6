//! Route tables by where packets come in: `ip rule` by the tap, a table of routes for each.
//!
//! The VPC's own addresses come first, whatever tables say: a rule before all others looks in the
//! main table for anything but its default route.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use ipnetwork::Ipv4Network;
use rtnetlink::IpVersion;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteProtocol, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use weft_model::{LinkName, NextHop, Routes};

use crate::error::{asking, errno};
use crate::netlink::{Link, MAIN_TABLE, Netlink, PROTOCOL, Route};
use crate::{Namespace, NetworkError};

/// Ranks of our rules, before the kernel's own at 32,766 (main) and after the local table's at 0.
const MAIN_FIRST: u32 = 1000;
const BY_TAP: u32 = 1001;
/// The rank of the rule for the main table that every namespace begins with (`fib_default_rules_init`
/// of Linux `fib_rules.c` and its IPv6 twin).
const MAIN_LAST: u32 = 32766;
/// The metric of what holds where a way is gone: above that of every way, which has none.
const LAST: u32 = 4096;

/// Brings the tables and the rules that lead to them in order. Idempotent.
///
/// What is new is complete before anything leads to it, and a range always has an answer of its
/// own: no packet takes the VPC's own way out meanwhile.
///
/// # Errors
/// The kernel refused a step, such as a route to a tap that is not up; steps before it hold.
pub async fn set_routes(vpc: &Namespace, routes: &Routes) -> Result<(), NetworkError> {
    let netlink = Netlink::of(vpc)?;
    let links = netlink.links().await?;
    for (table, ways) in &routes.tables {
        for (range, hop) in ways {
            netlink
                .add_route(*range, |route| {
                    route.table_id(*table).priority(LAST).kind(RouteType::Unreachable)
                })
                .await?;
            let Some(NextHop { link, address }) = hop else { continue };
            let found = links.iter().find(|found| found.name == *link);
            let out = found.ok_or_else(|| NetworkError::NoSuchLink { link: link.clone() })?.index;
            netlink
                .add_route(*range, |route| {
                    route.table_id(*table).gateway(*address).output_interface(out).onlink()
                })
                .await?;
        }
    }
    weft_crash_points::point("routes.set.filled");

    for family in netlink.without_main().await? {
        netlink.add_main(family).await?;
    }
    let rules = netlink.our_rules().await?;
    if routes.main_first && !rules.iter().any(Rule::is_main_first) {
        netlink.add_rule(MAIN_FIRST, MAIN_TABLE, None).await?;
    }
    for (link, table) in &routes.links {
        let wanted = |rule: &Rule| rule.link.as_ref() == Some(link) && rule.table == *table;
        if !rules.iter().any(wanted) {
            netlink.add_rule(BY_TAP, *table, Some(link)).await?;
        }
    }
    weft_crash_points::point("routes.set.led_to");
    for rule in &rules {
        let wanted = match &rule.link {
            Some(link) => routes.links.get(link) == Some(&rule.table),
            None => routes.main_first && rule.is_main_first(),
        };
        if !wanted {
            netlink.delete_rule(rule).await?;
        }
    }
    for route in of_tables(netlink.all_routes().await?) {
        let ways = routes.tables.get(&route.table());
        let wanted = match ways.and_then(|ways| ways.get(&route.to)) {
            Some(_) if is_last(&route) => true,
            Some(Some(hop)) => way_of(&route, &links).as_ref() == Some(hop),
            _ => false,
        };
        if !wanted {
            netlink.delete_route(&route).await?;
        }
    }
    Ok(())
}

/// The tables and rules as they are.
pub(crate) async fn observe(netlink: &Netlink, links: &[Link]) -> Result<Routes, NetworkError> {
    let mut tables: BTreeMap<u32, BTreeMap<Ipv4Network, Option<NextHop>>> = BTreeMap::new();
    let all: Vec<Route> = of_tables(netlink.all_routes().await?).collect();
    for route in all.iter().filter(|route| is_last(route)) {
        let is_way = |other: &&Route| {
            other.table() == route.table() && other.to == route.to && !is_last(other)
        };
        let hop = all.iter().find(is_way).and_then(|way| way_of(way, links));
        tables.entry(route.table()).or_default().insert(route.to, hop);
    }
    // A way without an end of its own is not as ours are: it is shown as a table that nobody wants.
    let endless = |route: &&Route| {
        !tables.get(&route.table()).is_some_and(|ways| ways.contains_key(&route.to))
    };
    let endless: Vec<u32> = all.iter().filter(endless).map(Route::table).collect();
    for table in endless {
        tables.entry(table).or_default().clear();
    }
    let rules = netlink.our_rules().await?;
    let by_tap = rules.iter().filter_map(|rule| Some((rule.link.clone()?, rule.table)));
    Ok(Routes {
        tables,
        links: by_tap.collect(),
        main_first: rules.iter().any(Rule::is_main_first),
        main_lost: !netlink.without_main().await?.is_empty(),
    })
}

fn of_tables(routes: Vec<Route>) -> impl Iterator<Item = Route> {
    routes.into_iter().filter(|route| route.ours && route.table() >= Routes::FIRST_TABLE)
}

fn is_last(route: &Route) -> bool {
    route.kind == RouteType::Unreachable && route.metric() == LAST
}

fn way_of(route: &Route, links: &[Link]) -> Option<NextHop> {
    let link = links.iter().find(|link| Some(link.index) == route.out)?.name.clone();
    Some(NextHop { link, address: route.gateway? })
}

/// A rule of ours.
#[derive(Clone, Debug)]
struct Rule {
    link: Option<LinkName>,
    table: u32,
    message: RuleMessage,
}

impl Rule {
    fn is_main_first(&self) -> bool {
        self.link.is_none() && self.table == MAIN_TABLE
    }
}

impl Netlink {
    async fn our_rules(&self) -> Result<Vec<Rule>, NetworkError> {
        Ok(self.rules(AddressFamily::Inet).await?.into_iter().filter_map(our_rule).collect())
    }

    async fn rules(&self, family: AddressFamily) -> Result<Vec<RuleMessage>, NetworkError> {
        let version = match family {
            AddressFamily::Inet6 => IpVersion::V6,
            _ => IpVersion::V4,
        };
        let listed = self.handle.rule().get(version).execute().try_collect().await;
        listed.map_err(asking("list routing rules"))
    }

    /// The families without the rule by which packets follow the main table in the end.
    async fn without_main(&self) -> Result<Vec<AddressFamily>, NetworkError> {
        let mut without = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            match self.rules(family).await {
                Ok(rules) if rules.iter().any(is_main_last) => {}
                Ok(_) => without.push(family),
                // A kernel without IPv6.
                Err(NetworkError::Netlink { source, .. })
                    if errno(&source) == Some(libc::EAFNOSUPPORT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(without)
    }

    async fn add_main(&self, family: AddressFamily) -> Result<(), NetworkError> {
        let add = self.handle.rule().add().table_id(MAIN_TABLE).priority(MAIN_LAST);
        let add = add.action(RuleAction::ToTable);
        let added = match family {
            AddressFamily::Inet6 => add.v6().execute().await,
            _ => add.v4().execute().await,
        };
        match added {
            Err(error) if errno(&error) != Some(libc::EEXIST) => {
                Err(asking("add the routing rule to the main table")(error))
            }
            _ => Ok(()),
        }
    }

    async fn add_rule(
        &self,
        rank: u32,
        table: u32,
        link: Option<&LinkName>,
    ) -> Result<(), NetworkError> {
        let mut add = self.handle.rule().add().v4().table_id(table).priority(rank);
        add = add.action(RuleAction::ToTable);
        let attributes = &mut add.message_mut().attributes;
        attributes.push(RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)));
        match link {
            Some(link) => attributes.push(RuleAttribute::Iifname(link.to_string())),
            None => attributes.push(RuleAttribute::SuppressPrefixLen(0)),
        }
        match add.execute().await {
            Err(error) if errno(&error) != Some(libc::EEXIST) => {
                Err(asking(format!("add a routing rule to table {table}"))(error))
            }
            _ => Ok(()),
        }
    }

    async fn delete_rule(&self, rule: &Rule) -> Result<(), NetworkError> {
        match self.handle.rule().del(rule.message.clone()).execute().await {
            Err(error) if errno(&error) != Some(libc::ENOENT) => {
                Err(asking(format!("delete the routing rule to table {}", rule.table))(error))
            }
            _ => Ok(()),
        }
    }
}

fn is_main_last(message: &RuleMessage) -> bool {
    let has = |wanted: RuleAttribute| message.attributes.contains(&wanted);
    has(RuleAttribute::Priority(MAIN_LAST)) && has(RuleAttribute::Table(MAIN_TABLE))
}

fn our_rule(message: RuleMessage) -> Option<Rule> {
    let (mut ours, mut link, mut table) = (false, None, u32::from(message.header.table));
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Protocol(protocol) => {
                ours = *protocol == RouteProtocol::from(PROTOCOL);
            }
            RuleAttribute::Iifname(name) => link = name.parse().ok(),
            RuleAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    ours.then_some(Rule { link, table, message })
}
