//! `weft get`: everything about one object.

mod instance;

use std::process::ExitCode;

use weft_proto::convert::{
    association_from_wire, attachment_from_wire, elastic_ip_from_wire, group_from_wire,
    host_from_wire, image_from_wire, instance_from_wire, instance_type_from_wire,
    interface_from_wire, key_pair_from_wire, port_forward_from_wire, prefix_list_from_wire,
    route_table_association_from_wire, route_table_from_wire, rule_from_wire, snapshot_from_wire,
    subnet_from_wire, volume_attachment_from_wire, volume_from_wire, vpc_from_wire,
};

use crate::agent::{Agent, get_request};
use crate::failure::Failure;
use crate::nouns::Noun;
use crate::output::{Format, details, print, print_json};
use crate::target::{self, AnyId};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An id of any kind, or the unique name of an instance
    #[arg(value_name = "ID")]
    target: String,
}

pub(crate) async fn run(agent: &Agent, args: &Args, format: Format) -> Result<ExitCode, Failure> {
    macro_rules! get {
        ($client:ident, $id:expr, $from_wire:ident) => {{
            let request = get_request($id);
            show(&$from_wire(agent.$client().get(request).await?.into_inner())?, format)?
        }};
    }
    match target::any(agent, &args.target).await? {
        AnyId::Instance(id) => {
            let wire = agent.instances().get(get_request(id)).await?.into_inner();
            let view = instance_from_wire(wire)?;
            let belongings = instance::Belongings::of(agent, &view).await?;
            match format {
                Format::Json => {
                    let mut json = view.json();
                    belongings.add_to(&mut json);
                    print_json(&json)?;
                }
                Format::Text => {
                    let mut pairs = view.details();
                    pairs.extend(belongings.details());
                    print(details(&pairs))?;
                }
            }
        }
        AnyId::Image(id) => get!(images, id, image_from_wire),
        AnyId::KeyPair(id) => get!(key_pairs, id, key_pair_from_wire),
        AnyId::InstanceType(id) => get!(types, id, instance_type_from_wire),
        AnyId::Group(id) => get!(groups, id, group_from_wire),
        AnyId::Rule(id) => get!(rules, id, rule_from_wire),
        AnyId::Vpc(id) => get!(vpcs, id, vpc_from_wire),
        AnyId::Subnet(id) => get!(subnets, id, subnet_from_wire),
        AnyId::Snapshot(id) => get!(snapshots, id, snapshot_from_wire),
        AnyId::PrefixList(id) => get!(prefix_lists, id, prefix_list_from_wire),
        AnyId::ElasticIp(id) => get!(elastic_ips, id, elastic_ip_from_wire),
        AnyId::NetworkInterface(id) => get!(interfaces, id, interface_from_wire),
        AnyId::Attachment(id) => get!(attachments, id, attachment_from_wire),
        AnyId::Volume(id) => get!(volumes, id, volume_from_wire),
        AnyId::VolumeAttachment(id) => {
            get!(volume_attachments, id, volume_attachment_from_wire)
        }
        AnyId::Association(id) => get!(associations, id, association_from_wire),
        AnyId::PortForward(id) => get!(forwards, id, port_forward_from_wire),
        AnyId::RouteTable(id) => get!(route_tables, id, route_table_from_wire),
        AnyId::RouteAssociation(id) => {
            get!(route_associations, id, route_table_association_from_wire)
        }
        AnyId::Host(id) => get!(hosts, id, host_from_wire),
    }
    Ok(ExitCode::SUCCESS)
}

fn show(object: &impl Noun, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => print_json(&object.json()),
        Format::Text => print(details(&object.details())),
    }
}
