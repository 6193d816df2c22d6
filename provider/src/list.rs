//! List resources: what there is of each kind, whoever made it, for `terraform query` and
//! `weft export terraform`.

mod kinds;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use tfplugin::{
    Attribute, ConvertError, Diagnostics, ListContext, ListResource, Schema, Value, async_trait,
};

use weft_model::Problem;
use weft_proto::v1;

use crate::agent::Agent;
use crate::data::filter::Filter;
use crate::elastic_ip::ElasticIp;
use crate::elastic_ip_association::ElasticIpAssociation;
use crate::image::Image;
use crate::instance::Instance;
use crate::instance_type::InstanceType;
use crate::key_pair::KeyPair;
use crate::kind::wire;
use crate::kind::{self, Kind};
use crate::network_interface::NetworkInterface;
use crate::network_interface_attachment::NetworkInterfaceAttachment;
use crate::port_forward::PortForward;
use crate::prefix_list::PrefixList;
use crate::route_table::RouteTable;
use crate::route_table_association::RouteTableAssociation;
use crate::rule::Rule;
use crate::security_group::SecurityGroup;
use crate::security_group_egress_rule::Egress;
use crate::security_group_ingress_rule::Ingress;
use crate::snapshot::Snapshot;
use crate::subnet::Subnet;
use crate::volume::Volume;
use crate::volume_attachment::VolumeAttachment;
use crate::vpc::Vpc;

/// What lists of a kind need to know of it besides.
pub(crate) trait Listing: Kind<Wire: wire::Listed> + std::fmt::Debug {
    /// The attribute with its name, if it has one.
    const NAME: Option<&'static str> = Some("name");

    /// What it is looked for by besides name and tags: attributes of the resource, or members of
    /// those that are sets (`key_name` for `key_names`).
    fn filters() -> Vec<Attribute> {
        Vec::new()
    }

    /// Whether an object of the agent's is one that the resource is for.
    fn is_one(_wire: &Self::Wire) -> bool {
        true
    }

    /// Whether somebody made it, or it came by itself.
    fn origin(_wire: &Self::Wire) -> Origin {
        Origin::Made
    }

    /// What people know it by: its name, unless it has none.
    fn label(state: &Value) -> String {
        let name = Self::NAME.and_then(|name| state.get(name).as_str());
        let name = name.filter(|name| !name.is_empty());
        name.or_else(|| state.get("id").as_str()).unwrap_or_default().to_owned()
    }

    /// Of what has no name: what tells it from others of the same parents.
    fn mark(_state: &Value) -> Option<String> {
        None
    }

    /// What a configuration of it lacks that the agent cannot tell, for people to fill in.
    fn lacking(_config: &Value) -> Vec<String> {
        Vec::new()
    }
}

/// How an object came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Somebody made it.
    Made,
    /// It is there from the host's first day; a data source finds it by `default = true`.
    Default,
    /// It comes and goes with another object.
    Along,
}

/// An object that is there.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) state: Value,
    pub(crate) origin: Origin,
}

/// A kind of resource, as [`crate::export`] looks at it.
#[async_trait]
pub(crate) trait Inventory: ListResource {
    fn kind(&self) -> &'static str;
    /// Of the resource.
    fn resource_schema(&self) -> Schema;
    fn name_attribute(&self) -> Option<&'static str>;
    /// The attributes that name what it belongs to, the most telling first.
    fn parents(&self) -> Vec<String>;
    fn mark(&self, state: &Value) -> Option<String>;
    /// All that there are.
    async fn objects(&self) -> Result<Vec<Listed>, Problem>;
    /// What a person would write for an object of this state.
    fn configuration(&self, state: &Value) -> Value;
    fn lacking(&self, config: &Value) -> Vec<String>;
}

/// All kinds: what others refer to comes first, as far as there is an order.
pub(crate) fn all(agent: &Arc<Agent>) -> Vec<Box<dyn Inventory>> {
    let agent = || agent.clone();
    vec![
        Box::new(List::<KeyPair>::new(agent())),
        Box::new(List::<InstanceType>::new(agent())),
        Box::new(List::<Image>::new(agent())),
        Box::new(List::<Vpc>::new(agent())),
        Box::new(List::<Subnet>::new(agent())),
        Box::new(List::<PrefixList>::new(agent())),
        Box::new(List::<SecurityGroup>::new(agent())),
        Box::new(List::<Rule<Ingress>>::new(agent())),
        Box::new(List::<Rule<Egress>>::new(agent())),
        Box::new(List::<Instance>::new(agent())),
        Box::new(List::<NetworkInterface>::new(agent())),
        Box::new(List::<NetworkInterfaceAttachment>::new(agent())),
        Box::new(List::<Volume>::new(agent())),
        Box::new(List::<VolumeAttachment>::new(agent())),
        Box::new(List::<Snapshot>::new(agent())),
        Box::new(List::<ElasticIp>::new(agent())),
        Box::new(List::<ElasticIpAssociation>::new(agent())),
        Box::new(List::<PortForward>::new(agent())),
        Box::new(List::<RouteTable>::new(agent())),
        Box::new(List::<RouteTableAssociation>::new(agent())),
    ]
}

/// The list resource of such a kind.
#[derive(Debug)]
pub(crate) struct List<K> {
    agent: Arc<Agent>,
    kind: PhantomData<K>,
}

impl<K> List<K> {
    pub(crate) fn new(agent: Arc<Agent>) -> Self {
        Self { agent, kind: PhantomData }
    }
}

/// What a `list` block asks for.
struct Asked {
    common: Filter,
    /// Of [`Listing::filters`], those that are set.
    others: BTreeMap<String, Value>,
}

impl Asked {
    fn read<K: Listing>(config: &Value) -> Result<Self, ConvertError> {
        let set = |attribute: Attribute| {
            let value = config.get(attribute.name());
            value.is_set().then(|| (attribute.name().to_owned(), value.clone()))
        };
        let others = K::filters().into_iter().filter_map(set).collect();
        Ok(Self { common: Filter::named(config, K::NAME)?, others })
    }

    fn fits<K: Listing>(&self, schema: &Schema, state: &Value) -> bool {
        let has = |(name, wanted): (&String, &Value)| match schema.get(name) {
            Some(_) => state.get(name.as_str()) == wanted,
            None => state.get(format!("{name}s")).as_list().is_some_and(|all| all.contains(wanted)),
        };
        self.common.fits_state(K::NAME, state) && self.others.iter().all(has)
    }
}

/// All objects that the resource is for and that are there to stay, in the agent's order.
async fn objects<K: Listing>(
    agent: &Agent,
    request: v1::ListRequest,
) -> Result<Vec<Listed>, Problem> {
    let existing = kind::existing::<K>(&*agent.connection()?, request).await?;
    existing
        .into_iter()
        .filter(K::is_one)
        .map(|wire| {
            let origin = K::origin(&wire);
            Ok(Listed { state: K::state(wire)?, origin })
        })
        .collect()
}

#[async_trait]
impl<K: Listing> ListResource for List<K> {
    fn type_name(&self) -> &str {
        K::TYPE
    }

    fn schema(&self) -> Schema {
        let resource = K::schema();
        let text = format!(
            "Lists what there is of `{}`, whoever made it (`terraform query`, Terraform 1.14 and \
             later).",
            K::TYPE
        );
        let mut schema = Schema::new(text).subcategory(resource.heading());
        if let Some(name) = K::NAME {
            schema = schema.attributes([Filter::by_name(name), Filter::by_pattern()]);
        }
        if resource.get("tags").is_some() {
            schema = schema.attribute(Filter::by_tags());
        }
        schema.attributes(K::filters())
    }

    async fn list(&self, ctx: &mut ListContext) -> Result<(), Diagnostics> {
        let asked = Asked::read::<K>(&ctx.config)?;
        let schema = K::schema();
        let found = objects::<K>(&self.agent, asked.common.request()).await;
        let failed = |problem| kind::fail::<K>("list", &problem, &Value::Null);
        for Listed { state, .. } in found.map_err(failed)? {
            if asked.fits::<K>(&schema, &state) && !ctx.show(K::label(&state), state).await {
                break;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl<K: Listing> Inventory for List<K> {
    fn kind(&self) -> &'static str {
        K::TYPE
    }

    fn resource_schema(&self) -> Schema {
        K::schema()
    }

    fn name_attribute(&self) -> Option<&'static str> {
        K::NAME
    }

    fn parents(&self) -> Vec<String> {
        K::filters().iter().map(|filter| filter.name().to_owned()).collect()
    }

    fn mark(&self, state: &Value) -> Option<String> {
        K::mark(state)
    }

    async fn objects(&self) -> Result<Vec<Listed>, Problem> {
        objects::<K>(&self.agent, v1::ListRequest::default()).await
    }

    fn configuration(&self, state: &Value) -> Value {
        K::written(tfplugin::plan::configuration(&K::schema(), state))
    }

    fn lacking(&self, config: &Value) -> Vec<String> {
        let mut said = in_no_state(&K::schema(), config);
        said.extend(K::lacking(config));
        said
    }
}

/// The write-only attributes that an object was made with: their versions tell.
fn in_no_state(schema: &Schema, config: &Value) -> Vec<String> {
    let names = schema.iter().filter(|attribute| attribute.is_write_only()).map(Attribute::name);
    let given = names.filter(|name| config.get(format!("{name}_version")).is_set());
    given
        .map(|name| {
            format!("Fill in {name}: it is in no state. With the same version nothing is sent.")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_no_state_is_to_be_filled_in() {
        let instance = <Instance as Kind>::schema();
        let said = in_no_state(&instance, &Value::object([("user_data_wo_version", 3)]));
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("user_data_wo:"), "{said:?}");
        assert!(in_no_state(&instance, &Value::object([("user_data", "x")])).is_empty());
    }
}
