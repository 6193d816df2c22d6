//! Whether what exists already lets a planned network interface be made: an instance's own, or one
//! by itself. Both have the same attributes.
//!
//! Without the agent's answer a plan is as good as it can be; Create says what is wrong.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use tfplugin::PlanContext;
use weft_model::{AddressPool, Problem, SubnetSpec, check_source_dest};
use weft_proto::convert::{group_from_wire, subnet_from_wire, vpc_from_wire};

use crate::agent::Connection;
use crate::agent::reads::{self, Claim};
use crate::security_group::SecurityGroup;
use crate::subnet::Subnet;
use crate::vpc::Vpc;

/// Refuses an address that its subnet does not have, groups of another VPC, and a check of addresses
/// that cannot be switched off.
pub(crate) async fn check(connection: &Arc<Connection>, ctx: &PlanContext) -> Result<(), Problem> {
    let looked_at = ["subnet_id", "private_ip", "security_group_ids", "source_dest_check"];
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
    if ctx.plan.get("source_dest_check").as_bool() == Some(false)
        && let Ok(Some(wire)) =
            reads::read::<Vpc>(connection, subnet.vpc_id.as_str(), Claim::No).await
    {
        check_source_dest(false, vpc_from_wire(wire)?.spec.mode)?;
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
