//! Which interfaces of instances, and of their own, use something: for the refusals of Deletes.

use weft_model::{Interface, Problem};

use crate::context::Context;
use crate::repo::{Instances, NetworkInterfaces};

/// Who has an interface that is `wanted`, in words: instances, and network interfaces.
pub(super) async fn of_interfaces(
    context: &Context,
    wanted: impl Fn(&Interface) -> bool,
) -> Result<Vec<String>, Problem> {
    let instances = context.repo.list::<Instances>().await?;
    let instances = instances.iter().filter(|one| wanted(&one.spec.interface));
    let own = context.repo.list::<NetworkInterfaces>().await?;
    let own = own.iter().filter(|one| wanted(&one.spec.interface));
    Ok(instances
        .map(|one| one.id.to_string())
        .chain(own.map(|one| format!("{} ({})", one.id, one.spec.name)))
        .collect())
}
