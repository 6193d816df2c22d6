//! Hosts.

use weft_model::{Architecture, HostFacts, HostView, Problem, PublicPool, ZoneName};

use super::{parse, parse_word};
use crate::v1;

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn host_from_wire(wire: v1::Host) -> Result<HostView, Problem> {
    let v1::Host {
        id,
        name,
        accelerator,
        accelerator_note,
        vcpus,
        memory_mib,
        free_vcpus,
        free_memory_mib,
        hypervisor_version,
        agent_version,
        architecture,
        public_pool,
        encrypts_volumes,
        availability_zone,
        storage_pools,
    } = wire;
    let storage_pools = storage_pools.iter().map(|name| parse("storage_pools", name));
    let ranges = public_pool.iter().map(|text| parse("public_pool", text));
    let public_pool = PublicPool::new(ranges.collect::<Result<_, _>>()?);
    let facts = HostFacts {
        name,
        accelerator: parse_word("accelerator", &accelerator)?,
        accelerator_note,
        vcpus,
        memory_mib,
        hypervisor_version,
        architecture: match architecture.as_str() {
            "" => Architecture::X86_64,
            word => parse_word("architecture", word)?,
        },
    };
    Ok(HostView {
        id: parse("id", &id)?,
        facts,
        free_vcpus,
        free_memory_mib,
        agent_version,
        public_pool,
        encrypts_volumes,
        availability_zone: match availability_zone.as_str() {
            "" => ZoneName::default(),
            zone => parse("availability_zone", zone)?,
        },
        storage_pools: storage_pools.collect::<Result<_, _>>()?,
    })
}

/// The wire's form of `view`.
pub fn host_to_wire(view: HostView) -> v1::Host {
    let HostView {
        id,
        facts,
        free_vcpus,
        free_memory_mib,
        agent_version,
        public_pool,
        encrypts_volumes,
        availability_zone,
        storage_pools,
    } = view;
    v1::Host {
        id: id.to_string(),
        name: facts.name,
        accelerator: facts.accelerator.to_string(),
        accelerator_note: facts.accelerator_note,
        vcpus: facts.vcpus,
        memory_mib: facts.memory_mib,
        free_vcpus,
        free_memory_mib,
        hypervisor_version: facts.hypervisor_version,
        agent_version,
        architecture: facts.architecture.to_string(),
        public_pool: public_pool.ranges().iter().map(ToString::to_string).collect(),
        encrypts_volumes,
        availability_zone: availability_zone.to_string(),
        storage_pools: storage_pools.iter().map(ToString::to_string).collect(),
    }
}
