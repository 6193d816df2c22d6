//! Elastic IPs, what they lead to, and port forwards.

use serde_json::{Value, json};
use weft_model::{
    AssociationId, AssociationSpec, ElasticIpId, ElasticIpSpec, Object, PortForwardId,
    PortForwardSpec, Timestamp,
};

use super::{Noun, common_details, common_json, text};
use crate::output::age;

impl Noun for Object<ElasticIpId, ElasticIpSpec> {
    const HEADER: &'static [&'static str] = &["ID", "NAME", "PUBLIC-IP", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.to_string(),
            text(self.spec.name.as_ref()),
            self.spec.public_ip.to_string(),
            age(now, self.created_at),
        ]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("id", self.id.to_string()),
            ("name", text(self.spec.name.as_ref())),
            ("public ip", self.spec.public_ip.to_string()),
        ];
        pairs.extend(common_details(self));
        pairs
    }

    fn json(&self) -> Value {
        common_json(self, json!({ "name": self.spec.name, "public_ip": self.spec.public_ip }))
    }
}

impl Noun for Object<AssociationId, AssociationSpec> {
    const HEADER: &'static [&'static str] = &["ID", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![self.id.to_string(), age(now, self.created_at)]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("id", self.id.to_string()),
            ("elastic ip", self.spec.elastic_ip_id.to_string()),
            ("leads to", self.spec.target.to_string()),
        ];
        pairs.extend(common_details(self));
        pairs
    }

    fn json(&self) -> Value {
        let specific = json!({
            "elastic_ip_id": self.spec.elastic_ip_id,
            "instance_id": self.spec.target.instance_id(),
            "network_interface_id": self.spec.target.interface_id(),
        });
        common_json(self, specific)
    }
}

impl Noun for Object<PortForwardId, PortForwardSpec> {
    const HEADER: &'static [&'static str] =
        &["ID", "NAME", "PROTOCOL", "HOST-ADDRESS", "HOST-PORT", "TARGET", "TARGET-PORT", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.spec.name.to_string(),
            self.spec.protocol.to_string(),
            text(self.spec.host_address.as_ref()),
            self.spec.host_port.to_string(),
            self.spec.target.to_string(),
            self.spec.target_port.to_string(),
            age(now, self.created_at),
        ]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("id", self.id.to_string()),
            ("name", self.spec.name.to_string()),
            ("protocol", self.spec.protocol.to_string()),
            ("host address", text(self.spec.host_address.as_ref())),
            ("host port", self.spec.host_port.to_string()),
            ("target", self.spec.target.to_string()),
            ("target port", self.spec.target_port.to_string()),
        ];
        pairs.extend(common_details(self));
        pairs
    }

    fn json(&self) -> Value {
        let specific = json!({
            "name": self.spec.name,
            "protocol": self.spec.protocol,
            "host_address": self.spec.host_address,
            "host_port": self.spec.host_port,
            "instance_id": self.spec.target.instance_id(),
            "network_interface_id": self.spec.target.interface_id(),
            "target_port": self.spec.target_port,
        });
        common_json(self, specific)
    }
}
