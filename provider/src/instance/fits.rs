//! Whether what exists already lets the planned instance be made: an instance that is replaced has
//! lost its disk by the time that Create says no.
//!
//! Without the agent's answer a plan is as good as it can be; Create says what is wrong.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use tfplugin::{Diagnostics, PlanContext};
use weft_model::{AddressPool, Problem, SubnetSpec};
use weft_proto::convert::{group_from_wire, image_from_wire, subnet_from_wire};

use crate::agent::Connection;
use crate::agent::reads::{self, Claim};
use crate::image::Image;
use crate::problem;
use crate::security_group::SecurityGroup;
use crate::subnet::Subnet;

pub(super) async fn check(
    connection: &Arc<Connection>,
    ctx: &PlanContext,
) -> Result<(), Diagnostics> {
    check_root_size(connection, ctx).await.map_err(|problem| {
        let schema = super::schema::schema();
        problem::diagnostic("The root volume is too small", &problem, &schema, &ctx.config)
    })?;
    check_interface(connection, ctx).await.map_err(|problem| {
        let schema = super::schema::schema();
        problem::diagnostic("The interface cannot be made", &problem, &schema, &ctx.config)
    })?;
    Ok(())
}

/// A root volume that the image does not fit in.
async fn check_root_size(connection: &Arc<Connection>, ctx: &PlanContext) -> Result<(), Problem> {
    let image_id = ctx.plan.get("image_id").as_str();
    let asked = ctx.plan.get("root_volume.size_gib").as_i64();
    let asked = asked.and_then(|gib| u32::try_from(gib).ok());
    let (Some(image_id), Some(asked)) = (image_id, asked) else { return Ok(()) };
    if !ctx.is_create() && !ctx.changes("root_volume") && !ctx.changes("image_id") {
        return Ok(());
    }
    match reads::read::<Image>(connection, image_id, Claim::No).await {
        Ok(Some(wire)) => image_from_wire(wire)?.spec.check_root_size(asked),
        _ => Ok(()),
    }
}

/// An address that its subnet does not have, and groups of another VPC.
async fn check_interface(connection: &Arc<Connection>, ctx: &PlanContext) -> Result<(), Problem> {
    let looked_at = ["subnet_id", "private_ip", "security_group_ids"];
    let Some(subnet_id) = ctx.plan.get("subnet_id").as_str() else { return Ok(()) };
    if !ctx.is_create() && !looked_at.iter().any(|name| ctx.changes(*name)) {
        return Ok(());
    }
    let Ok(Some(wire)) = reads::read::<Subnet>(connection, subnet_id, Claim::No).await else {
        return Ok(());
    };
    let subnet = subnet_from_wire(wire)?.spec;
    // As written: where it is not, the plan still has that of the instance which is replaced.
    let asked = ctx.config.get("private_ip").as_str().and_then(|text| text.parse().ok());
    if let Some(address) = asked {
        check_address(&subnet, address)?;
    }
    for id in ctx.plan.get("security_group_ids").as_list().into_iter().flatten() {
        let Some(id) = id.as_str() else { continue };
        if let Ok(Some(wire)) = reads::read::<SecurityGroup>(connection, id, Claim::No).await {
            let group = group_from_wire(wire)?;
            group.spec.check_vpc(&group.id, &subnet.vpc_id)?;
        }
    }
    Ok(())
}

/// Who has which address by the time of the apply, nobody knows yet.
fn check_address(subnet: &SubnetSpec, address: Ipv4Addr) -> Result<(), Problem> {
    let (routers, taken) = (BTreeSet::from([subnet.gateway]), BTreeSet::new());
    let pool = AddressPool { range: subnet.cidr_block, routers: &routers, taken: &taken };
    Ok(pool.check(address)?)
}
