//! What the route tables of a VPC come to on this host. Pure.

use std::collections::{BTreeMap, BTreeSet};

use weft_model::{
    LinkName, NextHop, RouteTableId, RouteTableSpec, Routes, SubnetId, TapInterface, VpcId,
};

use crate::cache::World;

/// The routes of `vpc_id`, whose guests are behind `taps`.
pub(super) fn routes(
    world: &World,
    vpc_id: &VpcId,
    taps: &BTreeMap<LinkName, TapInterface>,
) -> Routes {
    let in_vpc = |id: &RouteTableId| {
        let table = &world.route_tables.get(id)?.spec;
        (table.vpc_id == *vpc_id).then_some(table)
    };
    let of_subnet: BTreeMap<&SubnetId, &RouteTableSpec> = world
        .route_table_associations
        .values()
        .filter_map(|one| Some((&one.spec.subnet_id, in_vpc(&one.spec.route_table_id)?)))
        .collect();
    // Most VPCs have none, and then nobody is looked at.
    if of_subnet.is_empty() {
        return Routes::default();
    }
    let mut routes = Routes { main_first: true, ..Routes::default() };
    let mut targets: BTreeMap<u32, BTreeSet<LinkName>> = BTreeMap::new();
    for table in of_subnet.values() {
        let ways = table.routes.iter().map(|route| {
            let target = route.target.as_ref().and_then(|target| world.interface_of(target));
            let hop = target.map(|interface| NextHop {
                link: interface.link.clone(),
                address: interface.private_ip,
            });
            (route.cidr_block, hop)
        });
        let ways: BTreeMap<_, _> = ways.collect();
        let links = ways.values().flatten().map(|hop| hop.link.clone()).collect();
        targets.insert(number(table), links);
        let there = |hop: &NextHop| taps.contains_key(&hop.link);
        let ways = ways.into_iter().map(|(range, hop)| (range, hop.filter(there)));
        routes.tables.insert(number(table), ways.collect());
    }
    let primaries = world.instances.values().map(|instance| &instance.spec.interface);
    let own = world.network_interfaces.values().map(|own| &own.spec.interface);
    for interface in primaries.chain(own) {
        let Some(table) = of_subnet.get(&interface.subnet_id).map(|table| number(table)) else {
            continue;
        };
        // Who is routed to does not follow the routes that lead to it.
        let is_target = targets.get(&table).is_some_and(|links| links.contains(&interface.link));
        if !is_target && taps.contains_key(&interface.link) {
            routes.links.insert(interface.link.clone(), table);
        }
    }
    routes
}

fn number(table: &RouteTableSpec) -> u32 {
    Routes::FIRST_TABLE + u32::from(table.index)
}
