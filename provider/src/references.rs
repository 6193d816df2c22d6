//! Whether what a plan refers to by id is there.
//!
//! An id that is known while planning is of something that exists already: what the same plan makes
//! has none yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use tfplugin::{Diagnostic, Path, PlanContext, Value};
use weft_model::{IdKind, Problem};

use crate::agent::reads::{self, Claim};
use crate::agent::{Agent, Connection};
use crate::elastic_ip::ElasticIp;
use crate::image::Image;
use crate::instance::Instance;
use crate::kind::wire::Wire as _;
use crate::kind::{self, Kind};
use crate::network_interface::NetworkInterface;
use crate::prefix_list::PrefixList;
use crate::route_table::RouteTable;
use crate::security_group::SecurityGroup;
use crate::snapshot::Snapshot;
use crate::subnet::Subnet;
use crate::volume::Volume;
use crate::vpc::Vpc;

/// Tells, as `plan_checks` says, of the ids that the configuration begins to refer to and that the
/// agent does not have. A change that is carried out is left to the agent, which knows best.
pub(crate) async fn check(agent: &Agent, ctx: &mut PlanContext) {
    let Some(connection) = agent.asked_in_plans().filter(|connection| !connection.is_applying())
    else {
        return;
    };
    let mut before = BTreeSet::new();
    ids(&ctx.prior, &Path::root(), false, &mut |_, id| {
        before.insert(id.to_owned());
    });
    let mut named = Vec::new();
    ids(&ctx.config, &Path::root(), false, &mut |path, id| {
        if !before.contains(id) {
            named.push((path.clone(), id.to_owned()));
        }
    });
    let looked_up = named.iter().map(|(_, id)| look_up(&connection, id));
    // One that cannot be asked has no say: what fails for that reason says so itself.
    let found = join_all(looked_up).await;
    for ((path, id), found) in named.iter().zip(found) {
        let Ok(Some(missing)) = found else { continue };
        let told = Diagnostic::error(format!("There is no {} {id}", missing.noun))
            .cause(missing.why)
            .remedy(format!("weft ls {} shows those that there are", missing.listed))
            .at(path.clone());
        if let Some(told) = connection.settings.plan_checks.told(told) {
            ctx.warn(told);
        }
    }
}

/// What an id should have been of.
struct Missing {
    noun: &'static str,
    /// As `weft ls` calls them.
    listed: String,
    why: &'static str,
}

/// The texts of attributes that are called `..._id` or `..._ids`, at any depth; elements of sets and
/// lists at the attribute itself.
fn ids(value: &Value, path: &Path, is_id: bool, found: &mut impl FnMut(&Path, &str)) {
    match value {
        Value::String(text) if is_id => found(path, text),
        Value::List(elements) => elements.iter().for_each(|e| ids(e, path, is_id, found)),
        Value::Map(entries) => {
            for (name, entry) in entries {
                let is_id = name.ends_with("_id") || name.ends_with("_ids");
                ids(entry, &path.attribute(name), is_id, found);
            }
        }
        _ => {}
    }
}

/// `None` where it exists, or is the id of something that nothing refers to.
async fn look_up(connection: &Arc<Connection>, id: &str) -> Result<Option<Missing>, Problem> {
    async fn of<K: Kind>(
        connection: &Arc<Connection>,
        id: &str,
    ) -> Result<Option<Missing>, Problem> {
        let missing = |why| Some(Missing { noun: K::NOUN, listed: kind::listed::<K>(), why });
        Ok(match reads::read::<K>(connection, id, Claim::No).await? {
            None => missing("the agent has none of this id"),
            Some(wire) if wire.is_being_removed() => missing("it is being removed"),
            Some(_) => None,
        })
    }
    match IdKind::of(id).map_or("", |kind| kind.prefix) {
        "i-" => of::<Instance>(connection, id).await,
        "img-" => of::<Image>(connection, id).await,
        "sg-" => of::<SecurityGroup>(connection, id).await,
        "vpc-" => of::<Vpc>(connection, id).await,
        "subnet-" => of::<Subnet>(connection, id).await,
        "eni-" => of::<NetworkInterface>(connection, id).await,
        "eip-" => of::<ElasticIp>(connection, id).await,
        "vol-" => of::<Volume>(connection, id).await,
        "snap-" => of::<Snapshot>(connection, id).await,
        "rtb-" => of::<RouteTable>(connection, id).await,
        "pl-" => of::<PrefixList>(connection, id).await,
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_by_the_names_of_their_attributes() {
        let config = Value::object([
            ("name", "vpc-0123456789abcdef0".into()),
            ("vpc_id", "vpc-1".into()),
            ("security_group_ids", Value::List(vec!["sg-1".into(), Value::Unknown])),
            ("routes", Value::List(vec![Value::object([("instance_id", "i-1")])])),
            ("subnet_id", Value::Null),
        ]);
        let mut found = Vec::new();
        ids(&config, &Path::root(), false, &mut |path, id| found.push(format!("{path} {id}")));
        assert_eq!(found, ["routes.instance_id i-1", "security_group_ids sg-1", "vpc_id vpc-1"]);
    }
}
