//! What the fake agent says about its groups: nothing that a packet has done.

use tonic::{Request, Response, Status};
use weft_proto::v1;

use super::Shared;
use super::world::missing;

#[tonic::async_trait]
impl v1::network_insights_server::NetworkInsights for Shared {
    /// The first rule was used, the others were not.
    async fn security_group_hits(
        &self,
        request: Request<v1::SecurityGroupHitsRequest>,
    ) -> Result<Response<v1::SecurityGroupHitsResponse>, Status> {
        let id = request.into_inner().security_group_id;
        let world = self.lock();
        let group = world.groups.get(&id).ok_or_else(|| missing(&id))?;
        let used =
            v1::HitCount { packets: 3, bytes: 180, last_hit_at_unix_ms: Some(1_700_000_000_000) };
        let rules = world.rules.iter().filter(|(_, rule)| {
            rule.spec.as_ref().is_some_and(|spec| spec.security_group_id == id)
        });
        let rules = rules.enumerate().map(|(n, (id, _))| v1::RuleHits {
            security_group_rule_id: id.clone(),
            hits: (n == 0).then_some(used),
        });
        let all = group.spec.as_ref().is_some_and(|spec| spec.allow_all_egress);
        Ok(Response::new(v1::SecurityGroupHitsResponse {
            rules: rules.collect(),
            all_egress: all.then_some(used),
            denied_ingress: Some(used),
            denied_egress: Some(v1::HitCount::default()),
        }))
    }

    /// Port 22 is reachable; the answer repeats the question.
    async fn reachability(
        &self,
        request: Request<v1::ReachabilityRequest>,
    ) -> Result<Response<v1::ReachabilityResponse>, Status> {
        let request = request.into_inner();
        let allowed = request.port == Some(22);
        let reason = format!("{:?} to {:?}", request.source, request.destination);
        let ingress_rule_id = allowed.then(|| "sgr-0123456789abcdef0".to_owned());
        let response =
            v1::ReachabilityResponse { allowed, egress_rule_id: None, ingress_rule_id, reason };
        Ok(Response::new(response))
    }
}
