//! `data.weft_security_group_hits`: what the rules of a group have let through.

use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Nesting, Schema, Value, async_trait,
};
use weft_model::{GroupId, Timestamp};
use weft_proto::v1::network_insights_client::NetworkInsightsClient;
use weft_proto::v1::{self};

use crate::agent::Agent;
use crate::checks;

#[derive(Debug)]
pub(crate) struct SecurityGroupHits(pub(crate) Arc<Agent>);

const NOUN: &str = "security group's hits";

fn counts() -> [Attribute; 3] {
    [
        Attribute::number("packets", "Packets that opened connections.").computed(),
        Attribute::number("bytes", "Bytes of these packets.").computed(),
        Attribute::string(
            "last_hit_at",
            "When the newest was seen (RFC 3339), to 45 seconds; unset where none was since the agent's start.",
        )
        .computed(),
    ]
}

fn shown(hits: Option<v1::HitCount>) -> Vec<(&'static str, Value)> {
    let hits = hits.unwrap_or_default();
    let at = hits.last_hit_at_unix_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let number = |n: u64| Value::from(i64::try_from(n).unwrap_or(i64::MAX));
    vec![
        ("packets", number(hits.packets)),
        ("bytes", number(hits.bytes)),
        ("last_hit_at", at.map(|at| at.to_string()).into()),
    ]
}

#[async_trait]
impl DataSource for SecurityGroupHits {
    fn type_name(&self) -> &str {
        "weft_security_group_hits"
    }

    fn schema(&self) -> Schema {
        Schema::new(
            "What the rules of a security group have let through. Counted are packets that open \
             connections: the rest of a connection is known and not judged again. Where several \
             rules would let a packet through, one of them counts it. A counter survives changes \
             of other rules and restarts of the agent; it begins anew with the host. It changes by \
             itself, so an output that shows it makes plans non-empty.",
        )
        .subcategory("Network")
        .attribute(
            Attribute::string("security_group_id", "Whose rules.")
                .required()
                .validate(checks::id::<GroupId>(GroupId::PREFIX, "a security group")),
        )
        .attribute(
            Attribute::nested(
                "rules",
                Nesting::List,
                "Each rule of the group, by id.",
                std::iter::once(
                    Attribute::string("security_group_rule_id", "The rule.").computed(),
                )
                .chain(counts()),
            )
            .computed(),
        )
        .attribute(
            Attribute::nested(
                "all_egress",
                Nesting::Single,
                "What `allow_all_egress` has let out; unset where that is off.",
                counts(),
            )
            .computed(),
        )
        .attribute(
            Attribute::nested(
                "denied_ingress",
                Nesting::Single,
                "What was kept from instances of the group's VPC because no group of theirs admits it.",
                counts(),
            )
            .computed(),
        )
        .attribute(
            Attribute::nested(
                "denied_egress",
                Nesting::Single,
                "What instances of the group's VPC were kept from sending.",
                counts(),
            )
            .computed(),
        )
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let id: String = ctx.config.read("security_group_id")?;
        let answer = connection
            .call(|channel| {
                let request = v1::SecurityGroupHitsRequest { security_group_id: id.clone() };
                async move { NetworkInsightsClient::new(channel).security_group_hits(request).await }
            })
            .await
            .map_err(|problem| super::fail(NOUN, &problem))?;
        let rule = |rule: v1::RuleHits| {
            let id = ("security_group_rule_id", Value::from(rule.security_group_rule_id));
            Value::object(std::iter::once(id).chain(shown(rule.hits)))
        };
        let one = |hits: Option<v1::HitCount>| match hits {
            Some(hits) => Value::object(shown(Some(hits))),
            None => Value::Null,
        };
        let rules: Vec<Value> = answer.rules.into_iter().map(rule).collect();
        Ok(Value::object([
            ("security_group_id", Value::from(id)),
            ("rules", rules.into()),
            ("all_egress", one(answer.all_egress)),
            ("denied_ingress", one(answer.denied_ingress)),
            ("denied_egress", one(answer.denied_egress)),
        ]))
    }
}
