//! Whether a planned subnet fits into its VPC, beside those that are there and those that this run
//! plans.
//!
//! Without the agent's answer a plan is as good as it can be; Create says what is wrong.

use std::sync::Arc;

use tfplugin::{Diagnostics, PlanContext, Severity};
use weft_model::{Object, Problem, SubnetId, SubnetOrder, SubnetSpec, VpcId};
use weft_proto::convert::{subnet_from_wire, vpc_from_wire};
use weft_proto::v1;

use super::Subnet;
use super::planned::PlannedSubnet;
use crate::agent::reads::{self, Claim};
use crate::agent::{Agent, Connection, PlanChecks};
use crate::kind::Kind as _;
use crate::kind::wire::Listed as _;
use crate::problem;
use crate::vpc::Vpc;

/// What replaces a subnet.
const FOR_GOOD: [&str; 4] = ["vpc_id", "cidr_block", "ipv6_cidr_block", "gateway_ip"];

type Existing = Object<SubnetId, SubnetSpec>;

pub(super) async fn check(agent: &Agent, ctx: &mut PlanContext) -> Result<(), Diagnostics> {
    let Ok(connection) = agent.connection() else { return Ok(()) };
    if connection.settings.plan_checks == PlanChecks::Off {
        return Ok(());
    }
    if !ctx.is_create() {
        if FOR_GOOD.iter().any(|name| ctx.changes(*name))
            && let Some(id) = ctx.prior.get("id").as_str().and_then(|id| id.parse().ok())
        {
            connection.planned_networks.replaces(id);
        }
        return Ok(());
    }
    let Some(planned) = planned(ctx) else { return Ok(()) };
    let said = |problem: Problem| {
        let summary = "The subnet cannot be made";
        problem::diagnostic(summary, &problem, &Subnet::schema(), &ctx.config)
    };
    let Some(vpc_id) = planned.vpc_id.clone() else {
        let range = planned.cidr_block;
        connection.planned_networks.add(planned, &[]).map_err(said)?;
        if let Err(problem) = connection.planned_networks.check_in_a_vpc(range) {
            let mut diagnostic = said(problem);
            if connection.settings.plan_checks == PlanChecks::Warn {
                diagnostic.severity = Severity::Warning;
                diagnostic.summary = "The subnet seems to be outside of its VPC".to_owned();
            }
            ctx.error(diagnostic);
        }
        return Ok(());
    };
    let existing = match connection.settings.endpoint {
        Some(_) => beside(&connection, &vpc_id).await,
        None => Vec::new(),
    };
    let order = SubnetOrder {
        name: planned.name.clone(),
        vpc_id,
        cidr_block: planned.cidr_block,
        ipv6_cidr_block: planned.ipv6_cidr_block,
        gateway: ctx.plan.get("gateway_ip").as_str().and_then(|address| address.parse().ok()),
        dns_servers: Vec::new(),
        map_public_ip: ctx.plan.get("map_public_ip_on_launch").as_bool().unwrap_or_default(),
    };
    let specs: Vec<&SubnetSpec> = existing.iter().map(|one| &one.spec).collect();
    let among = connection.planned_networks.add(planned, &specs);
    let taken = place(&connection, order, &existing).await.and_then(|taken| among.map(|()| taken));
    // What has the range may be gone by the time that this one is made.
    if let Some(problem) = taken.map_err(said)? {
        let summary = "The range of the subnet is not free";
        let told = problem::diagnostic(summary, &problem, &Subnet::schema(), &ctx.config);
        if let Some(told) = connection.settings.plan_checks.told(told) {
            ctx.warn(told);
        }
    }
    Ok(())
}

/// The subnet as far as it is known; `None` without a range.
fn planned(ctx: &PlanContext) -> Option<PlannedSubnet> {
    let text = |name: &str| ctx.plan.get(name).as_str();
    Some(PlannedSubnet {
        vpc_id: text("vpc_id").and_then(|id| id.parse().ok()),
        name: text("name").unwrap_or("(not known yet)").to_owned(),
        cidr_block: text("cidr_block")?.parse().ok()?,
        ipv6_cidr_block: text("ipv6_cidr_block").and_then(|range| range.parse().ok()),
    })
}

/// The subnets that the VPC has.
async fn beside(connection: &Connection, vpc_id: &VpcId) -> Vec<Existing> {
    let listed =
        connection.call(|channel| v1::Subnet::list(channel, v1::ListRequest::default())).await;
    let subnets =
        listed.unwrap_or_default().into_iter().filter_map(|one| subnet_from_wire(one).ok());
    subnets.filter(|one| one.spec.vpc_id == *vpc_id).collect()
}

/// Judges as the agent will. Returns what is wrong as long as the subnets are there that are there
/// now.
///
/// # Errors
/// What is wrong whatever else is there.
async fn place(
    connection: &Arc<Connection>,
    order: SubnetOrder,
    existing: &[Existing],
) -> Result<Option<Problem>, Problem> {
    if connection.settings.endpoint.is_none() {
        return Ok(None);
    }
    let found = reads::read::<Vpc>(connection, order.vpc_id.as_str(), Claim::No).await;
    let Ok(Some(wire)) = found else { return Ok(None) };
    let vpc = vpc_from_wire(wire)?.spec;
    order.clone().place(&vpc, std::iter::empty())?;
    let planned = &connection.planned_networks;
    let stays = |one: &&Existing| !planned.makes_place(&one.id, &one.spec, &order.name);
    let beside = existing.iter().filter(stays).map(|one| (&one.id, &one.spec));
    let taken = order.clone().place(&vpc, beside).err();
    Ok(taken.map(|problem| {
        let remedy = problem.remedy.clone().unwrap_or_default();
        problem.remedy(format!("{remedy}; where that subnet is to go, apply its removal first"))
    }))
}
