//! Objects for unit tests.

mod simulation;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use weft_model::{
    BootMode, Claim, Digest, DiskFormat, GroupId, GroupSpec, ImageContent, ImageId, InstanceId,
    InstanceSpec, Interface, InterfaceId, LayerId, MacAddr, PowerState, Record, SnapshotSource,
    SnapshotSpec, SnapshotState, SshHostKey, SubnetId, SubnetSpec, Tags, Taking, Timestamp, VpcId,
    VpcMode, VpcSpec,
};
use weft_store::{SqliteOptions, SqliteStore};

use crate::repo::Repo;
pub(crate) use simulation::Simulation;

pub(crate) fn record<I, S>(id: I, spec: S) -> Record<I, S> {
    Record {
        id,
        generation: 1,
        spec,
        tags: Tags::default(),
        client_data: String::new(),
        created_at: Timestamp::UNIX_EPOCH,
        deleting_since: None,
        claim: Claim::Claimed,
    }
}

/// An empty store in a directory.
pub(crate) fn repo(dir: &Path) -> Repo {
    let store = SqliteStore::open(&dir.join("db"), SqliteOptions::default()).unwrap();
    Repo::new(Arc::new(store))
}

/// A snapshot of one byte, taken as the disk is.
pub(crate) fn snapshot(
    source: SnapshotSource,
    layer: LayerId,
    state: SnapshotState,
) -> SnapshotSpec {
    SnapshotSpec {
        source,
        description: String::new(),
        layer,
        size_bytes: 1,
        base: None,
        boots: None,
        taking: Taking::AsItIs,
        for_image: None,
        secret: None,
        state,
    }
}

pub(crate) fn vpc_id(n: u8) -> VpcId {
    VpcId::from_random([n; 9])
}

pub(crate) fn group_id(n: u8) -> GroupId {
    GroupId::from_random([n; 9])
}

/// VPC `n` with the range `10.n.0.0/16` and the default group `n`.
pub(crate) fn vpc(n: u8) -> Record<VpcId, VpcSpec> {
    let spec = VpcSpec {
        name: format!("vpc {n}"),
        cidr_block: format!("10.{n}.0.0/16").parse().unwrap(),
        ipv6_cidr_block: None,
        mode: VpcMode::Routed,
        bridge_name: None,
        uplink: None,
        vlan_id: None,
        default_group_id: group_id(n),
        is_default: n == 0,
        uplink_index: n.into(),
    };
    record(vpc_id(n), spec)
}

/// The one subnet of VPC `n`.
pub(crate) fn subnet(n: u8) -> Record<SubnetId, SubnetSpec> {
    let spec = SubnetSpec {
        name: format!("subnet {n}"),
        vpc_id: vpc_id(n),
        cidr_block: format!("10.{n}.0.0/18").parse().unwrap(),
        ipv6_cidr_block: None,
        gateway: Ipv4Addr::new(10, n, 0, 1),
        dns_servers: Vec::new(),
        map_public_ip: false,
        is_default: n == 0,
    };
    record(SubnetId::from_random([n; 9]), spec)
}

/// Group `n` of VPC `vpc`.
pub(crate) fn group(n: u8, vpc: u8) -> Record<GroupId, GroupSpec> {
    let spec = GroupSpec {
        name: format!("group {n}"),
        description: String::new(),
        vpc_id: vpc_id(vpc),
        allow_all_egress: true,
        revoke_now: false,
        is_default: n == vpc,
    };
    record(group_id(n), spec)
}

/// Instance `n` of VPC `vpc`, in `groups`, with the address `10.VPC.0.N`.
pub(crate) fn instance(n: u8, vpc: u8, groups: Option<&[u8]>) -> Record<InstanceId, InstanceSpec> {
    let spec = InstanceSpec {
        name: None,
        image_id: ImageId::from_random([1; 9]),
        image: ImageContent {
            disk: Digest::from_bytes([1; 32]),
            format: DiskFormat::Raw,
            virtual_size_bytes: 1 << 20,
            boot_mode: BootMode::Bios,
            kernel: None,
        },
        default_user: "weft".to_owned(),
        instance_type: None,
        vcpus: 1,
        memory_mib: 128,
        maxima: Default::default(),
        network_mbps: None,
        interface: Interface {
            id: InterfaceId::from_random([n, vpc, 0, 0, 0, 0, 0, 0, 0]),
            vpc_id: vpc_id(vpc),
            subnet_id: SubnetId::from_random([vpc; 9]),
            private_ip: Ipv4Addr::new(10, vpc, 0, n),
            ipv6: None,
            mac: MacAddr::from_random([0, 0, 0, vpc, n]),
            link: format!("weft{n}").parse().unwrap(),
            security_group_ids: groups.map(|ids| ids.iter().map(|n| group_id(*n)).collect()),
            source_dest_check: true,
            network_mbps: None,
        },
        keys: Vec::new(),
        user_data: None,
        root_size_gib: None,
        root_limits: Default::default(),
        display: false,
        metadata_options: None,
        lifecycle: Default::default(),
        stop_seconds: None,
        hibernate: false,
        power: PowerState::Running,
        run_epoch: 1,
        host_key: SshHostKey { private_pem: "secret".into(), public_line: "ssh-ed25519 A".into() },
        uid: 1_900_000_000 + u32::from(n),
        public_ip: None,
        root_layers: Vec::new(),
    };
    record(InstanceId::from_random([n; 9]), spec)
}
