//! Route tables and their associations.

use weft_model::{
    Name, Object, Problem, RouteSpec, RouteTableAssociationId, RouteTableAssociationSpec,
    RouteTableId, RouteTableOrder, RouteTableSpec, Target, parse_cidr,
};

use super::object::{object_from_wire, object_to_wire};
use super::{parse, required};
use crate::v1;

fn route_from_wire(wire: v1::Route) -> Result<RouteSpec, Problem> {
    use v1::route::Target as Wire;
    let v1::Route { cidr_block, target } = wire;
    let cidr_block = parse_cidr("routes", &cidr_block)?;
    let target = match target {
        Some(Wire::InstanceId(id)) => Some(Target::Instance(parse("routes", &id)?)),
        Some(Wire::NetworkInterfaceId(id)) => Some(Target::Interface(parse("routes", &id)?)),
        Some(Wire::Blackhole(true)) => None,
        Some(Wire::Blackhole(false)) | None => {
            let message = format!("the route to {cidr_block} leads nowhere");
            return Err(Problem::invalid("routes", message)
                .remedy("set instance_id, network_interface_id, or blackhole = true"));
        }
    };
    Ok(RouteSpec { cidr_block, target })
}

fn route_to_wire(route: RouteSpec) -> v1::Route {
    use v1::route::Target as Wire;
    let RouteSpec { cidr_block, target } = route;
    let target = match target {
        Some(Target::Instance(id)) => Wire::InstanceId(id.to_string()),
        Some(Target::Interface(id)) => Wire::NetworkInterfaceId(id.to_string()),
        None => Wire::Blackhole(true),
    };
    v1::Route { cidr_block: cidr_block.to_string(), target: Some(target) }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn route_table_order_from_wire(
    spec: Option<v1::RouteTableSpec>,
) -> Result<RouteTableOrder, Problem> {
    let v1::RouteTableSpec { name, vpc_id, routes } = required("spec", spec)?;
    Ok(RouteTableOrder {
        name: parse::<Name>("name", &name)?.to_string(),
        vpc_id: parse("vpc_id", &vpc_id)?,
        routes: routes.into_iter().map(route_from_wire).collect::<Result<_, _>>()?,
    })
}

/// The wire's form of `order`.
pub fn route_table_order_to_wire(order: RouteTableOrder) -> v1::RouteTableSpec {
    let RouteTableOrder { name, vpc_id, routes } = order;
    let routes = routes.into_iter().map(route_to_wire).collect();
    v1::RouteTableSpec { name, vpc_id: vpc_id.to_string(), routes }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn route_table_from_wire(
    wire: v1::RouteTable,
) -> Result<Object<RouteTableId, RouteTableSpec>, Problem> {
    let v1::RouteTable { metadata, spec } = wire;
    let RouteTableOrder { name, vpc_id, routes } = route_table_order_from_wire(spec)?;
    // How the agent numbers it is not a client's business.
    object_from_wire(metadata, RouteTableSpec { name, vpc_id, routes, index: 0 })
}

/// The wire's form of `object`.
pub fn route_table_to_wire(object: Object<RouteTableId, RouteTableSpec>) -> v1::RouteTable {
    let (metadata, spec) = object_to_wire(object);
    let RouteTableSpec { name, vpc_id, routes, index: _ } = spec;
    let order = RouteTableOrder { name, vpc_id, routes };
    v1::RouteTable { metadata: Some(metadata), spec: Some(route_table_order_to_wire(order)) }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn route_table_association_spec_from_wire(
    spec: Option<v1::RouteTableAssociationSpec>,
) -> Result<RouteTableAssociationSpec, Problem> {
    let v1::RouteTableAssociationSpec { route_table_id, subnet_id } = required("spec", spec)?;
    Ok(RouteTableAssociationSpec {
        route_table_id: parse("route_table_id", &route_table_id)?,
        subnet_id: parse("subnet_id", &subnet_id)?,
    })
}

/// The wire's form of `spec`.
pub fn route_table_association_spec_to_wire(
    spec: RouteTableAssociationSpec,
) -> v1::RouteTableAssociationSpec {
    let RouteTableAssociationSpec { route_table_id, subnet_id } = spec;
    v1::RouteTableAssociationSpec {
        route_table_id: route_table_id.to_string(),
        subnet_id: subnet_id.to_string(),
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn route_table_association_from_wire(
    wire: v1::RouteTableAssociation,
) -> Result<Object<RouteTableAssociationId, RouteTableAssociationSpec>, Problem> {
    let v1::RouteTableAssociation { metadata, spec } = wire;
    object_from_wire(metadata, route_table_association_spec_from_wire(spec)?)
}

/// The wire's form of `object`.
pub fn route_table_association_to_wire(
    object: Object<RouteTableAssociationId, RouteTableAssociationSpec>,
) -> v1::RouteTableAssociation {
    let (metadata, spec) = object_to_wire(object);
    let spec = route_table_association_spec_to_wire(spec);
    v1::RouteTableAssociation { metadata: Some(metadata), spec: Some(spec) }
}
