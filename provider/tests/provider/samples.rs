//! One configuration of each resource, with as many attributes set as can be.

use tfplugin::Value;
use tfplugin::testing::Terraform;

use crate::support::{Fake, PUBLIC_KEY, attributes};

pub(crate) const RESOURCES: [&str; 20] = [
    "weft_image",
    "weft_key_pair",
    "weft_instance_type",
    "weft_security_group",
    "weft_security_group_ingress_rule",
    "weft_security_group_egress_rule",
    "weft_vpc",
    "weft_subnet",
    "weft_prefix_list",
    "weft_instance",
    "weft_snapshot",
    "weft_network_interface",
    "weft_network_interface_attachment",
    "weft_volume",
    "weft_volume_attachment",
    "weft_elastic_ip",
    "weft_elastic_ip_association",
    "weft_port_forward",
    "weft_route_table",
    "weft_route_table_association",
];

/// Those that have no tags.
pub(crate) const UNTAGGED: [&str; 4] = [
    "weft_elastic_ip_association",
    "weft_network_interface_attachment",
    "weft_route_table_association",
    "weft_volume_attachment",
];

/// The smallest bytes that are a bzImage (Linux `Documentation/arch/x86/boot.rst`).
pub(crate) fn bz_image(content: u8) -> Vec<u8> {
    let mut bytes = vec![content; 0x400];
    bytes[0x1fe..0x200].copy_from_slice(b"\x55\xaa");
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x206..0x208].copy_from_slice(&[0x0f, 0x02]);
    bytes[0x211] = 1;
    bytes
}

pub(crate) fn strings(list: &[&str]) -> Value {
    Value::from(list.to_vec())
}

/// A configuration of `type_name`; what it refers to is made.
pub(crate) async fn full(type_name: &str, terraform: &Terraform, fake: &Fake) -> Value {
    let tags = Value::object([("team", "kernel")]);
    match type_name {
        "weft_image" => attributes([
            ("name", "tiny".into()),
            ("source_path", fake.file("disk.raw", &[7; 3000]).into()),
            ("kernel", fake.file("vmlinuz", &bz_image(0)).into()),
            ("initrd", fake.file("initrd.img", &[9; 300]).into()),
            ("kernel_cmdline", "console=ttyS0".into()),
            ("default_user", "weft".into()),
            ("min_disk_gib", 1.into()),
            ("min_memory_mib", 128.into()),
            ("tags", tags),
        ]),
        "weft_key_pair" => attributes([
            ("key_name", "me".into()),
            // As file() gives it.
            ("public_key", format!("{PUBLIC_KEY}\n").into()),
            ("tags", tags),
        ]),
        "weft_instance_type" => attributes([
            ("name", "c1.large".into()),
            ("vcpus", 2.into()),
            ("memory_mib", 300.into()),
            ("network_mbps", 500.into()),
            ("tags", tags),
        ]),
        "weft_security_group" => attributes([
            ("name", "web".into()),
            ("description", "For the web".into()),
            ("allow_all_egress", false.into()),
            ("revoke_now", true.into()),
            ("tags", tags),
        ]),
        "weft_security_group_ingress_rule" | "weft_security_group_egress_rule" => attributes([
            ("security_group_id", group(terraform, "rules").await),
            ("ip_protocol", "tcp".into()),
            ("from_port", 22.into()),
            ("to_port", 80.into()),
            ("cidr_ipv4", "192.0.2.0/24".into()),
            ("description", "office".into()),
            ("tags", tags),
        ]),
        "weft_vpc" => attributes([
            ("name", "office".into()),
            ("cidr_block", "192.168.1.0/24".into()),
            ("mode", "bridge".into()),
            ("bridge_name", "br0".into()),
            ("vlan_id", 20.into()),
            ("tags", tags),
        ]),
        "weft_prefix_list" => attributes([
            ("name", "offices".into()),
            ("address_family", "IPv4".into()),
            (
                "entries",
                vec![
                    Value::object([("cidr", "192.0.2.0/24"), ("description", "Bern")]),
                    Value::object([("cidr", "198.51.100.0/25"), ("description", "Lyon")]),
                ]
                .into(),
            ),
            ("tags", tags),
        ]),
        "weft_subnet" => attributes([
            ("name", "desks".into()),
            ("vpc_id", vpc(terraform).await),
            ("cidr_block", "10.0.1.0/24".into()),
            ("gateway_ip", "10.0.1.2".into()),
            ("dns_servers", strings(&["10.0.1.53", "9.9.9.9"])),
            ("map_public_ip_on_launch", true.into()),
            ("tags", tags),
        ]),
        "weft_instance" => attributes([
            ("name", "web-1".into()),
            ("image_id", "img-0000000000000000a".into()),
            ("instance_type", "w1.nano".into()),
            ("max_vcpus", 2.into()),
            ("max_memory_mib", 1024.into()),
            ("private_ip", "172.31.0.77".into()),
            ("auto_restart", "on_failure".into()),
            ("shutdown_timeout_seconds", 20.into()),
            ("apply_policy", "allow_replace".into()),
            ("associate_public_ip_address", true.into()),
            (
                "security_group_ids",
                vec![group(terraform, "b").await, group(terraform, "a").await].into(),
            ),
            ("source_dest_check", false.into()),
            ("key_names", strings(&["you", "me"])),
            ("display", true.into()),
            ("user_data", "#!/bin/sh\n".into()),
            (
                "root_volume",
                Value::object([("size_gib", 2), ("iops", 500), ("throughput_mibps", 20)]),
            ),
            (
                "metadata_options",
                Value::object([
                    ("http_endpoint", "enabled".into()),
                    ("http_tokens", "optional".into()),
                    ("http_put_response_hop_limit", Value::from(2)),
                ]),
            ),
            ("wait_for", "running".into()),
            ("timeouts", Value::object([("create", "5m")])),
            ("tags", tags),
        ]),
        "weft_snapshot" => attributes([
            ("instance_id", "i-0123456789abcdef0".into()),
            ("description", "before the upgrade".into()),
            ("timeouts", Value::object([("create", "5m")])),
            ("tags", tags),
        ]),
        "weft_elastic_ip" => attributes([
            ("name", "front".into()),
            ("address", "203.0.113.207".into()),
            ("tags", tags),
        ]),
        "weft_network_interface" => attributes([
            ("name", "back".into()),
            ("private_ip", "172.31.0.99".into()),
            ("security_group_ids", vec![group(terraform, "n").await].into()),
            ("source_dest_check", false.into()),
            ("network_mbps", 250.into()),
            ("tags", tags),
        ]),
        "weft_volume" => attributes([
            ("name", "data".into()),
            ("size_gib", 20.into()),
            ("iops", 3000.into()),
            ("throughput_mibps", 125.into()),
            ("type", "ssd".into()),
            ("tags", tags),
        ]),
        "weft_volume_attachment" => attributes([
            ("instance_id", "i-0123456789abcdef0".into()),
            ("volume_id", "vol-0123456789abcdef0".into()),
            ("delete_on_termination", true.into()),
        ]),
        "weft_network_interface_attachment" => attributes([
            ("instance_id", "i-0123456789abcdef0".into()),
            ("network_interface_id", "eni-0123456789abcdef0".into()),
            ("device_index", 2.into()),
        ]),
        "weft_elastic_ip_association" => attributes([
            ("elastic_ip_id", elastic_ip(terraform).await),
            ("instance_id", "i-0123456789abcdef0".into()),
        ]),
        "weft_port_forward" => attributes([
            ("name", "web".into()),
            ("protocol", "tcp".into()),
            ("host_port", 8080.into()),
            ("host_address", "192.0.2.7".into()),
            ("instance_id", "i-0123456789abcdef0".into()),
            ("target_port", 80.into()),
            ("tags", tags),
        ]),
        "weft_route_table" => attributes([
            ("name", "private".into()),
            ("vpc_id", vpc(terraform).await),
            (
                "routes",
                vec![
                    route("0.0.0.0/0", "instance_id", "i-0123456789abcdef0".into()),
                    route("192.0.2.0/24", "network_interface_id", "eni-0123456789abcdef0".into()),
                    route("198.51.100.0/24", "blackhole", true.into()),
                ]
                .into(),
            ),
            ("tags", tags),
        ]),
        "weft_route_table_association" => attributes([
            ("route_table_id", "rtb-0123456789abcdef0".into()),
            ("subnet_id", "subnet-0123456789abcdef0".into()),
        ]),
        other => panic!("no sample of {other}"),
    }
}

/// A configuration of `type_name` with nothing that can be left out.
pub(crate) async fn least(type_name: &str, terraform: &Terraform, fake: &Fake) -> Value {
    match type_name {
        "weft_image" => attributes([
            ("name", "least".into()),
            ("source_path", fake.file("least.raw", &[1]).into()),
            ("default_user", "root".into()),
        ]),
        "weft_security_group" => attributes([("name", "least".into())]),
        "weft_key_pair" => {
            attributes([("key_name", "least".into()), ("public_key", PUBLIC_KEY.into())])
        }
        "weft_instance_type" => attributes([
            ("name", "least.one".into()),
            ("vcpus", 1.into()),
            ("memory_mib", 64.into()),
        ]),
        "weft_vpc" => attributes([("name", "least".into()), ("cidr_block", "10.0.0.0/16".into())]),
        "weft_prefix_list" => attributes([
            ("name", "least".into()),
            ("address_family", "IPv6".into()),
            ("entries", vec![Value::object([("cidr", "2001:db8::/32")])].into()),
        ]),
        "weft_subnet" => attributes([
            ("name", "least".into()),
            ("vpc_id", vpc(terraform).await),
            ("cidr_block", "10.0.2.0/24".into()),
        ]),
        "weft_instance" => attributes([
            ("image_id", "img-0000000000000000a".into()),
            ("vcpus", 1.into()),
            ("memory_mib", 96.into()),
        ]),
        "weft_snapshot" => attributes([("instance_id", "i-0123456789abcdef0".into())]),
        "weft_elastic_ip" => attributes([]),
        "weft_volume" => attributes([("size_gib", 1.into())]),
        "weft_network_interface" => attributes([("name", "least".into())]),
        "weft_volume_attachment" => attributes([
            ("instance_id", "i-0123456789abcdef1".into()),
            ("volume_id", "vol-0123456789abcdef1".into()),
        ]),
        "weft_network_interface_attachment" => attributes([
            ("instance_id", "i-0123456789abcdef1".into()),
            ("network_interface_id", "eni-0123456789abcdef1".into()),
        ]),
        "weft_elastic_ip_association" => attributes([
            ("elastic_ip_id", elastic_ip(terraform).await),
            ("network_interface_id", "eni-0123456789abcdef0".into()),
        ]),
        "weft_port_forward" => attributes([
            ("name", "least".into()),
            ("protocol", "udp".into()),
            ("host_port", 53.into()),
            ("network_interface_id", "eni-0123456789abcdef0".into()),
        ]),
        "weft_route_table" => attributes([
            ("name", "least".into()),
            ("vpc_id", vpc(terraform).await),
            ("routes", Value::List(Vec::new())),
        ]),
        "weft_route_table_association" => attributes([
            ("route_table_id", "rtb-0123456789abcdef1".into()),
            ("subnet_id", "subnet-0123456789abcdef1".into()),
        ]),
        _ => attributes([
            ("security_group_id", group(terraform, "least").await),
            ("ip_protocol", "-1".into()),
            ("referenced_security_group_id", group(terraform, "other").await),
        ]),
    }
}

pub(crate) async fn group(terraform: &Terraform, name: &str) -> Value {
    let config = attributes([("name", name.into()), ("allow_all_egress", false.into())]);
    terraform.create("weft_security_group", config).await.unwrap().get("id").clone()
}

fn route(range: &str, target: &str, value: Value) -> Value {
    let mut route = Value::object([
        ("cidr_block", Value::from(range)),
        ("instance_id", Value::Null),
        ("network_interface_id", Value::Null),
        ("blackhole", Value::Null),
    ]);
    route.set(target, value);
    route
}

pub(crate) async fn elastic_ip(terraform: &Terraform) -> Value {
    terraform.create("weft_elastic_ip", attributes([])).await.unwrap().get("id").clone()
}

async fn vpc(terraform: &Terraform) -> Value {
    let config = attributes([("name", "of a subnet".into()), ("cidr_block", "10.0.0.0/16".into())]);
    terraform.create("weft_vpc", config).await.unwrap().get("id").clone()
}

/// The `metadata_options` of an instance with one of them.
pub(crate) fn metadata_options(name: &str, value: Value) -> Value {
    let names = ["http_endpoint", "http_tokens", "http_put_response_hop_limit"];
    Value::object(
        names.map(|known| (known, if known == name { value.clone() } else { Value::Null })),
    )
}
