//! Hosts.

use serde_json::{Value, json};
use weft_model::{HostView, Timestamp};

use super::Noun;

impl Noun for HostView {
    const HEADER: &'static [&'static str] =
        &["ID", "NAME", "ACCELERATOR", "FREE-VCPUS", "FREE-MEMORY", "HYPERVISOR", "AGENT"];

    fn row(&self, _now: Timestamp) -> Vec<String> {
        let facts = &self.facts;
        vec![
            self.id.to_string(),
            facts.name.clone(),
            facts.accelerator.to_string(),
            format!("{}/{}", self.free_vcpus, facts.vcpus),
            format!("{}/{} MiB", self.free_memory_mib, facts.memory_mib),
            facts.hypervisor_version.clone(),
            self.agent_version.clone(),
        ]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let facts = &self.facts;
        vec![
            ("id", self.id.to_string()),
            ("name", facts.name.clone()),
            ("accelerator", facts.accelerator.to_string()),
            ("why", facts.accelerator_note.clone()),
            ("zone", self.availability_zone.to_string()),
            ("vcpus", format!("{} free of {}", self.free_vcpus, facts.vcpus)),
            ("memory", format!("{} MiB free of {} MiB", self.free_memory_mib, facts.memory_mib)),
            ("hypervisor", facts.hypervisor_version.clone()),
            ("public pool", self.public_pool.to_string()),
            ("storage pools", pools(self).join(", ")),
            ("agent", self.agent_version.clone()),
        ]
    }

    fn json(&self) -> Value {
        let facts = &self.facts;
        json!({
            "id": self.id,
            "name": facts.name,
            "accelerator": facts.accelerator,
            "accelerator_note": facts.accelerator_note,
            "availability_zone": self.availability_zone.as_str(),
            "vcpus": facts.vcpus,
            "memory_mib": facts.memory_mib,
            "free_vcpus": self.free_vcpus,
            "free_memory_mib": self.free_memory_mib,
            "hypervisor_version": facts.hypervisor_version,
            "public_pool": self.public_pool.ranges(),
            "storage_pools": pools(self),
            "agent_version": self.agent_version,
        })
    }
}

fn pools(host: &HostView) -> Vec<&str> {
    host.storage_pools.iter().map(weft_model::PoolName::as_str).collect()
}
