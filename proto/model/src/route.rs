//! Route tables: where a subnet's guests' packets go that do not stay in the VPC.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use crate::Joins;
use crate::vpc::special_range;
use crate::{InterfaceId, PairId, Problem, Reason, RouteTableId, SubnetId, Target, VpcId};

/// Routes of one table (EC2's default quota).
pub const MAX_ROUTES_PER_TABLE: usize = 50;

/// One route. Packets for the VPC's own range never follow one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSpec {
    /// Packets for this range.
    pub cidr_block: Ipv4Network,
    /// Where they go instead of the VPC's own way out; `None` is a blackhole: the sender is told that
    /// the range is unreachable, as it is while the target is off. Nothing takes another way then.
    pub target: Option<Target>,
}

/// A route table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTableSpec {
    /// Shown to people.
    pub name: String,
    /// The VPC whose subnets may use it.
    pub vpc_id: VpcId,
    /// Its routes, by range; the longest prefix wins.
    pub routes: Vec<RouteSpec>,
    /// Which of the VPC's tables it is in the kernel; the agent's business.
    pub index: u16,
}

/// A route table as a client asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTableOrder {
    /// Shown to people.
    pub name: String,
    /// The VPC whose subnets may use it.
    pub vpc_id: VpcId,
    /// Its routes, in any order.
    pub routes: Vec<RouteSpec>,
}

/// What the id of a route table's association is of.
#[derive(Debug)]
pub enum RouteTableAssociation {}

impl Joins for RouteTableAssociation {
    const NOUN: &'static str = "an association of a route table";
    const FORM: &'static str = "rtb-.../subnet-...";
}

/// The id of a route table's association with a subnet.
pub type RouteTableAssociationId = PairId<RouteTableId, SubnetId, RouteTableAssociation>;

/// Has a subnet's guests use a route table; a subnet has one at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTableAssociationSpec {
    /// The table.
    pub route_table_id: RouteTableId,
    /// The subnet.
    pub subnet_id: SubnetId,
}

impl RouteTableAssociationSpec {
    /// What it is called.
    pub fn id(&self) -> RouteTableAssociationId {
        PairId::new(self.route_table_id.clone(), self.subnet_id.clone())
    }
}

/// Judges the routes of one table of a VPC with the range `vpc`, and puts them in order.
///
/// # Errors
/// At `routes`: too many, two to the same range, one to an address of the VPC, or to a range that
/// nothing is routed to.
pub fn check_routes(
    mut routes: Vec<RouteSpec>,
    vpc: Ipv4Network,
) -> Result<Vec<RouteSpec>, Problem> {
    let field = "routes";
    if routes.len() > MAX_ROUTES_PER_TABLE {
        let message =
            format!("{} routes, a table has {MAX_ROUTES_PER_TABLE} at most", routes.len());
        return Err(Problem::invalid(field, message).remedy("use larger ranges"));
    }
    let mut ranges = BTreeSet::new();
    for route in &routes {
        let range = route.cidr_block;
        if let Some(special) = special_range(range) {
            let message = format!("{range} is a part of {special}, which nothing is routed to");
            return Err(Problem::invalid(field, message).remedy("remove the route"));
        }
        if vpc.contains(range.network()) && range.prefix() >= vpc.prefix() {
            let message = format!("{range} is inside of the VPC, {vpc}: such packets stay in it");
            return Err(Problem::invalid(field, message)
                .remedy("remove the route; security groups decide who reaches whom in a VPC"));
        }
        if !ranges.insert(range) {
            let message = format!("there are two routes to {range}");
            return Err(Problem::invalid(field, message).remedy("keep one of them"));
        }
    }
    routes.sort_by_key(|route| route.cidr_block);
    Ok(routes)
}

/// A route whose target is known to exist: the interface, and the subnet that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedRoute {
    /// Packets for this range.
    pub cidr_block: Ipv4Network,
    /// Where they go.
    pub interface: InterfaceId,
    /// Whose routes its own packets follow.
    pub subnet: SubnetId,
}

/// Refuses routes that lead packets in a circle. `tables` holds the routes that the guests of each
/// subnet follow. An interface does not follow the routes of a table that leads to itself, so an
/// appliance may be in the subnet that it serves.
///
/// # Errors
/// At `routes`, with the interfaces on the way.
pub fn check_no_loop(tables: &BTreeMap<SubnetId, Vec<ResolvedRoute>>) -> Result<(), Problem> {
    for first in tables.values().flatten() {
        let mut way = vec![&first.interface];
        let mut at = first;
        while let Some(next) = next_of(tables, at, first.cidr_block) {
            let seen = way.contains(&&next.interface);
            way.push(&next.interface);
            if seen {
                let way: Vec<_> = way.iter().map(ToString::to_string).collect();
                let message = format!(
                    "packets for {} would go in a circle: {}",
                    first.cidr_block,
                    way.join(", ")
                );
                return Err(Problem::new(Reason::InvalidArgument, message)
                    .at("routes")
                    .remedy("give the subnet of one of them a table without that route"));
            }
            at = next;
        }
    }
    Ok(())
}

/// The route that packets for `range` follow when they leave the target of `at`.
fn next_of<'a>(
    tables: &'a BTreeMap<SubnetId, Vec<ResolvedRoute>>,
    at: &ResolvedRoute,
    range: Ipv4Network,
) -> Option<&'a ResolvedRoute> {
    let table = tables.get(&at.subnet)?;
    if table.iter().any(|route| route.interface == at.interface) {
        return None;
    }
    let fits = |route: &&ResolvedRoute| {
        route.cidr_block.contains(range.network()) && route.cidr_block.prefix() <= range.prefix()
    };
    table.iter().filter(fits).max_by_key(|route| route.cidr_block.prefix())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(range: &str) -> RouteSpec {
        RouteSpec { cidr_block: range.parse().unwrap(), target: None }
    }

    #[test]
    fn routes_are_judged_and_put_in_order() {
        let vpc = "10.0.0.0/16".parse().unwrap();
        let ordered = check_routes(vec![route("192.0.2.0/24"), route("0.0.0.0/0")], vpc).unwrap();
        assert_eq!(ordered[0].cidr_block.prefix(), 0);
        #[rustfmt::skip]
        let cases = [
            (vec!["10.0.1.0/24"], "inside of the VPC"),
            (vec!["10.0.0.0/16"], "inside of the VPC"),
            (vec!["169.254.169.254/32"], "169.254"),
            (vec!["224.0.0.0/4"], "224"),
            (vec!["192.0.2.0/24", "192.0.2.0/24"], "two routes to 192.0.2.0/24"),
        ];
        for (ranges, want) in cases {
            let routes = ranges.iter().map(|range| route(range)).collect();
            let problem = check_routes(routes, vpc).unwrap_err();
            assert!(problem.message.contains(want), "{ranges:?}: {problem}");
        }
        let many = (0..=MAX_ROUTES_PER_TABLE).map(|n| route(&format!("192.0.{n}.0/24"))).collect();
        assert!(check_routes(many, vpc).unwrap_err().message.contains("50 at most"));
    }

    /// A subnet, a range, the interface that it is routed to, and that interface's subnet; by number.
    type Way = (u8, &'static str, u8, u8);

    fn tables(routes: &[Way]) -> BTreeMap<SubnetId, Vec<ResolvedRoute>> {
        let subnet = |n: u8| SubnetId::from_random([n; 9]);
        let mut tables: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (of, range, interface, in_subnet) in routes {
            tables.entry(subnet(*of)).or_default().push(ResolvedRoute {
                cidr_block: range.parse().unwrap(),
                interface: InterfaceId::from_random([*interface; 9]),
                subnet: subnet(*in_subnet),
            });
        }
        tables
    }

    #[test]
    fn packets_must_not_go_in_a_circle() {
        #[rustfmt::skip]
        let cases: [(&str, &[Way], bool); 6] = [
            ("an appliance in another subnet", &[(1, "0.0.0.0/0", 9, 2)], true),
            ("an appliance in the same subnet", &[(1, "0.0.0.0/0", 9, 1)], true),
            ("one after the other", &[(1, "0.0.0.0/0", 8, 2), (2, "0.0.0.0/0", 9, 3)], true),
            ("to and fro", &[(1, "0.0.0.0/0", 8, 2), (2, "0.0.0.0/0", 9, 1)], false),
            ("other ranges", &[(1, "192.0.2.0/24", 8, 2), (2, "198.51.100.0/24", 9, 1)], true),
            ("a longer prefix leads out", &[
                (1, "192.0.2.0/24", 8, 2), (2, "0.0.0.0/0", 9, 1), (2, "192.0.2.0/24", 7, 3),
            ], true),
        ];
        for (name, routes, fine) in cases {
            let judged = check_no_loop(&tables(routes));
            assert_eq!(judged.is_ok(), fine, "{name}: {judged:?}");
        }
    }
}
