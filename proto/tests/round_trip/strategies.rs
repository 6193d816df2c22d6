//! Every value that the model allows and the wire can carry.

#[path = "interfaces.rs"]
mod interfaces;
#[path = "networks.rs"]
mod networks;
#[path = "snapshots.rs"]
mod snapshots;
#[path = "volumes.rs"]
mod volumes;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::Ipv6Network;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use weft_model::{
    Accelerator, Architecture, Assigned, AutoRestart, BootMode, CloudInitOutcome, CloudInitReport,
    Digest, DiskFormat, ElasticIpId, Event, EventKind, GroupId, HostFacts, HostId, HostView,
    HttpEndpoint, HttpTokens, ImageContent, ImageId, ImageOrder, ImageSpec, InstanceId,
    InstanceOrder, InstanceState, InstanceStatus, InstanceType, InstanceTypeId, InstanceTypeSpec,
    InstanceView, InterfaceId, KernelContent, KeyPairId, KeyPairSpec, Lifecycle, MacAddr, Maxima,
    MetadataOptions, Name, Object, Phase, PhaseRecord, PortForwardId, PowerState, PrefixListId,
    Restarts, RouteTableId, RuleId, SHUTDOWN_SECONDS, SessionId, Signal, SignalOutcome, Size,
    SubnetId, Tags, Timestamp, UserData, VolumeId, VpcId,
};
use weft_proto::convert::{Creation, Revision};

pub(crate) use interfaces::{
    attachment_id, attachment_order, attachment_spec, interface_order, interface_view,
};
use networks::public_pool;
pub(crate) use networks::{
    association_id, association_spec, elastic_ip_order, elastic_ip_spec, group_order, group_spec,
    port_forward_spec, prefix_list_spec, route_table_association, route_table_association_id,
    route_table_spec, rule_spec, subnet_order, subnet_spec, vpc_order, vpc_spec,
};
pub(crate) use snapshots::{snapshot_id, snapshot_order, snapshot_view};

use volumes::disk_limits;
pub(crate) use volumes::{volume_attachment, volume_attachment_id, volume_order, volume_view};

const KEYS: [&str; 2] = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me@home",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ",
];

macro_rules! ids {
    ($($name:ident: $id:ident,)*) => {$(
        pub(crate) fn $name() -> impl Strategy<Value = $id> {
            any::<[u8; 9]>().prop_map($id::from_random)
        }
    )*};
}

ids! {
    instance_id: InstanceId,
    image_id: ImageId,
    key_pair_id: KeyPairId,
    instance_type_id: InstanceTypeId,
    group_id: GroupId,
    rule_id: RuleId,
    vpc_id: VpcId,
    subnet_id: SubnetId,
    prefix_list_id: PrefixListId,
    interface_id: InterfaceId,
    elastic_ip_id: ElasticIpId,
    port_forward_id: PortForwardId,
    route_table_id: RouteTableId,
    volume_id: VolumeId,
    host_id: HostId,
    session_id: SessionId,
}

/// Any word of one of the model's enumerations.
fn word<T: std::str::FromStr<Err: std::fmt::Debug> + Clone + std::fmt::Debug + 'static>(
    words: &'static [&'static str],
) -> impl Strategy<Value = T> {
    select(words).prop_map(|word| word.parse().unwrap())
}

pub(crate) fn text() -> impl Strategy<Value = String> {
    any::<String>()
}

fn printable() -> impl Strategy<Value = String> {
    "[ -~äλ日]{0,40}"
}

fn name() -> impl Strategy<Value = Name> {
    "[!-~ä日]([ -~]{0,20}[!-~])?".prop_map(|text| text.parse().unwrap())
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}

fn range() -> impl Strategy<Value = ipnetwork::Ipv4Network> {
    (any::<u32>(), 0..=32_u8).prop_map(|(bits, prefix)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        ipnetwork::Ipv4Network::new(Ipv4Addr::from(bits & mask), prefix).unwrap()
    })
}

/// The wire carries milliseconds.
fn time() -> impl Strategy<Value = Timestamp> {
    (-62_000_000_000_000..250_000_000_000_000_i64)
        .prop_map(|ms| Timestamp::from_millisecond(ms).unwrap())
}

fn tags() -> impl Strategy<Value = Tags> {
    btree_map("[ -~é]{1,20}", "[ -~é]{0,20}", 0..6).prop_map(|map| Tags::parse(map).unwrap())
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

pub(crate) fn object<I: std::fmt::Debug, S: std::fmt::Debug>(
    id: impl Strategy<Value = I>,
    spec: impl Strategy<Value = S>,
) -> impl Strategy<Value = Object<I, S>> {
    (id, any::<u64>(), spec, tags(), text(), time(), option::of(time()), any::<bool>()).prop_map(
        |(id, generation, spec, tags, client_data, created_at, deleting_since, claimed)| Object {
            id,
            generation,
            spec,
            tags,
            client_data,
            created_at,
            deleting_since,
            claimed,
        },
    )
}

/// How an image boots, with a kernel exactly where one is needed.
fn boot() -> impl Strategy<Value = (BootMode, Option<KernelContent>)> {
    let kernel = (digest(), option::of(digest()), text())
        .prop_map(|(kernel, initrd, cmdline)| KernelContent { kernel, initrd, cmdline });
    prop_oneof![
        Just((BootMode::Bios, None)),
        Just((BootMode::Uefi, None)),
        kernel.prop_map(|kernel| (BootMode::DirectKernel, Some(kernel))),
    ]
}

pub(crate) fn image_order() -> impl Strategy<Value = ImageOrder> {
    (
        name(),
        digest(),
        boot(),
        word::<Architecture>(Architecture::WORDS),
        "[a-z_][a-z0-9_-]{0,31}",
        any::<(u32, u32)>(),
        any::<(bool, bool)>(),
        option::of(any::<[u8; 9]>().prop_map(InstanceId::from_random)),
    )
        .prop_map(
            |(name, disk, (boot_mode, kernel), architecture, default_user, least, marks, of)| {
                ImageOrder {
                    name: name.to_string(),
                    disk,
                    boot_mode,
                    kernel,
                    architecture,
                    default_user,
                    min_disk_gib: least.0,
                    min_memory_mib: least.1,
                    protected: marks.0,
                    deprecated: marks.1,
                    captured_from: of,
                }
            },
        )
}

pub(crate) fn image_spec() -> impl Strategy<Value = ImageSpec> {
    let disk = (word::<DiskFormat>(DiskFormat::WORDS), any::<u64>(), option::of(digest()));
    (image_order(), disk).prop_map(|(order, (format, virtual_size_bytes, unpacked))| ImageSpec {
        name: order.name,
        content: ImageContent {
            disk: unpacked.unwrap_or(order.disk),
            format,
            virtual_size_bytes,
            boot_mode: order.boot_mode,
            kernel: order.kernel,
        },
        architecture: order.architecture,
        default_user: order.default_user,
        min_disk_gib: order.min_disk_gib,
        min_memory_mib: order.min_memory_mib,
        protected: order.protected,
        deprecated: order.deprecated,
        unpacked_from: unpacked.map(|_| order.disk),
        captured_from: order.captured_from,
    })
}

pub(crate) fn key_pair_spec() -> impl Strategy<Value = KeyPairSpec> {
    (name(), select(KEYS.as_slice()))
        .prop_map(|(key_name, key)| KeyPairSpec { key_name, public_key: key.parse().unwrap() })
}

fn range_v6() -> impl Strategy<Value = Ipv6Network> {
    (any::<u128>(), 0..=128_u8).prop_map(|(bits, prefix)| {
        let range = Ipv6Network::new(Ipv6Addr::from(bits), prefix).unwrap();
        Ipv6Network::new(range.network(), prefix).unwrap()
    })
}

fn size() -> impl Strategy<Value = Size> {
    prop_oneof![
        "w1\\.[a-z]{1,8}".prop_map(Size::Type),
        (1..=256_u32, 64..=(4_u32 << 20))
            .prop_map(|(vcpus, memory_mib)| Size::Custom { vcpus, memory_mib }),
    ]
}

fn metadata_options() -> impl Strategy<Value = MetadataOptions> {
    (
        option::of(word::<HttpEndpoint>(HttpEndpoint::WORDS)),
        option::of(word::<HttpTokens>(HttpTokens::WORDS)),
        option::of(1..=64_u8),
    )
        .prop_map(|(http_endpoint, http_tokens, http_put_response_hop_limit)| {
            MetadataOptions { http_endpoint, http_tokens, http_put_response_hop_limit }
        })
}

pub(crate) fn instance_order() -> impl Strategy<Value = InstanceOrder> {
    let groups = btree_set(group_id(), 1..=16).prop_map(BTreeSet::from);
    let public = option::of(any::<bool>());
    let placed = (option::of(subnet_id()), option::of(address()), option::of(groups), public);
    let given = (
        vec(name(), 0..4),
        option::of(vec(any::<u8>(), 0..200).prop_map(UserData)),
        (option::of(1..=(64_u32 << 10)), disk_limits(), maxima()),
        option::of(word::<PowerState>(PowerState::WORDS)),
        option::of(metadata_options()),
        (any::<bool>(), any::<bool>()),
        lifecycle(),
    );
    (option::of(name()), image_id(), size(), placed, given).prop_map(
        |(name, image_id, size, placed, given)| {
            let (subnet_id, private_ip, security_group_ids, associate_public_ip) = placed;
            let (
                key_names,
                user_data,
                (root_size_gib, root_limits, maxima),
                power,
                metadata_options,
                (source_dest_check, display),
                lifecycle,
            ) = given;
            InstanceOrder {
                name,
                image_id,
                size,
                maxima,
                subnet_id,
                private_ip,
                associate_public_ip,
                security_group_ids,
                source_dest_check,
                key_names,
                user_data,
                root_size_gib,
                root_limits,
                display,
                metadata_options,
                lifecycle,
                power,
            }
        },
    )
}

fn maxima() -> impl Strategy<Value = Maxima> {
    (option::of(any::<u32>()), option::of(any::<u32>()))
        .prop_map(|(vcpus, memory_mib)| Maxima { vcpus, memory_mib })
}

fn lifecycle() -> impl Strategy<Value = Lifecycle> {
    let words = word::<AutoRestart>(AutoRestart::WORDS);
    (any::<bool>(), words, option::of(SHUTDOWN_SECONDS)).prop_map(
        |(termination_protection, auto_restart, shutdown_timeout_seconds)| Lifecycle {
            termination_protection,
            auto_restart,
            shutdown_timeout_seconds,
        },
    )
}

fn restarts() -> impl Strategy<Value = Restarts> {
    (any::<u32>(), any::<u64>(), option::of(time()))
        .prop_map(|(in_a_row, epoch, due_at)| Restarts { in_a_row, epoch, due_at })
}

pub(crate) fn instance_type_spec() -> impl Strategy<Value = InstanceTypeSpec> {
    let name = "[a-v][a-z0-9]{0,20}\\.[a-z0-9]{1,20}";
    (name, 1..=256_u32, 64..=(4_u32 << 20), proptest::option::of(1..=100_000_u32)).prop_map(
        |(name, vcpus, memory_mib, network_mbps)| InstanceTypeSpec {
            name: name.parse().unwrap(),
            vcpus,
            memory_mib,
            network_mbps,
        },
    )
}

pub(crate) fn instance_type() -> impl Strategy<Value = InstanceType> {
    let built_in: Vec<_> = weft_model::built_in_types().collect();
    prop_oneof![
        select(built_in).prop_map(InstanceType::BuiltIn),
        object(instance_type_id(), instance_type_spec()).prop_map(InstanceType::Own),
    ]
}

fn assigned() -> impl Strategy<Value = Assigned> {
    let mac = any::<[u8; 5]>().prop_map(MacAddr::from_random);
    (
        any::<(u32, u32, u64, u64)>(),
        (
            vpc_id(),
            interface_id(),
            mac,
            vec(any::<Ipv6Addr>(), 0..2),
            host_id(),
            option::of(address()),
        ),
        text(),
        vec(text(), 0..3),
    )
        .prop_map(
            |(
                numbers,
                (vpc_id, interface_id, mac, ipv6_addresses, host_id, public_ip),
                default_user,
                keys,
            )| {
                let (vcpus, memory_mib, run_epoch, root_size_bytes) = numbers;
                Assigned {
                    vcpus,
                    memory_mib,
                    vpc_id,
                    interface_id,
                    mac,
                    ipv6_addresses,
                    host_id,
                    default_user,
                    ssh_host_public_keys: keys,
                    run_epoch,
                    root_size_bytes,
                    public_ip,
                }
            },
        )
}

pub(crate) fn status() -> impl Strategy<Value = InstanceStatus> {
    let phase =
        (word::<Phase>(Phase::WORDS), time()).prop_map(|(phase, at)| PhaseRecord { phase, at });
    (
        word::<InstanceState>(InstanceState::WORDS),
        option::of(text()),
        any::<(u64, u64)>(),
        vec(phase, 0..9),
        option::of(time()),
        (option::of(cloud_init()), option::of(signal()), restarts(), any::<bool>()),
    )
        .prop_map(|(state, reason, (epoch, ended_epoch), phases, launched_at, said)| {
            let (cloud_init, signal, restarts, live_keys) = said;
            InstanceStatus {
                state,
                reason,
                epoch,
                ended_epoch,
                phases,
                launched_at,
                cloud_init,
                live_keys,
                signal,
                restarts,
            }
        })
}

fn cloud_init() -> impl Strategy<Value = CloudInitReport> {
    let outcome = word::<CloudInitOutcome>(CloudInitOutcome::WORDS);
    (outcome, vec(text(), 0..3), text(), time()).prop_map(|(outcome, errors, detail, at)| {
        CloudInitReport::new(outcome, errors, &detail, at)
    })
}

fn signal() -> impl Strategy<Value = Signal> {
    let outcome = word::<SignalOutcome>(SignalOutcome::WORDS);
    (outcome, text(), time()).prop_map(|(outcome, reason, at)| Signal::new(outcome, &reason, at))
}

pub(crate) fn instance_view() -> impl Strategy<Value = InstanceView> {
    (object(instance_id(), instance_order()), assigned(), status())
        .prop_map(|(object, assigned, status)| InstanceView { object, assigned, status })
}

pub(crate) fn host_view() -> impl Strategy<Value = HostView> {
    let facts =
        (text(), word::<Accelerator>(Accelerator::WORDS), text(), any::<(u32, u64)>(), text())
            .prop_map(|(name, accelerator, accelerator_note, (vcpus, memory_mib), version)| {
                HostFacts {
                    name,
                    accelerator,
                    accelerator_note,
                    vcpus,
                    memory_mib,
                    hypervisor_version: version,
                    architecture: weft_model::Architecture::X86_64,
                }
            });
    let encrypts = option::of(any::<bool>());
    (host_id(), facts, any::<(u32, u64)>(), text(), public_pool(), encrypts).prop_map(
        |(id, facts, (free_vcpus, free_memory_mib), agent_version, public_pool, encrypts)| {
            HostView {
                id,
                facts,
                free_vcpus,
                free_memory_mib,
                agent_version,
                public_pool,
                encrypts_volumes: encrypts,
                availability_zone: "rack-2".parse().unwrap(),
                storage_pools: vec!["standard".parse().unwrap(), "ssd".parse().unwrap()],
            }
        },
    )
}

pub(crate) fn creation() -> impl Strategy<Value = Creation> {
    ("[ -~]{1,128}", option::of(session_id()), tags(), text()).prop_map(
        |(client_token, session, tags, client_data)| Creation {
            client_token,
            session,
            tags,
            client_data,
        },
    )
}

pub(crate) fn revision() -> impl Strategy<Value = Revision<InstanceId>> {
    (instance_id(), option::of(1..u64::MAX), tags(), text()).prop_map(
        |(id, expected_generation, tags, client_data)| Revision {
            id,
            expected_generation,
            tags,
            client_data,
        },
    )
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    (any::<u64>(), time(), word::<EventKind>(EventKind::WORDS), text(), text()).prop_map(
        |(number, at, kind, subject, message)| Event { number, at, kind, subject, message },
    )
}
