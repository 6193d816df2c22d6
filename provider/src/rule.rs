//! What ingress and egress rules have in common: all but the direction.

pub(crate) mod limit;

use std::marker::PhantomData;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tfplugin::{
    ApplyContext, Attribute, ConvertError, Diagnostic, Diagnostics, IdentitySchema, ImportContext,
    PlanContext, ReadContext, Resource, Schema, ValidateContext, Value, async_trait,
};
use weft_model::{GroupId, IpProtocol, PrefixListId, Problem, RulePeer, RulePorts};
use weft_proto::convert::{rule_from_wire, rule_spec_from_wire};
use weft_proto::v1::security_group_rule_spec::Peer;
use weft_proto::v1::{self};

use crate::agent::reads::{self, Claim};
use crate::agent::{Agent, Connection};
use crate::kind::{self, Kind};
use crate::security_group::SecurityGroup;
use crate::tags::TagMap;
use crate::{checks, kept, problem, references, tags};

/// Which way the connections are opened that a rule lets through.
pub(crate) trait Way: std::fmt::Debug + Send + Sync + 'static {
    const TYPE: &'static str;
    const NOUN: &'static str;
    const DIRECTION: v1::RuleDirection;
    const MODEL: weft_model::Direction;
    /// Of the resource.
    const DESCRIPTION: &'static str;
    /// What the peer is: "Where connections may come from".
    const PEER: &'static str;
}

/// An attribute that says who the peer is, and what its value means.
type PeerAttribute = (&'static str, fn(String) -> Peer);

/// Exactly one of them is set.
const PEERS: [PeerAttribute; 4] = [
    ("cidr_ipv4", Peer::CidrIpv4),
    ("cidr_ipv6", Peer::CidrIpv6),
    ("prefix_list_id", Peer::PrefixListId),
    ("referenced_security_group_id", Peer::ReferencedSecurityGroupId),
];

#[derive(Debug)]
pub(crate) struct Rule<W>(pub(crate) Arc<Agent>, pub(crate) PhantomData<W>);

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    tags: Option<TagMap>,
    /// As written: "every ICMP type" has two forms.
    from_port: Option<i64>,
    to_port: Option<i64>,
}

impl<W: Way> Kind for Rule<W> {
    type Wire = v1::SecurityGroupRule;
    type Kept = Kept;
    const TYPE: &'static str = W::TYPE;
    const NOUN: &'static str = W::NOUN;

    fn schema() -> Schema {
        let group = || checks::id::<GroupId>(GroupId::PREFIX, "a security group");
        Schema::new(W::DESCRIPTION)
            .subcategory("Network")
            .attribute(
                Attribute::string("security_group_id", "The group whose members it is about.")
                    .required()
                    .replace_on_change()
                    .validate(group()),
            )
            .attribute(
                Attribute::string("ip_protocol", "`tcp`, `udp`, `icmp`, `icmpv6`, `-1` for all, or the number of another one.")
                    .required()
                    .validate(checks::protocol()),
            )
            .attribute(
                Attribute::number("from_port", "The lowest port; for ICMP the type, `-1` for all. Not with protocols that have no ports.")
                    .validate(checks::whole_number()),
            )
            .attribute(
                Attribute::number("to_port", "The highest port; for ICMP the code, `-1` for all. Not with protocols that have no ports.")
                    .validate(checks::whole_number()),
            )
            .attribute(
                Attribute::string("cidr_ipv4", format!("{}: a range, such as `10.0.0.0/8`. Exactly one of this and the others like it.", W::PEER))
                    .validate(checks::cidr()),
            )
            .attribute(
                Attribute::string("cidr_ipv6", format!("{}: an IPv6 range, such as `2001:db8::/32`.", W::PEER))
                    .validate(checks::cidr_v6()),
            )
            .attribute(
                Attribute::string("prefix_list_id", format!("{}: the ranges of this prefix list.", W::PEER))
                    .validate(checks::id::<PrefixListId>(PrefixListId::PREFIX, "a prefix list")),
            )
            .attribute(
                Attribute::string("referenced_security_group_id", format!("{}: the members of this group.", W::PEER))
                    .validate(group()),
            )
            .attribute(
                Attribute::string("description", "Free text.").default("").validate(checks::description()),
            )
            .attributes(tags::attributes())
            .attribute(Attribute::string("id", "`sgr-` and 17 hexadecimal digits.").computed())
    }

    fn kept(plan: &Value) -> Result<Kept, ConvertError> {
        Ok(Kept {
            tags: tags::own(plan)?,
            from_port: plan.read("from_port")?,
            to_port: plan.read("to_port")?,
        })
    }

    fn state(wire: v1::SecurityGroupRule) -> Result<Value, Problem> {
        let object = rule_from_wire(wire)?;
        let kept: Kept = kept::decode(&object.client_data);
        let rule = object.spec;
        if rule.direction != W::MODEL {
            let message = format!("{} is a rule of the other direction", object.id);
            return Err(Problem::invalid("id", message)
                .remedy("import it as the other of the two kinds of rule"));
        }
        let same = RulePorts::parse(rule.protocol, kept.from_port, kept.to_port) == Ok(rule.ports);
        let (from_port, to_port) =
            if same { (kept.from_port, kept.to_port) } else { rule.ports.as_ports() };
        let peer = match &rule.peer {
            RulePeer::Cidr(range) => range.to_string(),
            RulePeer::Group(group) => group.to_string(),
            RulePeer::PrefixList(list) => list.to_string(),
        };
        let said = |field: &str| (rule.peer.field() == field).then(|| peer.clone());
        Ok(Value::object([
            ("id", Value::from(object.id.to_string())),
            ("security_group_id", rule.group_id.to_string().into()),
            ("ip_protocol", rule.protocol.to_string().into()),
            ("from_port", from_port.into()),
            ("to_port", to_port.into()),
            ("cidr_ipv4", said("cidr_ipv4").into()),
            ("cidr_ipv6", said("cidr_ipv6").into()),
            ("prefix_list_id", said("prefix_list_id").into()),
            ("referenced_security_group_id", said("referenced_security_group_id").into()),
            ("description", rule.description.into()),
            ("tags", kept.tags.into()),
            ("tags_all", object.tags.into_map().into()),
        ]))
    }
}

impl<W: Way> Rule<W> {
    fn spec(plan: &Value) -> Result<v1::SecurityGroupRuleSpec, Diagnostics> {
        let mut peer = None;
        for (name, kind) in PEERS {
            let set = plan.read::<Option<String>>(name)?;
            if let Some(value) = set {
                peer = Some(kind(value));
            }
        }
        Ok(v1::SecurityGroupRuleSpec {
            security_group_id: plan.read("security_group_id")?,
            direction: W::DIRECTION.into(),
            ip_protocol: plan.read("ip_protocol")?,
            from_port: plan.read("from_port")?,
            to_port: plan.read("to_port")?,
            peer,
            description: plan.read("description")?,
        })
    }

    /// Egress rules say nothing where the group allows everything. A look that fails is no reason
    /// to fail: the warning is a courtesy.
    async fn superfluous(connection: &Arc<Connection>, plan: &Value) -> Option<Diagnostic> {
        let id = plan.get("security_group_id").as_str()?;
        if W::DIRECTION != v1::RuleDirection::Egress {
            return None;
        }
        let group = reads::read::<SecurityGroup>(connection, id, Claim::No).await.ok()??;
        group.spec?.allow_all_egress.then(|| {
            Diagnostic::warning("This egress rule changes nothing")
                .cause(format!("the group {id} has allow_all_egress = true, so its members may open any connection"))
                .remedy("Set allow_all_egress = false in the group, or remove the rule")
                .at("security_group_id")
        })
    }
}

#[async_trait]
impl<W: Way> Resource for Rule<W> {
    fn type_name(&self) -> &str {
        W::TYPE
    }

    fn schema(&self) -> Schema {
        <Self as Kind>::schema()
    }

    fn identity(&self) -> Option<IdentitySchema> {
        Some(kind::identity::<Self>())
    }

    async fn validate(&self, ctx: &ValidateContext) -> Diagnostics {
        let config = &ctx.config;
        let mut found = Diagnostics::new();
        let peers = PEERS.map(|(name, _)| name);
        let unknown = peers.iter().any(|name| config.get(*name).is_unknown());
        let set: Vec<&str> = peers.into_iter().filter(|name| config.get(*name).is_set()).collect();
        match set.as_slice() {
            [] if !unknown => found.push(
                Diagnostic::error("The rule has no peer")
                    .cause(format!("none of {} is set", peers.join(", ")))
                    .remedy("Set one of them; cidr_ipv4 = \"0.0.0.0/0\" means every IPv4 address, cidr_ipv6 = \"::/0\" every IPv6 address"),
            ),
            [first, second, ..] => found.push(
                Diagnostic::error("The rule has two peers")
                    .cause(format!("both {first} and {second} are set"))
                    .remedy("Keep one of them and make a second rule for the other")
                    .at(*second),
            ),
            _ => {}
        }
        let protocol =
            config.get("ip_protocol").as_str().and_then(|text| text.parse::<IpProtocol>().ok());
        let ports = ["from_port", "to_port"].map(|name| config.get(name));
        if let Some(protocol) = protocol
            && ports.iter().all(|port| port.is_null() || port.as_i64().is_some())
        {
            let [from, to] = ports.map(tfplugin::Value::as_i64);
            if let Err(problem) = RulePorts::parse(protocol, from, to) {
                let schema = <Self as Kind>::schema();
                found.push(problem::diagnostic("Invalid ports", &problem, &schema, config));
            }
            let range = set.iter().find_map(|name| config.get(*name).as_str()?.parse().ok());
            if let Some(range) = range
                && let Err(problem) = RulePeer::Cidr(range).check_family(protocol)
            {
                let schema = <Self as Kind>::schema();
                found.push(problem::diagnostic("Invalid range", &problem, &schema, config));
            }
        }
        found
    }

    async fn modify_plan(&self, ctx: &mut PlanContext) -> Result<(), Diagnostics> {
        let connection = self.0.connection().ok();
        tags::plan(connection.as_deref().map(|connection| &connection.settings), ctx);
        references::check(&self.0, ctx).await;
        let Some(connection) = self.0.asked_in_plans() else { return Ok(()) };
        let counted = ["security_group_id"].into_iter().chain(PEERS.map(|(name, _)| name));
        if counted.into_iter().any(|name| ctx.changes(name))
            && let Some(spec) = Self::spec(&ctx.plan).ok()
            && let Ok(spec) = rule_spec_from_wire(Some(spec))
        {
            // Of another group, it is made anew.
            let id = Some(ctx.prior.get("id")).filter(|_| !ctx.changes("security_group_id"));
            let id = id.and_then(|id| id.as_str()?.parse().ok());
            limit::check(&connection, id, &spec).await.map_err(|problem| {
                let summary = format!("The {} cannot be made", W::NOUN);
                let schema = <Self as Kind>::schema();
                problem::diagnostic(summary, &problem, &schema, &ctx.config)
            })?;
        }
        if ctx.changes("security_group_id")
            && let Some(warning) = Self::superfluous(&connection, &ctx.plan).await
        {
            ctx.warn(warning);
        }
        Ok(())
    }

    async fn create(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        let connection = kind::connection::<Self>(&self.0, "create")?;
        let made =
            kind::create::<Self>(&connection, ctx, &ctx.plan, Self::spec(&ctx.plan)?).await?;
        ctx.set_state(kind::state::<Self>(made)?);
        if let Some(warning) = Self::superfluous(&connection, &ctx.plan).await {
            ctx.warn(warning);
        }
        Ok(())
    }

    async fn read(&self, ctx: &mut ReadContext) -> Result<(), Diagnostics> {
        kind::read::<Self>(&self.0, ctx).await
    }

    async fn update(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        kind::change::<Self>(&self.0, ctx, Self::spec).await
    }

    async fn delete(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        kind::delete::<Self>(&self.0, ctx).await
    }

    async fn import(&self, ctx: &mut ImportContext) -> Result<(), Diagnostics> {
        kind::import::<Self>(ctx)
    }

    async fn import_by_identity(&self, ctx: &mut ImportContext) -> Result<(), Diagnostics> {
        kind::import::<Self>(ctx)
    }
}
