//! Each attribute changed alone does what the published table says: live, restart or replace.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use weft_acceptance::{Change, Lab, Terraform, root_key, skipped, terraform_version};

use crate::module::{OTHER_PUBLIC_KEY, PUBLIC_KEY, disk, image};

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// In place; a running guest goes on.
    Live,
    /// In place; a running guest is stopped and started.
    Restart,
    /// Removed and made again.
    Replace,
    /// Replace, but only planned: there is nothing to change it to.
    ReplaceInPlan,
}
use Effect::{Live, Replace, ReplaceInPlan, Restart};

/// One change: some attributes of `weft_*.it`, and what it does. `null` takes an attribute away.
type Step = (Value, Effect);

/// A module in JSON, where a change is a key's new value.
struct Module<'a> {
    lab: &'a Lab,
    terraform: Terraform,
    json: Value,
    kind: &'static str,
}

impl<'a> Module<'a> {
    fn new(lab: &'a Lab, kind: &'static str) -> Result<Self> {
        let json = json!({ "resource": {
            "weft_image": {
                "it": { "name": "it", "source_path": disk(lab, "a.raw", 1)?, "default_user": "a" },
                "other": {
                    "name": "other", "source_path": disk(lab, "b.raw", 2)?, "default_user": "b",
                },
            },
            "weft_key_pair": {
                "it": { "key_name": "it", "public_key": PUBLIC_KEY },
                "other": { "key_name": "other", "public_key": OTHER_PUBLIC_KEY },
            },
            "weft_instance_type": {
                "it": { "name": "it.small", "vcpus": 1, "memory_mib": 100 },
                "other": { "name": "other.small", "vcpus": 2, "memory_mib": 200 },
            },
            "weft_security_group": {
                "it": { "name": "it" },
                "other": { "name": "other", "allow_all_egress": false },
            },
            "weft_vpc": {
                "it": { "name": "it", "cidr_block": "10.50.0.0/16" },
                "other": {
                    "name": "other", "cidr_block": "10.50.0.0/16",
                    "ipv6_cidr_block": "fd12:3456:789a::/56",
                },
            },
            "weft_subnet": {
                "it": {
                    "name": "it", "vpc_id": "${weft_vpc.other.id}", "cidr_block": "10.50.1.0/24",
                },
                "second": {
                    "name": "second", "vpc_id": "${weft_vpc.other.id}",
                    "cidr_block": "10.50.200.0/24",
                },
                "third": {
                    "name": "third", "vpc_id": "${weft_vpc.other.id}",
                    "cidr_block": "10.50.201.0/24",
                },
            },
            "weft_route_table": {
                "it": {
                    "name": "it",
                    "vpc_id": "${weft_vpc.other.id}",
                    "routes": [{ "cidr_block": "0.0.0.0/0", "blackhole": true }],
                },
                "other": {
                    "name": "other",
                    "vpc_id": "${weft_vpc.other.id}",
                    "routes": [],
                },
            },
            "weft_route_table_association": { "it": {
                "route_table_id": "${weft_route_table.other.id}",
                "subnet_id": "${weft_subnet.second.id}",
            }},
            "weft_prefix_list": { "it": {
                "name": "it", "address_family": "IPv4", "entries": [{ "cidr": "192.0.2.0/24" }],
            }},
            "weft_security_group_ingress_rule": { "it": rule() },
            "weft_security_group_egress_rule": { "it": egress_rule() },
            "weft_network_interface": {
                "it": { "name": "it" },
                "other": { "name": "other" },
            },
            "weft_network_interface_attachment": { "it": {
                "instance_id": "${weft_instance.it.id}",
                "network_interface_id": "${weft_network_interface.other.id}",
            }},
            "weft_volume": { "it": { "size_gib": 2 }, "other": { "size_gib": 1 } },
            "weft_volume_attachment": { "it": {
                "instance_id": "${weft_instance.it.id}",
                "volume_id": "${weft_volume.other.id}",
            }},
            "weft_elastic_ip": { "it": { "name": "it" }, "other": {} },
            "weft_elastic_ip_association": { "it": {
                "elastic_ip_id": "${weft_elastic_ip.other.id}",
                "instance_id": "${weft_instance.it.id}",
            }},
            "weft_port_forward": { "it": {
                "name": "it", "protocol": "tcp", "host_port": 8080,
                "instance_id": "${weft_instance.it.id}",
            }},
            "weft_instance": { "it": {
                "name": "it",
                "image_id": "${weft_image.other.id}",
                "instance_type": "w1.nano",
                "key_names": ["${weft_key_pair.other.key_name}"],
                "security_group_ids": ["${weft_security_group.other.id}"],
            }},
        }});
        Ok(Self { lab, terraform: lab.terraform()?, json, kind })
    }

    fn write(&self) -> Result<()> {
        self.terraform.write("main.tf.json", &serde_json::to_string_pretty(&self.json)?)
    }

    fn address(&self) -> String {
        format!("{}.it", self.kind)
    }

    /// Launches that were asked for so far.
    fn epoch(&self) -> Result<u64> {
        let id = self.terraform.state()?.text("weft_instance.it", "id")?;
        self.lab.weft_json(&["get", &id])?["run_epoch"].as_u64().context("no run_epoch")
    }

    fn check(&mut self, change: &Value, effect: Effect) -> Result<()> {
        let before = (self.json.clone(), self.epoch()?);
        let ours = self.json["resource"][self.kind]["it"].as_object_mut().context("no object")?;
        for (name, value) in change.as_object().context("a change is an object")? {
            match value {
                Value::Null => drop(ours.remove(name)),
                value => drop(ours.insert(name.clone(), value.clone())),
            }
        }
        self.write()?;
        let plan = self.terraform.plan()?;
        let wanted = match effect {
            Live | Restart => Change::Update,
            Replace | ReplaceInPlan => Change::Replace,
        };
        let seen = plan.change(&self.address());
        ensure!(seen == wanted, "planned {seen:?} instead of {effect:?}:\n{}", plan.text());
        if self.kind == "weft_instance" && wanted == Change::Update {
            let says_restart = plan.is_unknown("weft_instance.it", "launched_at");
            ensure!(
                says_restart == (effect == Restart),
                "launched_at unknown: {says_restart}, though the effect is {effect:?}"
            );
        }
        if effect == ReplaceInPlan {
            self.json = before.0;
            return self.write();
        }
        self.terraform.apply_plan()?;
        self.terraform.assert_plan_is_empty()?;
        if effect != Replace {
            let launches = self.epoch()? - before.1;
            ensure!(launches == u64::from(effect == Restart), "{launches} launches");
        }
        Ok(())
    }
}

fn rule() -> Value {
    json!({
        "security_group_id": "${weft_security_group.it.id}",
        "ip_protocol": "tcp", "from_port": 80, "to_port": 90, "cidr_ipv4": "10.0.0.0/8",
    })
}

fn egress_rule() -> Value {
    let mut rule = rule();
    rule["security_group_id"] = json!("${weft_security_group.other.id}");
    rule
}

fn run(kind: &'static str, steps: impl FnOnce(&Lab) -> Result<Vec<Step>>) -> Result<()> {
    run_in(Lab::simulated()?, kind, steps)
}

fn run_in(
    lab: Lab,
    kind: &'static str,
    steps: impl FnOnce(&Lab) -> Result<Vec<Step>>,
) -> Result<()> {
    let mut module = Module::new(&lab, kind)?;
    module.write()?;
    module.terraform.apply()?;
    module.terraform.assert_plan_is_empty()?;
    for (change, effect) in steps(&lab)? {
        module.check(&change, effect).with_context(|| format!("{kind}: {change}"))?;
    }
    module.terraform.destroy()?;
    drop(module);
    lab.close()
}

#[test]
fn of_an_image() -> Result<()> {
    run("weft_image", |lab| {
        let kernel = lab.directory().join("vmlinuz");
        std::fs::write(&kernel, bz_image())?;
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
        ])
    })
}

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

#[test]
fn of_a_key_pair() -> Result<()> {
    run("weft_key_pair", |_| {
        let third = PUBLIC_KEY.replace("OMqq", "OMqr");
        Ok(vec![
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "key_name": "renamed" }), Replace),
            (json!({ "public_key": third }), Replace),
        ])
    })
}

#[test]
fn of_an_instance_type() -> Result<()> {
    run("weft_instance_type", |_| {
        Ok(vec![
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "name": "renamed.small" }), Replace),
            (json!({ "vcpus": 4 }), Replace),
            (json!({ "memory_mib": 400 }), Replace),
            (json!({ "network_mbps": 100 }), Replace),
        ])
    })
}

#[test]
fn of_a_security_group() -> Result<()> {
    run("weft_security_group", |_| {
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
    })
}

#[test]
fn of_a_vpc() -> Result<()> {
    run("weft_vpc", |_| {
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
    })
}

#[test]
fn of_a_subnet() -> Result<()> {
    run("weft_subnet", |_| {
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
    })
}

#[test]
fn of_a_route_table() -> Result<()> {
    run("weft_route_table", |_| {
        Ok(vec![
            (json!({ "name": "renamed" }), Live),
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "routes": [{ "cidr_block": "192.0.2.0/24", "blackhole": true }] }), Live),
            (json!({ "routes": [] }), Live),
            (json!({ "vpc_id": "${weft_vpc.it.id}" }), Replace),
        ])
    })
}

#[test]
fn of_a_prefix_list() -> Result<()> {
    run("weft_prefix_list", |_| {
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
    })
}

#[test]
fn of_a_route_table_association() -> Result<()> {
    let third = "${weft_subnet.third.id}";
    run("weft_route_table_association", |_| Ok(vec![(json!({ "subnet_id": third }), Replace)]))
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

#[test]
fn of_an_ingress_rule() -> Result<()> {
    let other = "${weft_security_group.other.id}";
    run("weft_security_group_ingress_rule", |_| Ok(steps_of_a_rule(other)))
}

#[test]
fn of_an_egress_rule() -> Result<()> {
    let it = "${weft_security_group.it.id}";
    run("weft_security_group_egress_rule", |_| Ok(steps_of_a_rule(it)))
}

#[test]
fn of_an_elastic_ip() -> Result<()> {
    run("weft_elastic_ip", |_| {
        Ok(vec![
            (json!({ "name": "renamed" }), Live),
            (json!({ "name": null }), Live),
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "address": "198.18.0.77" }), Replace),
            (json!({ "address": null }), Replace),
        ])
    })
}

#[test]
fn of_a_network_interface() -> Result<()> {
    run("weft_network_interface", |_| {
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
    })
}

#[test]
fn of_a_network_interface_attachment() -> Result<()> {
    run("weft_network_interface_attachment", |_| {
        Ok(vec![
            (json!({ "network_interface_id": "${weft_network_interface.it.id}" }), Replace),
            (json!({ "device_index": 3 }), Replace),
        ])
    })
}

#[test]
fn of_a_volume() -> Result<()> {
    let (_dir, key) = root_key()?;
    let lab = Lab::simulated_with(&[&format!("--volume-key-file={}", key.display())])?;
    run_in(lab, "weft_volume", |_| {
        Ok(vec![
            (json!({ "name": "renamed" }), Live),
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "size_gib": 5 }), Live),
            (json!({ "iops": 500, "throughput_mibps": 20 }), Live),
            (json!({ "iops": null, "throughput_mibps": 30 }), Live),
            (json!({ "type": "ssd" }), ReplaceInPlan),
            (json!({ "type": null, "encrypted": true }), ReplaceInPlan),
        ])
    })
}

#[test]
fn of_a_volume_attachment() -> Result<()> {
    run("weft_volume_attachment", |_| {
        Ok(vec![
            (json!({ "delete_on_termination": true }), Live),
            (json!({ "volume_id": "${weft_volume.it.id}" }), Replace),
        ])
    })
}

#[test]
fn of_an_association() -> Result<()> {
    run("weft_elastic_ip_association", |_| {
        Ok(vec![(json!({ "elastic_ip_id": "${weft_elastic_ip.it.id}" }), Replace)])
    })
}

#[test]
fn of_a_port_forward() -> Result<()> {
    run("weft_port_forward", |_| {
        Ok(vec![
            (json!({ "name": "renamed" }), Live),
            (json!({ "tags": { "a": "1" } }), Live),
            (json!({ "target_port": 81 }), Live),
            (json!({ "target_port": null }), Live),
            (json!({ "protocol": "udp" }), Replace),
            (json!({ "host_port": 8081 }), Replace),
            (json!({ "host_address": "192.0.2.1" }), Replace),
            (json!({ "host_address": null }), Replace),
        ])
    })
}

#[test]
fn of_an_instance_without_a_restart() -> Result<()> {
    run("weft_instance", |_| {
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
            (json!({ "metadata_options": { "http_tokens": "optional" } }), Live),
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
    })
}

#[test]
fn of_user_data_that_are_in_no_state() -> Result<()> {
    if terraform_version()? < (1, 11) {
        skipped("write-only attributes need Terraform 1.11");
        return Ok(());
    }
    let data =
        |text: &str, version: u32| json!({ "user_data_wo": text, "user_data_wo_version": version });
    run("weft_instance", |_| {
        Ok(vec![
            (data("one", 1), Restart),
            (data("two", 2), Restart),
            (json!({ "name": "renamed" }), Live),
            (
                json!({ "user_data_wo": null, "user_data_wo_version": null, "user_data": "other" }),
                Restart,
            ),
            (json!({ "user_data": null }), Restart),
            (json!({ "user_data_replace_on_change": true }), Live),
            (data("three", 3), Replace),
        ])
    })
}

#[test]
fn of_an_instance_with_a_restart_or_replacement() -> Result<()> {
    run("weft_instance", |_| {
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
            (json!({ "private_ip": "172.31.9.9" }), Replace),
            (json!({ "root_volume": { "size_gib": 1 } }), Live),
            (json!({ "root_volume": { "size_gib": 2, "iops": 500 } }), Live),
            (json!({ "root_volume": { "size_gib": 2 } }), Live),
            // It stays as it is.
            (json!({ "root_volume": null, "name": "smaller" }), Live),
        ])
    })
}

#[test]
fn of_the_keys_of_a_running_instance_is_warned_about() -> Result<()> {
    let lab = Lab::simulated()?;
    let mut module = Module::new(&lab, "weft_instance")?;
    module.write()?;
    module.terraform.apply()?;
    module.json["resource"]["weft_instance"]["it"]["key_names"] = json!(["it"]);
    module.write()?;
    let plan = module.terraform.plan()?;
    ensure!(plan.text().contains("Warning"), "no warning:\n{}", plan.text());
    module.terraform.destroy()?;
    drop(module);
    lab.close()
}

#[test]
fn a_file_that_changes_after_the_plan_is_not_used_before_the_next_plan() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?;
    terraform.main(&image(&lab)?)?;
    terraform.plan()?;
    disk(&lab, "disk.raw", 8)?;

    // Terraform compares the plan with what the provider says now, before it asks for anything.
    let said = terraform.run(&["apply", "-input=false", "-no-color", "plan.bin"])?.failure()?;
    ensure!(said.text().contains(".digest: was"), "it is not the digest:\n{}", said.text());
    ensure!(lab.count("images")? == 0);

    terraform.plan()?;
    terraform.apply_plan()?;
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}
