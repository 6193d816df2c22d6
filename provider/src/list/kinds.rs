//! What each kind is looked for by.

use tfplugin::{Attribute, Value};
use weft_model::{
    ElasticIpId, GroupId, ImageId, InstanceId, InterfaceId, RouteTableId, SnapshotId, SubnetId,
    VolumeId, VpcId,
};
use weft_proto::v1;
use weft_proto::v1::security_group_rule_spec::Peer;

use super::{Listing, Origin};
use crate::checks;
use crate::elastic_ip::ElasticIp;
use crate::elastic_ip_association::ElasticIpAssociation;
use crate::image::Image;
use crate::instance::Instance;
use crate::instance_type::InstanceType;
use crate::key_pair::KeyPair;
use crate::network_interface::NetworkInterface;
use crate::network_interface_attachment::NetworkInterfaceAttachment;
use crate::port_forward::PortForward;
use crate::prefix_list::PrefixList;
use crate::route_table::RouteTable;
use crate::route_table_association::RouteTableAssociation;
use crate::rule::{Rule, Way};
use crate::security_group::SecurityGroup;
use crate::snapshot::Snapshot;
use crate::subnet::Subnet;
use crate::volume::Volume;
use crate::volume_attachment::VolumeAttachment;
use crate::vpc::Vpc;

/// A filter by an id.
macro_rules! by {
    ($name:literal, $id:ty, $noun:literal) => {
        Attribute::string($name, concat!("By ", $noun, ", by its id."))
            .validate(checks::id::<$id>(<$id>::PREFIX, $noun))
    };
}

fn by_vpc() -> Attribute {
    by!("vpc_id", VpcId, "a VPC")
}

fn by_subnet() -> Attribute {
    by!("subnet_id", SubnetId, "a subnet")
}

fn by_group() -> Attribute {
    by!("security_group_id", GroupId, "a security group")
}

fn by_instance() -> Attribute {
    by!("instance_id", InstanceId, "an instance")
}

fn by_interface() -> Attribute {
    by!("network_interface_id", InterfaceId, "a network interface")
}

fn by_image() -> Attribute {
    by!("image_id", ImageId, "an image")
}

fn by_volume() -> Attribute {
    by!("volume_id", VolumeId, "a volume")
}

fn default_or_made(is_default: bool) -> Origin {
    if is_default { Origin::Default } else { Origin::Made }
}

impl Listing for ElasticIp {}
impl Listing for PrefixList {}

impl Listing for Image {
    fn lacking(config: &Value) -> Vec<String> {
        let files = ["source_path", "kernel", "initrd"].into_iter().filter(|name| {
            let text = config.get(*name).as_str();
            text.is_some_and(|text| !text.contains("://"))
        });
        let mut said: Vec<String> = files
            .map(|name| format!("{name}: a file of the machine where the image was made."))
            .collect();
        let sources = ["source_path", "source_url", "source_instance_id", "source_snapshot_id"];
        if sources.iter().all(|name| config.get(*name).is_null()) {
            said.push("Fill in source_path or source_url: nobody knows where it came from.".into());
        }
        said
    }
}

impl Listing for Vpc {
    fn origin(wire: &v1::Vpc) -> Origin {
        default_or_made(wire.is_default)
    }
}

impl Listing for KeyPair {
    const NAME: Option<&'static str> = Some("key_name");
}

impl Listing for InstanceType {
    /// Those that are built in are nobody's to manage.
    fn is_one(wire: &v1::InstanceType) -> bool {
        wire.metadata.is_some()
    }
}

impl Listing for Instance {
    fn filters() -> Vec<Attribute> {
        vec![
            by_image(),
            by_subnet(),
            by_group(),
            Attribute::string("instance_type", "By the type that gives it its size."),
            Attribute::string("key_name", "By a key pair whose owner may log in.")
                .validate(checks::name()),
        ]
    }
}

impl Listing for Subnet {
    fn origin(wire: &v1::Subnet) -> Origin {
        default_or_made(wire.is_default)
    }

    fn filters() -> Vec<Attribute> {
        vec![by_vpc()]
    }
}

impl Listing for SecurityGroup {
    /// Expressions name it as an attribute of its VPC.
    fn origin(wire: &v1::SecurityGroup) -> Origin {
        if wire.is_default { Origin::Along } else { Origin::Made }
    }

    fn filters() -> Vec<Attribute> {
        vec![by_vpc()]
    }
}

impl<W: Way> Listing for Rule<W> {
    const NAME: Option<&'static str> = None;

    fn filters() -> Vec<Attribute> {
        vec![by_group()]
    }

    /// What it lets through: `tcp 22-23 10.0.0.0/8`.
    fn label(state: &Value) -> String {
        let peers = ["cidr_ipv4", "cidr_ipv6", "prefix_list_id", "referenced_security_group_id"];
        let peer = peers.iter().find_map(|name| state.get(*name).as_str()).map(str::to_owned);
        let [from, to] = ["from_port", "to_port"].map(|name| state.get(name).as_i64());
        let ports = match (from, to) {
            (Some(from), Some(to)) if from != to => Some(format!("{from}-{to}")),
            (from, _) => from.map(|port| port.to_string()),
        };
        [Some(protocol(state)), ports, peer].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    fn mark(state: &Value) -> Option<String> {
        let port = state.get("from_port").as_i64().filter(|port| *port >= 0);
        let port = port.map(|port| format!("_{port}")).unwrap_or_default();
        Some(format!("{}{port}", protocol(state)))
    }

    fn is_one(wire: &v1::SecurityGroupRule) -> bool {
        wire.spec.as_ref().is_some_and(|spec| spec.direction == i32::from(W::DIRECTION))
    }

    /// A default group's own rule: everything from its members.
    fn origin(wire: &v1::SecurityGroupRule) -> Origin {
        let made = wire.metadata.as_ref().is_none_or(|it| !it.client_data.is_empty());
        let is_own = |spec: &v1::SecurityGroupRuleSpec| {
            let own = Peer::ReferencedSecurityGroupId(spec.security_group_id.clone());
            spec.ip_protocol == "-1" && spec.peer == Some(own)
        };
        if !made && wire.spec.as_ref().is_some_and(is_own) { Origin::Along } else { Origin::Made }
    }
}

/// Of a rule.
fn protocol(state: &Value) -> String {
    match state.get("ip_protocol").as_str() {
        None | Some("-1") => "all".to_owned(),
        Some(word) => word.to_owned(),
    }
}

impl Listing for RouteTable {
    fn filters() -> Vec<Attribute> {
        vec![by_vpc()]
    }
}

impl Listing for RouteTableAssociation {
    const NAME: Option<&'static str> = None;

    fn filters() -> Vec<Attribute> {
        vec![by!("route_table_id", RouteTableId, "a route table"), by_subnet()]
    }
}

impl Listing for NetworkInterface {
    fn filters() -> Vec<Attribute> {
        vec![by_subnet(), by_group()]
    }
}

impl Listing for NetworkInterfaceAttachment {
    const NAME: Option<&'static str> = None;

    fn filters() -> Vec<Attribute> {
        vec![by_instance(), by_interface()]
    }
}

impl Listing for ElasticIpAssociation {
    const NAME: Option<&'static str> = None;

    fn filters() -> Vec<Attribute> {
        let address = by!("elastic_ip_id", ElasticIpId, "an elastic IP");
        vec![address, by_instance(), by_interface()]
    }
}

impl Listing for PortForward {
    fn filters() -> Vec<Attribute> {
        vec![by_instance(), by_interface()]
    }
}

impl Listing for Volume {
    fn filters() -> Vec<Attribute> {
        vec![by_image(), by!("snapshot_id", SnapshotId, "a snapshot")]
    }
}

impl Listing for VolumeAttachment {
    const NAME: Option<&'static str> = None;

    fn filters() -> Vec<Attribute> {
        vec![by_instance(), by_volume()]
    }
}

impl Listing for Snapshot {
    const NAME: Option<&'static str> = None;

    fn filters() -> Vec<Attribute> {
        vec![by_instance(), by_volume()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_known_by_what_it_lets_through() {
        type Ingress = Rule<crate::security_group_ingress_rule::Ingress>;
        let rule = |protocol: &str, ports: Option<(i64, i64)>| {
            Value::object([
                ("ip_protocol", Value::from(protocol)),
                ("from_port", ports.map(|(from, _)| from).into()),
                ("to_port", ports.map(|(_, to)| to).into()),
                ("cidr_ipv4", "10.0.0.0/8".into()),
            ])
        };
        #[rustfmt::skip]
        let cases = [
            (rule("tcp", Some((22, 22))),  "tcp 22 10.0.0.0/8",    "tcp_22"),
            (rule("udp", Some((1, 9))),    "udp 1-9 10.0.0.0/8",   "udp_1"),
            (rule("icmp", Some((-1, -1))), "icmp -1 10.0.0.0/8",   "icmp"),
            (rule("-1", None),             "all 10.0.0.0/8",       "all"),
        ];
        for (rule, label, mark) in cases {
            assert_eq!(Ingress::label(&rule), label);
            assert_eq!(Ingress::mark(&rule).as_deref(), Some(mark));
        }
    }

    #[test]
    fn an_image_says_what_is_on_another_machine_and_what_is_missing() {
        let lacking =
            |entries: &[(&str, &str)]| Image::lacking(&Value::object(entries.iter().copied()));
        assert_eq!(
            lacking(&[("source_path", "debian.qcow2"), ("kernel", "vmlinuz")]),
            [
                "source_path: a file of the machine where the image was made.",
                "kernel: a file of the machine where the image was made."
            ]
        );
        let url = "https://example.com/vmlinuz";
        assert!(lacking(&[("source_url", url), ("kernel", url)]).is_empty());
        assert_eq!(lacking(&[("name", "it")]).len(), 1);
    }
}
