//! How big an instance becomes. A type is looked up when it is chosen, not later: an instance keeps
//! its size when its type is replaced or deleted.

use weft_model::{
    InstanceId, InstanceSpec, InstanceTypeSpec, MEMORY_SLOTS, Problem, Reason, Size, TypeName,
    find_type, no_such_type,
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

    /// That the guest, whose memory is to grow while it runs, has a slot left for it. It is not restarted
    /// for want of one: no plan has said so.
    ///
    /// # Errors
    /// A [`Problem`] at `memory_mib`. Before a guest was looked at nothing is known of it: then its
    /// hypervisor refuses, and the instance's reason says so.
    pub(super) fn check_slots(&self, id: &InstanceId) -> Result<(), Problem> {
        if self.reconciler.sized.get(id).is_none_or(|seen| seen.has_free_slot()) {
            return Ok(());
        }
        let message = format!(
            "the memory of this guest has grown {MEMORY_SLOTS} times since it was started, and its \
             machine takes no more"
        );
        Err(Problem::new(Reason::FailedPrecondition, message).at("memory_mib").remedy(format!(
            "restart it first (weft reboot {id}): it has all its memory in one piece then, and can grow again"
        )))
    }
}
