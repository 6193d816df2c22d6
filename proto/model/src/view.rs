//! What clients ask for and what they are shown: specifications without secrets.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{
    Architecture, BootMode, Claim, Digest, DiskLimits, GroupId, HostId, ImageId, InstanceId,
    InstanceSpec, InstanceStatus, InterfaceId, KernelContent, Lifecycle, MacAddr, Maxima,
    MetadataOptions, Name, PowerState, Record, SubnetId, Tags, Timestamp, UserData, VpcId,
};

/// An object as clients see it. `S` is its specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object<I, S> {
    /// Made by the agent.
    pub id: I,
    /// Counts changes of the specification.
    pub generation: u64,
    /// What should be.
    pub spec: S,
    /// Labels (the provider's `tags_all`).
    pub tags: Tags,
    /// What only the client knows, as it gave it.
    pub client_data: String,
    /// When Create was accepted.
    pub created_at: Timestamp,
    /// When Delete was accepted.
    pub deleting_since: Option<Timestamp>,
    /// Whether some client's state is known to hold it.
    pub claimed: bool,
}

impl<I, S> Object<I, S> {
    /// The object with its specification made into another one.
    pub fn map<T>(self, f: impl FnOnce(S) -> T) -> Object<I, T> {
        Object {
            id: self.id,
            generation: self.generation,
            spec: f(self.spec),
            tags: self.tags,
            client_data: self.client_data,
            created_at: self.created_at,
            deleting_since: self.deleting_since,
            claimed: self.claimed,
        }
    }
}

impl<I, S> From<Record<I, S>> for Object<I, S> {
    fn from(record: Record<I, S>) -> Self {
        Self {
            id: record.id,
            generation: record.generation,
            spec: record.spec,
            tags: record.tags,
            client_data: record.client_data,
            created_at: record.created_at,
            deleting_since: record.deleting_since,
            claimed: record.claim == Claim::Claimed,
        }
    }
}

/// An image as a client asks for it; the agent reads format and size from the blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOrder {
    /// Shown to people.
    pub name: String,
    /// The disk's file, uploaded before; it may be compressed.
    pub disk: Digest,
    /// How it starts.
    pub boot_mode: BootMode,
    /// What the hypervisor loads with [`BootMode::DirectKernel`].
    pub kernel: Option<KernelContent>,
    /// The processor it is for.
    pub architecture: Architecture,
    /// Who logs in over SSH.
    pub default_user: String,
    /// The smallest root disk.
    pub min_disk_gib: u32,
    /// The smallest memory.
    pub min_memory_mib: u32,
    /// Neither deleted nor replaced while it is set.
    pub protected: bool,
    /// Not chosen any more where the newest image is looked for.
    pub deprecated: bool,
    /// The instance that its disk was captured from.
    pub captured_from: Option<InstanceId>,
}

/// A security group as a client asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOrder {
    /// Shown to people.
    pub name: String,
    /// Free text.
    pub description: String,
    /// `None` is the default VPC.
    pub vpc_id: Option<VpcId>,
    /// Whether members may open any connection to anywhere.
    pub allow_all_egress: bool,
    /// Whether members' connections are cut that nothing admits any more.
    pub revoke_now: bool,
}

/// How big an instance is asked to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Size {
    /// By the name of an instance type.
    Type(String),
    /// By numbers.
    Custom {
        /// Virtual processors, 1 to 256.
        vcpus: u32,
        /// Memory in MiB, at least 64.
        memory_mib: u32,
    },
}

/// An instance as a client asks for it. In a view, everything that the agent chose is filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceOrder {
    /// Shown to people.
    pub name: Option<Name>,
    /// What it boots.
    pub image_id: ImageId,
    /// How big.
    pub size: Size,
    /// How far it may grow while its guest runs.
    pub maxima: Maxima,
    /// `None` is the default subnet.
    pub subnet_id: Option<SubnetId>,
    /// `None` is the lowest free address.
    pub private_ip: Option<Ipv4Addr>,
    /// Whether it gets an address of the public pool; `None` is what its subnet says.
    pub associate_public_ip: Option<bool>,
    /// `None` is the VPC's default group.
    pub security_group_ids: Option<BTreeSet<GroupId>>,
    /// Whether its interface may send only from its own address.
    pub source_dest_check: bool,
    /// Who may log in, by the names of key pairs.
    pub key_names: Vec<Name>,
    /// Given to the guest verbatim.
    pub user_data: Option<UserData>,
    /// `None` is the image's size.
    pub root_size_gib: Option<u32>,
    /// What the root disk may do each second.
    pub root_limits: DiskLimits,
    /// Whether it has a display.
    pub display: bool,
    /// How its metadata are served.
    pub metadata_options: Option<MetadataOptions>,
    /// How it is kept alive, brought down, and protected.
    pub lifecycle: Lifecycle,
    /// On or off; `None` is on in a Create, and as it is in an Update.
    pub power: Option<PowerState>,
}

/// What the agent chose for an instance and the client cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// Virtual processors, from the type or as asked.
    pub vcpus: u32,
    /// Memory in MiB, from the type or as asked.
    pub memory_mib: u32,
    /// The VPC of its subnet.
    pub vpc_id: VpcId,
    /// Its network interface.
    pub interface_id: InterfaceId,
    /// The interface's MAC.
    pub mac: MacAddr,
    /// The interface's IPv6 addresses: one where its subnet has an IPv6 range.
    pub ipv6_addresses: Vec<Ipv6Addr>,
    /// Where it runs.
    pub host_id: HostId,
    /// Who logs in over SSH.
    pub default_user: String,
    /// One line each: type and base64.
    pub ssh_host_public_keys: Vec<String>,
    /// Launches that were asked for.
    pub run_epoch: u64,
    /// The root disk's real size.
    pub root_size_bytes: u64,
    /// Its address of the public pool, if it was made with one.
    pub public_ip: Option<Ipv4Addr>,
}

/// An instance as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceView {
    /// What was asked for.
    pub object: Object<InstanceId, InstanceOrder>,
    /// What the agent chose.
    pub assigned: Assigned,
    /// What is.
    pub status: InstanceStatus,
}

impl InstanceView {
    /// What clients are shown of `record`; the host key's secret half stays behind.
    pub fn new(
        record: Record<InstanceId, InstanceSpec>,
        status: InstanceStatus,
        host_id: HostId,
    ) -> Self {
        let object = Object::from(record);
        let spec = &object.spec;
        let assigned = Assigned {
            vcpus: spec.vcpus,
            memory_mib: spec.memory_mib,
            vpc_id: spec.interface.vpc_id.clone(),
            interface_id: spec.interface.id.clone(),
            mac: spec.interface.mac,
            ipv6_addresses: spec.interface.ipv6.into_iter().collect(),
            host_id,
            default_user: spec.default_user.clone(),
            ssh_host_public_keys: vec![spec.host_key.public_line.clone()],
            run_epoch: spec.run_epoch,
            root_size_bytes: spec.root_size_bytes(),
            public_ip: spec.public_ip,
        };
        Self { object: object.map(InstanceOrder::from), assigned, status }
    }
}

impl From<InstanceSpec> for InstanceOrder {
    fn from(spec: InstanceSpec) -> Self {
        let size = match spec.instance_type {
            Some(name) => Size::Type(name),
            None => Size::Custom { vcpus: spec.vcpus, memory_mib: spec.memory_mib },
        };
        Self {
            name: spec.name,
            image_id: spec.image_id,
            size,
            maxima: spec.maxima,
            subnet_id: Some(spec.interface.subnet_id),
            private_ip: Some(spec.interface.private_ip),
            associate_public_ip: Some(spec.public_ip.is_some()),
            security_group_ids: spec.interface.security_group_ids,
            source_dest_check: spec.interface.source_dest_check,
            key_names: spec.keys.into_iter().map(|key| key.key_name).collect(),
            user_data: spec.user_data,
            root_size_gib: spec.root_size_gib,
            root_limits: spec.root_limits,
            display: spec.display,
            metadata_options: spec.metadata_options,
            lifecycle: spec.lifecycle,
            power: Some(spec.power),
        }
    }
}

/// A host as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostView {
    /// Its identity.
    pub id: HostId,
    /// What does not change while the agent runs.
    pub facts: crate::HostFacts,
    /// Virtual processors that no instance has; zero when more are given than there are.
    pub free_vcpus: u32,
    /// Memory that no instance has, in MiB.
    pub free_memory_mib: u64,
    /// Of the agent on it.
    pub agent_version: String,
    /// What public addresses come from.
    pub public_pool: crate::PublicPool,
    /// Whether it has a root key for encrypted volumes; not known of agents that do not say it.
    pub encrypts_volumes: Option<bool>,
    /// The zone that it is in.
    pub availability_zone: crate::ZoneName,
    /// What new volumes can be in; empty of agents that do not say it.
    pub storage_pools: Vec<crate::PoolName>,
}
