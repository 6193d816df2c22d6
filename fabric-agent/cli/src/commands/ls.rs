//! `weft ls`: the objects of one kind, as a table.

mod unclaimed;

use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::Value;
use weft_model::{Problem, Timestamp};
use weft_proto::convert::{
    association_from_wire, attachment_from_wire, elastic_ip_from_wire, group_from_wire,
    host_from_wire, image_from_wire, instance_from_wire, instance_type_from_wire,
    interface_from_wire, key_pair_from_wire, port_forward_from_wire, prefix_list_from_wire,
    route_table_association_from_wire, route_table_from_wire, rule_from_wire, snapshot_from_wire,
    subnet_from_wire, volume_attachment_from_wire, volume_from_wire, vpc_from_wire,
};
use weft_proto::v1;

use crate::agent::Agent;
use crate::failure::Failure;
use crate::nouns::Noun;
use crate::output::{Format, print, print_json, table};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to list; instances unless said otherwise, with --unclaimed everything
    #[arg(value_enum)]
    kind: Option<Kind>,
    /// Only what no client's state is known to hold: what an interrupted apply has left, or what
    /// an apply is making right now. The same apply run again adopts what it left; weft rm removes
    /// the rest
    #[arg(long)]
    unclaimed: bool,
}

/// Called as in the plural here, and besides as Terraform calls one or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    #[value(alias = "instance")]
    Instances,
    #[value(alias = "image")]
    Images,
    #[value(aliases = ["key", "key-pair", "key-pairs"])]
    Keys,
    #[value(aliases = ["group", "security-group", "security-groups"])]
    Groups,
    #[value(aliases = ["rule", "security-group-rule", "security-group-rules"])]
    Rules,
    #[value(alias = "vpc")]
    Vpcs,
    #[value(alias = "subnet")]
    Subnets,
    #[value(alias = "network-interface")]
    NetworkInterfaces,
    #[value(alias = "network-interface-attachment")]
    NetworkInterfaceAttachments,
    #[value(alias = "volume")]
    Volumes,
    #[value(alias = "volume-attachment")]
    VolumeAttachments,
    #[value(alias = "snapshot")]
    Snapshots,
    #[value(alias = "prefix-list")]
    PrefixLists,
    #[value(alias = "elastic-ip")]
    ElasticIps,
    #[value(alias = "elastic-ip-association")]
    ElasticIpAssociations,
    #[value(alias = "port-forward")]
    PortForwards,
    #[value(alias = "route-table")]
    RouteTables,
    #[value(alias = "route-table-association")]
    RouteTableAssociations,
    #[value(alias = "host")]
    Hosts,
    #[value(aliases = ["type", "instance-type", "instance-types"])]
    Types,
}

pub(crate) async fn run(agent: &Agent, args: &Args, format: Format) -> Result<ExitCode, Failure> {
    if args.unclaimed {
        return unclaimed::run(agent, args.kind, format).await;
    }
    let all = v1::ListRequest::default();
    macro_rules! items {
        ($client:ident) => {
            agent.$client().list(all).await?.into_inner().items
        };
    }
    match args.kind.unwrap_or(Kind::Instances) {
        Kind::Instances => show(items!(instances), instance_from_wire, format),
        Kind::Images => show(items!(images), image_from_wire, format),
        Kind::Keys => show(items!(key_pairs), key_pair_from_wire, format),
        Kind::Groups => show(items!(groups), group_from_wire, format),
        Kind::Rules => {
            let every = v1::ListSecurityGroupRulesRequest::default();
            let items = agent.rules().list(every).await?.into_inner().items;
            show(items, rule_from_wire, format)
        }
        Kind::Vpcs => show(items!(vpcs), vpc_from_wire, format),
        Kind::Subnets => show(items!(subnets), subnet_from_wire, format),
        Kind::NetworkInterfaces => show(items!(interfaces), interface_from_wire, format),
        Kind::NetworkInterfaceAttachments => {
            show(items!(attachments), attachment_from_wire, format)
        }
        Kind::Volumes => show(items!(volumes), volume_from_wire, format),
        Kind::VolumeAttachments => {
            show(items!(volume_attachments), volume_attachment_from_wire, format)
        }
        Kind::Snapshots => show(items!(snapshots), snapshot_from_wire, format),
        Kind::PrefixLists => show(items!(prefix_lists), prefix_list_from_wire, format),
        Kind::ElasticIps => show(items!(elastic_ips), elastic_ip_from_wire, format),
        Kind::ElasticIpAssociations => show(items!(associations), association_from_wire, format),
        Kind::PortForwards => show(items!(forwards), port_forward_from_wire, format),
        Kind::RouteTables => show(items!(route_tables), route_table_from_wire, format),
        Kind::RouteTableAssociations => {
            show(items!(route_associations), route_table_association_from_wire, format)
        }
        Kind::Hosts => show(items!(hosts), host_from_wire, format),
        Kind::Types => show(items!(types), instance_type_from_wire, format),
    }
}

fn show<W, T: Noun>(
    items: Vec<W>,
    from_wire: impl Fn(W) -> Result<T, Problem>,
    format: Format,
) -> Result<ExitCode, Failure> {
    let objects = items.into_iter().map(from_wire).collect::<Result<Vec<_>, _>>()?;
    match format {
        Format::Json => print_json(&Value::Array(objects.iter().map(T::json).collect()))?,
        Format::Text => {
            let now = Timestamp::now();
            let rows: Vec<_> = objects.iter().map(|object| object.row(now)).collect();
            print(table(T::HEADER, &rows))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
