//! How big an instance becomes. A type is looked up when it is chosen, not later: an instance keeps
//! its size when its type is replaced or deleted.

use weft_model::{InstanceSpec, Problem, Size, TypeName, find_type, no_such_type};

use crate::context::Context;
use crate::repo::InstanceTypes;

/// The name of the type, if there is one, with vCPUs and MiB.
pub(super) type Resolved = (Option<String>, u32, u32);

impl Context {
    /// # Errors
    /// A [`Problem`] at `instance_type` with the names that are nearest.
    pub(super) async fn resolve_size(&self, size: &Size) -> Result<Resolved, Problem> {
        let name = match size {
            Size::Custom { vcpus, memory_mib } => return Ok((None, *vcpus, *memory_mib)),
            Size::Type(name) => name,
        };
        if let Some(found) = find_type(name) {
            return Ok((Some(name.clone()), found.vcpus, found.memory_mib));
        }
        let own = self.repo.list::<InstanceTypes>().await?;
        match own.iter().find(|kind| kind.spec.name.as_str() == name) {
            Some(found) => Ok((Some(name.clone()), found.spec.vcpus, found.spec.memory_mib)),
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
            Size::Type(name) if old.instance_type.as_ref() == Some(name) => {
                Ok((Some(name.clone()), old.vcpus, old.memory_mib))
            }
            size => self.resolve_size(size).await,
        }
    }
}
