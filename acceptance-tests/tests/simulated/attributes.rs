//! Each attribute changed alone does what the published table says: live, restart or replace.
//! `attributes/steps.rs` says what is changed, `attributes/covered.rs` that nothing is left out.

#[path = "attributes/covered.rs"]
mod covered;
#[path = "attributes/steps.rs"]
mod steps;

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
    /// Live, but only planned: it would be refused, or need more than is there.
    LiveInPlan,
    /// There is nothing to do.
    Nothing,
}
use Effect::{Live, LiveInPlan, Nothing, Replace, ReplaceInPlan, Restart};

impl Effect {
    fn is_only_planned(self) -> bool {
        matches!(self, LiveInPlan | ReplaceInPlan)
    }
}

/// One change: some attributes of `weft_*.it`, and what it does. `null` takes an attribute away.
type Step = (Value, Effect);

/// What is changed of one type of resource, each step after the one before it.
struct Run {
    kind: &'static str,
    steps: fn(&Lab) -> Result<Vec<Step>>,
}

/// Changes the attributes of a resource.
fn change(ours: &mut Value, change: &Value) -> Result<()> {
    let ours = ours.as_object_mut().context("no object")?;
    for (name, value) in change.as_object().context("a change is an object")? {
        match value {
            Value::Null => drop(ours.remove(name)),
            value => drop(ours.insert(name.clone(), value.clone())),
        }
    }
    Ok(())
}

/// A module in JSON, where a change is a key's new value.
struct Module<'a> {
    lab: &'a Lab,
    terraform: Terraform,
    json: Value,
    kind: &'static str,
}

impl<'a> Module<'a> {
    fn new(lab: &'a Lab, kind: &'static str) -> Result<Self> {
        Ok(Self { lab, terraform: lab.terraform()?, json: base(lab, kind)?, kind })
    }

    fn write(&self) -> Result<()> {
        self.terraform.write("main.tf.json", &serde_json::to_string_pretty(&self.json)?)
    }

    fn address(&self) -> String {
        format!("{}.it", self.kind)
    }

    /// Launches of the one instance that were asked for so far. The agent is asked: to show its state
    /// Terraform would start the provider.
    fn epoch(&self) -> Result<u64> {
        let instances = self.lab.weft_json(&["ls", "instances"])?;
        ensure!(instances.as_array().is_some_and(|all| all.len() == 1), "{instances}");
        instances[0]["run_epoch"].as_u64().context("no run_epoch")
    }

    fn check(&mut self, change: &Value, effect: Effect) -> Result<()> {
        let before = (self.json.clone(), self.epoch()?);
        self::change(&mut self.json["resource"][self.kind]["it"], change)?;
        self.write()?;
        let plan = self.terraform.plan()?;
        let wanted = match effect {
            Live | LiveInPlan | Restart => Change::Update,
            Nothing => Change::Nothing,
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
        if effect.is_only_planned() {
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

/// The module from which the changes of `kind` begin.
fn base(lab: &Lab, kind: &str) -> Result<Value> {
    let mut module = json!({ "resource": {
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
    if kind == "weft_snapshot" {
        module["resource"][kind]["it"] = json!({ "volume_id": "${weft_volume.other.id}" });
    }
    Ok(module)
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

fn run(run: &Run) -> Result<()> {
    run_in(Lab::simulated()?, run)
}

fn run_in(lab: Lab, run: &Run) -> Result<()> {
    let mut module = Module::new(&lab, run.kind)?;
    module.write()?;
    module.terraform.apply()?;
    module.terraform.assert_plan_is_empty()?;
    for (change, effect) in (run.steps)(&lab)? {
        module.check(&change, effect).with_context(|| format!("{}: {change}", run.kind))?;
    }
    module.terraform.destroy()?;
    drop(module);
    lab.close()
}

#[test]
fn of_an_image() -> Result<()> {
    run(&steps::IMAGE)
}

#[test]
fn of_a_key_pair() -> Result<()> {
    run(&steps::KEY_PAIR)
}

#[test]
fn of_an_instance_type() -> Result<()> {
    run(&steps::INSTANCE_TYPE)
}

#[test]
fn of_a_security_group() -> Result<()> {
    run(&steps::SECURITY_GROUP)
}

#[test]
fn of_a_vpc() -> Result<()> {
    run(&steps::VPC)
}

#[test]
fn of_a_subnet() -> Result<()> {
    run(&steps::SUBNET)
}

#[test]
fn of_a_route_table() -> Result<()> {
    run(&steps::ROUTE_TABLE)
}

#[test]
fn of_a_prefix_list() -> Result<()> {
    run(&steps::PREFIX_LIST)
}

#[test]
fn of_a_route_table_association() -> Result<()> {
    run(&steps::ROUTE_TABLE_ASSOCIATION)
}

#[test]
fn of_an_ingress_rule() -> Result<()> {
    run(&steps::INGRESS_RULE)
}

#[test]
fn of_an_egress_rule() -> Result<()> {
    run(&steps::EGRESS_RULE)
}

#[test]
fn of_an_elastic_ip() -> Result<()> {
    run(&steps::ELASTIC_IP)
}

#[test]
fn of_a_network_interface() -> Result<()> {
    run(&steps::NETWORK_INTERFACE)
}

#[test]
fn of_a_network_interface_attachment() -> Result<()> {
    run(&steps::NETWORK_INTERFACE_ATTACHMENT)
}

#[test]
fn of_a_volume() -> Result<()> {
    let (dir, key) = root_key()?;
    let pool = dir.path().join("ssd");
    std::fs::create_dir(&pool)?;
    let lab = Lab::simulated_with(&[
        &format!("--volume-key-file={}", key.display()),
        &format!("--pool=ssd={}", pool.display()),
    ])?;
    run_in(lab, &steps::VOLUME)
}

#[test]
fn of_a_snapshot() -> Result<()> {
    run(&steps::SNAPSHOT)
}

#[test]
fn of_a_volume_attachment() -> Result<()> {
    run(&steps::VOLUME_ATTACHMENT)
}

#[test]
fn of_an_association() -> Result<()> {
    run(&steps::ELASTIC_IP_ASSOCIATION)
}

#[test]
fn of_a_port_forward() -> Result<()> {
    run(&steps::PORT_FORWARD)
}

#[test]
fn of_an_instance_without_a_restart() -> Result<()> {
    run(&steps::INSTANCE)
}

#[test]
fn of_user_data_that_are_in_no_state() -> Result<()> {
    if terraform_version()? < (1, 11) {
        skipped("write-only attributes need Terraform 1.11");
        return Ok(());
    }
    run(&steps::USER_DATA)
}

#[test]
fn of_an_instance_with_a_restart_or_replacement() -> Result<()> {
    run(&steps::RESTARTED_INSTANCE)
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
