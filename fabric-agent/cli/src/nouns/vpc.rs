//! VPCs and subnets.

use serde_json::{Value, json};
use weft_model::{Object, SubnetId, SubnetSpec, Timestamp, VpcId, VpcSpec};

use super::{Noun, common_details, common_json, lines, text};
use crate::output::{age, yes};

impl Noun for Object<VpcId, VpcSpec> {
    const HEADER: &'static [&'static str] =
        &["ID", "NAME", "CIDR", "MODE", "LAN", "DEFAULT-GROUP", "DEFAULT", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.spec.name.clone(),
            self.spec.cidr_block.to_string(),
            self.spec.mode.to_string(),
            text(self.spec.lan().as_ref()),
            self.spec.default_group_id.to_string(),
            yes(self.spec.is_default),
            age(now, self.created_at),
        ]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("id", self.id.to_string()),
            ("name", self.spec.name.clone()),
            ("cidr block", self.spec.cidr_block.to_string()),
            ("mode", self.spec.mode.to_string()),
            ("lan", text(self.spec.lan().as_ref())),
            ("default group", self.spec.default_group_id.to_string()),
            ("default", yes(self.spec.is_default)),
        ];
        pairs.extend(common_details(self));
        pairs
    }

    fn json(&self) -> Value {
        let specific = json!({
            "name": self.spec.name,
            "cidr_block": self.spec.cidr_block,
            "mode": self.spec.mode,
            "bridge_name": self.spec.bridge_name,
            "uplink": self.spec.uplink,
            "vlan_id": self.spec.vlan_id,
            "default_security_group_id": self.spec.default_group_id,
            "is_default": self.spec.is_default,
        });
        common_json(self, specific)
    }
}

impl Noun for Object<SubnetId, SubnetSpec> {
    const HEADER: &'static [&'static str] =
        &["ID", "NAME", "VPC", "CIDR", "GATEWAY", "DEFAULT", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.spec.name.clone(),
            self.spec.vpc_id.to_string(),
            self.spec.cidr_block.to_string(),
            self.spec.gateway.to_string(),
            yes(self.spec.is_default),
            age(now, self.created_at),
        ]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("id", self.id.to_string()),
            ("name", self.spec.name.clone()),
            ("vpc", self.spec.vpc_id.to_string()),
            ("cidr block", self.spec.cidr_block.to_string()),
            ("gateway", self.spec.gateway.to_string()),
            ("dns servers", lines(&self.spec.dns_servers)),
            ("public ip on launch", yes(self.spec.map_public_ip)),
            ("default", yes(self.spec.is_default)),
        ];
        pairs.extend(common_details(self));
        pairs
    }

    fn json(&self) -> Value {
        let specific = json!({
            "name": self.spec.name,
            "vpc_id": self.spec.vpc_id,
            "cidr_block": self.spec.cidr_block,
            "gateway_ip": self.spec.gateway,
            "dns_servers": self.spec.dns_servers,
            "map_public_ip_on_launch": self.spec.map_public_ip,
            "is_default": self.spec.is_default,
        });
        common_json(self, specific)
    }
}
