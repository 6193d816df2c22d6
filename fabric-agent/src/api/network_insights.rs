//! `weft.v1.NetworkInsights`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use tonic::{Request, Response, Status};
use v1::reachability_end::End;
use weft_model::{Counted, Direction, GroupId, InvalidId, IpProtocol, Problem, Service};
use weft_proto::v1;

use super::{Api, refuse};
use crate::context::Context;
use crate::hits::Hits;
use crate::reachability::{self, Named, Verdict, Way, Ways};
use crate::reconcile::firewall_of;
use crate::repo::Groups;

fn id<T: FromStr<Err = InvalidId>>(field: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error: InvalidId| Problem::invalid(field, error.to_string()))
}

fn named(field: &str, end: Option<v1::ReachabilityEnd>) -> Result<Named, Problem> {
    match end.and_then(|end| end.end) {
        Some(End::InstanceId(text)) => {
            Ok(Named::Instance(id(&format!("{field}_instance_id"), &text)?))
        }
        Some(End::NetworkInterfaceId(text)) => {
            Ok(Named::Interface(id(&format!("{field}_network_interface_id"), &text)?))
        }
        Some(End::Address(text)) => match text.parse::<IpAddr>() {
            Ok(address) => Ok(Named::Address(address)),
            Err(_) => {
                let field = format!("{field}_address");
                Err(Problem::invalid(&field, format!("\"{text}\" is no IP address"))
                    .remedy("write one address, without a prefix length"))
            }
        },
        None => Err(Problem::invalid(field, format!("the {field} is missing"))
            .remedy("name an instance, a network interface or an address")),
    }
}

fn reachability(
    context: &Context,
    request: v1::ReachabilityRequest,
) -> Result<v1::ReachabilityResponse, Problem> {
    let v1::ReachabilityRequest { source, destination, protocol, port, icmp_type, icmp_code } =
        request;
    let (source, destination) = (named("source", source)?, named("destination", destination)?);
    let protocol = protocol.parse::<IpProtocol>().map_err(|problem| problem.at("protocol"))?;
    let service = Service::parse(protocol, port, icmp_type, icmp_code)?;
    let world = context.cache.read();
    let prefix = &context.reconciler.config().prefix;
    let judge = |way: &Way| {
        let vpc_id = &way.vpc_id;
        let firewall = firewall_of(&world, vpc_id, prefix)
            .ok_or_else(|| Problem::not_found(format!("VPC {vpc_id} does not exist any more")))?;
        Ok::<_, Problem>(reachability::judge(&firewall, way, service))
    };
    let verdict = match reachability::find(&world, &source, &destination)? {
        Ways::Apart(reason) => Verdict::refused(reason),
        Ways::Within(way) => judge(&way)?,
        Ways::Between { out, into } => judge(&out)?.and(judge(&into)?),
    };
    Ok(v1::ReachabilityResponse {
        allowed: verdict.allowed,
        egress_rule_id: verdict.egress_rule.map(|id| id.to_string()),
        ingress_rule_id: verdict.ingress_rule.map(|id| id.to_string()),
        reason: verdict.reason,
    })
}

async fn hits(
    context: &Context,
    request: v1::SecurityGroupHitsRequest,
) -> Result<v1::SecurityGroupHitsResponse, Problem> {
    let group_id: GroupId = id("security_group_id", &request.security_group_id)?;
    let group = context.repo.get::<Groups>(&group_id).await;
    let group = group.map_err(|problem| problem.at("security_group_id"))?.value;
    let counted = context.hits.of(context, &group.spec.vpc_id).await;
    let counted = counted.map_err(|error| error.problem())?;
    let world = context.cache.read();
    let rules = world.rules.values().filter(|rule| rule.spec.group_id == group_id);
    let rules = rules.map(|rule| v1::RuleHits {
        security_group_rule_id: rule.id.to_string(),
        hits: Some(count(&counted, &Counted::Rule(rule.id.clone()))),
    });
    let all_egress = group.spec.allow_all_egress;
    Ok(v1::SecurityGroupHitsResponse {
        rules: rules.collect(),
        all_egress: all_egress.then(|| count(&counted, &Counted::AllEgress(group_id.clone()))),
        denied_ingress: Some(count(&counted, &Counted::Denied(Direction::Ingress))),
        denied_egress: Some(count(&counted, &Counted::Denied(Direction::Egress))),
    })
}

fn count(counted: &BTreeMap<Counted, Hits>, what: &Counted) -> v1::HitCount {
    let hits = counted.get(what).copied().unwrap_or_default();
    v1::HitCount {
        packets: hits.total.packets,
        bytes: hits.total.bytes,
        last_hit_at_unix_ms: hits.last.map(weft_model::Timestamp::as_millisecond),
    }
}

#[tonic::async_trait]
impl v1::network_insights_server::NetworkInsights for Api {
    async fn security_group_hits(
        &self,
        request: Request<v1::SecurityGroupHitsRequest>,
    ) -> Result<Response<v1::SecurityGroupHitsResponse>, Status> {
        hits(&self.context, request.into_inner()).await.map(Response::new).map_err(refuse)
    }

    async fn reachability(
        &self,
        request: Request<v1::ReachabilityRequest>,
    ) -> Result<Response<v1::ReachabilityResponse>, Status> {
        reachability(&self.context, request.into_inner()).map(Response::new).map_err(refuse)
    }
}
