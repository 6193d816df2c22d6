//! `data.weft_reachability`: whether one end may open a connection to another, and by which rules.

use std::sync::Arc;

use tfplugin::{
    Attribute, ConvertError, DataSource, DataSourceContext, Diagnostic, Diagnostics, Schema,
    ValidateContext, Value, async_trait,
};
use weft_model::{InstanceId, InterfaceId, IpProtocol, Service};
use weft_proto::v1::network_insights_client::NetworkInsightsClient;
use weft_proto::v1::reachability_end::End;
use weft_proto::v1::{self};

use crate::agent::Agent;
use crate::{checks, problem};

#[derive(Debug)]
pub(crate) struct Reachability(pub(crate) Arc<Agent>);

const NOUN: &str = "reachability";
const FAILED: &str = "Cannot judge whether that is reachable";

/// An end, and the attributes of which one says who it is.
const ENDS: [(&str, [&str; 3]); 2] = [
    ("source", ["source_instance_id", "source_network_interface_id", "source_address"]),
    (
        "destination",
        ["destination_instance_id", "destination_network_interface_id", "destination_address"],
    ),
];

fn end(config: &Value, names: [&str; 3]) -> Result<v1::ReachabilityEnd, ConvertError> {
    let [instance, interface, address] = names;
    let instance = config.read::<Option<String>>(instance)?.map(End::InstanceId);
    let interface = config.read::<Option<String>>(interface)?.map(End::NetworkInterfaceId);
    let address = config.read::<Option<String>>(address)?.map(End::Address);
    Ok(v1::ReachabilityEnd { end: instance.or(interface).or(address) })
}

#[async_trait]
impl DataSource for Reachability {
    fn type_name(&self) -> &str {
        "weft_reachability"
    }

    fn schema(&self) -> Schema {
        let mut schema = Schema::new(
            "Whether security groups let one end open a connection to another, and by which rules. \
             Judged from the rules that are enforced, also for instances that are off. Routes, and \
             what the guests themselves let in, are another matter. At least one end is an instance, \
             a network interface or a public address; its IPv4 address is meant unless the other \
             end is an IPv6 one. From one VPC to another, name the destination by its public \
             address: both VPCs' groups are asked, each with the addresses that it sees.",
        )
        .subcategory("Network");
        for (end, [instance, interface, address]) in ENDS {
            schema = schema
                .attribute(
                    Attribute::string(instance, format!("The {end}: an instance, by its primary interface. Exactly one of this and the next two."))
                        .validate(checks::id::<InstanceId>(InstanceId::PREFIX, "an instance")),
                )
                .attribute(
                    Attribute::string(interface, format!("The {end}: a network interface."))
                        .validate(checks::id::<InterfaceId>(InterfaceId::PREFIX, "a network interface")),
                )
                .attribute(
                    Attribute::string(address, format!("The {end}: an address, in the VPC, public or outside."))
                        .validate(checks::address()),
                );
        }
        schema
            .attribute(
                Attribute::string("protocol", "`tcp`, `udp`, `icmp`, `icmpv6`, or the number of another one.")
                    .required()
                    .validate(checks::protocol()),
            )
            .attribute(Attribute::number("port", "The destination port; with `tcp` and `udp`."))
            .attribute(Attribute::number("icmp_type", "With `icmp` and `icmpv6`; unset, an echo request."))
            .attribute(Attribute::number("icmp_code", "With `icmp_type`; unset, 0."))
            .attribute(Attribute::bool("allowed", "Whether both ends' groups let it through.").computed())
            .attribute(Attribute::string("egress_rule_id", "The rule that lets it out; unset where none had to, or `allow_all_egress` does.").computed())
            .attribute(Attribute::string("ingress_rule_id", "The rule that lets it in; unset where none had to.").computed())
            .attribute(Attribute::string("reason", "What lets it through, or what is missing.").computed())
    }

    async fn validate(&self, ctx: &ValidateContext) -> Diagnostics {
        let config = &ctx.config;
        let mut found = Diagnostics::new();
        for (end, names) in ENDS {
            let unknown = names.iter().any(|name| config.get(*name).is_unknown());
            let set: Vec<_> = names.iter().filter(|name| config.get(**name).is_set()).collect();
            match set.as_slice() {
                [] if !unknown => found.push(
                    Diagnostic::error(format!("The {end} is missing"))
                        .cause(format!("none of {} is set", names.join(", ")))
                        .remedy("Set one of them"),
                ),
                [first, second, ..] => found.push(
                    Diagnostic::error(format!("There are two {end}s"))
                        .cause(format!("both {first} and {second} are set"))
                        .remedy("Keep one of them")
                        .at(**second),
                ),
                _ => {}
            }
        }
        let numbers = ["port", "icmp_type", "icmp_code"].map(|name| config.get(name));
        let protocol = config.get("protocol").as_str().and_then(|text| text.parse().ok());
        if let Some(protocol) = protocol
            && numbers.iter().all(|number| !number.is_unknown())
        {
            let [port, kind, code] = numbers.map(Value::as_i64);
            let protocol: IpProtocol = protocol;
            if let Err(refused) = Service::parse(protocol, port, kind, code) {
                let schema = DataSource::schema(self);
                found.push(problem::diagnostic("Invalid question", &refused, &schema, config));
            }
        }
        found
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let config = &ctx.config;
        let [(_, source), (_, destination)] = ENDS;
        let request = v1::ReachabilityRequest {
            source: Some(end(config, source)?),
            destination: Some(end(config, destination)?),
            protocol: config.read("protocol")?,
            port: config.read("port")?,
            icmp_type: config.read("icmp_type")?,
            icmp_code: config.read("icmp_code")?,
        };
        let answer = connection
            .call(|channel| {
                let request = request.clone();
                async move { NetworkInsightsClient::new(channel).reachability(request).await }
            })
            .await
            .map_err(|refused| {
                problem::diagnostic(FAILED, &refused, &DataSource::schema(self), config)
            })?;
        let mut values = config.clone();
        values.set("allowed", Value::from(answer.allowed));
        values.set("egress_rule_id", Value::from(answer.egress_rule_id));
        values.set("ingress_rule_id", Value::from(answer.ingress_rule_id));
        values.set("reason", Value::from(answer.reason));
        Ok(values)
    }
}
