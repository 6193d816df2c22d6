//! What is changed of each type of resource, one step after the other.

use serde_json::json;

use super::Effect::{Live, LiveInPlan, Nothing, Replace, ReplaceInPlan, Restart};
use super::{Run, Step};
use crate::images_by_url::sha256;
use crate::module::{PUBLIC_KEY, disk};

/// Every run, so that what none of them changes is seen.
pub(super) const RUNS: [&Run; 22] = [
    &IMAGE,
    &KEY_PAIR,
    &INSTANCE_TYPE,
    &SECURITY_GROUP,
    &VPC,
    &SUBNET,
    &ROUTE_TABLE,
    &PREFIX_LIST,
    &ROUTE_TABLE_ASSOCIATION,
    &INGRESS_RULE,
    &EGRESS_RULE,
    &ELASTIC_IP,
    &NETWORK_INTERFACE,
    &NETWORK_INTERFACE_ATTACHMENT,
    &VOLUME,
    &VOLUME_ATTACHMENT,
    &ELASTIC_IP_ASSOCIATION,
    &PORT_FORWARD,
    &INSTANCE,
    &USER_DATA,
    &RESTARTED_INSTANCE,
    &SNAPSHOT,
];

/// A URL at which nobody listens.
const NOWHERE: &str = "http://127.0.0.1:9/disk.raw";

pub(super) const IMAGE: Run = Run {
    kind: "weft_image",
    steps: |lab| {
        let kernel = lab.directory().join("vmlinuz");
        std::fs::write(&kernel, bz_image())?;
        let digest = sha256(lab.directory(), &std::fs::read(disk(lab, "new.raw", 3)?)?)?;
        Ok(vec![
            (json!({ "name": "renamed" }), Live),
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "tags": { "a": "2" } }), Live),
            (json!({ "tags": null }), Live),
            (json!({ "default_user": "somebody" }), Live),
            (json!({ "min_disk_gib": 2 }), Live),
            (json!({ "min_memory_mib": 200 }), Live),
            (json!({ "deprecated": true }), Live),
            (json!({ "protected": true }), Live),
            (json!({ "protected": false }), Live),
            (json!({ "timeouts": { "create": "3m" } }), Live),
            (json!({ "architecture": "aarch64" }), Replace),
            (json!({ "architecture": null }), Replace),
            (json!({ "boot_mode": "uefi" }), Replace),
            (json!({ "boot_mode": null }), Replace),
            // The same bytes at another place.
            (json!({ "source_path": disk(lab, "copy.raw", 1)? }), Live),
            (json!({ "source_path": disk(lab, "new.raw", 3)? }), Replace),
            (json!({ "kernel": kernel }), Replace),
            (json!({ "kernel_cmdline": "console=ttyS0" }), Replace),
            (json!({ "initrd": disk(lab, "initrd", 5)? }), Replace),
            (json!({ "kernel": null, "kernel_cmdline": null, "initrd": null }), Replace),
            // The same bytes at a URL, which nobody asks: the agent has them.
            (json!({ "source_path": null, "source_url": NOWHERE, "sha256": digest }), Live),
            (json!({ "source_url": format!("{NOWHERE}.new") }), Live),
            (json!({ "mirrors": [NOWHERE] }), Live),
            (json!({ "sha256": "0".repeat(64) }), ReplaceInPlan),
            (json!({ "sha256": null, "sha512": "0".repeat(128) }), ReplaceInPlan),
            (json!({ "kernel": NOWHERE, "kernel_sha256": digest }), ReplaceInPlan),
            (
                json!({
                    "kernel": NOWHERE, "kernel_sha256": digest,
                    "initrd": NOWHERE, "initrd_sha256": digest,
                }),
                ReplaceInPlan,
            ),
            (
                json!({
                    "source_url": null, "sha256": null, "mirrors": null,
                    "source_instance_id": "${weft_instance.it.id}",
                }),
                Replace,
            ),
            (json!({ "snapshot_without_reboot": false }), Live),
            (json!({ "snapshot_without_reboot": null, "consistency": "crash" }), Live),
            (
                json!({
                    "source_instance_id": null, "consistency": null,
                    "source_snapshot_id": "snap-0123456789abcdef0",
                }),
                ReplaceInPlan,
            ),
        ])
    },
};

pub(super) const KEY_PAIR: Run = Run {
    kind: "weft_key_pair",
    steps: |_| {
        let third = PUBLIC_KEY.replace("OMqq", "OMqr");
        Ok(vec![
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "key_name": "renamed" }), Replace),
            (json!({ "public_key": third }), Replace),
        ])
    },
};

pub(super) const INSTANCE_TYPE: Run = Run {
    kind: "weft_instance_type",
    steps: |_| {
        Ok(vec![
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "name": "renamed.small" }), Replace),
            (json!({ "vcpus": 4 }), Replace),
            (json!({ "memory_mib": 400 }), Replace),
            (json!({ "network_mbps": 100 }), Replace),
        ])
    },
};

pub(super) const SECURITY_GROUP: Run = Run {
    kind: "weft_security_group",
    steps: |_| {
        Ok(vec![
            (json!({ "name": "renamed" }), Live),
            (json!({ "description": "now with one" }), Live),
            (json!({ "description": null }), Live),
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "allow_all_egress": false }), Live),
            (json!({ "revoke_now": true }), Live),
            (json!({ "revoke_now": false }), Live),
            (json!({ "allow_all_egress": null }), Live),
            (json!({ "vpc_id": "vpc-0123456789abcdef0" }), ReplaceInPlan),
        ])
    },
};

pub(super) const VPC: Run = Run {
    kind: "weft_vpc",
    steps: |_| {
        Ok(vec![
            (json!({ "name": "renamed" }), Live),
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "cidr_block": "10.60.0.0/16" }), Replace),
            (json!({ "ipv6_cidr_block": "fd12:3456:789a::/56" }), Replace),
            (json!({ "ipv6_cidr_block": null }), Replace),
            (json!({ "mode": "bridge" }), Replace),
            (json!({ "bridge_name": "br0" }), Replace),
            (json!({ "vlan_id": 20 }), Replace),
            (json!({ "bridge_name": null, "uplink": "eth1" }), Replace),
            (json!({ "mode": null, "uplink": null, "vlan_id": null }), Replace),
        ])
    },
};

pub(super) const SUBNET: Run = Run {
    kind: "weft_subnet",
    steps: |_| {
        Ok(vec![
            (json!({ "name": "renamed" }), Live),
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "dns_servers": ["10.50.1.53"] }), Live),
            (json!({ "dns_servers": [] }), Live),
            (json!({ "dns_servers": null }), Live),
            (json!({ "map_public_ip_on_launch": true }), Live),
            (json!({ "map_public_ip_on_launch": null }), Live),
            (json!({ "ipv6_cidr_block": "fd12:3456:789a:7::/64" }), Replace),
            (json!({ "ipv6_cidr_block": null }), Replace),
            (json!({ "cidr_block": "10.50.2.0/24" }), Replace),
            (json!({ "gateway_ip": "10.50.2.3" }), Replace),
            (json!({ "vpc_id": "${weft_vpc.it.id}" }), Replace),
        ])
    },
};

pub(super) const ROUTE_TABLE: Run = Run {
    kind: "weft_route_table",
    steps: |_| {
        Ok(vec![
            (json!({ "name": "renamed" }), Live),
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "routes": [{ "cidr_block": "192.0.2.0/24", "blackhole": true }] }), Live),
            (
                json!({ "routes": [
                    { "cidr_block": "192.0.2.0/24", "instance_id": "${weft_instance.it.id}" },
                ]}),
                LiveInPlan,
            ),
            (
                json!({ "routes": [{
                    "cidr_block": "192.0.2.0/24",
                    "network_interface_id": "${weft_network_interface.it.id}",
                }]}),
                LiveInPlan,
            ),
            (json!({ "routes": [] }), Live),
            (json!({ "vpc_id": "${weft_vpc.it.id}" }), Replace),
        ])
    },
};

pub(super) const PREFIX_LIST: Run = Run {
    kind: "weft_prefix_list",
    steps: |_| {
        let office = json!({ "cidr": "192.0.2.0/24", "description": "Bern" });
        let other = json!({ "cidr": "198.51.100.0/25" });
        Ok(vec![
            (json!({ "name": "renamed" }), Live),
            (json!({ "entries": [office, other] }), Live),
            (json!({ "entries": [other] }), Live),
            (json!({ "entries": [] }), Live),
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "address_family": "IPv6" }), Replace),
            (json!({ "entries": [{ "cidr": "2001:db8::/32" }] }), Live),
        ])
    },
};

pub(super) const ROUTE_TABLE_ASSOCIATION: Run = Run {
    kind: "weft_route_table_association",
    steps: |_| {
        Ok(vec![
            (json!({ "subnet_id": "${weft_subnet.third.id}" }), Replace),
            (json!({ "route_table_id": "${weft_route_table.it.id}" }), ReplaceInPlan),
        ])
    },
};

pub(super) const INGRESS_RULE: Run = Run {
    kind: "weft_security_group_ingress_rule",
    steps: |_| Ok(steps_of_a_rule("${weft_security_group.other.id}")),
};

pub(super) const EGRESS_RULE: Run = Run {
    kind: "weft_security_group_egress_rule",
    steps: |_| Ok(steps_of_a_rule("${weft_security_group.it.id}")),
};

pub(super) const ELASTIC_IP: Run = Run {
    kind: "weft_elastic_ip",
    steps: |_| {
        Ok(vec![
            (json!({ "name": "renamed" }), Live),
            (json!({ "name": null }), Live),
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "address": "198.18.0.77" }), Replace),
            (json!({ "address": null }), Replace),
        ])
    },
};

pub(super) const NETWORK_INTERFACE: Run = Run {
    kind: "weft_network_interface",
    steps: |_| {
        Ok(vec![
            (json!({ "name": "renamed" }), Live),
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "security_group_ids": ["${weft_security_group.it.id}"] }), Live),
            (json!({ "security_group_ids": null }), Live),
            (json!({ "source_dest_check": false }), Live),
            (json!({ "network_mbps": 100 }), Live),
            (json!({ "network_mbps": null }), Live),
            (json!({ "subnet_id": "${weft_subnet.second.id}" }), Replace),
            (json!({ "private_ip": "10.50.200.20" }), Replace),
        ])
    },
};

pub(super) const NETWORK_INTERFACE_ATTACHMENT: Run = Run {
    kind: "weft_network_interface_attachment",
    steps: |_| {
        Ok(vec![
            (json!({ "network_interface_id": "${weft_network_interface.it.id}" }), Replace),
            (json!({ "device_index": 3 }), Replace),
            (json!({ "instance_id": "i-0123456789abcdef0" }), ReplaceInPlan),
        ])
    },
};

pub(super) const VOLUME: Run = Run {
    kind: "weft_volume",
    steps: |_| {
        Ok(vec![
            (json!({ "name": "renamed" }), Live),
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "size_gib": 5 }), Live),
            (json!({ "iops": 500, "throughput_mibps": 20 }), Live),
            (json!({ "iops": 600 }), Live),
            (json!({ "iops": null, "throughput_mibps": 30 }), Live),
            (json!({ "type": "ssd" }), ReplaceInPlan),
            (json!({ "type": null, "encrypted": true }), ReplaceInPlan),
            (json!({ "snapshot_id": "snap-0123456789abcdef0" }), ReplaceInPlan),
            (json!({ "image_id": "${weft_image.it.id}" }), ReplaceInPlan),
        ])
    },
};

pub(super) const SNAPSHOT: Run = Run {
    kind: "weft_snapshot",
    steps: |_| {
        Ok(vec![
            (json!({ "description": "what for" }), Live),
            (json!({ "description": null }), Live),
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "timeouts": { "create": "3m" } }), Live),
            (json!({ "consistency": "frozen" }), ReplaceInPlan),
            (json!({ "volume_id": "${weft_volume.it.id}" }), Replace),
            (json!({ "volume_id": null, "instance_id": "${weft_instance.it.id}" }), Replace),
        ])
    },
};

pub(super) const VOLUME_ATTACHMENT: Run = Run {
    kind: "weft_volume_attachment",
    steps: |_| {
        Ok(vec![
            (json!({ "delete_on_termination": true }), Live),
            (json!({ "volume_id": "${weft_volume.it.id}" }), Replace),
            (json!({ "instance_id": "i-0123456789abcdef0" }), ReplaceInPlan),
        ])
    },
};

pub(super) const ELASTIC_IP_ASSOCIATION: Run = Run {
    kind: "weft_elastic_ip_association",
    steps: |_| {
        Ok(vec![
            (json!({ "elastic_ip_id": "${weft_elastic_ip.it.id}" }), Replace),
            (json!({ "instance_id": "i-0123456789abcdef0" }), ReplaceInPlan),
            (
                json!({
                    "instance_id": null, "network_interface_id": "${weft_network_interface.it.id}",
                }),
                ReplaceInPlan,
            ),
        ])
    },
};

pub(super) const PORT_FORWARD: Run = Run {
    kind: "weft_port_forward",
    steps: |_| {
        Ok(vec![
            (json!({ "name": "renamed" }), Live),
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "target_port": 81 }), Live),
            (json!({ "target_port": null }), Live),
            (json!({ "protocol": "udp" }), Replace),
            (json!({ "host_port": 8081 }), Replace),
            (json!({ "host_address": "192.0.2.1" }), Replace),
            (json!({ "host_address": null }), Replace),
            (json!({ "instance_id": "i-0123456789abcdef0" }), ReplaceInPlan),
            (
                json!({
                    "instance_id": null, "network_interface_id": "${weft_network_interface.it.id}",
                }),
                ReplaceInPlan,
            ),
        ])
    },
};

pub(super) const INSTANCE: Run = Run {
    kind: "weft_instance",
    steps: |_| {
        Ok(vec![
            (json!({ "name": "renamed" }), Live),
            (json!({ "name": null }), Live),
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "security_group_ids": ["${weft_security_group.it.id}"] }), Live),
            (json!({ "security_group_ids": null }), Live),
            (json!({ "source_dest_check": false }), Live),
            (json!({ "key_names": ["${weft_key_pair.it.key_name}"] }), Live),
            (json!({ "wait_for": "running" }), Live),
            (json!({ "timeouts": { "create": "3m" } }), Live),
            (json!({ "timeouts": { "create": "3m", "update": "4m", "delete": "5m" } }), Live),
            (json!({ "auto_restart": "on_failure" }), Live),
            (json!({ "shutdown_timeout_seconds": 20 }), Live),
            (json!({ "termination_protection": true }), Live),
            (json!({ "termination_protection": false }), Live),
            (json!({ "apply_policy": "live_only" }), Live),
            (json!({ "apply_policy": null }), Live),
            (json!({ "metadata_options": { "http_tokens": "optional" } }), Live),
            (json!({ "metadata_options": { "http_put_response_hop_limit": 3 } }), Live),
            (json!({ "metadata_options": { "http_endpoint": "disabled" } }), Live),
            (json!({ "metadata_options": {} }), Live),
            (json!({ "metadata_options": null }), Live),
            (json!({ "replace_on_image_change": false }), Live),
            (json!({ "image_id": "${weft_image.it.id}" }), Live),
            (json!({ "name": "with another image recorded" }), Live),
            (json!({ "image_id": "${weft_image.other.id}" }), Live),
            (json!({ "replace_on_image_change": null, "name": null }), Live),
            (json!({ "power_state": "stopped" }), Live),
            // Nothing ran that could be restarted, but it is launched anew.
            (json!({ "power_state": "running" }), Restart),
            (json!({ "power_state": "unmanaged" }), Live),
        ])
    },
};

pub(super) const USER_DATA: Run = Run {
    kind: "weft_instance",
    steps: |_| {
        let data = |text: &str, version: u32| json!({ "user_data_wo": text, "user_data_wo_version": version });
        Ok(vec![
            (data("one", 1), Restart),
            (data("two", 2), Restart),
            // Nobody can see what they were: without another version nothing is to be done.
            (json!({ "user_data_wo": "three" }), Nothing),
            (json!({ "user_data_wo_version": 3 }), Restart),
            (json!({ "name": "renamed" }), Live),
            (
                json!({ "user_data_wo": null, "user_data_wo_version": null, "user_data": "other" }),
                Restart,
            ),
            (json!({ "user_data": null }), Restart),
            (json!({ "user_data_replace_on_change": true }), Live),
            (data("four", 4), Replace),
        ])
    },
};

pub(super) const RESTARTED_INSTANCE: Run = Run {
    kind: "weft_instance",
    steps: |_| {
        Ok(vec![
            (json!({ "instance_type": "w1.micro" }), Restart),
            (json!({ "instance_type": "${weft_instance_type.other.name}" }), Restart),
            (json!({ "instance_type": null, "vcpus": 1, "memory_mib": 300 }), Restart),
            (json!({ "vcpus": 2 }), Restart),
            (json!({ "memory_mib": 400 }), Restart),
            (json!({ "memory_mib": 384, "max_vcpus": 4, "max_memory_mib": 1024 }), Restart),
            (json!({ "vcpus": 3, "memory_mib": 512 }), Live),
            (json!({ "vcpus": 4 }), Live),
            (json!({ "vcpus": 2 }), Restart),
            (json!({ "instance_type": "w1.medium", "vcpus": null, "memory_mib": null }), Restart),
            (json!({ "max_vcpus": 8 }), Restart),
            (json!({ "max_vcpus": null, "max_memory_mib": 2048 }), Restart),
            (json!({ "instance_type": null, "vcpus": 1, "memory_mib": 2048 }), Live),
            (json!({ "memory_mib": 1024 }), Restart),
            (json!({ "max_memory_mib": null }), Restart),
            (json!({ "user_data": "#!/bin/sh\n" }), Restart),
            (json!({ "user_data": "#!/bin/sh\ntrue\n" }), Restart),
            (json!({ "user_data": null, "user_data_base64": "IyEvYmluL3NoCg==" }), Restart),
            (json!({ "user_data_replace_on_change": true }), Live),
            (json!({ "user_data_base64": "IyEvYmluL3NoCiM=" }), Replace),
            (json!({ "image_id": "${weft_image.it.id}" }), Replace),
            (
                json!({ "replace_on_image_change": false, "image_id": "${weft_image.other.id}" }),
                Live,
            ),
            (json!({ "replace_on_image_change": true }), Replace),
            (json!({ "subnet_id": "subnet-0123456789abcdef0" }), ReplaceInPlan),
            (json!({ "associate_public_ip_address": true }), ReplaceInPlan),
            (json!({ "display": true }), Restart),
            (json!({ "display": null }), Restart),
            (json!({ "private_ip": "172.31.9.9" }), Replace),
            (json!({ "root_volume": { "size_gib": 1 } }), Live),
            (json!({ "root_volume": { "size_gib": 2, "iops": 500 } }), Live),
            (json!({ "root_volume": { "size_gib": 2, "throughput_mibps": 50 } }), Live),
            (json!({ "root_volume": { "size_gib": 2 } }), Live),
            // It stays as it is.
            (json!({ "root_volume": null, "name": "smaller" }), Live),
        ])
    },
};

/// The header of a Linux kernel: its magic numbers and a protocol version
/// (Documentation/arch/x86/boot.rst).
fn bz_image() -> Vec<u8> {
    let mut bytes = vec![0_u8; 4096];
    bytes[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
    bytes[0x211] = 1; // loadflags: LOADED_HIGH
    bytes
}

fn steps_of_a_rule(other: &str) -> Vec<Step> {
    vec![
        (json!({ "from_port": 85 }), Live),
        (json!({ "to_port": 95 }), Live),
        (json!({ "ip_protocol": "udp" }), Live),
        (json!({ "cidr_ipv4": "10.1.0.0/16" }), Live),
        (json!({ "cidr_ipv4": null, "cidr_ipv6": "2001:db8::/32" }), Live),
        (
            json!({ "cidr_ipv6": null, "referenced_security_group_id": "${weft_security_group.it.id}" }),
            Live,
        ),
        (
            json!({ "referenced_security_group_id": null, "prefix_list_id": "${weft_prefix_list.it.id}" }),
            Live,
        ),
        (json!({ "description": "why" }), Live),
        (json!({ "tags": { "a": "1" } }), Live),
        (json!({ "ip_protocol": "-1", "from_port": null, "to_port": null }), Live),
        (json!({ "security_group_id": other }), Replace),
    ]
}
