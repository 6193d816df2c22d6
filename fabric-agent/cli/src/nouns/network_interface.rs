//! Network interfaces and their attachments.

use serde_json::{Value, json};
use weft_model::{
    AttachmentId, AttachmentSpec, InterfaceId, NetworkInterfaceView, Object, Timestamp,
};

use super::{Noun, common_details, common_json, lines, text};
use crate::output::age;

impl Noun for Object<InterfaceId, NetworkInterfaceView> {
    const HEADER: &'static [&'static str] = &["ID", "NAME", "SUBNET", "ADDRESS", "MAC", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        let order = &self.spec.order;
        vec![
            self.id.to_string(),
            order.name.clone(),
            text(order.subnet_id.as_ref()),
            text(order.private_ip.as_ref()),
            self.spec.mac.to_string(),
            age(now, self.created_at),
        ]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let order = &self.spec.order;
        let mut pairs = vec![
            ("id", self.id.to_string()),
            ("name", order.name.clone()),
            ("vpc", self.spec.vpc_id.to_string()),
            ("subnet", text(order.subnet_id.as_ref())),
            ("private ip", text(order.private_ip.as_ref())),
            ("ipv6 addresses", lines(&self.spec.ipv6_addresses)),
            ("mac address", self.spec.mac.to_string()),
            ("security groups", lines(order.security_group_ids.iter().flatten())),
            ("source/dest check", order.source_dest_check.to_string()),
        ];
        pairs.extend(order.network_mbps.map(|mbps| ("limit", format!("{mbps} Mbit/s"))));
        pairs.extend(common_details(self));
        pairs
    }

    fn json(&self) -> Value {
        let order = &self.spec.order;
        common_json(
            self,
            json!({
                "name": order.name,
                "vpc_id": self.spec.vpc_id,
                "subnet_id": order.subnet_id,
                "private_ip": order.private_ip,
                "ipv6_addresses": self.spec.ipv6_addresses,
                "mac_address": self.spec.mac,
                "security_group_ids": order.security_group_ids,
                "source_dest_check": order.source_dest_check,
                "network_mbps": order.network_mbps,
            }),
        )
    }
}

impl Noun for Object<AttachmentId, AttachmentSpec> {
    const HEADER: &'static [&'static str] = &["ID", "DEVICE", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        let device = self.spec.device_index.to_string();
        vec![self.id.to_string(), device, age(now, self.created_at)]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("id", self.id.to_string()),
            ("instance", self.spec.instance_id.to_string()),
            ("network interface", self.spec.network_interface_id.to_string()),
            ("device index", self.spec.device_index.to_string()),
        ];
        pairs.extend(common_details(self));
        pairs
    }

    fn json(&self) -> Value {
        let AttachmentSpec { instance_id, network_interface_id, device_index } = &self.spec;
        common_json(
            self,
            json!({
                "instance_id": instance_id,
                "network_interface_id": network_interface_id,
                "device_index": device_index,
            }),
        )
    }
}
