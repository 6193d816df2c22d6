//! Each bad field is refused at its own name, with what to do where that is not obvious.

use std::fmt::Debug;

use weft_model::Problem;
use weft_proto::convert as c;
use weft_proto::v1;
use weft_proto::v1::security_group_rule_spec::Peer;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me@home";

fn id(prefix: &str) -> String {
    format!("{prefix}-00000000000000000")
}

fn digest() -> String {
    "ab".repeat(32)
}

/// A change that spoils a good message.
type Spoil<M> = fn(&mut M);

/// Spoils `good` by each case in turn: the problem has to be at the case's field and its message to
/// contain the case's words.
fn refused<M: Clone, T: Debug>(
    good: &M,
    from_wire: impl Fn(M) -> Result<T, Problem>,
    cases: &[(Spoil<M>, &str, &str)],
) {
    assert!(from_wire(good.clone()).is_ok(), "{:?}", from_wire(good.clone()));
    for (spoil, field, words) in cases {
        let mut bad = good.clone();
        spoil(&mut bad);
        match from_wire(bad) {
            Ok(value) => panic!("accepted ({field}, {words}): {value:?}"),
            Err(problem) => {
                assert_eq!(problem.field.as_deref(), Some(*field), "{words}: {problem:?}");
                assert!(problem.message.contains(words), "{field}, {words}: {problem:?}");
            }
        }
    }
}

fn metadata(prefix: &str) -> Option<v1::Metadata> {
    Some(v1::Metadata { id: id(prefix), generation: 1, ..Default::default() })
}

fn instance_spec() -> v1::InstanceSpec {
    v1::InstanceSpec {
        image_id: id("img"),
        instance_type: Some("w1.small".to_owned()),
        ..Default::default()
    }
}

#[test]
fn instance_orders() {
    fn numbers(spec: &mut v1::InstanceSpec, vcpus: Option<u32>, memory_mib: Option<u32>) {
        (spec.instance_type, spec.vcpus, spec.memory_mib) = (None, vcpus, memory_mib);
    }
    fn groups(spec: &mut v1::InstanceSpec, ids: Vec<String>) {
        spec.security_group_ids = Some(v1::SecurityGroupIds { ids });
    }
    fn options(spec: &mut v1::InstanceSpec) -> &mut v1::MetadataOptions {
        spec.metadata_options.get_or_insert_default()
    }
    #[rustfmt::skip]
    let cases: &[(Spoil<v1::InstanceSpec>, &str, &str)] = &[
        (|s| s.name = Some(String::new()),              "name",               "cannot be a name"),
        (|s| s.name = Some("a\nb".into()),              "name",               "cannot be a name"),
        (|s| s.name = Some(" a".into()),                "name",               "cannot be a name"),
        (|s| s.image_id = id("sg"),                     "image_id",           "a security group"),
        (|s| s.image_id = String::new(),                "image_id",           "17 hexadecimal"),
        (|s| s.subnet_id = Some(id("vpc")),             "subnet_id",          "id of a VPC"),
        (|s| s.private_ip = Some("10.0.0".into()),      "private_ip",         "IPv4"),
        (|s| s.private_ip = Some("10.0.0.256".into()),  "private_ip",         "IPv4"),
        (|s| s.private_ip = Some("::1".into()),         "private_ip",         "IPv4"),
        (|s| s.private_ip = Some("10.0.0.4/24".into()), "private_ip",         "IPv4"),
        (|s| groups(s, vec![]),                         "security_group_ids", "empty"),
        (|s| groups(s, vec![id("sgr")]),                "security_group_ids", "rule"),
        (|s| groups(s, (0..17).map(|n| format!("sg-{n:017x}")).collect()),
                                                        "security_group_ids", "at most 16 security groups, and these are 17: sg-"),
        (|s| s.key_names = vec!["ok".into(), "".into()], "key_names",         "cannot be a name"),
        (|s| s.user_data = Some(vec![0; (64 << 10) + 1]), "user_data",        "65537 bytes"),
        (|s| s.root_volume_size_gib = Some(0),          "root_volume.size_gib", "0 GiB"),
        (|s| s.root_volume_size_gib = Some((64 << 10) + 1), "root_volume.size_gib", "65537 GiB"),
        (|s| s.root_volume_iops = Some(99),             "root_volume.iops", "99 operations"),
        (|s| s.root_volume_throughput_mibps = Some(0),  "root_volume.throughput_mibps", "0 MiB/s"),
        (|s| s.power_state = Some("on".into()),         "power_state",        "\"on\""),
        (|s| s.power_state = Some(String::new()),       "power_state",        "\"\""),
        (|s| options(s).http_endpoint = Some("on".into()), "metadata_options.http_endpoint", "\"on\""),
        (|s| options(s).http_tokens = Some(String::new()), "metadata_options.http_tokens", "\"\""),
        (|s| options(s).http_put_response_hop_limit = Some(0),
                                              "metadata_options.http_put_response_hop_limit", "0 is"),
        (|s| options(s).http_put_response_hop_limit = Some(65),
                                              "metadata_options.http_put_response_hop_limit", "65 is"),
        (|s| s.auto_restart = Some("yes".into()),       "auto_restart",       "\"yes\""),
        (|s| s.shutdown_timeout_seconds = Some(3601),   "shutdown_timeout_seconds", "3601 s"),
        (|s| numbers(s, None, None),                    "instance_type",      "no size"),
        (|s| numbers(s, Some(1), None),                 "instance_type",      "no size"),
        (|s| numbers(s, None, Some(512)),               "instance_type",      "no size"),
        (|s| s.vcpus = Some(1),                         "instance_type",      "twice"),
        (|s| s.memory_mib = Some(512),                  "instance_type",      "twice"),
        (|s| numbers(s, Some(0), Some(512)),            "vcpus",              "0 vCPUs"),
        (|s| numbers(s, Some(257), Some(512)),          "vcpus",              "257 vCPUs"),
        (|s| numbers(s, Some(1), Some(63)),             "memory_mib",         "63 MiB"),
        (|s| numbers(s, Some(1), Some(u32::MAX)),       "memory_mib",         "MiB of memory"),
    ];
    refused(&instance_spec(), |spec| c::instance_order_from_wire(Some(spec)), cases);
}

#[test]
fn limits_of_an_instance_order_are_still_accepted() {
    let spec = v1::InstanceSpec {
        user_data: Some(vec![0; 64 << 10]),
        root_volume_size_gib: Some(64 << 10),
        root_volume_iops: Some(256_000),
        root_volume_throughput_mibps: Some(10_000),
        security_group_ids: Some(v1::SecurityGroupIds {
            ids: (0..16).map(|n| format!("sg-{n:017x}")).collect(),
        }),
        instance_type: None,
        vcpus: Some(256),
        memory_mib: Some(4 << 20),
        ..instance_spec()
    };
    c::instance_order_from_wire(Some(spec)).unwrap();
}

#[test]
fn instances() {
    fn assigned(wire: &mut v1::Instance) -> &mut v1::InstanceAssigned {
        wire.assigned.as_mut().unwrap()
    }
    fn status(wire: &mut v1::Instance) -> &mut v1::InstanceStatus {
        wire.status.as_mut().unwrap()
    }
    let good = v1::Instance {
        metadata: metadata("i"),
        spec: Some(instance_spec()),
        assigned: Some(v1::InstanceAssigned {
            vpc_id: id("vpc"),
            interface_id: id("eni"),
            mac_address: "02:00:00:00:00:01".to_owned(),
            host_id: id("host"),
            ..Default::default()
        }),
        status: Some(v1::InstanceStatus { state: "running".to_owned(), ..Default::default() }),
    };
    #[rustfmt::skip]
    let cases: &[(Spoil<v1::Instance>, &str, &str)] = &[
        (|w| w.metadata = None,                          "metadata",              "missing"),
        (|w| w.spec = None,                              "spec",                  "missing"),
        (|w| w.assigned = None,                          "assigned",              "missing"),
        (|w| w.status = None,                            "status",                "missing"),
        (|w| w.metadata = metadata("img"),               "metadata.id",           "an image"),
        (|w| w.metadata.as_mut().unwrap().created_at_unix_ms = i64::MAX,
                                             "metadata.created_at_unix_ms",       "not a moment"),
        (|w| w.metadata.as_mut().unwrap().deleting_since_unix_ms = Some(i64::MIN),
                                             "metadata.deleting_since_unix_ms",   "not a moment"),
        (|w| assigned(w).vpc_id = String::new(),         "assigned.vpc_id",       "a VPC"),
        (|w| assigned(w).interface_id = id("i"),         "assigned.interface_id", "an instance"),
        (|w| assigned(w).mac_address = "ff:ff:ff:ff:ff:ff".into(),
                                                         "assigned.mac_address",  "unicast"),
        (|w| assigned(w).host_id = id("vpc"),            "assigned.host_id",      "a VPC"),
        (|w| status(w).state = "asleep".into(),          "status.state",          "\"asleep\""),
        (|w| status(w).phases = vec![v1::PhaseRecord { phase: "lunch".into(), at_unix_ms: 0 }],
                                                         "status.phases",         "\"lunch\""),
        (|w| status(w).launched_at_unix_ms = Some(i64::MAX),
                                             "status.launched_at_unix_ms",        "not a moment"),
    ];
    refused(&good, c::instance_from_wire, cases);
}

fn image_spec() -> v1::ImageSpec {
    v1::ImageSpec {
        name: "debian-13".to_owned(),
        disk_sha256: digest(),
        boot_mode: "direct_kernel".to_owned(),
        kernel: Some(v1::Kernel { kernel_sha256: digest(), ..Default::default() }),
        architecture: "x86_64".to_owned(),
        default_user: "debian".to_owned(),
        ..Default::default()
    }
}

#[test]
fn images() {
    fn kernel(spec: &mut v1::ImageSpec) -> &mut v1::Kernel {
        spec.kernel.as_mut().unwrap()
    }
    #[rustfmt::skip]
    let cases: &[(Spoil<v1::ImageSpec>, &str, &str)] = &[
        (|s| s.name.clear(),                             "name",                  "cannot be a name"),
        (|s| s.disk_sha256 = "ab".repeat(31),            "disk_sha256",           "64 hexadecimal"),
        (|s| s.disk_sha256 = "zz".repeat(32),            "disk_sha256",           "64 hexadecimal"),
        (|s| s.boot_mode = "efi".into(),                 "boot_mode",             "\"efi\""),
        (|s| s.kernel = None,                            "kernel",                "needs a kernel"),
        (|s| s.boot_mode = "bios".into(),                "kernel",                "not used"),
        (|s| kernel(s).kernel_sha256.clear(),            "kernel.kernel_sha256",  "64 hexadecimal"),
        (|s| kernel(s).initrd_sha256 = Some("x".into()), "kernel.initrd_sha256",  "64 hexadecimal"),
        (|s| s.architecture = "sparc".into(),            "architecture",          "\"sparc\""),
        (|s| s.default_user.clear(),                     "default_user",          "not a Linux user"),
        (|s| s.default_user = "Admin".into(),            "default_user",          "\"Admin\""),
        (|s| s.default_user = "-x".into(),               "default_user",          "\"-x\""),
        (|s| s.default_user = "a".repeat(33),            "default_user",          "not a Linux user"),
    ];
    refused(&image_spec(), |spec| c::image_order_from_wire(Some(spec)), cases);
    let good = v1::Image {
        metadata: metadata("img"),
        spec: Some(image_spec()),
        format: "raw".to_owned(),
        virtual_size_bytes: 1,
        unpacked_sha256: None,
    };
    refused(
        &good,
        c::image_from_wire,
        &[
            (|w| w.format = "vmdk".into(), "format", "\"vmdk\""),
            (|w| w.metadata = metadata("i"), "metadata.id", "an instance"),
        ],
    );
}

#[test]
fn key_pairs() {
    let good = v1::KeyPairSpec { key_name: "me".to_owned(), public_key: KEY.to_owned() };
    #[rustfmt::skip]
    let cases: &[(Spoil<v1::KeyPairSpec>, &str, &str)] = &[
        (|s| s.key_name.clear(),                       "key_name",   "cannot be a name"),
        (|s| s.public_key.clear(),                     "public_key", "empty"),
        (|s| s.public_key = "ssh-ed25519 x".into(),    "public_key", "not an OpenSSH"),
        (|s| s.public_key = format!("{KEY}\n{KEY}"),   "public_key", "2 lines"),
        (|s| s.public_key = "-----BEGIN OPENSSH PRIVATE KEY-----".into(),
                                                       "public_key", "private key"),
    ];
    refused(&good, |spec| c::key_pair_spec_from_wire(Some(spec)), cases);
}

#[test]
fn instance_types() {
    let good = v1::InstanceTypeSpec {
        name: "c1.large".to_owned(),
        vcpus: 2,
        memory_mib: 2048,
        network_mbps: Some(100),
    };
    #[rustfmt::skip]
    let cases: &[(Spoil<v1::InstanceTypeSpec>, &str, &str)] = &[
        (|s| s.name.clear(),                    "name",       "cannot be the name"),
        (|s| s.name = "Large".into(),           "name",       "cannot be the name"),
        (|s| s.name = "w1.small".into(),        "name",       "belongs to Weft"),
        (|s| s.name = "w1.16xlarge".into(),     "name",       "belongs to Weft"),
        (|s| s.vcpus = 0,                       "vcpus",      "0 vCPUs"),
        (|s| s.vcpus = 257,                     "vcpus",      "257 vCPUs"),
        (|s| s.memory_mib = 63,                 "memory_mib", "63 MiB"),
        (|s| s.memory_mib = (4 << 20) + 1,      "memory_mib", "4194305 MiB"),
        (|s| s.network_mbps = Some(0),          "network_mbps", "0 Mbit/s"),
        (|s| s.network_mbps = Some(100_001),    "network_mbps", "100001 Mbit/s"),
    ];
    refused(&good, |spec| c::instance_type_spec_from_wire(Some(spec)), cases);
    let wire = v1::InstanceType { metadata: metadata("type"), spec: Some(good) };
    #[rustfmt::skip]
    let cases: &[(Spoil<v1::InstanceType>, &str, &str)] = &[
        (|w| w.spec = None,                     "spec",        "missing"),
        (|w| w.metadata = metadata("key"),      "metadata.id", "a key pair"),
    ];
    refused(&wire, c::instance_type_from_wire, cases);
}

#[test]
fn groups() {
    let good = v1::SecurityGroupSpec { name: "web".to_owned(), ..Default::default() };
    #[rustfmt::skip]
    let cases: &[(Spoil<v1::SecurityGroupSpec>, &str, &str)] = &[
        (|s| s.name = "\t".into(),                  "name",        "cannot be a name"),
        (|s| s.description = "ä".repeat(256),       "description", "long"),
        (|s| s.description = "a\nb".into(),         "description", "control characters"),
        (|s| s.vpc_id = Some(id("subnet")),         "vpc_id",      "a subnet"),
    ];
    refused(&good, |spec| c::group_order_from_wire(Some(spec)), cases);
    let answer = v1::SecurityGroup {
        metadata: metadata("sg"),
        spec: Some(v1::SecurityGroupSpec { vpc_id: Some(id("vpc")), ..good }),
        is_default: false,
    };
    refused(
        &answer,
        c::group_from_wire,
        &[
            (|w| w.spec.as_mut().unwrap().vpc_id = None, "vpc_id", "missing"),
            (|w| w.metadata = metadata("sgr"), "metadata.id", "rule"),
        ],
    );
}

#[test]
fn rules() {
    fn cidr(spec: &mut v1::SecurityGroupRuleSpec, text: &str) {
        spec.peer = Some(Peer::CidrIpv4(text.to_owned()));
    }
    fn cidr_v6(spec: &mut v1::SecurityGroupRuleSpec, text: &str) {
        spec.peer = Some(Peer::CidrIpv6(text.to_owned()));
    }
    fn icmp_to(spec: &mut v1::SecurityGroupRuleSpec, protocol: &str, peer: Peer) {
        (spec.ip_protocol, spec.peer) = (protocol.to_owned(), Some(peer));
        (spec.from_port, spec.to_port) = (None, None);
    }
    fn ports(spec: &mut v1::SecurityGroupRuleSpec, from: Option<i64>, to: Option<i64>) {
        (spec.from_port, spec.to_port) = (from, to);
    }
    fn protocol(spec: &mut v1::SecurityGroupRuleSpec, text: &str) {
        spec.ip_protocol = text.to_owned();
    }
    let good = v1::SecurityGroupRuleSpec {
        security_group_id: id("sg"),
        direction: v1::RuleDirection::Ingress.into(),
        ip_protocol: "tcp".to_owned(),
        from_port: Some(22),
        to_port: Some(22),
        peer: Some(Peer::CidrIpv4("0.0.0.0/0".to_owned())),
        description: String::new(),
    };
    #[rustfmt::skip]
    let cases: &[(Spoil<v1::SecurityGroupRuleSpec>, &str, &str)] = &[
        (|s| s.security_group_id = id("sgr"),    "security_group_id", "rule"),
        (|s| s.direction = 0,                    "direction",         "missing"),
        (|s| s.direction = 99,                   "direction",         "missing"),
        (|s| protocol(s, "http"),                "ip_protocol",       "\"http\""),
        (|s| protocol(s, "6"),                   "ip_protocol",       "has a name"),
        (|s| protocol(s, "256"),                 "ip_protocol",       "\"256\""),
        (|s| ports(s, None, None),               "from_port",         "needs ports"),
        (|s| ports(s, Some(22), None),           "to_port",           "is not"),
        (|s| ports(s, None, Some(22)),           "from_port",         "is not"),
        (|s| ports(s, Some(-1), Some(22)),       "from_port",         "-1 is not a port"),
        (|s| ports(s, Some(22), Some(65536)),    "to_port",           "65536 is not a port"),
        (|s| ports(s, Some(23), Some(22)),       "from_port",         "above"),
        (|s| protocol(s, "-1"),                  "from_port",         "every protocol"),
        (|s| protocol(s, "47"),                  "from_port",         "no ports"),
        (|s| { protocol(s, "icmp"); ports(s, Some(256), Some(-1)) }, "from_port", "ICMP type"),
        (|s| { protocol(s, "icmp"); ports(s, Some(3), Some(256)) },  "to_port",   "ICMP code"),
        (|s| { protocol(s, "icmp"); ports(s, Some(-1), Some(4)) },   "to_port",   "without a type"),
        (|s| s.peer = None,                      "cidr_ipv4",         "missing"),
        (|s| cidr(s, "10.0.0.1"),                "cidr_ipv4",         "no prefix length"),
        (|s| cidr(s, "10.0.0.1/8"),              "cidr_ipv4",         "bits set behind"),
        (|s| cidr(s, "10.0.0.0/33"),             "cidr_ipv4",         "not an IPv4 range"),
        (|s| cidr_v6(s, "10.0.0.0/8"),           "cidr_ipv6",         "not an IPv6 range"),
        (|s| cidr_v6(s, "2001:db8::1/32"),       "cidr_ipv6",         "bits set behind"),
        (|s| cidr_v6(s, "2001:db8::1"),          "cidr_ipv6",         "not an IPv6 range"),
        (|s| icmp_to(s, "icmp", Peer::CidrIpv6("::/0".into())), "cidr_ipv6", "matches no packet"),
        (|s| icmp_to(s, "icmpv6", Peer::CidrIpv4("0.0.0.0/0".into())), "cidr_ipv4", "matches no packet"),
        (|s| cidr(s, "::/0"),                    "cidr_ipv4",         "not an IPv4 range"),
        (|s| s.peer = Some(Peer::ReferencedSecurityGroupId(id("i"))),
                                       "referenced_security_group_id", "an instance"),
        (|s| s.description = "x".repeat(256),    "description",       "long"),
    ];
    refused(&good, |spec| c::rule_spec_from_wire(Some(spec)), cases);
}

#[test]
fn vpcs_and_subnets() {
    let spec = v1::VpcSpec {
        name: "lab".to_owned(),
        cidr_block: "10.0.0.0/16".to_owned(),
        ..Default::default()
    };
    #[rustfmt::skip]
    let cases: &[(Spoil<v1::VpcSpec>, &str, &str)] = &[
        (|s| s.name.clear(),                       "name",        "name"),
        (|s| s.cidr_block.clear(),                 "cidr_block",  "no prefix length"),
        (|s| s.cidr_block = "10.0.0.1/16".into(),  "cidr_block",  "bits set behind"),
        (|s| s.ipv6_cidr_block = Some("10.0.0.0/8".into()), "ipv6_cidr_block", "not an IPv6 range"),
        (|s| s.mode = "switched".into(),           "mode",        "not one of its words"),
        (|s| s.bridge_name = Some("a b".into()),   "bridge_name", "not an interface name"),
        (|s| s.uplink = Some("a b".into()),        "uplink",      "not an interface name"),
        (|s| s.vlan_id = Some(70_000),             "vlan_id",     "not the number of a VLAN"),
    ];
    refused(&spec, |spec| c::vpc_order_from_wire(Some(spec)), cases);
    let vpc = v1::Vpc {
        metadata: metadata("vpc"),
        spec: Some(spec),
        default_security_group_id: id("sg"),
        ..Default::default()
    };
    #[rustfmt::skip]
    let cases: &[(Spoil<v1::Vpc>, &str, &str)] = &[
        (|w| w.spec = None,                        "spec",                      "missing"),
        (|w| w.default_security_group_id.clear(),  "default_security_group_id", "17 hexadecimal"),
        (|w| w.metadata = metadata("subnet"),      "metadata.id",               "a subnet"),
    ];
    refused(&vpc, c::vpc_from_wire, cases);
    let spec = v1::SubnetSpec {
        name: "lab".to_owned(),
        vpc_id: id("vpc"),
        cidr_block: "10.0.0.0/24".to_owned(),
        gateway_ip: Some("10.0.0.1".to_owned()),
        ..Default::default()
    };
    #[rustfmt::skip]
    let cases: &[(Spoil<v1::SubnetSpec>, &str, &str)] = &[
        (|s| s.vpc_id.clear(),                     "vpc_id",      "17 hexadecimal"),
        (|s| s.cidr_block = "10.0.0.0".into(),     "cidr_block",  "no prefix length"),
        (|s| s.gateway_ip = Some("here".into()),   "gateway_ip",  "IPv4"),
        (|s| s.ipv6_cidr_block = Some("fd00::1/64".into()), "ipv6_cidr_block", "bits set behind"),
        (|s| s.dns_servers = vec!["::1".into()],   "dns_servers", "IPv4"),
    ];
    refused(&spec, |spec| c::subnet_order_from_wire(Some(spec)), cases);
    let subnet = v1::Subnet { metadata: metadata("subnet"), spec: Some(spec), is_default: false };
    #[rustfmt::skip]
    let cases: &[(Spoil<v1::Subnet>, &str, &str)] = &[
        (|w| w.spec.as_mut().unwrap().gateway_ip = None, "gateway_ip",  "missing"),
        (|w| w.metadata = metadata("vpc"),               "metadata.id", "a VPC"),
    ];
    refused(&subnet, c::subnet_from_wire, cases);
}

#[test]
fn hosts() {
    let good = v1::Host { id: id("host"), accelerator: "kvm".to_owned(), ..Default::default() };
    #[rustfmt::skip]
    let cases: &[(Spoil<v1::Host>, &str, &str)] = &[
        (|w| w.id = id("i"),                  "id",          "an instance"),
        (|w| w.accelerator = "xen".into(),    "accelerator", "\"xen\""),
    ];
    refused(&good, c::host_from_wire, cases);
}

#[test]
fn creations() {
    let good = v1::CreateContext { client_token: "t".to_owned(), ..Default::default() };
    #[rustfmt::skip]
    let cases: &[(Spoil<v1::CreateContext>, &str, &str)] = &[
        (|w| w.client_token.clear(),                  "context.client_token", "1 to 128"),
        (|w| w.client_token = "x".repeat(129),        "context.client_token", "1 to 128"),
        (|w| w.session_id = id("i"),                  "context.session_id",   "an instance"),
        (|w| w.client_data = "x".repeat((64 << 10) + 1), "client_data",       "65537 bytes"),
        (|w| w.tags = [(String::new(), String::new())].into(), "tags",        "empty"),
        (|w| w.tags = [("k".repeat(129), String::new())].into(), "tags",      "long"),
        (|w| w.tags = [("k".into(), "v".repeat(257))].into(), "tags",         "tag \"k\""),
        (|w| w.tags = (0..51).map(|n| (n.to_string(), String::new())).collect(), "tags", "51 tags"),
    ];
    refused(&good, |context| c::creation_from_wire(Some(context)), cases);
    assert_eq!(c::creation_from_wire(None).unwrap_err().field.as_deref(), Some("context"));
}

#[test]
fn revisions() {
    let good = v1::UpdateContext { id: id("i"), ..Default::default() };
    #[rustfmt::skip]
    let cases: &[(Spoil<v1::UpdateContext>, &str, &str)] = &[
        (|w| w.id = id("img"),                           "id",          "an image"),
        (|w| w.client_data = "x".repeat((64 << 10) + 1), "client_data", "65537 bytes"),
        (|w| w.tags = [(String::new(), String::new())].into(), "tags",  "empty"),
    ];
    let from_wire = |context| c::revision_from_wire::<weft_model::InstanceId>(Some(context));
    refused(&good, from_wire, cases);
}

#[test]
fn volumes_and_snapshots() {
    let good = v1::VolumeSpec { size_gib: 1, ..Default::default() };
    #[rustfmt::skip]
    let cases: &[(Spoil<v1::VolumeSpec>, &str, &str)] = &[
        (|s| s.iops = Some(0),                 "iops",        "0 operations per second"),
        (|s| s.throughput_mibps = Some(10_001), "throughput_mibps", "10001 MiB/s"),
        (|s| s.snapshot_id = Some(id("img")),  "snapshot_id", "an image"),
        (|s| s.image_id = Some(id("snap")),    "image_id",    "a snapshot"),
        (|s| (s.snapshot_id, s.image_id) = (Some(id("snap")), Some(id("img"))), "image_id", "both"),
    ];
    refused(&good, |spec| c::volume_order_from_wire(Some(spec)), cases);
    let good = v1::SnapshotSpec { volume_id: id("vol"), ..Default::default() };
    #[rustfmt::skip]
    let cases: &[(Spoil<v1::SnapshotSpec>, &str, &str)] = &[
        (|s| s.volume_id.clear(),        "instance_id", "nothing says"),
        (|s| s.volume_id = id("i"),      "volume_id",   "an instance"),
        (|s| s.instance_id = id("i"),    "volume_id",   "both"),
        (|s| s.consistency = "stopped".to_owned(), "consistency", "one of"),
    ];
    refused(&good, |spec| c::snapshot_order_from_wire(Some(spec)), cases);
}
