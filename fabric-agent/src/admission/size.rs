//! How big an instance becomes. A type is looked up when it is chosen, not later: an instance keeps
//! its size when its type is replaced or deleted.

use weft_model::{
    InstanceSpec, InstanceTypeSpec, Problem, Size, TypeName, find_type, no_such_type,
};

use crate::context::Context;
use crate::repo::InstanceTypes;

/// What a size comes to.
pub(super) struct Resolved {
    /// The type's name, if there is one.
    pub(super) instance_type: Option<String>,
    pub(super) vcpus: u32,
    pub(super) memory_mib: u32,
    /// Mbit/s in each direction that each interface is limited to.
    pub(super) network_mbps: Option<u32>,
}

impl From<InstanceTypeSpec> for Resolved {
    fn from(spec: InstanceTypeSpec) -> Self {
        let InstanceTypeSpec { name, vcpus, memory_mib, network_mbps } = spec;
        Self { instance_type: Some(name.to_string()), vcpus, memory_mib, network_mbps }
    }
}

impl Context {
    /// # Errors
    /// A [`Problem`] at `instance_type` with the names that are nearest.
    pub(super) async fn resolve_size(&self, size: &Size) -> Result<Resolved, Problem> {
        let name = match size {
            Size::Custom { vcpus, memory_mib } => {
                let (vcpus, memory_mib) = (*vcpus, *memory_mib);
                return Ok(Resolved { instance_type: None, vcpus, memory_mib, network_mbps: None });
            }
            Size::Type(name) => name,
        };
        if let Some(found) = find_type(name) {
            return Ok(found.into());
        }
        let own = self.repo.list::<InstanceTypes>().await?;
        match own.iter().find(|kind| kind.spec.name.as_str() == name) {
            Some(found) => Ok(found.spec.clone().into()),
            None => {
                let names: Vec<&TypeName> = own.iter().map(|kind| &kind.spec.name).collect();
                Err(no_such_type(name, names))
            }
        }
    }

    /// As [`Self::resolve_size`], for an instance that exists: the type that it has is not looked
    /// up again.
    pub(super) async fn resize(
        &self,
        old: &InstanceSpec,
        size: &Size,
    ) -> Result<Resolved, Problem> {
        match size {
            Size::Type(name) if old.instance_type.as_ref() == Some(name) => Ok(Resolved {
                instance_type: Some(name.clone()),
                vcpus: old.vcpus,
                memory_mib: old.memory_mib,
                network_mbps: old.network_mbps,
            }),
            size => self.resolve_size(size).await,
        }
    }
}
