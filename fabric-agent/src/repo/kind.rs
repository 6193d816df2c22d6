//! The kinds of objects: where they are in the store, and what people call them.

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;
use weft_model::{
    AssociationId, AssociationSpec, AttachmentId, AttachmentSpec, ElasticIpId, ElasticIpSpec,
    GroupId, GroupSpec, ImageId, ImageSpec, InstanceId, InstanceSpec, InstanceTypeId,
    InstanceTypeSpec, InterfaceId, InvalidId, KeyPairId, KeyPairSpec, NetworkInterfaceSpec,
    PortForwardId, PortForwardSpec, PrefixListId, PrefixListSpec, RouteTableAssociationId,
    RouteTableAssociationSpec, RouteTableId, RouteTableSpec, RuleId, RuleSpec, SnapshotId,
    SnapshotSpec, SubnetId, SubnetSpec, VolumeAttachmentId, VolumeAttachmentSpec, VolumeId,
    VolumeSpec, VpcId, VpcSpec,
};

/// A kind of object.
pub(crate) trait Kind: Send + Sync + 'static {
    /// Its id.
    type Id: Clone
        + Debug
        + Display
        + Eq
        + Ord
        + Hash
        + FromStr<Err = InvalidId>
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static;
    /// Its specification.
    type Spec: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// In keys of the store and in Watch.
    const NAME: &'static str;
    /// In sentences.
    const NOUN: &'static str;
    /// The id of something new: from random bytes, or from what the specification joins.
    fn new_id(random: [u8; 9], spec: &Self::Spec) -> Self::Id;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident, $id:ident, $spec:ident, $name:literal, $noun:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) enum $kind {}
        impl Kind for $kind {
            type Id = $id;
            type Spec = $spec;
            const NAME: &'static str = $name;
            const NOUN: &'static str = $noun;
            fn new_id(random: [u8; 9], _spec: &$spec) -> $id {
                $id::from_random(random)
            }
        }
    )*};
}

kinds! {
    /// Virtual machines.
    Instances, InstanceId, InstanceSpec, "instances", "instance";
    /// Immutable disks.
    Images, ImageId, ImageSpec, "images", "image";
    /// SSH public keys.
    KeyPairs, KeyPairId, KeyPairSpec, "key-pairs", "key pair";
    /// Named sizes that somebody made.
    InstanceTypes, InstanceTypeId, InstanceTypeSpec, "instance-types", "instance type";
    /// Security groups.
    Groups, GroupId, GroupSpec, "security-groups", "security group";
    /// Their rules.
    Rules, RuleId, RuleSpec, "security-group-rules", "security group rule";
    /// Address spaces.
    Vpcs, VpcId, VpcSpec, "vpcs", "VPC";
    /// Ranges in them.
    Subnets, SubnetId, SubnetSpec, "subnets", "subnet";
    /// Ranges that rules refer to.
    PrefixLists, PrefixListId, PrefixListSpec, "prefix-lists", "prefix list";
    /// Addresses of the public pool.
    ElasticIps, ElasticIpId, ElasticIpSpec, "elastic-ips", "elastic IP";
    /// Ports of the host that lead to guests.
    PortForwards, PortForwardId, PortForwardSpec, "port-forwards", "port forward";
    /// Addresses and MACs that outlive an instance.
    NetworkInterfaces, InterfaceId, NetworkInterfaceSpec, "network-interfaces", "network interface";
    /// What disks had on them.
    Snapshots, SnapshotId, SnapshotSpec, "snapshots", "snapshot";
    /// Disks that outlive an instance.
    Volumes, VolumeId, VolumeSpec, "volumes", "volume";
    /// Where subnets' guests' packets go.
    RouteTables, RouteTableId, RouteTableSpec, "route-tables", "route table";
}

/// What elastic IPs lead to.
#[derive(Debug)]
pub(crate) enum Associations {}

impl Kind for Associations {
    type Id = AssociationId;
    type Spec = AssociationSpec;
    const NAME: &'static str = "elastic-ip-associations";
    const NOUN: &'static str = "association";
    fn new_id(_random: [u8; 9], spec: &AssociationSpec) -> AssociationId {
        AssociationId::new(spec.elastic_ip_id.clone(), spec.target.clone())
    }
}

/// What attaches network interfaces to instances.
#[derive(Debug)]
pub(crate) enum Attachments {}

impl Kind for Attachments {
    type Id = AttachmentId;
    type Spec = AttachmentSpec;
    const NAME: &'static str = "network-interface-attachments";
    const NOUN: &'static str = "network interface attachment";
    /// Both ends: an interface is attached to an instance once.
    fn new_id(_random: [u8; 9], spec: &AttachmentSpec) -> AttachmentId {
        spec.id()
    }
}

/// What attaches volumes to instances.
#[derive(Debug)]
pub(crate) enum VolumeAttachments {}

impl Kind for VolumeAttachments {
    type Id = VolumeAttachmentId;
    type Spec = VolumeAttachmentSpec;
    const NAME: &'static str = "volume-attachments";
    const NOUN: &'static str = "volume attachment";
    /// Both ends: a volume is attached to an instance once.
    fn new_id(_random: [u8; 9], spec: &VolumeAttachmentSpec) -> VolumeAttachmentId {
        spec.id()
    }
}

/// Which subnet uses which route table.
#[derive(Debug)]
pub(crate) enum RouteTableAssociations {}

impl Kind for RouteTableAssociations {
    type Id = RouteTableAssociationId;
    type Spec = RouteTableAssociationSpec;
    const NAME: &'static str = "route-table-associations";
    const NOUN: &'static str = "route table association";
    fn new_id(_random: [u8; 9], spec: &RouteTableAssociationSpec) -> RouteTableAssociationId {
        spec.id()
    }
}
